// @ts-check
import { html } from './html.js';
import { parseUnified } from '../lib/unified.js';
import { count } from '../lib/format.js';

const LINES_MAX = 3000;

/** A unified diff, file by file; large ones are closed. @param {{text: string}} props */
export function DiffText({ text }) {
  const files = parseUnified(text);
  if (!files.length) return html`<pre class="code wrap" tabindex="0">${text}</pre>`;
  return html`<div class="stack tight">${files.map((f) => html`<details class="diff-file" key=${f.name} open=${f.lines.length < 200 || files.length === 1}><summary><span class="mono">${f.name}</span> <span class="diff-add">+${count(f.added)}</span> <span class="diff-del">−${count(f.removed)}</span></summary>
    <pre class="code unified" tabindex="0" aria-label=${`Changes of ${f.name}`}>${f.lines.slice(0, LINES_MAX).map((l, i) => html`<span key=${i} class=${l.kind}>${l.kind === 'add' ? '+' : l.kind === 'del' ? '−' : ' '} ${l.text}\n</span>`)}${f.lines.length > LINES_MAX && html`<span class="hunk">… ${count(f.lines.length - LINES_MAX)} more lines</span>`}</pre></details>`)}</div>`;
}
