// @ts-check
/** Pointing an alias at a version. It shows what would move and why one would say so, and refuses when the alias moved meanwhile. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Dialog, Field } from './dialog.js';
import { Time, Who } from './values.js';
import { moveAlias } from '../lib/aliases.js';

/** @param {{model: string, number: number, aliases: any[], onClose: () => void, onDone: () => void, alias?: string, versions?: any[]}} props versions: those to choose from; without them it is `number` */
export function Promote({ model, number: first, aliases, onClose, onDone, alias: preset = 'champion', versions = [] }) {
  const [number, setNumber] = useState(first);
  const [seen] = useState(aliases); // as they were when one began to decide: the page goes on hearing of moves
  const names = [...new Set([preset, 'champion', 'challenger', ...seen.map((a) => a.name)])];
  const [name, setName] = useState(preset);
  const known = seen.find((a) => a.name === name);
  return html`<${Dialog} title=${`Point an alias at ${model}@${number}`} deed=${known ? `Move ${name} from @${known.version} to @${number}` : `Name @${number} ${name || 'something'}`} done="The alias moved" onClose=${onClose} ready=${Boolean(name) && known?.version !== number}
    act=${async (/** @type {FormData} */ form) => { const moved = await moveAlias(model, name, number, known, String(form.get('reason') ?? '').trim()); onDone(); return { undo: () => moved.undo().then(onDone) }; }}>
    <${Field} label="Alias" name="alias" list="alias-names" value=${name} required pattern="[A-Za-z0-9_][A-Za-z0-9_.\\-]*" onInput=${(/** @type {any} */ e) => setName(e.currentTarget.value.trim())} />
    ${versions.length > 1 && html`<label class="field"><span>Version</span><select class="select" name="version" value=${String(number)} onChange=${(/** @type {any} */ e) => setNumber(Number(e.currentTarget.value))}>${versions.map((v) => html`<option key=${v.number} value=${String(v.number)} selected=${v.number === number}>@${v.number}${v.aliases.length ? ` (${v.aliases.join(', ')})` : ''}</option>`)}</select></label>`}
    <datalist id="alias-names">${names.map((n) => html`<option key=${n} value=${n} />`)}</datalist>
    <p class="quiet">${!known ? `No version is named ${name || 'so'} yet.` : known.version === number ? `${name} names this version already.` : html`<b>${name}</b> names @${known.version}, since <${Time} at=${known.moved_at_ms} /> by <${Who} of=${known.actor} /> (generation ${known.generation}).`} The move is refused if a policy says no, or if somebody moved the alias since you opened this; both are shown here.</p>
    <${Field} as="textarea" label="Reason" name="reason" maxlength="2000" placeholder="Better on every slice; see the comparison." hint="Kept with the move, on the timeline and in the audit log." /><//>`;
}
