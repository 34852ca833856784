// @ts-check
/** Home: what is going on, what needs somebody, and how to begin. */

import { useMemo } from 'preact/hooks';
import { html } from '../components/html.js';
import { Icon } from '../components/icon.js';
import { Block, Page } from '../components/page.js';
import { Show } from '../components/empty.js';
import { QuickStart } from '../components/quick-start.js';
import { State } from '../components/state.js';
import { SplitBar } from '../components/split-bar.js';
import { Table } from '../components/table.js';
import { Timeline } from '../components/timeline.js';
import { Num, RefLink, Time } from '../components/values.js';
import { useResource } from '../components/use.js';
import { readTable, valueAt } from '../lib/columns.js';
import { collapse, sentenceOf, toneOfFact } from '../components/fact.js';
import { duration, short } from '../lib/format.js';
import { Aliases } from '../components/chips.js';
import { withQuery } from '../lib/api.js';
import { needs } from '../lib/needs.js';
import { me, visited } from '../lib/store.js';
import { weight } from '../lib/view.js';

const LATELY_MS = 7 * 86_400_000;

export default function Home() {
  const runs = useResource('/runs?limit=8&order_by=started_at_ms desc', { kinds: ['run.'], ticks: ['run:*'], map: (a) => readTable(a) });
  const alerts = useResource('/alerts?state=open&limit=8', { kinds: ['alert.'] });
  const approvals = useResource('/approvals?mine=true&limit=8', { kinds: ['approval.'] });
  const inbox = useResource('/inbox?unread=true&limit=20', { kinds: ['comment.', 'pipeline_run.failed'] });
  const endpoints = useResource('/endpoints?limit=8', { kinds: ['endpoint.', 'revision.', 'canary.'] });
  const models = useResource('/models?limit=8', { kinds: ['model.', 'model_version.'] });
  const facts = useResource('/events?limit=200', { kinds: [''], map: (a) => collapse(a.items.filter((/** @type {any} */ f) => !f.kind.startsWith('step_run.'))).slice(0, 16) });
  const since = useMemo(() => Date.now() - LATELY_MS, []), who = me.value?.is_local_admin === false ? ` AND attributes.actor = '${me.value.kind}:${me.value.name}'` : '';
  const failed = useResource(me.value ? withQuery('/runs', { filter: `attributes.status = 'FAILED' AND attributes.start_time > ${since}${who}`, order_by: 'started_at_ms desc', columns: 'name,started_at_ms', limit: 5 }) : null, { kinds: ['run.finished', 'run.deleted'] });
  const broken = useResource('/pipeline-runs?state=failed&mine=true&limit=5', { kinds: ['pipeline_run.'] });
  const fresh = runs.data && runs.data.ids.length === 0;
  const waiting = needs({ alerts: alerts.data?.items, approvals: approvals.data?.items, inbox: inbox.data?.items, pipelines: broken.data?.items, runs: failed.data, since });
  const here = visited.value.filter((v) => v.who === (me.value?.id ?? '')).slice(0, 6);
  return html`<${Page} crumbs=${[['Home']]}>
    ${fresh && html`<${Begin} />`}
    ${waiting.length > 0 && html`<${Needs} waiting=${waiting} />`}
    <div class="split"><div class="stack loose">
      ${here.length > 0 && html`<${Block} title="Where you were"><div class="chips">${here.map((v) => html`<a class="chip" key=${v.path} href=${v.path}>${v.title}</a>`)}</div><//>`}
      ${!fresh && html`<${Block} title="Latest runs" actions=${html`<a href="/runs">All runs</a>`}><${Show} of=${runs}>${(/** @type {any} */ t) => html`<${Latest} table=${t} />`}<//><//>`}
      ${endpoints.data?.items?.length > 0 && html`<${Block} title="In production" actions=${html`<a href="/endpoints">All endpoints</a>`}><${Table} label="Endpoints" rows=${endpoints.data.items} rowKey=${(/** @type {any} */ e) => e.name} href=${(/** @type {any} */ e) => `/endpoints/${encodeURIComponent(e.name)}`} columns=${[
        { key: 'name', label: 'Endpoint', cell: (e) => e.name }, { key: 'model', label: 'Model', cell: (e) => html`<${RefLink} to=${`model:${e.model}`} />` }, { key: 'split', label: 'Split', cell: (e) => html`<${SplitBar} routes=${e.routes ?? []} />` }, { key: 'status', label: 'State', cell: (e) => html`<${State} of=${e.status} />` }]} /><//>`}
      ${models.data?.items?.length > 0 && html`<${Block} title="Models" actions=${html`<a href="/models">All models</a>`}><${Table} label="Models" rows=${models.data.items} rowKey=${(/** @type {any} */ m) => m.name} href=${(/** @type {any} */ m) => `/models/${encodeURIComponent(m.name)}`} columns=${[
        { key: 'name', label: 'Model', cell: (m) => m.name }, { key: 'latest', label: 'Latest', num: true, cell: (m) => (m.latest ? `@${m.latest}` : '–') }, { key: 'aliases', label: 'Aliases', cell: (m) => html`<${Aliases} of=${(m.aliases ?? []).map((/** @type {any} */ a) => `${a.name ?? a}${a.version ? ` → ${a.version}` : ''}`)} />` }]} /><//>`}
      ${!fresh && html`<${Block} title="Begin something"><${QuickStart} /><//>`}
    </div>
    <${Block} title="What happened" actions=${html`<a href="/audit">Audit</a>`}><${Show} of=${facts}>${(/** @type {any} */ list) => (list.length ? html`<${Timeline} label="Latest facts" items=${list.map((/** @type {any} */ f) => ({ key: f.seq, tone: toneOfFact(f), what: html`${sentenceOf(f)}${f.count > 1 ? html` <span class="muted">and ${f.count - 1} more</span>` : ''}`, at: f.at_ms }))} />` : html`<p class="muted">Nothing yet. Everything that changes is written here, by whom and why.</p>`)}<//><//></div>
  <//>`;
}

