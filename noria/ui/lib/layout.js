// @ts-check
/** Geometry of pictures: ticks of an axis, the span of a Gantt row, the places of a graph's nodes. Pure but for the lazy import. */

/** Round numbers that cover [low, high] in about `n` steps. @param {number} low @param {number} high @param {number} [n] @returns {number[]} */
export function niceTicks(low, high, n = 5) {
  if (!Number.isFinite(low) || !Number.isFinite(high)) return [];
  if (low === high) return [low];
  const raw = (high - low) / Math.max(1, n), power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw) ?? raw;
  const out = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) out.push(Math.abs(v) < step * 1e-9 ? 0 : Number(v.toPrecision(12)));
  return out;
}

/** Round spans of time within `ms`, from the start. @param {number} ms @param {number} [n] @returns {number[]} offsets in ms */
export function timeTicks(ms, n = 5) {
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 108e5, 216e5, 432e5, 864e5];
  const step = steps.find((s) => ms / s <= n) ?? 864e5 * Math.ceil(ms / 864e5 / n);
  const out = [];
  for (let t = 0; t <= ms; t += step) out.push(t);
  return out;
}

/** Left edge and width, in percent, of a span within a window. @param {number} start @param {number} end @param {{from: number, to: number}} window */
export function place(start, end, window) {
  const size = Math.max(1, window.to - window.from);
  const left = Math.max(0, Math.min(100, ((start - window.from) / size) * 100));
  return { left, width: Math.max(0.2, Math.min(100 - left, ((end - start) / size) * 100)) };
}

/** An SVG path through points, broken where y is not finite. @param {ArrayLike<number>} x @param {ArrayLike<number>} y */
export function linePath(x, y) {
  let d = '', pen = false;
  for (let i = 0; i < x.length; i += 1) {
    if (!Number.isFinite(y[i]) || !Number.isFinite(x[i])) { pen = false; continue; }
    d += `${pen ? 'L' : 'M'}${round(x[i])} ${round(y[i])}`;
    pen = true;
  }
  return d;
}

/** @typedef {{id: string, width?: number, height?: number}} Box */
/** @typedef {{width: number, height: number, nodes: Map<string, {x: number, y: number, width: number, height: number}>, edges: {from: string, to: string, d: string}[]}} Layout */

/** Layers of a directed graph, left to right or top down. Edges to unknown nodes are dropped.
 *  @param {Box[]} boxes @param {{from: string, to: string}[]} links @param {{direction?: 'LR' | 'TB'}} [options] @returns {Promise<Layout>} */
export async function layered(boxes, links, { direction = 'LR' } = {}) {
  const { Graph, layout } = /** @type {any} */ (await import('@dagrejs/dagre'));
  const g = new Graph();
  g.setGraph({ rankdir: direction, nodesep: 14, ranksep: 44, marginx: 2, marginy: 2 });
  g.setDefaultEdgeLabel(() => ({}));
  const known = new Set(boxes.map((b) => b.id));
  for (const b of boxes) g.setNode(b.id, { width: b.width ?? 190, height: b.height ?? 50 });
  for (const l of links) if (known.has(l.from) && known.has(l.to) && l.from !== l.to) g.setEdge(l.from, l.to);
  layout(g);
  /** @type {Layout['nodes']} */ const nodes = new Map();
  for (const id of g.nodes()) { const n = g.node(id); nodes.set(id, { x: n.x - n.width / 2, y: n.y - n.height / 2, width: n.width, height: n.height }); }
  const edges = g.edges().map((/** @type {{v: string, w: string}} */ e) => ({ from: e.v, to: e.w, d: curve(nodes.get(e.v), nodes.get(e.w), direction) }));
  const size = g.graph();
  return { width: size.width || 0, height: size.height || 0, nodes, edges };
}

/** @param {any} a @param {any} b @param {'LR' | 'TB'} direction */
function curve(a, b, direction) {
  const [x1, y1, x2, y2] = direction === 'LR'
    ? [a.x + a.width, a.y + a.height / 2, b.x, b.y + b.height / 2]
    : [a.x + a.width / 2, a.y + a.height, b.x + b.width / 2, b.y];
  if (direction === 'LR') { const m = Math.max(18, (x2 - x1) / 2); return `M${round(x1)} ${round(y1)}C${round(x1 + m)} ${round(y1)} ${round(x2 - m)} ${round(y2)} ${round(x2)} ${round(y2)}`; }
  const m = Math.max(14, (y2 - y1) / 2);
  return `M${round(x1)} ${round(y1)}C${round(x1)} ${round(y1 + m)} ${round(x2)} ${round(y2 - m)} ${round(x2)} ${round(y2)}`;
}

/** @param {number} v */
const round = (v) => Math.round(v * 100) / 100;
