// @ts-check
/** What can be done with the selected runs at once. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Deed } from './deed.js';
import { Icon } from './icon.js';
import { Dialog, Field } from './dialog.js';
import { post } from '../lib/api.js';
import { plural } from '../lib/format.js';
import { say } from '../lib/store.js';

const AT_ONCE = 1000;

/** `on`: the experiments they lie in. @param {{on?: string[], ids: string[], drawn: number, deleted: boolean, onNone: () => void, onCompare: () => void, onExport: () => void, onDone: () => void}} props */
export function BatchBar({ on = [], ids, drawn, deleted, onNone, onCompare, onExport, onDone }) {
  const [asking, setAsking] = useState(/** @type {'' | 'tag' | 'delete' | 'restore'} */ (''));
  /** @param {string} act @param {Record<string, string | null>} [tags] */
  const act = async (act, tags) => {
    const these = ids, inverse = { delete: 'restore', restore: 'delete' }[act];
    const all = async (/** @type {string} */ deed) => { let n = 0; for (let i = 0; i < these.length; i += AT_ONCE) n += (await post('/runs/batch', { ids: these.slice(i, i + AT_ONCE), act: deed, ...(deed === 'tag' && tags ? { tags } : {}) })).changed; return n; };
    const changed = await all(act);
    say({ tone: 'ok', text: `${plural(changed, 'run')} ${{ tag: 'tagged', delete: 'deleted', restore: 'restored' }[act]}.`, undo: inverse ? () => all(inverse).then(onDone) : undefined });
    onDone();
  };
  return html`<div class="bar batch" role="group" aria-label="Selected runs"><b>${plural(ids.length, 'run')} selected</b>${drawn < ids.length && html`<span class="muted">the first ${drawn} are drawn</span>`}
    <button type="button" class="button small" disabled=${ids.length < 2} onClick=${onCompare} title="Compare (c)"><${Icon} name="git-compare" small />Compare${ids.length > 20 ? ' the first 20' : ''}</button>
    <${Deed} may="run.log" on=${on} class="button small" onClick=${() => setAsking('tag')}><${Icon} name="tag" small />Tag…<//>
    <button type="button" class="button small" onClick=${onExport}><${Icon} name="download" small />Export CSV</button>
    ${deleted ? html`<${Deed} may="run.delete" on=${on} class="button small" onClick=${() => setAsking('restore')}><${Icon} name="undo-2" small />Restore<//>` : html`<${Deed} may="run.delete" on=${on} class="button small danger" onClick=${() => setAsking('delete')}><${Icon} name="trash-2" small />Delete…<//>`}
    <button type="button" class="button plain small end" onClick=${onNone}>Select none</button>
    ${asking === 'tag' && html`<${Dialog} title=${`Tag ${plural(ids.length, 'run')}`} deed="Set the tag" onClose=${() => setAsking('')} act=${(/** @type {FormData} */ f) => act('tag', { [String(f.get('key'))]: f.get('remove') ? null : String(f.get('value')) })}>
      <${Field} label="Tag" name="key" required maxlength="250" placeholder="reviewed" /><${Field} label="Value" name="value" placeholder="yes" /><label class="inline"><input class="check" type="checkbox" name="remove" />Remove this tag instead</label><//>`}
    ${asking === 'delete' && html`<${Dialog} title=${`Delete ${plural(ids.length, 'run')}?`} deed=${`Delete ${plural(ids.length, 'run')}`} danger onClose=${() => setAsking('')} act=${() => act('delete')}>
      <p class="quiet">They leave every list and take nothing new. Nothing is erased: models, numbers and files stay, versions built from them keep their lineage, and they can be restored under <b>Deleted</b>.</p><//>`}
    ${asking === 'restore' && html`<${Dialog} title=${`Restore ${plural(ids.length, 'run')}?`} deed="Restore" onClose=${() => setAsking('')} act=${() => act('restore')}><p class="quiet">They come back as they were.</p><//>`}</div>`;
}
