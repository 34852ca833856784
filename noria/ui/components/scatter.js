// @ts-check
/** One dot per run: a setting or a number against another. Drawn runs have their colour; the nearest dot says its name and opens on a click. */

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { html } from './html.js';
import { colour, faded } from './colours.js';
import { useSize } from './use.js';
import { axisOf } from '../lib/axes.js';
import { spearman } from '../lib/importance.js';
import { scheme, slotOf } from '../lib/store.js';
import { num, plural } from '../lib/format.js';

const HEIGHT = 380, LEFT = 64, RIGHT = 16, TOP = 14, BOTTOM = 40, NEAR = 18;

/** @param {{table: import('../lib/columns.js').Table, rows: Uint32Array, selected: string[], columns: string[], query: URLSearchParams, setQuery: (changes: any) => void}} props */
export function Scatter({ table, rows, selected, columns, query, setQuery }) {
  const frame = useRef(/** @type {any} */ (null)), canvas = useRef(/** @type {any} */ (null));
  const { width } = useSize(frame);
  const [near, setNear] = useState(-1);
  const options = columns.filter((c) => (c.startsWith('metrics.') || c.startsWith('params.') || c === 'duration_ms' || c === 'started_at_ms') && c in table.columns);
  const fallbackY = options.find((c) => c.startsWith('metrics.')) ?? options[0], fallbackX = options.find((c) => c.startsWith('params.')) ?? options.find((c) => c !== fallbackY);
  const x = options.includes(query.get('sx') ?? '') ? /** @type {string} */ (query.get('sx')) : fallbackX, y = options.includes(query.get('sy') ?? '') ? /** @type {string} */ (query.get('sy')) : fallbackY;
  const plot = useMemo(() => {
    if (!x || !y) return null;
    const a = axisOf(x, table.columns[x], rows), b = axisOf(y, table.columns[y], rows);
    const shown = rows.filter((i) => !Number.isNaN(a.at(i)) && !Number.isNaN(b.at(i)));
    return { a, b, shown, rho: spearman(Float64Array.from(shown, (i) => a.at(i)), Float64Array.from(shown, (i) => b.at(i))) };
  }, [table, rows, x, y]);
  const px = (/** @type {number} */ i) => LEFT + (plot?.a.at(i) ?? 0) * (width - LEFT - RIGHT), py = (/** @type {number} */ i) => HEIGHT - BOTTOM - (plot?.b.at(i) ?? 0) * (HEIGHT - TOP - BOTTOM);
  const look = scheme.value;
  useEffect(() => {
    const el = canvas.current;
    if (!el || !plot || !width) return;
    const ratio = devicePixelRatio || 1, ctx = el.getContext('2d');
    el.width = width * ratio; el.height = HEIGHT * ratio;
    ctx.scale(ratio, ratio);
    ctx.fillStyle = faded('var(--accent)', Math.max(0.12, Math.min(0.75, 600 / Math.max(1, plot.shown.length))));
    const place = new Map(selected.map((id) => [id, -1]));
    for (const i of plot.shown) { if (place.has(table.ids[i])) place.set(table.ids[i], i); ctx.beginPath(); ctx.arc(px(i), py(i), 2.6, 0, 7); ctx.fill(); }
    for (const [id, i] of place) if (i >= 0) { ctx.fillStyle = colour(slotOf(id, selected).colour); ctx.strokeStyle = colour('var(--surface)'); ctx.lineWidth = 1.5; ctx.beginPath(); ctx.arc(px(i), py(i), 5, 0, 7); ctx.fill(); ctx.stroke(); }
    if (near >= 0) { ctx.strokeStyle = colour('var(--ink)'); ctx.lineWidth = 1.5; ctx.beginPath(); ctx.arc(px(near), py(near), 6.5, 0, 7); ctx.stroke(); }
  }, [plot, width, look, selected.join(','), near]);
  if (!plot) return html`<p class="muted">Two columns are needed; show parameters and metrics under Columns.</p>`;
  const onMove = (/** @type {any} */ e) => {
    const r = e.currentTarget.getBoundingClientRect(), mx = e.clientX - r.left, my = e.clientY - r.top;
    let best = -1, least = NEAR * NEAR;
    for (const i of plot.shown) { const d = (px(i) - mx) ** 2 + (py(i) - my) ** 2; if (d < least) { least = d; best = i; } }
    if (best !== near) setNear(best);
  };
  const chooser = (/** @type {string} */ label, /** @type {string} */ key, /** @type {string} */ value) => html`<label class="inline">${label} <select class="select" value=${value} onChange=${(/** @type {any} */ e) => setQuery({ [key]: e.currentTarget.value })}>${options.map((o) => html`<option key=${o} value=${o} selected=${o === value}>${o.replace(/^(metrics|params)\./, '')}</option>`)}</select></label>`;
  return html`<figure class="stack" ref=${frame}><div class="row wrap">${chooser('Across', 'sx', /** @type {string} */ (x))}${chooser('Up', 'sy', /** @type {string} */ (y))}<span class="muted end">${plural(plot.shown.length, 'run')}${Number.isFinite(plot.rho) ? html`, rank correlation <b class="num" title="Spearman's ρ">${num(plot.rho, { digits: 2 })}</b>` : ''}</span></div>
    <div class="scatter" style=${{ height: `${HEIGHT}px` }}><canvas ref=${canvas} style=${{ width: `${width}px`, height: `${HEIGHT}px` }} role="img" aria-label=${`${plot.b.label} against ${plot.a.label}, ${plural(plot.shown.length, 'run')}${Number.isFinite(plot.rho) ? `, rank correlation ${num(plot.rho, { digits: 2 })}` : ''}.`} onPointerMove=${onMove} onPointerLeave=${() => setNear(-1)}></canvas>
      <svg class="over" width=${width} height=${HEIGHT} aria-hidden="true"><line class="axis" x1=${LEFT} x2=${width - RIGHT} y1=${HEIGHT - BOTTOM + 4} y2=${HEIGHT - BOTTOM + 4} /><line class="axis" x1=${LEFT - 4} x2=${LEFT - 4} y1=${TOP} y2=${HEIGHT - BOTTOM} />
        <text x=${LEFT} y=${HEIGHT - BOTTOM + 18}>${plot.a.low}</text><text x=${width - RIGHT} y=${HEIGHT - BOTTOM + 18} text-anchor="end">${plot.a.high}</text><text class="strong" x=${(LEFT + width - RIGHT) / 2} y=${HEIGHT - 8} text-anchor="middle">${plot.a.label}${plot.a.log ? ' (log)' : ''}</text>
        <text x=${LEFT - 9} y=${HEIGHT - BOTTOM} text-anchor="end">${plot.b.low}</text><text x=${LEFT - 9} y=${TOP + 9} text-anchor="end">${plot.b.high}</text></svg></div>
    <p class="caption">${near >= 0 ? html`<a href=${`/runs/${table.ids[near]}`}>${String(table.columns.name?.[near] || table.ids[near])}</a>: ${plot.a.label} ${plot.a.value(plot.a.at(near))}, ${plot.b.label} ${plot.b.value(plot.b.at(near))}` : html`Point at a dot to see its run.`}</p></figure>`;
}
