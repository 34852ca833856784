// @ts-check
/** One pipeline run: what asked for it, its graph or its clock, and the log of the step one looks at, as it comes. */

import { html } from '../components/html.js';
import { Icon } from '../components/icon.js';
import { Page, Block } from '../components/page.js';
import { Show } from '../components/empty.js';
import { Graph } from '../components/graph.js';
import { Gantt } from '../components/gantt.js';
import { Log } from '../components/log.js';
import { State } from '../components/state.js';
import { Segmented } from '../components/chips.js';
import { Table } from '../components/table.js';
import { JsonView } from '../components/json-view.js';
import { Id, Kv, RefLink, Time, Who } from '../components/values.js';
import { useCommands, useResource } from '../components/use.js';
import { enc, post } from '../lib/api.js';
import { duration, plural, short } from '../lib/format.js';
import { now, sayError } from '../lib/store.js';

const ENDED = ['succeeded', 'failed', 'cancelled'];

/** @param {any} props */
export default function PipelineRunPage({ params, query, setQuery }) {
  const id = params.id;
  const view = useResource(`/pipeline-runs/${enc(id)}`, { kinds: ['step_run.', 'pipeline_run.'], ticks: [`pipeline_run:${id}`], every: 5000 });
  const r = view.data?.run, steps = view.data?.steps ?? [];
  const running = r && !ENDED.includes(r.state);
  const chosen = query.get('step') ?? (steps.find((/** @type {any} */ s) => s.step.state === 'failed') ?? steps.find((/** @type {any} */ s) => s.step.state === 'running') ?? steps.at(-1))?.step.id;
  const here = steps.find((/** @type {any} */ s) => s.step.id === chosen);
  const shape = query.get('shape') ?? 'clock';
  const act = async (/** @type {string} */ what) => { try { await post(`/pipeline-runs/${enc(id)}/${what}`); view.reload(); } catch (e) { sayError(e); } };
  useCommands(r ? [running ? { id: 'actions', title: 'Cancel this pipeline run', icon: 'square', keys: '.', group: 'Pipeline run', run: () => act('cancel') } : { id: 'actions', title: 'Resume this pipeline run', icon: 'play', keys: '.', group: 'Pipeline run', run: () => act('resume') }] : []);
  const done = steps.filter((/** @type {any} */ s) => s.step.state === 'succeeded' || s.step.state === 'skipped').length, cached = steps.filter((/** @type {any} */ s) => s.step.cached_from).length;
  return html`<${Page} crumbs=${[['Pipelines', '/pipelines'], ...(r ? [[r.pipeline, `/pipelines/${enc(r.pipeline)}`]] : []), [short(id)]]} title=${r ? `${r.pipeline} ${short(id)}` : 'Pipeline run'} loading=${view.loading}
      actions=${r && (running ? html`<button type="button" class="button danger" onClick=${() => act('cancel')}><${Icon} name="square" />Cancel</button>` : r.state !== 'succeeded' ? html`<button type="button" class="button" onClick=${() => act('resume')}><${Icon} name="play" />Resume</button>` : null)}>
    <${Show} of=${view}>${() => html`<div class="story"><h2>${r.pipeline}<${State} of=${r.state} /></h2>
        <p>${r.cause ? html`<a href=${`/audit?seq=${r.cause}`}>Fact ${r.cause}</a> led to this run` : html`<b><${Who} of=${r.actor} /></b> asked for this run`} <${Time} at=${r.created_at_ms} />${/^(trigger|schedule|system):/.test(r.actor) && r.owner ? html`, for <b><${Who} of=${r.owner} /></b>` : ''}. ${done} of ${plural(steps.length, 'step')} done${cached ? `, ${cached} taken from the cache` : ''}${r.started_at_ms ? html`; ${running ? 'running for' : 'it took'} ${duration((r.ended_at_ms ?? now.value) - r.started_at_ms)}` : ''}.
        ${view.data.workers === 0 && running ? html` <b class="bad">No worker is there to do the work.</b>` : ''}</p>
        ${r.error && html`<div class="notice bad"><${Icon} name="circle-x" /><span>${r.error}</span></div>`}
        ${Object.keys(r.params).length > 0 && html`<${Kv} items=${Object.entries(r.params).map(([k, v]) => [k, html`<code>${typeof v === 'string' ? v : JSON.stringify(v)}</code>`])} />`}</div>
      <${Block} title="Steps" actions=${html`<${Segmented} label="Picture" value=${shape} options=${[['clock', 'Clock'], ['graph', 'Graph']]} onChange=${(/** @type {string} */ v) => setQuery({ shape: v === 'clock' ? null : v })} />`}>
        ${shape === 'graph'
          ? html`<${Graph} label=${`Steps of ${r.pipeline}`} max=${520} nodes=${steps.map((/** @type {any} */ s) => ({ id: s.step.name, kind: s.step.cached_from ? 'cached' : s.attempts.length > 1 ? `${s.attempts.length} attempts` : 'step', icon: 'square', name: s.step.name, state: s.step.state, here: s.step.id === chosen, pressed: s.step.id === chosen, onClick: () => setQuery({ step: s.step.id }), note: took(s) }))} edges=${view.data.dag.map((/** @type {[string, string]} */ [from, to]) => ({ from, to }))} />`
          : html`<${Gantt} label=${`Steps of ${r.pipeline} against the clock`} selected=${chosen} onSelect=${(/** @type {string} */ step) => setQuery({ step })} rows=${steps.map(ganttRow)} />`}<//>
      ${here && html`<${StepBlock} of=${here} running=${running} />`}
      ${Object.keys(r.outputs ?? {}).length > 0 && html`<${Block} title="What it gave"><${Outputs} of=${r.outputs} /><//>`}`}<//>
  <//>`;
}

