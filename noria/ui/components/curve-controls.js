// @ts-check
/** How curves are drawn, said once for all of them and kept in the address: the horizontal axis, logarithm, smoothing. */

import { html } from './html.js';
import { Segmented } from './chips.js';

/** @param {{get: (key: string) => string | null}} query @returns {{x: 'step' | 'time' | 'elapsed', log: boolean, smooth: number}} */
export function useCurveLook(query) {
  const x = query.get('x'), smooth = Number(query.get('smooth') ?? 0);
  return { x: x === 'time' || x === 'elapsed' ? x : 'step', log: query.get('log') === '1', smooth: smooth > 0 && smooth < 1 ? smooth : 0 };
}

/** @param {{query: URLSearchParams, setQuery: (changes: any) => void}} props */
export function CurveControls({ query, setQuery }) {
  const { x, log, smooth } = useCurveLook(query);
  return html`<span class="row wrap"><${Segmented} label="Horizontal axis" value=${x} options=${[['step', 'Step'], ['elapsed', 'Elapsed'], ['time', 'Clock']]} onChange=${(/** @type {string} */ v) => setQuery({ x: v === 'step' ? null : v })} />
    <label class="inline"><input class="check" type="checkbox" checked=${log} onChange=${() => setQuery({ log: log ? null : '1' })} />log</label>
    <label class="inline">smooth <input type="range" min="0" max="0.95" step="0.05" value=${smooth} aria-label="Smoothing" onInput=${(/** @type {any} */ e) => setQuery({ smooth: Number(e.currentTarget.value) ? e.currentTarget.value : null })} /></label></span>`;
}
