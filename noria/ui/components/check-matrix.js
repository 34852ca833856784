// @ts-check
/** Systems × checks: a glyph where they meet, one click from its evidence. */

import { html } from './html.js';
import { Glyph } from './state.js';
import { STATES, counts, families } from '../lib/compliance.js';
import { enc } from '../lib/api.js';

/** @param {{rows: any[], checks: any[]}} props */
export function CheckMatrix({ rows, checks }) {
  const groups = families(checks);
  return html`<div class="table-wrap" tabindex="0" role="region" aria-label="Systems and checks"><table class="table matrix" aria-label="Systems and checks">
    <thead><tr><th scope="col" rowspan="2">System</th><th scope="col" rowspan="2">Stands</th>${groups.map(([name, list]) => html`<th key=${name} scope="colgroup" colspan=${list.length} class="family">${name}</th>`)}</tr>
      <tr>${checks.map((c, i) => html`<th key=${c.id} scope="col" class=${`cell ${i === 0 || c.id.split('-')[0] !== checks[i - 1].id.split('-')[0] ? 'first' : ''}`} title=${`${c.id}: ${c.title}`}>${c.id.split('-')[1]}<span class="sr"> ${c.title}</span></th>`)}</tr></thead>
    <tbody>${rows.map((r) => html`<tr key=${r.name}><th scope="row"><a class="main" href=${`/compliance/${enc(r.name)}`}>${r.system ? r.system.spec.title || r.name : 'The whole installation'}</a>${r.system && html`<small class="muted"> ${r.system.spec.risk} risk</small>`}</th>
      <td class="nowrap">${counts(r.states, checks).filter(([s]) => s !== 'not_applicable').map(([s, n]) => html`<span key=${s} class=${`state ${STATES[s].tone} tally`} title=${`${n} ${STATES[s].word}`}><${Glyph} tone=${STATES[s].tone} />${n}</span>`)}${!r.at_ms && html`<span class="muted">not measured yet</span>`}</td>
      ${checks.map((c, i) => { const s = r.states[c.id], first = i === 0 || c.id.split('-')[0] !== checks[i - 1].id.split('-')[0]; return html`<td key=${c.id} class=${`cell ${first ? 'first' : ''}`}>${!s ? '' : s === 'not_applicable' ? html`<span class="muted" title=${`${c.id}: not for it`}>·<span class="sr">not for it</span></span>`
        : html`<a href=${`/compliance/${enc(r.name)}?check=${c.id}`} class=${`state ${STATES[s].tone}`} title=${`${c.id} ${c.title}: ${STATES[s].word}`} aria-label=${`${c.id} of ${r.name}: ${STATES[s].word}`}><${Glyph} tone=${STATES[s].tone} /></a>`}</td>`; })}</tr>`)}</tbody></table></div>`;
}
