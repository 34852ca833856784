// @ts-check
/** Requests for erasure: until when, what was done in which dataset, and what still rests on it. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Deed } from './deed.js';
import { Icon } from './icon.js';
import { Block } from './page.js';
import { Command, Show } from './empty.js';
import { Dialog, Field } from './dialog.js';
import { State } from './state.js';
import { RefLink, Time } from './values.js';
import { useResource } from './use.js';
import { enc, post } from '../lib/api.js';
import { due } from '../lib/compliance.js';
import { now } from '../lib/store.js';

export function Erasures() {
  const list = useResource('/erasures', { kinds: ['erasure.'] });
  const [asking, setAsking] = useState(false), [doing, setDoing] = useState(/** @type {{of: any, dataset?: string} | null} */ (null));
  return html`<${Block} title="Requests for erasure" actions=${html`<${Deed} may="compliance.write" class="button" onClick=${() => setAsking(true)}><${Icon} name="plus" />Note a request…<//>`}>
    <${Show} of=${list}>${(/** @type {any} */ a) => (a.items.length ? html`<div class="stack">${a.items.map((/** @type {any} */ e) => html`<article class="card" key=${e.id}><div class="row wrap"><${State} of=${e.state === 'closed' ? 'completed' : e.due_at_ms < now.value ? 'alert' : 'pending'} word=${e.state === 'closed' ? 'closed' : e.due_at_ms < now.value ? 'overdue' : 'open'} /><b>${e.reference}</b><span class="quiet">by the column <code>${e.column_name}</code></span>
        <span class="muted end">${e.state === 'closed' ? html`closed <${Time} at=${e.closed_at_ms} />` : html`due ${due(e.due_at_ms, now.value)}`}, received <${Time} at=${e.received_at_ms} /></span></div>
      <ul>${e.datasets.map((/** @type {string} */ d) => { const done = e.outcome.find((/** @type {any} */ o) => o.dataset === d); return html`<li class=${`gate ${!done ? 'wait' : done.kept.length ? 'fail' : 'pass'}`} key=${d}><${State} of=${!done ? 'queued' : done.kept.length ? 'warning' : 'done'} word="" /><div class="stack tight"><span class="row"><${RefLink} to=${`dataset:${d}`} /><span>${!done ? 'not done yet' : `${done.rows} rows; ${done.deleted.length} versions deleted, ${done.made.length} made without them`}</span></span>
          ${done?.kept.map((/** @type {any} */ k) => html`<small class="breaks" key=${k.number}>Version ${k.number} still holds rows: ${k.why}</small>`)}
          ${done?.affected.length > 0 && html`<small>Rests on versions that held rows: ${done.affected.map((/** @type {string} */ r, /** @type {number} */ i) => html`${i ? ', ' : ''}<${RefLink} to=${r} key=${r} />`)}</small>`}</div>
          ${e.state === 'open' && html`<${Deed} may="compliance.write" class="button small" onClick=${() => setDoing({ of: e, dataset: d })}>${done ? 'Again…' : 'Erase…'}<//>`}</li>`; })}</ul>
      ${e.note && html`<p>“${e.note}”</p>`}${e.state === 'open' && html`<div class="row"><${Deed} may="compliance.write" class="button small end" onClick=${() => setDoing({ of: e })}>Close…<//></div>`}</article>`)}</div>`
      : html`<p class="muted">Nobody asked to be forgotten. A request is due within 30 days of the day it came; who it is about is not kept.</p><${Command} text="noria compliance erasure request DSR-2026-17 --column customer --dataset orders" />`)}<//>
    ${asking && html`<${Dialog} title="Note a request for erasure" deed="Note it" done="Noted" onClose=${() => setAsking(false)} act=${async (/** @type {FormData} */ f) => { await post('/erasures', { reference: String(f.get('reference')), column: String(f.get('column')), value: String(f.get('value')), datasets: String(f.get('datasets')).split(/[\s,]+/).filter(Boolean) }); list.reload(); }}>
      <${Field} label="Its number elsewhere" name="reference" required placeholder="DSR-2026-17" hint="Kept for ever, so let it be no name." /><${Field} label="Column that names the person" name="column" required /><${Field} label="The person’s value in it" name="value" required autocomplete="off" hint="Not kept: only a salted hash is, until the request is closed." /><${Field} label="Datasets" name="datasets" required placeholder="orders customers" /><//>`}
    ${doing?.dataset && html`<${Dialog} title=${`Erase from ${doing.dataset}`} deed="Erase the rows" danger done="Erased" onClose=${() => setDoing(null)} act=${async (/** @type {FormData} */ f) => { await post(`/erasures/${enc(doing.of.id)}/datasets/${enc(doing.dataset)}`, { value: String(f.get('value')) }); list.reload(); }}><p class="quiet">Every branch is made anew without the person’s rows, and older versions that have them are deleted unless something protects them; those are named. This cannot be taken back.</p><${Field} label="The person’s value, once more" name="value" required autocomplete="off" /><//>`}
    ${doing && !doing.dataset && html`<${Dialog} title=${`Close ${doing.of.reference}`} deed="Close the request" done="Closed" onClose=${() => setDoing(null)} act=${async (/** @type {FormData} */ f) => { await post(`/erasures/${enc(doing.of.id)}/close`, { note: String(f.get('note')) }); list.reload(); }}><${Field} as="textarea" label="What was done, or why it is refused" name="note" required /><//>`}<//>`;
}
