// @ts-check
/** Finding things by name for the palette: the server says what holds the words typed, among what one may read; runs by their own filter. */

import { api, withQuery } from './api.js';
import { pageOf } from './refs.js';

/** @typedef {{kind: string, ref: string, label: string, detail?: string, href: string | null}} Found */

/** What is called so, best first. @param {string} text @param {AbortSignal} signal @returns {Promise<Found[]>} */
export async function search(text, signal) {
  const handle = parseHandle(text), kind = handle?.kind && handle.kind !== 'run' ? (handle.selector ? `${handle.kind}_version` : handle.kind) : '';
  const words = kind && handle ? (handle.selector ? `${handle.name}@` : handle.name) : text;
  const [named, runs] = await Promise.all([handle?.kind === 'run' ? [] : findNamed(words, kind, text, signal), findRuns(text, signal)]);
  const exact = handle?.kind && handle.selector ? [{ ref: `${handle.kind}_version:${handle.name}@${handle.selector}`, kind: `${handle.kind}_version`, label: `${handle.name}@${handle.selector}`, href: `/${handle.kind}s/${encodeURIComponent(handle.name)}/${encodeURIComponent(handle.selector)}` }] : [];
  return [...exact, ...named.filter((f) => f.ref !== exact[0]?.ref), ...runs];
}

/** `model:fraud@champion` in its parts; kind and selector may be missing. Pure. @param {string} text */
export function parseHandle(text) {
  const match = /^(?:([a-z_]+):)?([^@\s]+)(?:@([^\s@]*))?$/.exec(text.trim());
  return match ? { kind: match[1] ?? '', name: match[2], selector: match[3] ?? '' } : null;
}

/** Where something that was found is shown. Pure. @param {{kind: string, ref: string, href?: string}} found @returns {string | null} */
export function placeOf(found) {
  if (found.href) return found.href;
  if (found.kind === 'principal' || found.kind === 'group') return '/settings?tab=people';
  return pageOf(found.ref);
}

/** A word for a kind. Pure. @param {string} kind */
export const kindWord = (kind) => ({ principal: 'person', group: 'team', dataset_version: 'version', model_version: 'version' }[kind] ?? kind.replaceAll('_', ' '));

/** @param {string} words @param {string} kind @param {string} text @param {AbortSignal} signal @returns {Promise<Found[]>} */
async function findNamed(words, kind, text, signal) {
  try {
    const found = await api(withQuery('/search', { q: words, kind }), { signal });
    return found.items.map((/** @type {any} */ f) => ({ ...f, href: placeOf(f) })).filter((/** @type {Found} */ f) => f.href);
  } catch (error) {
    // A word before a colon that is no kind is a word like any other.
    if (kind && /** @type {any} */ (error).status === 400) return findNamed(text, '', text, signal);
    return [];
  }
}

/** @param {string} text @param {AbortSignal} signal @returns {Promise<Found[]>} */
async function findRuns(text, signal) {
  const q = text.trim().replace(/^run:/, '');
  if (/^[0-9a-f]{32}$/.test(q)) return [{ ref: `run:${q}`, kind: 'run', label: `run ${q.slice(-8)}`, href: `/runs/${q}` }, { ref: `inference:${q}`, kind: 'passport', label: `passport of prediction ${q.slice(-8)}`, href: `/passports/${q}` }];
  if (q.length < 2 || /['"%@:]/.test(q)) return [];
  try {
    const a = await api(withQuery('/runs', { filter: `attributes.run_name ILIKE '%${q}%'`, columns: 'name', limit: 6 }), { signal });
    return a.ids.map((/** @type {string} */ id, /** @type {number} */ i) => ({ ref: `run:${id}`, kind: 'run', label: a.columns.name?.[i] || id.slice(-8), href: `/runs/${id}` }));
  } catch { return []; }
}