/** @param {any} props */
function StepBlock({ of: { step, attempts, depends_on: after, description } }) {
  const live = ['running', 'ready', 'waiting'].includes(step.state);
  return html`<${Block} title=${html`Step ${step.name}`} actions=${html`<${State} of=${step.state} />`}>
    <div class="stack"><p class="quiet">${description}${description ? ' ' : ''}${step.reason ? `${step.reason}. ` : ''}${step.cached_from ? html`Its result was taken from <${RefLink} to=${`step_run:${step.cached_from}`} />. ` : ''}${after?.length ? `It waits for ${after.join(', ')}. ` : ''}${step.started_at_ms ? `It ${step.ended_at_ms ? 'took' : 'has been running for'} ${duration((step.ended_at_ms ?? now.value) - step.started_at_ms)}` : ''}${step.worker ? ` on ${step.worker}.` : ''}</p>
      ${step.error && html`<pre class="code bad" tabindex="0">${step.error}</pre>`}
      ${attempts.length > 1 && html`<${Table} label="Attempts" rows=${attempts} rowKey=${(/** @type {any} */ a) => a.number} columns=${[{ key: 'n', label: 'Attempt', cell: (a) => a.number }, { key: 's', label: 'State', cell: (a) => html`<${State} of=${a.state} />` }, { key: 'w', label: 'Worker', cell: (a) => a.worker }, { key: 't', label: 'Took', num: true, cell: (a) => duration((a.ended_at_ms ?? now.value) - a.started_at_ms) }, { key: 'x', label: 'Exit', num: true, cell: (a) => a.exit_code ?? '–' }, { key: 'e', label: 'Why', prose: true, cell: (a) => a.error }]} />`}
      <${Log} key=${step.id} path=${`/step-runs/${enc(step.id)}/logs`} live=${live} ref_=${`step_run:${step.id}`} label=${`Log of ${step.name}`} />
      ${step.outputs && html`<details><summary class="quiet">What it returned</summary><${Outputs} of=${{ result: step.outputs }} /></details>`}
      ${step.cache_key && html`<small>Cache key <${Id} value=${step.cache_key} /></small>`}</div><//>`;
}

/** @param {any} props */
function Outputs({ of }) { return html`<${JsonView} value=${Object.fromEntries(Object.entries(of).map(([k, v]) => [k, plain(v)]))} />`; }

/** A value as it can be shown: JSON in full, pickles by type and digest. @param {any} v @returns {any} */
function plain(v) {
  switch (v?.as) {
    case 'json': return v.value;
    case 'pickle': return `${v.type || 'object'}, ${v.size_bytes} bytes, ${short(v.digest)}`;
    case 'many': return v.items.map(plain);
    case 'named': return Object.fromEntries(Object.entries(v.items).map(([k, x]) => [k, plain(x)]));
    case 'part': return `part ${JSON.stringify(v.path)} of ${short(v.value.digest)}`;
    default: return v;
  }
}

/** @param {any} s */
function ganttRow(s) {
  const state = s.step.cached_from ? 'cached' : s.step.state;
  const spans = s.attempts.length ? s.attempts.map((/** @type {any} */ a) => ({ start: a.started_at_ms, end: a.ended_at_ms, state: s.step.cached_from ? 'cached' : a.state })) : s.step.started_at_ms ? [{ start: s.step.started_at_ms, end: s.step.ended_at_ms, state }] : [];
  return { id: s.step.id, name: s.step.name, state, spans };
}
/** @param {any} s */
function took(s) { return s.step.started_at_ms ? duration((s.step.ended_at_ms ?? now.value) - s.step.started_at_ms) : s.step.state; }
