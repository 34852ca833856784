// @ts-check
/** One run: the story first – what, by whom, from what data, how it ended – then curves, system, console, settings, code, environment,
 *  data, files and lineage. */

import { useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Deed } from '../components/deed.js';
import { Icon } from '../components/icon.js';
import { Page, Block } from '../components/page.js';
import { Tabs } from '../components/tabs.js';
import { Table } from '../components/table.js';
import { State } from '../components/state.js';
import { Tags } from '../components/chips.js';
import { Dialog } from '../components/dialog.js';
import { Kv, Num, RefLink, Time, Who } from '../components/values.js';
import { Show } from '../components/empty.js';
import { Console } from '../components/console.js';
import { Artifacts } from '../components/artifacts.js';
import { RunCurves } from '../components/run-curves.js';
import { Code, Data, Environment, Origin, commandOf } from '../components/run-parts.js';
import { RunCard } from '../components/run-card.js';
import { LineageGraph } from './lineage.js';
import { TalkOf, useTalk } from '../components/talk.js';
import { useCommands, useResource } from '../components/use.js';
import { api, enc, post, remove, withQuery } from '../lib/api.js';
import { bytes, direction, duration, short } from '../lib/format.js';
import { next } from '../lib/lineage.js';
import { now } from '../lib/store.js';

/** @param {any} props */
export default function RunPage({ params, query, go, setQuery }) {
  const id = params.run;
  const run = useResource(`/runs/${enc(id)}`, { subjects: [`run:${id}`], ticks: [`run:${id}`] });
  const lineage = useResource(`/lineage/${enc(`run:${id}`)}?depth=2`, { kinds: ['model_version.', 'run.finished'] });
  const experiments = useResource('/experiments?limit=500');
  const r = run.data;
  const experiment = experiments.data?.items?.find((/** @type {any} */ e) => e.id === r?.experiment_id);
  const name = r?.name || short(id);
  const beside = async (/** @type {number} */ step) => {
    const list = await api(withQuery('/runs', { experiment: r?.experiment_id, limit: 1000, columns: 'name' }));
    const i = list.ids.indexOf(id), to = list.ids[i + step];
    if (i >= 0 && to) go(`/runs/${to}`);
  };
  const [asking, setAsking] = useState('');
  const isDeleted = r?.stage === 'deleted';
  useCommands([
    ...(r ? [{ id: 'actions', title: isDeleted ? 'Restore this run' : 'Delete this run', icon: isDeleted ? 'undo-2' : 'trash-2', keys: '.', group: 'Run', run: () => setAsking(isDeleted ? 'restore' : 'delete') }] : []),
    { id: 'previous', title: 'Previous run', icon: 'chevron-left', keys: '[', group: 'Run', run: () => beside(-1) },
    { id: 'next', title: 'Next run', icon: 'chevron-right', keys: ']', group: 'Run', run: () => beside(1) },
  ]);
  return html`<${Page} crumbs=${[['Runs', '/runs'], ...(r ? [[experiment?.name ?? 'experiment', `/runs?experiment=${enc(r.experiment_id)}`]] : []), [name]]} loading=${run.loading}
      actions=${html`<button type="button" class="button plain icon-only" title="Previous run ([)" aria-label="Previous run" onClick=${() => beside(-1)}><${Icon} name="chevron-left" /></button><button type="button" class="button plain icon-only" title="Next run (])" aria-label="Next run" onClick=${() => beside(1)}><${Icon} name="chevron-right" /></button>${r && html`<${Deed} may="run.delete" on=${`experiment:${r.experiment_id}`} class=${`button ${isDeleted ? '' : 'plain icon-only'}`} title=${isDeleted ? 'Restore' : 'Delete'} aria-label=${isDeleted ? 'Restore' : 'Delete'} onClick=${() => setAsking(isDeleted ? 'restore' : 'delete')}><${Icon} name=${isDeleted ? 'undo-2' : 'trash-2'} />${isDeleted ? 'Restore' : ''}<//>`}${r && html`<a class="button" href=${withQuery('/traces', { experiment: r.experiment_id, q: `run_id = '${id}'` })}>Traces</a>`}<a class="button" href=${`/compare?runs=${id}`}><${Icon} name="git-compare" />Compare</a>`}>
    <${Show} of=${run}>${(/** @type {any} */ data) => html`<${Body} run=${data} lineage=${lineage.data} experiment=${experiment} query=${query} setQuery=${setQuery} reload=${run.reload} />`}<//>
    ${asking && html`<${Dialog} title=${asking === 'delete' ? `Delete ${name}?` : `Restore ${name}?`} deed=${asking === 'delete' ? 'Delete the run' : 'Restore the run'} danger=${asking === 'delete'} done=${asking === 'delete' ? 'The run is deleted; it can be restored.' : 'The run is back.'} onClose=${() => setAsking('')} act=${async () => { const away = () => remove(`/runs/${enc(id)}`), back = () => post(`/runs/${enc(id)}/restore`), was = asking; await (was === 'delete' ? away() : back()); run.reload(); return { undo: () => (was === 'delete' ? back() : away()).then(run.reload) }; }}>
      <p class="quiet">${asking === 'delete' ? 'It leaves every list and takes nothing new. Nothing is erased: numbers and files stay, and what was built from it keeps its lineage.' : 'It comes back as it was.'}</p><//>`}
  <//>`;
}

