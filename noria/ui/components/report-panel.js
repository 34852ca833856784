// @ts-check
/** What a panel of a report shows, drawn from the one answer it has. Used where one is signed in, and behind a link, where nothing leads further. */

import { useMemo } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { Bars } from './bars.js';
import { Curve } from './curve.js';
import { Aliases, Chip } from './chips.js';
import { DiffMark } from './diff.js';
import { Prose } from './prose.js';
import { State } from './state.js';
import { Table } from './table.js';
import { TableDiff, TableProfile } from './table-profile.js';
import { Kv, Num, Time } from './values.js';
import { linesOf } from './use-series.js';
import { enc } from '../lib/api.js';
import { bytes, count, direction, duration, num, percent, plural } from '../lib/format.js';
import { titleOf } from '../lib/reports.js';

const DRAWN = /** @type {Record<string, (props: any) => any>} */ ({ curves: Curves, runs: Runs, model: Model, dataset: Dataset, monitor: Monitor, endpoint: Endpoint });

/** @param {{block: import('../lib/reports.js').ReportBlock, answer: any, links?: boolean}} props `answer`: a resource with the panel */
export function ReportPanel({ block, answer, links = true }) {
  const View = DRAWN[block.kind], d = answer.data?.data, title = titleOf(block.experiment ? { ...block, experiment: d?.experiment ?? (/^[0-9a-f]{32}$/.test(block.experiment) ? '' : block.experiment) } : block);
  return html`<div class=${`report-panel ${block.kind}`} aria-busy=${!d && !answer.error ? 'true' : undefined}><h3>${title}</h3>
    ${d ? html`<${View} block=${block} data=${d} links=${links} />` : answer.error ? html`<div class="notice warn"><${Icon} name="eye-off" /><div class="stack tight"><span>${answer.error.message}</span>${answer.error.hint && html`<small>${answer.error.hint}</small>`}</div></div>` : html`<div class="stack"><div class="skeleton"></div><div class="skeleton"></div></div>`}</div>`;
}

/** @param {any} props */
function Curves({ block, data, links }) {
  const charts = useMemo(() => {
    const all = new Map(Object.entries(data.series)), ids = data.runs.map((/** @type {any} */ r) => r.id), names = new Map(data.runs.map((/** @type {any} */ r) => [r.id, r.name]));
    return block.metrics.map((/** @type {string} */ key) => [key, linesOf(all, ids, key, (id) => names.get(id) ?? id, block.x).map((l) => (links ? l : { ...l, href: undefined }))]);
  }, [data, block, links]);
  if (!data.runs.length) return html`<p class="muted">No run matches.</p>`;
  return html`<div class=${charts.length > 1 ? 'charts' : 'stack'}>${charts.map((/** @type {[string, any[]]} */ [key, lines]) => (!lines.length ? html`<p class="muted" key=${key}>${plural(data.runs.length, 'run')}, and none logged ${key}.</p>`
    : lines.every((l) => l.x.length === 1) ? html`<${Bars} key=${key} title=${key} lines=${lines} better=${direction(key)} />`
      : html`<${Curve} key=${key} title=${key} lines=${lines} x=${block.x} log=${block.log} smooth=${block.smooth} height=${charts.length > 1 ? 196 : 280} better=${direction(key)} />`))}</div>`;
}

/** @param {any} props */
function Runs({ block, data, links }) {
  const rows = data.ids.map((/** @type {string} */ id, /** @type {number} */ i) => Object.fromEntries([['id', id], ...Object.entries(data.columns).map(([k, v]) => [k, /** @type {any[]} */ (v)[i]])]));
  const extra = block.columns.filter((/** @type {string} */ c) => !['name', 'status', 'started_at_ms'].includes(c));
  if (!rows.length) return html`<p class="muted">No run matches.</p>`;
  return html`<${Table} label=${data.experiment ? `Runs of ${data.experiment}` : 'Runs'} rows=${rows} href=${links ? (/** @type {any} */ r) => `/runs/${r.id}` : undefined} columns=${[
    { key: 'name', label: 'Run', cell: (r) => r.name || r.id.slice(-8), sort: (r) => r.name }, { key: 'status', label: 'State', cell: (r) => html`<${State} of=${r.status} />` },
    ...extra.map((/** @type {string} */ c) => { const isNumber = rows.some((/** @type {any} */ r) => typeof r[c] === 'number'); return { key: c, label: c.replace(/^(metrics|params|tags)\./, ''), num: isNumber, cell: (/** @type {any} */ r) => (isNumber ? html`<${Num} value=${r[c]} />` : String(r[c] ?? '–')), sort: (/** @type {any} */ r) => r[c] }; }),
    { key: 'at', label: 'Began', cell: (r) => html`<${Time} at=${r.started_at_ms} />`, sort: (r) => r.started_at_ms }]} />
    ${data.has_more && html`<p class="caption">The first ${rows.length}; more match.</p>`}`;
}

/** @param {any} props */
function Model({ data: d, links }) {
  const name = html`${d.model}@${d.number}`;
  return html`<div class="stack"><p class="quiet row wrap"><b>${links ? html`<a href=${`/models/${enc(d.model)}/${d.number}`}>${name}</a>` : name}</b><${Aliases} of=${d.aliases} /><span>registered <${Time} at=${d.created_at_ms} />, ${bytes(d.size_bytes)}</span></p>
    ${d.description && html`<p>${d.description}</p>`}
    ${d.evaluations.map((/** @type {any} */ e, /** @type {number} */ i) => html`<div class="stack tight" key=${i}><h4>On ${e.split}${e.data ? ` of ${e.data}` : ''}</h4><${Kv} class="facts" items=${Object.entries(e.metrics).map(([k, v]) => [k, html`<${Num} value=${v} />`])} /></div>`)}
    ${d.sections.map((/** @type {any} */ s) => html`<div key=${s.title}><h4>${s.title}</h4><${Prose} of=${s.html} /></div>`)}
    ${!d.evaluations.length && !d.sections.length && html`<p class="muted">Nothing was measured of it yet, and nobody wrote on its card.</p>`}</div>`;
}

