// @ts-check
import { html } from './html.js';
import { Glyph } from './state.js';
import { Time } from './values.js';

/** @typedef {{key: any, tone: import('./state.js').Tone, what: any, why?: any, at?: number | null}} Moment */

/** What happened, in order, as sentences. @param {{items: Moment[], chain?: boolean, label: string, absolute?: boolean}} props */
export function Timeline({ items, chain = false, label, absolute = false }) {
  return html`<ol class=${`timeline ${chain ? 'chain' : ''}`} aria-label=${label}>${items.map((m) => html`<li key=${m.key} class=${m.tone}><span class="mark"><${Glyph} tone=${m.tone} /></span><div><div class="what">${m.what}</div>${m.why && html`<div class="why">${m.why}</div>`}</div><span class="when">${m.at ? html`<${Time} at=${m.at} absolute=${absolute} />` : ''}</span></li>`)}</ol>`;
}
