// @ts-check
/** One loop: what it joins, where its present turn stands, every turn it made, and the stop button. */

import { useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Deed } from '../components/deed.js';
import { Icon } from '../components/icon.js';
import { Page, Block } from '../components/page.js';
import { Show } from '../components/empty.js';
import { Ring } from '../components/ring.js';
import { Dialog, Field } from '../components/dialog.js';
import { State } from '../components/state.js';
import { Turn, stationsOf } from '../components/turn.js';
import { Timeline } from '../components/timeline.js';
import { JsonView } from '../components/json-view.js';
import { ApprovalGate } from './model-version.js';
import { spec as specOf } from './loops.js';
import { Kv, Num, RefLink, Time, Who } from '../components/values.js';
import { Talk } from '../components/talk.js';
import { useCommands, useResource } from '../components/use.js';
import { enc, post } from '../lib/api.js';
import { duration, plural } from '../lib/format.js';
import { iconOf } from '../lib/refs.js';

/** @param {any} props */
export default function LoopPage({ params }) {
  const { loop: name } = params;
  const answer = useResource(`/loops/${enc(name)}`, { kinds: ['loop', 'turn', 'alert.', 'pipeline_run.', 'model_version.', 'approval.', 'canary.'] });
  const [asking, setAsking] = useState('');
  const l = answer.data?.loop ?? answer.data, s = l && specOf(l), turns = answer.data?.turns ?? l?.turns ?? [];
  const now = turns.find((/** @type {any} */ t) => !ended(t.state));
  const approvals = useResource(now?.state === 'awaiting_approval' ? '/approvals?state=pending&limit=50' : null, { kinds: ['approval.'] });
  const waiting = (approvals.data?.items ?? []).filter((/** @type {any} */ a) => a.id === now?.approval_id);
  const passes = answer.data?.passes ?? [];
  const stopped = l && !l.is_enabled;
  useCommands(l ? [{ id: 'actions', title: stopped ? 'Start the loop' : 'Stop the loop', icon: stopped ? 'play' : 'square', keys: '.', group: 'Loop', run: () => setAsking(stopped ? 'start' : 'stop') }] : []);
  return html`<${Page} crumbs=${[['Loops', '/loops'], [name]]} loading=${answer.loading} actions=${l && (stopped ? html`<${Deed} may="loop.run" on=${`loop:${name}`} class="button primary" onClick=${() => setAsking('start')}><${Icon} name="play" />Start<//>` : html`<${Deed} may="loop.run" on=${`loop:${name}`} class="button" onClick=${() => setAsking('run')} disabled=${Boolean(now)}><${Icon} name="iteration-cw" />Turn once<//><${Deed} may="loop.run" on=${`loop:${name}`} class="button danger" onClick=${() => setAsking('stop')}><${Icon} name="square" />Stop<//>`)}>
    <${Show} of=${answer}>${() => html`<div class="story"><h2>${name}<${State} of="active" word=${stopped ? 'stopped' : now ? 'turning' : 'watching'} tone=${stopped ? 'warn' : now ? 'running' : 'done'} /></h2>
        <p>${s.monitor ? html`When <${RefLink} to=${`monitor:${s.monitor}`} /> alerts` : 'When somebody asks'}, it runs <${RefLink} to=${`pipeline:${s.pipeline}`} />, compares the new version of <${RefLink} to=${`model:${s.model}`} /> with the champion${s.approval?.mode === 'required' ? `, asks for ${plural(s.approval.count, 'approval')}` : ''}, tries it on <${RefLink} to=${`endpoint:${s.endpoint}`} />${s.canary?.steps?.length ? ` at ${s.canary.steps.join(' and ')} %` : ''}, and promotes it or rolls back.${s.cooldown_s ? ` It rests ${duration(s.cooldown_s * 1000)} between turns.` : ''}${l.waits_until_ms > Date.now() ? html` Now it rests until <${Time} at=${l.waits_until_ms} absolute />.` : ''} ${s.description}</p></div>
      <div class="split"><div class="ring-scroll" tabindex="0" role="region" aria-label="The loop as a wheel"><${Ring} label=${`The loop ${name}`} word=${stopped ? 'stopped' : now ? `turn ${now.number ?? ''}` : 'at rest'} stations=${wheel(s, now)} /></div>
        <${Block} title=${now ? 'The present turn' : 'At rest'}>${now ? html`<div class="stack"><${Turn} state=${now.state} seen=${seenOf(now)} /><${TurnDetail} of=${now} />${waiting.map((/** @type {any} */ a) => html`<${ApprovalGate} key=${a.id} of=${a} />`)}</div>` : html`<p class="muted">It turns when ${s.monitor ? 'the monitor alerts' : 'somebody asks'}${turns.length ? html`; the last turn ended <${Time} at=${turns[0].ended_at_ms ?? turns[0].moved_at_ms} />` : ''}.</p>`}<//></div>
      <div class="split"><${Block} title="Turns" count=${turns.length || null}>${turns.length ? html`<ol class="stack">${turns.map((/** @type {any} */ t, /** @type {number} */ i) => html`<li class="card" key=${t.id ?? i}><div class="row"><b>Turn ${t.number ?? turns.length - i}</b><span class="muted end"><${Time} at=${t.started_at_ms ?? t.created_at_ms ?? t.at_ms} />${t.ended_at_ms ? `, took ${duration(t.ended_at_ms - (t.started_at_ms ?? t.created_at_ms))}` : ''}</span></div><${Turn} state=${t.state} seen=${seenOf(t)} /><${TurnDetail} of=${t} /></li>`)}</ol>` : html`<p class="muted">It has not turned yet.</p>`}<//>
        <div class="stack loose">${passes.length > 0 && html`<${Block} title="Alerts it passed over"><${Timeline} label="Passed over" items=${passes.map((/** @type {any} */ p) => ({ key: p.cause, tone: 'queued', at: p.at_ms, what: p.alert ? html`<${RefLink} to=${`alert:${p.alert}`} />` : html`<a href=${`/audit?seq=${p.cause}`}>fact ${p.cause}</a>`, why: p.reason }))} /><//>`}<${Block} title="Rules"><${Kv} items=${[['Cool-down', s.cooldown_s ? duration(s.cooldown_s * 1000) : 'none'], ['Budget', [s.budget.turns_per_day !== null ? `${plural(s.budget.turns_per_day, 'turn')} a day` : '', s.budget.turns !== null ? `${plural(s.budget.turns, 'turn')} in all` : ''].filter(Boolean).join(', ') || 'no limit'], ['Gate', html`${s.gate.metric} ${s.gate.direction}${s.gate.min_improvement ? ` by at least ${s.gate.min_improvement}` : ' than the champion'} on the same data${s.gate.max_p ? `, p at most ${s.gate.max_p}` : ''}${s.gate.needs_interval ? ', with an interval on the better side' : ''}`], ['Approval', s.approval.mode === 'auto' ? 'not needed' : `${plural(s.approval.count, 'person', 'people')} who ${s.approval.count === 1 ? 'is' : 'are'} not the author${s.approval.roles.length ? `, with the role ${s.approval.roles.join(' or ')}` : ''}`], ['Canary', s.canary.steps.length ? html`${s.canary.steps.map((/** @type {number} */ x) => `${x} %`).join(', then ')}${s.canary.guard?.metric ? `, while ${s.canary.guard.metric} is not worse` : ''}` : 'none: all traffic at once'], ['Parameters', s.params && Object.keys(s.params).length ? html`<${JsonView} value=${s.params} />` : null], ['Acts for', html`<${Who} of=${l.owner} />`], ['Turns so far', plural(l.turns_count ?? turns.length, 'turn')]]} /><//></div></div>`}<//>
    ${asking && html`<${Dialog} title=${{ stop: `Stop the loop ${name}`, start: `Start the loop ${name}`, run: `Turn ${name} once` }[/** @type {'stop'} */ (asking)]} deed=${{ stop: 'Stop the loop', start: 'Start the loop', run: 'Turn once' }[/** @type {'stop'} */ (asking)]} danger=${asking === 'stop'} done="Done" onClose=${() => setAsking('')} act=${async (/** @type {FormData} */ f) => { await post(`/loops/${enc(name)}/${asking}`, asking === 'start' ? undefined : { reason: String(f.get('reason') ?? '') }); answer.reload(); }}>
      <p class="quiet">${asking === 'stop' ? 'A turn under way ends where it is; a canary is rolled back. What is in production stays.' : asking === 'start' ? 'It watches again from now on; alerts that were opened meanwhile do not count.' : 'The same path as after an alert, without one; budget and gates apply.'}</p>${asking !== 'start' && html`<${Field} label="Why" name="reason" required=${asking === 'stop'} />`}<//>`}
    ${l && html`<${Talk} about=${`loop:${name}`} />`}
  <//>`;
}

/** @param {any} props */
function TurnDetail({ of: t }) {
  const c = t.comparison;
  const steps = (t.steps ?? []).map((/** @type {any} */ h) => ({ key: h.seq, tone: ended(h.state) && h.state !== 'promoted' ? 'failed' : 'done', at: h.at_ms, what: String(h.state).replaceAll('_', ' '), why: html`${h.why} <a href=${`/audit?seq=${h.seq}`}>fact ${h.seq}</a>` }));
  return html`<div class="stack tight">${t.reason && html`<p class="quiet">${t.reason}</p>`}
    <${Kv} items=${[['Because of', t.cause ? html`<a href=${`/audit?seq=${t.cause}`}>${t.trigger === 'alert' ? 'an alert' : 'a request'}, fact ${t.cause}</a>` : html`<${Who} of=${t.started_by} />`], ['Training', t.pipeline_run_id && html`<${RefLink} to=${`pipeline_run:${t.pipeline_run_id}`} />`], ['Challenger', t.challenger ? html`<a href=${`/models/${enc(t.spec.model)}/${t.challenger}`}>${t.spec.model}@${t.challenger}</a>` : t.model_version_id && html`<${RefLink} to=${`model_version:${t.model_version_id}`} />`], ['Champion', t.champion && html`<a href=${`/models/${enc(t.spec.model)}/${t.champion}`}>${t.spec.model}@${t.champion}</a>`],
      ['Comparison', c && html`<span class=${c.passed ? 'ok' : 'bad'}>${c.metric}: <${Num} value=${c.challenger_value} /> against <${Num} value=${c.champion_value} /></span> <span class="muted">${c.reason.replace(/\.$/, '')}${c.dataset_version ? html`, on ${c.split} of <${RefLink} to=${`dataset_version:${c.dataset_version}`} />` : ''}</span>`], ['Approval', t.approval_id && html`<a href="/approvals">asked</a>`], ['Canary', t.canary_id && html`<a href=${`/endpoints/${enc(t.spec.endpoint)}`}>on ${t.spec.endpoint}</a>`]]} />
    ${steps.length > 0 && html`<details><summary class="quiet">Step by step</summary><${Timeline} label="Steps of the turn" items=${steps} /></details>`}</div>`;
}

/** @param {string} state */
function ended(state) { return ['promoted', 'rolled_back', 'rejected', 'failed', 'stopped', 'superseded'].includes(state); }
/** @param {any} t @returns {string[]} */
function seenOf(t) { return (t.steps ?? []).map((/** @type {any} */ h) => h.state); }
/** The stations of the wheel and what each is to the present turn. @param {any} s @param {any} now */
function wheel(s, now) {
  const is = now ? Object.fromEntries(stationsOf(now.state, seenOf(now)).map((x) => [x.id, x.is === 'skipped' ? 'past' : x.is])) : {};
  const at = (/** @type {string} */ id) => is[id] ?? 'ahead';
  return [['triggered', 'gauge', 'watch', s.monitor || 'by hand', s.monitor ? `/monitors/${enc(s.monitor)}` : null], ['training', iconOf('pipeline'), 'retrain', s.pipeline, `/pipelines/${enc(s.pipeline)}`], ['comparing', iconOf('model'), 'compare', s.model, `/models/${enc(s.model)}`],
    ...(s.approval?.mode === 'required' ? [['awaiting_approval', 'shield-check', 'approve', 'somebody else', '/approvals']] : []), ['canary', 'split', 'try', s.endpoint, `/endpoints/${enc(s.endpoint)}`], ['promoted', 'crown', 'promote', s.endpoint, `/endpoints/${enc(s.endpoint)}`]].map(([id, icon, kind, name, href]) => ({ id, icon, kind, name: name ?? '–', href, is: /** @type {'past'} */ (at(id)) }));
}
