// @ts-check
/** One monitor: its number by window with the limit drawn, which columns moved, and what it has opened. */

import { useMemo } from 'preact/hooks';
import { html } from '../components/html.js';
import { Page, Block } from '../components/page.js';
import { Show, Empty } from '../components/empty.js';
import { Curve } from '../components/curve.js';
import { Heatmap } from '../components/heatmap.js';
import { Sheet } from '../components/sheet.js';
import { State } from '../components/state.js';
import { Table } from '../components/table.js';
import { Alerts } from '../components/alerts.js';
import { Backtest } from '../components/backtest.js';
import { DriftMatrix } from '../components/drift-matrix.js';
import { Id, Kv, Num, RefLink, Time, Who } from '../components/values.js';
import { Talk } from '../components/talk.js';
import { useResource } from '../components/use.js';
import { enc, withQuery } from '../lib/api.js';
import { count, duration, percent, stamp } from '../lib/format.js';
import { zone } from '../lib/store.js';

/** @param {any} props */
export default function MonitorPage({ params, query, setQuery }) {
  const { monitor: name } = params;
  const monitor = useResource(`/monitors/${enc(name)}`, { kinds: ['monitor.', 'alert.'] });
  const answer = useResource(`/monitors/${enc(name)}/windows?limit=500`, { kinds: ['window.', 'alert.'] });
  const m = monitor.data?.monitor ?? monitor.data, s = m?.spec;
  const alerts = useResource(m ? withQuery('/alerts', { monitor: name, limit: 50 }) : null, { kinds: ['alert.'] });
  const windows = useMemo(() => [...(answer.data?.items ?? [])].sort((a, b) => a.end_ms - b.end_ms), [answer.data]);
  const mine = (alerts.data?.items ?? []).filter((/** @type {any} */ a) => a.monitor === name);
  const grid = useMemo(() => columnsOf(windows), [windows]);
  const chosen = windows.find((w) => String(w.start_ms) === query.get('window'));
  const line = { id: 'v', name: s?.metric ?? '', colour: 'var(--accent)', x: windows.map((w) => w.end_ms), y: windows.map((w) => w.value), low: windows.some((w) => w.low !== null && w.low !== undefined) ? windows.map((w) => w.low) : undefined, high: windows.some((w) => w.high !== null && w.high !== undefined) ? windows.map((w) => w.high) : undefined };
  return html`<${Page} crumbs=${[['Monitors', '/monitors'], [name]]} loading=${monitor.loading}>
    <${Show} of=${monitor}>${() => html`<div class="story"><h2>${name}<${State} of=${m.state === 'open' ? 'alert' : m.state} /></h2>
        <p>It watches ${s.metric} of <${RefLink} to=${`endpoint:${m.endpoint}`} /> over windows of ${duration(s.window_s * 1000)} of event time${s.lateness_s ? `, waiting ${duration(s.lateness_s * 1000)} for late truth` : ''}${s.reference ? html`, against <code>${s.reference}</code>` : ''}. ${s.k} of ${s.n} windows over ${s.limit} open ${s.severity === 'warn' ? 'a warning' : 'an alert'}; fewer than ${count(s.min_count)} rows are not judged.${s.clear_limit === null ? '' : ` An open one resolves beyond ${s.clear_limit}.`}${s.owner ? ` ${s.owner} looks.` : ''} ${s.description}</p>
        ${m.muted_until_ms > Date.now() && html`<p class="warn">Muted until <${Time} at=${m.muted_until_ms} absolute /> by <${Who} of=${m.muted_by} />: ${m.mute_reason}</p>`}</div>
      ${windows.length === 0 ? html`<${Empty} icon="chart-line" title="No window has been judged yet." text=${html`A window is judged when event time has passed its end${s.lateness_s ? html` by ${duration(s.lateness_s * 1000)}` : ''}. Send requests to <${RefLink} to=${`endpoint:${m.endpoint}`} />.`} />`
        : html`<${Curve} title=${`${s.metric} by window`} x="time" height=${260} points lines=${[line]} thresholds=${[{ value: s.limit, label: `limit ${s.limit}`, tone: s.severity === 'warn' ? 'warn' : 'bad' }]} moments=${mine.map((/** @type {any} */ a) => ({ at: a.event_at_ms, label: 'alert', tone: 'bad' }))} better="low" />
      ${grid.rows.length > 1 && html`<${Block} title="By column" actions=${html`<span class="muted">over the limit in red</span>`}><div class="table-wrap" tabindex="0" role="region" aria-label="Columns by window"><${Heatmap} label=${`${s.metric} of each column by window`} rows=${grid.rows} columns=${grid.columns.map((c) => stamp(c, zone.value, false).slice(5))} values=${grid.values} limit=${s.limit} /></div><//>`}
      ${windows.some((w) => w.coverage < 1) && html`<${Curve} title="Share of predictions with truth" x="time" height=${110} zero lines=${[{ id: 'c', name: 'coverage', colour: 'var(--series-3)', x: windows.map((w) => w.end_ms), y: windows.map((w) => w.coverage) }]} />`}`}
      ${windows.length > 0 && html`<${Backtest} spec=${s} />`}
      ${mine.length > 0 && html`<${Block} title="Alerts"><${Alerts} rows=${mine} /><//>`}
      ${windows.length > 0 && html`<${Block} title="Windows" count=${windows.length}><${Table} keys label="Windows" rows=${[...windows].reverse().slice(0, 200)} selected=${chosen?.start_ms} rowKey=${(/** @type {any} */ w) => w.start_ms} columns=${[
        { key: 'at', label: 'Window', cell: (w) => html`<button type="button" class="th-button" onClick=${() => setQuery({ window: String(w.start_ms) })}>${stamp(w.start_ms, zone.value, false)}</button>` }, { key: 'v', label: 'Verdict', cell: (w) => html`<${State} of=${w.verdict} tone=${{ over: 'alert', within: 'done', too_few: 'queued', undefined: 'neutral' }[/** @type {'over'} */ (w.verdict)]} />` },
        { key: 'x', label: s.metric, num: true, cell: (w) => html`<span class=${w.verdict === 'over' ? 'bad' : ''}><${Num} value=${w.value} /></span>`, sort: (w) => w.value }, { key: 'c', label: 'Rows', num: true, cell: (w) => count(w.count), sort: (w) => w.count }, { key: 'cov', label: 'With truth', num: true, cell: (w) => percent(w.coverage) },
        { key: 'j', label: 'Judged', num: true, cell: (w) => (w.judgements > 1 ? `${w.judgements}×` : 'once') }, { key: 'why', label: 'Why', prose: true, cell: (w) => w.why }]} /><//>`}
      <small>Made by <${Who} of=${m.actor} /> <${Time} at=${m.created_at_ms} />, <${Id} value=${m.id} /></small>`}<//>
    ${chosen && html`<${Sheet} title=${`Window from ${stamp(chosen.start_ms, zone.value, false)}`} onClose=${() => setQuery({ window: null })}><div class="stack"><${Kv} items=${[['Verdict', html`<${State} of=${chosen.verdict} tone=${chosen.verdict === 'over' ? 'alert' : 'done'} />`], [s?.metric, html`<${Num} value=${chosen.value} digits=${6} />`], ['Rows', count(chosen.count)], ['Predictions', count(chosen.predictions)], ['With truth', percent(chosen.coverage)], ['Ends', html`<${Time} at=${chosen.end_ms} absolute />`], ['Judged', html`<${Time} at=${chosen.judged_at_ms} />`], ['Why', chosen.why]]} />
      <${Table} label="Findings" rows=${[...chosen.findings].sort((a, b) => Number(b.is_over) - Number(a.is_over) || (b.value ?? -1) - (a.value ?? -1))} rowKey=${(/** @type {any} */ f) => f.column} columns=${[{ key: 'c', label: 'Column', cell: (f) => (f.column.replace('@', '') || 'all') }, { key: 'v', label: 'Value', num: true, cell: (f) => html`<span class=${f.is_over ? 'bad' : ''}><${Num} value=${f.value} /></span>` }, ...(chosen.findings.some((/** @type {any} */ f) => f.q_value !== null) ? [{ key: 'q', label: 'q', num: true, cell: (/** @type {any} */ f) => html`<${Num} value=${f.q_value} digits=${2} />` }] : []), { key: 'n', label: 'Rows', num: true, cell: (f) => count(f.count) }, { key: 'r', label: 'Reference', num: true, cell: (f) => count(f.reference_count) }]} />
      ${s?.reference && html`<${DriftMatrix} endpoint=${m.endpoint} reference=${s.reference} spec=${s} end=${chosen.end_ms} />`}</div><//>`}
    ${m && html`<${Talk} about=${`monitor:${name}`} />`}
  <//>`;
}

/** Findings as a grid: the columns that moved most, the latest sixty windows. @param {any[]} windows */
function columnsOf(windows) {
  const last = windows.slice(-60), worst = new Map();
  for (const w of last) for (const f of w.findings) worst.set(f.column, Math.max(worst.get(f.column) ?? 0, f.value ?? 0));
  const rows = [...worst].sort((a, b) => b[1] - a[1]).slice(0, 24).map(([c]) => c);
  return { rows: rows.map((r) => r.replace('@', '') || 'all'), columns: last.map((w) => w.end_ms), values: rows.map((r) => last.map((w) => w.findings.find((/** @type {any} */ f) => f.column === r)?.value ?? null)) };
}
