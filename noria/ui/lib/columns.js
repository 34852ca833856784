// @ts-check
/** A table held as columns: numbers in typed arrays, the rest in plain ones. Sorting gives an index and never moves a value,
 *  so that 10,000 rows × 40 columns cost one small array per gesture. Pure. */

/** @typedef {Float64Array & {nans?: Set<number>}} Numbers NaN stands for absence, except in the rows of `nans`: there it is what was logged */
/** @typedef {{ids: string[], columns: Record<string, Numbers | unknown[]>}} Table */

/** Reads the server's columnar answer. A metric, and any column whose present values are all numbers, becomes a Float64Array;
 *  "NaN", "Infinity" and "-Infinity" are numbers in a numeric column.
 *  @param {{ids: string[], columns: Record<string, unknown[]>}} answer @returns {Table} */
export function readTable(answer) {
  return { ids: answer.ids, columns: Object.fromEntries(Object.entries(answer.columns).map(([name, values]) => [name, columnOf(name, values)])) };
}

/** What a column holds in a row; null when it holds nothing. NaN is a value: a metric that diverged. @param {ArrayLike<unknown> | undefined} column @param {number} i @returns {any} */
export function valueAt(column, i) {
  const v = column?.[i];
  if (v === undefined) return null;
  return v !== v && !(/** @type {Numbers} */ (column).nans?.has(i)) ? null : v;
}

/** The same table with another page of rows behind it. @param {Table} a @param {Table} b @returns {Table} */
export function append(a, b) {
  /** @type {Table['columns']} */ const columns = {};
  for (const name of new Set([...Object.keys(a.columns), ...Object.keys(b.columns)])) {
    const left = a.columns[name] ?? new Array(a.ids.length).fill(null), right = b.columns[name] ?? new Array(b.ids.length).fill(null);
    columns[name] = columnOf(name, [...restore(left), ...restore(right)]);
  }
  return { ids: [...a.ids, ...b.ids], columns };
}

/** Row indices that pass, in the table's order. @param {Table} table @param {(i: number) => boolean} test */
export function select(table, test) {
  const out = new Uint32Array(table.ids.length);
  let n = 0;
  for (let i = 0; i < table.ids.length; i += 1) if (test(i)) out[n++] = i;
  return out.subarray(0, n);
}

/** Sorts row indices by one column, stably; in both directions NaN comes after the numbers and absence last, as on the server.
 *  @param {Uint32Array} rows @param {ArrayLike<unknown> | undefined} column @param {'asc' | 'desc'} order @returns {Uint32Array} */
export function sortRows(rows, column, order) {
  if (!column) return rows;
  const out = Uint32Array.from(rows);
  const sign = order === 'asc' ? 1 : -1;
  if (column instanceof Float64Array) {
    const { nans } = /** @type {Numbers} */ (column);
    const rank = (/** @type {number} */ i) => (column[i] === column[i] ? 0 : nans?.has(i) ? 1 : 2);
    return out.sort((a, b) => {
      const x = column[a], y = column[b];
      if (x !== x || y !== y) return rank(a) - rank(b) || a - b;
      return x === y ? a - b : sign * (x < y ? -1 : 1);
    });
  }
  return out.sort((a, b) => {
    const x = column[a], y = column[b];
    const nx = x === null || x === undefined, ny = y === null || y === undefined;
    if (nx || ny) return nx === ny ? a - b : nx ? 1 : -1;
    return sign * collate(String(x), String(y)) || a - b;
  });
}

/** @typedef {{group: string, count: number, open: boolean, rows: Uint32Array}} Group */

/** Rows under one header per value of a column; groups keep the order in which they first appear.
 *  @param {Uint32Array} rows @param {ArrayLike<unknown>} column @param {Set<string>} closed
 *  @returns {(Group | number)[]} */
export function groupRows(rows, column, closed) {
  /** @type {Map<string, number[]>} */ const groups = new Map();
  for (const i of rows) {
    const value = column[i];
    const key = value === null || value === undefined || value !== value ? '' : String(value);
    const list = groups.get(key);
    if (list) list.push(i); else groups.set(key, [i]);
  }
  /** @type {(Group | number)[]} */ const out = [];
  for (const [group, list] of groups) {
    const open = !closed.has(group);
    out.push({ group, count: list.length, open, rows: Uint32Array.from(list) });
    if (open) for (const i of list) out.push(i);
  }
  return out;
}

/** One number for a column of a group: its finite values' mean, median, min, max, sum or standard deviation; NaN when it has none.
 *  @param {ArrayLike<unknown> | undefined} column @param {Uint32Array} rows @param {string} how */
export function aggregate(column, rows, how) {
  if (!(column instanceof Float64Array)) return NaN;
  const values = Float64Array.from(rows, (i) => column[i]).filter(Number.isFinite);
  const n = values.length;
  if (!n) return NaN;
  if (how === 'median') { values.sort(); return n % 2 ? values[(n - 1) / 2] : (values[n / 2 - 1] + values[n / 2]) / 2; }
  let sum = 0, low = Infinity, high = -Infinity;
  for (const v of values) { sum += v; if (v < low) low = v; if (v > high) high = v; }
  if (how === 'min') return low;
  if (how === 'max') return high;
  if (how === 'sum') return sum;
  const mean = sum / n;
  if (how !== 'std') return mean;
  let squares = 0;
  for (const v of values) squares += (v - mean) ** 2;
  return n > 1 ? Math.sqrt(squares / (n - 1)) : NaN;
}

