// @ts-check
/** Saved views of a list: open one, save what is shown, give its link to somebody. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { Menu } from './menu.js';
import { Dialog, Field } from './dialog.js';
import { Who } from './values.js';
import { useResource } from './use.js';
import { api, enc, post, remove, withQuery } from '../lib/api.js';
import { changesFor, sameSpec, specOf } from '../lib/view.js';
import { copy, me, say, sayError } from '../lib/store.js';

/** @param {{query: URLSearchParams, scope: string, setQuery: (changes: any, options?: any) => void}} props */
export function ViewsMenu({ query, scope, setQuery }) {
  const list = useResource(withQuery('/views', { experiment: scope || null, limit: 200 }), { kinds: ['view.'] });
  const [saving, setSaving] = useState(false);
  const id = query.get('saved') ?? '';
  const views = list.data?.items ?? [], now = specOf(query);
  const current = views.find((/** @type {any} */ v) => v.id === id);
  const changed = current && !sameSpec(now, current.spec);
  const isMine = (/** @type {any} */ v) => !me.value || v.owner_id === me.value.id;
  const act = async (/** @type {() => Promise<any>} */ deed, /** @type {string} */ done) => { try { await deed(); list.reload(); say({ tone: 'ok', text: done }); } catch (e) { sayError(e); } };
  return html`<${Menu} label=${html`<${Icon} name="book-open" />${current ? html`<span class="truncate view-name">${current.name}</span>${changed && html`<span class="dot warn" title="Changed since it was saved"></span>`}` : 'Views'}`} title=${current ? `View ${current.name}${changed ? ', changed' : ''}` : 'Saved views'}>${(/** @type {() => void} */ close) => html`<div class="views-menu">
      ${views.length ? html`<ul aria-label="Saved views">${views.map((/** @type {any} */ v) => html`<li key=${v.id} class=${v.id === id ? 'on' : ''}><button type="button" class="grow" aria-current=${v.id === id ? 'true' : undefined} onClick=${() => { setQuery(changesFor(v), { push: true }); close(); }}><span class="truncate">${v.name}</span>${!v.is_shared && html`<${Icon} name="lock" small label="only you see it" />`}</button><span class="muted"><${Who} of=${v.owner} /></span>
        <button type="button" class="icon-button" title="Copy the link" aria-label=${`Copy the link of ${v.name}`} onClick=${() => copy(`${location.origin}/views/${v.id}`, 'Link copied')}><${Icon} name="link" small /></button>
        ${isMine(v) && html`<button type="button" class="icon-button" title="Delete" aria-label=${`Delete the view ${v.name}`} onClick=${() => act(async () => { await remove(`/views/${enc(v.id)}`); if (v.id === id) setQuery({ saved: null }); }, `The view ${v.name} is gone`)}><${Icon} name="trash-2" small /></button>`}</li>`)}</ul>` : html`<p class="muted">${list.error ? list.error.message : 'No views are saved here yet. A view keeps columns, filter, order and grouping under a name and has a link.'}</p>`}
      ${changed && isMine(current) && html`<button type="button" onClick=${() => { act(() => api(`/views/${enc(current.id)}`, { method: 'PATCH', body: { spec: now, expect: current.generation } }), `Saved into ${current.name}`); close(); }}><${Icon} name="check" small />Save into ${current.name}</button>`}
      <button type="button" onClick=${() => { setSaving(true); close(); }}><${Icon} name="plus" small />Save as a new view…</button></div>`}<//>
    ${saving && html`<${Dialog} title="Save this view" deed="Save view" done="The view is saved" onClose=${() => setSaving(false)} act=${async (/** @type {FormData} */ form) => { const made = await post('/views', { name: String(form.get('name')), scope: form.get('everywhere') ? '' : scope, is_shared: Boolean(form.get('shared')), spec: now }); list.reload(); setQuery({ saved: made.id }); }}>
      <p class="quiet">It keeps columns, widths, filter, order, grouping and how curves are drawn; not which runs are drawn.</p>
      <${Field} label="Name" name="name" required maxlength="120" value=${changed ? `${current.name}, changed` : ''} />
      <label class="inline"><input class="check" type="checkbox" name="shared" checked />Whoever may read these runs may open it</label>
      ${scope && html`<label class="inline"><input class="check" type="checkbox" name="everywhere" />Offer it in every experiment</label>`}<//>`}`;
}
