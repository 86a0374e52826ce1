// Where the groups and the arrows between them stand: callers to the left of those they call.
//
// It is the usual way for such pictures (Sugiyama's): put the nodes in columns, give arrows that
// pass a column a place in it, order each column so that few arrows cross, then move the nodes
// towards their neighbours. Where there is no room for so many columns, as on a phone, there are
// two: the callers and the callees. The same calls always give the same picture.

/**
 * @typedef {object} Node
 * @property {string | null} group null for a place that an arrow takes in a column it passes
 * @property {number} column
 * @property {number} x its left edge
 * @property {number} y its centre
 * @property {number} width
 * @property {number} height
 * @property {Node[]} before its neighbours in the column to the left
 * @property {Node[]} after and to the right
 */

/**
 * @typedef {object} Arrow
 * @property {string} caller
 * @property {string} callee
 * @property {"right" | "left" | "around"} way to a column further on, further back, or the same one
 * @property {Node[]} through the nodes from the caller to the callee, with the places between
 */

/**
 * @typedef {object} Layout
 * @property {number} width
 * @property {number} height
 * @property {Node[]} nodes
 * @property {Arrow[]} arrows
 */

const SWEEPS = 8;
const COLUMN_GAP = { least: 84, most: 220 };
const NODE_WIDTH = { least: 100, most: 190 };
/** Room for arrows that lead around, within a column. */
const AROUND = 112;
/** From so many nodes in a column on they are drawn smaller. */
const CROWDED = 10;

/**
 * @param {{caller: string, callee: string}[]} edges
 * @param {number} width the space there is
 * @returns {Layout}
 */
export function layOut(edges, width) {
  const nodes = assignNodes(edges, width);
  /** @type {Node[]} */
  const places = [];
  const arrows = edges.map((edge) =>
    newArrow(edge, nodes.callers.get(edge.caller), nodes.callees.get(edge.callee), places),
  );
  const boxes = [...new Set([...nodes.callers.values(), ...nodes.callees.values()])];
  const grid = intoColumns([...boxes, ...places]);
  sortColumns(grid);
  const height = placeVertically(grid);
  const around = arrows.some(
    ({ way, through }) => way === "around" && through[0].column === grid.length - 1,
  );
  placeHorizontally(grid, width - (around ? AROUND : 0));
  return { width, height, nodes: boxes, arrows };
}

/**
 * @param {{caller: string, callee: string}[]} edges
 * @param {number} width
 * @returns {{callers: Map<string, Node>, callees: Map<string, Node>}} by their groups; with two
 *   columns a group that is both has two nodes
 */
function assignNodes(edges, width) {
  const columns = assignColumns(edges);
  if (Math.max(...columns.values()) < fitting(width)) {
    const nodes = new Map([...columns].map(([group, column]) => [group, newNode(group, column)]));
    return { callers: nodes, callees: nodes };
  }
  const side = (/** @type {string[]} */ groups, /** @type {number} */ column) =>
    new Map([...new Set(groups)].map((group) => [group, newNode(group, column)]));
  return {
    callers: side(
      edges.map(({ caller }) => caller),
      0,
    ),
    callees: side(
      edges.map(({ callee }) => callee),
      1,
    ),
  };
}

/**
 * @param {number} width
 * @returns {number} of columns
 */
function fitting(width) {
  return Math.floor((width + COLUMN_GAP.least) / (NODE_WIDTH.least + COLUMN_GAP.least));
}

/**
 * @param {string | null} group
 * @param {number} column
 * @returns {Node}
 */
function newNode(group, column) {
  return { group, column, x: 0, y: 0, width: 0, height: 0, before: [], after: [] };
}

/**
 * Each callee stands to the right of its callers, except where they call each other in a circle.
 *
 * @param {{caller: string, callee: string}[]} edges
 * @returns {Map<string, number>}
 */
function assignColumns(edges) {
  const callees = neighbours(edges);
  const order = topological(callees, edges);
  const position = new Map(order.map((group, index) => [group, index]));
  const columns = new Map(order.map((group) => [group, 0]));
  for (const group of order) {
    for (const callee of callees.get(group)) {
      if (position.get(callee) > position.get(group)) {
        columns.set(callee, Math.max(columns.get(callee), columns.get(group) + 1));
      }
    }
  }
  return columns;
}

/**
 * @param {{caller: string, callee: string}[]} edges
 * @returns {Map<string, string[]>} whom each group calls, by name
 */
function neighbours(edges) {
  /** @type {Map<string, string[]>} */
  const callees = new Map();
  for (const { caller, callee } of edges) {
    if (!callees.has(caller)) callees.set(caller, []);
    if (!callees.has(callee)) callees.set(callee, []);
    if (caller !== callee) callees.get(caller).push(callee);
  }
  for (const some of callees.values()) some.sort();
  return callees;
}

/**
 * Callers before callees; a circle is entered at the group that calls most and is called least.
 *
 * @param {Map<string, string[]>} callees
 * @param {{caller: string, callee: string}[]} edges
 * @returns {string[]}
 */
