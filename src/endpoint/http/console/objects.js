// The objects of the access list: search, state, last seen; one of them with its last messages.

import { get, query } from "./api.js";
import { badge, facts, h, say, table } from "./dom.js";
import { ago, moment, number, seconds } from "./format.js";
import { messageTable } from "./messages.js";
import { t } from "./words.js";

/** Rows that are shown at a time: a list of thousands would not be looked at anyway. */
const SHOWN = 200;
/** How often they are asked for; seldom where they are many. */
const EVERY = 10_000;
const EVERY_MANY = 60_000;
const MANY = 1000;

const COLOURS = { live: "good", kept: "warn", absent: "off" };
const state = (object) => badge(COLOURS[object.state] ?? "off", t(object.state));
const seen = (object) => {
  if (object.state === "live") return t("now");
  return object.last_seen ? ago(object.last_seen) : t("never_seen");
};

/** How it does by what is expected of it; nothing while that is being learned. */
const EXPECTED = { met: "good", late: "warn", silent: "bad", chatty: "warn" };
const expectation = (object) => object.expectation
  ? badge(EXPECTED[object.expectation] ?? "off", t(`exp_${object.expectation}`))
  : t("learning");
const usual = (object) => (object.usual_seconds == null ? "–" : seconds(object.usual_seconds));

/** All objects that the key may see, page by page. */
async function all(signal) {
  const found = [];
  let after = "";
  do {
    const page = await get(`/v1/objects?${query({ limit: 1000, after })}`, signal);
    found.push(...page.objects);
    after = page.next;
  } while (after);
  return found;
}

function list(root) {
  const ending = new AbortController();
  let objects = null;
  let timer = 0;
  const search = h("input", { id: "search", type: "search", input: () => show() });
  const tally = h("p", { role: "status", class: "quiet" }, t("loading"));
  const rows = h("div");
  root.append(
    h("h1", null, t("objects")),
    h("form", { class: "filters", role: "search", submit: (event) => event.preventDefault() },
      h("label", { for: "search" }, t("search_objects")), search),
    tally, rows);
  const show = () => {
    if (!objects) return;
    const wanted = search.value.trim().toLowerCase();
    const found = objects.filter(({ uid, group }) =>
      uid.toLowerCase().includes(wanted) || group.toLowerCase().includes(wanted));
    const limited = found.length > SHOWN ? `; ${t("first_shown", number(SHOWN))}` : "";
    say(tally, found.length > 0 ? t("shown_of", number(found.length), number(objects.length)) + limited : t("no_objects"));
    // A link that has the focus keeps it.
    const focused = rows.contains(document.activeElement) ? document.activeElement.hash : null;
    rows.replaceChildren(found.length === 0 ? "" : table(t("objects"),
      [t("object"), t("group"), t("state"), t("last_seen"), t("usual_interval"), t("expectation")],
      found.slice(0, SHOWN).map((object) => [
        h("a", { href: `#objects/${encodeURIComponent(object.uid)}` }, object.uid),
        object.group, state(object), seen(object), usual(object), expectation(object),
      ]), "pairs"));
    if (focused) [...rows.querySelectorAll("a")].find((link) => link.hash === focused)?.focus();
  };
  const load = async () => {
    try {
      objects = await all(ending.signal);
      show();
    } catch (error) {
      if (ending.signal.aborted) return;
      if (!objects) say(tally, error.message);
    }
    timer = setTimeout(load, objects?.length > MANY ? EVERY_MANY : EVERY);
  };
  load();
  return {
    close() {
      ending.abort();
      clearTimeout(timer);
    },
  };
}

function one(root, uid) {
  const ending = new AbortController();
  const [about, last] = [h("div", null, t("loading")), h("div", null, t("loading"))];
  root.append(
    h("p", null, h("a", { href: "#objects" }, `← ${t("objects")}`)),
    h("h1", null, uid),
    h("section", { class: "card" }, about),
    h("h2", null, t("last_messages")), last);
  const fail = (box, text) => (error) => {
    if (!ending.signal.aborted) box.replaceChildren(h("p", { class: "quiet" }, error.status === 404 ? text : error.message));
  };
  get(`/v1/objects/${encodeURIComponent(uid)}`, ending.signal).then((object) => {
    about.replaceChildren(facts([
      [t("state"), state(object)],
      [t("group"), object.group],
      [t("last_seen"), seen(object)],
      [t("usual_interval"), usual(object)],
      [t("expectation"), expectation(object)],
      [t(object.state === "live" ? "since" : "until"), object.since ? moment(object.since) : t("not_since_start")],
    ]));
  }).catch(fail(about, t("unknown_object")));
  get(`/v1/messages?${query({ uid, last: 20 })}`, ending.signal).then(({ messages }) => {
    last.replaceChildren(messages.length > 0 ? messageTable(messages.reverse()) : h("p", { class: "quiet" }, t("no_messages")));
  }).catch(fail(last, t("no_history")));
  return { close: () => ending.abort() };
}

export const open = (root, uid) => (uid ? one(root, uid) : list(root));
