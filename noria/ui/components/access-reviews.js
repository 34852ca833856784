// @ts-check
/** Reviews of who may what: each grant is kept or taken away, there and then. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Deed } from './deed.js';
import { Icon } from './icon.js';
import { Block } from './page.js';
import { Command, Show } from './empty.js';
import { Dialog, Field } from './dialog.js';
import { State } from './state.js';
import { Table } from './table.js';
import { Time, Who } from './values.js';
import { useResource } from './use.js';
import { enc, post } from '../lib/api.js';
import { sayError } from '../lib/store.js';

/** @param {{open: string, onOpen: (id: string | null) => void}} props */
export function AccessReviews({ open, onOpen }) {
  const list = useResource('/access-reviews', { kinds: ['access_review.'] });
  const [starting, setStarting] = useState(false);
  return html`<div class="stack loose"><${Block} title="Reviews" actions=${html`<${Deed} may="access.write" class="button" onClick=${() => setStarting(true)}><${Icon} name="plus" />Start a review…<//>`}>
      <${Show} of=${list}>${(/** @type {any} */ a) => (a.items.length ? html`<${Table} label="Access reviews" rows=${a.items} selected=${open} href=${(/** @type {any} */ r) => `/compliance?tab=reviews&review=${enc(r.id)}`} columns=${[
        { key: 't', label: 'Review', cell: (r) => r.title }, { key: 's', label: 'State', cell: (r) => html`<${State} of=${r.closed_at_ms ? 'completed' : 'pending'} word=${r.closed_at_ms ? 'closed' : `${r.open_count} left`} />` }, { key: 'n', label: 'Grants', num: true, cell: (r) => r.items_count }, { key: 'x', label: 'Taken away', num: true, cell: (r) => r.revoked_count }, { key: 'by', label: 'Begun by', cell: (r) => html`<${Who} of=${r.actor} />` }, { key: 'at', label: 'Begun', cell: (r) => html`<${Time} at=${r.created_at_ms} />` }, { key: 'end', label: 'Closed', cell: (r) => html`<${Time} at=${r.closed_at_ms} />` }]} />`
        : html`<p class="muted">Who may do what was never reviewed. A review writes down every role and clearance in force, and asks of each whether it stays.</p><${Command} text=${'noria access review start "first quarter"'} />`)}<//><//>
    ${open && html`<${Review} id=${open} key=${open} onChanged=${list.reload} />`}
    ${starting && html`<${Dialog} title="Start a review" deed="Write down who may what" onClose=${() => setStarting(false)} act=${async (/** @type {FormData} */ f) => { const made = await post('/access-reviews', { title: String(f.get('title')) }); list.reload(); onOpen(made.review.id); }}><${Field} label="What it is called" name="title" required placeholder="first quarter" /><//>`}</div>`;
}

/** @param {{id: string, onChanged: () => void}} props */
function Review({ id, onChanged }) {
  const page = useResource(`/access-reviews/${enc(id)}`, { kinds: ['access_review.'] });
  const decide = (/** @type {any} */ item, /** @type {string} */ decision) => post(`/access-reviews/${enc(id)}/items/${item.position}`, { decision }).then(() => { page.reload(); onChanged(); }, sayError);
  return html`<${Show} of=${page}>${(/** @type {any} */ p) => html`<${Block} title=${p.review.title} count=${p.review.open_count ? `${p.review.open_count} of ${p.review.items_count} to decide` : 'everything is decided'}>
    <${Table} label="Grants of the review" rows=${p.items} rowKey=${(/** @type {any} */ r) => r.position} columns=${[
      { key: 'w', label: 'Who', cell: (r) => r.principal, sort: (r) => r.principal }, { key: 'r', label: 'Has', cell: (r) => (r.kind === 'clearance' ? `clearance for ${r.what}` : r.what), sort: (r) => r.what }, { key: 'o', label: 'On', cell: (r) => r.scope || (r.kind === 'clearance' ? '–' : 'everything') }, { key: 'l', label: 'Last seen', cell: (r) => html`<${Time} at=${r.last_seen_ms} />`, sort: (r) => r.last_seen_ms }, { key: 'e', label: 'Ends', cell: (r) => (r.expires_at_ms ? html`<${Time} at=${r.expires_at_ms} />` : 'never') },
      { key: 'd', label: 'Decision', cell: (r) => (r.decision ? html`<${State} of=${r.decision === 'keep' ? 'ok' : 'rejected'} word=${r.decision === 'keep' ? 'kept' : 'taken away'} /> <span class="muted">by <${Who} of=${r.actor} /></span>` : html`<span class="row"><${Deed} may="access.write" class="button small" aria-label=${`Keep ${r.what} of ${r.principal}`} onClick=${() => decide(r, 'keep')}>Keep<//><${Deed} may="access.write" class="button small danger" aria-label=${`Take ${r.what} from ${r.principal}`} onClick=${() => decide(r, 'revoke')}>Take away<//></span>`) }]} /><//>`}<//>`;
}