function topological(callees, edges) {
  const called = new Map([...callees.keys()].map((group) => [group, 0]));
  for (const { callee } of edges) called.set(callee, called.get(callee) + 1);
  const weight = (/** @type {string} */ group) => called.get(group) - callees.get(group).length;
  const roots = [...callees.keys()].sort((a, b) => {
    const sources = Number(called.get(a) > 0) - Number(called.get(b) > 0);
    return sources || weight(a) - weight(b) || (a < b ? -1 : 1);
  });
  /** @type {string[]} */
  const finished = [];
  const seen = new Set();
  const visit = (/** @type {string} */ group) => {
    if (seen.has(group)) return;
    seen.add(group);
    callees.get(group).forEach(visit);
    finished.push(group);
  };
  roots.forEach(visit);
  return finished.reverse();
}

/**
 * @param {{caller: string, callee: string}} edge
 * @param {Node} from
 * @param {Node} to
 * @param {Node[]} places is added to
 * @returns {Arrow}
 */
function newArrow({ caller, callee }, from, to, places) {
  if (from.column === to.column) return { caller, callee, way: "around", through: [from, to] };
  const [first, last] = from.column < to.column ? [from, to] : [to, from];
  const through = [first];
  for (let column = first.column + 1; column < last.column; column += 1) {
    const place = newNode(null, column);
    places.push(place);
    through.push(place);
  }
  through.push(last);
  for (let index = 1; index < through.length; index += 1) {
    through[index - 1].after.push(through[index]);
    through[index].before.push(through[index - 1]);
  }
  return first === from
    ? { caller, callee, way: "right", through }
    : { caller, callee, way: "left", through: through.reverse() };
}

/**
 * @param {Node[]} nodes
 * @returns {Node[][]}
 */
function intoColumns(nodes) {
  const number = Math.max(...nodes.map(({ column }) => column)) + 1;
  const grid = Array.from({ length: number }, () => /** @type {Node[]} */ ([]));
  for (const node of nodes) grid[node.column].push(node);
  for (const column of grid) column.sort((a, b) => ((a.group ?? "") < (b.group ?? "") ? -1 : 1));
  return grid;
}

/**
 * Order each column by the mean of its neighbours' places, to and fro.
 *
 * @param {Node[][]} grid
 */
function sortColumns(grid) {
  const rank = new Map();
  const number = (/** @type {Node[]} */ column) =>
    column.forEach((node, index) => rank.set(node, (index + 0.5) / column.length));
  grid.forEach(number);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const forth = sweep % 2 === 0;
    for (const column of forth ? grid.slice(1) : grid.slice(0, -1).reverse()) {
      const goal = new Map(
        column.map((node) => [
          node,
          mean(
            (forth ? node.before : node.after).map((other) => rank.get(other)),
            rank.get(node),
          ),
        ]),
      );
      column.sort((a, b) => goal.get(a) - goal.get(b));
      number(column);
    }
  }
}

/**
 * @param {number[]} values
 * @param {number} otherwise
 */
function mean(values, otherwise) {
  return values.length === 0
    ? otherwise
    : values.reduce((sum, value) => sum + value, 0) / values.length;
}

/**
 * @param {Node[][]} grid
 * @returns {number} the height that it takes
 */
function placeVertically(grid) {
  const crowded =
    Math.max(...grid.map((column) => column.filter(({ group }) => group !== null).length)) >
    CROWDED;
  const gap = crowded ? 9 : 18;
  for (const node of grid.flat()) node.height = node.group === null ? 6 : crowded ? 28 : 38;
  const heights = grid.map((column) => column.reduce((sum, { height }) => sum + height + gap, gap));
  const height = Math.max(...heights);
  grid.forEach((column, index) => {
    let y = (height - heights[index]) / 2 + gap;
    for (const node of column) {
      node.y = y + node.height / 2;
      y += node.height + gap;
    }
  });
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const forth = sweep % 2 === 0;
    for (const column of forth ? grid : [...grid].reverse()) pull(column, forth, height, gap);
  }
  return height;
}

/**
 * Move the nodes of a column towards their neighbours, as far as their order and the edges allow.
 *
 * @param {Node[]} column
 * @param {boolean} forth
 * @param {number} height
 * @param {number} gap
 */
function pull(column, forth, height, gap) {
  for (const node of column) {
    node.y = mean(
      (forth ? node.before : node.after).map(({ y }) => y),
      node.y,
    );
  }
  let edge = 0;
  for (const node of column) {
    node.y = Math.max(node.y, edge + gap + node.height / 2);
    edge = node.y + node.height / 2;
  }
  edge = height;
  for (const node of [...column].reverse()) {
    node.y = Math.min(node.y, edge - gap - node.height / 2);
    edge = node.y - node.height / 2;
  }
}

/**
 * @param {Node[][]} grid
 * @param {number} width
 */
function placeHorizontally(grid, width) {
  const gaps = Math.max(1, grid.length - 1);
  const share = (width - gaps * COLUMN_GAP.least) / grid.length;
  const nodeWidth = Math.max(NODE_WIDTH.least, Math.min(NODE_WIDTH.most, share));
  const gap = Math.min(COLUMN_GAP.most, Math.max(0, (width - grid.length * nodeWidth) / gaps));
  const left = Math.max(0, (width - grid.length * nodeWidth - (grid.length - 1) * gap) / 2);
  for (const node of grid.flat()) {
    node.width = nodeWidth;
    node.x = left + node.column * (nodeWidth + gap);
  }
}
