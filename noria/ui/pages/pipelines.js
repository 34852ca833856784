// @ts-check
/** Pipelines, their latest runs, and what starts them by itself. */

import { html } from '../components/html.js';
import { Page, Block, Filter } from '../components/page.js';
import { Table } from '../components/table.js';
import { Empty, Show } from '../components/empty.js';
import { State } from '../components/state.js';
import { PipelineRuns } from '../components/pipeline-runs.js';
import { Queues } from '../components/queues.js';
import { Starts } from '../components/starts.js';
import { Time, Who } from '../components/values.js';
import { useResource } from '../components/use.js';
import { enc } from '../lib/api.js';
import { short } from '../lib/format.js';

/** @param {any} props */
export default function Pipelines({ query, setQuery }) {
  const list = useResource('/pipelines?limit=200', { kinds: ['pipeline.'] });
  const runs = useResource('/pipeline-runs?limit=40', { kinds: ['pipeline_run.'] });
  const q = (query.get('q') ?? '').toLowerCase();
  const last = new Map();
  for (const r of runs.data?.items ?? []) if (!last.has(r.pipeline)) last.set(r.pipeline, r);
  return html`<${Page} crumbs=${[['Pipelines']]} loading=${list.loading} filter=${html`<${Filter} value=${query.get('q') ?? ''} onInput=${(/** @type {string} */ v) => setQuery({ q: v })} label="Filter pipelines" />`}>
    <${Show} of=${list}>${(/** @type {any} */ a) => (a.items.length === 0
      ? html`<${Empty} icon="workflow" title="No pipelines yet." text="A pipeline is plain Python: functions become steps, each in its own process, each result kept, resumed after a crash where it stopped." command=${'cat > pipeline.py <<\'PY\'\nfrom noria import pipeline, step\n\n@step\ndef load(): return [1, 2, 3]\n\n@step\ndef total(numbers): return sum(numbers)\n\n@pipeline\ndef first(): return total(load())\nPY\nnoria pipeline run pipeline.py'} />`
      : html`<${Table} keys label="Pipelines" rows=${a.items.filter((/** @type {any} */ p) => p.name.toLowerCase().includes(q))} rowKey=${(/** @type {any} */ p) => p.name} href=${(/** @type {any} */ p) => `/pipelines/${enc(p.name)}`} columns=${[
        { key: 'n', label: 'Pipeline', cell: (p) => p.name, sort: (p) => p.name }, { key: 'v', label: 'Version', num: true, cell: (p) => p.version, sort: (p) => p.version },
        { key: 'last', label: 'Last run', cell: (p) => { const r = last.get(p.name); return r ? html`<a href=${`/pipeline-runs/${r.id}`}><${State} of=${r.state} /></a> <span class="muted">${short(r.id)}</span>` : html`<span class="muted">none</span>`; } },
        { key: 'd', label: 'What it does', prose: true, cell: (p) => p.description }, { key: 'at', label: 'Changed', cell: (p) => html`<${Time} at=${p.updated_at_ms} />`, sort: (p) => p.updated_at_ms }, { key: 'by', label: 'Owner', cell: (p) => html`<${Who} of=${p.owner} />` }]} />`)}<//>
    ${runs.data?.items?.length > 0 && html`<${Block} title="Latest pipeline runs"><${PipelineRuns} rows=${runs.data.items} /><//>`}
    <${Starts} />
    <${Queues} />
  <//>`;
}
