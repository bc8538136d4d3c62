// Lines over the last minutes, drawn as SVG. What the lines say stands beside them in words.

import { h, say, svg } from "./dom.js";
import { t } from "./words.js";

/** Minutes that are shown: the first that hold all samples. */
const WINDOWS = [1, 2, 5];
const HEIGHT = 150;
const [LEFT, RIGHT, TOP, BOTTOM] = [58, 8, 10, 22];

/** A chart with these lines: `pick` takes their values out of a sample, `format` makes them words. */
export function chart(title, names, pick, format) {
  const drawing = svg("svg", { class: "chart", role: "img" });
  const values = names.map(() => h("strong"));
  const legend = h("ul", { class: "legend" }, names.map((name, at) =>
    h("li", null, key(at), h("span", null, name), " ", values[at])));
  const element = h("section", { class: "card" }, h("h3", null, title), drawing, legend);
  const draw = (samples) => {
    const width = Math.max(240, drawing.clientWidth || 320);
    drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    drawing.setAttribute("height", HEIGHT);
    const now = samples.at(-1)?.time ?? Date.now();
    const age = (now - (samples[0]?.time ?? now)) / 60_000;
    const minutes = WINDOWS.find((window) => window >= age) ?? WINDOWS.at(-1);
    const all = samples.flatMap(pick).filter((value) => value != null);
    const top = ceiling(Math.max(0, ...all));
    const x = (time) => width - RIGHT - ((now - time) / (minutes * 60_000)) * (width - LEFT - RIGHT);
    const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM);
    const current = names.map((_, at) => samples.length > 0 ? lastOf(samples, (sample) => pick(sample)[at]) : null);
    current.forEach((value, at) => say(values[at], value == null ? "–" : format(value)));
    drawing.setAttribute("aria-label", `${title}: ${names.map((name, at) =>
      `${name} ${current[at] == null ? t("nothing") : format(current[at])}`).join(", ")}`);
    drawing.replaceChildren(
      ...[0, 0.5, 1].map((share) => svg("g", null,
        svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(top * share), y2: y(top * share) }),
        svg("text", { x: LEFT - 6, y: y(top * share) + 4, "text-anchor": "end" }, format(top * share)))),
      svg("text", { x: LEFT, y: HEIGHT - 5 }, t("minutes_ago", minutes)),
      svg("text", { x: width - RIGHT, y: HEIGHT - 5, "text-anchor": "end" }, t("now")),
      ...names.map((_, at) => svg("path", {
        class: `line line-${at}`,
        d: path(samples, (sample) => pick(sample)[at], x, y),
      })));
  };
  return { element, draw };
}

const key = (at) => svg("svg", { class: "key", viewBox: "0 0 24 8", "aria-hidden": "true" },
  svg("path", { class: `line line-${at}`, d: "M0 4H24" }));

/** The newest value that there is, if it is not old. */
function lastOf(samples, value) {
  for (const sample of samples.slice(-5).reverse()) {
    if (value(sample) != null) return value(sample);
  }
  return null;
}

/** The line, interrupted where there is no value. A value alone shows as a dot. */
function path(samples, value, x, y) {
  let text = "";
  let isOpen = false;
  for (const sample of samples) {
    const at = value(sample);
    if (at == null) {
      isOpen = false;
      continue;
    }
    const place = `${x(sample.time).toFixed(1)} ${y(at).toFixed(1)}`;
    text += isOpen ? `L${place}` : `M${place}h0`;
    isOpen = true;
  }
  return text;
}

/** The next 1, 2 or 5 times a power of ten. */
function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}
