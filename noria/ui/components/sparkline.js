// @ts-check
import { html } from './html.js';
import { linePath } from '../lib/layout.js';
import { num } from '../lib/format.js';

/** A line the size of a word. @param {{values: (number | null)[], width?: number, height?: number, label: string, limit?: number | null, zero?: boolean}} props */
export function Sparkline({ values, width = 96, height = 22, label, limit = null, zero = false }) {
  const finite = /** @type {number[]} */ (values.filter((v) => v !== null && Number.isFinite(v)));
  if (finite.length < 1) return html`<span class="muted">–</span>`;
  const low = Math.min(...finite, ...(limit === null ? [] : [limit]), ...(zero ? [0] : [])), high = Math.max(...finite, ...(limit === null ? [] : [limit]));
  const span = high - low || 1, y = (/** @type {number} */ v) => height - 3 - ((v - low) / span) * (height - 6);
  const step = (width - 6) / Math.max(1, values.length - 1);
  const xs = values.map((_, i) => 2 + i * step), ys = values.map((v) => (v === null ? NaN : y(v)));
  const last = values.length - 1;
  return html`<svg class="spark" width=${width} height=${height} viewBox=${`0 0 ${width} ${height}`} role="img" aria-label=${`${label}: ${num(finite[0])} to ${num(finite[finite.length - 1])}, lowest ${num(Math.min(...finite))}, highest ${num(Math.max(...finite))}.`}>
    ${limit !== null && html`<line class="axis" x1="0" x2=${width} y1=${y(limit)} y2=${y(limit)} stroke-dasharray="3 2" />`}
    <path d=${linePath(xs, ys)} />${Number.isFinite(ys[last]) && html`<circle cx=${xs[last]} cy=${ys[last]} r="2" />`}</svg>`;
}
