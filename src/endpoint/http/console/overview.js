// The state at a glance, and what flows.

import { chart } from "./chart.js";
import { badge, facts, h, renew, say, table } from "./dom.js";
import { bytes, day, number, percent, rate, seconds, span } from "./format.js";
import { samples } from "./samples.js";
import { alertText, t } from "./words.js";

function tile(name, href) {
  const value = h("strong");
  const note = h("span", { class: "quiet" });
  const inside = [h("span", { class: "name" }, t(name)), value, note];
  const element = href ? h("a", { class: "tile", href }, inside) : h("div", { class: "tile" }, inside);
  return { element, set: (text, more = "") => { say(value, text); say(note, more); } };
}

const central = (status) => {
  if (status.sessions?.central) return t("connected");
  const way = status.destinations?.find((destination) => destination.name === "central");
  return way?.via === "webhook" ? `${t("by_webhook")} (${t(way.state)})` : t("away");
};

/** What is well or not, in one box. */
function banner(status) {
  const alerts = status.alerts ?? [];
  if (status.ready === false) return h("div", { class: "banner warn" }, badge("warn", "!"), " ", t("not_ready"));
  if (alerts.length === 0) return h("div", { class: "banner good" }, badge("good", "✓"), " ", t("all_well"));
  return h("div", { class: "banner bad" },
    h("a", { href: "#alerts" }, t("alert_count", number(alerts.length))),
    h("ul", null, alerts.slice(0, 3).map((alert) => {
      const { text, lang } = alertText(alert);
      return h("li", { lang }, text);
    })));
}

function books(status) {
  const { received = 0, delivered = 0, waiting = 0, dropped = {} } = status.books ?? {};
  const lost = Object.values(dropped).reduce((sum, count) => sum + count, 0);
  // What was refused at the door for want of room is among the dropped.
  const off = received - delivered - waiting - lost;
  return [
    facts([
      [t("received"), number(received)], [t("delivered"), number(delivered)],
      [t("waiting"), number(waiting)], [t("dropped"), number(lost)],
    ]),
    h("p", { class: off === 0 ? "quiet" : "problem" }, off === 0 ? t("books_hold") : t("books_off", number(off))),
  ];
}

function refusals(status) {
  const causes = Object.entries(status.refusals ?? {}).filter(([, count]) => count > 0).sort((a, b) => b[1] - a[1]);
  if (causes.length === 0) return h("p", { class: "quiet" }, t("no_refusals"));
  return table(t("refusals"), [t("cause"), t("count")],
    causes.map(([cause, count]) => [h("code", null, cause), number(count)]));
}

export function open(root) {
  const state = h("div", { role: "status" });
  const tiles = {
    live: tile("sessions_live", "#objects"),
    central: tile("central", "#destinations"),
    waiting: tile("waiting_for_central", "#destinations"),
    calls: tile("calls_pending"),
    disk: tile("disk_used", "#machine"),
    certificate: tile("certificate", "#machine"),
    uptime: tile("up_for"),
  };
  const charts = [
    chart(t("rates"), [t("requests"), t("telemetry_in"), t("telemetry_out")], (sample) => sample.rates, rate),
    chart(t("call_latency"), [t("half"), t("nearly_all")], (sample) => sample.calls, seconds),
    chart(t("telemetry_latency"), [t("half"), t("nearly_all")], (sample) => sample.telemetry, seconds),
  ];
  const [booksBox, refusalsBox] = [h("div"), h("div")];
  root.append(
    h("h1", null, t("overview")), state,
    h("div", { class: "tiles" }, Object.values(tiles).map((one) => one.element)),
    h("div", { class: "charts" }, charts.map((one) => one.element)),
    h("div", { class: "columns" },
      h("section", { class: "card" }, h("h3", null, t("books")), booksBox),
      h("section", { class: "card" }, h("h3", null, t("refusals")), refusalsBox)));
  const draw = () => charts.forEach((one) => one.draw(samples));
  addEventListener("resize", draw);
  draw();
  return {
    update(status) {
      const { sessions = {}, queue = {}, calls = {}, disk = {}, certificate } = status;
      renew(state, [status.ready, status.alerts], () => banner(status));
      tiles.live.set(number(sessions.live), t("sessions_kept", number(sessions.kept)));
      tiles.central.set(central(status));
      tiles.waiting.set(number(queue.messages), queue.limit ? t("queue_used", percent(queue.bytes / queue.limit)) : "");
      tiles.calls.set(number(calls.pending), t("calls_answered", number(calls.answered)));
      tiles.disk.set(disk.total ? percent(1 - disk.free / disk.total) : "–", disk.total ? t("disk_free", bytes(disk.free)) : "");
      if (certificate) {
        const { days_left: days, not_after: end } = certificate;
        tiles.certificate.set(days < 0 ? t("ended") : t("days", number(days)), day(end));
      } else tiles.certificate.set("–");
      tiles.uptime.set(span(status.uptime_seconds ?? 0), status.version ?? "");
      renew(booksBox, status.books ?? null, () => books(status));
      renew(refusalsBox, status.refusals ?? null, () => refusals(status));
      draw();
    },
    close: () => removeEventListener("resize", draw),
  };
}