/** @param {any} props */
function Dataset({ data: d, links }) {
  const name = html`${d.dataset}@${d.number}`;
  const head = html`<p class="quiet row wrap"><b>${links ? html`<a href=${`/datasets/${enc(d.dataset)}/${d.number}`}>${name}</a>` : name}</b><span>committed <${Time} at=${d.created_at_ms} />${d.message ? `: “${d.message}”` : ''}, ${plural(d.files_count, 'file')} of ${bytes(d.size_bytes)}${d.rows_count !== null ? `, ${count(d.rows_count)} rows` : ''}</span></p>`;
  if (d.against) {
    return html`<div class="stack">${head}<div class="chips"><${Chip} tone="ok">+${count(d.added_count)} added<//><${Chip} tone="bad">−${count(d.removed_count)} removed<//><${Chip} tone="warn">~${count(d.changed_count)} changed<//></div>
      ${d.tables.map((/** @type {any} */ t) => html`<${TableDiff} key=${t.path} table=${t} />`)}
      ${!d.tables.length && d.files.length > 0 && html`<ul>${d.files.map((/** @type {any} */ f) => html`<li class="row" key=${f.path}><${DiffMark} of=${f.change} /><span class="mono">${f.path}</span></li>`)}</ul>`}
      ${!d.files.length && html`<p class="muted">The two versions have the same files.</p>`}</div>`;
  }
  return html`<div class="stack">${head}${d.tables.map((/** @type {any} */ t) => html`<${TableProfile} key=${t.path} table=${t} only=${d.tables.length === 1} />`)}${!d.tables.length && html`<p class="muted">No tables in this version.</p>`}${d.tables_count > d.tables.length && html`<p class="caption">The first ${d.tables.length} of ${d.tables_count} tables.</p>`}</div>`;
}

/** @param {any} props */
function Monitor({ data: d, links }) {
  const line = { id: 'v', name: d.metric, colour: 'var(--accent)', x: d.windows.map((/** @type {any} */ w) => w.end_ms), y: d.windows.map((/** @type {any} */ w) => w.value), low: d.windows.some((/** @type {any} */ w) => w.low !== null) ? d.windows.map((/** @type {any} */ w) => w.low) : undefined, high: d.windows.some((/** @type {any} */ w) => w.high !== null) ? d.windows.map((/** @type {any} */ w) => w.high) : undefined };
  const name = links ? html`<a href=${`/monitors/${enc(d.monitor)}`}>${d.monitor}</a>` : d.monitor;
  return html`<div class="stack"><p class="quiet row wrap"><${State} of=${d.state === 'open' ? 'alert' : d.state} /><span><b>${name}</b> watches ${d.metric} of ${d.endpoint} over windows of ${duration(d.window_s * 1000)}${d.description ? `. ${d.description}` : ''}</span></p>
    ${d.windows.length ? html`<${Curve} title=${`${d.metric} by window`} x="time" height=${200} points lines=${[line]} thresholds=${[{ value: d.limit, label: `limit ${num(d.limit)}`, tone: d.severity === 'warn' ? 'warn' : 'bad' }]} better="low" />` : html`<p class="muted">No window has been judged yet.</p>`}</div>`;
}

/** @param {any} props */
function Endpoint({ block, data: d, links }) {
  const step = d.t.length > 1 ? (d.t[1] - d.t[0]) / 1000 : 60, sum = (/** @type {string} */ k) => d.by_version.reduce((/** @type {number} */ s, /** @type {any} */ v) => s + v[k].reduce((/** @type {number} */ a, /** @type {number} */ b) => a + b, 0), 0);
  const requests = sum('count'), errors = sum('errors'), slowest = Math.max(0, ...d.by_version.flatMap((/** @type {any} */ v) => v.p99_ms.filter((/** @type {any} */ x) => x !== null)));
  const lines = (/** @type {(v: any) => any[]} */ read) => d.by_version.map((/** @type {any} */ v, /** @type {number} */ i) => ({ id: `v${i}`, name: v.version ? `@${v.version}` : 'an earlier version', colour: `var(--series-${(i % 8) + 1})`, x: d.t, y: read(v) }));
  return html`<div class="stack"><p class="quiet row wrap"><${State} of=${d.status} /><span><b>${links ? html`<a href=${`/endpoints/${enc(d.endpoint)}`}>${d.endpoint}</a>` : d.endpoint}</b> answers with ${d.model}${d.routes.filter((/** @type {any} */ r) => r.weight > 0).map((/** @type {any} */ r, /** @type {number} */ i) => `${i ? ', ' : ' '}@${r.version} (${r.role}, ${r.weight} %)`).join('')}</span></p>
    <${Kv} class="facts" items=${[[`Requests, ${block.span}`, count(requests)], ['Errors', html`<span class=${requests && errors / requests > 0.01 ? 'bad' : ''}>${percent(requests ? errors / requests : 0)}</span>`], ['p99, at most', slowest ? duration(slowest) : '–']]} />
    ${requests > 0 && html`<div class="charts"><${Curve} title="Requests a second" x="time" zero lines=${lines((v) => v.count.map((/** @type {number} */ c) => c / step))} /><${Curve} title="p99 latency" x="time" unit="ms" zero lines=${lines((v) => v.p99_ms)} /></div>`}</div>`;
}
