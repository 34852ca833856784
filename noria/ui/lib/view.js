// @ts-check
/** What a table of runs shows, as the query of its address and back: a link is a view, and a saved view is a link with a name. Pure. */

/** The parts of an address that a saved view keeps; the selection is not one of them. */
export const PARTS = ['filter', 'q', 'stage', 'sort', 'group', 'agg', 'cols', 'pin', 'w', 'draw', 'x', 'log', 'smooth'];
export const WIDTH_MIN = 56, WIDTH_MAX = 640;

/** @param {{get: (key: string) => string | null}} query @returns {Record<string, string>} */
export function specOf(query) {
  /** @type {Record<string, string>} */ const spec = {};
  for (const part of PARTS) { const v = query.get(part); if (v) spec[part] = v; }
  return spec;
}

/** @param {Record<string, string>} a @param {Record<string, string>} b */
export function sameSpec(a, b) { return PARTS.every((p) => (a[p] ?? '') === (b[p] ?? '')); }

/** The changes of an address that show a saved view and nothing else. @param {{id: string, scope: string, spec: Record<string, string>}} view @returns {Record<string, string | null>} */
export function changesFor(view) {
  return { ...Object.fromEntries(PARTS.map((p) => [p, view.spec[p] ?? null])), saved: view.id, experiment: view.scope || null, sel: null, closed: null };
}

/** @param {string | null} text @returns {string[]} */
export function listOf(text) { return (text ?? '').split(',').filter(Boolean); }

/** Widths as `metrics.loss~140,name~220`. @param {string | null} text @returns {Record<string, number>} */
export function widthsOf(text) {
  return Object.fromEntries(listOf(text).map((part) => { const cut = part.lastIndexOf('~'); return [part.slice(0, cut), clampWidth(Number(part.slice(cut + 1)))]; }).filter(([name, w]) => name && Number.isFinite(/** @type {number} */ (w))));
}
/** @param {Record<string, number>} widths */
export function writeWidths(widths) { return Object.entries(widths).map(([name, w]) => `${name}~${Math.round(w)}`).join(','); }
/** @param {number} width */
export function clampWidth(width) { return Math.max(WIDTH_MIN, Math.min(WIDTH_MAX, width)); }

/** Pinned columns first, each group in its order; the name of the run is always the first. @param {string[]} cols @param {string[]} pins */
export function arrange(cols, pins) {
  const pinned = cols.filter((c) => c !== 'name' && pins.includes(c)), rest = cols.filter((c) => c !== 'name' && !pins.includes(c));
  return [...(cols.includes('name') ? ['name'] : []), ...pinned, ...rest];
}

/** The columns with one of them moved to where another is. @param {string[]} cols @param {string} name @param {string} target */
export function moveTo(cols, name, target) {
  const from = cols.indexOf(name), to = cols.indexOf(target);
  if (from < 0 || to < 0 || from === to) return cols;
  const out = cols.filter((c) => c !== name);
  out.splice(to, 0, name);
  return out;
}

/** The columns with one of them moved by so many places. @param {string[]} cols @param {string} name @param {number} by */
export function moveBy(cols, name, by) {
  const from = cols.indexOf(name), to = Math.max(cols[0] === 'name' ? 1 : 0, Math.min(cols.length - 1, from + by));
  return from < 0 || name === 'name' ? cols : moveTo(cols, name, cols[to]);
}

/** Turns one name in a list on or off. @param {string[]} list @param {string} name */
export function toggle(list, name) { return list.includes(name) ? list.filter((x) => x !== name) : [...list, name]; }

/** `metrics.loss:asc` in its parts. @param {string | null} text @returns {{name: string, order: 'asc' | 'desc'}} */
export function sortOf(text) {
  const [name, order] = (text || 'started_at_ms:desc').split(/:(?=asc$|desc$)/);
  return { name, order: order === 'asc' ? 'asc' : 'desc' };
}

/** The columns that are needed to show, sort, group and find what an address asks for. @param {{cols: string[], sort: string, group: string, words: string[]}} view */
export function needed({ cols, sort, group, words }) {
  const real = (/** @type {string} */ n) => (n === 'duration_ms' ? ['started_at_ms', 'ended_at_ms'] : [n]);
  return [...new Set(['name', 'status', 'started_at_ms', 'ended_at_ms', ...cols.flatMap(real), ...real(sort), ...(group ? real(group) : []), ...words.flatMap(real)])];
}

/** The usual columns, from what the latest runs have: the most used metrics people mean, attributes, then params that most runs have.
 *  @param {{name: string, runs: number}[]} catalogue most used first @param {number} runs */
export function usual(catalogue, runs) {
  const of = (/** @type {string} */ kind) => catalogue.filter((c) => c.name.startsWith(kind) && c.runs * 2 > runs).map((c) => c.name);
  const loose = (/** @type {string} */ kind) => catalogue.filter((c) => c.name.startsWith(kind)).map((c) => c.name);
  const metrics = (of('metrics.').length ? of('metrics.') : loose('metrics.')).sort((a, b) => weight(a.slice(8)) - weight(b.slice(8))).slice(0, 4);
  const params = (of('params.').length ? of('params.') : loose('params.')).slice(0, 5);
  return ['name', 'status', ...metrics, 'started_at_ms', 'duration_ms', 'user', ...params];
}

/** Lower is earlier: validation, then the words people mean; system metrics last. @param {string} key */
export function weight(key) {
  const k = key.toLowerCase();
  if (k.startsWith('system/')) return 900;
  if (/^(val|valid|test|eval)/.test(k)) return 100;
  if (/(loss|auc|acc|f1|mae|rmse)/.test(k)) return 200;
  return 300;
}
