// @ts-check
/** A plain table for lists of up to a few hundred: sortable, filterable by its caller, walked with j and k. */

import { useRef, useState } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { useCommands } from './use.js';

/** @typedef {{key: string, label: any, num?: boolean, cell: (row: any) => any, sort?: (row: any) => any, prose?: boolean}} Column */

/** @param {{columns: Column[], rows: any[], label: string, rowKey?: (row: any, i: number) => any, href?: (row: any) => string | null, selected?: any, keys?: boolean}} props */
export function Table({ columns, rows, label, rowKey = (r, i) => r.id ?? r.name ?? i, href, selected, keys = false }) {
  const [sort, setSort] = useState(/** @type {{key: string, down: boolean} | null} */ (null));
  const [at, setAt] = useState(-1);
  const body = useRef(/** @type {any} */ (null));
  const column = sort && columns.find((c) => c.key === sort.key);
  const shown = column?.sort && sort ? [...rows].sort((a, b) => order(column.sort?.(a), column.sort?.(b), sort.down)) : rows;
  const move = (/** @type {number} */ step) => {
    const next = Math.max(0, Math.min(shown.length - 1, at + step));
    setAt(next);
    body.current?.children[next]?.querySelector('a,button')?.focus();
  };
  useCommands(keys ? [
    { id: 'row.next', title: 'Next row', keys: 'j', hidden: true, run: () => move(1) },
    { id: 'row.previous', title: 'Previous row', keys: 'k', hidden: true, run: () => move(-1) },
  ] : []);
  return html`<div class="table-wrap" tabindex="0" role="region" aria-label=${label}><table class="table" aria-label=${label}>
    <thead><tr>${columns.map((c) => html`<th key=${c.key} scope="col" class=${c.num ? 'num' : ''} aria-sort=${sort?.key === c.key ? (sort.down ? 'descending' : 'ascending') : undefined}>${c.sort
      ? html`<button type="button" class="th-button" onClick=${() => setSort(sort?.key === c.key ? (sort.down ? { key: c.key, down: false } : null) : { key: c.key, down: true })}>${c.label}${sort?.key === c.key && html`<${Icon} name=${sort.down ? 'arrow-down' : 'arrow-up'} />`}</button>`
      : c.label || html`<span class="sr">More</span>`}</th>`)}</tr></thead>
    <tbody ref=${body}>${shown.map((r, i) => { const key = rowKey(r, i); return html`<tr key=${key} aria-selected=${selected !== undefined && selected === key ? 'true' : undefined}>${columns.map((c, j) => {
      const content = c.cell(r), to = j === 0 && href ? href(r) : null;
      const inner = to ? html`<a class="main" href=${to}>${content}</a>` : content;
      return j === 0 ? html`<th key=${c.key} scope="row" class=${c.num ? 'num' : ''}>${inner}</th>` : html`<td key=${c.key} class=${`${c.num ? 'num' : ''} ${c.prose ? 'prose-cell' : ''}`}>${inner}</td>`;
    })}</tr>`; })}</tbody></table></div>`;
}

/** @param {any} a @param {any} b @param {boolean} down */
function order(a, b, down) {
  const na = a === null || a === undefined || a !== a, nb = b === null || b === undefined || b !== b;
  if (na || nb) return na === nb ? 0 : na ? 1 : -1;
  const d = typeof a === 'number' && typeof b === 'number' ? a - b : String(a).localeCompare(String(b), 'en', { numeric: true });
  return down ? -d : d;
}
