// @ts-check
/** Axes of parallel coordinates: a column becomes a share in [0, 1] of its range, logarithmic where the values span decades. Pure. */

import { num } from './format.js';

/** @typedef {{name: string, label: string, log: boolean, distinct: number, low: string, high: string, at: (row: number) => number, value: (share: number) => string}} Axis */

/** @param {string} name @param {ArrayLike<any>} column @param {Uint32Array} rows @returns {Axis} */
export function axisOf(name, column, rows) {
  const label = name.replace(/^(metrics|params)\./, '');
  const numbers = new Map();
  let numeric = true;
  const seen = new Set();
  for (const i of rows) {
    const v = column[i];
    if (v === null || v === undefined || v !== v) continue;
    const n = typeof v === 'number' ? v : v === '' ? NaN : Number(v);
    if (Number.isNaN(n)) numeric = false; else if (Number.isFinite(n)) numbers.set(i, n);
    if (seen.size < 2000) seen.add(v);
  }
  if (numeric && numbers.size) {
    let low = Infinity, high = -Infinity;
    for (const v of numbers.values()) { if (v < low) low = v; if (v > high) high = v; }
    const log = low > 0 && high / low > 100;
    const f = log ? Math.log10 : (/** @type {number} */ v) => v, back = log ? (/** @type {number} */ v) => 10 ** v : (/** @type {number} */ v) => v;
    const a = f(low), b = f(high) - a || 1;
    return { name, label, log, distinct: seen.size, low: num(low), high: num(high), at: (i) => (numbers.has(i) ? (f(numbers.get(i)) - a) / b : NaN), value: (t) => num(back(a + t * b)) };
  }
  const words = [...seen].map(String).sort((x, y) => x.localeCompare(y, 'en', { numeric: true }));
  const place = new Map(words.map((w, k) => [w, words.length < 2 ? 0.5 : k / (words.length - 1)]));
  return { name, label, log: false, distinct: words.length, low: words[0] ?? '', high: words[words.length - 1] ?? '', at: (i) => { const v = column[i]; return v === null || v === undefined ? NaN : place.get(String(v)) ?? NaN; }, value: (t) => words[Math.round(t * (words.length - 1))] ?? '' };
}

/** The rows inside every brush. @param {Axis[]} axes @param {Uint32Array} rows @param {Record<string, [number, number]>} brushes */
export function passes(axes, rows, brushes) {
  const active = axes.filter((a) => brushes[a.name]);
  return rows.filter((i) => active.every((a) => { const t = a.at(i), [lo, hi] = brushes[a.name]; return t >= lo && t <= hi; }));
}
