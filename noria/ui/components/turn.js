// @ts-check
/** The turn of a loop: its stations in order, where it stands, how it ended. */

import { html } from './html.js';
import { Glyph } from './state.js';

const STATIONS = [['triggered', 'triggered'], ['training', 'training'], ['comparing', 'comparing'], ['awaiting_approval', 'approval'], ['canary', 'canary'], ['promoted', 'promoted']];
const ENDS = /** @type {Record<string, string>} */ ({ rolled_back: 'rolled back', rejected: 'rejected', failed: 'failed', stopped: 'stopped', superseded: 'superseded' });

/** The stations of a turn with what each is to it. Pure. @param {string} state @param {string[]} seen states it went through, in order, when known */
export function stationsOf(state, seen = []) {
  const end = ENDS[state];
  const last = end ? Math.max(0, ...seen.map((s) => STATIONS.findIndex(([id]) => id === s))) : STATIONS.findIndex(([id]) => id === state);
  const list = STATIONS.map(([id, word], i) => ({ id, word, is: i < last || (end && i === last) ? (seen.length && !seen.includes(id) ? 'skipped' : 'past') : i === last ? 'now' : 'ahead', tone: /** @type {import('./state.js').Tone} */ (i < last || (end && i === last) ? 'done' : i === last ? (id === 'promoted' ? 'done' : id === 'awaiting_approval' ? 'warn' : 'running') : 'queued') }));
  return end ? [...list.slice(0, last + 1), { id: state, word: end, is: 'now', tone: /** @type {import('./state.js').Tone} */ ('failed') }] : list;
}

/** @param {{state: string, seen?: string[]}} props */
export function Turn({ state, seen = [] }) {
  return html`<ol class="turn" aria-label=${`Turn: ${state.replaceAll('_', ' ')}`}>${stationsOf(state, seen).filter((s) => s.is !== 'skipped').map((s) => html`<li key=${s.id} class=${`${s.is} ${s.tone === 'failed' ? 'failed' : s.tone === 'done' && s.is === 'now' ? 'done' : ''}`} aria-current=${s.is === 'now' ? 'step' : undefined}><${Glyph} tone=${s.tone} />${s.word}</li>`)}</ol>`;
}
