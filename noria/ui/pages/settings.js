// @ts-check
/** Who may do what, the tokens one holds, where facts are sent, and how this interface looks to you. */

import { useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Deed } from '../components/deed.js';
import { Icon } from '../components/icon.js';
import { Page, Block } from '../components/page.js';
import { Command, Show } from '../components/empty.js';
import { Table } from '../components/table.js';
import { Tabs } from '../components/tabs.js';
import { Dialog, Field } from '../components/dialog.js';
import { State } from '../components/state.js';
import { Segmented, Chip } from '../components/chips.js';
import { Id, Kv, Time } from '../components/values.js';
import { Addresses } from '../components/addresses.js';
import { Labels, Projects, Roles, Secrets, SignIn } from '../components/access-settings.js';
import { useResource } from '../components/use.js';
import { api, enc, post, remove } from '../lib/api.js';
import { density, me, sayError, theme, zone } from '../lib/store.js';

/** @param {any} props */
export default function Settings({ query, setQuery }) {
  return html`<${Page} crumbs=${[['Settings']]} actions=${me.value && !me.value.is_local_admin && html`<button type="button" class="button" onClick=${() => api('/sessions/current', { method: 'DELETE' }).then(() => location.assign(me.value?.sign_out_url || '/login'), sayError)}><${Icon} name="log-out" />Sign out</button>`}>
    <${Tabs} label="Settings" value=${query.get('tab') ?? 'you'} onChange=${(/** @type {string} */ t) => setQuery({ tab: t === 'you' ? null : t })} tabs=${[
      { id: 'you', label: 'You', body: () => html`<${You} />` }, { id: 'told', label: 'Notifications', body: () => html`<${Addresses} />` }, { id: 'tokens', label: 'Tokens', body: () => html`<div class="stack"><${Tokens} /><${Sessions} /></div>` }, { id: 'people', label: 'People and services', body: () => html`<div class="stack"><${People} /><${Groups} /></div>` }, { id: 'projects', label: 'Projects and labels', body: () => html`<div class="stack loose"><${Projects} /><${Labels} /></div>` }, { id: 'roles', label: 'Roles', body: () => html`<${Roles} />` }, { id: 'sign-in', label: 'Sign-in', body: () => html`<${SignIn} />` }, { id: 'secrets', label: 'Secrets', body: () => html`<${Secrets} />` },
      { id: 'webhooks', label: 'Webhooks', body: () => html`<${Webhooks} />` }]} />
  <//>`;
}

