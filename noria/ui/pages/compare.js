// @ts-check
/** Runs side by side, against one of them: numbers and settings with what differs marked, what goes along with a result, curves over
 *  each other, and code and data of two of them. Everything chosen is in the address. */

import { useEffect, useMemo, useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Page } from '../components/page.js';
import { Tabs } from '../components/tabs.js';
import { Bars } from '../components/bars.js';
import { Curve } from '../components/curve.js';
import { CurveControls, useCurveLook } from '../components/curve-controls.js';
import { DiffTable } from '../components/diff.js';
import { Empty, Problem } from '../components/empty.js';
import { Icon } from '../components/icon.js';
import { Importance } from '../components/importance.js';
import { Parallel } from '../components/parallel.js';
import { Scatter } from '../components/scatter.js';
import { CodeDiff, DataDiff } from '../components/two-runs.js';
import { State } from '../components/state.js';
import { Delta, Num } from '../components/values.js';
import { useSeries, useLines } from '../components/use-series.js';
import { api, enc } from '../lib/api.js';
import { readTable } from '../lib/columns.js';
import { direction, duration, num, plural, short } from '../lib/format.js';
import { weight } from '../lib/view.js';
import { slotOf } from '../lib/store.js';
import { pairs } from './run.js';

const MOST = 20, CHARTS = 24, ROWS = 500;

