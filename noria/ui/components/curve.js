// @ts-check
/** Curves on uPlot: shared crosshair, zoom that asks the server again, thresholds and moments drawn, NaN and infinity marked at
 *  the edge and counted in the legend. Nothing is drawn before it comes near the window. */

import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { STATIC, html } from './html.js';
import { Icon } from './icon.js';
import { Menu } from './menu.js';
import { colour, faded } from './colours.js';
import { useSeen, useSize } from './use.js';
import { num, si, stamp, duration, plural, count } from '../lib/format.js';
import { rowsOf, svgOf } from '../lib/chart-file.js';
import { csv } from '../lib/csv.js';
import { save } from '../lib/save.js';
import { smooth as smoothed } from '../lib/extremes.js';
import { scheme, zone } from '../lib/store.js';

/** @typedef {{id: string, name: string, colour: string, dash?: boolean, href?: string, x: ArrayLike<number>, y: ArrayLike<number | null>, low?: ArrayLike<number | null>, high?: ArrayLike<number | null>, nan?: number[], inf?: number[], minusInf?: number[], nanCount?: number, infCount?: number, minusInfCount?: number, count?: number}} Line */
/** @typedef {{value: number, label: string, tone?: string}} Threshold */
/** @typedef {{at: number, label: string, tone?: string}} Moment */

/** Steps between whole numbers: there is no version 2.4. */
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];
/** Steps of a clock, in ms. */
const CLOCK = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 108e5, 216e5, 432e5, 864e5, 1728e5, 4320e5, 6048e5, 12096e5, 26784e5, 78624e5, 316224e5];

/** @type {any} */ let uPlot = null;
/** @type {Promise<void> | null} */ let reading = null;
/** Reads uPlot once. Its published file that is small is a script, not a module: half the bytes of the other. @returns {Promise<void>} */
const loading = () => {
  reading ??= new Promise((done, fail) => {
    const script = document.createElement('script');
    script.src = `${STATIC}/vendor/uplot/uPlot.iife.min.js`;
    script.onload = () => { uPlot = /** @type {any} */ (window).uPlot; done(); };
    script.onerror = () => { reading = null; fail(new Error('uPlot could not be read.')); };
    document.head.append(script);
  });
  return reading;
};

/** @param {{title: string, lines: Line[], x?: 'step' | 'time' | 'elapsed', height?: number, log?: boolean, smooth?: number, sync?: string, thresholds?: Threshold[], moments?: Moment[],
 *   better?: 'low' | 'high' | null, onZoom?: (range: {from: number, to: number} | null) => void, unit?: string, tools?: any, points?: boolean, whole?: boolean, zero?: boolean, legend?: boolean, onSeen?: () => void}} props */