function You() {
  const m = me.value;
  return html`<div class="halves"><${Block} title="Who you are">${m ? html`<${Kv} items=${[['Name', m.name], ['Kind', m.kind], ['Roles', m.roles?.length ? html`<span class="chips">${m.roles.map((/** @type {string} */ r) => html`<${Chip} key=${r}>${r}<//>`)}</span>` : m.is_local_admin ? 'administrator of this machine' : 'none'], ['May do', m.actions?.length ? html`<details><summary>${m.actions.length} actions</summary><span class="chips">${m.actions.map((/** @type {string} */ a) => html`<${Chip} key=${a}>${a}<//>`)}</span></details>` : null], ['Id', html`<${Id} value=${m.id} full />`]]} />` : ''}
      ${m?.is_local_admin && html`<div class="notice info"><${Icon} name="info" /><div class="stack"><span>There are no accounts yet: everybody who reaches this machine’s loopback address is its administrator. Make the first account before others can reach it.</span><p>The server printed a one-time link for it when it started.</p></div></div>`}<//>
    <${Block} title="How it looks"><div class="stack"><div class="row"><span class="quiet grow">Theme</span><${Segmented} label="Theme" value=${theme.value} options=${[['system', 'System'], ['light', 'Light'], ['dark', 'Dark']]} onChange=${(/** @type {any} */ v) => { theme.value = v; }} /></div>
      <div class="row"><span class="quiet grow">Rows</span><${Segmented} label="Rows" value=${density.value} options=${[['compact', 'Compact'], ['comfortable', 'Comfortable']]} onChange=${(/** @type {any} */ v) => { density.value = v; }} /></div>
      <div class="row"><span class="quiet grow">Times</span><${Segmented} label="Times" value=${zone.value} options=${[['local', 'Local'], ['utc', 'UTC']]} onChange=${(/** @type {any} */ v) => { zone.value = v; }} /></div></div><//></div>`;
}

function Sessions() {
  const list = useResource('/sessions', { kinds: ['session.'] });
  return html`<${Block} title="Browsers that are signed in"><${Show} of=${list}>${(/** @type {any} */ a) => (a.items.length ? html`<${Table} label="Sessions" rows=${a.items} columns=${[{ key: 'p', label: 'Who', cell: (s) => s.principal }, { key: 'm', label: 'By', cell: (s) => (s.method === 'oidc' ? 'identity provider' : 'password') }, { key: 'a', label: 'Browser', cell: (s) => s.agent || '–' }, { key: 'b', label: 'Since', cell: (s) => html`<${Time} at=${s.created_at_ms} />` }, { key: 's', label: 'Last seen', cell: (s) => html`<${Time} at=${s.seen_at_ms} />` }, { key: 'x', label: '', cell: (s) => html`<button type="button" class="button small danger" aria-label=${`Sign out the browser of ${s.principal}`} onClick=${() => remove(`/sessions/${enc(s.id)}`).then(list.reload, sayError)}>Sign out</button>` }]} />` : html`<p class="muted">No browser is signed in.</p>`)}<//><//>`;
}

function Groups() {
  const list = useResource('/groups', { kinds: ['group.', 'member.', 'grant.'] });
  const [adding, setAdding] = useState(false);
  return html`<${Block} title="Groups" actions=${html`<${Deed} may="access.write" class="button" onClick=${() => setAdding(true)}><${Icon} name="plus" />New group…<//>`}>
    <${Show} of=${list}>${(/** @type {any} */ a) => (a.items.length ? html`<${Table} label="Groups" rows=${a.items} columns=${[{ key: 'n', label: 'Group', cell: (g) => g.name, sort: (g) => g.name }, { key: 'r', label: 'Roles', cell: (g) => g.roles.join(', ') || '–' }, { key: 'm', label: 'Members', cell: (g) => html`<span class="chips">${g.members.map((/** @type {any} */ m) => html`<${Chip} key=${m.name}>${m.name}<//>`)}</span>` }, { key: 'at', label: 'Since', cell: (g) => html`<${Time} at=${g.created_at_ms} />` }]} />` : html`<p class="muted">There are no groups. What is granted to a group, everybody in it has.</p><${Command} text="noria group create risk-team --role viewer" />`)}<//>
    ${adding && html`<${Dialog} title="Make a group" deed="Make group" done="Made" onClose=${() => setAdding(false)} act=${async (/** @type {FormData} */ f) => { const name = String(f.get('name')); await post('/groups', { name, roles: f.get('role') ? [String(f.get('role'))] : [] }); list.reload(); }}><${Field} label="Name" name="name" required /><${Field} as="select" label="Role" name="role" options=${[['', 'none'], 'viewer', 'predictor', 'contributor', 'approver', 'deployer', 'maintainer', 'auditor', 'admin']} /><//>`}<//>`;
}

function Tokens() {
  const list = useResource('/tokens?limit=200', { kinds: ['token.'] });
  const [making, setMaking] = useState(false);
  const [secret, setSecret] = useState('');
  return html`<${Block} title="Tokens" actions=${html`<button type="button" class="button" onClick=${() => setMaking(true)}><${Icon} name="plus" />New token…</button>`}>
    ${secret && html`<div class="notice ok"><${Icon} name="key-round" /><div class="stack grow"><span>This is the only time the secret is shown.</span><${Command} text=${`export MLFLOW_TRACKING_URI=${location.origin}\nexport MLFLOW_TRACKING_TOKEN=${secret}`} label="Copy" /></div></div>`}
    <${Show} of=${list}>${(/** @type {any} */ a) => (a.items.length ? html`<${Table} label="Tokens" rows=${a.items} columns=${[{ key: 'n', label: 'Token', cell: (t) => t.name }, { key: 'a', label: 'May', cell: (t) => (t.actions?.length ? t.actions.join(', ') : 'everything its owner may') }, { key: 'made', label: 'Made', cell: (t) => html`<${Time} at=${t.created_at_ms} />` }, { key: 'used', label: 'Last used', cell: (t) => html`<${Time} at=${t.last_used_at_ms} />` }, { key: 'ends', label: 'Ends', cell: (t) => (t.expires_at_ms ? html`<${Time} at=${t.expires_at_ms} />` : 'never') }, { key: 'x', label: '', cell: (t) => html`<button type="button" class="button small danger" aria-label=${`Revoke ${t.name}`} onClick=${() => remove(`/tokens/${enc(t.id)}`).then(list.reload, sayError)}>Revoke</button>` }]} />` : html`<p class="muted">You have no tokens. Programs sign in with one: the MLflow client, the SDK, the command line.</p>`)}<//>
    ${making && html`<${Dialog} title="Make a token" deed="Make token" onClose=${() => setMaking(false)} act=${async (/** @type {FormData} */ f) => { const made = await post('/tokens', { name: String(f.get('name')), expires_in_days: Number(f.get('days')) || null }); setSecret(made.secret); list.reload(); }}><${Field} label="What it is for" name="name" required placeholder="training on the cluster" /><${Field} label="Ends after, in days" name="days" type="number" min="0" value="90" hint="0: never" /><//>`}<//>`;
}

function People() {
  const list = useResource('/principals?limit=500', { kinds: ['principal.', 'grant.'] });
  const [adding, setAdding] = useState(false);
  return html`<${Block} title="People and services" actions=${html`<${Deed} may="access.write" class="button" onClick=${() => setAdding(true)}><${Icon} name="plus" />Add…<//>`}>
    <${Show} of=${list}>${(/** @type {any} */ a) => (a.items.length ? html`<${Table} label="People and services" rows=${a.items} columns=${[{ key: 'n', label: 'Name', cell: (p) => html`<span class="row"><${Icon} name=${p.kind === 'service' ? 'server' : 'user'} small />${p.name}</span>`, sort: (p) => p.name }, { key: 'r', label: 'Roles', cell: (p) => p.roles.join(', ') || '–' }, { key: 's', label: 'State', cell: (p) => html`<${State} of=${p.is_active ? 'enabled' : 'paused'} word=${p.is_active ? 'active' : 'disabled'} />` }, { key: 'at', label: 'Since', cell: (p) => html`<${Time} at=${p.created_at_ms} />` }]} />` : html`<p class="muted">Nobody has an account yet.</p><${Command} text="noria user create ada --admin --password-stdin < password.txt" />`)}<//>
    ${adding && html`<${Dialog} title="Add a person or service" deed="Add" done="Added" onClose=${() => setAdding(false)} act=${async (/** @type {FormData} */ f) => { await post('/principals', { name: String(f.get('name')), kind: String(f.get('kind')), roles: f.get('role') ? [String(f.get('role'))] : [], password: String(f.get('password') ?? '') }); list.reload(); }}><${Field} label="Name" name="name" required /><${Field} as="select" label="Kind" name="kind" options=${[['user', 'person'], ['service', 'service account']]} /><${Field} as="select" label="Role" name="role" options=${[['', 'none'], 'viewer', 'predictor', 'contributor', 'approver', 'deployer', 'maintainer', 'agent', 'auditor', 'admin']} /><${Field} label="Password" name="password" type="password" autocomplete="new-password" hint="At least twelve characters; leave empty for a service, which signs in with a token." /><//>`}<//>`;
}

function Webhooks() {
  const list = useResource('/webhooks?limit=100', { kinds: ['webhook.'] });
  return html`<${Block} title="Webhooks"><${Show} of=${list}>${(/** @type {any} */ a) => (a.items.length ? html`<${Table} label="Webhooks" rows=${a.items} rowKey=${(/** @type {any} */ w) => w.name} columns=${[{ key: 'n', label: 'Webhook', cell: (w) => w.name }, { key: 'u', label: 'Address', cell: (w) => html`<code>${w.url}</code>` }, { key: 'k', label: 'Facts', cell: (w) => w.kinds.join(', ') }, { key: 's', label: 'State', cell: (w) => html`<${State} of=${w.enabled ? 'enabled' : 'paused'} word=${w.enabled ? 'on' : 'off'} />` }]} />` : html`<p class="muted">No webhooks. Facts can be sent, signed, to an address of yours as they happen.</p>`)}<//><//>`;
}
