// @ts-check
/** Runs: the table left, the curves right, one selection. What is selected, sorted, grouped and typed is in the address. */

import { useEffect, useMemo, useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Icon } from '../components/icon.js';
import { Page, Filter } from '../components/page.js';
import { Menu } from '../components/menu.js';
import { RunsTable } from '../components/runs-table.js';
import { Curve } from '../components/curve.js';
import { Bars } from '../components/bars.js';
import { Parallel } from '../components/parallel.js';
import { Segmented } from '../components/chips.js';
import { Empty, Problem } from '../components/empty.js';
import { useCommands, useResource } from '../components/use.js';
import { useSeries, useLines } from '../components/use-series.js';
import { api, withQuery } from '../lib/api.js';
import { append, bestRow, groupRows, readTable, select, sortRows } from '../lib/columns.js';
import { compileFilter } from '../lib/filter.js';
import { count, direction, plural, short } from '../lib/format.js';
import { columnChoice, sayError } from '../lib/store.js';

const PAGE = 10_000;
const FIXED = ['name', 'status', 'started_at_ms', 'duration_ms', 'user'];
const CHARTS = 12;

/** @param {any} props */
export default function Runs({ query, go, setQuery }) {
  const experiments = useResource('/experiments?limit=200', { kinds: ['experiment.'] });
  const list = experiments.data?.items ?? [];
  const experiment = query.get('experiment') ?? '';
  const chosen = list.find((/** @type {any} */ e) => e.id === experiment || e.name === experiment);
  const answer = useResource(withQuery('/runs', { experiment: chosen?.id ?? experiment, limit: PAGE }), { kinds: ['run.'], ticks: ['run:*'] });
  const [more, setMore] = useState(/** @type {{next: string | null, table: any} | null} */ (null));
  useEffect(() => setMore(null), [experiment]);

  const table = useMemo(() => (answer.data ? withDuration(more ? append(readTable(answer.data), more.table) : readTable(answer.data)) : null), [answer.data, more]);
  const next = more ? more.next : answer.data?.next;
  const loadMore = async () => {
    try { const page = await api(withQuery('/runs', { experiment: chosen?.id ?? experiment, limit: PAGE, page: next })); setMore({ next: page.next, table: more ? append(more.table, readTable(page)) : readTable(page) }); } catch (e) { sayError(e); }
  };

  const text = query.get('q') ?? '';
  const [sortName, sortOrder] = (query.get('sort') ?? 'started_at_ms:desc').split(/:(?=asc$|desc$)/);
  const sort = { name: sortName, order: /** @type {'asc' | 'desc'} */ (sortOrder ?? 'desc') };
  const group = query.get('group') ?? '';
  const closed = useMemo(() => new Set((query.get('closed') ?? '').split(',').filter(Boolean)), [query.get('closed')]);
  const pins = (query.get('pin') ?? '').split(',').filter(Boolean);

  const available = useMemo(() => (table ? Object.keys(table.columns).filter((n) => !['experiment_id', 'ended_at_ms', 'lifecycle_stage', 'deleted_at_ms', 'id'].includes(n)) : []), [table]);
  const choiceKey = chosen?.name ?? 'all';
  const visible = (columnChoice.value[choiceKey] ?? defaults(available, table)).filter((n) => available.includes(n));
  const filter = useMemo(() => (table ? compileFilter(text, table.columns) : { test: () => true, unknown: [] }), [table, text]);
  const sorted = useMemo(() => (table ? sortRows(select(table, filter.test), table.columns[sort.name], sort.order) : new Uint32Array(0)), [table, filter, sort.name, sort.order]);
  const rows = useMemo(() => (table && group && table.columns[group] ? groupRows(sorted, table.columns[group], closed) : sorted), [sorted, group, closed, table]);

  const asked = query.get('sel');
  const selected = useMemo(() => (asked === null ? (table ? Array.from(sorted.slice(0, 5), (i) => table.ids[i]) : []) : asked.split(',').filter((/** @type {string} */ s) => s && s !== 'none')), [asked, asked === null ? sorted : null]);
  const pick = (/** @type {string[]} */ ids) => setQuery({ sel: [...new Set(ids)].join(',') || 'none' });

  const columns = useMemo(() => [...visible].sort((a, b) => rankOf(a, pins) - rankOf(b, pins)).map((name) => describe(name, table, sorted, pins)), [visible.join('|'), pins.join(','), table, sorted]);
  const onSort = (/** @type {string} */ name) => setQuery({ sort: sort.name === name ? `${name}:${sort.order === 'asc' ? 'desc' : 'asc'}` : `${name}:${direction(name.replace(/^metrics\./, '')) === 'low' ? 'asc' : name.startsWith('metrics.') || name.endsWith('_ms') ? 'desc' : 'asc'}` });
  const compare = () => { if (selected.length > 1) go(`/compare?runs=${selected.slice(0, 20).join(',')}`); };

  useCommands([
    { id: 'compare', title: `Compare ${plural(selected.length, 'selected run')}`, icon: 'git-compare', keys: 'c', group: 'Runs', run: compare },
    { id: 'column.pin', title: 'Pin the sorted column', icon: 'pin', keys: 'e', group: 'Runs', run: () => setQuery({ pin: (pins.includes(sort.name) ? pins.filter((p) => p !== sort.name) : [...pins, sort.name]).join(',') }) },
    { id: 'runs.clear', title: 'Draw no runs', icon: 'eye-off', group: 'Runs', run: () => pick([]) },
    { id: 'runs.top', title: 'Draw the first eight of this list', icon: 'eye', group: 'Runs', run: () => table && pick(Array.from(sorted.slice(0, 8), (i) => table.ids[i])) },
    { id: 'close', title: 'Draw no runs', hidden: true, run: () => { if (asked) pick([]); } },
  ]);

  const crumbs = /** @type {[string, string?][]} */ (chosen || experiment ? [['Runs', '/runs'], [chosen?.name ?? experiment]] : [['Runs']]);
  const chooser = html`<label><span class="sr">Experiment</span><select class="select" value=${chosen?.id ?? experiment} onChange=${(/** @type {any} */ e) => { setQuery({ experiment: e.currentTarget.value, sel: null, sort: null, group: null, q: null }, { push: true }); }}>
    <option value="">All experiments</option>${list.map((/** @type {any} */ e) => html`<option key=${e.id} value=${e.id} selected=${e.id === chosen?.id}>${e.name}</option>`)}</select></label>`;
  const empty = table && table.ids.length === 0;
  return html`<${Page} crumbs=${crumbs} flush loading=${answer.loading}
      filter=${html`<${Filter} value=${text} onInput=${(/** @type {string} */ q) => setQuery({ q })} placeholder="loss < 0.3  status:failed  a word" label="Filter runs" unknown=${filter.unknown} />`}
      actions=${html`${chooser}<button type="button" class="button" disabled=${selected.length < 2} onClick=${compare} title="Compare (c)"><${Icon} name="git-compare" />Compare${selected.length > 1 ? ` ${selected.length}` : ''}</button>`}>
    ${answer.error && !table ? html`<${Problem} center error=${answer.error} retry=${answer.reload} />`
      : empty ? html`<${Empty} center icon="activity" title=${experiment ? 'No runs in this experiment yet.' : 'No runs yet.'} text="The unmodified MLflow client writes here; autologging included." command=${`export MLFLOW_TRACKING_URI=${location.origin}\npython - <<'PY'\nimport mlflow\nwith mlflow.start_run(run_name="first"):\n    for step in range(200):\n        mlflow.log_metric("loss", 1 / (1 + step), step=step)\nPY`} />`
        : html`<div class=${`panes ${selected.length ? '' : 'single'}`}>
      <div class="runs">
        <div class="bar top"><span class="quiet">${table ? (sorted.length === table.ids.length ? plural(table.ids.length, 'run') : `${count(sorted.length)} of ${count(table.ids.length)} runs`) : 'Reading'}</span>
          ${selected.length > 0 && html`<span class="muted">${selected.length} drawn</span><button type="button" class="button plain small" onClick=${() => pick([])}>Draw none</button>`}
          <span class="end row"><label class="inline"><span class="sr">Group by</span><select class="select" value=${group} onChange=${(/** @type {any} */ e) => setQuery({ group: e.currentTarget.value, closed: null })}><option value="">No groups</option>${available.filter((n) => groupable(n, table)).map((n) => html`<option key=${n} value=${n} selected=${n === group}>${n.replace(/^(params|tags)\./, '')}</option>`)}</select></label>
            <${Columns} available=${available} visible=${visible} onChange=${(/** @type {string[] | null} */ names) => { const all = { ...columnChoice.value }; if (names) all[choiceKey] = names; else delete all[choiceKey]; columnChoice.value = all; }} /></span></div>
        ${table ? html`<${RunsTable} table=${table} rows=${rows} columns=${columns} selected=${selected} sort=${sort} onSort=${onSort} onSelect=${pick} onOpen=${(/** @type {string} */ id) => go(`/runs/${id}`)} onGroup=${(/** @type {string} */ g) => { const c = new Set(closed); if (!c.delete(g)) c.add(g); setQuery({ closed: [...c].join(',') }); }} label="Runs" />` : html`<div></div>`}
        <div class="bar bottom"><span><kbd>j</kbd> <kbd>k</kbd> rows</span><span><kbd>x</kbd> draw</span><span><kbd>c</kbd> compare</span>${next && html`<button type="button" class="button small end" onClick=${loadMore}>Read the next ${count(PAGE)}</button>`}</div>
      </div>
      ${selected.length > 0 && table && html`<div class="right"><${Curves} table=${table} rows=${sorted} selected=${selected} visible=${visible} query=${query} setQuery=${setQuery} onBrush=${(/** @type {string} */ q) => setQuery({ q })} text=${text} /></div>`}
    </div>`}
  <//>`;
}

