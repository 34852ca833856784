// @ts-check
/** One endpoint: live traffic and latency by revision, the split, the canary and its evidence, revisions, replicas; and the two
 *  buttons that move traffic. */

import { useMemo, useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Deed } from '../components/deed.js';
import { Icon } from '../components/icon.js';
import { Page, Block } from '../components/page.js';
import { Table } from '../components/table.js';
import { Command, Show } from '../components/empty.js';
import { Curve } from '../components/curve.js';
import { Dialog, Field } from '../components/dialog.js';
import { State } from '../components/state.js';
import { Segmented, Chip } from '../components/chips.js';
import { SplitBar, roleColour } from '../components/split-bar.js';
import { Shadow } from '../components/shadow.js';
import { TryIt } from '../components/try-it.js';
import { Timeline } from '../components/timeline.js';
import { JsonView } from '../components/json-view.js';
import { sentenceOf, toneOfFact } from '../components/fact.js';
import { Id, Kv, Num, RefLink, Time, Who } from '../components/values.js';
import { Talk } from '../components/talk.js';
import { useCommands, useResource } from '../components/use.js';
import { enc, post, withQuery } from '../lib/api.js';
import { bytes, count, direction, duration, num, percent, short } from '../lib/format.js';
import { recent } from '../lib/traffic.js';
import { now } from '../lib/store.js';

const SPANS = /** @type {Record<string, [number, number]>} */ ({ '15m': [900, 10], '1h': [3600, 10], '6h': [21_600, 60], '24h': [86_400, 300], '7d': [604_800, 1800] });

/** What happened, without the sealed files that come every two seconds. */
const TOLD = 'endpoint.created,endpoint.deleted,endpoint.split_changed,revision.created,revision.ready,revision.failed,endpoint.worker_ended,canary.started,canary.advanced,canary.promoted,canary.rolled_back,alert.opened,alert.resolved';

