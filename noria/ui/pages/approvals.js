// @ts-check
/** What waits for somebody's yes or no, and what was answered. */

import { useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Deed } from '../components/deed.js';
import { Page, Block } from '../components/page.js';
import { Empty, Show } from '../components/empty.js';
import { Dialog, Field } from '../components/dialog.js';
import { State } from '../components/state.js';
import { ApprovalReview } from '../components/approval-review.js';
import { Table } from '../components/table.js';
import { Id, Kv, RefLink, Time, Who } from '../components/values.js';
import { useResource } from '../components/use.js';
import { enc, post } from '../lib/api.js';

/** @param {any} props */
export default function Approvals({ query, setQuery }) {
  const list = useResource('/approvals?limit=100', { kinds: ['approval.'] });
  const policies = useResource('/policies?limit=100', { kinds: ['policy.'] });
  const [answer, setAnswer] = useState(/** @type {{of: any, what: 'approve' | 'reject'} | null} */ (null));
  return html`<${Page} crumbs=${[['Audit', '/audit'], ['Approvals']]} loading=${list.loading}>
    <${Show} of=${list}>${(/** @type {any} */ a) => { const waiting = a.items.filter((/** @type {any} */ x) => x.state === 'pending'), past = a.items.filter((/** @type {any} */ x) => x.state !== 'pending'); return html`
      <${Block} title="Waiting" count=${waiting.length || null}>${waiting.length ? html`<div class="stack">${waiting.map((/** @type {any} */ x) => html`<article class="card" key=${x.id}><div class="row wrap"><${State} of="awaiting_approval" word=${`${x.votes.filter((/** @type {any} */ v) => v.decision === 'approve').length} of ${x.required}`} /><b>${x.action.replaceAll('.', ' ')}</b><${RefLink} to=${x.subject} icon /><span class="muted end">asked by <${Who} of=${x.requested_by} /> <${Time} at=${x.created_at_ms} />, ends <${Time} at=${x.expires_at_ms} /></span></div>
          ${x.comment && html`<p>“${x.comment}”</p>`}
          <${Kv} items=${[['Bytes', html`<${Id} value=${x.digest} />`], ['Who may', [...x.roles, ...x.teams.map((/** @type {string} */ g) => `team ${g}`)].join(', ') || 'whoever may approve, except its authors'], ['Authors', x.authors.map((/** @type {string} */ w, /** @type {number} */ i) => html`${i ? ', ' : ''}<${Who} of=${w} />`)]]} />
          <div class="row"><button type="button" class="button primary" onClick=${() => setQuery({ id: x.id })}>Look at it…</button><${Deed} may="approval.decide" on=${x.subject} class="button" onClick=${() => setAnswer({ of: x, what: 'approve' })}>Approve…<//><${Deed} may="approval.decide" on=${x.subject} class="button danger" onClick=${() => setAnswer({ of: x, what: 'reject' })}>Reject…<//></div></article>`)}</div>`
        : html`<${Empty} icon="shield-check" title="Nothing waits for an approval." text="A policy can ask for approvals before an alias moves or traffic does; then the question is here, with its evidence." command=${`cat > two-eyes.yaml <<'YAML'\nkind: Policy\nname: two-eyes\naction: model.promote\nmatch: {aliases: [champion]}\nconditions:\n  - {type: min_approvals, count: 1}\n  - {type: approver_not_author}\nYAML\nnoria apply -f two-eyes.yaml`} />`}<//>
      ${past.length > 0 && html`<${Block} title="Answered"><${Table} label="Answered approvals" rows=${past} columns=${[{ key: 's', label: 'State', cell: (x) => html`<button type="button" onClick=${() => setQuery({ id: x.id })}><${State} of=${x.is_emergency ? 'failed' : x.state} word=${x.is_emergency ? 'overridden' : x.state} /></button>` }, { key: 'a', label: 'Action', cell: (x) => x.action.replaceAll('.', ' ') }, { key: 'on', label: 'On', cell: (x) => html`<${RefLink} to=${x.subject} />` }, { key: 'by', label: 'Votes', prose: true, cell: (x) => x.votes.map((/** @type {any} */ v) => html`<span key=${v.at_ms}><${Who} of=${v.actor} /> ${v.decision === 'approve' ? 'approved' : v.decision === 'reject' ? 'rejected' : 'overrode'}${v.comment ? `: “${v.comment}”` : ''} </span>`) }, { key: 'at', label: 'Asked', cell: (x) => html`<${Time} at=${x.created_at_ms} />` }, { key: 'end', label: 'Closed', cell: (x) => html`<${Time} at=${x.closed_at_ms} />` }]} /><//>`}`; }}<//>
    ${policies.data?.items?.length > 0 && html`<${Block} title="Policies"><${Table} label="Policies" rows=${policies.data.items} rowKey=${(/** @type {any} */ p) => p.name} columns=${[{ key: 'n', label: 'Policy', cell: (p) => p.name }, { key: 'a', label: 'Guards', cell: (p) => p.action.replaceAll('.', ' ') }, { key: 'c', label: 'Asks for', prose: true, cell: (p) => p.conditions.map((/** @type {any} */ c) => conditionText(c)).join('; ') }, { key: 'm', label: 'Mode', cell: (p) => html`<${State} of=${!p.enabled ? 'paused' : p.mode === 'enforce' ? 'enabled' : 'warning'} word=${!p.enabled ? 'off' : p.mode} />` }, { key: 'v', label: 'Version', num: true, cell: (p) => p.version }, { key: 'at', label: 'Changed', cell: (p) => html`<${Time} at=${p.updated_at_ms} />` }]} /><//>`}
    ${query.get('id') && html`<${ApprovalReview} id=${query.get('id')} onClose=${() => setQuery({ id: null })} onAnswer=${(/** @type {any} */ x) => { setQuery({ id: null }); setAnswer(x); }} />`}
    ${answer && html`<${Dialog} title=${`${answer.what === 'approve' ? 'Approve' : 'Reject'}: ${answer.of.action.replaceAll('.', ' ')}`} deed=${answer.what === 'approve' ? 'Approve these bytes' : 'Reject'} danger=${answer.what === 'reject'} done=${answer.what === 'approve' ? 'Approved' : 'Rejected'} onClose=${() => setAnswer(null)} act=${async (/** @type {FormData} */ f) => { await post(`/approvals/${enc(answer.of.id)}/${answer.what}`, { comment: String(f.get('comment') ?? ''), digest: answer.of.digest }); list.reload(); }}>
      <p class="quiet">Your answer is for exactly the bytes <code>${answer.of.digest.slice(0, 12)}</code>; if they change, the question is asked anew.</p><${Field} as="textarea" label="Why" name="comment" required=${answer.what === 'reject'} /><//>`}
  <//>`;
}

/** A condition in words. Pure. @param {any} c */
export function conditionText(c) {
  switch (c.type) {
    case 'min_approvals': return `${c.count} approval${c.count === 1 ? '' : 's'}${c.role ? ` by the role ${c.role}` : ''}${c.team ? ` by the team ${c.team}` : ''}`;
    case 'approver_not_author': return 'an approver who is not the author';
    case 'metric': return `${c.path} ${c.op} ${c.than ? `${c.than}${c.margin ? ` ${c.margin > 0 ? '+' : '−'} ${Math.abs(c.margin)}` : ''}` : c.value}`;
    case 'evaluation_on_same_holdout': return 'measured on the champion’s data';
    case 'evidence': return `evidence at ${c.paths.join(', ')}`;
    case 'hook': return `a yes from ${c.webhook}`;
    case 'scan': return `a scan that says ${c.status?.join(' or ') || 'clean'}`;
    case 'cel': return c.says || c.expression;
    default: return c.type;
  }
}