export function Curve(props) {
  const { title, lines, x = 'step', height = 196, log = false, smooth = 0, thresholds = [], moments = [], better, onZoom, unit = '', tools, legend = true, onSeen } = props;
  const frame = useRef(/** @type {any} */ (null)), plot = useRef(/** @type {any} */ (null)), chart = useRef(/** @type {any} */ (null));
  const seen = useSeen(frame);
  const { width } = useSize(frame);
  const [ready, setReady] = useState(uPlot !== null), [broken, setBroken] = useState('');
  const [at, setAt] = useState(/** @type {number | null} */ (null));
  const [asTable, setAsTable] = useState(false);
  const zoomed = useRef(false);
  const last = useRef(props);
  last.current = props;
  const look = scheme.value;
  zone.value;

  useEffect(() => { if (seen) onSeen?.(); }, [seen]);
  useEffect(() => { if (seen && !ready) loading().then(() => setReady(true), (e) => setBroken(e.message)); }, [seen]);

  const shape = JSON.stringify([lines.map((l) => [l.id, l.colour, l.dash, Boolean(l.low), l.x.length === 1]), x, log, smooth > 0, height, look, zone.value, unit, Boolean(onZoom)]);
  useLayoutEffect(() => {
    if (!ready || !seen || !width || asTable || !plot.current) return undefined;
    const made = build(plot.current, last, width, height, setAt, zoomed);
    chart.current = made;
    return () => { made.destroy(); chart.current = null; };
  }, [ready, seen, width > 0, asTable, shape]);

  useLayoutEffect(() => { if (chart.current && width && Math.abs(chart.current.width - width) >= 1) chart.current.setSize({ width, height }); }, [width]);
  useLayoutEffect(() => { if (chart.current) { const whole = !zoomed.current || Boolean(onZoom); chart.current.setData(join(lines, smooth, log), whole); if (!whole) chart.current.redraw(); } }, [lines, smooth, thresholds, moments]);

  const label = summary(props);
  return html`<figure class="chart" ref=${frame}>
    <div class="chart-head"><h3 title=${title}>${title}</h3>
      <span class="tools">${tools}${onZoom && zoomed.current && html`<button type="button" class="button plain small icon-only" title="Show all" aria-label="Show all" onClick=${() => { zoomed.current = false; onZoom(null); }}><${Icon} name="zoom-out" small /></button>`}
        <button type="button" class="button plain small icon-only" aria-pressed=${asTable ? 'true' : 'false'} title="Show as table" aria-label=${`Show ${title} as table`} onClick=${() => setAsTable(!asTable)}><${Icon} name="table" small /></button>
        <${Menu} class="button plain small icon-only" title=${`Save ${title} as a file`} label=${html`<${Icon} name="download" small />`}>${(/** @type {() => void} */ close) => [['PNG', 'a picture of what is shown'], ['SVG', 'a drawing that stays sharp'], ['CSV', 'the points']].map(([kind, what]) => html`<button type="button" key=${kind} disabled=${kind === 'PNG' && (asTable || !ready)} onClick=${() => { close(); saveAs(kind, last.current, chart.current); }}><span class="grow">${kind}</span><span class="muted">${what}</span></button>`)}<//></span></div>
    ${asTable ? html`<${AsTable} lines=${lines} x=${x} title=${title} />` : html`<div class="plot" role="img" aria-label=${label} ref=${plot} style=${{ minHeight: `${height}px` }}></div>`}
    ${broken && html`<p class="bad" role="alert">${broken} Reload; the server may have been updated.</p>`}
    ${legend && html`<${Legend} lines=${lines} at=${at} x=${x} unit=${unit} better=${better} />`}
  </figure>`;
}

/** Saves a chart: what is drawn as PNG, the lines anew as SVG, their points as CSV. @param {string} kind @param {any} props @param {any} drawn */
function saveAs(kind, props, drawn) {
  const { title, lines, x = 'step', log = false } = props;
  const coloured = lines.map((/** @type {Line} */ l) => ({ ...l, colour: colour(l.colour) }));
  if (kind === 'CSV') { const { head, rows } = rowsOf(coloured, x === 'step' ? 'step' : x === 'time' ? 'time (ms since 1970)' : 'ms since the start'); save(new Blob([csv(head, rows)], { type: 'text/csv' }), `${title}.csv`); return; }
  const look = { ink: colour('var(--ink)'), quiet: colour('var(--ink-3)'), rule: colour('var(--line)'), paper: colour('var(--surface)') };
  if (kind === 'SVG') { save(new Blob([svgOf({ title, lines: coloured, x, width: 760, height: 360, log, look, xText: (v) => xText(v, x, false), yText: (v) => num(v) })], { type: 'image/svg+xml' }), `${title}.svg`); return; }
  const from = drawn?.ctx.canvas;
  if (!from) return;
  const ratio = devicePixelRatio || 1, head = 28 * ratio, foot = (18 * lines.length + 8) * ratio, to = document.createElement('canvas'), ctx = /** @type {CanvasRenderingContext2D} */ (to.getContext('2d'));
  to.width = from.width; to.height = from.height + head + foot;
  ctx.fillStyle = look.paper; ctx.fillRect(0, 0, to.width, to.height);
  ctx.drawImage(from, 0, head);
  ctx.fillStyle = look.ink; ctx.font = `600 ${13 * ratio}px Inter, sans-serif`; ctx.fillText(title, 8 * ratio, 18 * ratio);
  ctx.font = `${11 * ratio}px Inter, sans-serif`;
  coloured.forEach((/** @type {Line} */ l, /** @type {number} */ i) => { const y = head + from.height + (14 + 18 * i) * ratio; ctx.fillStyle = l.colour; ctx.fillRect(8 * ratio, y - 5 * ratio, 16 * ratio, 2 * ratio); ctx.fillStyle = look.ink; ctx.fillText(`${l.name}${l.nan?.length ? ` · ${l.nanCount ?? l.nan.length} NaN` : ''}${l.inf?.length ? ` · ${l.infCount ?? l.inf.length} ∞` : ''}`, 30 * ratio, y); });
  to.toBlob((blob) => { if (blob) save(blob, `${title}.png`); });
}