/** @param {any} props */
export default function EndpointPage({ params, query, setQuery }) {
  const { endpoint: name } = params;
  const detail = useResource(`/endpoints/${enc(name)}`, { kinds: ['endpoint.', 'revision.', 'canary.'], ticks: [`endpoint:${name}`], every: 10_000 });
  const span = query.get('span') ?? '1h', [seconds, step] = SPANS[span] ?? SPANS['1h'];
  const from = Math.floor((now.value - seconds * 1000) / (step * 1000)) * step * 1000;
  const traffic = useResource(`/endpoints/${enc(name)}/traffic?from_ms=${Math.floor(from / 60_000) * 60_000}&step_s=${step}`, { every: 5000, ticks: [`endpoint:${name}`] });
  const told = [`endpoint:${name}`, ...(detail.data?.revisions ?? []).slice(0, 20).map((/** @type {any} */ r) => `revision:${r.id}`)];
  const facts = useResource(withQuery('/events', { subject: told.join(','), kinds: TOLD, limit: 30 }), { subjects: told });
  const [asking, setAsking] = useState('');
  const d = detail.data, e = d?.endpoint, canary = d?.canary && ['starting', 'running'].includes(d.canary.state) ? d.canary : null;
  const previous = e?.routes.find((/** @type {any} */ r) => r.role === 'previous');
  useCommands(e ? [{ id: 'actions', title: canary ? 'Roll the canary back' : 'Deploy a version', icon: 'rocket', keys: '.', group: 'Endpoint', run: () => setAsking(canary ? 'rollback' : 'deploy') }] : []);
  const reload = () => { detail.reload(); facts.reload(); };
  return html`<${Page} crumbs=${[['Endpoints', '/endpoints'], [name]]} loading=${detail.loading} actions=${e && html`<a class="button" href=${`/endpoints/${enc(name)}/predictions`}><${Icon} name="table" />Predictions</a>
      ${canary ? html`<${Deed} may="endpoint.deploy" on=${`endpoint:${name}`} class="button danger" onClick=${() => setAsking('rollback')}><${Icon} name="undo-2" />Roll back<//><${Deed} may="endpoint.deploy" on=${`endpoint:${name}`} class="button primary" onClick=${() => setAsking('promote')}><${Icon} name="crown" />Promote canary<//>`
        : html`${previous && html`<${Deed} may="endpoint.deploy" on=${`endpoint:${name}`} class="button danger" onClick=${() => setAsking('rollback')}><${Icon} name="undo-2" />Roll back<//>`}<${Deed} may="endpoint.deploy" on=${`endpoint:${name}`} class="button" onClick=${() => setAsking('canary')}><${Icon} name="split" />Start canary…<//><${Deed} may="endpoint.deploy" on=${`endpoint:${name}`} class="button" onClick=${() => setAsking('deploy')}><${Icon} name="rocket" />Deploy…<//>`}`}>
    <${Show} of=${detail}>${() => html`<div class="story"><h2>${name}<${State} of=${e.status} /></h2>
        <p>It answers with <${RefLink} to=${`model:${e.model}`} />${e.routes.filter((/** @type {any} */ r) => r.weight > 0).map((/** @type {any} */ r, /** @type {number} */ i) => html`${i ? ' and ' : ': '}<a href=${`/models/${enc(e.model)}/${r.model_version}`}>@${r.model_version}</a> (${r.role})`)}. The split changed last <${Time} at=${e.updated_at_ms} />, generation ${e.generation}.${e.pending_revision_id ? html` Revision <b>${short(e.pending_revision_id)}</b> is being loaded.` : ''}</p>
        <${SplitBar} routes=${e.routes} wide /></div>
      ${canary && html`<${CanaryBlock} of=${canary} name=${name} revisions=${d.revisions} />`}
      <${Block} title="Live" actions=${html`<${Segmented} label="Span of time" value=${span} options=${Object.keys(SPANS).map((k) => [k, k])} onChange=${(/** @type {string} */ v) => setQuery({ span: v === '1h' ? null : v })} />`}><${Live} traffic=${traffic.data} detail=${d} step=${step} /><//>
      ${e.routes.some((/** @type {any} */ r) => r.role === 'shadow') && html`<${Shadow} name=${name} revision=${e.routes.find((/** @type {any} */ r) => r.role === 'shadow').revision_id} />`}
      ${e.routes.length > 0 && html`<${TryIt} name=${name} model=${e.model} version=${e.routes[0].model_version} />`}
      <${Performance} name=${name} query=${query} setQuery=${setQuery} />
      <${Coverage} name=${name} />
      <div class="split"><${Block} title="Revisions" count=${d.revisions.length}><${Table} label="Revisions" rows=${d.revisions} columns=${[
        { key: 'n', label: 'Revision', cell: (r) => html`<a class="main" href=${`/models/${enc(r.model)}/${r.model_version}`}>${r.model}@${r.model_version}</a>` , sort: (r) => r.number }, { key: 'role', label: 'Role', cell: (r) => { const route = e.routes.find((/** @type {any} */ x) => x.revision_id === r.id); return route ? html`<span class="row" style=${{ color: roleColour(route.role) }}><span class="dot"></span><span class="quiet">${route.role}${route.weight ? `, ${route.weight} %` : ''}</span></span>` : html`<span class="muted">–</span>`; } },
        { key: 's', label: 'State', cell: (r) => html`<${State} of=${r.state} />` }, { key: 'rep', label: 'Replicas', cell: (r) => html`<${Replicas} of=${d.replicas.filter((/** @type {any} */ x) => x.revision_id === r.id)} />` }, { key: 'id', label: 'Id', cell: (r) => html`<${Id} value=${r.id} />` },
        { key: 'by', label: 'By', cell: (r) => html`<${Who} of=${r.actor} />` }, { key: 'at', label: 'Made', cell: (r) => html`<${Time} at=${r.created_at_ms} />`, sort: (r) => r.created_at_ms }, { key: 'e', label: '', prose: true, cell: (r) => r.error && html`<span class="bad">${r.error}</span>` }, { key: 'runs', label: 'Runs in', prose: true, cell: (r) => html`<${RunsIn} of=${d.replicas.find((/** @type {any} */ x) => x.revision_id === r.id)} />` }]} /><//>
        <${Block} title="What happened">${facts.data?.items?.length ? html`<${Timeline} label="Facts about the endpoint" items=${facts.data.items.map((/** @type {any} */ f) => ({ key: f.seq, tone: toneOfFact(f), what: sentenceOf(f), at: f.at_ms, why: f.data.reason && !['canary.rolled_back', 'endpoint.worker_ended'].includes(f.kind) ? f.data.reason : undefined }))} />` : html`<p class="muted">Nothing yet.</p>`}<//></div>
      <${Block} title="Use it"><${Kv} class="facts" items=${addresses(d, name)} /><div class="halves"><${Command} text=${`curl -s ${String(d.url || location.origin).replace(/\/endpoints\/.*$/, '')}/endpoints/${name}/invocations \\\n  -H 'content-type: application/json' \\\n  -d '{"dataframe_split": {"columns": [], "data": []}}'`} /><${Command} text=${`noria endpoint deploy ${e.model}@champion --name ${name}`} /></div><//>`}<//>
    ${asking === 'deploy' && html`<${Dialog} title=${`Deploy to ${name}`} deed="Deploy at 100 %" done="The version is being loaded" onClose=${() => setAsking('')} act=${async (/** @type {FormData} */ f) => { await post(`/endpoints/${enc(name)}/deploy`, { model: String(f.get('model')) }); reload(); }}><p class="quiet">It is loaded beside the present one and takes over when it is ready; no request is dropped. Policies are asked first.</p><${Field} label="Model version" name="model" required placeholder=${`${e.model}@7 or ${e.model}@champion`} value=${`${e.model}@champion`} /><//>`}
    ${asking === 'canary' && html`<${Dialog} title=${`Try a version on a share of ${name}`} deed="Start canary" done="The canary is being loaded" onClose=${() => setAsking('')} act=${async (/** @type {FormData} */ f) => { await post(`/endpoints/${enc(name)}/canary`, { model: String(f.get('model')), steps: String(f.get('steps')).split(/[\s,]+/).filter(Boolean).map(Number), guard: guardOf(f) }); reload(); }}><${Field} label="Model version" name="model" required value=${`${e.model}@challenger`} /><${Field} label="Shares, in percent" name="steps" value="10, 50" hint="The next step is taken when the evidence says the canary is not worse." /><${Field} label="More failures than the champion, at most, in percent" name="max_error_share" type="number" min="0" max="100" step="any" value="2" /><${Field} label="p95 latency over the champion's, at most" name="max_latency_ratio" type="number" min="1" step="any" placeholder="any" hint="2 means twice as slow." /><${Field} label="Distance of its scores from the champion's (PSI), at most" name="max_score_psi" type="number" min="0.01" step="any" placeholder="any" hint="0.25 is commonly read as large." /><//>`}
    ${asking === 'promote' && html`<${Dialog} title=${`Give ${e.model}@${canary?.model_version} all of the traffic`} deed="Promote canary" done="The canary is the champion" onClose=${() => setAsking('')} act=${async () => { await post(`/endpoints/${enc(name)}/promote`); reload(); }}><p class="quiet">It has ${canary?.steps?.[canary.step] ?? 0} % now. The present champion stays warm, so that rolling back is at once.</p><//>`}
    ${asking === 'rollback' && html`<${Dialog} title=${canary ? `Take the traffic from ${e.model}@${canary.model_version}` : `Go back to ${e.model}@${previous?.model_version}`} deed="Roll back" danger done="Rolled back" onClose=${() => setAsking('')} act=${async (/** @type {FormData} */ f) => { await post(`/endpoints/${enc(name)}/rollback`, { reason: String(f.get('reason') || 'asked for') }); reload(); }}><p class="quiet">${canary ? 'The champion gets all of it again, at once.' : 'The previous revision is still loaded; it takes over at once.'}</p><${Field} label="Why" name="reason" required placeholder="what you saw" /><//>`}
    ${e && html`<${Talk} about=${`endpoint:${name}`} />`}
  <//>`;
}

/** Where each protocol is spoken. @param {any} d @param {string} name @returns {[string, any][]} */
function addresses(d, name) {
  const base = String(d.url || location.origin).replace(/\/endpoints\/.*$/, '');
  return [['MLflow', html`<code>${`${base}/endpoints/${name}`}</code>`], ['Open Inference Protocol V2', html`<code>${`${base}/v2/models/${name}`}</code>`],
    ['The same over gRPC', d.grpc ? html`<code>${d.grpc}</code>` : html`<span class="muted">switched off</span>`]];
}

/** @param {any} props */
function Live({ traffic, detail, step }) {
  const lines = useMemo(() => linesOf(traffic, detail, step), [traffic, detail]);
  if (!traffic?.t?.length) return html`<p class="muted">No requests in this span.</p>`;
  const minute = recent(traffic, Math.max(1, Math.round(60 / step)));
  return html`<div class="stack"><${Kv} class="facts" items=${[['Requests, last minute', num(minute.requests)], ['Errors', html`<span class=${minute.error_share > 0.01 ? 'bad' : ''}>${percent(minute.error_share)}</span>`], ['p99, last minute', duration(minute.p99_ms)]]} />
    <div class="charts"><${Curve} title="Requests a second" x="time" lines=${lines.rate} sync="endpoint" zero /><${Curve} title="p99 latency" x="time" unit="ms" lines=${lines.p99} sync="endpoint" zero /><${Curve} title="Median latency" x="time" unit="ms" lines=${lines.p50} sync="endpoint" zero /><${Curve} title="Errors a second" x="time" lines=${lines.errors} sync="endpoint" zero /></div></div>`;
}

/** @param {any} traffic @param {any} detail @param {number} step */
function linesOf(traffic, detail, step) {
  const ended = traffic?.t?.length && traffic.t.at(-1) + step * 1000 > Date.now() ? traffic.t.length - 1 : traffic?.t?.length ?? 0; // A step that still fills would look like a fall.
  const make = (/** @type {(s: any) => any[]} */ read) => Object.entries(traffic?.by_revision ?? {}).map(([id, s], i) => {
    const route = detail.endpoint.routes.find((/** @type {any} */ r) => r.revision_id === id), revision = detail.revisions.find((/** @type {any} */ r) => r.id === id);
    return { id, name: revision ? `@${revision.model_version}${route ? ` ${route.role}` : ''}` : short(id), colour: route ? roleColour(route.role) : `var(--series-${(i % 8) + 1})`, x: traffic.t.slice(0, ended), y: read(s).slice(0, ended) };
  });
  return { rate: make((s) => s.count.map((/** @type {number} */ v) => v / step)), errors: make((s) => s.errors.map((/** @type {number} */ v) => v / step)), p50: make((s) => s.p50_ms), p99: make((s) => s.p99_ms) };
}

/** @param {any} props */
function CanaryBlock({ of: c, name }) {
  const evidence = useResource(`/endpoints/${enc(name)}/canary/evidence`, { kinds: ['canary.', 'window.'], every: 5000 });
  const looks = evidence.error ? [] : [...(evidence.data?.items ?? [])].filter((/** @type {any} */ j) => !j.canary_id || j.canary_id === c.id).sort((a, b) => a.at_ms - b.at_ms);
  const last = looks.at(-1);
  return html`<${Block} title=${`Canary: @${c.model_version}`} actions=${html`<${State} of=${c.state === 'running' ? 'running' : 'pending'} word=${c.state === 'running' ? `at ${c.steps[c.step]} %` : 'being loaded'} />`}>
    <div class="halves"><div class="stack"><ol class="turn">${c.steps.map((/** @type {number} */ s, /** @type {number} */ i) => html`<li key=${i} class=${i < c.step ? 'past' : i === c.step ? 'now' : ''}><${Chip} tone=${i === c.step ? 'accent' : ''}>${s} %<//></li>`)}<li><${Chip}>100 %<//></li></ol>
      <p class="quiet">It began <${Time} at=${c.started_at_ms} />. It goes on while ${c.guard.metric} is not worse${c.guard.max_worse ? ` by more than ${num(c.guard.max_worse)}` : ''}, at ${percent(1 - c.guard.alpha)} confidence over at least ${c.guard.min_labels} labels, and while it fails at most ${percent(c.guard.max_error_share)} more often${limitsOf(c.guard)}.</p>
      ${last ? html`<p>${last.words}</p><${Kv} items=${[['Difference', html`<span><${Num} value=${last.difference} /> <span class="muted">between <${Num} value=${last.low} /> and <${Num} value=${last.high} /></span></span>`], ['Labels', `${last.canary.labels} canary, ${last.champion.labels} champion`], ['Needed still', last.labels_needed === null || last.labels_needed === undefined ? 'more than can be said' : last.labels_needed ? `about ${count(last.labels_needed)}` : 'none'], ['Score PSI', html`<${Num} value=${last.score_psi} />`]]} />` : html`<p class="muted">No judgement yet: truth has to arrive first.</p>`}
      ${Object.keys(c.evidence ?? {}).length > 0 && html`<details><summary class="quiet">Evidence</summary><${JsonView} value=${c.evidence} /></details>`}</div>
      ${looks.length > 1 && html`<${Curve} title=${`Loss of the canary minus loss of the champion (${c.guard.metric})`} x="time" better="low" thresholds=${[{ value: c.guard.max_worse, label: 'worse above', tone: 'bad' }]} lines=${[{ id: 'd', name: 'difference', colour: 'var(--series-2)', x: looks.map((j) => j.at_ms), y: looks.map((j) => j.difference), low: looks.map((j) => j.low), high: looks.map((j) => j.high) }]} />`}</div><//>`;
}

/** The guard-rails that somebody switched on, in words. @param {any} g */
function limitsOf(g) {
  return [g.max_latency_ratio !== null && `, its p95 is at most ${num(g.max_latency_ratio)} times the champion's`, g.max_score_psi !== null && `, its scores are at most ${num(g.max_score_psi)} (PSI) from the champion's`,
    g.max_fairness_gap !== null && `, and groups of ${g.fairness_column} differ by at most ${percent(g.max_fairness_gap)} more`].filter(Boolean).join('');
}

/** What the form says of guard-rails; an empty field switches one off. @param {FormData} f */
function guardOf(f) {
  const of = (/** @type {string} */ k) => (String(f.get(k) ?? '').trim() === '' ? null : Number(f.get(k)));
  const share = of('max_error_share');
  return { max_error_share: share === null ? 1 : share / 100, max_latency_ratio: of('max_latency_ratio'), max_score_psi: of('max_score_psi') };
}

const METRICS = ['brier', 'log_loss', 'auc', 'accuracy', 'f1'];

/** Quality by revision, from truth that came back. @param {{name: string, query: URLSearchParams, setQuery: (q: any) => void}} props */
function Performance({ name, query, setQuery }) {
  const metric = query.get('metric') ?? 'brier';
  const answer = useResource(withQuery(`/endpoints/${enc(name)}/performance`, { by: 'revision', metric }), { kinds: ['truth.', 'window.', 'canary.'] });
  const windows = answer.data?.items ?? [];
  const lines = useMemo(() => {
    const groups = new Map();
    for (const w of windows) { const k = w.model_version || w.group || 'all'; (groups.get(k) ?? groups.set(k, []).get(k)).push(w); }
    return [...groups].map(([k, ws], i) => ({ id: k, name: /^[0-9a-f]{32}$/.test(k) ? short(k) : k, colour: `var(--series-${(i % 8) + 1})`, x: ws.map((/** @type {any} */ w) => w.end_ms), y: ws.map((/** @type {any} */ w) => w.value), low: ws.map((/** @type {any} */ w) => w.low), high: ws.map((/** @type {any} */ w) => w.high) }));
  }, [answer.data]);
  if (!windows.length && metric === 'brier') return null;
  return html`<${Block} title="Against the truth" actions=${html`<span class="muted">by window of event time, with its interval</span><${Segmented} label="Metric" value=${metric} options=${METRICS.map((m) => [m, m.replace('_', ' ')])} onChange=${(/** @type {string} */ m) => setQuery({ metric: m === 'brier' ? null : m })} />`}>
    ${answer.error ? html`<p class="muted">${answer.error.message}</p>` : html`<${Curve} title=${metric.replace('_', ' ')} x="time" height=${220} points better=${direction(metric)} lines=${lines} />`}<//>`;
}

/** How much of the truth is known, and how late it comes. @param {{name: string}} props */
function Coverage({ name }) {
  const answer = useResource(`/endpoints/${enc(name)}/labels?windows=30`, { kinds: ['truth.', 'segment.'] });
  const days = [...(answer.data?.items ?? [])].reverse(), last = [...days].reverse().find((d) => d.labels);
  if (!days.length) return null;
  return html`<${Block} title="Truth" actions=${html`<span class="muted">of each day's answers</span>`}>
    <${Kv} class="facts" items=${[['Known', answer.data.predictions ? percent(answer.data.labels / answer.data.predictions) : '–'], ['It comes after', last ? duration(last.delay_s_p50 * 1000) : '–'], ['Nine in ten within', last ? duration(last.delay_s_p90 * 1000) : '–']]} />
    ${days.length > 1 && html`<${Curve} title="Share of answers with truth" x="time" height=${110} zero points lines=${[{ id: 'c', name: 'coverage', colour: 'var(--series-3)', x: days.map((d) => d.end_ms), y: days.map((d) => d.coverage) }]} />`}<//>`;
}

/** What a revision's worker uses, where it runs, what of the machine is kept from it, with which engine; or what it waits for. @param {{of: any}} props */
function RunsIn({ of: r }) {
  if (!r) return null;
  if (r.doing) return html`<span class="quiet">${r.doing}</span>`;
  const memory = r.memory_bytes ? `${bytes(r.memory_bytes)} of ${bytes(r.memory_limit_bytes)} memory` : '';
  return html`<span class="quiet" title=${r.isolation}>${[memory, r.environment, r.engine, r.isolation].filter(Boolean).join('; ')}</span>`;
}

/** @param {{of: any[]}} props */
function Replicas({ of }) {
  if (!of.length) return html`<span class="muted">none</span>`;
  return html`<span class="row">${of.map((r) => html`<span key=${r.node + r.pid} title=${`${r.node}, pid ${r.pid}${r.restarts ? `, ${r.restarts} restarts` : ''}${r.error || r.fault ? `: ${r.error || r.fault}` : ''}`}><${State} of=${r.state} word=${r.restarts ? `${r.state}, ${r.restarts}×` : r.state} /></span>`)}</span>`;
}
