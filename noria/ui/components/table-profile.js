// @ts-check
/** What is in a table, column by column, and what moved between two versions of one. */

import { html } from './html.js';
import { Icon } from './icon.js';
import { Block } from './page.js';
import { Table } from './table.js';
import { DiffMark } from './diff.js';
import { Histogram, TopValues } from './histogram.js';
import { Num, Time } from './values.js';
import { count, percent, plural } from '../lib/format.js';

/** @param {any} props */
export function TableProfile({ table: t, only }) {
  return html`<section class="stack">${!only && html`<h3><span class="mono">${t.path}</span> ${t.rows_count !== null && html`<span class="muted">${plural(t.rows_count, 'row')}</span>`}</h3>`}
    ${t.state === 'unreadable' && html`<div class="notice warn"><${Icon} name="triangle-alert" /><span>It could not be read as a table: ${t.reason}. The bytes are kept all the same.</span></div>`}
    ${t.state === 'pending' && html`<div class="skeleton"></div>`}
    ${t.columns.length > 0 && html`<${Table} label=${`Columns of ${t.path}`} rows=${t.columns} rowKey=${(/** @type {any} */ c) => c.name} columns=${[
      { key: 'name', label: 'Column', cell: (c) => html`<div><b>${c.name}</b></div><small>${c.type}</small>`, sort: (c) => c.name },
      { key: 'shape', label: 'Values', cell: (c) => (c.histogram ? html`<${Histogram} counts=${c.histogram.counts} edges=${c.histogram.edges} nulls=${c.nulls} label=${c.name} axis=${c.kind !== 'time' && !isMoment(c)} />` : c.top?.length ? html`<${TopValues} items=${c.top} total=${c.rows - c.nulls} label=${`Most frequent of ${c.name}`} />` : html`<span class="muted">–</span>`) },
      { key: 'nulls', label: 'Missing', num: true, cell: (c) => (c.nulls ? html`<span class=${c.nulls / c.rows > 0.05 ? 'warn' : ''} title=${String(c.nulls)}>${percent(c.nulls / Math.max(1, c.rows))}</span>` : html`<span class="muted">0</span>`), sort: (c) => c.nulls / Math.max(1, c.rows) },
      { key: 'distinct', label: 'Distinct', num: true, cell: (c) => (c.distinct === null ? '–' : `${c.distinct_is_exact ? '' : '≈ '}${count(c.distinct)}`), sort: (c) => c.distinct },
      { key: 'min', label: 'Least', num: true, cell: (c) => value(c.min, c), sort: (c) => c.min },
      { key: 'mean', label: 'Mean', num: true, cell: (c) => (c.kind === 'time' || isMoment(c) ? '' : html`<${Num} value=${c.mean} />`), sort: (c) => c.mean },
      { key: 'std', label: 'Spread', num: true, cell: (c) => (c.kind === 'time' || isMoment(c) ? '' : html`<${Num} value=${c.std} />`) },
      { key: 'max', label: 'Most', num: true, cell: (c) => value(c.max, c), sort: (c) => c.max }]} />`}</section>`;
}

/** Whole numbers that are times: milliseconds since 1970, by their name and size. @param {any} c */
const isMoment = (c) => /_ms$/.test(c.name) && c.min > 1e11 && c.max < 1e14;

/** @param {any} v @param {any} c */
function value(v, c) { return isMoment(c) ? html`<${Time} at=${v} absolute />` : typeof v === 'number' ? html`<${Num} value=${v} />` : v === null || v === undefined ? html`<span class="muted">–</span>` : html`<span title=${String(v)}>${String(v).slice(0, 24)}</span>`; }

/** @param {any} props */
export function TableDiff({ table: t }) {
  const schema = [...t.schema.added.map((/** @type {any} */ c) => ['added', c.name, c.type]), ...t.schema.removed.map((/** @type {any} */ c) => ['removed', c.name, c.type]), ...t.schema.retyped.map((/** @type {any} */ c) => ['changed', c.name, `${c.before} → ${c.after}`])];
  return html`<${Block} title=${html`<span class="mono">${t.path}</span>`} count=${t.rows_before !== null ? `${count(t.rows_before)} → ${count(t.rows_after)} rows` : null}>
    ${t.state === 'pending' ? html`<div class="notice info"><${Icon} name="hourglass" /><span>A profile is still being computed.</span></div>` : t.state === 'unreadable' ? html`<div class="notice warn"><${Icon} name="triangle-alert" /><span>${t.reason}</span></div>` : ''}
    <div class="stack">${schema.length > 0 && html`<ul>${schema.map(([change, n, type]) => html`<li class="row" key=${n}><${DiffMark} of=${change} /><b>${n}</b><code>${type}</code></li>`)}</ul>`}
    ${t.columns.length > 0 && html`<${Table} label=${`Columns of ${t.path} that moved`} rows=${t.columns} rowKey=${(/** @type {any} */ c) => c.name} columns=${[
      { key: 'n', label: 'Column', cell: (c) => c.name, sort: (c) => c.name },
      { key: 'psi', label: 'PSI', num: true, cell: (c) => html`<span class=${c.psi > 0.25 ? 'bad' : c.psi > 0.1 ? 'warn' : ''}><${Num} value=${c.psi} digits=${3} /></span>`, sort: (c) => c.psi },
      { key: 'mb', label: 'Mean was', num: true, cell: (c) => html`<${Num} value=${c.mean_before} />` }, { key: 'ma', label: 'is', num: true, cell: (c) => html`<${Num} value=${c.mean_after} />` },
      { key: 'nb', label: 'Missing was', num: true, cell: (c) => percent(c.null_share_before) }, { key: 'na', label: 'is', num: true, cell: (c) => percent(c.null_share_after) },
      { key: 'db', label: 'Distinct was', num: true, cell: (c) => count(c.distinct_before) }, { key: 'da', label: 'is', num: true, cell: (c) => count(c.distinct_after) }]} />`}
    ${t.rows && html`<div class="stack"><p>Rows ${t.rows.key.length ? html`by <code>${t.rows.key.join(', ')}</code>` : 'as a whole'}: <span class="diff-add">+${count(t.rows.added_count)}</span> <span class="diff-del">−${count(t.rows.removed_count)}</span> <span class="diff-chg">~${count(t.rows.changed_count)}</span>, ${count(t.rows.unchanged_count)} the same.</p>
      ${t.rows.changed.length > 0 && html`<${Table} label="Changed rows" rows=${t.rows.changed.slice(0, 30)} rowKey=${(/** @type {any} */ _r, /** @type {number} */ i) => i} columns=${[{ key: 'k', label: 'Key', cell: (r) => Object.values(r.key).join(', ') }, { key: 'c', label: 'Change', prose: true, cell: (r) => Object.entries(r.changes).map(([k, [was, is]]) => html`<span key=${k}>${k}: <span class="diff-del">${String(was)}</span> → <span class="diff-add">${String(is)}</span> </span>`) }]} />`}</div>`}</div><//>`;
}
