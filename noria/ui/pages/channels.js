// @ts-check
/** Where people are told of alerts: the channels, whether they work, and what became of the latest messages. */

import { useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Deed } from '../components/deed.js';
import { Icon } from '../components/icon.js';
import { Page, Block } from '../components/page.js';
import { Table } from '../components/table.js';
import { Empty, Show } from '../components/empty.js';
import { Dialog, Field } from '../components/dialog.js';
import { Sheet } from '../components/sheet.js';
import { State } from '../components/state.js';
import { Time } from '../components/values.js';
import { useResource } from '../components/use.js';
import { api, enc, post, remove } from '../lib/api.js';
import { duration } from '../lib/format.js';
import { say } from '../lib/store.js';

/** @param {any} props */
export default function Channels({ query, setQuery }) {
  const list = useResource('/channels', { kinds: ['channel.'] });
  const [asking, setAsking] = useState('');
  const chosen = list.data?.items.find((/** @type {any} */ c) => c.name === query.get('channel'));
  return html`<${Page} crumbs=${[['Monitors', '/monitors'], ['Channels']]} loading=${list.loading} actions=${html`<${Deed} may="webhook.write" class="button primary" onClick=${() => setAsking('new')}><${Icon} name="plus" />New channel…<//>`}>
    <${Show} of=${list}>${(/** @type {any} */ a) => (a.items.length === 0
      ? html`<${Empty} icon="radio-tower" title="Nobody is told." text="A channel tells people of alerts: by mail, in a chat, on a pager." command="noria channel set ops slack://TokenA/TokenB/TokenC/#alerts --severity alert" />`
      : html`<${Block} title="Channels" count=${a.items.length}><${Table} keys label="Channels" rows=${a.items} rowKey=${(/** @type {any} */ c) => c.name} columns=${[
        { key: 'n', label: 'Channel', cell: (c) => html`<button type="button" class="th-button" onClick=${() => setQuery({ channel: c.name })}>${c.name}</button>`, sort: (c) => c.name }, { key: 's', label: 'Service', cell: (c) => c.service }, { key: 'a', label: 'Address', cell: (c) => html`<code>${c.shown}</code>` },
        { key: 'k', label: 'Tells of', cell: (c) => html`${c.kinds.join(', ')}${c.min_severity === 'alert' ? html` <span class="muted">no warnings</span>` : ''}` }, { key: 'm', label: 'Of', cell: (c) => [...c.monitors, ...c.endpoints].join(', ') || html`<span class="muted">everything</span>` },
        { key: 'e', label: 'State', cell: (c) => html`<${State} of=${c.enabled ? 'enabled' : 'paused'} word=${c.enabled ? 'on' : 'off'} />` }, { key: 't', label: '', cell: (c) => html`<${Try} name=${c.name} />` }]} /><//>`)}<//>
    ${chosen && html`<${Sheet} title=${chosen.name} onClose=${() => setQuery({ channel: null })}><${Sent} of=${chosen} onRemove=${() => setAsking('remove')} /><//>`}
    ${asking === 'new' && html`<${Dialog} title="Tell people" deed="Make the channel" done="The channel is made; try it" onClose=${() => setAsking('')} act=${async (/** @type {FormData} */ f) => { await api(`/channels/${enc(f.get('name'))}`, { method: 'PUT', body: { url: String(f.get('url')), min_severity: String(f.get('severity')), monitors: words(f.get('monitors')), description: '' } }); list.reload(); }}>
      <${Field} label="Name" name="name" required placeholder="ops" /><${Field} label="Address" name="url" type="password" autocomplete="off" required placeholder="slack://TokenA/TokenB/TokenC/#alerts" hint="Apprise's form; it is never shown again." />
      <${Field} label="Tells of" name="severity" as="select" options=${[['warn', 'warnings and alerts'], ['alert', 'alerts only']]} /><${Field} label="Monitors" name="monitors" placeholder="all" hint="Names or patterns, such as flights*." /><//>`}
    ${asking === 'remove' && chosen && html`<${Dialog} title=${`Tell nobody through ${chosen.name} any more`} deed="Remove" danger done="Removed" onClose=${() => setAsking('')} act=${async () => { await remove(`/channels/${enc(chosen.name)}`); setQuery({ channel: null }); list.reload(); }}><p class="quiet">What waits for it is not sent.</p><//>`}
  <//>`;
}

/** @param {FormDataEntryValue | null} text */
const words = (text) => String(text ?? '').split(/[\s,]+/).filter(Boolean);

/** @param {{name: string}} props */
function Try({ name }) {
  const [busy, setBusy] = useState(false);
  const run = async () => {
    setBusy(true);
    try {
      const told = await post(`/channels/${enc(name)}/test`);
      say(told.delivered ? { tone: 'ok', text: `${name} took it in ${duration(told.took_ms)}.` } : { tone: 'bad', text: `${name} did not take it.`, hint: told.error });
    } catch (/** @type {any} */ error) { say({ tone: 'bad', text: error.message, hint: error.hint, op: error.op }); } finally { setBusy(false); }
  };
  return html`<${Deed} may="webhook.write" class="button small" disabled=${busy} onClick=${run}>${busy ? 'Sending' : 'Test'}<//>`;
}

/** @param {{of: any, onRemove: () => void}} props */
function Sent({ of, onRemove }) {
  const sent = useResource(`/channels/${enc(of.name)}/deliveries?limit=50`, { kinds: ['alert.'], every: 5000 });
  return html`<div class="stack"><p class="quiet">${of.service}, made <${Time} at=${of.created_at_ms} />. ${of.description}</p>
    <${Show} of=${sent}>${(/** @type {any} */ a) => (a.items.length === 0 ? html`<p class="muted">Nothing was sent yet.</p>` : html`<${Table} label="Messages" rows=${a.items} columns=${[
      { key: 'at', label: 'When', cell: (d) => html`<${Time} at=${d.created_at_ms} />` }, { key: 's', label: 'State', cell: (d) => html`<${State} of=${d.state} tone=${{ delivered: 'done', failed: 'failed', dropped: 'warn', queued: 'queued' }[/** @type {'failed'} */ (d.state)]} />` }, { key: 'n', label: 'Tries', num: true, cell: (d) => d.attempts }, { key: 'e', label: 'What it said', prose: true, cell: (d) => d.error }]} />`)}<//>
    <div><${Deed} may="webhook.write" class="button danger" onClick=${onRemove}>Remove…<//></div></div>`;
}
