// @ts-check
/** Traces of an experiment: what came in, what went out, how long it took, what was said of it. The filter is the server's. */

import { useEffect, useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Page, Filter } from '../components/page.js';
import { Table } from '../components/table.js';
import { Empty, Show } from '../components/empty.js';
import { Tags } from '../components/chips.js';
import { State } from '../components/state.js';
import { Time } from '../components/values.js';
import { Judged } from '../components/assessments.js';
import { useResource } from '../components/use.js';
import { api, enc, withQuery } from '../lib/api.js';
import { duration } from '../lib/format.js';
import { sayError } from '../lib/store.js';

const PAGE = 100;

/** @param {any} props */
export default function Traces({ query, setQuery }) {
  const experiments = useResource('/experiments?limit=200', { kinds: ['experiment.'] });
  const list = experiments.data?.items ?? [];
  const experiment = query.get('experiment') ?? list[0]?.id ?? '0';
  const chosen = list.find((/** @type {any} */ e) => e.id === experiment);
  const asked = query.get('q') ?? '';
  const [text, setText] = useState(asked);
  useEffect(() => setText(asked), [asked]);
  useEffect(() => { if (text === asked) return undefined; const wait = setTimeout(() => setQuery({ q: text || null }), 500); return () => clearTimeout(wait); }, [text]);
  const found = useResource(withQuery('/traces', { experiment, filter: asked, limit: PAGE }), { kinds: ['trace.', 'assessment.'] });
  const [more, setMore] = useState(/** @type {{items: any[], next: string | null} | null} */ (null));
  useEffect(() => setMore(null), [experiment, asked, found.data]);
  const next = more ? more.next : found.data?.next;
  const read = async () => { try { const page = await api(withQuery('/traces', { experiment, filter: asked, limit: PAGE, page: next })); setMore({ items: [...(more?.items ?? []), ...page.items], next: page.next }); } catch (e) { sayError(e); } };
  return html`<${Page} crumbs=${[['Runs', '/runs'], ...(chosen ? [[chosen.name, `/runs?experiment=${enc(chosen.id)}`]] : []), ['Traces']]} loading=${found.loading}
      filter=${html`<${Filter} value=${text} onInput=${setText} placeholder="status = 'ERROR' and tags.team = 'a'" label="Filter traces" />`}
      actions=${html`<label class="inline"><span class="sr">Experiment</span><select class="select" value=${experiment} onChange=${(/** @type {any} */ e) => setQuery({ experiment: e.currentTarget.value })}>${list.map((/** @type {any} */ e) => html`<option key=${e.id} value=${e.id} selected=${e.id === experiment}>${e.name}</option>`)}</select></label>`}>
    <${Show} of=${found}>${(/** @type {any} */ a) => { const rows = [...a.items, ...(more?.items ?? [])]; return rows.length === 0
      ? asked ? html`<${Empty} icon="search" title="No trace matches." text="Conditions are joined with and; text is written in 'quotes'." />`
        : html`<${Empty} icon="workflow" title="No traces yet." text="They appear here when a program sends them: MLflow's client, or any OpenTelemetry SDK to /v1/traces." command=${'@mlflow.trace\ndef answer(question): ...'} />`
      : html`<div class="stack"><${Table} keys label="Traces" rows=${rows} href=${(/** @type {any} */ t) => `/traces/${enc(t.id)}`} columns=${[
        { key: 'name', label: 'Trace', cell: (t) => t.name || t.id, sort: (t) => t.name },
        { key: 'state', label: 'Status', cell: (t) => html`<${State} of=${wordOf(t.state)} />`, sort: (t) => t.state },
        { key: 'request', label: 'Request', prose: true, cell: (t) => html`<span title=${t.request_preview}>${cut(t.request_preview)}</span>` },
        { key: 'response', label: 'Response', prose: true, cell: (t) => html`<span title=${t.response_preview}>${cut(t.response_preview)}</span>` },
        { key: 'duration', label: 'Duration', num: true, cell: (t) => (t.duration_ms === null || t.duration_ms === undefined ? '–' : duration(t.duration_ms)), sort: (t) => t.duration_ms },
        { key: 'at', label: 'Began', cell: (t) => html`<${Time} at=${t.at_ms} />`, sort: (t) => t.at_ms },
        { key: 'said', label: 'Assessments', cell: (t) => html`<${Judged} of=${t.assessments} />` },
        ...(rows.some((/** @type {any} */ t) => Object.keys(t.tags ?? {}).some((k) => !k.startsWith('mlflow.'))) ? [{ key: 'tags', label: 'Tags', cell: (/** @type {any} */ t) => html`<${Tags} of=${t.tags} limit=${3} />` }] : [])]} />
        ${next && html`<button type="button" class="button" onClick=${read}>Show more</button>`}</div>`; }}<//>
  <//>`;
}

/** @param {string | null | undefined} text */
function cut(text) { return !text ? '–' : text.length > 120 ? `${text.slice(0, 119)}…` : text; }

/** The states of traces in words that have a shape. @param {string} state */
export function wordOf(state) { return { OK: 'ok', ERROR: 'error', IN_PROGRESS: 'running' }[/** @type {'OK'} */ (state)] ?? 'unknown'; }
