// @ts-check
import { Component } from 'preact';
import { html } from './html.js';
import { Icon } from './icon.js';
import { Id } from './values.js';
import { copy } from '../lib/store.js';

/** A command one can copy. @param {{text: string, label?: string}} props */
export function Command({ text, label = 'Copy the command' }) {
  return html`<div class="command"><pre tabindex="0" aria-label="Command"><code>${text}</code></pre><button type="button" class="button plain small icon-only" onClick=${() => copy(text)} title=${label} aria-label=${label}><${Icon} name="copy" small /></button></div>`;
}

/** What a list shows before it has anything: what would be here, and the command that fills it.
 *  @param {{icon: string, title: string, text?: any, command?: string, center?: boolean, children?: any}} props */
export function Empty({ icon, title, text, command, center = false, children }) {
  return html`<div class=${`empty ${center ? 'center' : ''}`}><${Icon} name=${icon} /><h2>${title}</h2>${text && html`<p>${text}</p>`}${command && html`<${Command} text=${command} />`}${children}</div>`;
}

/** A refusal: what, what next, and the operation to quote. @param {{error: any, retry?: () => void, center?: boolean}} props */
export function Problem({ error, retry, center = false }) {
  const missing = error?.status === 404;
  return html`<div class=${`empty ${center ? 'center' : ''}`} role="alert"><${Icon} name=${missing ? 'search' : 'triangle-alert'} />
    <h2>${error?.message ?? String(error)}</h2>
    ${error?.hint && html`<p>${error.hint}</p>`}
    ${missing && !error?.hint && html`<p>It is gone, never was, or you may not know of it.</p>`}
    <div class="row wrap">${error?.op && html`<span class="quiet">Operation <${Id} value=${error.op} full /></span>`}
      ${error?.op && html`<button type="button" class="button small" onClick=${() => copy(`${error.message} ${error.hint ?? ''} [op ${error.op}]`)}><${Icon} name="copy" small />Copy for support</button>`}
      ${retry && html`<button type="button" class="button small" onClick=${retry}><${Icon} name="rotate-ccw" small />Try again</button>`}</div></div>`;
}

/** Keeps a fault in one page from emptying the window. */
export class Boundary extends Component {
  /** @param {any} props */
  constructor(props) { super(props); this.state = { error: null }; }
  /** @param {any} error */
  static getDerivedStateFromError(error) { return { error }; }
  /** @param {any} error */
  componentDidCatch(error) { console.error(error); }
  /** @param {any} before */
  componentDidUpdate(before) { if (before.at !== /** @type {any} */ (this.props).at && /** @type {any} */ (this.state).error) this.setState({ error: null }); }
  render() {
    const { error } = /** @type {any} */ (this.state);
    if (!error) return /** @type {any} */ (this.props).children;
    return html`<div class="page"><header><h1>Something broke on this page</h1></header><div class="content"><div class="inner">
      <${Problem} error=${{ message: error.message, hint: error.hint || 'This is a fault in the interface; the data is unharmed. Reload, and if it returns, send the lines below.', op: error.op }} retry=${() => this.setState({ error: null })} />
      <pre class="code">${String(error.stack ?? error)}</pre></div></div></div>`;
  }
}

/** Shows a resource: its first reading, its refusal, or its content. @param {{of: any, children: (data: any) => any, lines?: number}} props */
export function Show({ of, children, lines = 4 }) {
  if (of.data) return children(of.data);
  if (of.error) return html`<${Problem} error=${of.error} retry=${of.reload} />`;
  return html`<div class="stack" role="status" aria-busy="true" aria-label="Reading">${Array.from({ length: lines }, (_, i) => html`<div class="skeleton" key=${i}></div>`)}</div>`;
}
