// @ts-check
/** Lines to copy that work as they are: the address is that of this server, and the token is made here, on request, and shown this once. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { Segmented } from './chips.js';
import { Command } from './empty.js';
import { post } from '../lib/api.js';
import { ways } from '../lib/quick-start.js';
import { me, sayError } from '../lib/store.js';

const DAYS = 90;

export function QuickStart() {
  const [way, setWay] = useState('mlflow'), [token, setToken] = useState(''), [busy, setBusy] = useState(false);
  const needsToken = Boolean(me.value && !me.value.is_local_admin);
  const all = ways({ url: location.origin, token, needsToken }), chosen = all.find((w) => w.id === way) ?? all[0];
  const make = async () => { setBusy(true); try { setToken((await post('/tokens', { name: `quick start, ${new Date().toISOString().slice(0, 10)}`, expires_in_days: DAYS })).secret); } catch (error) { sayError(error); } finally { setBusy(false); } };
  return html`<div class="stack"><div><${Segmented} label="How to begin" value=${chosen.id} options=${all.map((w) => [w.id, w.short])} onChange=${setWay} /></div>
    <div class="row"><${Icon} name=${chosen.icon} /><b>${chosen.title}</b><span class="quiet grow">${chosen.text}</span>
      ${needsToken && chosen.code.includes('TOKEN') && !token && html`<button type="button" class="button small" disabled=${busy} onClick=${make}><${Icon} name="key-round" small />Put a token of mine in</button>`}</div>
    <${Command} text=${chosen.code} />
    ${token && html`<p class="caption">The token is shown this once. It may do what you may, for ${DAYS} days; it can be revoked under <a href="/settings?tab=tokens">Settings, Tokens</a>.</p>`}</div>`;
}
