// @ts-check
/** One step of a pipeline run: why it ran or did not, its tries, what it printed and returned, and what can be done with it. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Deed } from './deed.js';
import { Icon } from './icon.js';
import { Block } from './page.js';
import { Dialog, Field } from './dialog.js';
import { Show } from './empty.js';
import { JsonView } from './json-view.js';
import { Log } from './log.js';
import { Sparkline } from './sparkline.js';
import { State } from './state.js';
import { Sweep } from './sweep.js';
import { Table } from './table.js';
import { Id, Kv, RefLink } from './values.js';
import { useResource } from './use.js';
import { api, enc, href, post } from '../lib/api.js';
import { bytes, duration, num, short } from '../lib/format.js';
import { keptOf } from '../lib/steps.js';
import { now, sayError } from '../lib/store.js';

const LIVE = ['running', 'ready', 'waiting', 'asking'];

/** @param {{of: any, run: any, reload: () => void}} props */
export function Step({ of: { step, attempts, depends_on: after, description, when, waiting, question }, run, reload }) {
  const [asking, setAsking] = useState(/** @type {'' | 'again' | 'yes' | 'no'} */ (''));
  const live = LIVE.includes(step.state), over = ['succeeded', 'failed', 'cancelled'].includes(run.state);
  const stop = async () => { try { await post(`/step-runs/${enc(step.id)}/cancel`); reload(); } catch (e) { sayError(e); } };
  const actions = html`<span class="row">${step.state === 'asking' && html`<${Deed} may="approval.decide" on=${`pipeline:${run.pipeline}`} class="button primary small" onClick=${() => setAsking('yes')}>Approve…<//><${Deed} may="approval.decide" on=${`pipeline:${run.pipeline}`} class="button danger small" onClick=${() => setAsking('no')}>Reject…<//>`}
    ${over && !step.parent_id && html`<${Deed} may="pipeline.run" on=${`pipeline:${run.pipeline}`} class="button small" onClick=${() => setAsking('again')}><${Icon} name="rotate-ccw" small />Run from here…<//>`}
    ${live && step.state !== 'asking' && html`<${Deed} may="pipeline.cancel" on=${`pipeline:${run.pipeline}`} class="button small" onClick=${stop}><${Icon} name="square" small />Stop this step<//>`}<${State} of=${step.state} /></span>`;
  return html`${step.kind === 'sweep' && html`<${Sweep} step=${step} run=${run.id} />`}
    <${Block} title=${html`Step ${step.name}`} actions=${actions}>
    <div class="stack"><p class="quiet">${question ? html`<b>${question.prompt}</b> ` : ''}${description && description !== question?.prompt ? `${description} ` : ''}${step.reason ? `${step.reason} ` : ''}${waiting ? html`<b>${waiting}</b> ` : ''}${step.cached_from ? html`Its result was taken from <${RefLink} to=${`step_run:${step.cached_from}`} />. ` : ''}${after?.length ? `It waits for ${after.join(', ')}. ` : ''}${when?.length ? html`It runs only if ${when.map((/** @type {string} */ w, /** @type {number} */ i) => html`${i ? ' and ' : ''}<code>${w}</code>`)}. ` : ''}${step.started_at_ms ? `It ${step.ended_at_ms ? 'took' : 'has been running for'} ${duration((step.ended_at_ms ?? now.value) - step.started_at_ms)}` : ''}${step.worker || attempts.length ? whereOf(attempts.at(-1), step.worker) : ''}${step.memory_bytes ? `, with at most ${bytes(step.memory_bytes)} of memory` : ''}${step.started_at_ms ? '.' : ''}</p>
      <${Use} step=${step} attempt=${attempts.at(-1)} />
      ${step.kind === 'call' && step.attempt > 0 && html`<${Reported} key=${`${step.id} ${step.attempt}`} step=${step} run=${run.id} />`}
      ${step.approval_id && html`<${Evidence} approval=${step.approval_id} />`}
      ${step.error && html`<pre class="code bad" tabindex="0">${step.error}</pre>`}
      ${attempts.length > 1 && html`<${Table} label="Attempts" rows=${attempts} rowKey=${(/** @type {any} */ a) => a.number} columns=${[{ key: 'n', label: 'Attempt', cell: (a) => a.number }, { key: 's', label: 'State', cell: (a) => html`<${State} of=${a.state} />` }, { key: 'w', label: 'Where', cell: (a) => a.place?.executor ? html`${NAMES[a.place.executor] ?? a.place.executor} <span class="quiet">${a.place.job}</span>` : a.worker }, { key: 't', label: 'Took', num: true, cell: (a) => duration((a.ended_at_ms ?? now.value) - a.started_at_ms) }, { key: 'x', label: 'Exit', num: true, cell: (a) => a.exit_code ?? '–' }, { key: 'e', label: 'Why', prose: true, cell: (a) => a.error }]} />`}
      ${(step.kind === 'call' || step.log_bytes > 0) && html`<${Log} key=${step.id} path=${`/step-runs/${enc(step.id)}/logs`} live=${live} ref_=${`step_run:${step.id}`} label=${`Log of ${step.name}`} />`}
      ${step.outputs && html`<details><summary class="quiet">What it returned</summary><${Outputs} of=${{ result: step.outputs }} /></details>`}
      ${step.cache_key && html`<small>Cache key <${Id} value=${step.cache_key} /></small>`}</div><//>
    ${asking === 'again' && html`<${Dialog} title=${`Run again from ${step.name}`} deed="Run from here" onClose=${() => setAsking('')} act=${async () => { await post(`/pipeline-runs/${enc(run.id)}/resume`, { start: step.name }); reload(); }}><p class="quiet">This step and everything that rests on it run again; the others keep their results. Earlier tries and what they printed stay.</p><//>`}
    ${(asking === 'yes' || asking === 'no') && html`<${Dialog} title=${question?.prompt ?? step.name} deed=${asking === 'yes' ? 'Approve' : 'Reject'} danger=${asking === 'no'} done=${asking === 'yes' ? 'Approved' : 'Rejected'} onClose=${() => setAsking('')} act=${async (/** @type {FormData} */ f) => { const { digest } = await api(`/approvals/${enc(step.approval_id)}`); await post(`/approvals/${enc(step.approval_id)}/${asking === 'yes' ? 'approve' : 'reject'}`, { comment: String(f.get('comment') ?? ''), digest }); reload(); }}>
      <p class="quiet">${asking === 'yes' ? 'What waits for this goes on.' : 'What waits for this is passed over.'}</p><${Field} as="textarea" label="Why" name="comment" required=${asking === 'no'} /><//>`}`;
}

const NAMES = /** @type {Record<string, string>} */ ({ ray: 'Ray', kubernetes: 'Kubernetes', slurm: 'Slurm' });

/** Where a try runs or ran, to go on in a sentence. @param {any} attempt @param {string} worker */
function whereOf(attempt, worker) {
  const { executor, job, node, image } = attempt?.place ?? {};
  if (!executor) return worker ? ` on ${worker}` : '';
  return html` on ${node || (attempt.state === 'running' ? 'no node yet' : 'no node')}, as the ${NAMES[executor] ?? executor} job <code>${job}</code>${image ? html` in <code>${image}</code>` : ''}`;
}

/** What it was promised and what it used. @param {{step: any, attempt: any}} props */
function Use({ step, attempt }) {
  const items = [['Queue', step.queue !== 'default' && step.queue], ['Processors', step.cpu > 0 && num(step.cpu)], ['GPUs', step.gpu > 0 && step.gpu],
    ['Memory', (attempt?.memory_peak_bytes || step.memory_bytes > 0) && `${attempt?.memory_peak_bytes ? `${bytes(attempt.memory_peak_bytes)} at most` : ''}${attempt?.memory_peak_bytes && step.memory_bytes > 0 ? ', of ' : ''}${step.memory_bytes > 0 ? `${bytes(step.memory_bytes)} allowed` : ''}`]].filter(([, v]) => v);
  return items.length ? html`<${Kv} items=${items} />` : null;
}

/** The numbers it says of itself while it works: the last of each, and how it went. @param {{step: any, run: string}} props */
function Reported({ step, run }) {
  const found = useResource(`/step-runs/${enc(step.id)}/reports`, { ticks: [`pipeline_run:${run}`], every: LIVE.includes(step.state) ? 5000 : 0 });
  const rows = found.data?.items ?? [];
  return rows.length ? html`<${Table} label="What it reported" rows=${rows} rowKey=${(/** @type {any} */ r) => r.name} columns=${[{ key: 'n', label: 'Reported', cell: (r) => r.name }, { key: 's', label: 'At', num: true, cell: (r) => r.points.at(-1)[0] }, { key: 'v', label: 'Last', num: true, cell: (r) => (r.points.at(-1)[1] === null ? '–' : num(r.points.at(-1)[1])) }, { key: 'c', label: 'So far', cell: (r) => html`<${Sparkline} values=${r.points.map((/** @type {any} */ p) => p[1])} label=${`${r.name} so far`} />` }]} />` : null;
}

/** What people are shown when they are asked. @param {{approval: string}} props */
function Evidence({ approval }) {
  const found = useResource(`/approvals/${enc(approval)}`, { kinds: ['approval.'] });
  return html`<${Show} of=${found}>${(/** @type {any} */ a) => html`<${JsonView} value=${a.evidence} />`}<//>`;
}

