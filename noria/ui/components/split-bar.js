// @ts-check
import { html } from './html.js';

/** @type {Record<string, string>} */
const COLOURS = { champion: 'var(--series-1)', canary: 'var(--series-2)', shadow: 'var(--series-6)', previous: 'var(--ink-3)' };
/** The colour of a route's role, the same in bar, chart and table. @param {string} role */
export const roleColour = (role) => COLOURS[role] ?? 'var(--series-4)';

/** How traffic is split, as a bar and in words. @param {{routes: any[], model?: string, wide?: boolean}} props */
export function SplitBar({ routes, wide = false }) {
  const live = routes.filter((r) => r.weight > 0);
  if (!live.length) return html`<span class="muted">nothing yet</span>`;
  const words = live.map((r) => `@${r.model_version} ${r.weight} %${r.role === 'canary' ? ' canary' : ''}`).join(', ');
  return html`<span class="row"><span class="split-bar grow" role="img" aria-label=${`Traffic: ${words}`} style=${{ width: wide ? '320px' : '110px' }}>${live.map((r) => html`<span key=${r.revision_id} title=${`@${r.model_version}: ${r.weight} %`} style=${{ '--c': roleColour(r.role), flex: `${r.weight} 0 0` }}></span>`)}</span><span class="nowrap">${words}</span></span>`;
}