/** @param {any} props */
function Legend({ lines, at, x, unit }) {
  if (!lines.length) return null;
  return html`<ul class="legend" aria-hidden="false">${at !== null && html`<li class="v">${xText(at, x, true)}</li>`}${lines.slice(0, 24).map((/** @type {any} */ l) => {
    const v = at === null ? lastValue(l) : valueAt(l, at);
    return html`<li key=${l.id} style=${{ '--c': l.colour }}><span class=${`key ${l.dash ? 'dash' : ''}`}></span>${l.href ? html`<a href=${l.href}>${l.name}</a>` : html`<span>${l.name}</span>`}<span class="v">${num(v)}${unit && v !== null ? ` ${unit}` : ''}</span>
      ${l.nan?.length ? html`<span class="off" title=${`NaN at ${l.nan.slice(0, 8).join(', ')}`}>${count(l.nanCount ?? l.nan.length)} NaN</span>` : ''}${[['inf', 'infCount', '∞', 'Infinite'], ['minusInf', 'minusInfCount', '\u2212∞', 'Minus infinity']].map(([k, n, sign, word]) => (l[k]?.length ? html`<span class="off" title=${`${word} at ${l[k].slice(0, 8).join(', ')}`}>${count(l[n] ?? l[k].length)} ${sign}</span>` : ''))}</li>`;
  })}${lines.length > 24 && html`<li>and ${lines.length - 24} more</li>`}</ul>`;
}

/** @param {any} props */
function AsTable({ lines, x, title }) {
  const rows = /** @type {[number, any[]][]} */ ([]);
  const at = new Map();
  for (const [i, l] of lines.entries()) for (let j = 0; j < l.x.length && rows.length < 2000; j += 1) { let r = at.get(l.x[j]); if (!r) { r = [l.x[j], new Array(lines.length).fill(null)]; at.set(l.x[j], r); rows.push(r); } r[1][i] = l.y[j]; }
  rows.sort((a, b) => a[0] - b[0]);
  const step = Math.max(1, Math.ceil(rows.length / 200));
  return html`<div class="chart-table" tabindex="0" role="region" aria-label=${`${title} as table`}><table class="table"><thead><tr><th scope="col">${x === 'step' ? 'Step' : 'Time'}</th>${lines.map((/** @type {Line} */ l) => html`<th class="num" scope="col">${l.name}</th>`)}</tr></thead>
    <tbody>${rows.filter((_, i) => i % step === 0).map(([k, vs]) => html`<tr key=${k}><th scope="row">${xText(k, x, true)}</th>${vs.map((v) => html`<td class="num" title=${v}>${num(v)}</td>`)}</tr>`)}</tbody></table></div>`;
}

