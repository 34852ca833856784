// @ts-check
/** Columns by statistics for one window: what moved, how far, whether chance explains it, and what it does to the loss. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Block } from './page.js';
import { Show } from './empty.js';
import { Histogram } from './histogram.js';
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
  return html`<${Block} title="Columns by statistics"><${Show} of=${answer}>${(/** @type {any} */ a) => (a.items.length === 0 ? html`<p class="muted">No answers of this window are kept.</p>` : html`<${Matrix} window=${a.items[0]} endpoint=${endpoint} reference=${reference} spec=${spec} end=${end} />`)}<//><//>`;
}

/** @param {{window: any, endpoint: string, reference: string, spec: any, end: number}} props */
function Matrix({ window, endpoint, reference, spec, end }) {
  const [open, setOpen] = useState(window.drifted[0] ?? window.columns[0]?.column ?? '');
  const explains = window.columns.some((/** @type {any} */ c) => c.explains !== null);
  const t = window.together;
  return html`<p class="muted">${window.drifted.length} of ${window.columns.length} columns drifted, over ${count(window.count)} answers beside ${count(window.reference_count)} of <code>${window.reference}</code>.${t ? html` Together: shift <${Num} value=${t.shift} digits=${3} />, p <${Num} value=${t.p_value} digits=${2} />.` : ''} ${window.note}</p>
    <${Table} label="Columns by statistics" rows=${window.columns} rowKey=${(/** @type {any} */ c) => c.column} selected=${open} columns=${[
      { key: 'n', label: 'Column', cell: (/** @type {any} */ c) => html`<button type="button" class="th-button" aria-pressed=${open === c.column ? 'true' : 'false'} onClick=${() => setOpen(c.column)}>${c.column.replace('@', '')}</button>`, sort: (/** @type {any} */ c) => c.column },
      { key: 'd', label: 'Drift', cell: (/** @type {any} */ c) => html`<${State} of=${c.is_drifted ? 'drifted' : 'as before'} tone=${c.is_drifted ? 'alert' : 'done'} />`, sort: (/** @type {any} */ c) => (c.is_drifted ? 0 : 1) },
      ...STATISTICS.map(([key, label]) => ({ key, label, num: true, cell: (/** @type {any} */ c) => html`<span class=${c.is_drifted && key === 'psi' ? 'bad' : ''}><${Num} value=${c[key]} digits=${3} /></span>`, sort: (/** @type {any} */ c) => c[key] })),
      ...SHARES.map(([key, label]) => ({ key, label, num: true, cell: (/** @type {any} */ c) => (c[key] === null ? '–' : percent(c[key])), sort: (/** @type {any} */ c) => c[key] })),
      ...(explains ? [{ key: 'explains', label: `Explains (${window.loss})`, num: true, cell: (/** @type {any} */ c) => html`<${Num} value=${c.explains} digits=${2} />`, sort: (/** @type {any} */ c) => c.explains }] : []),
    ]} />
    ${open && html`<${Shape} column=${open} endpoint=${endpoint} reference=${reference} spec=${spec} end=${end} />`}`;
}

/** One column now, as bars, with the reference drawn over it. @param {{column: string, endpoint: string, reference: string, spec: any, end: number}} props */
function Shape({ column, endpoint, reference, spec, end }) {
  const answer = useResource(withQuery(`/endpoints/${enc(endpoint)}/drift/${enc(column)}`, { reference, window_s: spec.window_s, origin_ms: spec.origin_ms, to_ms: end }));
  return html`<${Show} of=${answer}>${(/** @type {any} */ s) => html`<figure class="stack"><figcaption class="quiet"><b>${column.replace('@', '')}</b> in this window, as bars; the reference, as a line${s.current_nulls || s.reference_nulls ? html`. Missing: ${count(s.current_nulls)} now, ${count(s.reference_nulls)} then` : ''}</figcaption>
    ${s.kind === 'number' ? html`<${Histogram} counts=${s.current} edges=${s.edges} other=${s.reference} label=${column} width=${440} height=${130} />`
      : html`<${Table} label=${`Words of ${column}`} rows=${s.labels.map((/** @type {string} */ l, /** @type {number} */ i) => ({ label: l, now: s.current[i], then: s.reference[i] }))} rowKey=${(/** @type {any} */ r) => r.label} columns=${[{ key: 'w', label: 'Word', cell: (/** @type {any} */ r) => r.label }, { key: 'n', label: 'Now', num: true, cell: (/** @type {any} */ r) => percent(r.now / Math.max(1, sum(s.current))), sort: (/** @type {any} */ r) => r.now }, { key: 't', label: 'Then', num: true, cell: (/** @type {any} */ r) => percent(r.then / Math.max(1, sum(s.reference))), sort: (/** @type {any} */ r) => r.then }]} />`}</figure>`}<//>`;
}

/** @param {number[]} values */
const sum = (values) => values.reduce((a, b) => a + b, 0);
