// @ts-check
/** One run: the story first – what, by whom, from what data, how it ended – then curves, numbers, files, logs, environment. */

import { useMemo, useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Icon } from '../components/icon.js';
import { Page, Block } from '../components/page.js';
import { Curve } from '../components/curve.js';
import { Tabs } from '../components/tabs.js';
import { Table } from '../components/table.js';
import { State } from '../components/state.js';
import { Segmented, Tags } from '../components/chips.js';
import { Id, Kv, Num, RefLink, Time, Who } from '../components/values.js';
import { Show, Empty } from '../components/empty.js';
import { Log } from '../components/log.js';
import { JsonView } from '../components/json-view.js';
import { useCommands, useResource } from '../components/use.js';
import { useSeries, useLines } from '../components/use-series.js';
import { api, enc, href, withQuery } from '../lib/api.js';
import { bytes, direction, duration, short } from '../lib/format.js';
import { now } from '../lib/store.js';

/** @param {any} props */
export default function RunPage({ params, query, go, setQuery }) {
  const id = params.run;
  const run = useResource(`/runs/${enc(id)}`, { subjects: [`run:${id}`], ticks: [`run:${id}`] });
  const lineage = useResource(`/lineage/${enc(`run:${id}`)}?depth=2`, { kinds: ['model_version.', 'run.finished'] });
  const experiments = useResource('/experiments?limit=200');
  const r = run.data;
  const experiment = experiments.data?.items?.find((/** @type {any} */ e) => e.id === r?.experiment_id);
  const name = r?.name || short(id);
  const beside = async (/** @type {number} */ step) => {
    const list = await api(withQuery('/runs', { experiment: r?.experiment_id, limit: 1000, columns: 'name' }));
    const i = list.ids.indexOf(id), to = list.ids[i + step];
    if (i >= 0 && to) go(`/runs/${to}`);
  };
  useCommands([
    { id: 'previous', title: 'Previous run', icon: 'chevron-left', keys: '[', group: 'Run', run: () => beside(-1) },
    { id: 'next', title: 'Next run', icon: 'chevron-right', keys: ']', group: 'Run', run: () => beside(1) },
  ]);
  return html`<${Page} crumbs=${[['Runs', '/runs'], ...(r ? [[experiment?.name ?? 'experiment', `/runs?experiment=${enc(r.experiment_id)}`]] : []), [name]]} loading=${run.loading}
      actions=${html`<button type="button" class="button plain icon-only" title="Previous run ([)" aria-label="Previous run" onClick=${() => beside(-1)}><${Icon} name="chevron-left" /></button><button type="button" class="button plain icon-only" title="Next run (])" aria-label="Next run" onClick=${() => beside(1)}><${Icon} name="chevron-right" /></button><a class="button" href=${`/compare?runs=${id}`}><${Icon} name="git-compare" />Compare</a>`}>
    <${Show} of=${run}>${(/** @type {any} */ data) => html`<${Body} run=${data} lineage=${lineage.data} experiment=${experiment} query=${query} setQuery=${setQuery} />`}<//>
  <//>`;
}

