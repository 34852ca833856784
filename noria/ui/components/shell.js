// @ts-check
import { useState, useEffect } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { Wheel } from './wheel.js';
import { Toasts } from './toast.js';
import { Palette } from './palette.js';
import { Dialog } from './dialog.js';
import { Notices } from './notices.js';
import { useCommands, useResource } from './use.js';
import { KEYS } from '../lib/commands.js';
import { TOLD } from '../lib/talk.js';
import { density, inboxReads, me, online, openAlerts, railClosed, theme, zone } from '../lib/store.js';

/** @type {[string, string, string, string][]} name of the page, title, address, icon */
export const PLACES = [
  ['home', 'Home', '/', 'house'], ['inbox', 'Inbox', '/inbox', 'bell'], ['projects', 'Projects', '/projects', 'layers'], ['runs', 'Runs', '/runs', 'activity'], ['datasets', 'Datasets', '/datasets', 'database'], ['models', 'Models', '/models', 'box'], ['pipelines', 'Pipelines', '/pipelines', 'workflow'],
  ['endpoints', 'Endpoints', '/endpoints', 'radio-tower'], ['monitors', 'Monitors', '/monitors', 'gauge'], ['loops', 'Loops', '/loops', 'iteration-cw'], ['reports', 'Reports', '/reports', 'file-text'],
  ['audit', 'Audit', '/audit', 'scroll-text'], ['compliance', 'Compliance', '/compliance', 'shield-check'], ['settings', 'Settings', '/settings', 'settings'],
];
/** @type {[string, string, string][]} tab, title, icon */
const SETTINGS = [
  ['you', 'you and how it looks', 'user'], ['told', 'notifications', 'bell'], ['tokens', 'tokens and browsers', 'key-round'], ['people', 'people, services and groups', 'users'], ['projects', 'projects and labels', 'layers'],
  ['roles', 'roles and who has them', 'shield-check'], ['sign-in', 'sign-in and trusts', 'globe'], ['secrets', 'secrets', 'lock'], ['webhooks', 'webhooks', 'webhook'],
];
const KEY_OF = /** @type {Record<string, string>} */ (Object.fromEntries(KEYS.filter(([, c]) => c.startsWith('go.')).map(([k, c]) => [c.slice(3), k])));

/** The frame around every page: the rail, the palette, the keyboard list, what was just said.
 *  @param {{nav: string, go: (to: string) => void, children?: any}} props */
