// @ts-check
/** What a shadow said otherwise than what callers got, and which of the two the truth agrees with. */

import { html } from './html.js';
import { Block } from './page.js';
import { Table } from './table.js';
import { Id, Kv, Num, Time } from './values.js';
import { useResource } from './use.js';
import { enc, withQuery } from '../lib/api.js';
import { count, percent } from '../lib/format.js';

/** @param {{name: string, revision: string}} props */
export function Shadow({ name, revision }) {
  const found = useResource(withQuery(`/endpoints/${enc(name)}/disagreements`, { revision, limit: 50 }), { kinds: ['truth.', 'window.', 'segment.'], every: 5000 });
  const d = found.data;
  if (!d) return html`<${Block} title="In the shadow"><p class="muted">${found.error && found.error.status !== 404 ? found.error.message : 'It gets a copy of every request; nothing it said has been recorded yet.'}</p><//>`;
  const judged = d.answer_right + d.shadow_right;
  return html`<${Block} title=${`In the shadow: ${d.model_version}`} count=${d.differ}><div class="stack"><p>${d.words}</p>
    <${Kv} class="facts" items=${[['Compared', count(d.compared)], ['Said something else', d.share === null ? '–' : html`<span>${percent(d.share)} <span class="muted">${percent(d.low)} to ${percent(d.high)}</span></span>`], ['Scores apart, on average', html`<${Num} value=${d.score_difference} />`], ['Right where they differ', judged ? `shadow ${d.shadow_right}, answer ${d.answer_right}` : html`<span class="muted">no truth yet</span>`]]} />
    ${d.items.length > 0 && html`<${Table} label="Disagreements" rows=${d.items} rowKey=${(/** @type {any} */ r) => r.prediction_id} columns=${[
      { key: 'at', label: 'When', cell: (r) => html`<${Time} at=${r.event_at_ms} />`, sort: (r) => r.event_at_ms }, { key: 'id', label: 'Prediction', cell: (r) => html`<a href=${`/passports/${enc(r.prediction_id)}`}><${Id} value=${r.prediction_id} /></a>` }, { key: 'key', label: 'Key', cell: (r) => r.key || html`<span class="muted">–</span>` },
      { key: 'a', label: 'Answer', num: true, cell: (r) => said(r.answer, r.answer_score, r.truth) }, { key: 's', label: 'Shadow', num: true, cell: (r) => said(r.shadow, r.shadow_score, r.truth) }, { key: 't', label: 'Truth', num: true, cell: (r) => r.truth ?? html`<span class="muted">–</span>` }]} />`}</div><//>`;
}

/** @param {string | null} word @param {number | null} score @param {string | null} truth */
function said(word, score, truth) {
  const shown = word === null ? html`<span class="muted">nothing</span>` : html`<b class=${truth !== null && truth === word ? 'ok' : ''}>${word}</b>`;
  return html`<span>${shown}${score !== null && String(score) !== word ? html` <span class="muted"><${Num} value=${score} /></span>` : ''}</span>`;
}
