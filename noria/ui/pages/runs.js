// @ts-check
/** Runs: the table left, the curves right, one selection. What is filtered, sorted, grouped, shown and selected is in the address, so
 *  that a link shows the same to everybody; a saved view is such a link with a name. */

import { useMemo, useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Icon } from '../components/icon.js';
import { Page, Filter } from '../components/page.js';
import { RunsTable } from '../components/runs-table.js';
import { RunsSide } from '../components/runs-side.js';
import { BatchBar } from '../components/batch-bar.js';
import { ColumnMenu } from '../components/column-menu.js';
import { ColumnsMenu, titleOf } from '../components/columns-menu.js';
import { FilterBar } from '../components/filter-bar.js';
import { ViewsMenu } from '../components/views-menu.js';
import { Empty, Problem } from '../components/empty.js';
import { useCommands, useResource } from '../components/use.js';
import { PAGE, useCatalogue, useRuns, useVisible } from '../components/use-runs.js';
import { withQuery } from '../lib/api.js';
import { bestRow, groupRows, select, sortRows, valueAt } from '../lib/columns.js';
import { save } from '../lib/save.js';
import { csv } from '../lib/csv.js';
import { compileFilter, parseFilter, resolveKey } from '../lib/filter.js';
import { count, direction, plural } from '../lib/format.js';
import { arrange, listOf, moveBy, moveTo, needed, sortOf, toggle, widthsOf, writeWidths } from '../lib/view.js';
import { columnChoice, sayError } from '../lib/store.js';

const DRAWN_MAX = 30, DRAWN_FIRST = 5, ASKED_MAX = 20;
const HOWS = [['mean', 'Mean'], ['median', 'Median'], ['min', 'Least'], ['max', 'Most'], ['std', 'Deviation'], ['sum', 'Sum']];
const NONE = /** @type {string[]} */ ([]);

