// @ts-check
/** One number per run: a bar each, the best marked. What a curve of a single point should have been. */

import { html } from './html.js';
import { Icon } from './icon.js';
import { num } from '../lib/format.js';

/** @param {{title: string, lines: import('./curve.js').Line[], better?: 'low' | 'high' | null}} props */
export function Bars({ title, lines, better }) {
  const rows = lines.map((l) => ({ ...l, value: /** @type {number} */ (l.y[0]) }));
  const finite = rows.filter((r) => Number.isFinite(r.value));
  const most = Math.max(...finite.map((r) => Math.abs(r.value)), 1e-12);
  const best = better && finite.length > 1 ? finite.reduce((a, b) => ((better === 'low' ? b.value < a.value : b.value > a.value) ? b : a)) : null;
  return html`<figure class="chart"><div class="chart-head"><h3 title=${title}>${title}</h3></div>
    <ul class="bars" aria-label=${title}>${rows.map((r) => html`<li key=${r.id} style=${{ '--c': r.colour }}>${r.href ? html`<a class="truncate" href=${r.href}>${r.name}</a>` : html`<span class="truncate">${r.name}</span>`}<span class="lane"><span style=${{ width: `${(Math.abs(r.value) / most) * 100}%` }}></span></span><span class=${r === best ? 'num ok' : 'num'} title=${String(r.value)}>${num(r.value)}${r === best && html` <${Icon} name="check" small label="best" />`}</span></li>`)}</ul></figure>`;
}
