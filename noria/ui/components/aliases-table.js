// @ts-check
/** The aliases of a model: what each names, since when, and the two deeds. Both say which generation they saw, so that a move that came
 *  between is refused, not undone. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Deed } from './deed.js';
import { Table } from './table.js';
import { Dialog, Field } from './dialog.js';
import { Chip } from './chips.js';
import { Time, Who } from './values.js';
import { removeAlias } from '../lib/aliases.js';
import { enc } from '../lib/api.js';

/** @param {{model: string, aliases: any[], onMove: (alias: string) => void, onDone: () => void}} props */
export function AliasesTable({ model, aliases, onMove, onDone }) {
  const [gone, setGone] = useState(/** @type {any} */ (null));
  const rows = [...aliases].sort((a, b) => Number(b.name === 'champion') - Number(a.name === 'champion') || a.name.localeCompare(b.name));
  return html`<${Table} label="Aliases" rows=${rows} rowKey=${(/** @type {any} */ a) => a.name} columns=${[
      { key: 'n', label: 'Alias', cell: (a) => html`<${Chip} tone="accent" icon=${a.name === 'champion' ? 'crown' : undefined}>${a.name}<//>` },
      { key: 'v', label: 'Version', cell: (a) => html`<a href=${`/models/${enc(model)}/${a.version}`}>@${a.version}</a>` },
      { key: 's', label: 'Since', cell: (a) => html`<${Time} at=${a.moved_at_ms} />` }, { key: 'b', label: 'By', cell: (a) => html`<${Who} of=${a.actor} />` },
      { key: 'g', label: 'Generation', num: true, cell: (a) => a.generation },
      { key: 'd', label: '', cell: (a) => html`<span class="row"><${Deed} may="model.promote" on=${`model:${model}`} class="button plain small" aria-label=${`Move ${a.name}`} onClick=${() => onMove(a.name)}>Move…<//><${Deed} may="model.promote" on=${`model:${model}`} class="button plain small" aria-label=${`Remove ${a.name}`} onClick=${() => setGone(a)}>Remove…<//></span>` }]} />
    ${gone && html`<${Dialog} title=${`Let ${gone.name} name nothing?`} deed=${`Remove ${gone.name}`} danger done=${`${gone.name} names nothing now`} onClose=${() => setGone(null)}
      act=${async (/** @type {FormData} */ form) => { const removed = await removeAlias(model, gone, String(form.get('reason') ?? '').trim()); onDone(); return { undo: () => removed.undo().then(onDone) }; }}>
      <p class="quiet">It names @${gone.version}. The version stays, and so does the record of when it had this name. What loads <code>models:/${model}@${gone.name}</code> finds nothing then.</p>
      <${Field} as="textarea" label="Reason" name="reason" maxlength="2000" hint="Kept with the move, on the timeline and in the audit log." /><//>`}`;
}