/** @param {any} props */
export default function Runs({ query, go, setQuery }) {
  const experiments = useResource('/experiments?limit=500', { kinds: ['experiment.'] });
  const list = experiments.data?.items ?? NONE;
  const experiment = query.get('experiment') ?? '', filter = query.get('filter') ?? '', stage = query.get('stage') === 'deleted' ? 'deleted' : '';
  const chosen = list.find((/** @type {any} */ e) => e.id === experiment || e.name === experiment);
  const question = { experiment, filter, stage };
  const [whole, setWhole] = useState(false);
  const catalogue = useCatalogue(question, whole);
  const choiceKey = experiment || 'all';
  const pins = listOf(query.get('pin')), widths = widthsOf(query.get('w'));
  const visible = useVisible(listOf(query.get('cols')), columnChoice.value[choiceKey], catalogue);
  const text = query.get('q') ?? '', sort = sortOf(query.get('sort')), group = query.get('group') ?? '', how = query.get('agg') ?? 'mean';
  const known = useMemo(() => (catalogue?.items ?? []).map((/** @type {any} */ c) => c.name), [catalogue]);
  const wanted = useMemo(() => (visible ? needed({ cols: visible, sort: sort.name, group, words: wordsOf(text, visible, known) }).filter((n) => FIXED.has(n) || /^(metrics|params|tags)\../.test(n)) : null), [visible?.join(','), sort.name, group, text, known]);
  const runs = useRuns(question, wanted, orderOf(sort));
  const { table } = runs;

  const filtered = useMemo(() => (table ? compileFilter(text, table.columns) : { test: () => true, unknown: [] }), [table, text]);
  const sorted = useMemo(() => (table ? sortRows(select(table, filtered.test), table.columns[sort.name], sort.order) : new Uint32Array(0)), [table, filtered, sort.name, sort.order]);
  const closed = useMemo(() => new Set(listOf(query.get('closed'))), [query.get('closed')]);
  const rows = useMemo(() => (table && group && table.columns[group] ? groupRows(sorted, table.columns[group], closed) : sorted), [sorted, group, closed, table]);

  const asked = query.get('sel');
  const selected = useMemo(() => {
    if (!table) return NONE;
    if (asked === null) return Array.from(sorted.slice(0, DRAWN_FIRST), (i) => table.ids[i]);
    return asked === 'all' ? Array.from(sorted, (i) => table.ids[i]) : listOf(asked).filter((s) => s !== 'none');
  }, [asked, asked === null || asked === 'all' ? sorted : null, asked === null || asked === 'all' ? table : table !== null]);
  const chosenSet = useMemo(() => new Set(selected), [selected]);
  const drawn = selected.slice(0, DRAWN_MAX);
  const pick = (/** @type {string[] | 'all'} */ ids) => setQuery({ sel: ids === 'all' ? 'all' : [...new Set(ids)].join(',') || 'none' });

  const shown = arrange(visible ?? [], pins);
  const names = useMemo(() => new Map(list.map((/** @type {any} */ e) => [e.id, e.name])), [list]);
  const columns = useMemo(() => shown.map((name) => describe(name, table, sorted, pins, widths, names)), [shown.join('|'), pins.join(','), query.get('w'), table, sorted, names]);
  const setColumns = (/** @type {string[] | null} */ cols) => { const all = { ...columnChoice.value }; if (cols) all[choiceKey] = cols; else delete all[choiceKey]; columnChoice.value = all; setQuery({ cols: cols?.join(',') ?? null }); };
  const setPins = (/** @type {string[]} */ next) => setQuery({ pin: next.join(',') });
  const sortBy = (/** @type {string} */ name, /** @type {'asc' | 'desc' | undefined} */ order) => setQuery({ sort: `${name}:${order ?? (sort.name === name ? (sort.order === 'asc' ? 'desc' : 'asc') : firstOrder(name))}` });
  const move = (/** @type {string} */ name, /** @type {number | string} */ by) => {
    const next = typeof by === 'number' ? moveBy(shown, name, by) : moveTo(shown, name, by);
    // Dropped among the pinned columns it is pinned, among the others it is not.
    if (typeof by === 'string' && pins.includes(name) !== pins.includes(by)) setPins(toggle(pins, name));
    setColumns(next);
  };
  const compare = () => { if (selected.length > 1) go(`/compare?runs=${selected.slice(0, 20).join(',')}`); };
  const exportRows = (/** @type {boolean} */ all) => table && download(table, all ? Array.from(sorted) : Array.from(sorted).filter((i) => chosenSet.has(table.ids[i])), shown, chosen?.name ?? 'runs');
  const [menu, setMenu] = useState(/** @type {{name: string, at: DOMRect} | null} */ (null));

  useCommands([
    { id: 'compare', title: `Compare ${plural(selected.length, 'selected run')}`, icon: 'git-compare', keys: 'c', group: 'Runs', run: compare },
    { id: 'column.pin', title: 'Pin the sorted column', icon: 'pin', keys: 'e', group: 'Runs', run: () => setPins(toggle(pins, sort.name)) },
    { id: 'runs.clear', title: 'Select no runs', icon: 'eye-off', group: 'Runs', run: () => pick([]) },
    { id: 'runs.all', title: 'Select every run of this list', icon: 'eye', group: 'Runs', run: () => pick('all') },
    { id: 'runs.top', title: 'Select the first eight of this list', icon: 'eye', group: 'Runs', run: () => table && pick(Array.from(sorted.slice(0, 8), (i) => table.ids[i])) },
    { id: 'runs.export', title: 'Export this list as CSV', icon: 'download', group: 'Runs', run: () => exportRows(true) },
    { id: 'close', title: 'Select no runs', hidden: true, run: () => { if (asked) pick([]); } },
  ]);

  const crumbs = /** @type {[string, string?][]} */ (chosen || experiment ? [['Runs', '/runs'], [chosen?.name ?? experiment]] : [['Runs']]);
  const chooser = html`<label><span class="sr">Experiment</span><select class="select" value=${chosen?.id ?? experiment} onChange=${(/** @type {any} */ e) => setQuery({ experiment: e.currentTarget.value, sel: null, sort: null, group: null, filter: null, q: null, cols: null, pin: null, w: null, saved: null }, { push: true })}>
    <option value="">All experiments</option>${list.map((/** @type {any} */ e) => html`<option key=${e.id} value=${e.id} selected=${e.id === chosen?.id}>${e.name}</option>`)}</select></label>`;
  const isEmpty = table && table.ids.length === 0 && !filter && !stage && !runs.loading;
  const side = drawn.length > 0 || ['parallel', 'scatter'].includes(query.get('draw') ?? '');
  const columnItems = (/** @type {string} */ name) => /** @type {[string, string, () => void][]} */ ([
    ['arrow-up', 'Sort, least first', () => sortBy(name, 'asc')], ['arrow-down', 'Sort, most first', () => sortBy(name, 'desc')],
    ...(name === 'name' ? [] : [[pins.includes(name) ? 'pin-off' : 'pin', pins.includes(name) ? 'Unpin' : 'Pin to the left', () => setPins(toggle(pins, name))], ['chevron-left', 'Move left', () => move(name, -1)], ['chevron-right', 'Move right', () => move(name, 1)],
      ...(groupable(name, table) ? [['layers', group === name ? 'No groups' : 'Group by this', () => setQuery({ group: group === name ? null : name, closed: null })]] : []), ['eye-off', 'Hide', () => setColumns(shown.filter((c) => c !== name))]])]);
  return html`<${Page} crumbs=${crumbs} flush loading=${runs.loading}
      filter=${html`<${Filter} value=${text} onInput=${(/** @type {string} */ q) => setQuery({ q })} placeholder="Find: a word, loss < 0.3, status:failed" label="Find among these runs" unknown=${filtered.unknown} />`}
      actions=${html`${chooser}${chosen && html`<a class="button plain" href=${withQuery('/traces', { experiment: chosen.id })}>Traces</a>`}<${ViewsMenu} query=${query} scope=${chosen?.id ?? ''} setQuery=${setQuery} />`}>
    ${runs.error && !table && runs.error.where !== 'filter' ? html`<${Problem} center error=${runs.error} retry=${runs.reload} />`
      : isEmpty ? html`<${Empty} center icon="activity" title=${experiment ? 'No runs in this experiment yet.' : 'No runs yet.'} text="The unmodified MLflow client writes here; autologging included." command=${`export MLFLOW_TRACKING_URI=${location.origin}\npython - <<'PY'\nimport mlflow\nwith mlflow.start_run(run_name="first"):\n    for step in range(200):\n        mlflow.log_metric("loss", 1 / (1 + step), step=step)\nPY`} />`
        : html`<div class=${`panes ${side ? '' : 'single'}`}>
      <div class="runs">
        <div class="bars-top"><div class="bar top"><span class="quiet nowrap">${table ? (sorted.length === table.ids.length ? `${plural(table.ids.length, 'run')}${runs.next ? ' and more' : ''}` : `${count(sorted.length)} of ${count(table.ids.length)} runs`) : 'Reading'}</span>
          <${FilterBar} filter=${filter} columns=${known} error=${runs.error} onChange=${(/** @type {string} */ f) => setQuery({ filter: f })} />
          <span class="end row"><label class="inline"><span class="sr">Stage</span><select class="select small" value=${stage} onChange=${(/** @type {any} */ e) => setQuery({ stage: e.currentTarget.value, sel: null })}><option value="" selected=${!stage}>Active</option><option value="deleted" selected=${stage === 'deleted'}>Deleted</option></select></label>
            <label class="inline"><span class="sr">Group by</span><select class="select small" value=${group} onChange=${(/** @type {any} */ e) => setQuery({ group: e.currentTarget.value, closed: null })}><option value="">No groups</option>${groupChoices(table, group, known).map((n) => html`<option key=${n} value=${n} selected=${n === group}>${titleOf(n)}</option>`)}</select></label>
            ${group && html`<label class="inline"><span class="sr">Numbers of a group</span><select class="select small" value=${how} onChange=${(/** @type {any} */ e) => setQuery({ agg: e.currentTarget.value === 'mean' ? null : e.currentTarget.value })}>${HOWS.map(([v, w]) => html`<option key=${v} value=${v} selected=${v === how}>${w}</option>`)}</select></label>`}
            <${ColumnsMenu} catalogue=${catalogue} visible=${shown} pins=${pins} onOpen=${() => setWhole(true)} onChange=${setColumns} onPin=${setPins} />
            <button type="button" class="button plain small icon-only" title="Export this list as CSV" aria-label="Export this list as CSV" disabled=${!table} onClick=${() => exportRows(true)}><${Icon} name="download" small /></button></span></div>
          ${asked !== null && selected.length > 0 && html`<${BatchBar} on=${experimentsOf(table, chosenSet, chosen?.id)} ids=${selected} drawn=${drawn.length} deleted=${stage === 'deleted'} onNone=${() => pick([])} onCompare=${compare} onExport=${() => exportRows(false)} onDone=${() => { setQuery({ sel: 'none' }); runs.reload(); }} />`}</div>
        ${!table && runs.error ? html`<${Empty} center icon="circle-alert" title="The filter cannot be read." text="What is wrong with it is said above, where it is wrong." />` : !table ? html`<div class="runs-wait" aria-busy="true">${Array.from({ length: 12 }, (_, i) => html`<div class="skeleton" key=${i}></div>`)}</div>`
          : sorted.length === 0 && !runs.loading ? html`<${Empty} center icon="search" title=${stage ? 'Nothing is deleted here.' : 'No run passes.'} text=${filtered.unknown.length ? `No column is called ${filtered.unknown.join(', ')}.` : 'Loosen the filter, or clear it.'}>${(filter || text) && html`<button type="button" class="button" onClick=${() => setQuery({ filter: null, q: null })}>Clear the filter</button>`}<//>`
            : html`<${RunsTable} table=${table} rows=${rows} columns=${columns} selected=${chosenSet} drawn=${drawn} sort=${sort} how=${how} busy=${runs.loading} onSort=${sortBy} onSelect=${pick} onOpen=${(/** @type {string} */ id) => go(`/runs/${id}`)} onMove=${move} onWidth=${(/** @type {string} */ name, /** @type {number} */ w) => setQuery({ w: writeWidths({ ...widths, [name]: w }) })} onColumnMenu=${(/** @type {string} */ name, /** @type {DOMRect} */ at) => setMenu({ name, at })}
                sayGroup=${(/** @type {string} */ g) => (group === 'experiment_id' ? names.get(g) ?? g : g)} onGroup=${(/** @type {string} */ g) => setQuery({ closed: toggle([...closed], g).join(',') })} label="Runs" />`}
        <div class="bar bottom"><span><kbd>j</kbd> <kbd>k</kbd> rows</span><span><kbd>x</kbd> select</span><span><kbd>c</kbd> compare</span>${runs.error && table && runs.error.where !== 'filter' && html`<span class="bad">${runs.error.message}</span>`}${runs.next && runs.whole && html`<button type="button" class="button small end" onClick=${() => runs.more().catch(sayError)}>Read the next ${count(PAGE)}</button>`}</div>
      </div>
      ${side && table && html`<div class="right"><${RunsSide} table=${table} rows=${sorted} drawn=${drawn} visible=${shown} query=${query} setQuery=${setQuery} /></div>`}
    </div>`}
    ${menu && html`<${ColumnMenu} at=${menu.at} label=${`Column ${titleOf(menu.name)}`} items=${columnItems(menu.name)} onClose=${() => setMenu(null)} />`}
  <//>`;
}

