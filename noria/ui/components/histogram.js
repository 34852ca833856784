// @ts-check
import { html } from './html.js';
import { num, plural, percent } from '../lib/format.js';

/** Counts over equal or given bins, drawn as bars; a second distribution is drawn as an outline over it (the reference, or version b).
 *  @param {{counts: number[], edges?: number[], other?: number[] | null, label: string, width?: number, height?: number, nulls?: number, axis?: boolean}} props */
export function Histogram({ counts, edges, other, label, width = 180, height = 44, nulls = 0, axis = true }) {
  const n = counts.length;
  if (!n) return html`<span class="muted">no values</span>`;
  const sum = total(counts) || 1, otherSum = other ? total(other) || 1 : 1;
  const share = counts.map((c) => c / sum), shareOther = (other ?? []).map((c) => c / otherSum);
  const top = Math.max(...share, ...shareOther, 1e-9), w = width / n, h = height - (axis ? 14 : 0);
  const steps = shareOther.map((s, i) => `${i === 0 ? 'M' : 'L'}${(i * w).toFixed(1)} ${(h - (s / top) * h).toFixed(1)}L${((i + 1) * w).toFixed(1)} ${(h - (s / top) * h).toFixed(1)}`).join('');
  return html`<svg class="plot-svg" viewBox=${`0 0 ${width} ${height}`} width=${width} height=${height} role="img" aria-label=${`${label}: ${plural(n, 'bin')}${edges ? `, ${num(edges[0])} to ${num(edges[edges.length - 1])}` : ''}${nulls ? `, ${percent(nulls / (sum + nulls))} missing` : ''}.`}>
    ${share.map((s, i) => html`<rect key=${i} class="hist-a" x=${i * w + 0.5} width=${Math.max(0.5, w - 1)} y=${h - Math.max(s ? 1 : 0, (s / top) * h)} height=${Math.max(s ? 1 : 0, (s / top) * h)} opacity=${other ? 0.55 : 0.85}><title>${edges ? `${num(edges[i])} to ${num(edges[i + 1])}: ` : ''}${num(counts[i])} (${percent(s)})</title></rect>`)}
    ${other && html`<path class="hist-b" d=${steps} />`}
    <line class="axis" x1="0" x2=${width} y1=${h} y2=${h} />
    ${axis && edges && edges.length > 1 && html`<text x="0" y=${height - 2}>${num(edges[0], { digits: 3 })}</text><text x=${width} y=${height - 2} text-anchor="end">${num(edges[edges.length - 1], { digits: 3 })}</text>`}
  </svg>`;
}

/** The most frequent values as bars with their names. @param {{items: {value: any, count: number}[], total: number, label: string}} props */
export function TopValues({ items, total: all, label }) {
  const most = Math.max(...items.map((i) => i.count), 1);
  return html`<ul class="stack tight top-values" aria-label=${label}>${items.slice(0, 5).map((i) => html`<li class="row" key=${String(i.value)}><svg width="60" height="8" aria-hidden="true"><rect class="hist-a" width=${(60 * i.count) / most} height="8" rx="2" opacity="0.85" /></svg><span class="truncate">${i.value === '' ? '(empty)' : String(i.value)}</span><span class="muted end">${percent(i.count / Math.max(1, all))}</span></li>`)}</ul>`;
}

/** @param {number[]} a */
function total(a) { return a.reduce((s, v) => s + v, 0); }
