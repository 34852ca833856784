// @ts-check
import { html } from './html.js';
import { Block } from './page.js';
import { Table } from './table.js';
import { State } from './state.js';
import { RefLink, Time, Who } from './values.js';
import { useResource } from './use.js';
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

/** What starts pipelines by itself: cron schedules and triggers on facts. @param {{pipeline?: string}} props */
export function Automatic({ pipeline }) {
  const schedules = useResource('/schedules?limit=100', { kinds: ['schedule.', 'pipeline_run.submitted'] });
  const triggers = useResource('/triggers?limit=100', { kinds: ['trigger.', 'pipeline_run.submitted'] });
  const mine = (/** @type {any} */ x) => !pipeline || x.pipeline === pipeline;
  const rows = [...(triggers.data?.items ?? []).filter(mine).map((/** @type {any} */ t) => ({ ...t, what: 'when', rule: `${t.kinds.join(', ')}${t.filter?.length ? ` where ${t.filter.map((/** @type {any} */ c) => `${c.field} ${c.op} ${c.value}`).join(' and ')}` : ''}` })), ...(schedules.data?.items ?? []).filter(mine).map((/** @type {any} */ s) => ({ ...s, what: 'at', rule: `${s.cron} (${s.time_zone})` }))];
  if (!rows.length) return null;
  return html`<${Block} title="Starts by itself"><${Table} label="Schedules and triggers" rows=${rows} columns=${[
    { key: 'n', label: 'Name', cell: (r) => r.name }, ...(pipeline ? [] : [{ key: 'p', label: 'Pipeline', cell: (/** @type {any} */ r) => html`<${RefLink} to=${`pipeline:${r.pipeline}`} />` }]), { key: 'r', label: 'Rule', prose: true, cell: (r) => html`<span class="muted">${r.what}</span> <code>${r.rule}</code>` },
    { key: 'on', label: 'State', cell: (r) => html`<${State} of=${r.is_enabled ? 'enabled' : 'paused'} word=${r.is_enabled ? 'on' : 'off'} />` }, { key: 'next', label: 'Next', cell: (r) => (r.next_at_ms ? html`<${Time} at=${r.next_at_ms} />` : '') }, { key: 'last', label: 'Last', cell: (r) => (r.last_run_id ? html`<a href=${`/pipeline-runs/${r.last_run_id}`}><${Time} at=${r.last_at_ms} /></a>` : html`<span class="muted">never</span>`) },
    { key: 'e', label: '', cell: (r) => (r.error ? html`<span class="bad" title=${r.error}>${r.error.slice(0, 60)}</span>` : r.skipped ? html`<span class="muted">${r.skipped} in the cool-down</span>` : '') }]} /><//>`;
}
