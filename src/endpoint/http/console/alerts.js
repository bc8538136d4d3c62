// What is wrong now, what happened, and who did what.

import { get, query } from "./api.js";
import { badge, h, renew, table } from "./dom.js";
import { moment, shortMoment } from "./format.js";
import { alertText, t, word } from "./words.js";

const LAST = 100;

function raised(alerts) {
  if (alerts.length === 0) return h("p", null, badge("good", "✓"), " ", t("no_alerts"));
  return h("ul", { class: "alerts" }, alerts.map((alert) => {
    const { text, lang } = alertText(alert);
    return h("li", { class: "card" },
      badge(alert.urgent ? "bad" : "warn", alert.name), " ",
      alert.subject ? h("strong", null, alert.subject, " ") : "", h("span", { lang }, text),
      h("p", { class: "quiet" }, t("raised", moment(alert.since))));
  }));
}

/** What an entry says: its sentence, or its payload as it is. */
function saying(entry) {
  if (typeof entry.payload === "string") return entry.payload;
  if (entry.payload?.what) {
    const { count, from, detail } = entry.payload;
    return [count > 1 ? `${count} ×` : "", from, detail].filter(Boolean).join(" · ");
  }
  return entry.payload?.sentence ?? JSON.stringify(entry.payload ?? null);
}

/** What happened: the name of an alert with what became of it, or the kind of message. */
function naming({ kind, payload }) {
  if (payload?.what) return word("did_", payload.what);
  if (!payload?.name) return word("", kind);
  return payload.state ? `${payload.name}: ${word("step_", payload.state)}` : payload.name;
}

const entries = (caption, list) => table(caption, [t("time"), t("kind"), t("object"), t("what")],
  list.map((entry) => [
    h("time", null, entry.id ? h("a", { href: `#messages/${entry.id}` }, shortMoment(entry.time)) : shortMoment(entry.time)),
    naming(entry), entry.payload?.subject || entry.payload?.who || entry.uid || "–", saying(entry),
  ]));

const recorded = async (kind, signal) => (await get(`/v1/messages?${query({ kind, last: LAST })}`, signal)).messages;

function load(box, caption, nothing, list, signal) {
  list.then((found) => {
    box.replaceChildren(found.length > 0 ? entries(caption, found.toReversed()) : h("p", { class: "quiet" }, nothing));
  }).catch((error) => {
    if (!signal.aborted) box.replaceChildren(h("p", { class: "quiet" }, error.status === 404 ? t("no_history") : error.message));
  });
}

export function open(root) {
  const ending = new AbortController();
  const [now, eventBox, auditBox] = [1, 2, 3].map(() => h("div", null, h("p", { class: "quiet" }, t("loading"))));
  root.append(
    h("h1", null, t("alerts")),
    h("section", { role: "status", "aria-label": t("alerts_up") }, now),
    h("h2", null, t("events")), eventBox,
    h("h2", null, t("audit_log")), auditBox);
  load(eventBox, t("events"), t("no_events"), recorded("event", ending.signal), ending.signal);
  load(auditBox, t("audit_log"), t("no_audit"), recorded("audit", ending.signal), ending.signal);
  return {
    update: (status) => renew(now, status.alerts ?? [], () => raised(status.alerts ?? [])),
    close: () => ending.abort(),
  };
}