/** @param {any} props */
function Body({ run: r, lineage, experiment, query, setQuery }) {
  const metrics = pairs(r.metrics), settings = pairs(r.params), tags = Object.fromEntries(pairs(r.tags).map((p) => [p.key, p.value]));
  const running = String(r.status).toLowerCase() === 'running';
  const data = (lineage?.nodes ?? []).filter((/** @type {any} */ n) => n.kind === 'dataset_version');
  const versions = (lineage?.nodes ?? []).filter((/** @type {any} */ n) => n.kind === 'model_version');
  const commit = r.source_commit || tags['mlflow.source.git.commit'], dirty = r.source_dirty;
  const source = r.argv?.length ? (Array.isArray(r.argv) ? r.argv.join(' ') : r.argv) : tags['mlflow.source.name'];
  const tab = query.get('tab') ?? 'curves';
  return html`<div class="story"><h2>${r.name || short(r.id)}<${State} of=${r.status} /></h2>
      <p>${r.user || r.actor ? html`<b>${typeof r.user === 'string' && r.user ? r.user : html`<${Who} of=${r.actor} />`}</b> began this run` : 'This run began'} <${Time} at=${r.started_at_ms} />${experiment ? html` in <a href=${`/runs?experiment=${experiment.id}`}>${experiment.name}</a>` : ''}${source ? html`, with <code>${source}</code>` : ''}${commit ? html` at commit <code>${commit.slice(0, 10)}</code>${dirty ? html` (with uncommitted changes)` : ''}` : ''}.
        ${data.length ? html` It read ${list(data.map((/** @type {any} */ n) => html`<${RefLink} to=${n.ref} label=${n.label} />`))}.` : ''}
        ${running ? html` It has been running for ${duration(now.value - r.started_at_ms)}.` : r.ended_at_ms ? html` It ${word(r.status)} after ${duration(r.ended_at_ms - r.started_at_ms)}.` : ''}
        ${versions.length ? html` It gave ${list(versions.map((/** @type {any} */ n) => html`<${RefLink} to=${n.ref} label=${n.label} />`))}.` : ''}</p>
      <${Tags} of=${r.tags} /></div>
    ${metrics.length > 0 && html`<${Kv} class="facts" items=${metrics.filter((m) => !m.key.startsWith('system/')).slice(0, 8).map((m) => [m.key, html`<${Num} value=${m.value} />`])} />`}
    <${Tabs} label="Parts of the run" value=${tab} onChange=${(/** @type {string} */ t) => setQuery({ tab: t === 'curves' ? null : t })} tabs=${[
      { id: 'curves', label: 'Curves', count: metrics.length || null, body: () => html`<${RunCurves} run=${r} keys=${metrics.map((m) => m.key)} query=${query} setQuery=${setQuery} />` },
      { id: 'params', label: 'Parameters', count: settings.length || null, body: () => html`<${Pairs} rows=${settings} label="Parameters" empty="No parameters were logged." />` },
      { id: 'metrics', label: 'Metrics', count: metrics.length || null, body: () => html`<${Table} label="Metrics" rows=${metrics} rowKey=${(/** @type {any} */ m) => m.key} columns=${[{ key: 'k', label: 'Metric', cell: (m) => m.key, sort: (m) => m.key }, { key: 'v', label: 'Last', num: true, cell: (m) => html`<${Num} value=${m.value} digits=${6} />`, sort: (m) => m.value }, { key: 's', label: 'Step', num: true, cell: (m) => m.step ?? '–', sort: (m) => m.step }, { key: 'b', label: 'Better', cell: (m) => ({ low: 'lower', high: 'higher' }[direction(m.key) ?? ''] ?? '–') }]} />` },
      { id: 'files', label: 'Artifacts', body: () => html`<${Artifacts} run=${r.id} query=${query} setQuery=${setQuery} />` },
      { id: 'logs', label: 'Logs', body: () => html`<${Log} path=${`/runs/${enc(r.id)}/logs`} live=${running} ref_=${`run:${r.id}`} label="Log of the run" />` },
      { id: 'context', label: 'Context', body: () => html`<div class="halves"><${Block} title="Origin"><${Kv} items=${[['Run id', html`<${Id} value=${r.id} full />`], ['Experiment', experiment?.name], ['Source', source && html`<code>${source}</code>`], ['Commit', commit && html`<${Id} value=${commit} full />`], ['Uncommitted changes', dirty === undefined || dirty === null ? null : dirty ? 'yes, kept as a diff' : 'no'], ['Diff', r.source_diff_digest && html`<${Id} value=${r.source_diff_digest} />`], ['Environment', r.environment_digest && html`<${Id} value=${r.environment_digest} />`], ['Started', html`<${Time} at=${r.started_at_ms} absolute />`], ['Ended', r.ended_at_ms ? html`<${Time} at=${r.ended_at_ms} absolute />` : null]]} /><//>
        <${Block} title="Tags"><${Pairs} rows=${pairs(r.tags)} label="Tags" empty="No tags." /><//>
        ${r.inputs?.length ? html`<${Block} title="Inputs"><${JsonView} value=${r.inputs} /><//>` : ''}</div>` },
    ]} />`;
}