/** @param {any} props */
function Curves({ table, rows, selected, visible, query, setQuery }) {
  const view = query.get('view') ?? 'curves';
  const x = query.get('x') ?? 'step', log = query.get('log') === '1', smooth = Number(query.get('smooth') ?? 0);
  const [zoom, setZoom] = useState(/** @type {any} */ (null));
  const [shown, setShown] = useState(CHARTS);
  const names = useMemo(() => { const m = new Map(); table.ids.forEach((/** @type {string} */ id, /** @type {number} */ i) => m.set(id, String(table.columns.name?.[i] || short(id)))); return m; }, [table]);
  const keys = useMemo(() => {
    const index = new Map(table.ids.map((/** @type {string} */ id, /** @type {number} */ i) => [id, i]));
    return Object.keys(table.columns).filter((n) => n.startsWith('metrics.') && selected.some((/** @type {string} */ id) => { const i = index.get(id); const v = table.columns[n][i]; return i !== undefined && v === v && v !== null; }))
      .map((n) => n.slice(8)).sort((a, b) => importance(a, visible) - importance(b, visible) || a.localeCompare(b));
  }, [table, selected.join(','), visible.join('|')]);
  const drawn = selected.slice(0, 30), now = keys.slice(0, shown);
  const buckets = Math.max(120, Math.min(500, Math.floor(4000 / Math.max(1, drawn.length))));
  const stepZoom = x === 'step' && zoom ? zoom : null;
  const all = useSeries(drawn, view === 'curves' ? now : [], { buckets, from: stepZoom?.from ?? null, to: stepZoom?.to ?? null });
  const lines = useLines(all, drawn, now, (/** @type {string} */ id) => names.get(id) ?? short(id), x);
  return html`<h2 class="sr">Curves of the selected runs</h2><div class="bar top"><${Segmented} label="View" value=${view} options=${[['curves', 'Curves'], ['parallel', 'Parallel']]} onChange=${(/** @type {string} */ v) => setQuery({ view: v === 'curves' ? null : v })} />
      ${view === 'curves' && html`<${Segmented} label="Horizontal axis" value=${x} options=${[['step', 'Step'], ['elapsed', 'Elapsed'], ['time', 'Clock']]} onChange=${(/** @type {string} */ v) => { setZoom(null); setQuery({ x: v === 'step' ? null : v }); }} />
      <label class="inline"><input class="check" type="checkbox" checked=${log} onChange=${() => setQuery({ log: log ? null : '1' })} />log</label>
      <label class="inline">smooth <input type="range" min="0" max="0.95" step="0.05" value=${smooth} aria-label="Smoothing" onInput=${(/** @type {any} */ e) => setQuery({ smooth: Number(e.currentTarget.value) ? e.currentTarget.value : null })} /></label>
      ${zoom && html`<button type="button" class="button plain small" onClick=${() => setZoom(null)}><${Icon} name="zoom-out" small />Show all</button>`}`}</div>
    ${view === 'parallel' ? html`<div class="inner"><${Parallel} table=${table} rows=${rows} selected=${selected} visible=${visible} /></div>` : html`<div class="inner charts-pane"><div class="charts">
      ${now.map((key) => (lines[key]?.length && lines[key].every((/** @type {any} */ l) => l.x.length === 1) ? html`<${Bars} key=${key} title=${key} lines=${lines[key]} better=${direction(key)} />` : html`<${Curve} key=${key} title=${key} lines=${lines[key] ?? []} x=${x} log=${log} smooth=${smooth} sync="runs" better=${direction(key)} onZoom=${x === 'step' ? setZoom : undefined} legend=${drawn.length <= 12} />`))}</div>
      ${!keys.length && html`<p class="muted">The runs drawn here have no metrics.</p>`}
      ${keys.length > shown && html`<button type="button" class="button" onClick=${() => setShown(shown + CHARTS)}>Show ${Math.min(CHARTS, keys.length - shown)} more of ${keys.length} metrics</button>`}</div>`}`;
}

