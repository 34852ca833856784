// @ts-check
/** Pointing an alias at a version. It shows what would move, says what policy answered, and refuses when the alias moved meanwhile. */

import { html } from './html.js';
import { Dialog, Field } from './dialog.js';
import { api, enc } from '../lib/api.js';

/** @param {{model: string, number: number, aliases: any[], onClose: () => void, onDone: () => void, alias?: string}} props */
export function Promote({ model, number, aliases, onClose, onDone, alias: preset = 'champion' }) {
  const names = [...new Set([preset, 'champion', 'challenger', ...aliases.map((a) => a.name)])];
  return html`<${Dialog} title=${`Point an alias at ${model}@${number}`} deed=${`Promote version ${number}`} done="The alias moved" onClose=${onClose}
    act=${async (/** @type {FormData} */ form) => { const name = String(form.get('alias')); const known = aliases.find((a) => a.name === name); await api(`/models/${enc(model)}/aliases/${enc(name)}`, { method: 'PUT', body: { version: number, expect: known?.generation ?? 0 } }); onDone(); }}>
    <p class="quiet">${aliases.length ? html`Now: ${aliases.map((a) => `${a.name} → ${a.version}`).join(', ')}.` : 'No alias names a version yet.'} The move is refused if a policy says no or if somebody moved the alias since this page was read; both are shown here.</p>
    <${Field} label="Alias" name="alias" list="alias-names" value=${preset} required pattern="[A-Za-z0-9_][A-Za-z0-9_.\\-]*" />
    <datalist id="alias-names">${names.map((n) => html`<option value=${n} />`)}</datalist><//>`;
}
