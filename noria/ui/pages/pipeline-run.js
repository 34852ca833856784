// @ts-check
/** One pipeline run: what asked for it, its graph or its clock, and the step one looks at with its log, as it comes. */

import { useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Deed } from '../components/deed.js';
import { Icon } from '../components/icon.js';
import { Page, Block } from '../components/page.js';
import { Show } from '../components/empty.js';
import { Graph } from '../components/graph.js';
import { Gantt } from '../components/gantt.js';
import { State } from '../components/state.js';
import { Segmented } from '../components/chips.js';
import { Dialog, Field } from '../components/dialog.js';
import { Outputs, Step } from '../components/step.js';
import { Kv, Time, Who } from '../components/values.js';
import { Talk } from '../components/talk.js';
import { useCommands, useResource } from '../components/use.js';
import { enc, post } from '../lib/api.js';
import { duration, plural, short } from '../lib/format.js';
import { grouped, isOpen, kindOf, rowsOf, typed } from '../lib/steps.js';
import { now, sayError } from '../lib/store.js';

const ENDED = ['succeeded', 'failed', 'cancelled'];
const OVER = ['succeeded', 'skipped'];

/** @param {any} props */
export default function PipelineRunPage({ params, query, setQuery, go }) {
  const id = params.id;
  const view = useResource(`/pipeline-runs/${enc(id)}`, { kinds: ['step_run.', 'pipeline_run.', 'approval.'], ticks: [`pipeline_run:${id}`], every: 5000 });
  const [again, setAgain] = useState(false);
  const r = view.data?.run, steps = view.data?.steps ?? [], groups = grouped(steps);
  const running = r && !ENDED.includes(r.state);
  const states = (/** @type {string} */ state) => steps.find((/** @type {any} */ s) => s.step.state === state);
  const chosen = query.get('step') ?? (states('failed') ?? states('asking') ?? states('running') ?? groups.at(-1)?.of)?.step.id;
  const here = steps.find((/** @type {any} */ s) => s.step.id === chosen);
  const shape = query.get('shape') ?? 'clock', turned = new Set((query.get('fold') ?? '').split(',').filter(Boolean));
  const act = async (/** @type {string} */ what) => { try { await post(`/pipeline-runs/${enc(id)}/${what}`); view.reload(); } catch (e) { sayError(e); } };
  const fold = (/** @type {string} */ step) => { const next = new Set(turned); if (!next.delete(step)) next.add(step); setQuery({ fold: [...next].join(',') || null }); };
  useCommands(r ? [running ? { id: 'actions', title: 'Cancel this pipeline run', icon: 'square', keys: '.', group: 'Pipeline run', run: () => act('cancel') } : { id: 'actions', title: 'Run it again with other parameters', icon: 'play', keys: '.', group: 'Pipeline run', run: () => setAgain(true) },
    ...(running ? [{ id: 'pause', title: r.is_paused ? 'Go on with this pipeline run' : 'Pause this pipeline run', icon: 'pause', group: 'Pipeline run', run: () => act(r.is_paused ? 'unpause' : 'pause') }] : [])] : []);
  const done = steps.filter((/** @type {any} */ s) => OVER.includes(s.step.state)).length, cached = steps.filter((/** @type {any} */ s) => s.step.cached_from).length;
  const asks = steps.filter((/** @type {any} */ s) => s.step.state === 'asking');
  const button = (/** @type {string} */ icon, /** @type {string} */ word, /** @type {() => void} */ run, look = '', may = 'pipeline.run') => html`<${Deed} may=${may} on=${`pipeline:${r.pipeline}`} class=${`button ${look}`} onClick=${run}><${Icon} name=${icon} />${word}<//>`;
  return html`<${Page} crumbs=${[['Pipelines', '/pipelines'], ...(r ? [[r.pipeline, `/pipelines/${enc(r.pipeline)}`]] : []), [short(id)]]} title=${r ? `${r.pipeline} ${short(id)}` : 'Pipeline run'} loading=${view.loading}
      actions=${r && html`${running ? html`${r.is_paused ? button('play', 'Go on', () => act('unpause')) : button('pause', 'Pause', () => act('pause'), '', 'pipeline.cancel')}${button('square', 'Cancel', () => act('cancel'), 'danger', 'pipeline.cancel')}` : html`${r.state !== 'succeeded' && button('play', 'Resume', () => act('resume'))}${button('rotate-ccw', 'Run again…', () => setAgain(true))}`}`}>
    <${Show} of=${view}>${() => html`<div class="story"><h2>${r.pipeline}<${State} of=${r.is_paused && running ? 'paused' : r.state} /></h2>
        <p>${r.cause ? html`<a href=${`/audit?seq=${r.cause}`}>Fact ${r.cause}</a> led to this run` : html`<b><${Who} of=${r.actor} /></b> asked for this run`} <${Time} at=${r.created_at_ms} />${/^(trigger|schedule|system):/.test(r.actor) && r.owner ? html`, for <b><${Who} of=${r.owner} /></b>` : ''}${r.origin_run_id ? html`, as <a href=${`/pipeline-runs/${r.origin_run_id}`}>${short(r.origin_run_id)}</a> again` : ''}. ${done} of ${plural(steps.length, 'step')} done${cached ? `, ${cached} taken from the cache` : ''}${r.started_at_ms ? html`; ${running ? 'running for' : 'it took'} ${duration((r.ended_at_ms ?? now.value) - r.started_at_ms)}` : ''}.
        ${view.data.waiting ? html` <b>${view.data.waiting}</b>` : ''}${view.data.workers === 0 && running ? html` <b class="bad">No worker is there to do the work.</b>` : ''}</p>
        ${r.error && html`<div class="notice bad"><${Icon} name="circle-x" /><span>${r.error}</span></div>`}
        ${asks.map((/** @type {any} */ s) => html`<div class="notice warn" key=${s.step.id}><${Icon} name="hand" /><span>${s.question?.prompt ?? s.step.name} <button type="button" class="button small" onClick=${() => setQuery({ step: s.step.id })}>Answer</button></span></div>`)}
        ${Object.keys(r.params).length > 0 && html`<${Kv} items=${Object.entries(r.params).map(([k, v]) => [k, html`<code>${typeof v === 'string' ? v : JSON.stringify(v)}</code>`])} />`}</div>
      <${Block} title="Steps" actions=${html`<span class="row">${groups.filter((g) => g.elements.length > 0 && shape === 'clock').map(({ of, elements }) => html`<button type="button" class="button small" key=${of.step.id} aria-expanded=${isOpen(of, elements, turned)} onClick=${() => fold(of.step.id)}><${Icon} name=${isOpen(of, elements, turned) ? 'chevron-down' : 'chevron-right'} small />${of.step.name} (${elements.length})</button>`)}<${Segmented} label="Picture" value=${shape} options=${[['clock', 'Clock'], ['graph', 'Graph']]} onChange=${(/** @type {string} */ v) => setQuery({ shape: v === 'clock' ? null : v })} /></span>`}>
        ${shape === 'graph'
          ? html`<${Graph} label=${`Steps of ${r.pipeline}`} max=${520} nodes=${groups.map(({ of: s, elements }) => ({ id: s.step.name, kind: kindOf(s, elements), icon: s.step.kind === 'approve' ? 'hand' : elements.length ? 'layers' : 'square', name: s.step.name, state: s.step.state, here: s.step.id === chosen, pressed: s.step.id === chosen, onClick: () => setQuery({ step: s.step.id }), note: elements.length && running ? `${elements.filter((e) => OVER.includes(e.step.state)).length} of ${elements.length} done` : took(s) }))} edges=${view.data.dag.map((/** @type {[string, string]} */ [from, to]) => ({ from, to }))} />`
          : html`<${Gantt} label=${`Steps of ${r.pipeline} against the clock`} selected=${chosen} onSelect=${(/** @type {string} */ step) => setQuery({ step })} rows=${rowsOf(groups, turned).map(ganttRow)} />`}<//>
      ${here && html`<${Step} of=${here} run=${r} reload=${view.reload} />`}
      ${Object.keys(r.outputs ?? {}).length > 0 && html`<${Block} title="What it gave"><${Outputs} of=${r.outputs} /><//>`}`}<//>
    ${again && html`<${Dialog} title=${`Run ${r.pipeline} again`} deed="Run" onClose=${() => setAgain(false)} act=${async (/** @type {FormData} */ form) => {
      const params = Object.fromEntries(Object.entries(r.params).map(([k, v]) => [k, form.get(`p.${k}`) === shown(v) ? v : typed(String(form.get(`p.${k}`) ?? ''))]));
      const made = await post(`/pipeline-runs/${enc(id)}/rerun`, { params });
      go(`/pipeline-runs/${made.id}`);
    }}>${Object.keys(r.params).length === 0 ? html`<p class="quiet">It takes no parameters.</p>` : Object.entries(r.params).map(([k, v]) => html`<${Field} key=${k} label=${k} name=${`p.${k}`} value=${shown(v)} />`)}<p class="quiet">A new run of version ${r.version}; steps with a cache take what they can.</p><//>`}
    ${r && html`<${Talk} about=${`pipeline_run:${id}`} />`}
  <//>`;
}

/** A parameter as it is typed. @param {unknown} v */
function shown(v) { return typeof v === 'string' ? v : JSON.stringify(v); }

/** @param {any} s */
function ganttRow(s) {
  const state = s.step.cached_from ? 'cached' : s.step.state;
  const spans = s.attempts.length ? s.attempts.map((/** @type {any} */ a) => ({ start: a.started_at_ms, end: a.ended_at_ms, state: s.step.cached_from ? 'cached' : a.state })) : s.step.started_at_ms ? [{ start: s.step.started_at_ms, end: s.step.ended_at_ms, state }] : [];
  return { id: s.step.id, name: s.step.parent_id ? `\u2003${s.step.name}` : s.step.name, state, spans };
}
/** @param {any} s */
function took(s) { return s.step.started_at_ms ? duration((s.step.ended_at_ms ?? now.value) - s.step.started_at_ms) : s.step.state; }
