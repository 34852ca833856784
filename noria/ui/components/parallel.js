// @ts-check
/** Parallel coordinates on a canvas: one polyline per run through its settings and results. The lines grow fainter as they grow many;
 *  dragging along an axis keeps the runs that pass there and leaves the others as a shadow. */

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { html } from './html.js';
import { faded, colour } from './colours.js';
import { useSize } from './use.js';
import { axisOf, passes } from '../lib/axes.js';
import { scheme, slotOf } from '../lib/store.js';
import { plural } from '../lib/format.js';

const HEIGHT = 380, TOP = 34, BOTTOM = 20, MOST = 12;

/** @param {{table: import('../lib/columns.js').Table, rows: Uint32Array, selected: string[], visible: string[], noun?: string}} props */
export function Parallel({ table, rows, selected, visible, noun = 'run' }) {
  const frame = useRef(/** @type {any} */ (null)), canvas = useRef(/** @type {any} */ (null));
  const start = useRef(/** @type {any} */ (null));
  const { width } = useSize(frame);
  const [brushes, setBrushes] = useState(/** @type {Record<string, [number, number]>} */ ({}));
  const axes = useMemo(() => visible.filter((n) => n.startsWith('params.') || n.startsWith('metrics.')).map((n) => axisOf(n, table.columns[n], rows)).filter((a) => a.distinct > 1).slice(0, MOST), [table, rows, visible.join('|')]);
  const x = (/** @type {number} */ i) => 40 + (axes.length < 2 ? 0 : (i * (width - 80)) / (axes.length - 1));
  const kept = useMemo(() => passes(axes, rows, brushes), [axes, rows, brushes]);
  const look = scheme.value;

  useEffect(() => {
    const el = canvas.current;
    if (!el || !width || axes.length < 2) return;
    const ratio = devicePixelRatio || 1;
    el.width = width * ratio; el.height = HEIGHT * ratio;
    const ctx = el.getContext('2d');
    ctx.scale(ratio, ratio);
    ctx.lineWidth = 1; ctx.lineJoin = 'round';
    const y = (/** @type {number} */ t) => HEIGHT - BOTTOM - t * (HEIGHT - TOP - BOTTOM);
    const draw = (/** @type {number} */ i) => { let pen = false; ctx.beginPath(); axes.forEach((a, k) => { const t = a.at(i); if (Number.isNaN(t)) { pen = false; return; } ctx[pen ? 'lineTo' : 'moveTo'](x(k), y(t)); pen = true; }); ctx.stroke(); };
    const keptSet = new Set(kept);
    if (kept.length < rows.length) { ctx.strokeStyle = faded('var(--ink-3)', 0.12); for (const i of rows) if (!keptSet.has(i)) draw(i); }
    ctx.strokeStyle = faded('var(--accent)', Math.max(0.02, Math.min(0.7, 30 / Math.max(1, kept.length))));
    for (const i of kept) draw(i);
    ctx.lineWidth = 2;
    const at = new Map(table.ids.map((id, i) => [id, i]));
    for (const id of selected) { const i = at.get(id); if (i !== undefined && keptSet.has(i)) { ctx.strokeStyle = colour(slotOf(id, selected).colour); draw(i); } }
  }, [axes, kept, width, look, selected.join(',')]);

  if (axes.length < 2) return html`<p class="muted">Two columns that vary are needed; choose parameters and metrics under Columns.</p>`;
  const toShare = (/** @type {any} */ e) => { const r = e.currentTarget.getBoundingClientRect(); return Math.max(0, Math.min(1, 1 - (e.clientY - r.top) / r.height)); };
  return html`<figure class="parallel stack" ref=${frame}><div class="row"><span class="quiet">${kept.length === rows.length ? plural(rows.length, noun) : `${plural(kept.length, noun)} of ${rows.length} pass`}</span>${Object.keys(brushes).length > 0 && html`<button type="button" class="button plain small" onClick=${() => setBrushes({})}>Clear the brushes</button>`}<span class="muted end">Drag along an axis to keep the ${noun}s that pass there</span></div>
    <div style=${{ position: 'relative', height: `${HEIGHT}px` }}><canvas ref=${canvas} style=${{ width: `${width}px`, height: `${HEIGHT}px` }} role="img" aria-label=${`Parallel coordinates of ${plural(rows.length, noun)} over ${axes.map((a) => a.label).join(', ')}.`}></canvas>
      <svg width=${width} height=${HEIGHT} style=${{ position: 'absolute', inset: '0' }}>${axes.map((a, k) => html`<g key=${a.name} transform=${`translate(${x(k)} 0)`}>
        <text class="strong" y="12" text-anchor="middle">${a.label.length > 16 ? `${a.label.slice(0, 15)}…` : a.label}<title>${a.name}</title></text><text y="27" text-anchor="middle">${a.high}</text><text y=${HEIGHT - 5} text-anchor="middle">${a.low}</text>
        <line class="axis" y1=${TOP} y2=${HEIGHT - BOTTOM} />
        ${brushes[a.name] && html`<rect x="-6" width="12" y=${HEIGHT - BOTTOM - brushes[a.name][1] * (HEIGHT - TOP - BOTTOM)} height=${Math.max(2, (brushes[a.name][1] - brushes[a.name][0]) * (HEIGHT - TOP - BOTTOM))} fill="var(--accent)" opacity="0.35" />`}
        <rect x="-14" width="28" y=${TOP} height=${HEIGHT - TOP - BOTTOM} fill="transparent" cursor="ns-resize"
          onPointerDown=${(/** @type {any} */ e) => { e.currentTarget.setPointerCapture(e.pointerId); start.current = toShare(e); }}
          onPointerMove=${(/** @type {any} */ e) => { if (start.current === null) return; const t = toShare(e); if (Math.abs(t - start.current) > 0.01) setBrushes({ ...brushes, [a.name]: [Math.min(t, start.current), Math.max(t, start.current)] }); }}
          onPointerUp=${(/** @type {any} */ e) => { if (start.current !== null && Math.abs(toShare(e) - start.current) <= 0.01) { const b = { ...brushes }; delete b[a.name]; setBrushes(b); } start.current = null; }} /></g>`)}</svg></div>
    ${Object.entries(brushes).length > 0 && html`<p class="caption">${Object.entries(brushes).map(([n, [lo, hi]]) => { const a = axes.find((v) => v.name === n); return a ? `${a.label} ${a.value(lo)} to ${a.value(hi)}` : ''; }).join('; ')}</p>`}</figure>`;
}
