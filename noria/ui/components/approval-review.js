// @ts-check
/** Everything about one approval on one sheet: the question, its evidence against the champion's, what would change, who answered. */

import { html } from './html.js';
import { Deed } from './deed.js';
import { Against } from './against.js';
import { Block } from './page.js';
import { Icon } from './icon.js';
import { JsonView } from './json-view.js';
import { Sheet } from './sheet.js';
import { State } from './state.js';
import { Show } from './empty.js';
import { Table } from './table.js';
import { Delta, Id, Kv, Num, RefLink, Time, Who } from './values.js';
import { useResource } from './use.js';
import { enc, post } from '../lib/api.js';
import { direction } from '../lib/format.js';
import { say, sayError } from '../lib/store.js';

/** @param {{id: string, onClose: () => void, onAnswer: (what: {of: any, what: 'approve' | 'reject'}) => void}} props */
export function ApprovalReview({ id, onClose, onAnswer }) {
  const found = useResource(`/approvals/${enc(id)}`, { kinds: ['approval.'] }), a = found.data;
  return html`<${Sheet} title=${a ? `${a.action.replaceAll('.', ' ')}: ${a.state}` : 'Approval'} onClose=${onClose}><${Show} of=${found}>${() => html`<div class="stack loose">
    <${Kv} items=${[['State', html`<${State} of=${a.state === 'pending' ? 'awaiting_approval' : a.state} word=${a.is_emergency ? 'overridden in an emergency' : a.state} />`], ['On', html`<${RefLink} to=${a.subject} icon />`], ['Asked by', html`<span><${Who} of=${a.requested_by} /> <${Time} at=${a.created_at_ms} /></span>`], ['Why', a.comment], ['Exactly these bytes', html`<${Id} value=${a.digest} />`], ['Who may answer', [...a.roles.map((/** @type {string} */ r) => `the role ${r}`), ...a.teams.map((/** @type {string} */ t) => `the team ${t}`)].join(', ') || 'whoever may approve'], ['Who may not', html`<span>${a.authors.map((/** @type {string} */ w, /** @type {number} */ i) => html`${i ? ', ' : ''}<${Who} of=${w} />`)}</span>`], [a.state === 'pending' ? 'Open until' : 'Counts until', html`<${Time} at=${a.expires_at_ms} />`]]} />
    <${Block} title="Answers" count=${`${a.votes.filter((/** @type {any} */ v) => v.decision === 'approve').length} of ${a.required}`}>${a.votes.length ? html`<div class="stack">${a.votes.map((/** @type {any} */ v) => html`<p key=${v.actor}><${Who} of=${v.actor} /> ${v.decision === 'approve' ? 'approved' : v.decision === 'reject' ? 'rejected' : 'overrode it'} <span class="muted"><${Time} at=${v.at_ms} />${v.teams?.length ? `, of ${v.teams.join(', ')}` : ''}</span>${v.comment ? html`<br />“${v.comment}”` : ''}</p>`)}</div>` : html`<p class="muted">Nobody answered yet.</p>`}<//>
    ${a.is_emergency && html`<${Override} of=${a} reload=${found.reload} />`}
    <${Block} title="Evidence"><${EvidenceView} of=${a.evidence} /><//>
    <${Changes} of=${a} />
    ${a.state === 'pending' && html`<div class="row"><${Deed} may="approval.decide" on=${a.subject} class="button primary" onClick=${() => onAnswer({ of: a, what: 'approve' })}>Approve these bytes…<//><${Deed} may="approval.decide" on=${a.subject} class="button danger" onClick=${() => onAnswer({ of: a, what: 'reject' })}>Reject…<//></div>`}
  </div>`}<//><//>`;
}

/** The numbers of the evidence beside the champion's, and all of it. @param {{of: any}} props */
function EvidenceView({ of: e }) {
  const ours = e?.evaluation?.metrics ?? {}, theirs = e?.champion_evaluation?.metrics ?? {}, keys = [...new Set([...Object.keys(ours), ...Object.keys(theirs)])].sort();
  if (!Object.keys(e ?? {}).length) return html`<p class="muted">Nothing was shown. Ask for it before you answer.</p>`;
  return html`<div class="stack">${keys.length > 0 && html`<${Table} label="Numbers" rows=${keys} rowKey=${(/** @type {string} */ k) => k} columns=${[{ key: 'k', label: 'Metric', cell: (k) => k }, { key: 'o', label: 'This', num: true, cell: (k) => html`<${Num} value=${ours[k]} digits=${5} />` }, { key: 't', label: 'Champion', num: true, cell: (k) => html`<${Num} value=${theirs[k]} digits=${5} />` }, { key: 'd', label: 'Difference', num: true, cell: (k) => (k in ours && k in theirs ? html`<${Delta} now=${ours[k]} was=${theirs[k]} better=${direction(k)} />` : '') }]} />`}
    <details open=${keys.length === 0}><summary class="quiet">All that was shown</summary><${JsonView} value=${e} /></details></div>`;
}

/** What the version changes against the champion. @param {{of: any}} props */
function Changes({ of: a }) {
  const e = a.evidence ?? {}, named = typeof e.model === 'string' && e.version;
  const page = useResource(named ? `/models/${enc(e.model)}/versions/${enc(String(e.version))}` : null), rival = useResource(named ? `/models/${enc(e.model)}/versions/${enc(String(e.champion ?? 'champion'))}` : null);
  if (!named || !page.data || !rival.data || rival.data.version.number === page.data.version.number) return null;
  return html`<${Block} title=${`Against the champion @${rival.data.version.number}`}><${Against} page=${page.data} rival=${rival.data} /><//>`;
}

/** @param {{of: any, reload: () => void}} props */
function Override({ of: a, reload }) {
  const review = async (/** @type {any} */ e) => { e.preventDefault(); try { await post(`/approvals/${enc(a.id)}/review`, { finding: String(new FormData(e.currentTarget).get('finding')) }); say({ tone: 'ok', text: 'Reviewed.' }); reload(); } catch (x) { sayError(x); } };
  if (a.reviewed_at_ms) return html`<div class="notice ok"><${Icon} name="shield-check" /><span><${Who} of=${a.reviewed_by} /> looked at it <${Time} at=${a.reviewed_at_ms} />: “${a.review}”</span></div>`;
  return html`<div class="notice bad"><${Icon} name="triangle-alert" /><form class="stack tight grow" onSubmit=${review}><span>One administrator went past the approval, alone. Somebody else has to look at it; until then everybody is told.</span><div class="row"><input class="input grow" name="finding" aria-label="What you found" placeholder="what you found" required /><button class="button">I looked at it</button></div></form></div>`;
}
