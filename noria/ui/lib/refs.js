// @ts-check
/** From a ref (`run:0197…`, or `{kind, id}`) to where it is shown, what it is called and which icon stands for it. Pure. */

import { short } from './format.js';

/** @param {any} ref @returns {{kind: string, id: string}} */
export function parseRef(ref) {
  if (ref && typeof ref === 'object') return { kind: ref.kind ?? '', id: String(ref.id ?? '') };
  const text = String(ref ?? ''), at = text.indexOf(':');
  return at < 0 ? { kind: '', id: text } : { kind: text.slice(0, at), id: text.slice(at + 1) };
}

/** @param {any} ref */
export const refText = (ref) => { const { kind, id } = parseRef(ref); return kind ? `${kind}:${id}` : id; };

/** @type {Record<string, string>} */
const ICONS = {
  run: 'activity', experiment: 'layers', dataset: 'database', dataset_version: 'database', model: 'box', model_version: 'box', pipeline: 'workflow',
  pipeline_run: 'workflow', step_run: 'square', endpoint: 'radio-tower', revision: 'git-branch', canary: 'git-branch', monitor: 'gauge', alert: 'bell', window: 'chart-line',
  loop: 'iteration-cw', turn: 'iteration-cw', approval: 'shield-check', policy: 'shield-check', principal: 'user', user: 'user', token: 'key-round', job: 'server',
  segment: 'file', alias: 'crown', inference: 'fingerprint', checkpoint: 'lock', trigger: 'rocket', schedule: 'clock', system: 'shield-check', waiver: 'hand', legal_hold: 'lock', access_review: 'users', erasure: 'trash-2', incident: 'flag', group: 'users', webhook: 'rocket', channel: 'radio-tower', secret: 'lock', view: 'table', project: 'layers', manual: 'book-open', passport: 'fingerprint', report: 'file-text',
};
/** @param {string} kind */
export const iconOf = (kind) => ICONS[kind] ?? 'link';

/** The page of a ref, or null when it has none of its own. `dataset_version` and `model_version` accept `name@number` or an id.
 *  @param {any} ref @returns {string | null} */
export function pageOf(ref) {
  const { kind, id } = parseRef(ref);
  const e = encodeURIComponent;
  const [name, number] = id.includes('@') ? [id.slice(0, id.lastIndexOf('@')), id.slice(id.lastIndexOf('@') + 1)] : [id, ''];
  switch (kind) {
    case 'run': return `/runs/${e(id)}`;
    case 'experiment': return `/runs?experiment=${e(id)}`;
    case 'dataset': return `/datasets/${e(id)}`;
    case 'dataset_version': return number ? `/datasets/${e(name)}/${e(number)}` : `/go/dataset_version/${e(id)}`;
    case 'model': return `/models/${e(id)}`;
    case 'alias': return number ? `/models/${e(name)}` : null;
    case 'model_version': return number ? `/models/${e(name)}/${e(number)}` : `/go/model_version/${e(id)}`;
    case 'pipeline': return `/pipelines/${e(id)}`;
    case 'pipeline_run': return `/pipeline-runs/${e(id)}`;
    case 'endpoint': return `/endpoints/${e(id)}`;
    case 'monitor': return `/monitors/${e(id)}`;
    case 'alert': return `/alerts/${e(id)}`;
    case 'report': return `/reports/${e(id)}`;
    case 'loop': return `/loops/${e(id)}`;
    case 'inference': case 'prediction': return `/passports/${e(id)}`;
    case 'system': return `/compliance/${e(id)}`;
    case 'access_review': return `/compliance?tab=reviews&review=${e(id)}`;
    case 'erasure': return '/compliance?tab=erasures';
    case 'legal_hold': return '/compliance?tab=holds';
    case 'approval': return `/approvals?id=${e(id)}`;
    case 'policy': return '/approvals';
    case 'channel': return `/channels?channel=${e(id)}`;
    case 'webhook': return '/settings?tab=webhooks';
    case 'secret': return '/settings?tab=secrets';
    case 'view': return `/views/${e(id)}`;
    case 'project': return `/projects/${e(id)}`;
    default: return null;
  }
}

/** A word for a ref in a sentence. @param {any} ref @param {string} [label] */
export function nameOf(ref, label) {
  if (label) return label;
  const { kind, id } = parseRef(ref);
  const words = kind.replaceAll('_', ' ');
  return /^[0-9a-f]{32,64}$/.test(id) ? `${words} ${short(id)}` : ['model', 'dataset', 'endpoint', 'monitor', 'loop', 'pipeline', 'alias', 'system', 'project'].includes(kind) ? id : `${words} ${id}`.trim();
}
