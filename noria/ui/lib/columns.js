// @ts-check
/** A table held as columns: numbers in typed arrays, the rest in plain ones. Sorting gives an index and never moves a value,
 *  so that 10,000 rows × 40 columns cost one small array per gesture. Pure. */

/** @typedef {{ids: string[], columns: Record<string, Float64Array | unknown[]>}} Table */

/** Reads the server's columnar answer. A column whose present values are all numbers becomes a Float64Array with NaN for absence;
 *  "NaN", "Infinity" and "-Infinity" are numbers in a numeric column.
 *  @param {{ids: string[], columns: Record<string, unknown[]>}} answer @returns {Table} */
export function readTable(answer) {
  /** @type {Table['columns']} */ const columns = {};
  for (const [name, values] of Object.entries(answer.columns)) columns[name] = isNumeric(values) || (name.startsWith('params.') && isWritten(values)) ? Float64Array.from(values, toNumber) : values;
  return { ids: answer.ids, columns };
}

/** The same table with another page of rows behind it. @param {Table} a @param {Table} b @returns {Table} */
export function append(a, b) {
  /** @type {Table['columns']} */ const columns = {};
  for (const name of new Set([...Object.keys(a.columns), ...Object.keys(b.columns)])) {
    const left = a.columns[name] ?? new Array(a.ids.length).fill(null), right = b.columns[name] ?? new Array(b.ids.length).fill(null);
    const joined = [...restore(left), ...restore(right)];
    columns[name] = isNumeric(joined) ? Float64Array.from(joined, toNumber) : joined;
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

/** Sorts row indices by one column, stably; absence (NaN, null) comes last in both directions.
 *  @param {Uint32Array} rows @param {ArrayLike<unknown> | undefined} column @param {'asc' | 'desc'} order @returns {Uint32Array} */
export function sortRows(rows, column, order) {
  if (!column) return rows;
  const out = Uint32Array.from(rows);
  const sign = order === 'asc' ? 1 : -1;
  if (column instanceof Float64Array) {
    return out.sort((a, b) => {
      const x = column[a], y = column[b];
      const nx = x !== x, ny = y !== y;
      if (nx || ny) return nx === ny ? a - b : nx ? 1 : -1;
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
    if (values instanceof Float64Array) columns[name] = Float64Array.from(table.ids, (id) => { const i = place.get(id); return i === undefined ? NaN : values[i]; });
    else columns[name] = table.ids.map((id) => { const i = place.get(id); return i === undefined ? null : values[i]; });
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
    fresh.ids.forEach((id, i) => { const at = place.get(id); if (at !== undefined && now.length) old[at] = restoreOne(now[i]); });
    const joined = [...added.map((i) => restoreOne(now[i])), ...old];
    columns[name] = table.columns[name] instanceof Float64Array && joined.every((v) => v === null || v === undefined || typeof v === 'number') ? Float64Array.from(joined, toNumber) : isNumeric(joined) ? Float64Array.from(joined, toNumber) : joined;
  }
  return { ids: [...added.map((i) => fresh.ids[i]), ...table.ids], columns };
}

/** The table without these rows. @param {Table} table @param {Set<string>} gone @returns {Table} */
export function dropRows(table, gone) {
  const keep = table.ids.map((id, i) => (gone.has(id) ? -1 : i)).filter((i) => i >= 0);
  if (keep.length === table.ids.length) return table;
  return { ids: keep.map((i) => table.ids[i]), columns: Object.fromEntries(Object.entries(table.columns).map(([name, c]) => [name, c instanceof Float64Array ? Float64Array.from(keep, (i) => c[i]) : keep.map((i) => c[i])])) };
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

const collator = new Intl.Collator('en', { numeric: true });
/** @param {string} a @param {string} b */
function collate(a, b) { return collator.compare(a, b); }

const NUMBER_WORDS = new Set(['NaN', 'Infinity', '-Infinity']);

/** @param {ArrayLike<unknown>} values */
function isNumeric(values) {
  if (values instanceof Float64Array) return true;
  let seen = false;
  for (let i = 0; i < values.length; i += 1) {
    const v = values[i];
    if (v === null || v === undefined) continue;
    if (typeof v === 'number') { seen = true; continue; }
    if (typeof v === 'string' && NUMBER_WORDS.has(v)) continue;
    return false;
  }
  return seen;
}

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

/** @param {ArrayLike<unknown>} column */
function restore(column) {
  return column instanceof Float64Array ? Array.from(column, (v) => (v !== v ? null : v)) : /** @type {unknown[]} */ (column);
}

/** @param {unknown} v */
function restoreOne(v) { return v === undefined || v !== v ? null : v; }
