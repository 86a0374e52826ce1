// What the views have in common. Text goes into the page as text only: nothing here takes markup.

import { visible } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {string} id of an element that index.html has
 * @returns {HTMLElement}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`index.html has no #${id}`);
  return found;
}

/**
 * @param {Element} node
 * @param {Object<string, string | number | boolean | null>} attributes null and false take one away
 */
export function setAttributes(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) {
      if (node.hasAttribute(name)) node.removeAttribute(name);
    } else if (node.getAttribute(name) !== String(value)) {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
}

/**
 * @param {string} tag
 * @param {Object<string, string | number | boolean | null>} [attributes]
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  setAttributes(node, attributes);
  node.append(...children);
  return node;
}

/**
 * @param {string} tag
 * @param {Object<string, string | number | boolean | null>} [attributes]
 * @param {...Node} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  setAttributes(node, attributes);
  node.append(...children);
  return node;
}

/**
 * Write a text, unless it stands there already: what does not change is not touched, so that a
 * selection stays and nothing is drawn anew.
 *
 * @param {Node} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * A name that a client chose: its own direction, and its whole length on demand.
 *
 * @param {HTMLElement} node
 * @param {string} name
 */
export function setName(node, name) {
  const shown = visible(name);
  setText(node, shown);
  setAttributes(node, { dir: "auto", title: shown });
}

/**
 * Make a parent's children be one for each item, in the items' order. Those that stay are the same
 * elements, and are not moved unless their order changes: so they keep focus and selection.
 *
 * @template T
 * @param {Element} parent has no other children
 * @param {T[]} items
 * @param {(item: T) => string} keyOf tells the items apart
 * @param {(item: T) => Element} create
 * @param {(node: Element, item: T) => void} update called for new ones too
 */
export function reconcile(parent, items, keyOf, create, update) {
  const wanted = new Set(items.map(keyOf));
  /** @type {Map<string, Element>} */
  const present = new Map();
  for (const node of [...parent.children]) {
    const key = KEYS.get(node);
    if (key !== undefined && wanted.has(key)) present.set(key, node);
    else node.remove();
  }
  items.forEach((item, position) => {
    const key = keyOf(item);
    let node = present.get(key);
    if (node === undefined) {
      node = create(item);
      KEYS.set(node, key);
    }
    const there = parent.children[position];
    if (there !== node) parent.insertBefore(node, there ?? null);
    update(node, item);
  });
}

/** @type {WeakMap<Element, string>} */
const KEYS = new WeakMap();

/**
 * @typedef {object} Column
 * @property {string} label
 * @property {string} [hint]
 * @property {boolean} [text] not a number
 * @property {boolean} [detail] on a narrow screen, to be seen only where a row is opened
 */

/**
 * The head of a table whose rows become cards on a narrow screen.
 *
 * @param {HTMLElement} row
 * @param {Column[]} columns
 */
export function setHead(row, columns) {
  for (const { label, hint = null, text = false } of columns) {
    row.append(
      element(
        "th",
        { scope: "col", role: "columnheader", title: hint, class: text ? "text" : null },
        label,
      ),
    );
  }
}

/**
 * A row of such a table, its cells empty. Each has its column's label, for the narrow screen.
 *
 * @param {Column[]} columns
 * @returns {HTMLTableRowElement}
 */
export function newRow(columns) {
  const cells = columns.map(({ label, text, detail }) => {
    const kind = text ? "text" : detail ? "detail" : null;
    return element("td", { role: "cell", "data-label": label, class: kind });
  });
  return /** @type {HTMLTableRowElement} */ (element("tr", { role: "row" }, ...cells));
}
