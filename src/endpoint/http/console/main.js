// The frame of the page: log in, choose language and appearance, show one view at a time, ask for the snapshot.

import * as alerts from "./alerts.js";
import { get, key, Refused } from "./api.js";
import * as destinations from "./destinations.js";
import { h, renew, say } from "./dom.js";
import { span } from "./format.js";
import * as machine from "./machine.js";
import * as messages from "./messages.js";
import * as objects from "./objects.js";
import * as overview from "./overview.js";
import { forget, sample } from "./samples.js";
import { chooseLanguage, language, t } from "./words.js";

const VIEWS = { overview, objects, messages, destinations, alerts, machine };
const EVERY = 2000;
const STALE = 6000;
const THEME = "iotsocketd.theme";

/** What is shown now: the view with its `update` and `close`, and what the frame says around it. */
let view = null;
let frame = null;
let status = null;
let heard = 0;
let timer = 0;

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

function choice(name, value, options, take) {
  const select = h("select", { id: name, change: () => take(select.value) },
    options.map(([option, text]) => h("option", { value: option, selected: option === value }, text)));
  return h("label", { class: "choice" }, h("span", { class: "unseen" }, t(name)), select);
}

const choices = () => [
  choice("language", language(), [["en", "English"], ["fr", "Français"]], (name) => {
    chooseLanguage(name);
    start("language");
  }),
  choice("theme", localStorage.getItem(THEME) ?? "auto",
    ["auto", "light", "dark"].map((name) => [name, t(`theme_${name}`)]), (name) => {
      localStorage.setItem(THEME, name);
      setTheme(name);
    }),
];

const brand = () => h("p", { class: "brand" },
  h("img", { src: "/console/icon.svg", alt: "", width: 28, height: 28 }), h("span", null, "iotsocketd"));

function loginPage(problem) {
  const input = h("input", { id: "key", type: "password", required: true, autocomplete: "off", spellcheck: "false", "aria-describedby": "hint" });
  const error = h("p", { role: "alert", class: "problem" }, problem ?? "");
  const submit = async (event) => {
    event.preventDefault();
    key.set(input.value.trim());
    try {
      status = await get("/v1/status");
      start("main");
    } catch (refused) {
      key.clear();
      say(error, sentence(refused));
      input.select();
    }
  };
  document.body.replaceChildren(
    h("header", { class: "top" }, brand(), h("div", { class: "choices" }, choices())),
    h("main", { class: "login" },
      h("form", { class: "card", submit },
        h("h1", null, t("log_in")),
        h("label", { for: "key" }, t("api_key")), input,
        h("p", { id: "hint", class: "quiet" }, t("api_key_hint")),
        error,
        h("button", { class: "main" }, t("log_in")))));
  return input;
}

function sentence(refused) {
  if (refused.status === 401) {
    const [, theirs, ours] = /environment "(\w+)", .* of "(\w+)"/.exec(refused.message) ?? [];
    return theirs ? t("other_environment", t(theirs), t(ours)) : t("wrong_key");
  }
  if (refused.status === 403) return t("no_right");
  return refused.status === 0 ? t("no_answer") : t("bad_answer", refused.message);
}

function framePage() {
  const environment = h("span", { id: "environment" });
  const notice = h("p", { role: "status", class: "notice" });
  const content = h("main", { id: "content", tabindex: "-1" });
  const links = Object.keys(VIEWS).map((name) => h("a", { href: `#${name}` }, t(name), h("span", { class: "tally" })));
  document.body.replaceChildren(
    h("a", { class: "skip", href: "#content", click: (event) => { event.preventDefault(); content.focus(); } }, t("skip")),
    h("header", { class: "top" }, brand(), environment,
      h("div", { class: "choices" }, choices(), h("button", { id: "log_out", click: () => logOut() }, t("log_out")))),
    h("nav", { "aria-label": t("views") }, links),
    notice, content);
  return { environment, notice, content, links };
}

function logOut(problem) {
  key.clear();
  clearTimeout(timer);
  view?.close?.();
  [view, frame, status] = [null, null, null];
  forget();
  loginPage(problem).focus();
}

function route() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  const known = Object.hasOwn(VIEWS, name) ? name : "overview";
  return [known, rest.join("/") ? decodeURIComponent(rest.join("/")) : ""];
}

function showView() {
  if (!frame) return;
  view?.close?.();
  const [name, part] = route();
  for (const link of frame.links) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${t(name)} – iotsocketd`;
  frame.content.replaceChildren();
  view = VIEWS[name].open(frame.content, part, (refused) => logOut(sentence(refused)));
  if (status) view.update?.(status);
}

function showFrame() {
  const up = status.alerts?.length ?? 0;
  renew(frame.environment, [status.environment, language()], () =>
    status.environment ? h("span", { class: `badge ${status.environment}` }, t(status.environment)) : "");
  const tally = frame.links[Object.keys(VIEWS).indexOf("alerts")].querySelector(".tally");
  say(tally, up > 0 ? String(up) : "");
}

async function poll() {
  clearTimeout(timer);
  // A page that nobody sees asks for nothing.
  if (document.hidden) return;
  try {
    status = await get("/v1/status");
    heard = Date.now();
    sample(status);
    if (!frame) return;
    say(frame.notice, "");
    showFrame();
    view?.update?.(status);
  } catch (refused) {
    if (!(refused instanceof Refused)) throw refused;
    if (refused.status === 401) return logOut(t("key_ended"));
    if (frame && Date.now() - heard > STALE) say(frame.notice, t("stale", span((Date.now() - heard) / 1000)));
  }
  clearTimeout(timer);
  if (key.get()) timer = setTimeout(poll, EVERY);
}

/** Builds everything anew, and gives the focus to what had it. */
function start(focus) {
  document.documentElement.lang = language();
  view?.close?.();
  view = frame = null;
  if (!key.get()) {
    document.title = "iotsocketd";
    const input = loginPage();
    (document.getElementById(focus) ?? input).focus();
    return;
  }
  frame = framePage();
  if (status) showFrame();
  showView();
  document.getElementById(focus)?.focus();
  if (focus === "main") frame.content.focus();
  heard ||= Date.now();
  poll();
}

addEventListener("hashchange", () => {
  if (!frame) return;
  showView();
  frame.content.focus();
  scrollTo(0, 0);
});
addEventListener("visibilitychange", () => {
  if (frame && !document.hidden) poll();
});
setTheme(localStorage.getItem(THEME) ?? "auto");
start();
