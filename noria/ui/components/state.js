// @ts-check
import { html } from './html.js';

/** @typedef {'running' | 'done' | 'failed' | 'queued' | 'alert' | 'warn' | 'sealed' | 'neutral'} Tone */

/** @type {Record<string, Tone>} */
const TONES = {
  running: 'running', started: 'running', active: 'running', training: 'running', comparing: 'running', canary: 'running', evaluating: 'running', deploying: 'running', starting: 'running', expanding: 'running', triggered: 'running', live: 'running',
  done: 'done', finished: 'done', succeeded: 'done', success: 'done', ready: 'done', healthy: 'done', promoted: 'done', approved: 'done', granted: 'done', resolved: 'done', ok: 'done', allowed: 'done', passed: 'done', completed: 'done', cached: 'done', serving: 'done', enabled: 'done', committed: 'done',
  failed: 'failed', timed_out: 'failed', out_of_memory: 'failed', killed: 'failed', error: 'failed', rejected: 'failed', crashed: 'failed', refused: 'failed', lost: 'failed', unhealthy: 'failed', denied: 'failed', rolled_back: 'failed',
  queued: 'queued', pending: 'queued', scheduled: 'queued', waiting: 'queued', submitted: 'queued', requested: 'queued', blocked: 'queued', retrying: 'queued', idle: 'queued', ready_to_run: 'queued',
  open: 'alert', alert: 'alert', firing: 'alert', opened: 'alert', breached: 'alert', over: 'alert',
  warning: 'warn', degraded: 'warn', awaiting_approval: 'warn', asking: 'warn', draining: 'warn', paused: 'warn', expired: 'warn', no_data: 'warn', partial: 'warn',
  sealed: 'sealed', verified: 'sealed',
};

/** @param {unknown} word @returns {Tone} */
export function toneOf(word) { return TONES[String(word ?? '').toLowerCase().replaceAll(' ', '_')] ?? 'neutral'; }

/** The shape of a state, before its colour and its word. @param {{tone: Tone}} props */
export function Glyph({ tone }) {
  const stroke = { fill: 'none', stroke: 'currentColor', 'stroke-width': 2, 'stroke-linecap': 'round', 'stroke-linejoin': 'round' };
  const shape = {
    running: html`<circle cx="6" cy="6" r="4" fill="currentColor" />`,
    done: html`<path d="M2 6.5l2.7 2.7L10 3.2" ...${stroke} />`,
    failed: html`<path d="M2.7 2.7l6.6 6.6M9.3 2.7L2.7 9.3" ...${stroke} />`,
    queued: html`<circle cx="6" cy="6" r="4.2" ...${stroke} stroke-width="1.5" stroke-dasharray="1.6 2.2" />`,
    alert: html`<path d="M6 1.5L11 10.5H1z" fill="currentColor" />`,
    warn: html`<path d="M6 2.2L10.4 10H1.6z" ...${stroke} stroke-width="1.5" />`,
    sealed: html`<path d="M6 1l5 5-5 5-5-5z" fill="currentColor" />`,
    neutral: html`<circle cx="6" cy="6" r="2.6" ...${stroke} stroke-width="1.5" />`,
  }[tone];
  return html`<svg class="glyph" viewBox="0 0 12 12" aria-hidden="true">${shape}</svg>`;
}

/** Shape, colour, word. @param {{of: unknown, word?: string, tone?: Tone}} props */
export function State({ of, word, tone = toneOf(of) }) {
  return html`<span class=${`state ${tone}`}><${Glyph} tone=${tone} /><span class="word">${word ?? String(of ?? 'unknown').toLowerCase().replaceAll('_', ' ')}</span></span>`;
}
