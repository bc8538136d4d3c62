// The program and what it stands on: certificate, disk, flash, and whatever else the snapshot tells.

import { facts, h, meter, renew } from "./dom.js";
import { bytes, day, moment, number, percent, span } from "./format.js";
import { t, word } from "./words.js";

/** Parts of the snapshot that this page or another one shows. */
const SHOWN = new Set(["second_tries", "version", "environment", "uptime_seconds", "ready", "sessions", "rates", "latency", "queue",
  "disk", "calls", "books", "destinations", "certificate", "wear", "backup", "recorded", "clock_is_set", "refusals", "alerts", "availability"]);
const YEARS_MAX = 100;

const kind = (share) => (share >= 0.9 ? "bad" : share >= 0.75 ? "warn" : "good");
const missing = () => h("p", { class: "quiet" }, t("not_available"));
const card = (title, ...children) => h("section", { class: "card" }, h("h2", null, title), children);

function certificate(state) {
  if (!state) return missing();
  const left = state.days_left < 0 ? t("ended") : t("days_left", number(state.days_left));
  const colour = state.days_left <= 7 ? "problem" : state.days_left <= 30 ? "doubt" : "";
  return facts([[t("not_after"), day(state.not_after)], [t("left"), h("strong", { class: colour }, left)]]);
}

function space(name, used, total) {
  const share = used / total;
  return meter(name, share, t("used_of", `${bytes(used)} (${percent(share)})`, bytes(total), bytes(total - used)), kind(share));
}

function wear(state) {
  if (!state) return missing();
  const years = state.years_left;
  const forecast = years == null ? t("not_yet") : years > YEARS_MAX ? t("over_years", YEARS_MAX) : t("years", number(years, years < 10 ? 1 : 0));
  return [
    facts([
      [t("written"), bytes(state.written_bytes)],
      [t("per_day"), state.written_per_day_bytes == null ? t("not_yet") : bytes(state.written_per_day_bytes)],
      state.medium_written_per_day_bytes != null && [t("medium_per_day"), bytes(state.medium_written_per_day_bytes)],
      state.write_amplification != null && [t("amplification"), t("amplified", number(state.write_amplification, 2))],
      state.reserve && [t("reserve"), word("reserve_", state.reserve)],
      [t("life_used"), state.life_used_percent == null ? t("life_unknown") : percent(state.life_used_percent / 100)],
      [t("forecast"), forecast],
    ].filter(Boolean)),
    h("p", { class: "quiet" }, t("forecast_note")),
  ];
}

function backup(state) {
  if (!state) return missing();
  const problem = (text) => text && h("p", null, h("strong", null, t("backup_failed")), " ", h("span", { class: "problem", lang: "en" }, text));
  const size = () => t("backup_size", number(state.messages), bytes(state.bytes));
  return [facts([
    [t("backup_last"), state.last ? moment(state.last) : t("backup_none")],
    state.last && [t("backup_holds"), size()],
    [t("backup_next"), state.next ? moment(state.next) : t("when_clock_right")],
    state.copied && [t("backup_copied"), moment(state.copied)],
  ].filter(Boolean)), problem(state.error), problem(state.copy_error)];
}

/** Values that this page knows nothing of, by their names. */
function plain(value, name = "") {
  if (value === null || typeof value !== "object") {
    return [[name, typeof value === "number" ? number(value, 2) : String(value)]];
  }
  return Object.entries(value).flatMap(([part, inside]) =>
    plain(inside, [name, part.replaceAll("_", " ")].filter(Boolean).join(": ")));
}

function available(share, clockIsSet) {
  if (share != null) return `${number(share * 100, 3)} %`;
  return t(clockIsSet === false ? "when_clock_right" : "not_available");
}

function content(status) {
  const { disk, queue, sessions = {}, second_tries: tries } = status;
  const rest = Object.fromEntries(Object.entries(status).filter(([name]) => !SHOWN.has(name)));
  return [
    card(t("program"), facts([
      [t("version"), status.version ?? "–"],
      [t("environment"), t(status.environment ?? "–")],
      [t("up_for"), span(status.uptime_seconds ?? 0)],
      status.clock_is_set != null && [t("clock"), status.clock_is_set ? t("clock_right") : h("span", { class: "doubt" }, t("clock_unset"))],
      [t("available_30"), available(status.availability?.days_30, status.clock_is_set)],
      [t("available_365"), available(status.availability?.days_365, status.clock_is_set)],
      [t("logins"), number(sessions.logins)],
      [t("without_login"), number(sessions.unauthenticated)],
      ...Object.entries(sessions.by_listener ?? {}).map(([name, count]) => [`${t("connections")} (${name})`, number(count)]),
    ].filter(Boolean))),
    card(t("certificate"), certificate(status.certificate)),
    card(t("state_disk"), disk?.total ? space("", disk.total - disk.free, disk.total) : missing(),
      queue?.limit ? space(t("queue"), queue.bytes, queue.limit) : null),
    card(t("wear"), wear(status.wear)),
    card(t("backup"), backup(status.backup)),
    status.recorded ? card(t("recorded"), facts(Object.entries(status.recorded).map(([kind, count]) => [word("", kind), number(count)]))) : "",
    tries ? card(t("second_tries"), facts([[t("tries_known"), number(tries.known)], [t("tries_window"), span(tries.window_seconds)]])) : "",
    Object.keys(rest).length > 0 ? card(t("more"), facts(plain(rest))) : "",
  ].flat();
}

export function open(root) {
  const box = h("div", { class: "columns" }, h("p", { class: "quiet" }, t("loading")));
  root.append(h("h1", null, t("machine")), box);
  return { update: (status) => renew(box, status, () => content(status)) };
}
