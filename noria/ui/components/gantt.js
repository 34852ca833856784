// @ts-check
import { html } from './html.js';
import { Glyph, toneOf } from './state.js';
import { place, timeTicks } from '../lib/layout.js';
import { duration } from '../lib/format.js';
import { now } from '../lib/store.js';

/** @typedef {{id: string, name: string, state: string, spans: {start: number, end: number | null, state: string, label?: string}[]}} GanttRow */

/** Steps against the clock; each attempt is a bar, a cached step an outline. @param {{rows: GanttRow[], selected?: string | null, onSelect?: (id: string) => void, label: string}} props */
export function Gantt({ rows, selected, onSelect, label }) {
  const starts = rows.flatMap((r) => r.spans.map((s) => s.start));
  if (!starts.length) return html`<p class="muted">No step has started.</p>`;
  const running = rows.some((r) => r.spans.some((s) => s.end === null));
  const from = Math.min(...starts), to = Math.max(from + 1, ...rows.flatMap((r) => r.spans.map((s) => s.end ?? (running ? now.value : s.start))));
  const window = { from, to };
  return html`<div class="gantt" role="group" aria-label=${label}>
    <div class="gantt-row" aria-hidden="true"><span></span><div class="ticks">${timeTicks(to - from).map((t) => html`<span key=${t} style=${{ left: `${(t / (to - from)) * 100}%` }}>${t === 0 ? '0' : duration(t)}</span>`)}</div><span></span></div>
    ${rows.map((r) => { const spent = r.spans.reduce((s, x) => s + ((x.end ?? now.value) - x.start), 0); return html`<button type="button" class="gantt-row" key=${r.id} aria-pressed=${selected === r.id ? 'true' : 'false'} onClick=${() => onSelect?.(r.id)} aria-label=${`${r.name}, ${r.state}, ${duration(spent)}${r.spans.length > 1 ? `, ${r.spans.length} attempts` : ''}`}>
      <span class=${`state ${toneOf(r.state)}`}><${Glyph} tone=${toneOf(r.state)} /><span class="truncate">${r.name}</span></span>
      <span class="lane">${r.spans.map((s, i) => { const p = place(s.start, s.end ?? now.value, window); return html`<span key=${i} class=${`span ${s.state === 'cached' ? 'cached' : toneOf(s.state)}`} title=${s.label ?? `${s.state}, ${duration((s.end ?? now.value) - s.start)}`} style=${{ left: `${p.left}%`, width: `${p.width}%` }}></span>`; })}</span>
      <span>${r.spans.length ? duration(spent) : '–'}</span></button>`; })}</div>`;
}
