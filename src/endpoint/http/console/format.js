// Numbers, sizes, times and durations as people of the chosen language read them.

import { language, t } from "./words.js";

/** A number and its unit stay on one line. */
const withUnit = (value, unit) => `${value}\u00a0${unit}`;

export function number(value, digits = 0) {
  if (value == null || Number.isNaN(value)) return "–";
  return value.toLocaleString(language(), { maximumFractionDigits: digits });
}

/** A rate: with a decimal where that tells something. */
export const rate = (value) => `${number(value, value < 100 ? 1 : 0)}${t("per_second")}`;

export function bytes(value) {
  if (value == null) return "–";
  const units = language() === "fr" ? ["o", "Kio", "Mio", "Gio", "Tio"] : ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  for (; value >= 1024 && at < units.length - 1; at += 1) value /= 1024;
  return withUnit(number(value, value < 10 && at > 0 ? 1 : 0), units[at]);
}

/** A short duration in the unit that fits. */
export function seconds(value) {
  if (value == null) return "–";
  const digits = (part) => (part < 10 ? 1 : 0);
  if (value < 1e-3) return withUnit(number(value * 1e6), "µs");
  if (value < 1) return withUnit(number(value * 1e3, digits(value * 1e3)), "ms");
  if (value < 120) return withUnit(number(value, digits(value)), "s");
  return span(value);
}

/** A long duration in two units at most. */
export function span(value) {
  const [days, hours, minutes] = [value / 86400, (value / 3600) % 24, (value / 60) % 60].map(Math.floor);
  const parts = [[number(days), t("unit_day")], [hours, "h"], [minutes, "min"]];
  const first = [days, hours, minutes].findIndex((part) => part > 0);
  if (first < 0) return withUnit(Math.floor(value), "s");
  return parts.slice(first, first + 2).map((part) => withUnit(...part)).join("\u00a0");
}

export const percent = (share) => withUnit(number(share * 100, share < 0.1 ? 1 : 0), "%");

/** Date and time of an RFC 3339 text. */
export function moment(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return text ?? "–";
  return date.toLocaleString(language(), { dateStyle: "medium", timeStyle: "medium" });
}

/** Only the date. */
export const day = (text) => new Date(text).toLocaleDateString(language(), { dateStyle: "medium" });

/** Only the time if it was today. */
export function shortMoment(text) {
  const date = new Date(text);
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? date.toLocaleTimeString(language()) : moment(text);
}

/** How long ago. */
export function ago(text) {
  const past = (Date.now() - new Date(text).getTime()) / 1000;
  return past < 5 ? t("just_now") : t("ago", span(past));
}
