// The arrows of the picture: where they begin and end, their way, and their heads.

import { svg } from "./dom.js";

/** Length of an arrow's head. */
const HEAD = 8;

/** @typedef {{x: number, y: number}} Point */

/**
 * @typedef {object} Drawn an arrow on the page
 * @property {import("./layout.js").Arrow} arrow
 * @property {SVGElement} node
 * @property {SVGElement} line
 * @property {SVGElement} head
 * @property {SVGElement} label
 * @property {Point} tip
 * @property {number} direction of the head: 1 to the right, -1 to the left
 */

/**
 * The same rate always has the same width, so that arrows do not swell when others shrink.
 *
 * @param {number | null} requests
 */
export function strokeWidth(requests) {
  return 1.5 + 1.5 * Math.log10(1 + (requests ?? 0));
}

/**
 * @typedef {object} End where an arrow touches a box
 * @property {import("./layout.js").Node} node the box
 * @property {"left" | "right"} side
 * @property {number} towards the height of what is at the arrow's other end
 * @property {Point} point to be filled in
 */

/**
 * Spread the ends of arrows over the sides of the boxes, in the order of where they come from.
 *
 * @param {import("./layout.js").Arrow[]} arrows
 * @returns {Map<import("./layout.js").Arrow, {start: Point, end: Point}>}
 */
export function spreadEnds(arrows) {
  const ends = new Map(arrows.map((arrow) => [arrow, endsOf(arrow)]));
  const all = [...ends.values()].flatMap(({ start, end }) => [start, end]);
  const sides = Map.groupBy(all, ({ node, side }) => `${side} ${node.column} ${node.group}`);
  for (const some of sides.values()) {
    some.sort((a, b) => a.towards - b.towards);
    some.forEach(({ node, side, point }, index) => {
      point.x = node.x + (side === "right" ? node.width : 0);
      point.y = node.y + node.height * 0.8 * ((index + 0.5) / some.length - 0.5);
    });
  }
  return new Map(
    [...ends].map(([arrow, { start, end }]) => [arrow, { start: start.point, end: end.point }]),
  );
}

/**
 * @param {import("./layout.js").Arrow} arrow
 * @returns {{start: End, end: End}}
 */
function endsOf({ way, through }) {
  const [from, next] = through;
  const [before, to] = through.slice(-2);
  // A group's own call leaves above the middle and comes back below it.
  const own = from === to ? 1 : 0;
  return {
    start: {
      node: from,
      side: way === "left" ? "left" : "right",
      towards: next.y - own,
      point: { x: 0, y: 0 },
    },
    end: {
      node: to,
      side: way === "right" ? "left" : "right",
      towards: before.y + own,
      point: { x: 0, y: 0 },
    },
  };
}

/**
 * @param {Point} from
 * @param {Point} to
 */
function curve(from, to) {
  const bend = (to.x - from.x) * 0.45;
  return `C${from.x + bend} ${from.y} ${to.x - bend} ${to.y} ${to.x} ${to.y}`;
}

/**
 * @param {import("./layout.js").Arrow} arrow
 * @param {{start: Point, end: Point}} ends
 * @returns {{path: string, middle: Point, direction: number}}
 */
function route({ way, through }, { start, end }) {
  if (way === "around") {
    const bulge = 30 + Math.min(30, Math.abs(end.y - start.y) * 0.2);
    const far = Math.max(start.x, end.x) + bulge;
    return {
      path: `M${start.x} ${start.y}C${far} ${start.y} ${far} ${end.y} ${end.x + HEAD} ${end.y}`,
      middle: { x: start.x + bulge * 0.75 + 8, y: (start.y + end.y) / 2 },
      direction: -1,
    };
  }
  const direction = way === "right" ? 1 : -1;
  const points = [start];
  for (const place of through.slice(1, -1)) {
    const [near, far] =
      direction > 0 ? [place.x, place.x + place.width] : [place.x + place.width, place.x];
    points.push({ x: near, y: place.y }, { x: far, y: place.y });
  }
  points.push({ x: end.x - direction * HEAD, y: end.y });
  const path = points
    .slice(1)
    .map((point, index) => curve(points[index], point))
    .join("");
  const [a, b] = [points[0], points[1]];
  return {
    path: `M${start.x} ${start.y}${path}`,
    middle: { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 },
    direction,
  };
}

/**
 * @param {Point} tip
 * @param {number} direction
 * @param {number} width of the arrow's line
 */
export function headPath(tip, direction, width) {
  const half = 3.5 + width * 0.55;
  const back = tip.x - direction * (HEAD + 1);
  return `M${tip.x} ${tip.y}L${back} ${tip.y - half}L${back} ${tip.y + half}Z`;
}

/**
 * @param {import("./layout.js").Arrow} arrow
 * @param {{start: Point, end: Point}} ends
 * @returns {Drawn}
 */
export function newArrow(arrow, ends) {
  const { path, middle, direction } = route(arrow, ends);
  const line = svg("path", { class: "line", d: path });
  const head = svg("path", { class: "head" });
  const label = svg("text", {
    class: "label",
    x: middle.x,
    y: middle.y + 4,
    "text-anchor": arrow.way === "around" ? "start" : "middle",
    "aria-hidden": "true",
  });
  const node = svg(
    "g",
    {
      class: "arrow",
      "data-caller": arrow.caller,
      "data-callee": arrow.callee,
      "aria-hidden": "true",
    },
    line,
    head,
  );
  return { arrow, node, line, head, label, tip: ends.end, direction };
}