/** The table with more columns, matched by id. @param {Table} table @param {Table} more @returns {Table} */
export function addColumns(table, more) {
  const place = new Map(more.ids.map((id, i) => [id, i]));
  /** @type {Table['columns']} */ const columns = { ...table.columns };
  for (const [name, values] of Object.entries(more.columns)) {
    columns[name] = columnOf(name, table.ids.map((id) => { const i = place.get(id); return i === undefined ? null : plain(values, i); }));
  }
  return { ids: table.ids, columns };
}

/** The table with some rows read again: known ones replaced, new ones put first. Columns that were not read keep what they had.
 *  @param {Table} table @param {Table} fresh @returns {Table} */
export function patchRows(table, fresh) {
  const place = new Map(table.ids.map((id, i) => [id, i]));
  const added = fresh.ids.map((id, i) => (place.has(id) ? -1 : i)).filter((i) => i >= 0);
  /** @type {Table['columns']} */ const columns = {};
  for (const name of Object.keys(table.columns)) {
    const now = fresh.columns[name] ?? [], old = restore(table.columns[name]).slice();
    fresh.ids.forEach((id, i) => { const at = place.get(id); if (at !== undefined && now.length) old[at] = plain(now, i); });
    const joined = [...added.map((i) => plain(now, i)), ...old];
    columns[name] = table.columns[name] instanceof Float64Array && joined.every((v) => v === null || isNumber(v)) ? numbersOf(joined) : columnOf(name, joined);
  }
  return { ids: [...added.map((i) => fresh.ids[i]), ...table.ids], columns };
}

/** The table without these rows. @param {Table} table @param {Set<string>} gone @returns {Table} */
export function dropRows(table, gone) {
  const keep = table.ids.map((id, i) => (gone.has(id) ? -1 : i)).filter((i) => i >= 0);
  if (keep.length === table.ids.length) return table;
  return { ids: keep.map((i) => table.ids[i]), columns: Object.fromEntries(Object.entries(table.columns).map(([name, c]) => [name, c instanceof Float64Array ? numbersOf(keep.map((i) => plain(c, i))) : keep.map((i) => c[i])])) };
}

/** The row with the best value of a numeric column, or -1. @param {Uint32Array} rows @param {Float64Array} column @param {'low' | 'high'} better */
export function bestRow(rows, column, better) {
  let best = -1;
  for (const i of rows) {
    const v = column[i];
    if (!Number.isFinite(v)) continue;
    if (best < 0 || (better === 'low' ? v < column[best] : v > column[best])) best = i;
  }
  return best;
}

/** The rows to draw for a scroll position: never more than sixty.
 *  @param {number} scrollTop @param {number} height of the window @param {number} rowHeight @param {number} total */
export function windowOf(scrollTop, height, rowHeight, total) {
  const overscan = 6;
  const visible = Math.min(60 - 2 * overscan, Math.ceil(height / rowHeight) + 1);
  const first = Math.max(0, Math.min(total - visible, Math.floor(scrollTop / rowHeight)));
  return { from: Math.max(0, first - overscan), to: Math.min(total, first + visible + overscan) };
}

/** @type {Intl.Collator | null} */ let collator = null; // made when words are sorted: it takes longer than the whole first render
/** @param {string} a @param {string} b */
function collate(a, b) { collator ??= new Intl.Collator('en', { numeric: true }); return collator.compare(a, b); }

const NUMBER_WORDS = new Set(['NaN', 'Infinity', '-Infinity']);

/** Values as a column: typed when they are numbers. @param {string} name @param {ArrayLike<unknown>} values @returns {Numbers | unknown[]} */
function columnOf(name, values) {
  return name.startsWith('metrics.') || isNumeric(values) || (name.startsWith('params.') && isWritten(values)) ? numbersOf(values) : /** @type {unknown[]} */ (values);
}

/** @param {ArrayLike<unknown>} values as they come: null for absence, words for what JSON has no number for @returns {Numbers} */
function numbersOf(values) {
  if (values instanceof Float64Array) return values;
  const out = /** @type {Numbers} */ (Float64Array.from(values, toNumber));
  for (let i = 0; i < values.length; i += 1) if (values[i] === 'NaN') (out.nans ??= new Set()).add(i);
  return out;
}

/** @param {ArrayLike<unknown>} values */
function isNumeric(values) {
  if (values instanceof Float64Array) return true;
  let seen = false;
  for (let i = 0; i < values.length; i += 1) {
    const v = values[i];
    if (v === null || v === undefined) continue;
    if (!isNumber(v)) return false;
    if (typeof v === 'number') seen = true;
  }
  return seen;
}

/** @param {unknown} v */
function isNumber(v) { return typeof v === 'number' || NUMBER_WORDS.has(/** @type {any} */ (v)); }

/** Whether words are all numbers, as parameters are on the wire. @param {ArrayLike<unknown>} values */
function isWritten(values) {
  let seen = false;
  for (let i = 0; i < values.length; i += 1) {
    const v = values[i];
    if (v === null || v === undefined) continue;
    if (typeof v !== 'string' || !/^-?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(v)) return false;
    seen = true;
  }
  return seen;
}

/** @param {unknown} v */
function toNumber(v) {
  if (v === null || v === undefined) return NaN;
  return Number(v);
}

/** A column as it came, for making another of it. @param {ArrayLike<unknown>} column @returns {unknown[]} */
function restore(column) {
  return column instanceof Float64Array ? Array.from(column, (_, i) => plain(column, i)) : /** @type {unknown[]} */ (column);
}

/** One value as it came. @param {ArrayLike<unknown>} column @param {number} i */
function plain(column, i) {
  const v = valueAt(column, i);
  return v !== v ? 'NaN' : v;
}
