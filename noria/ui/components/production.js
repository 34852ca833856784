// @ts-check
/** When each alias named which version, as bars against the clock. */

import { html } from './html.js';
import { place } from '../lib/layout.js';
import { ago, stamp } from '../lib/format.js';
import { now, zone } from '../lib/store.js';

/** @param {{moves: {alias: string, version: number | null, at_ms: number, until_ms: number | null, actor: string}[], model: string, here?: number}} props */
export function Production({ moves, model, here }) {
  const ordered = [...moves].sort((a, b) => a.at_ms - b.at_ms); // of two that overlap on the screen the later is drawn above
  const aliases = [...new Set(moves.map((m) => m.alias))].sort((a, b) => Number(b === 'champion') - Number(a === 'champion') || a.localeCompare(b));
  const from = Math.min(...moves.map((m) => m.at_ms)), to = Math.max(now.value, from + 1000);
  const versions = [...new Set(moves.map((m) => m.version).filter((v) => v !== null))].sort((a, b) => /** @type {number} */ (a) - /** @type {number} */ (b));
  return html`<div class="gantt" role="group" aria-label=${`Aliases of ${model} over time`}>
    ${aliases.map((a) => html`<div class="gantt-row" key=${a}><span>${a}</span><span class="lane">${ordered.filter((m) => m.alias === a && m.version !== null).map((m) => {
      const p = place(m.at_ms, m.until_ms ?? to, { from, to }), c = (versions.indexOf(/** @type {number} */ (m.version)) % 8) + 1;
      return html`<a key=${`${m.at_ms}`} class="span named" href=${`/models/${encodeURIComponent(model)}/${m.version}`} style=${{ left: `${p.left}%`, width: `${p.width}%`, '--c': `var(--series-${c})` }} aria-current=${here === m.version ? 'true' : undefined}
        title=${`@${m.version} from ${stamp(m.at_ms, zone.value)} ${m.until_ms ? `to ${stamp(m.until_ms, zone.value)}` : 'until now'}, moved by ${m.actor}`} aria-label=${`${a} named version ${m.version} from ${stamp(m.at_ms, zone.value)} ${m.until_ms ? `to ${stamp(m.until_ms, zone.value)}` : 'until now'}`}>${p.width > 5 ? `@${m.version}` : ''}</a>`; })}</span><span>${(() => { const current = moves.find((m) => m.alias === a && m.until_ms === null); return current?.version ? `@${current.version}` : 'none'; })()}</span></div>`)}
    <div class="gantt-row" aria-hidden="true"><span></span><div class="ticks"><span style=${{ left: '4%' }}>${ago(from, to)}</span><span style=${{ left: '98%' }}>now</span></div><span></span></div></div>`;
}
