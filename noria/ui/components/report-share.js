// @ts-check
import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { Sheet } from './sheet.js';
import { Command, Show } from './empty.js';
import { Field } from './dialog.js';
import { Chip } from './chips.js';
import { Time, Who } from './values.js';
import { useResource } from './use.js';
import { api, enc, post, remove } from '../lib/api.js';
import { me, say, sayError } from '../lib/store.js';

/** Links to a report: made, moved to another version, revoked. @param {{report: any, onClose: () => void}} props */
export function ReportShare({ report: r, onClose }) {
  const at = `/reports/${enc(r.id)}/links`;
  const links = useResource(at, { kinds: ['report.'], subjects: [`report:${r.id}`] });
  const [made, setMade] = useState(/** @type {any} */ (null));
  const attempt = async (/** @type {() => Promise<any>} */ act, /** @type {string} */ done) => { try { await act(); say({ tone: 'ok', text: done }); links.reload(); } catch (error) { sayError(error); } };
  const share = async (/** @type {any} */ e) => {
    e.preventDefault();
    const f = new FormData(e.currentTarget);
    try { setMade(await post(at, { name: String(f.get('name') ?? ''), audience: String(f.get('audience')), days: Number(f.get('days')), version: r.version })); links.reload(); } catch (error) { sayError(error); }
  };
  return html`<${Sheet} title="Share" onClose=${onClose}><div class="stack loose">
    <p class="quiet">Whoever may read reports here finds it under its own address. A link shows version ${r.version} to others: what its panels show is what you may see yourself, judged again each time, without the most frequent values of data and without anything that carries a restricting label.</p>
    ${made ? html`<div class="stack"><div class="notice ok"><${Icon} name="check" /><span>Copy the link now; it is not shown again.</span></div><${Command} text=${made.url} label="Copy the link" /><button type="button" class="button" onClick=${() => setMade(null)}>Make another</button></div>`
      : html`<form class="stack" onSubmit=${share}><${Field} as="select" label="For" name="audience" value="members" options=${[['members', 'Whoever has it and is signed in'], ...(links.data?.public_allowed ? [['public', 'Whoever has it']] : [])]} hint=${links.data && !links.data.public_allowed ? 'Nothing is public on this server; an administrator would set NORIA_PUBLIC_REPORTS=yes.' : undefined} />
        <div class="halves"><${Field} label="Name" name="name" maxlength="200" placeholder="for the review" /><${Field} as="select" label="It lasts" name="days" value="30" options=${[['1', 'a day'], ['7', 'a week'], ['30', '30 days'], ['90', '90 days'], ['366', 'a year']]} /></div>
        <button type="submit" class="button primary">Make a link</button></form>`}
    <${Show} of=${links}>${(/** @type {any} */ a) => (a.items.length ? html`<ul class="versions" aria-label="Links">${a.items.map((/** @type {any} */ l) => html`<li key=${l.id}><span class="row wrap"><b>${l.name || 'Link'}</b><${Chip} tone=${l.audience === 'public' && a.public_allowed ? 'warn' : ''}>${l.audience === 'public' ? (a.public_allowed ? 'public' : 'was public') : 'signed in'}<//><${Chip}>version ${l.version}<//></span>
        <small><${Who} of=${l.sharer} /> made it <${Time} at=${l.created_at_ms} />; it ends <${Time} at=${l.expires_at_ms} absolute />; ${l.used_at_ms ? html`last used <${Time} at=${l.used_at_ms} />` : 'never used'}</small>
        <span class="row">${l.version !== r.latest && l.sharer_id === me.value?.id && html`<button type="button" class="button small" onClick=${() => attempt(() => api(`${at}/${enc(l.id)}`, { method: 'PATCH', body: { version: r.latest } }), `The link shows version ${r.latest}.`)}>Show version ${r.latest}</button>`}<button type="button" class="button small danger" onClick=${() => attempt(() => remove(`${at}/${enc(l.id)}`), 'The link leads nowhere any more.')}>Revoke</button></span></li>`)}</ul>` : html`<p class="muted">No link leads here.</p>`)}<//></div><//>`;
}