/** @param {any} props */
export function Outputs({ of }) {
  const kept = Object.entries(of).flatMap(([k, v]) => keptOf(v, k));
  return html`<div class="stack"><${JsonView} value=${Object.fromEntries(Object.entries(of).map(([k, v]) => [k, plain(v)]))} />
    ${kept.length > 0 && html`<${Table} label="Values in files" rows=${kept} rowKey=${(/** @type {import('../lib/steps.js').Kept} */ r) => r.part} columns=${[{ key: 'p', label: 'Value', cell: (r) => html`<code>${r.part}</code>` }, { key: 't', label: 'Type', cell: (r) => html`<code>${r.type}</code>` }, { key: 'b', label: 'Kept by', cell: (r) => html`<code>${r.by}</code>` }, { key: 's', label: 'Size', num: true, cell: (r) => bytes(r.size) }, { key: 'd', label: 'Digest', cell: (r) => html`<${Id} value=${r.digest} />` }, { key: 'f', label: '', cell: (r) => r.file && html`<a class="button small" data-external download=${r.file} aria-label=${`Download ${r.part}`} href=${href(`/blobs/${r.digest}`)}><${Icon} name="download" small />${r.file}</a>` }]} />`}</div>`;
}

/** A value as it can be shown: JSON in full, what is in files by type and digest. @param {any} v @returns {any} */
function plain(v) {
  switch (v?.as) {
    case 'json': return v.value;
    case 'pickle': case 'saved': return `${v.type || 'object'}, ${bytes(v.size_bytes)}, ${short(v.digest)}`;
    case 'many': return v.items.map(plain);
    case 'named': return Object.fromEntries(Object.entries(v.items).map(([k, x]) => [k, plain(x)]));
    case 'part': return `part ${JSON.stringify(v.path)} of ${short(v.value.digest)}`;
    default: return v;
  }
}
