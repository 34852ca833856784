// @ts-check
/** Pointing an alias at a version. It shows what would move and why one would say so, and refuses when the alias moved meanwhile. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Dialog, Field } from './dialog.js';
import { Time, Who } from './values.js';
import { api, enc } from '../lib/api.js';

/** @param {{model: string, number: number, aliases: any[], onClose: () => void, onDone: () => void, alias?: string}} props */
export function Promote({ model, number, aliases, onClose, onDone, alias: preset = 'champion' }) {
  const names = [...new Set([preset, 'champion', 'challenger', ...aliases.map((a) => a.name)])];
  const [name, setName] = useState(preset);
  const known = aliases.find((a) => a.name === name);
  return html`<${Dialog} title=${`Point an alias at ${model}@${number}`} deed=${known ? `Move ${name} from @${known.version} to @${number}` : `Name @${number} ${name || 'something'}`} done="The alias moved" onClose=${onClose} ready=${Boolean(name) && known?.version !== number}
    act=${async (/** @type {FormData} */ form) => { await api(`/models/${enc(model)}/aliases/${enc(name)}`, { method: 'PUT', body: { version: number, expect: known?.generation ?? 0, reason: String(form.get('reason') ?? '').trim() } }); onDone(); }}>
    <${Field} label="Alias" name="alias" list="alias-names" value=${name} required pattern="[A-Za-z0-9_][A-Za-z0-9_.\\-]*" onInput=${(/** @type {any} */ e) => setName(e.currentTarget.value.trim())} />
    <datalist id="alias-names">${names.map((n) => html`<option key=${n} value=${n} />`)}</datalist>
    <p class="quiet">${!known ? `No version is named ${name || 'so'} yet.` : known.version === number ? `${name} names this version already.` : html`<b>${name}</b> names @${known.version}, since <${Time} at=${known.moved_at_ms} /> by <${Who} of=${known.actor} /> (generation ${known.generation}).`} The move is refused if a policy says no, or if somebody moved the alias since this page was read; both are shown here.</p>
    <${Field} as="textarea" label="Reason" name="reason" maxlength="2000" placeholder="Better on every slice; see the comparison." hint="Kept with the move, on the timeline and in the audit log." /><//>`;
}
