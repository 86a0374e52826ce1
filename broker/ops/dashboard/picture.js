// Who calls whom, drawn: a box for each group, an arrow for each pair.

import { headPath, newArrow, spreadEnds, strokeWidth } from "./arrows.js";
import { element, setAttributes, setName, setText, svg } from "./dom.js";
import { rate, visible } from "./format.js";
import { layOut } from "./layout.js";

/** Pixels below which there is room for the rate only beside an arrow. */
const NARROW = 520;

/** Arrows up to which each has its figures beside it; beyond, those of the chosen group. */
const FEW = 14;

/**
 * @typedef {object} Edge
 * @property {string} caller
 * @property {string} callee
 * @property {number | null} requests per second
 * @property {number | null} errors per second
 */

/** @param {Edge} edge */
function figures({ requests, errors }) {
  return errors > 0 ? `${rate(requests)}/s, ${rate(errors)} failed` : `${rate(requests)}/s`;
}

/** @param {Edge} edge */
function kindOf({ requests, errors }) {
  if (errors > 0) return "bad";
  return requests > 0 ? "busy" : "idle";
}

/** @param {{caller: string, callee: string}} edge */
export function edgeKey({ caller, callee }) {
  return JSON.stringify([caller, callee]);
}

export class Picture {
  /** @param {HTMLElement} place */
  constructor(place) {
    this.place = place;
    /** @type {Edge[]} */
    this.edges = [];
    /** @type {Set<string> | null} */
    this.present = null;
    this.drawnFor = "";
    /** @type {Map<string, import("./arrows.js").Drawn>} */
    this.arrows = new Map();
    /** @type {Map<string, SVGElement>} */
    this.boxes = new Map();
    new ResizeObserver(() => this.redraw()).observe(place);
  }

  /**
   * @param {Edge[]} edges
   * @param {Set<string> | null} present groups that are connected; null if not all are known
   */
  draw(edges, present) {
    this.edges = [...edges].sort((a, b) => (edgeKey(a) < edgeKey(b) ? -1 : 1));
    this.present = present;
    this.redraw();
  }

  redraw() {
    const width = Math.floor(this.place.clientWidth);
    if (width === 0 || this.edges.length === 0) return;
    const wanted = JSON.stringify([width, this.edges.map(edgeKey)]);
    if (wanted !== this.drawnFor) {
      this.build(width);
      this.drawnFor = wanted;
    }
    this.update();
  }

  /** @param {number} width */
  build(width) {
    const focused = document.activeElement?.closest("[data-box]")?.getAttribute("data-box");
    const layout = layOut(this.edges, width);
    const ends = spreadEnds(layout.arrows);
    this.arrows = new Map(
      layout.arrows.map((arrow) => [edgeKey(arrow), newArrow(arrow, ends.get(arrow))]),
    );
    // Their order is the reading order, and that of the arrow keys.
    layout.nodes.sort((a, b) => a.column - b.column || a.y - b.y);
    this.boxes = new Map(
      layout.nodes.map((node) => [JSON.stringify([node.column, node.group]), this.newBox(node)]),
    );
    const lines = [...this.arrows.values()].map(({ node }) => node);
    const labels = [...this.arrows.values()].map(({ label }) => label);
    const boxes = [...this.boxes.values()];
    const picture = svg(
      "svg",
      {
        viewBox: `0 0 ${layout.width} ${layout.height}`,
        width: layout.width,
        height: layout.height,
        role: "group",
        "aria-label": "Groups, and who calls whom. The arrow keys go from group to group.",
      },
      ...lines,
      ...boxes,
      ...labels,
    );
    setAttributes(picture, { "data-few": this.edges.length <= FEW });
    picture.addEventListener("keydown", (event) =>
      this.onKey(/** @type {KeyboardEvent} */ (event)),
    );
    this.place.replaceChildren(picture);
    const first = this.boxes.get(focused) ?? boxes[0];
    first.setAttribute("tabindex", "0");
    if (this.boxes.has(focused)) first.focus();
  }

  /** @param {import("./layout.js").Node} node */
  newBox({ group, column, x, y, width, height }) {
    const name = element("div", { class: "name" });
    setName(name, group);
    // HTML within the picture, since SVG's own text can't be cut off at the end of the box.
    const text = svg("foreignObject", { x: x + 8, y: y - height / 2, width: width - 16, height });
    text.append(element("div", { class: "box-text" }, name));
    const box = svg(
      "g",
      {
        class: "box",
        role: "img",
        tabindex: -1,
        "data-group": group,
        "data-box": JSON.stringify([column, group]),
      },
      svg("rect", { x, y: y - height / 2, width, height, rx: 7 }),
      text,
    );
    for (const kind of ["pointerenter", "focus"])
      box.addEventListener(kind, () => this.choose(group));
    for (const kind of ["pointerleave", "blur"])
      box.addEventListener(kind, () => this.choose(null));
    return box;
  }

  update() {
    for (const edge of this.edges) {
      const drawn = this.arrows.get(edgeKey(edge));
      const width = strokeWidth(edge.requests);
      setAttributes(drawn.node, { "data-kind": kindOf(edge) });
      setAttributes(drawn.line, { "stroke-width": width.toFixed(2) });
      setAttributes(drawn.head, { d: headPath(drawn.tip, drawn.direction, width) });
      setAttributes(drawn.label, { "data-kind": kindOf(edge) });
      setText(
        drawn.label,
        this.place.clientWidth < NARROW ? `${rate(edge.requests)}/s` : figures(edge),
      );
    }
    for (const box of this.boxes.values()) {
      const group = box.dataset.group;
      const gone = this.present !== null && !this.present.has(group);
      setAttributes(box, { "data-gone": gone, "aria-label": this.describe(group, gone) });
    }
  }

  /**
   * @param {string} group
   * @param {boolean} gone
   */
  describe(group, gone) {
    const calls = this.edges.filter(({ caller }) => caller === group);
    const called = this.edges.filter(({ callee }) => callee === group);
    const parts = [gone ? `${visible(group)}, not connected` : visible(group)];
    if (calls.length > 0)
      parts.push(
        `calls ${calls.map((edge) => `${visible(edge.callee)} ${figures(edge)}`).join(", ")}`,
      );
    if (called.length > 0)
      parts.push(
        `is called by ${called.map((edge) => `${visible(edge.caller)} ${figures(edge)}`).join(", ")}`,
      );
    return parts.join("; ");
  }

  /** @param {string | null} group whose arrows stand out; null for none */
  choose(group) {
    this.place.toggleAttribute("data-chosen", group !== null);
    for (const { arrow, node, label } of this.arrows.values()) {
      const related = arrow.caller === group || arrow.callee === group;
      node.classList.toggle("related", related);
      label.classList.toggle("related", related);
    }
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const boxes = [...this.boxes.values()];
    const at = boxes.indexOf(/** @type {SVGElement} */ (document.activeElement));
    const to = new Map([
      ["ArrowRight", at + 1],
      ["ArrowDown", at + 1],
      ["ArrowLeft", at - 1],
      ["ArrowUp", at - 1],
      ["Home", 0],
      ["End", boxes.length - 1],
    ]).get(event.key);
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const next = boxes[(to + boxes.length) % boxes.length];
    boxes[at].setAttribute("tabindex", "-1");
    next.setAttribute("tabindex", "0");
    next.focus();
  }
}