/** @param {any} props */
function Columns({ available, visible, onChange }) {
  const [text, setText] = useState('');
  const shown = available.filter((/** @type {string} */ n) => n.toLowerCase().includes(text.toLowerCase()));
  return html`<${Menu} label=${html`<${Icon} name="columns-3" />Columns`} class="button plain small" title="Choose columns">${() => html`<input class="input" placeholder="Find a column" aria-label="Find a column" value=${text} onInput=${(/** @type {any} */ e) => setText(e.currentTarget.value)} />
    ${shown.slice(0, 200).map((/** @type {string} */ n) => html`<label class="inline" key=${n}><input class="check" type="checkbox" checked=${visible.includes(n)} onChange=${() => onChange(visible.includes(n) ? visible.filter((/** @type {string} */ v) => v !== n) : [...visible, n])} /><span class="truncate">${n}</span></label>`)}
    <button type="button" class="button plain small" onClick=${() => onChange(null)}>Back to the usual columns</button>`}<//>`;
}

/** @param {string} name @param {any} table @param {Uint32Array} rows @param {string[]} pins */
function describe(name, table, rows, pins) {
  const column = table?.columns[name];
  const kind = name === 'name' ? 'name' : name === 'status' ? 'state' : name === 'duration_ms' ? 'duration' : name.endsWith('_at_ms') ? 'time' : column instanceof Float64Array ? 'number' : 'text';
  const better = name.startsWith('metrics.') ? direction(name.slice(8)) : null;
  const label = name === 'started_at_ms' ? 'Started' : name === 'duration_ms' ? 'Took' : name === 'name' ? 'Run' : name === 'status' ? 'State' : name === 'user' ? 'By' : name.replace(/^(metrics|params|tags)\./, '');
  const width = { name: 190, state: 96, time: 108, duration: 92, number: Math.min(150, Math.max(92, label.length * 7 + 32)), text: Math.min(180, Math.max(90, label.length * 7 + 32)) }[/** @type {'name'} */ (kind)];
  return { name, label, kind, width, pinned: name === 'name' || pins.includes(name), best: better && column instanceof Float64Array ? bestRow(rows, column, better) : undefined };
}