/** @param {any} props */
function RunCurves({ run, keys, query, setQuery }) {
  const x = query.get('x') ?? 'step', log = query.get('log') === '1', smooth = Number(query.get('smooth') ?? 0);
  const [zoom, setZoom] = useState(/** @type {any} */ (null));
  const [shown, setShown] = useState(24);
  const ordered = useMemo(() => [...keys].sort((a, b) => Number(a.startsWith('system/')) - Number(b.startsWith('system/')) || a.localeCompare(b)), [keys.join(',')]);
  const drawn = ordered.slice(0, shown);
  const all = useSeries([run.id], drawn, { buckets: 1000, from: x === 'step' ? zoom?.from ?? null : null, to: x === 'step' ? zoom?.to ?? null : null });
  const lines = useLines(all, [run.id], drawn, () => run.name || short(run.id), x);
  if (!keys.length) return html`<${Empty} icon="chart-line" title="No metrics yet." text="They appear here while the run writes them." command=${`mlflow.log_metric("loss", value, step=step)`} />`;
  return html`<div class="stack"><div class="row wrap"><${Segmented} label="Horizontal axis" value=${x} options=${[['step', 'Step'], ['elapsed', 'Elapsed'], ['time', 'Clock']]} onChange=${(/** @type {string} */ v) => { setZoom(null); setQuery({ x: v === 'step' ? null : v }); }} />
      <label class="inline"><input class="check" type="checkbox" checked=${log} onChange=${() => setQuery({ log: log ? null : '1' })} />log</label>
      <label class="inline">smooth <input type="range" min="0" max="0.95" step="0.05" value=${smooth} aria-label="Smoothing" onInput=${(/** @type {any} */ e) => setQuery({ smooth: Number(e.currentTarget.value) ? e.currentTarget.value : null })} /></label>
      ${zoom && html`<button type="button" class="button plain small" onClick=${() => setZoom(null)}><${Icon} name="zoom-out" small />Show all</button>`}</div>
    <div class="charts">${drawn.map((k) => html`<${Curve} key=${k} title=${k} lines=${lines[k] ?? []} x=${x} log=${log} smooth=${smooth} sync="run" better=${direction(k)} onZoom=${x === 'step' ? setZoom : undefined} />`)}</div>
    ${ordered.length > shown && html`<button type="button" class="button" onClick=${() => setShown(shown + 24)}>Show ${Math.min(24, ordered.length - shown)} more</button>`}</div>`;
}

/** @param {any} props */
function Pairs({ rows, label, empty }) {
  if (!rows.length) return html`<p class="muted">${empty}</p>`;
  return html`<${Table} label=${label} rows=${rows} rowKey=${(/** @type {any} */ p) => p.key} columns=${[{ key: 'k', label: 'Key', cell: (p) => p.key, sort: (p) => p.key }, { key: 'v', label: 'Value', prose: true, cell: (p) => html`<span class="mono">${String(p.value).slice(0, 2000)}</span>`, sort: (p) => p.value }]} />`;
}

/** @param {any} props */
function Artifacts({ run, query, setQuery }) {
  const path = query.get('path') ?? '';
  const files = useResource(withQuery(`/runs/${enc(run)}/artifacts`, { path }), { subjects: [`run:${run}`] });
  const parts = path.split('/').filter(Boolean);
  return html`<div class="stack"><nav class="crumbs" aria-label="Folder"><ol><li><button type="button" class="button plain small" onClick=${() => setQuery({ path: null })}><${Icon} name="folder-open" small />artifacts</button></li>${parts.map((p, i) => html`<li key=${i}><button type="button" class="button plain small" onClick=${() => setQuery({ path: parts.slice(0, i + 1).join('/') })}>${p}</button></li>`)}</ol></nav>
    <${Show} of=${files}>${(/** @type {any} */ a) => { const items = a.items ?? a; return items.length ? html`<${Table} label="Artifacts" rows=${items} rowKey=${(/** @type {any} */ f) => f.path} columns=${[
      { key: 'path', label: 'Name', sort: (f) => f.path, cell: (f) => { const last = f.path.split('/').pop(); return f.is_dir ? html`<button type="button" class="row" onClick=${() => setQuery({ path: f.path })}><${Icon} name="folder" small />${last}/</button>` : html`<a class="row" data-external href=${href(withQuery(`/runs/${enc(run)}/artifacts/content`, { path: f.path }))} download><${Icon} name="file" small />${last}</a>`; } },
      { key: 'size', label: 'Size', num: true, cell: (f) => (f.is_dir ? '' : bytes(f.size_bytes)), sort: (f) => f.size_bytes },
      { key: 'digest', label: 'Digest', cell: (f) => (f.digest ? html`<${Id} value=${f.digest} />` : '') }]} />` : html`<p class="muted">No artifacts here.</p>`; }}<//></div>`;
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
