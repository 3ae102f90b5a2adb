/* What the fleet is drawn with: tables, buttons, and a way to change them without taking the focus. */

import { h } from "./card.js";

/* Makes `el` what `fresh` is, and touches only what differs: focus and open details stay. */
function morph(el, fresh) {
  for (const { name } of [...el.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") el.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (el.getAttribute(name) === value) continue;
    if (name === "style") el.style.cssText = value; // the page's policy refuses the attribute
    else el.setAttribute(name, value);
  }
  const wanted = [...fresh.childNodes];
  while (el.childNodes.length > wanted.length) el.lastChild.remove();
  wanted.forEach((node, n) => {
    const is = el.childNodes[n];
    if (!is) el.append(node);
    else if (is.isEqualNode(node)) return;
    else if (is.nodeType === 1 && is.nodeName === node.nodeName) morph(is, node);
    else is.replaceWith(node);
  });
}

export const show = (el, ...nodes) => {
  const fresh = el.cloneNode();
  fresh.append(...nodes.flat().filter((node) => node != null && node !== false));
  morph(el, fresh);
};

/* What a click on it does is looked up by its name: `morph` may give an element another row. */
export const act = (label, kind, name, value, spoken) =>
  h("button", { type: "button", class: kind, "data-act": name, "data-value": value, "aria-label": spoken }, label);

export function table(caption, columns, rows, kind = "") {
  // The roles are said, since a table that is stacked on a narrow page would lose them.
  const cell = (content, n) => {
    const [label, kind] = columns[n];
    return h("td", { role: "cell", "data-label": label, class: kind }, content ?? "");
  };
  return h("table", { class: `stack ${kind}`, role: "table" }, h("caption", null, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" },
      columns.map(([label, kind]) => h("th", { role: "columnheader", scope: "col", class: kind }, label || h("span", { class: "say" }, "Actions"))))),
    h("tbody", { role: "rowgroup" }, rows.map((row) => h("tr", { role: "row" }, row.map(cell)))));
}
