// @ts-check
import { html } from './html.js';
import { Table } from './table.js';
import { Chip } from './chips.js';
import { Time } from './values.js';

/** What was said of a trace, as chips: what counts only. @param {{of: any[] | undefined}} props */
export function Judged({ of }) {
  const valid = (of ?? []).filter((a) => a.is_valid !== false);
  if (!valid.length) return html`<span class="muted">–</span>`;
  return html`<span class="chips">${valid.slice(0, 4).map((a) => html`<${Chip} key=${a.id} tone=${a.kind === 'expectation' ? '' : tone(a.value)} title=${a.rationale ?? undefined}>${a.name} <b>${said(a)}</b><//>`)}${valid.length > 4 && html`<span class="muted">and ${valid.length - 4} more</span>`}</span>`;
}

/** The same as a table with its history. @param {{of: any[]}} props */
export function Assessments({ of }) {
  return html`<${Table} label="Assessments" rows=${of} columns=${[
    { key: 'name', label: 'Name', cell: (a) => a.name, sort: (a) => a.name },
    { key: 'kind', label: 'Kind', cell: (a) => a.kind },
    { key: 'value', label: 'Value', prose: true, cell: (a) => html`<span class="mono">${said(a)}</span>` },
    { key: 'counts', label: 'Counts', cell: (a) => (a.is_valid === false ? 'no, overridden' : 'yes') },
    { key: 'why', label: 'Why', prose: true, cell: (a) => a.rationale ?? '–' },
    { key: 'by', label: 'By', cell: (a) => `${String(a.source_type).toLowerCase().replaceAll('_', ' ')} ${a.source_id}` },
    { key: 'at', label: 'When', cell: (a) => html`<${Time} at=${a.created_at_ms} />`, sort: (a) => a.created_at_ms }]} />`;
}

/** @param {any} a */
function said(a) {
  if (a.error) return `error: ${a.error.error_code ?? a.error.error_message ?? 'unknown'}`;
  const text = typeof a.value === 'string' ? a.value : JSON.stringify(a.value ?? null);
  return text.length > 200 ? `${text.slice(0, 199)}…` : text;
}

/** @param {any} value */
function tone(value) { return value === true || value === 'yes' ? 'ok' : value === false || value === 'no' ? 'bad' : ''; }