/** @param {HTMLElement} target @param {{current: any}} last @param {number} width @param {number} height @param {(at: number | null) => void} setAt @param {{current: boolean}} zoomed */
function build(target, last, width, height, setAt, zoomed) {
  const { lines, x = 'step', log = false, smooth = 0, sync, onZoom, unit = '', points, whole, zero } = last.current;
  const axis = { stroke: colour('var(--ink-3)'), font: '11px Inter, sans-serif', grid: { stroke: colour('var(--line)'), width: 1 }, ticks: { show: false }, border: { show: false } };
  const ghost = smooth > 0;
  const series = [{}];
  const bands = [];
  for (const l of lines) {
    const c = colour(l.colour);
    if (ghost) series.push({ stroke: faded(l.colour, 0.25), width: 1, points: { show: false }, spanGaps: true });
    series.push({ stroke: c, width: 1.5, dash: l.dash ? [5, 3] : undefined, spanGaps: true, points: { show: points || l.x.length === 1, size: 6, fill: c } });
    if (l.low) {
      const middle = series.length - 1;
      series.push({ stroke: 'transparent', points: { show: false }, spanGaps: true }, { stroke: 'transparent', points: { show: false }, spanGaps: true });
      bands.push({ series: [middle + 1, middle + 2], fill: faded(l.colour, 0.14) });
    }
  }
  const values = (/** @type {any} */ u, /** @type {number[]} */ ticks) => ticks.map((v) => xText(v, x, false, u.scales.x.max - u.scales.x.min));
  const made = new uPlot({
    width, height, padding: [10, 8, 0, 0], legend: { show: false }, series, bands, pxAlign: false,
    cursor: { y: false, points: { size: 6, width: 1.5 }, sync: sync ? { key: sync, scales: ['x', null] } : undefined, drag: { x: true, y: false, setScale: !onZoom }, focus: { prox: 24 } },
    scales: { x: { time: false }, y: { distr: log ? 3 : 1, range: log ? undefined : (/** @type {any} */ _u, /** @type {number} */ low, /** @type {number} */ high) => spanOf(low, high, last.current.thresholds ?? [], zero) } },
    axes: [{ ...axis, values, incrs: x !== 'step' ? CLOCK : whole ? WHOLE : undefined, space: x === 'step' ? 60 : 90, size: 24, gap: 4 }, { ...axis, values: (/** @type {any} */ _u, /** @type {number[]} */ t) => t.map((v) => (v === null ? '' : num(v) + (unit === '%' ? '' : ''))), size: 52, gap: 4 }],
    hooks: {
      draw: [(/** @type {any} */ u) => marks(u, last.current)],
      setCursor: [(/** @type {any} */ u) => setAt(u.cursor.idx === null || u.cursor.idx === undefined || u.cursor.left < 0 ? null : u.data[0][u.cursor.idx])],
      setSelect: [(/** @type {any} */ u) => {
        if (u.select.width < 4) return;
        zoomed.current = true;
        const from = u.posToVal(u.select.left, 'x'), to = u.posToVal(u.select.left + u.select.width, 'x');
        if (onZoom) { u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false); last.current.onZoom({ from, to }); }
      }],
    },
  }, join(lines, smooth, log), target);
  made.over.addEventListener('dblclick', () => { zoomed.current = false; last.current.onZoom?.(null); });
  made.over.addEventListener('mouseleave', () => setAt(null));
  return made;
}

/** The range of y with air around it, and room for thresholds that are near. @param {number} low @param {number} high @param {Threshold[]} thresholds @param {boolean} [zero] */
function spanOf(low, high, thresholds, zero) {
  if (low === null || high === null || low === undefined || !Number.isFinite(low)) { low = 0; high = 1; }
  for (const t of thresholds) { const room = Math.max(high - low, Math.abs(high) * 0.5, 1e-9) * 3; if (t.value > low - room && t.value < high + room) { low = Math.min(low, t.value); high = Math.max(high, t.value); } }
  if (zero) low = Math.min(0, low);
  const air = (high - low || Math.abs(high) || 1) * 0.06;
  return [zero && low === 0 ? 0 : low - air, high + air];
}

