// @ts-check
/** Where one is told of what comes into one's inbox, besides the inbox: mail, chats. One's own; nobody else sees them. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { Block } from './page.js';
import { Show } from './empty.js';
import { Dialog, Field } from './dialog.js';
import { State } from './state.js';
import { Table } from './table.js';
import { Time } from './values.js';
import { useResource } from './use.js';
import { api, enc, post, remove } from '../lib/api.js';
import { say, sayError } from '../lib/store.js';

/** @type {[string, string][]} */
const REASONS = [['mention', 'somebody speaks to me'], ['reply', 'somebody answers me'], ['yours', 'something I made needs me'], ['follow', 'something happens to what I follow']];
const WORDS = Object.fromEntries(REASONS);

export function Addresses() {
  const list = useResource('/me/addresses', { kinds: ['address.'] });
  const [asking, setAsking] = useState(/** @type {any} */ (null)), [busy, setBusy] = useState(''), [shown, setShown] = useState('');
  const test = async (/** @type {string} */ name) => { setBusy(name); try { const t = await post(`/me/addresses/${enc(name)}/test`); say(t.delivered ? { tone: 'ok', text: 'It was delivered.' } : { tone: 'bad', text: 'It did not arrive.', hint: t.error }); } catch (e) { sayError(e); } finally { setBusy(''); } };
  const gone = async (/** @type {string} */ name) => { try { await remove(`/me/addresses/${enc(name)}`); list.reload(); } catch (e) { sayError(e); } };
  return html`<${Block} title="Told elsewhere too" actions=${html`<button type="button" class="button" onClick=${() => setAsking({})}><${Icon} name="plus" />New address…</button>`}>
    <${Show} of=${list}>${(/** @type {any} */ a) => (a.items.length ? html`<${Table} label="My addresses" rows=${a.items} rowKey=${(/** @type {any} */ x) => x.name} columns=${[{ key: 'n', label: 'Name', cell: (x) => x.name, sort: (x) => x.name }, { key: 's', label: 'Service', cell: (x) => x.service }, { key: 'a', label: 'Address', cell: (x) => html`<code>${x.shown}</code>` }, { key: 'r', label: 'When', prose: true, cell: (x) => x.reasons.map((/** @type {string} */ r) => WORDS[r]).join('; ') }, { key: 'e', label: 'State', cell: (x) => html`<${State} of=${x.enabled ? 'enabled' : 'paused'} word=${x.enabled ? 'on' : 'off'} />` },
        { key: 'x', label: '', cell: (x) => html`<span class="row"><button type="button" class="button small" disabled=${busy === x.name} onClick=${() => test(x.name)}>Test</button><button type="button" class="button small plain" aria-expanded=${shown === x.name ? 'true' : 'false'} onClick=${() => setShown(shown === x.name ? '' : x.name)}>Sent</button><button type="button" class="button small plain" aria-label=${`Change ${x.name}`} onClick=${() => setAsking(x)}>Change…</button><button type="button" class="button small danger" aria-label=${`Delete ${x.name}`} onClick=${() => gone(x.name)}>Delete</button></span>` }]} />`
      : html`<p class="muted">You are told in the inbox only. Give an address – mail, Slack, Teams, a hundred more – and choose what goes there.</p>`)}<//>
    ${shown && html`<${Sent} key=${shown} name=${shown} />`}
    ${asking && html`<${Dialog} title=${asking.name ? `Change ${asking.name}` : 'Be told elsewhere too'} deed="Save the address" done="Saved; try it" onClose=${() => setAsking(null)} act=${async (/** @type {FormData} */ f) => { await api(`/me/addresses/${enc(asking.name ?? f.get('name'))}`, { method: 'PUT', body: { url: String(f.get('url') ?? ''), reasons: f.getAll('reason').map(String), enabled: f.get('enabled') === 'on' } }); list.reload(); }}>
      ${!asking.name && html`<${Field} label="Name" name="name" required placeholder="chat" />`}<${Field} label="Address" name="url" type="password" autocomplete="off" required=${!asking.name} placeholder="mailtos://user:password@example.com?to=me@example.com" hint=${asking.name ? 'Left empty, the one that is there stays.' : 'In Apprise’s form, such as slack://… or msteams://…; it is kept sealed and never shown again.'} />
      <fieldset class="stack tight"><legend>Tell me there when</legend>${REASONS.map(([id, word]) => html`<label class="inline" key=${id}><input class="check" type="checkbox" name="reason" value=${id} defaultChecked=${(asking.reasons ?? REASONS.map(([r]) => r)).includes(id)} />${word}</label>`)}</fieldset>
      <label class="inline"><input class="check" type="checkbox" name="enabled" defaultChecked=${asking.enabled ?? true} />On</label><//>`}<//>`;
}

/** @param {{name: string}} props */
function Sent({ name }) {
  const list = useResource(`/me/addresses/${enc(name)}/messages?limit=20`, { every: 10_000 });
  return html`<${Show} of=${list}>${(/** @type {any} */ a) => (a.items.length ? html`<${Table} label=${`Sent to ${name}`} rows=${a.items} columns=${[{ key: 'at', label: 'When', cell: (m) => html`<${Time} at=${m.created_at_ms} />` }, { key: 's', label: 'State', cell: (m) => html`<${State} of=${/** @type {any} */ ({ delivered: 'done', failed: 'failed', dropped: 'failed', queued: 'queued', skipped: 'paused' })[m.state]} word=${m.state} />` }, { key: 't', label: 'Tries', num: true, cell: (m) => m.attempts }, { key: 'e', label: 'Why', prose: true, cell: (m) => m.error || '–' }]} />` : html`<p class="muted">Nothing was sent to ${name} yet.</p>`)}<//>`;
}