/** @param {string[]} available @param {any} table */
function defaults(available, table) {
  const metrics = available.filter((n) => n.startsWith('metrics.')).sort((a, b) => importance(a.slice(8), []) - importance(b.slice(8), [])).slice(0, 4);
  const params = available.filter((n) => n.startsWith('params.') && (groupable(n, table, 200) || isNumberLike(table, n))).slice(0, 5);
  return [...FIXED.filter((n) => available.includes(n)), ...metrics, ...params];
}

/** Lower is earlier: what is visible in the table, then validation and the words people mean. @param {string} key @param {string[]} visible */
function importance(key, visible) {
  const k = key.toLowerCase(), at = visible.indexOf(`metrics.${key}`);
  if (at >= 0) return at;
  if (k.startsWith('system/')) return 900;
  if (/^(val|valid|test|eval)/.test(k)) return 100;
  if (/(loss|auc|acc|f1|mae|rmse)/.test(k)) return 200;
  return 300;
}

/** @param {string} name @param {string[]} pins */
function rankOf(name, pins) { return name === 'name' ? -2 : pins.includes(name) ? -1 : 0; }

/** Whether a column has few enough values to group by. @param {string} name @param {any} table @param {number} [limit] */
function groupable(name, table, limit = 40) {
  if (!table || name === 'name' || name.startsWith('metrics.') || name.endsWith('_ms')) return false;
  const seen = new Set(), column = table.columns[name];
  for (let i = 0; i < column.length && seen.size <= limit; i += 1) seen.add(column[i]);
  return seen.size > 1 && seen.size <= limit;
}

/** Whether the values of a column of words are numbers that vary. @param {any} table @param {string} name */
function isNumberLike(table, name) {
  const column = table?.columns[name] ?? [], seen = new Set();
  for (let i = 0; i < column.length && i < 200; i += 1) { const v = column[i]; if (v === null || v === undefined || v !== v) continue; if (v === '' || Number.isNaN(Number(v))) return false; seen.add(v); }
  return seen.size > 1;
}

/** @param {import('../lib/columns.js').Table} table */
function withDuration(table) {
  const { started_at_ms: a, ended_at_ms: b } = /** @type {any} */ (table.columns);
  if (!a || !b || table.columns.duration_ms) return table;
  return { ids: table.ids, columns: { ...table.columns, duration_ms: Float64Array.from(a, (s, i) => { const d = b[i] - s; return d >= 0 ? d : NaN; }) } };
}
