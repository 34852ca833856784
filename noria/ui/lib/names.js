// @ts-check
/** What things are called. A ref carries an id; people know names. The facts about a thing name it, so they are asked, once. */

import { signal } from '@preact/signals-core';
import { api, withQuery } from './api.js';
import { parseRef } from './refs.js';
import { short } from './format.js';

/** @typedef {{label: string, href: string | null, state?: string}} Named */

/** @type {Map<string, import('@preact/signals-core').Signal<Named | null>>} */
const known = new Map();
const RESOLVED = new Set(['run', 'dataset_version', 'model_version', 'revision', 'pipeline_run', 'alert', 'experiment', 'step_run', 'approval', 'turn', 'principal', 'logged_model', 'report']);

/** The name and page of a ref, or null until they are known. Reading it subscribes. @param {any} ref @returns {Named | null} */
export function named(ref) {
  const { kind, id } = parseRef(ref);
  if (!RESOLVED.has(kind) || !/^[0-9a-f]{32}$/.test(id)) return null;
  const key = `${kind}:${id}`;
  let found = known.get(key);
  if (!found) { found = signal(null); known.set(key, found); ask(key, found); }
  return found.value;
}

/** @param {string} key @param {import('@preact/signals-core').Signal<Named | null>} into */
async function ask(key, into) {
  try {
    const { items } = await api(withQuery('/events', { subject: key, limit: 20 }));
    into.value = nameFromFacts(key, items);
  } catch { /* The short id stays; what one may not know keeps its name. */ }
}

/** Reads a thing's name out of the facts about it. Pure. @param {string} key @param {{kind: string, data: any}[]} facts @returns {Named | null} */
export function nameFromFacts(key, facts) {
  const { kind, id } = parseRef(key), e = encodeURIComponent;
  const data = Object.assign({}, ...facts.map((f) => f.data).reverse());
  switch (kind) {
    case 'run': return data.name ? { label: data.name, href: `/runs/${id}` } : null;
    case 'experiment': return data.name ? { label: data.name, href: `/runs?experiment=${id}` } : null;
    case 'dataset_version': return data.dataset ? { label: `${data.dataset}@${data.number}`, href: `/datasets/${e(data.dataset)}/${data.number}` } : null;
    case 'model_version': return data.model ? { label: `${data.model}@${data.number}`, href: `/models/${e(data.model)}/${data.number}` } : null;
    case 'revision': return data.endpoint ? { label: `${data.endpoint}: ${data.model ? `${data.model}@` : 'version '}${data.version}`, href: `/endpoints/${e(data.endpoint)}` } : null;
    case 'pipeline_run': return data.pipeline ? { label: `${data.pipeline} ${short(id)}`, href: `/pipeline-runs/${id}` } : null;
    case 'step_run': return data.step ? { label: data.step, href: data.run_id ? `/pipeline-runs/${data.run_id}?step=${id}` : null } : null;
    case 'alert': return data.monitor ? { label: `alert of ${data.monitor}`, href: `/alerts/${id}` } : null;
    case 'turn': return data.loop ? { label: `turn${data.number ? ` ${data.number}` : ''} of ${data.loop}`, href: `/loops/${e(data.loop)}` } : null;
    case 'logged_model': return data.name ? { label: data.name, href: data.run_id ? `/runs/${data.run_id}?tab=files` : null } : null;
    case 'report': return data.title ? { label: data.title, href: `/reports/${id}` } : null;
    case 'approval': return data.action ? { label: `approval of ${String(data.action).replace('.', ' ')}`, href: '/approvals' } : null;
    default: return data.name ? { label: data.name, href: null } : null;
  }
}
