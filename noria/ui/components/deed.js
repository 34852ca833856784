// @ts-check
/** A button that changes something. Whoever may not use it sees it all the same, with the reason and whom to ask. */

import { html } from './html.js';
import { rightsOn, whyNot } from '../lib/may.js';
import { say } from '../lib/store.js';

/** `may`: the action that the server asks for; `on`: the thing it is asked of, or all of several; with `somewhere`, the right on any one thing is enough. It stays reachable by keyboard when it is refused.
 *  @param {any} props */
export function Deed({ may, on = '', somewhere = false, class: kind = 'button', onClick, title, children, ...rest }) {
  const why = [on].flat().map((one) => whyNot(rightsOn(one), may, somewhere)).find(Boolean);
  return html`<button type="button" ...${rest} class=${kind} aria-disabled=${why ? 'true' : undefined} title=${why || title}
    onClick=${why ? () => say({ tone: 'info', text: why }) : onClick}>${children}</button>`;
}
