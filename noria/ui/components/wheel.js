// @ts-check
import { html } from './html.js';
import { turns, online } from '../lib/store.js';

/** The mark: a water wheel. It turns by one bucket with each fact that arrives, and is grey while the stream is away. */
export function Wheel() {
  const spokes = Array.from({ length: 8 }, (_, i) => { const a = (i * Math.PI) / 4; const p = (/** @type {number} */ r) => `${(12 + r * Math.sin(a)).toFixed(2)} ${(12 - r * Math.cos(a)).toFixed(2)}`; return `M${p(6.4)}L${p(10)}`; }).join('');
  const buckets = Array.from({ length: 8 }, (_, i) => { const a = (i * Math.PI) / 4, b = 0.16; const p = (/** @type {number} */ t) => `${(12 + 10 * Math.sin(t)).toFixed(2)} ${(12 - 10 * Math.cos(t)).toFixed(2)}`; return `M${p(a - b)}L${p(a + b)}`; }).join('');
  return html`<svg class=${`wheel ${online.value ? '' : 'off'}`} viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-linecap="round" aria-hidden="true" style=${{ rotate: `${turns.value * 45}deg` }}>
    <circle cx="12" cy="12" r="6.4" stroke-width="1.5" /><circle cx="12" cy="12" r="1.7" fill="currentColor" stroke="none" /><path d=${spokes} stroke-width="1.3" /><path d=${buckets} stroke-width="2.5" /></svg>`;
}