/** @param {any} props */
export default function Compare({ query, setQuery }) {
  const ids = /** @type {string[]} */ ([...new Set((query.get('runs') ?? '').split(',').filter(Boolean))].slice(0, MOST));
  const [runs, setRuns] = useState(/** @type {any[] | null} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  useEffect(() => { let gone = false; setError(null); Promise.all(ids.map((id) => api(`/runs/${enc(id)}`))).then((r) => { if (!gone) setRuns(r); }, (e) => { if (!gone) setError(e); }); return () => { gone = true; }; }, [ids.join(',')]);
  const here = runs?.filter((r) => ids.includes(r.id)) ?? [];
  const base = here.find((r) => r.id === query.get('base')) ?? here[0], other = here.find((r) => r.id === query.get('with') && r !== base) ?? here.find((r) => r !== base);
  const ordered = base ? [base, ...here.filter((r) => r !== base)] : [];
  const hide = query.get('same') !== 'show';
  const table = useMemo(() => tableOf(here), [runs, ids.join(',')]);
  const metrics = useMemo(() => Object.keys(table.columns).filter((n) => n.startsWith('metrics.')).map((n) => n.slice(8)).sort((a, b) => weight(a) - weight(b) || a.localeCompare(b, 'en', { numeric: true })), [table]);
  const varying = useMemo(() => Object.keys(table.columns).filter((n) => n.startsWith('params.') || n.startsWith('metrics.')).filter((n) => new Set(Array.from(/** @type {any} */ (table.columns[n]), String)).size > 1).sort((a, b) => Number(a.startsWith('metrics.')) - Number(b.startsWith('metrics.')) || weight(a.slice(8)) - weight(b.slice(8))), [table]);
  const head = ordered.map((r, i) => html`<span class="row"><span class="dot" style=${{ color: slotOf(r.id, ids).colour }}></span><a href=${`/runs/${r.id}`} class="truncate">${r.name || short(r.id)}</a>${i === 0 && html`<span class="chip accent">base</span>`}</span>`);
  const tab = query.get('tab') ?? 'table';
  const rowsOf = (/** @type {string} */ part) => { const maps = ordered.map((r) => new Map(pairs(r[part]).map((p) => [p.key, p.value]))); return [...new Set(maps.flatMap((m) => [...m.keys()]))].filter((k) => !/^(mlflow|noria)\./.test(k)).sort((a, b) => (part === 'metrics' ? weight(a) - weight(b) : 0) || a.localeCompare(b, 'en', { numeric: true })).map((key) => ({ key, values: maps.map((m) => m.get(key)) })); };
  const chosen = (/** @type {string} */ label, /** @type {string} */ key, /** @type {any} */ value, /** @type {any[]} */ options) => html`<label class="inline">${label} <select class="select" value=${value?.id} onChange=${(/** @type {any} */ e) => setQuery({ [key]: e.currentTarget.value })}>${options.map((r) => html`<option key=${r.id} value=${r.id} selected=${r === value}>${r.name || short(r.id)}</option>`)}</select></label>`;
  const two = base && other && html`<div class="row wrap">${chosen('From', 'base', base, here)}<${Icon} name="arrow-right" small />${chosen('to', 'with', other, here.filter((r) => r !== base))}</div>`;
  const needTwo = html`<p class="muted">Two runs are needed.</p>`;
  return html`<${Page} crumbs=${[['Runs', '/runs'], ['Compare']]} title="Compare runs" loading=${!runs && !error && ids.length > 0}>
    ${error && html`<${Problem} error=${error} />`}
    ${!ids.length && html`<${Empty} icon="git-compare" title="Nothing to compare." text=${html`Select runs in <a href="/runs">the table</a> with <kbd>x</kbd> and press <kbd>c</kbd>.`} />`}
    ${base && html`<ul class="compared" aria-label="Compared runs">${ordered.map((r) => html`<li key=${r.id}><span class="dot" style=${{ color: slotOf(r.id, ids).colour }}></span><a class="truncate" href=${`/runs/${r.id}`}>${r.name || short(r.id)}</a><${State} of=${r.status} /><span class="muted">${r.ended_at_ms ? duration(r.ended_at_ms - r.started_at_ms) : ''}</span>${r === base ? html`<span class="chip accent">base</span>` : html`<button type="button" class="button plain small" onClick=${() => setQuery({ base: r.id })}>as base</button>`}<button type="button" class="icon-button" aria-label=${`Leave out ${r.name || short(r.id)}`} onClick=${() => setQuery({ runs: ids.filter((i) => i !== r.id).join(',') })}><${Icon} name="x" small /></button></li>`)}</ul>
      <${Tabs} label="Ways to compare" value=${tab} onChange=${(/** @type {string} */ t) => setQuery({ tab: t === 'table' ? null : t })} tabs=${[
        { id: 'table', label: 'Numbers and settings', body: () => html`<div class="stack loose"><label class="inline"><input type="checkbox" class="check" checked=${hide} onChange=${() => setQuery({ same: hide ? 'show' : null })} />Hide what is identical</label>
          <${Sided} title="Metrics" names=${head} rows=${rowsOf('metrics')} hide=${hide} delta />
          <${Sided} title="Parameters" names=${head} rows=${rowsOf('params')} hide=${hide} />
          <${Sided} title="Tags" names=${head} rows=${rowsOf('tags')} hide=${hide} /></div>` },
        { id: 'curves', label: 'Curves', count: metrics.length || null, body: () => html`<${Overlay} ids=${ids} names=${new Map(here.map((r) => [r.id, r.name || short(r.id)]))} metrics=${metrics} query=${query} setQuery=${setQuery} />` },
        { id: 'importance', label: 'Importance', body: () => html`<${Importance} table=${table} experiments=${[...new Set(here.map((r) => r.experiment_id))]} metrics=${metrics} query=${query} setQuery=${setQuery} />` },
        { id: 'parallel', label: 'Parallel', body: () => html`<${Parallel} table=${table} rows=${Uint32Array.from(table.ids.keys())} selected=${ids} visible=${varying} />` },
        { id: 'scatter', label: 'Scatter', body: () => html`<${Scatter} table=${table} rows=${Uint32Array.from(table.ids.keys())} selected=${ids} columns=${varying} query=${query} setQuery=${setQuery} />` },
        { id: 'code', label: 'Code', body: () => (other ? html`<div class="stack">${two}<${CodeDiff} key=${`${base.id}${other.id}`} base=${base} other=${other} /></div>` : needTwo) },
        { id: 'data', label: 'Data', body: () => (other ? html`<div class="stack">${two}<${DataDiff} base=${base} other=${other} /></div>` : needTwo) },
      ]} />`}
  <//>`;
}

