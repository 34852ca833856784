// @ts-check
import { html } from './html.js';
import { Table } from './table.js';
import { bytes, count } from '../lib/format.js';

const MARKS = /** @type {Record<string, [string, string, string]>} */ ({ added: ['+', 'diff-add', 'added'], removed: [MINUS(), 'diff-del', 'removed'], changed: ['~', 'diff-chg', 'changed'] });
function MINUS() { return '\u2212'; }

/** The mark of a change, as sign, colour and word. @param {{of: string}} props */
export function DiffMark({ of }) {
  const [sign, kind, word] = MARKS[of] ?? ['·', 'muted', of];
  return html`<span class=${kind}><span class="diff-mark" aria-hidden="true">${sign}</span>${word}</span>`;
}

/** Paths that differ between two versions, with sizes. @param {{items: {path: string, change: string, was?: number | null, now?: number | null}[], label: string}} props */
export function DiffFiles({ items, label }) {
  return html`<${Table} label=${label} rows=${items} rowKey=${(/** @type {any} */ r) => r.path} columns=${[
    { key: 'path', label: 'Path', cell: (r) => html`<span class="mono">${r.path}</span>`, sort: (r) => r.path },
    { key: 'change', label: 'Change', cell: (r) => html`<${DiffMark} of=${r.change} />`, sort: (r) => r.change },
    { key: 'was', label: 'Was', num: true, cell: (r) => bytes(r.was), sort: (r) => r.was },
    { key: 'now', label: 'Is', num: true, cell: (r) => bytes(r.now), sort: (r) => r.now },
    { key: 'delta', label: 'Difference', num: true, cell: (r) => { const d = (r.now ?? 0) - (r.was ?? 0); return d === 0 ? '0' : `${d > 0 ? '+' : MINUS()}${bytes(Math.abs(d))}`; }, sort: (r) => (r.now ?? 0) - (r.was ?? 0) },
  ]} />`;
}

/** Settings of several things side by side; what differs from the first is marked, equal rows can be hidden.
 *  @param {{names: any[], rows: {key: string, values: any[]}[], label: string, onlyDifferent?: boolean, cell?: (v: any, key: string) => any}} props */
export function DiffTable({ names, rows, label, onlyDifferent = false, cell = (v) => (v === undefined || v === null ? html`<span class="muted">–</span>` : String(v)) }) {
  const marked = rows.map((r) => ({ ...r, differs: new Set(r.values.map((v) => JSON.stringify(v ?? null))).size > 1 }));
  const shown = onlyDifferent ? marked.filter((r) => r.differs) : marked;
  if (!shown.length) return html`<p class="muted">${rows.length ? `All ${count(rows.length)} are the same.` : 'None.'}</p>`;
  return html`<div class="table-wrap" tabindex="0" role="region" aria-label=${label}><table class="table" aria-label=${label}><thead><tr><th scope="col">Key</th>${names.map((n, i) => html`<th key=${i} scope="col">${n}</th>`)}</tr></thead>
    <tbody>${shown.map((r) => html`<tr key=${r.key}><th scope="row">${r.key}</th>${r.values.map((v, i) => html`<td key=${i} class=${i > 0 && JSON.stringify(v ?? null) !== JSON.stringify(r.values[0] ?? null) ? 'differs' : ''} title=${String(v ?? '')}>${cell(v, r.key)}</td>`)}</tr>`)}</tbody></table></div>`;
}
