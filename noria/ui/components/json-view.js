// @ts-check
import { html } from './html.js';
import { plural } from '../lib/format.js';

/** A value as a tree that opens; no deeper than one looks. @param {{value: any, name?: string, depth?: number}} props */
export function JsonView({ value, name, depth = 0 }) {
  return html`<div class="json">${node(value, name, depth)}</div>`;
}

/** @param {any} value @param {string | undefined} name @param {number} depth @returns {any} */
function node(value, name, depth) {
  const label = name === undefined ? '' : html`<span class="k">${name}: </span>`;
  if (value === null || typeof value !== 'object') return html`<div>${label}<span class=${typeof value === 'number' ? 'n' : 's'}>${typeof value === 'string' ? value : String(value)}</span></div>`;
  const entries = Object.entries(value);
  if (!entries.length) return html`<div>${label}<span class="k">${Array.isArray(value) ? '[]' : '{}'}</span></div>`;
  return html`<details open=${depth < 2 && entries.length < 40}><summary>${label}<span class="k">${Array.isArray(value) ? plural(entries.length, 'item') : plural(entries.length, 'key')}</span></summary>
    <ul>${entries.slice(0, 300).map(([k, v]) => html`<li key=${k}>${node(v, k, depth + 1)}</li>`)}</ul></details>`;
}