/** @param {any} props */
function Body({ run: r, lineage, experiment, query, setQuery, reload }) {
  const metrics = pairs(r.points?.length ? r.points : r.metrics), settings = pairs(r.params), tags = Object.fromEntries(pairs(r.tags).map((p) => [p.key, p.value]));
  const running = String(r.status).toLowerCase() === 'running';
  const data = next(lineage, `run:${r.id}`, 'read', 'out').filter((n) => n.kind === 'dataset_version');
  const versions = next(lineage, `run:${r.id}`, 'built_by', 'in').filter((n) => n.kind === 'model_version');
  const commit = r.source_commit || tags['mlflow.source.git.commit'], dirty = r.source_dirty;
  const source = commandOf(r.argv) || tags['mlflow.source.name'];
  const system = metrics.filter((m) => m.key.startsWith('system/')), own = metrics.filter((m) => !m.key.startsWith('system/'));
  const tab = query.get('tab') ?? 'curves';
  const talk = useTalk(`run:${r.id}`);
  return html`<div class="story"><h2>${r.name || short(r.id)}<${State} of=${r.status} />${r.stage === 'deleted' && html`<${State} of="deleted" tone="warn" />`}</h2>
      <p>${r.user || r.actor ? html`<b>${typeof r.user === 'string' && r.user ? r.user : html`<${Who} of=${r.actor} />`}</b> began this run` : 'This run began'} <${Time} at=${r.started_at_ms} />${experiment ? html` in <a href=${`/runs?experiment=${experiment.id}`}>${experiment.name}</a>` : ''}${source ? html`, with <code class="breaks">${source.length > 160 ? `${source.slice(0, 160)}…` : source}</code>` : ''}${commit ? html` at commit <code>${commit.slice(0, 10)}</code>${dirty ? html` (with uncommitted changes)` : ''}` : ''}.
        ${data.length ? html` It read ${list(data.map((/** @type {any} */ n) => html`<${RefLink} to=${n.ref} />`))}.` : ''}
        ${running ? html` It has been running for ${duration(now.value - r.started_at_ms)}.` : r.ended_at_ms ? html` It ${word(r.status)} after ${duration(r.ended_at_ms - r.started_at_ms)}.` : ''}
        ${versions.length ? html` It gave ${list(versions.map((/** @type {any} */ n) => html`<${RefLink} to=${n.ref} />`))}.` : ''}</p>
      <${Tags} of=${Object.fromEntries(Object.entries(tags).filter(([k]) => !k.startsWith('noria.')))} /></div>
    ${own.length > 0 && html`<${Kv} class="facts" items=${[...own].sort((x, y) => Number(direction(y.key) !== null) - Number(direction(x.key) !== null)).slice(0, 8).map((m) => [m.key, html`<${Num} value=${m.value} />`])} />`}
    <${Tabs} label="Parts of the run" value=${tab} onChange=${(/** @type {string} */ t) => setQuery({ tab: t === 'curves' ? null : t, find: null, x: null, path: null, file: null })} tabs=${[
      { id: 'curves', label: 'Curves', count: own.length || null, body: () => html`<${RunCurves} key="own" run=${r} keys=${own.map((m) => m.key)} query=${query} setQuery=${setQuery} />` },
      { id: 'system', label: 'System', count: system.length || null, body: () => html`<${RunCurves} key="system" run=${r} keys=${system.map((m) => m.key)} query=${clocked(query)} setQuery=${setQuery} what="system metrics" />` },
      { id: 'console', label: 'Console', count: r.log_bytes ? bytes(r.log_bytes) : null, body: () => html`<${Console} path=${`/runs/${enc(r.id)}/logs`} size=${r.log_bytes} live=${running} about=${`run:${r.id}`} label="Console of the run" />` },
      { id: 'params', label: 'Parameters', count: settings.length || null, body: () => html`<${Pairs} rows=${settings} label="Parameters" empty="No parameters were logged." />` },
      { id: 'metrics', label: 'Metrics', count: metrics.length || null, body: () => html`<${Table} label="Metrics" rows=${metrics.slice(0, 1000)} rowKey=${(/** @type {any} */ m) => m.key} columns=${[{ key: 'k', label: 'Metric', cell: (m) => m.key, sort: (m) => m.key }, { key: 'v', label: 'Last', num: true, cell: (m) => html`<${Num} value=${m.value} digits=${6} />`, sort: (m) => m.value }, { key: 's', label: 'Step', num: true, cell: (m) => m.step ?? '–', sort: (m) => m.step }, { key: 't', label: 'Written', cell: (m) => html`<${Time} at=${m.at_ms} />`, sort: (m) => m.at_ms }, { key: 'b', label: 'Better', cell: (m) => ({ low: 'lower', high: 'higher' }[direction(m.key) ?? ''] ?? '–') }]} />` },
      { id: 'code', label: 'Code', body: () => html`<${Code} run=${r} />` },
      { id: 'environment', label: 'Environment', body: () => html`<${Environment} run=${r} />` },
      { id: 'data', label: 'Data', count: new Set([...(r.inputs ?? []).map((/** @type {any} */ d) => (d.dataset_version ? `dataset_version:${d.dataset_version}` : d.name + d.digest)), ...data.map((n) => n.ref)]).size || null, body: () => html`<${Data} run=${r} read=${data} versions=${versions} />` },
      { id: 'files', label: 'Artifacts', body: () => html`<${Artifacts} run=${r.id} query=${query} setQuery=${setQuery} />` },
      { id: 'card', label: 'Card', body: () => html`<${RunCard} run=${r} versions=${versions} onDone=${reload} />` },
      { id: 'conversation', label: 'Conversation', count: talk.data?.comments.length || null, body: () => html`<${TalkOf} talk=${talk} />` },
      { id: 'lineage', label: 'Lineage', body: () => html`<div class="stack loose">${lineage?.edges?.length ? html`<${LineageGraph} lineage=${lineage} here=${`run:${r.id}`} max=${480} />` : html`<p class="muted">Nothing is linked to this run yet.</p>`}
        <div class="halves"><${Block} title="Origin"><${Origin} run=${r} experiment=${experiment} /><//><${Block} title="Tags"><${Pairs} rows=${pairs(r.tags)} label="Tags" empty="No tags." /><//></div></div>` },
    ]} />`;
}

/** The address as system metrics read it: against the clock of the run unless it says otherwise. @param {URLSearchParams} query */
function clocked(query) {
  const changed = new URLSearchParams(query);
  if (!changed.get('x')) changed.set('x', 'elapsed');
  return changed;
}

/** @param {any} props */
function Pairs({ rows, label, empty }) {
  if (!rows.length) return html`<p class="muted">${empty}</p>`;
  return html`<${Table} label=${label} rows=${rows} rowKey=${(/** @type {any} */ p) => p.key} columns=${[{ key: 'k', label: 'Key', cell: (p) => p.key, sort: (p) => p.key }, { key: 'v', label: 'Value', prose: true, cell: (p) => html`<span class="mono">${String(p.value).slice(0, 2000)}</span>`, sort: (p) => p.value }]} />`;
}

/** Reads `{key: value}`, `[{key, value}]` and `{key: {value, step}}` alike. @param {any} of @returns {any[]} */
export function pairs(of) {
  if (!of) return [];
  const rows = Array.isArray(of) ? of.map((p) => ({ ...p, key: p.key ?? p.name })) : Object.entries(of).map(([key, v]) => (v !== null && typeof v === 'object' && 'value' in v ? { key, .../** @type {any} */ (v) } : { key, value: v }));
  return rows.sort((a, b) => a.key.localeCompare(b.key));
}

/** @param {any[]} items */
function list(items) { return items.map((x, i) => [i === 0 ? '' : i === items.length - 1 ? ' and ' : ', ', x]); }
/** @param {string} status */
function word(status) { return { finished: 'finished', failed: 'failed', killed: 'was stopped' }[/** @type {'failed'} */ (String(status).toLowerCase())] ?? 'ended'; }
