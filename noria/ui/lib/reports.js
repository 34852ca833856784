// @ts-check
/** Blocks of a report: the kinds there are, moving them about, and which facts concern them. Pure. */

/** @typedef {{id: string, kind: string, title: string, [key: string]: any}} ReportBlock */

/** Kind, title, icon, and what a new one holds. @type {[string, string, string, Record<string, any>][]} */
export const KINDS = [
  ['text', 'Text', 'file-text', { text: '' }],
  ['curves', 'Curves', 'chart-line', { metrics: [], runs: [], experiment: '', filter: '', order_by: '', limit: 8, x: 'step', log: false, smooth: 0 }],
  ['runs', 'Table of runs', 'table', { experiment: '', filter: '', order_by: '', columns: [], limit: 20 }],
  ['model', 'Model', 'box', { model: '', version: 'latest' }],
  ['dataset', 'Dataset', 'database', { dataset: '', version: 'latest', against: '' }],
  ['monitor', 'Monitor', 'gauge', { monitor: '' }],
  ['endpoint', 'Endpoint', 'radio-tower', { endpoint: '', span: '24h' }],
];

/** @param {string} kind @param {string} id @returns {ReportBlock} */
export function newBlock(kind, id) {
  const found = KINDS.find(([k]) => k === kind);
  if (!found) throw new Error(`There is no block of kind ${kind}.`);
  return { id, kind, title: '', ...structuredClone(found[3]) };
}

/** Whether a block says what it shows. @param {ReportBlock} b */
export function isComplete(b) {
  const named = /** @type {Record<string, (b: any) => boolean>} */ ({ curves: (x) => x.metrics.length > 0, model: (x) => Boolean(x.model), dataset: (x) => Boolean(x.dataset), monitor: (x) => Boolean(x.monitor), endpoint: (x) => Boolean(x.endpoint) });
  return named[b.kind]?.(b) ?? true;
}

/** @param {ReportBlock[]} blocks @param {number} at @param {ReportBlock} block */
export const inserted = (blocks, at, block) => [...blocks.slice(0, at), block, ...blocks.slice(at)];

/** @param {ReportBlock[]} blocks @param {string} id @param {number} by */
export function moved(blocks, id, by) {
  const at = blocks.findIndex((b) => b.id === id), to = at + by;
  if (at < 0 || to < 0 || to >= blocks.length) return blocks;
  const rest = blocks.filter((b) => b.id !== id);
  return inserted(rest, to, blocks[at]);
}

/** @param {ReportBlock[]} blocks @param {string} id @param {Record<string, any>} changes */
export const changed = (blocks, id, changes) => blocks.map((b) => (b.id === id ? { ...b, ...changes } : b));

/** What a panel is called when nobody named it. @param {ReportBlock} b */
export function titleOf(b) {
  if (b.title) return b.title;
  switch (b.kind) {
    case 'curves': return `${b.metrics.join(', ') || 'Curves'}${b.experiment && !b.runs.length ? ` of ${b.experiment}` : ''}`;
    case 'runs': return b.experiment ? `Runs of ${b.experiment}` : 'Runs';
    case 'model': return `${b.model || 'Model'}@${b.version}`;
    case 'dataset': return b.against ? `${b.dataset}: from @${b.against} to @${b.version}` : `${b.dataset || 'Dataset'}@${b.version}`;
    case 'monitor': return b.monitor || 'Monitor';
    case 'endpoint': return b.endpoint || 'Endpoint';
    default: return '';
  }
}

/** What makes a panel read itself again: facts, ticks, and for what has neither, time. @param {ReportBlock} b @returns {{kinds?: string[], ticks?: string[], every?: number}} */
export function interestOf(b) {
  switch (b.kind) {
    case 'curves': case 'runs': return { kinds: ['run.'], ticks: ['run:*'] };
    case 'model': return { kinds: ['model_version.'] };
    case 'dataset': return { kinds: ['dataset_version.', 'dataset_profile.'] };
    case 'monitor': return { kinds: ['monitor.', 'alert.', 'window.'] };
    case 'endpoint': return { kinds: ['endpoint.', 'canary.'], ticks: [`endpoint:${b.endpoint}`], every: 15_000 };
    default: return {};
  }
}

/** Columns named in words: `metrics.auc, params.lr`. @param {string} text */
export const listed = (text) => [...new Set(text.split(/[\s,]+/).filter(Boolean))];