/** @param {{title: string, names: any[], rows: {key: string, values: any[]}[], hide: boolean, delta?: boolean}} props */
function Sided({ title, names, rows, hide, delta = false }) {
  const different = rows.filter((r) => r.values.some((v) => String(v) !== String(r.values[0])));
  const shown = hide ? different : rows;
  return html`<section class="block"><div class="block-head"><h2>${title} <span class="muted">${hide && different.length < rows.length ? `${different.length} of ${rows.length} differ` : rows.length}</span></h2></div>
    <${DiffTable} names=${names} rows=${(different.length ? shown : rows).slice(0, ROWS)} onlyDifferent=${hide} label=${`${title} of the runs`} cell=${delta ? (/** @type {any} */ v, /** @type {string} */ key) => { const first = shown.find((m) => m.key === key)?.values[0]; return v === undefined ? html`<span class="muted">–</span>` : html`<span class="row"><${Num} value=${v} />${first !== v && typeof first === 'number' && typeof v === 'number' && html`<small><${Delta} now=${v} was=${first} better=${direction(key)} /></small>`}</span>`; } : undefined} />
    ${shown.length > ROWS && html`<p class="caption">and ${plural(shown.length - ROWS, 'row')} more</p>`}</section>`;
}

/** @param {{ids: string[], names: Map<string, string>, metrics: string[], query: URLSearchParams, setQuery: (changes: any) => void}} props */
function Overlay({ ids, names, metrics, query, setQuery }) {
  const { x, log, smooth } = useCurveLook(query);
  const [zoom, setZoom] = useState(/** @type {any} */ (null));
  const [shown, setShown] = useState(CHARTS);
  const [seen, setSeen] = useState(/** @type {string[]} */ ([]));
  const text = (query.get('find') ?? '').toLowerCase();
  const found = metrics.filter((m) => text.split(/\s+/).every((w) => m.toLowerCase().includes(w))), drawn = found.slice(0, shown);
  const { all } = useSeries(ids, seen.filter((k) => drawn.includes(k)), { buckets: Math.max(100, Math.min(400, Math.floor(3000 / Math.max(1, ids.length)))), from: x === 'step' ? zoom?.from ?? null : null, to: x === 'step' ? zoom?.to ?? null : null });
  const lines = useLines(all, ids, drawn, (/** @type {string} */ id) => names.get(id) ?? short(id), x);
  useEffect(() => setZoom(null), [x]);
  return html`<div class="stack"><div class="row wrap"><label class="search metric-search"><span class="sr">Find a metric</span><${Icon} name="search" /><input class="input" value=${query.get('find') ?? ''} placeholder=${`Find among ${plural(metrics.length, 'metric')}`} onInput=${(/** @type {any} */ e) => setQuery({ find: e.currentTarget.value })} /></label><${CurveControls} query=${query} setQuery=${setQuery} />${zoom && html`<button type="button" class="button plain small" onClick=${() => setZoom(null)}><${Icon} name="zoom-out" small />Show all</button>`}</div>
    <div class="charts">${drawn.map((k) => (lines[k]?.length && lines[k].every((/** @type {any} */ l) => l.x.length === 1) ? html`<${Bars} key=${k} title=${k} lines=${lines[k]} better=${direction(k)} />` : html`<${Curve} key=${k} title=${k} lines=${lines[k] ?? []} x=${x} log=${log} smooth=${smooth} sync="compare" better=${direction(k)} onZoom=${x === 'step' ? setZoom : undefined} legend=${ids.length <= 8} onSeen=${() => setSeen((was) => (was.includes(k) ? was : [...was, k]))} />`))}</div>
    ${!found.length && html`<p class="muted">No metric is called that.</p>`}${found.length > shown && html`<button type="button" class="button" onClick=${() => setShown(shown + CHARTS)}>Show ${num(Math.min(CHARTS, found.length - shown))} more of ${num(found.length)}</button>`}</div>`;
}

/** Whole runs as a table of columns. @param {any[]} runs */
function tableOf(runs) {
  /** @type {Record<string, unknown[]>} */ const columns = { name: runs.map((r) => r.name), duration_ms: runs.map((r) => (r.ended_at_ms ? r.ended_at_ms - r.started_at_ms : null)) };
  for (const part of ['params', 'metrics']) for (const key of new Set(runs.flatMap((r) => Object.keys(r[part] ?? {})))) columns[`${part}.${key}`] = runs.map((r) => r[part]?.[key] ?? null);
  return readTable({ ids: runs.map((r) => r.id), columns });
}
