// Elements are made one by one and text stays text: nothing that a device sends is ever read as HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

/** An HTML element with attributes (functions are listeners) and children. */
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

/** The same for SVG. */
export const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

/** Sets a text only if it changes, so that selections and readers are left alone. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Replaces the children only if `key` changed since the last time. */
export function renew(element, key, make) {
  const text = JSON.stringify(key);
  if (element.dataset.key === text) return;
  element.dataset.key = text;
  element.replaceChildren(...[make()].flat());
}

/** A coloured word; the colour only repeats what the word says. */
export const badge = (kind, text) => h("span", { class: `badge ${kind}` }, text);

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/**
 * A table that becomes a list of cards where it is narrow; rows are arrays of cells. The roles say that it is a table
 * still, since browsers take that back from what is laid out otherwise.
 */
export function table(caption, names, rows, kind) {
  const heads = names.map(capital);
  const row = (cells) => h("tr", { role: "row" },
    cells.map((cell, at) => h("td", { role: "cell", "data-head": heads[at] }, cell ?? "")));
  return h("table", { role: "table", class: kind },
    h("caption", { class: "unseen" }, caption),
    h("thead", { role: "rowgroup" },
      h("tr", { role: "row" }, heads.map((head) => h("th", { role: "columnheader", scope: "col" }, head)))),
    h("tbody", { role: "rowgroup" }, rows.map(row)));
}

/** Names and values. */
export const facts = (pairs) =>
  h("dl", { class: "facts" }, pairs.map(([name, value]) =>
    h("div", null, h("dt", null, capital(name)), h("dd", null, value))));

/** A share of something, as a bar with its words. */
export function meter(name, share, words, kind) {
  const bar = svg("svg", { class: `bar ${kind}`, viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "whole", width: 100, height: 4 }),
    svg("rect", { class: "part", width: Math.max(0, Math.min(100, share * 100)), height: 4 }));
  return h("div", { class: "meter" }, h("p", null, h("strong", null, name), " ", words), bar);
}
