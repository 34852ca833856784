// @ts-check
import { useLayoutEffect, useRef, useState } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { useName } from './use.js';
import { say } from '../lib/store.js';

/** A question with consequences. It says what will happen and what protects the thing, and its button says the deed.
 *  `act` may throw; the refusal is shown inside, with its hint. It may give `{undo}`, which takes the deed back; that is offered for a while.
 *  @param {{title: string, children?: any, deed?: string, danger?: boolean, act?: (form: FormData) => Promise<any>, done?: string, onClose: () => void, ready?: boolean}} props */
export function Dialog({ title, children, deed, danger = false, act, done, onClose, ready = true }) {
  const box = useRef(/** @type {any} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);
  const name = useName('dialog');
  useLayoutEffect(() => { box.current?.showModal(); }, []);
  /** @param {any} e */
  const submit = async (e) => {
    e.preventDefault();
    if (!act) { onClose(); return; }
    setBusy(true); setError(null);
    try { const outcome = await act(new FormData(e.currentTarget)); if (done) say({ tone: 'ok', text: done, undo: outcome?.undo }); onClose(); } catch (problem) { setError(problem); } finally { setBusy(false); }
  };
  return html`<dialog class="dialog" ref=${box} aria-labelledby=${name} onClose=${onClose} onClick=${(/** @type {any} */ e) => { if (e.target === box.current) box.current.close(); }}>
    <form onSubmit=${submit}><h2 id=${name}>${title}</h2>${children}
      ${error && html`<div class="notice bad" role="alert"><${Icon} name="circle-alert" /><div class="stack tight"><span>${error.message}</span>${error.hint && html`<small>${error.hint}</small>`}${error.op && html`<small class="mono">op ${error.op}</small>`}</div></div>`}
      <div class="buttons"><button type="button" class="button" onClick=${() => box.current.close()}>${deed ? 'Leave as it is' : 'Close'}</button>
        ${deed && html`<button type="submit" class=${`button primary ${danger ? 'danger' : ''}`} disabled=${busy || !ready}>${deed}</button>`}</div></form></dialog>`;
}

/** A labelled input of a form. `value` is what stands there at first: a page that renders again meanwhile, or a refusal, leaves what was
 *  typed. With `onInput` or `onChange` it is what stands there now. @param {any} props */
export function Field({ label, hint, as = 'input', options, value, defaultValue = value, ...rest }) {
  const given = rest.onInput || rest.onChange ? { value } : { defaultValue };
  const control = as === 'select' ? html`<select class="select" ...${'value' in given ? { ...rest, value } : rest}>${options.map((/** @type {any} */ o) => { const [id, text] = Array.isArray(o) ? o : [o, o]; return html`<option value=${id} selected=${'defaultValue' in given && id === defaultValue}>${text}</option>`; })}</select>`
    : as === 'textarea' ? html`<textarea class="input" ...${rest} ...${given}></textarea>` : html`<input class="input" ...${rest} ...${given} />`;
  return html`<label class="field"><span>${label}</span>${control}${hint && html`<small>${hint}</small>`}</label>`;
}