export function Shell({ nav, go, children }) {
  const [palette, setPalette] = useState(false);
  const [keys, setKeys] = useState(false);
  const alerts = useResource('/alerts?state=open&limit=50', { kinds: ['alert.'] });
  const approvals = useResource('/approvals?state=pending&limit=50', { kinds: ['approval.'] });
  useEffect(() => { openAlerts.value = alerts.data?.items?.length ?? 0; }, [alerts.data]);
  const inbox = useResource('/inbox?unread=true&limit=1', { kinds: TOLD });
  useEffect(() => { if (inboxReads.value) inbox.reload(); }, [inboxReads.value]);
  const unread = inbox.data?.unread ?? 0;
  const waiting = approvals.data?.items?.length ?? 0;
  const cycle = () => { theme.value = /** @type {const} */ ({ system: 'light', light: 'dark', dark: 'system' })[theme.value]; };

  useCommands([
    { id: 'palette', title: 'Go anywhere, do anything', keys: 'Ctrl K', hidden: true, run: (e) => { e?.preventDefault?.(); setPalette(true); } },
    { id: 'keys', title: 'Keyboard shortcuts', icon: 'keyboard', keys: '?', group: 'Interface', run: () => setKeys(true) },
    ...PLACES.map(([name, title, to, icon]) => ({ id: `go.${name}`, title, icon, keys: KEY_OF[name], group: 'Go to', run: () => go(to) })),
    { id: 'go.approvals', title: 'Approvals', icon: 'shield-check', keys: KEY_OF.approvals, group: 'Go to', run: () => go('/approvals') },
    { id: 'go.passport', title: 'Passport of a prediction', icon: 'fingerprint', group: 'Go to', run: () => go('/passports') },
    { id: 'go.traces', title: 'Traces', icon: 'route', keys: KEY_OF.traces, group: 'Go to', run: () => go('/traces') },
    { id: 'go.channels', title: 'Channels: who is told of alerts', icon: 'radio-tower', keys: KEY_OF.channels, group: 'Go to', run: () => go('/channels') },
    ...SETTINGS.map(([tab, title, icon]) => ({ id: `go.settings.${tab}`, title: `Settings: ${title}`, icon, group: 'Settings', run: () => go(tab === 'you' ? '/settings' : `/settings?tab=${tab}`) })),
    { id: 'manual', title: 'Manual', icon: 'book-open', group: 'Go to', run: () => location.assign('/docs/') },
    { id: 'theme', title: `Theme: ${theme.value}, change`, icon: 'sun-moon', group: 'Interface', run: cycle },
    { id: 'density', title: density.value === 'compact' ? 'Comfortable rows' : 'Compact rows', icon: 'table', group: 'Interface', run: () => { density.value = density.value === 'compact' ? 'comfortable' : 'compact'; } },
    { id: 'zone', title: zone.value === 'utc' ? 'Show local time' : 'Show UTC', icon: 'clock', group: 'Interface', run: () => { zone.value = zone.value === 'utc' ? 'local' : 'utc'; } },
    { id: 'rail', title: railClosed.value ? 'Open the rail' : 'Close the rail', icon: 'chevrons-left', group: 'Interface', run: () => { railClosed.value = !railClosed.value; } },
  ]);
  const collapsed = railClosed.value;
  return html`<div class=${`shell ${collapsed ? 'collapsed' : ''}`}>
    <a class="button skip" href="#content" data-external>Skip to the content</a>
    <nav class="rail" aria-label="Main">
      <a class="brand" href="/" title=${online.value ? 'Noria, live' : 'Noria: the live stream is away'}><${Wheel} /><span class="label">Noria</span><span class="sr">${online.value ? 'live' : 'the live stream is away'}</span></a>
      <div class="places"><ul>${PLACES.map(([name, title, to, icon]) => html`<li key=${name} class=${name === 'datasets' || name === 'endpoints' || name === 'audit' ? 'after-gap' : ''}><a href=${to} aria-current=${nav === name ? 'page' : undefined} title=${title}><${Icon} name=${icon} /><span class="label">${title}</span>${collapsed && html`<span class="sr">${title}</span>`}
        ${name === 'inbox' && unread > 0 && html`<span class="count" title=${`${unread} unread`}>${unread >= 100 ? '99+' : unread}</span>`}
        ${name === 'monitors' && openAlerts.value > 0 && html`<span class="count alert" title=${`${openAlerts.value} open alerts`}>${openAlerts.value}</span>`}
        ${name === 'audit' && waiting > 0 && html`<span class="count" title=${`${waiting} approvals wait`}>${waiting}</span>`}</a></li>`)}</ul></div>
      <div class="foot">
        <button type="button" onClick=${() => setPalette(true)} title="Go anywhere, do anything"><${Icon} name="search" /><span class="label grow">Search</span><span class="label"><kbd>Ctrl K</kbd></span></button>
        <a href="/docs/" data-external title="The manual"><${Icon} name="book-open" /><span class="label">Manual</span></a>
        <button type="button" onClick=${cycle} title=${`Theme: ${theme.value}`}><${Icon} name=${theme.value === 'dark' ? 'moon' : theme.value === 'light' ? 'sun' : 'sun-moon'} /><span class="label">${theme.value === 'system' ? 'System theme' : theme.value === 'dark' ? 'Dark theme' : 'Light theme'}</span></button>
        ${me.value && html`<div class="who" title=${me.value.name}><${Icon} name="user" /><span class="label truncate">${me.value.display_name || me.value.name}</span></div>`}
      </div>
    </nav>
    <main><${Notices} />${children}</main>
    ${palette && html`<${Palette} onClose=${() => setPalette(false)} go=${go} />`}
    ${keys && html`<${Dialog} title="Keyboard" onClose=${() => setKeys(false)}><dl class="kv">${KEYS.filter(([, , what]) => what).map(([k, , what]) => [html`<dt>${k.split(' ').map((part) => html`<kbd>${part.replace('mod+', 'Ctrl ').replace('Escape', 'esc').replace('Enter', '⏎')}</kbd> `)}</dt>`, html`<dd>${what}</dd>`])}</dl><//>`}
    <${Toasts} /></div>`;
}
