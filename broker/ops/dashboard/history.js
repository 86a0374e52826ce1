// What the page remembers: each figure's last minutes, and the little curves drawn of them.

import { setAttributes, svg } from "./dom.js";

/** Seconds. */
export const KEPT = 300;

/** Seconds between two points beyond which there is a gap, not a line. */
const GAP = 5;

/** The curves' own coordinates; they are stretched to the space there is. */
const WIDTH = 300;
const HEIGHT = 40;

export class Series {
  constructor() {
    /** @type {{time: number, value: number}[]} */
    this.points = [];
  }

  /**
   * @param {number} time seconds since 1970
   * @param {number | null} value null where nothing was measured
   */
  add(time, value) {
    // After a restart the clock of another machine may go behind.
    if (this.points.length > 0 && time <= this.points[this.points.length - 1].time)
      this.points = [];
    if (value !== null && value !== undefined) this.points.push({ time, value });
    while (this.points.length > 0 && this.points[0].time < time - KEPT) this.points.shift();
  }

  /** @returns {number | null} the highest of all that is kept */
  get peak() {
    return this.points.length === 0 ? null : Math.max(...this.points.map(({ value }) => value));
  }

  /** @returns {number} by how much a count is higher than it was */
  get growth() {
    return this.points.length === 0
      ? 0
      : this.points[this.points.length - 1].value - this.points[0].value;
  }

  /**
   * @param {number} end the time at the right edge
   * @param {number} top the value at the upper edge
   * @returns {{x: number, y: number}[][]} pieces without a gap
   */
  pieces(end, top) {
    /** @type {{x: number, y: number}[][]} */
    const pieces = [];
    let before = -Infinity;
    for (const { time, value } of this.points) {
      if (time - before > GAP) pieces.push([]);
      before = time;
      pieces[pieces.length - 1].push({
        x: WIDTH * (1 - (end - time) / KEPT),
        // A pixel at either edge, so that a line there is not cut in half.
        y: HEIGHT - 1 - (HEIGHT - 2) * Math.min(1, value / top),
      });
    }
    return pieces;
  }
}

/** @param {{x: number, y: number}[]} piece */
function line(piece) {
  return `M${piece.map(({ x, y }) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`;
}

/** @param {{x: number, y: number}[]} piece */
function area(piece) {
  const [first, last] = [piece[0], piece[piece.length - 1]];
  return `${line(piece)}L${last.x.toFixed(1)} ${HEIGHT}L${first.x.toFixed(1)} ${HEIGHT}Z`;
}

/** One curve, or two: the second one, thinner, above the first. */
export class Sparkline {
  constructor() {
    this.fill = svg("path", { class: "fill" });
    this.main = svg("path", { class: "line" });
    this.upper = svg("path", { class: "line upper" });
    this.node = svg(
      "svg",
      {
        class: "spark",
        viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
        preserveAspectRatio: "none",
        "aria-hidden": "true",
      },
      this.fill,
      this.upper,
      this.main,
    );
  }

  /**
   * @param {number} end the time at the right edge
   * @param {Series} main
   * @param {Series | null} upper
   * @param {number | null} top the value at the upper edge; null for the highest there is
   */
  draw(end, main, upper = null, top = null) {
    const highest = top ?? (Math.max(main.peak ?? 0, upper?.peak ?? 0) || 1);
    const pieces = main.pieces(end, highest);
    setAttributes(this.fill, { d: pieces.map(area).join("") });
    setAttributes(this.main, { d: pieces.map(line).join("") });
    if (upper !== null)
      setAttributes(this.upper, { d: upper.pieces(end, highest).map(line).join("") });
  }
}