/** Thresholds, moments, and what cannot be drawn as a number: NaN as a cross at the lower edge, infinities as arrows at theirs. @param {any} u @param {any} props */
function marks(u, { lines, thresholds = [], moments = [] }) {
  const { ctx } = u, { left, top, width, height } = u.bbox, ratio = devicePixelRatio || 1;
  ctx.save();
  ctx.font = `${11 * ratio}px Inter, sans-serif`;
  for (const t of thresholds) {
    const y = u.valToPos(t.value, 'y', true);
    if (!(y >= top && y <= top + height)) continue;
    const c = colour(`var(--${t.tone ?? 'bad'})`);
    ctx.strokeStyle = c; ctx.fillStyle = c; ctx.lineWidth = ratio; ctx.setLineDash([5 * ratio, 3 * ratio]);
    ctx.beginPath(); ctx.moveTo(left, y); ctx.lineTo(left + width, y); ctx.stroke();
    ctx.setLineDash([]); ctx.textAlign = 'left'; ctx.fillText(t.label, left + 4 * ratio, y - 5 * ratio);
  }
  for (const m of moments) {
    const x = u.valToPos(m.at, 'x', true);
    if (!(x >= left && x <= left + width)) continue;
    const c = colour(`var(--${m.tone ?? 'ink-3'})`);
    ctx.strokeStyle = c; ctx.fillStyle = c; ctx.lineWidth = ratio;
    ctx.beginPath(); ctx.moveTo(x, top); ctx.lineTo(x, top + height); ctx.stroke();
    const nearEnd = x > left + width * 0.75;
    ctx.textAlign = nearEnd ? 'right' : 'left'; ctx.fillText(m.label, x + (nearEnd ? -4 : 4) * ratio, top + 10 * ratio);
  }
  for (const l of lines) {
    ctx.fillStyle = colour(l.colour);
    ctx.strokeStyle = ctx.fillStyle; ctx.lineWidth = 1.5 * ratio;
    for (const [where, kind] of [...(l.nan ?? []).map((/** @type {number} */ s) => [s, 'nan']), ...(l.inf ?? []).map((/** @type {number} */ s) => [s, 'up']), ...(l.minusInf ?? []).map((/** @type {number} */ s) => [s, 'down'])]) {
      const x = u.valToPos(where, 'x', true), s = 4 * ratio;
      if (!(x >= left && x <= left + width)) continue;
      ctx.beginPath();
      if (kind === 'nan') { const y = top + height - s; ctx.moveTo(x - s, y - s); ctx.lineTo(x + s, y + s); ctx.moveTo(x + s, y - s); ctx.lineTo(x - s, y + s); ctx.stroke(); continue; }
      if (kind === 'up') { ctx.moveTo(x, top); ctx.lineTo(x - s, top + 2 * s); ctx.lineTo(x + s, top + 2 * s); } else { ctx.moveTo(x, top + height); ctx.lineTo(x - s, top + height - 2 * s); ctx.lineTo(x + s, top + height - 2 * s); }
      ctx.fill();
    }
  }
  ctx.restore();
}

/** @param {Line[]} lines @param {number} smooth @param {boolean} log */
function join(lines, smooth, log) {
  const clean = (/** @type {ArrayLike<number | null>} */ y) => Array.from(y, (v) => (v === null || v === undefined || !Number.isFinite(v) || (log && v <= 0) ? null : v));
  /** @type {any[]} */ const tables = [];
  for (const l of lines) {
    const xs = Array.from(l.x), columns = [xs, clean(l.y)];
    if (smooth > 0) columns.push(clean(smoothed(Float64Array.from(l.y, (v) => v ?? NaN), smooth)));
    if (l.low && l.high) columns.push(clean(l.high), clean(l.low));
    tables.push(columns);
  }
  if (!tables.length) return [[0, 1]];
  if (tables.length === 1) return tables[0];
  return uPlot.join(tables);
}

/** @param {number} v @param {string} x @param {boolean} exact @param {number} [span] */
function xText(v, x, exact, span = 0) {
  if (v === null) return '';
  if (x === 'time') { const s = stamp(v, zone.value, exact || span < 600_000); return exact ? s : span < 86_400_000 ? s.slice(11) : span < 86_400_000 * 4 ? s.slice(5, 16) : s.slice(0, 4) === String(new Date().getFullYear()) ? s.slice(5, 10) : s.slice(0, 10); }
  if (x === 'elapsed') return duration(v);
  return exact ? num(v) : Math.abs(v) >= 10_000 ? si(v) : num(v);
}

/** @param {Line} l @param {number} at */
function valueAt(l, at) {
  let low = 0, high = l.x.length - 1;
  if (high < 0 || at < l.x[0]) return null;
  while (low < high) { const mid = (low + high + 1) >> 1; if (l.x[mid] <= at) low = mid; else high = mid - 1; }
  return l.y[low];
}

/** @param {Line} l */
function lastValue(l) { for (let i = l.y.length - 1; i >= 0; i -= 1) if (l.y[i] !== null && l.y[i] !== undefined) return l.y[i]; return null; }

/** One sentence for those who do not see it. @param {any} props */
function summary({ title, lines, better, x = 'step' }) {
  if (!lines.length) return `${title}: nothing yet.`;
  let best = /** @type {any} */ (null);
  for (const l of lines) for (let i = 0; i < l.y.length; i += 1) { const v = l.y[i]; if (v === null || !Number.isFinite(v)) continue; if (!best || (better === 'high' ? v > best.v : v < best.v)) best = { v, name: l.name, at: l.x[i] }; }
  return `${title}, ${plural(lines.length, 'line')}${best ? `, ${better === 'high' ? 'highest' : 'lowest'} ${num(best.v)} in ${best.name} at ${xText(best.at, x, true)}` : ''}.`;
}
