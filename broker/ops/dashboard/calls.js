// Who calls whom: the picture, and the same as a table.

import { byId, newRow, reconcile, setAttributes, setHead, setName, setText } from "./dom.js";
import { count, counted, rate } from "./format.js";
import { Picture, edgeKey } from "./picture.js";

const COLUMNS = [
  { label: "Caller", text: true },
  { label: "Callee", text: true },
  { label: "Requests/s" },
  { label: "Errors/s" },
  { label: "Requests in all" },
  { label: "Errors in all" },
];

/** So many arrows can be told apart. */
const DRAWN = 60;

/**
 * @param {any} a
 * @param {any} b
 */
function byNames(a, b) {
  return a.caller.localeCompare(b.caller) || a.callee.localeCompare(b.callee);
}

export class Calls {
  constructor() {
    this.picture = new Picture(byId("picture"));
    this.rows = byId("calls-rows");
    setHead(byId("calls-head"), COLUMNS);
    /** Keys of the edges that are in the picture. */
    this.drawn = new Set();
  }

  /** @param {any} snapshot */
  draw({ edges, edges_left_out: leftOut, groups, groups_left_out: groupsLeftOut }) {
    byId("calls-empty").hidden = edges.length > 0;
    byId("calls").hidden = edges.length === 0;
    const chosen = this.choose(edges);
    setText(byId("calls-note"), this.note(chosen.length, edges.length, leftOut));
    const present = new Set(groups.map((/** @type {any} */ { group }) => group)).add("(other)");
    this.picture.draw(chosen, groupsLeftOut === 0 ? present : null);
    reconcile(this.rows, [...edges].sort(byNames), edgeKey, () => newRow(COLUMNS), updateRow);
  }

  /**
   * The busiest come first. What is in the picture stays there as long as it is told of, so that
   * the picture does not change with every breath.
   *
   * @param {any[]} edges
   */
  choose(edges) {
    const staying = edges.filter((edge) => this.drawn.has(edgeKey(edge)));
    const fresh = edges.filter((edge) => !this.drawn.has(edgeKey(edge)));
    const chosen = [...staying, ...fresh].slice(0, DRAWN);
    this.drawn = new Set(chosen.map(edgeKey));
    return chosen;
  }

  /**
   * @param {number} drawn
   * @param {number} told
   * @param {number} leftOut
   */
  note(drawn, told, leftOut) {
    if (told === 0) return "";
    const parts = [counted(told + leftOut, "pair")];
    if (drawn < told) parts.push(`${drawn} in the picture`);
    if (leftOut > 0) parts.push(`${count(leftOut)} of the quietest left out`);
    return parts.join(", ");
  }
}

/**
 * @param {any} row
 * @param {any} edge
 */
function updateRow(row, edge) {
  const [caller, callee, requests, errors, requestsTotal, errorsTotal] = row.cells;
  setName(caller, edge.caller);
  setName(callee, edge.callee);
  setText(requests, rate(edge.requests));
  setText(errors, rate(edge.errors));
  setAttributes(errors, { "data-bad": edge.errors > 0 });
  setText(requestsTotal, count(edge.requests_total));
  setText(errorsTotal, count(edge.errors_total));
}
