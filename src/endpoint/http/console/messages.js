// What was recorded: the newest, those that come, and what became of one.

import { follow, get, query } from "./api.js";
import { badge, facts, h, say, table } from "./dom.js";
import { moment, number, seconds, shortMoment } from "./format.js";
import { t, word } from "./words.js";

const PAGE = 100;
/** Rows at most: with a busy tail the oldest make room. */
const SHOWN = 400;
const KINDS = ["telemetry", "request", "command", "access", "audit", "event"];
const COLOURS = { delivered: "good", waiting: "warn", stored: "off", refused: "bad", expired: "bad", dropped: "bad", dead: "bad" };
const PREVIEW = 80;

const payload = (message) =>
  message.format === "JSON" ? JSON.stringify(message.payload) : message.format === "BINARY" ? hex(message.payload) : String(message.payload ?? "");
const hex = (list) => (Array.isArray(list) ? list.map((byte) => byte.toString(16).padStart(2, "0")).join(" ") : "");
const cut = (text) => (text.length > PREVIEW ? `${text.slice(0, PREVIEW)}…` : text);
const state = (message) => badge(COLOURS[message.state] ?? "off", word("st_", message.state));

const cells = (message) => [
  h("time", null, h("a", { href: `#messages/${message.id}` }, shortMoment(message.time))),
  word("", message.kind),
  message.uid ? h("a", { href: `#objects/${encodeURIComponent(message.uid)}` }, message.uid) : "–",
  message.via,
  state(message),
  h("code", null, cut(payload(message))),
];
const heads = () => [t("time"), t("kind"), t("object"), t("way"), t("state"), t("payload")];

/** Messages as a table, in the order given. */
export const messageTable = (messages) => table(t("messages"), heads(), messages.map(cells), "dense");

function list(root, logOut) {
  const ending = new AbortController();
  let tail = null;
  let shown = [];
  let next = 0;
  const uid = h("input", { id: "uid", type: "search", autocomplete: "off" });
  const kind = h("select", { id: "kind" }, h("option", { value: "" }, t("any")),
    KINDS.map((name) => h("option", { value: name }, t(name))));
  const live = h("button", { type: "button", "aria-pressed": "true", click: () => setLive(!tail) }, t("live_tail"));
  const older = h("button", { type: "button", click: () => loadOlder() }, t("older"));
  const note = h("p", { role: "status", class: "quiet" }, t("loading"));
  const rows = h("div");
  root.append(
    h("h1", null, t("messages")),
    h("form", { class: "filters", submit: (event) => { event.preventDefault(); load(); } },
      h("label", { for: "uid" }, t("object")), uid,
      h("label", { for: "kind" }, t("kind")), kind,
      h("button", null, t("filter")), live),
    note, rows, older);
  older.hidden = true;

  const fields = () => ({ uid: uid.value.trim(), kind: kind.value });
  const fail = (error) => {
    if (ending.signal.aborted) return;
    if (error.status === 401) return logOut(error);
    say(note, error.status === 404 ? t("no_history") : error.message);
    live.hidden = older.hidden = error.status === 404;
    rows.replaceChildren();
  };
  const tell = () => say(note, shown.length === 0 ? t("no_messages") : t(tail ? "tail_on" : "tail_off"));
  const draw = () => {
    tell();
    rows.replaceChildren(shown.length > 0 ? messageTable(shown) : "");
  };
  // New ones are put on top of what is there, which stays as it is: a row may have the focus.
  const add = (messages) => {
    if (messages.length === 0) return;
    const fresh = messages.toReversed();
    shown = [...fresh, ...shown].slice(0, SHOWN);
    const body = rows.querySelector("tbody");
    if (!body) return draw();
    body.prepend(...messageTable(fresh).querySelector("tbody").children);
    while (body.children.length > SHOWN) body.lastChild.remove();
    tell();
  };
  function setLive(isOn) {
    tail?.abort();
    tail = isOn ? new AbortController() : null;
    live.setAttribute("aria-pressed", String(isOn));
    if (isOn) {
      const mine = tail;
      follow(fields(), next, (messages) => {
        if (mine !== tail || messages.length === 0) return;
        next = messages.at(-1).seq;
        add(messages);
      }, mine.signal).catch(fail);
    }
    if (shown.length > 0) tell();
  }
  async function load() {
    setLive(false);
    try {
      const page = await get(`/v1/messages?${query({ ...fields(), last: PAGE })}`, ending.signal);
      shown = page.messages.reverse();
      next = page.next;
      older.hidden = page.messages.length < PAGE;
      setLive(true);
      draw();
    } catch (error) {
      fail(error);
    }
  }
  async function loadOlder() {
    try {
      const to = shown.at(-1)?.time;
      const page = await get(`/v1/messages?${query({ ...fields(), last: PAGE, to })}`, ending.signal);
      const known = new Set(shown.map((message) => message.seq));
      shown.push(...page.messages.reverse().filter((message) => !known.has(message.seq)));
      older.hidden = page.messages.length < PAGE || shown.length >= SHOWN;
      draw();
    } catch (error) {
      fail(error);
    }
  }
  load();
  return {
    close() {
      ending.abort();
      tail?.abort();
    },
  };
}

