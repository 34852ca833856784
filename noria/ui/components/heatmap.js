// @ts-check
import { html } from './html.js';
import { num } from '../lib/format.js';

/** Values in a grid, coloured by one hue: a confusion matrix, or features by window. The number is printed where there is room.
 *  @param {{rows: string[], columns: string[], values: (number | null)[][], label: string, limit?: number | null, cell?: number, format?: (v: number) => string}} props */
export function Heatmap({ rows, columns, values, label, limit = null, cell = 0, format = num }) {
  const all = /** @type {number[]} */ (values.flat().filter((v) => v !== null && Number.isFinite(v)));
  const top = Math.max(...all, limit ?? 0, 1e-9);
  const w = cell || Math.max(14, Math.min(64, Math.floor(640 / Math.max(1, columns.length)))), h = 22, gutter = 148;
  const wide = w >= 40;
  return html`<svg class="heat" width=${gutter + w * columns.length} height=${h * rows.length + 20} viewBox=${`0 0 ${gutter + w * columns.length} ${h * rows.length + 20}`} role="img" aria-label=${`${label}, ${rows.length} by ${columns.length}; highest ${num(all.length ? Math.max(...all) : null)}.`}>
    ${rows.map((r, i) => html`<g key=${r}><text x=${gutter - 8} y=${i * h + 15} text-anchor="end">${r.length > 22 ? `${r.slice(0, 21)}…` : r}</text>${columns.map((c, j) => {
      const v = values[i]?.[j];
      if (v === null || v === undefined || !Number.isFinite(v)) return html`<rect key=${j} x=${gutter + j * w} y=${i * h} width=${w} height=${h} fill="var(--sunken)"><title>${r}, ${c}: no value</title></rect>`;
      const share = Math.max(0, Math.min(1, v / top)), over = limit !== null && v > limit;
      return html`<g key=${j}><rect x=${gutter + j * w} y=${i * h} width=${w} height=${h} fill=${`color-mix(in oklab, var(--${over ? 'bad' : 'accent'}) ${Math.round(6 + share * 84)}%, var(--surface))`}><title>${r}, ${c}: ${num(v)}${over ? ' (over the limit)' : ''}</title></rect>
        ${wide && html`<text class="strong" x=${gutter + j * w + w / 2} y=${i * h + 15} text-anchor="middle" fill=${share > 0.55 ? 'var(--on-fill)' : undefined}>${format(v)}</text>`}</g>`;
    })}</g>`)}
    ${columns.map((c, j) => (j % Math.ceil(columns.length / 8) === 0 ? html`<text key=${j} x=${gutter + j * w + w / 2} y=${rows.length * h + 14} text-anchor="middle">${c}</text>` : null))}</svg>`;
}
