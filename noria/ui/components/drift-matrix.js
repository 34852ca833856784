// @ts-check
/** Columns by statistics for one window: what moved, how far, whether chance explains it, and what it does to the loss. */

import { html } from './html.js';
import { Block } from './page.js';
import { Show } from './empty.js';
import { State } from './state.js';
import { Table } from './table.js';
import { Num } from './values.js';
import { useResource } from './use.js';
import { enc, withQuery } from '../lib/api.js';
import { count, percent } from '../lib/format.js';

const STATISTICS = [['psi', 'PSI'], ['js', 'JS'], ['ks', 'KS'], ['wasserstein', 'Wasserstein'], ['l_infinity', 'L∞'], ['q_value', 'q']];
const SHARES = [['null_share', 'Missing'], ['new_categories', 'New words'], ['out_of_range', 'Out of range'], ['type_changes', 'Other type']];

/** @param {{endpoint: string, reference: string, spec: any, end: number}} props */
export function DriftMatrix({ endpoint, reference, spec, end }) {
  const answer = useResource(withQuery(`/endpoints/${enc(endpoint)}/drift`, { reference, window_s: spec.window_s, origin_ms: spec.origin_ms, to_ms: end, alpha: spec.alpha }));
  return html`<${Block} title="Columns by statistics"><${Show} of=${answer}>${(/** @type {any} */ a) => (a.items.length === 0 ? html`<p class="muted">No answers of this window are kept.</p>` : html`<${Matrix} window=${a.items[0]} />`)}<//><//>`;
}

/** @param {{window: any}} props */
function Matrix({ window }) {
  const explains = window.columns.some((/** @type {any} */ c) => c.explains !== null);
  const t = window.together;
  return html`<p class="muted">${window.drifted.length} of ${window.columns.length} columns drifted, over ${count(window.count)} answers beside ${count(window.reference_count)} of <code>${window.reference}</code>.${t ? html` Together: shift <${Num} value=${t.shift} digits=${3} />, p <${Num} value=${t.p_value} digits=${2} />.` : ''} ${window.note}</p>
    <${Table} label="Columns by statistics" rows=${window.columns} rowKey=${(/** @type {any} */ c) => c.column} columns=${[
      { key: 'n', label: 'Column', cell: (/** @type {any} */ c) => c.column.replace('@', ''), sort: (/** @type {any} */ c) => c.column },
      { key: 'd', label: 'Drift', cell: (/** @type {any} */ c) => html`<${State} of=${c.is_drifted ? 'drifted' : 'as before'} tone=${c.is_drifted ? 'alert' : 'done'} />`, sort: (/** @type {any} */ c) => (c.is_drifted ? 0 : 1) },
      ...STATISTICS.map(([key, label]) => ({ key, label, num: true, cell: (/** @type {any} */ c) => html`<span class=${c.is_drifted && key === 'psi' ? 'bad' : ''}><${Num} value=${c[key]} digits=${3} /></span>`, sort: (/** @type {any} */ c) => c[key] })),
      ...SHARES.map(([key, label]) => ({ key, label, num: true, cell: (/** @type {any} */ c) => (c[key] === null ? '–' : percent(c[key])), sort: (/** @type {any} */ c) => c[key] })),
      ...(explains ? [{ key: 'explains', label: `Explains (${window.loss})`, num: true, cell: (/** @type {any} */ c) => html`<${Num} value=${c.explains} digits=${2} />`, sort: (/** @type {any} */ c) => c.explains }] : []),
    ]} />`;
}
