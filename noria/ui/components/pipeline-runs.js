// @ts-check
import { html } from './html.js';
import { Table } from './table.js';
import { State } from './state.js';
import { Time, Who } from './values.js';
import { duration, short } from '../lib/format.js';
import { now } from '../lib/store.js';

/** @param {{rows: any[], pipeline?: boolean}} props */
export function PipelineRuns({ rows, pipeline = true }) {
  return html`<${Table} label="Pipeline runs" rows=${rows} href=${(/** @type {any} */ r) => `/pipeline-runs/${r.id}`} columns=${[
    { key: 'id', label: 'Pipeline run', cell: (r) => (pipeline ? `${r.pipeline} ${short(r.id)}` : short(r.id)) }, { key: 's', label: 'State', cell: (r) => html`<${State} of=${r.state} />`, sort: (r) => r.state },
    { key: 'v', label: 'Version', num: true, cell: (r) => r.version }, { key: 'p', label: 'Parameters', cell: (r) => { const text = Object.entries(r.params ?? {}).map(([k, v]) => `${k}=${typeof v === 'string' ? v : JSON.stringify(v)}`).join('  '); return html`<span class="mono" title=${text}>${text.slice(0, 48)}</span>`; } },
    { key: 'why', label: 'Because of', cell: (r) => (r.cause ? html`<a href=${`/audit?seq=${r.cause}`}>fact ${r.cause}</a>` : html`<${Who} of=${r.actor} />`) },
    { key: 't', label: 'Took', num: true, cell: (r) => (r.started_at_ms ? duration((r.ended_at_ms ?? now.value) - r.started_at_ms) : '–'), sort: (r) => (r.ended_at_ms ?? 0) - (r.started_at_ms ?? 0) }, { key: 'at', label: 'Asked for', cell: (r) => html`<${Time} at=${r.created_at_ms} />`, sort: (r) => r.created_at_ms }]} />`;
}
