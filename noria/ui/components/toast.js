// @ts-check
import { html } from './html.js';
import { Icon } from './icon.js';
import { Id } from './values.js';
import { toasts, hush, takeBack } from '../lib/store.js';

/** What was just said, at the corner of the window. */
export function Toasts() {
  return html`<div class="toasts" role="status" aria-live="polite">${toasts.value.map((t) => html`<div class="toast" key=${t.id}>
    <${Icon} name=${t.tone === 'ok' ? 'circle-check' : t.tone === 'bad' ? 'circle-alert' : 'info'} class=${t.tone === 'info' ? '' : t.tone} />
    <div class="stack tight grow"><span>${t.text}</span>${t.hint && html`<small>${t.hint}</small>`}${t.op && html`<small>op <${Id} value=${t.op} full /></small>`}</div>
    ${t.undo && html`<button type="button" class="button small" onClick=${() => takeBack(t)}><${Icon} name="undo-2" small />Undo</button>`}
    <button type="button" class="button plain small icon-only" aria-label="Dismiss" onClick=${() => hush(t.id)}><${Icon} name="x" small /></button></div>`)}</div>`;
}
