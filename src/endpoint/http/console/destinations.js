// Where messages go, what waits for each, and how long that will take.

import { badge, h, renew, table } from "./dom.js";
import { number, rate, span } from "./format.js";
import { t, word } from "./words.js";

const COLOURS = { up: "good", failing: "bad", away: "warn", suspended: "bad" };

function drain(destination) {
  if (destination.waiting === 0) return t("drained");
  return destination.drain_seconds == null ? t("no_drain") : span(destination.drain_seconds);
}

// Why it fails, and what it never took.
function troubles(destination) {
  const told = [];
  if (destination.state !== "up" && destination.last_failure) told.push(destination.last_failure);
  if (destination.dead_letters) told.push(`${t("dead_letters")}: ${number(destination.dead_letters)}`);
  return told.length ? h("div", { class: "quiet" }, told.join("; ")) : null;
}

const cells = (destination) => [
  [h("strong", null, destination.name), troubles(destination)],
  [badge(COLOURS[destination.state] ?? "off", word("", destination.state)), " ", word("by_", destination.via)],
  number(destination.waiting),
  drain(destination),
  number(destination.delivered),
  rate(destination.delivered_per_second ?? 0),
  number(destination.failures),
];

export function open(root) {
  const box = h("div", null, h("p", { class: "quiet" }, t("loading")));
  root.append(h("h1", null, t("destinations")), box);
  return {
    update(status) {
      renew(box, status.destinations ?? null, () =>
        status.destinations
          ? table(t("destinations"),
            [t("destination"), t("state"), t("waiting"), t("drain"), t("delivered"), t("rate"), t("failures")],
            status.destinations.map(cells))
          : h("p", { class: "quiet" }, t("not_available")));
    },
  };
}
