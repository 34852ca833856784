// @ts-check
/** Finding things by name for the palette: the lists there are, read once a minute, ranked here; runs by name are asked of the server. */

import { api, withQuery } from './api.js';
import { rank } from './rank.js';

/** @typedef {{ref: string, kind: string, label: string, href?: string}} Found */

const LISTS = /** @type {[string, string][]} */ ([['model', '/models'], ['dataset', '/datasets'], ['pipeline', '/pipelines'], ['endpoint', '/endpoints'], ['monitor', '/monitors'], ['loop', '/loops'], ['experiment', '/experiments']]);
/** @type {{at: number, items: Promise<Found[]>} | null} */
let known = null;

/** @param {string} text @param {AbortSignal} signal @returns {Promise<Found[]>} */
export async function search(text, signal) {
  const handle = parseHandle(text);
  if (!known || Date.now() - known.at > 60_000) known = { at: Date.now(), items: readLists() };
  const [items, runs] = await Promise.all([known.items, findRuns(text, signal)]);
  const wanted = handle?.kind ? items.filter((f) => f.kind === handle.kind) : items;
  const found = rank(handle?.name ?? text, wanted, (f) => f.label);
  const exact = handle?.selector ? found.slice(0, 1).map((f) => ({ ref: `${f.kind}_version:${f.label}@${handle.selector}`, kind: f.kind, label: `${f.label}@${handle.selector}`, href: `/${f.kind}s/${encodeURIComponent(f.label)}/${encodeURIComponent(handle.selector)}` })) : [];
  return [...exact, ...found.slice(0, 8), ...runs];
}

/** `model:fraud@champion` in its parts; kind and selector may be missing. Pure. @param {string} text */
export function parseHandle(text) {
  const match = /^(?:([a-z_]+):)?([^@\s]+)(?:@([^\s@]*))?$/.exec(text.trim());
  return match ? { kind: match[1] ?? '', name: match[2], selector: match[3] ?? '' } : null;
}

/** @returns {Promise<Found[]>} */
async function readLists() {
  const answers = await Promise.all(LISTS.map(([kind, path]) => api(`${path}?limit=200`).then((a) => (a.items ?? []).map((/** @type {any} */ x) => ({ kind, label: x.name ?? x.spec?.name ?? '', ref: `${kind}:${kind === 'experiment' ? x.id : x.name ?? x.spec?.name}` })), () => [])));
  return answers.flat();
}

/** @param {string} text @param {AbortSignal} signal @returns {Promise<Found[]>} */
async function findRuns(text, signal) {
  const q = text.trim().replace(/^run:/, '');
  if (/^[0-9a-f]{32}$/.test(q)) return [{ ref: `run:${q}`, kind: 'run', label: `run ${q.slice(-8)}` }, { ref: `inference:${q}`, kind: 'passport', label: `passport of prediction ${q.slice(-8)}`, href: `/passports/${q}` }];
  if (q.length < 2 || /['"%@:]/.test(q)) return [];
  try {
    const a = await api(withQuery('/runs', { filter: `attributes.run_name ILIKE '%${q}%'`, columns: 'name', limit: 6 }), { signal });
    return a.ids.map((/** @type {string} */ id, /** @type {number} */ i) => ({ ref: `run:${id}`, kind: 'run', label: a.columns.name?.[i] || id.slice(-8) }));
  } catch { return []; }
}