/** The experiments that the selected runs lie in; none while their column is not read: then the server has the only word.
 *  @param {any} table @param {Set<string>} ids @param {string} [one] the experiment of the whole list */
function experimentsOf(table, ids, one) {
  if (one) return [`experiment:${one}`];
  const column = table?.columns.experiment_id;
  return column ? [...new Set(table.ids.flatMap((/** @type {string} */ id, /** @type {number} */ i) => (ids.has(id) ? [`experiment:${valueAt(column, i)}`] : [])))].slice(0, ASKED_MAX) : [];
}

const FIXED = new Set(['name', 'status', 'stage', 'experiment_id', 'started_at_ms', 'ended_at_ms', 'user', 'source_commit']);
const SERVER = /** @type {Record<string, string>} */ ({ name: 'attributes.run_name', status: 'attributes.status', user: 'attributes.user', started_at_ms: 'attributes.start_time', ended_at_ms: 'attributes.end_time', experiment_id: 'attributes.experiment_id', source_commit: 'attributes.source_commit' });

/** The order in the server's words; used when there are more runs than one answer holds. @param {{name: string, order: string}} sort */
function orderOf({ name, order }) {
  const dot = name.indexOf('.'), key = SERVER[name] ?? (dot > 0 ? `${name.slice(0, dot)}.\`${name.slice(dot + 1).replaceAll('`', '')}\`` : '');
  return key ? `${key} ${order}` : '';
}

/** Lower is better for what sounds like a loss; other numbers and times begin with the most. @param {string} name */
function firstOrder(name) {
  const better = direction(name.replace(/^metrics\./, ''));
  return name.startsWith('metrics.') ? (better === 'low' ? 'asc' : 'desc') : name.endsWith('_ms') ? 'desc' : 'asc';
}

/** The columns that a typed text speaks of: of those that are shown, before those that there are. @param {string} text @param {string[]} shown @param {string[]} known */
function wordsOf(text, shown, known) {
  return parseFilter(text).flatMap((t) => ('key' in t ? [resolveKey(t.key, shown) ?? resolveKey(t.key, known)] : [])).filter((n) => n !== null);
}

/** @param {string} name @param {any} table @param {Uint32Array} rows @param {string[]} pins @param {Record<string, number>} widths @param {Map<string, string>} experiments */
function describe(name, table, rows, pins, widths, experiments) {
  const column = table?.columns[name];
  const kind = name === 'name' ? 'name' : name === 'status' ? 'state' : name === 'duration_ms' ? 'duration' : name.endsWith('_at_ms') ? 'time' : column instanceof Float64Array ? 'number' : 'text';
  const better = name.startsWith('metrics.') ? direction(name.slice(8)) : null, label = titleOf(name);
  const width = { name: 190, state: 100, time: 108, duration: 92, number: Math.min(170, Math.max(88, label.length * 7 + 34)), text: Math.min(190, Math.max(88, label.length * 7 + 34)) }[/** @type {'name'} */ (kind)];
  return { name, label, kind, width: widths[name] ?? width, pinned: name === 'name' || pins.includes(name), best: better && column instanceof Float64Array ? bestRow(rows, column, better) : undefined, say: name === 'experiment_id' ? (/** @type {any} */ v) => experiments.get(v) ?? String(v) : undefined };
}

/** Whether a column can make groups: it has few enough values. @param {string} name @param {any} table @param {number} [limit] */
function groupable(name, table, limit = 60) {
  if (!table || name === 'name' || name.startsWith('metrics.') || name.endsWith('_ms')) return false;
  const seen = new Set(), column = table.columns[name] ?? [];
  for (let i = 0; i < column.length && seen.size <= limit; i += 1) seen.add(column[i]);
  return seen.size > 1 && seen.size <= limit;
}

/** @param {any} table @param {string} group @param {string[]} known */
function groupChoices(table, group, known) {
  const here = table ? Object.keys(table.columns).filter((n) => groupable(n, table)) : [];
  const others = known.filter((n) => (n.startsWith('params.') || n.startsWith('tags.')) && !n.startsWith('tags.mlflow.') && !(table && n in table.columns)).slice(0, 200);
  return [...new Set(['experiment_id', ...(group ? [group] : []), ...here, ...others])];
}

/** @param {any} table @param {number[]} rows @param {string[]} columns @param {string} name */
function download(table, rows, columns, name) {
  const head = ['run_id', ...columns], value = (/** @type {string} */ c, /** @type {number} */ i) => { const v = valueAt(table.columns[c], i); return c.endsWith('_at_ms') && v ? new Date(v).toISOString() : v ?? ''; };
  const text = csv(head, rows.map((i) => [table.ids[i], ...columns.map((c) => value(c, i))]));
  save(new Blob([text], { type: 'text/csv' }), `${name}.csv`);
}
