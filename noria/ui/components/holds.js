// @ts-check
/** What must not be removed: the rule for evidence, and legal holds. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Deed } from './deed.js';
import { Icon } from './icon.js';
import { Block } from './page.js';
import { Command, Show } from './empty.js';
import { Dialog, Field } from './dialog.js';
import { State } from './state.js';
import { Table } from './table.js';
import { Kv, RefLink, Time, Who } from './values.js';
import { useResource } from './use.js';
import { api, enc, post } from '../lib/api.js';

export function Holds() {
  const rule = useResource('/retention', { kinds: ['retention.', 'compliance.'] }), holds = useResource('/legal-holds', { kinds: ['legal_hold.'] });
  const [asking, setAsking] = useState(/** @type {'rule' | 'hold' | null} */ (null)), [releasing, setReleasing] = useState(/** @type {any} */ (null));
  return html`<div class="stack loose"><${Block} title="Evidence of systems of high risk" actions=${html`<${Deed} may="compliance.waive" class="button" onClick=${() => setAsking('rule')}>Change…<//>`}>
      <${Show} of=${rule}>${(/** @type {any} */ r) => html`<${Kv} items=${[['Kept for', `${r.evidence_days.toLocaleString('en')} days after it was last in production`], ['Protected now', `${r.kept} versions, runs and dataset versions`], ['Set by', r.actor ? html`<${Who} of=${r.actor} /> <${Time} at=${r.updated_at_ms} />: “${r.reason}”` : 'nobody: ten years, as Article 18 of the EU AI Act asks']]} />`}<//><//>
    <${Block} title="Legal holds" actions=${html`<${Deed} may="compliance.waive" class="button" onClick=${() => setAsking('hold')}><${Icon} name="lock" />Hold something…<//>`}>
      <${Show} of=${holds}>${(/** @type {any} */ a) => (a.items.length ? html`<${Table} label="Legal holds" rows=${a.items} columns=${[{ key: 's', label: 'Held', cell: (h) => html`<${RefLink} to=${h.subject} icon />` }, { key: 'w', label: 'Why', prose: true, cell: (h) => h.reason }, { key: 'by', label: 'By', cell: (h) => html`<${Who} of=${h.actor} />` }, { key: 'at', label: 'Since', cell: (h) => html`<${Time} at=${h.created_at_ms} />` }, { key: 'x', label: 'State', cell: (h) => (h.released_at_ms ? html`<${State} of="idle" word="released" /> <span class="muted"><${Who} of=${h.released_by} />: “${h.release_reason}”</span>` : html`<span class="row"><${State} of="sealed" word="held" /><${Deed} may="compliance.waive" class="button small" aria-label=${`Release ${h.subject}`} onClick=${() => setReleasing(h)}>Release…<//></span>`) }]} />`
        : html`<p class="muted">Nothing is held. What is held cannot be deleted by anybody, in any way, until it is released with a reason.</p><${Command} text=${'noria compliance hold model_version:ID --reason "case 2026-17, legal department"'} />`)}<//><//>
    ${asking === 'rule' && html`<${Dialog} title="How long evidence is kept" deed="Keep it so long" done="Changed" onClose=${() => setAsking(null)} act=${async (/** @type {FormData} */ f) => { await api('/retention', { method: 'PUT', body: { evidence_days: Number(f.get('days')), reason: String(f.get('reason')) } }); rule.reload(); }}><${Field} label="Days after it was last in production" name="days" type="number" min="0" max="36600" required defaultValue=${rule.data?.evidence_days} /><${Field} as="textarea" label="Why" name="reason" required /><//>`}
    ${asking === 'hold' && html`<${Dialog} title="Hold something" deed="Hold it" done="Held" onClose=${() => setAsking(null)} act=${async (/** @type {FormData} */ f) => { await post('/legal-holds', { subject: String(f.get('subject')), reason: String(f.get('reason')) }); holds.reload(); }}><${Field} label="What" name="subject" required placeholder="model:flights, run:…, dataset_version:…" hint="A model, a model version, a dataset version, a run or a logged model." /><${Field} as="textarea" label="Why" name="reason" required /><//>`}
    ${releasing && html`<${Dialog} title="Release the hold" deed="Release it" danger done="Released" onClose=${() => setReleasing(null)} act=${async (/** @type {FormData} */ f) => { await post(`/legal-holds/${enc(releasing.id)}/release`, { reason: String(f.get('reason')) }); holds.reload(); }}><p class="quiet">It may then be deleted by whoever may delete it.</p><${Field} as="textarea" label="Why" name="reason" required /><//>`}</div>`;
}