const OUTCOMES = { received: "off", stored: "off", sent: "warn", delivered: "good", refused: "bad", expired: "bad", dropped: "bad", stopped: "bad" };

/** What happened to a message, one below the other along a line. */
function timeline(message) {
  const events = message.events ?? [];
  if (events.length === 0) return h("p", { class: "quiet" }, t("no_events_known"));
  const start = new Date(events[0].time).getTime();
  return h("ol", { class: "timeline" }, events.map((event) => {
    const behind = (new Date(event.time).getTime() - start) / 1000;
    return h("li", { class: OUTCOMES[event.event] ?? "off" },
      h("strong", null, word("ev_", event.event)),
      event.to && ` ${t("to", event.to)}`,
      event.attempt && `, ${t("attempt", number(event.attempt))}`,
      event.reason && h("span", { class: "reason" }, event.reason),
      h("span", { class: "quiet" }, moment(event.time), behind > 0 && ` (${t("after", seconds(behind))})`));
  }));
}

function one(root, id) {
  const ending = new AbortController();
  const content = h("div", null, h("p", { class: "quiet" }, t("loading")));
  const title = h("h1", null, t("trace"));
  root.append(h("p", null, h("a", { href: "#messages" }, `← ${t("messages")}`)), title, content);
  get(`/v1/messages/${encodeURIComponent(id)}`, ending.signal).then((message) => {
    // Of a message that is gone there is no more than what became of it.
    const isThere = message.kind !== undefined;
    const text = message.format === "JSON" ? JSON.stringify(message.payload, null, 2) : payload(message);
    const clock = message.clock === "synced" ? "" : ` (${t(`clock_${message.clock}`)})`;
    say(title, t("trace_of", number(message.seq)));
    content.replaceChildren(
      h("section", { class: "card" },
        message.id && h("p", null, h("code", null, message.id)),
        facts([
          [t("state"), state(message)],
          ...(isThere ? [
            [t("time"), moment(message.time) + clock],
            [t("kind"), word("", message.kind)],
            [t("object"), message.uid ? h("a", { href: `#objects/${encodeURIComponent(message.uid)}` }, message.uid) : "–"],
            [t("group"), message.group || "–"],
            [t("way"), message.via],
          ] : []),
          ...(message.source ? [[t("source"), message.source]] : []),
        ])),
      h("section", { class: "card" }, h("h2", null, t("happened")), timeline(message)),
      ...(isThere ? [h("section", { class: "card" }, h("h2", null, `${t("payload")} (${message.format})`),
        h("pre", { tabindex: "0", "aria-label": t("payload") }, text))] : []));
  }).catch((error) => {
    if (ending.signal.aborted) return;
    content.replaceChildren(h("p", { class: "quiet" }, error.status === 404 || error.status === 400 ? t("unknown_message") : error.message));
  });
  return { close: () => ending.abort() };
}

export const open = (root, id, logOut) => (id ? one(root, id) : list(root, logOut));