/** @param {{table: import('../lib/columns.js').Table}} props */
function Latest({ table }) {
  const c = /** @type {Record<string, any>} */ (table.columns);
  const metrics = Object.keys(c).filter((n) => n.startsWith('metrics.')).sort((a, b) => weight(a.slice(8)) - weight(b.slice(8))).filter((n, i) => i === 0 || !n.startsWith('metrics.system/')).slice(0, 3);
  return html`<${Table} label="Latest runs" rows=${table.ids.map((id, i) => ({ id, i }))} href=${(/** @type {any} */ r) => `/runs/${r.id}`} columns=${[
    { key: 'name', label: 'Run', cell: (r) => c.name?.[r.i] || short(r.id) }, { key: 'status', label: 'State', cell: (r) => html`<${State} of=${c.status?.[r.i]} />` },
    ...metrics.map((m) => ({ key: m, label: m.slice(8), num: true, cell: (/** @type {any} */ r) => { return html`<${Num} value=${valueAt(c[m], r.i)} />`; } })),
    { key: 'took', label: 'Took', num: true, cell: (r) => (c.ended_at_ms?.[r.i] > 0 ? duration(c.ended_at_ms[r.i] - c.started_at_ms[r.i]) : html`<span class="muted">–</span>`) }, { key: 'at', label: 'Started', cell: (r) => html`<${Time} at=${c.started_at_ms?.[r.i]} />` }]} />`;
}

/** What needs the reader. @param {{waiting: import('../lib/needs.js').Need[]}} props */
function Needs({ waiting }) {
  return html`<${Block} title="Needs you" count=${waiting.length}><ul>${waiting.map(({ kind, at_ms: at, of: w }) => html`<li class="list-link" key=${`${kind} ${w.id}`}>
    ${kind === 'alert' ? html`<${State} of="open" word="alert" /><a class="grow truncate" href=${`/alerts/${w.id}`}>${w.monitor}: ${w.metric} of ${w.endpoint}</a><span class="quiet"><${Num} value=${w.value} /> over <${Num} value=${w.limit} /></span>`
    : kind === 'said' ? html`<${State} of="open" word=${w.reason === 'mention' ? 'mention' : 'comment'} tone="running" /><a class="grow truncate" href="/inbox">${String(w.actor).split(':')[1]} on ${w.title}: ${w.excerpt}</a>`
    : kind === 'run' ? html`<${State} of="failed" word="run failed" /><a class="grow truncate" href=${`/runs/${w.id}`}>${w.name || short(w.id)}</a>`
    : kind === 'pipeline' ? html`<${State} of="failed" word="pipeline failed" /><a class="grow truncate" href=${`/pipeline-runs/${w.id}`}>${w.pipeline}${w.error ? `: ${w.error}` : ''}</a>`
    : html`<${State} of="awaiting_approval" word="approval" /><a class="truncate" href=${`/approvals?id=${w.id}`}>${String(w.action ?? 'an action').replaceAll('.', ' ')}</a><span class="grow quiet">of <${RefLink} to=${w.subject} /></span>`}
    <span class="muted"><${Time} at=${at} /></span></li>`)}</ul><//>`;
}

function Begin() {
  return html`<div class="story"><h2>A wheel that turns by itself</h2><p>Data, runs, models, pipelines, serving and monitoring in one place, and the loop that joins them. Nothing has happened here yet; any of these makes the first thing.</p><${QuickStart} /></div>`;
}
