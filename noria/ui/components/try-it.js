// @ts-check
/** A form that asks an endpoint: a field for each input of the model, filled from its example. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Block } from './page.js';
import { Field } from './dialog.js';
import { Kv, Num } from './values.js';
import { useResource } from './use.js';
import { enc, post } from '../lib/api.js';
import { byWeight, rowsOfExample, typed } from '../lib/example.js';
import { duration, num } from '../lib/format.js';

const FIELDS_MAX = 24;

/** @param {{name: string, model: string, version: number}} props */
export function TryIt({ name, model, version }) {
  const found = useResource(`/models/${enc(model)}/versions/${version}`);
  const [answer, setAnswer] = useState(/** @type {any} */ (null)), [asking, setAsking] = useState(false);
  const table = rowsOfExample(found.data?.version?.input_example);
  if (!found.data) return null;
  if (!table?.rows.length || table.columns.length > FIELDS_MAX) return html`<${Block} title="Try it"><p class="muted">${table ? `The model takes ${table.columns.length} inputs; ask it with the command below.` : 'The model was logged without an input example, so there is no form; ask it with the command below.'}</p><//>`;
  const example = Object.fromEntries(table.columns.map((c, i) => [c, table.rows[0][i]]));
  const ask = async (/** @type {any} */ e) => {
    e.preventDefault();
    const form = new FormData(e.currentTarget), row = Object.fromEntries(table.columns.map((c) => [c, typed(String(form.get(c) ?? ''), example[c])]));
    setAsking(true);
    try { setAnswer(await post(`/endpoints/${enc(name)}/try`, { rows: [row], key: String(form.get('key:') ?? ''), explain: form.get('explain:') === 'on' })); } catch (error) { setAnswer({ error }); } finally { setAsking(false); }
  };
  return html`<${Block} title="Try it" actions=${html`<span class="muted">it is recorded like any other request</span>`}><form class="stack try-it" onSubmit=${ask}>
    <div class="fields">${table.columns.map((c) => html`<${Field} key=${c} label=${c} name=${c} value=${example[c] ?? ''} inputmode=${typeof example[c] === 'number' ? 'decimal' : undefined} autocomplete="off" />`)}<${Field} label="Key" name="key:" placeholder="decides the side of a split" autocomplete="off" /></div>
    <div class="row"><button type="submit" class="button primary" disabled=${asking}>Ask</button><label class="row quiet"><input type="checkbox" name="explain:" />and explain the answer</label></div>
    <div aria-live="polite">${answer && (answer.error ? html`<p class="bad">${answer.error.message}${answer.error.hint ? ` ${answer.error.hint}` : ''}</p>`
      : html`<${Kv} class="facts" items=${[['Answer', html`<b>${JSON.stringify(answer.predictions?.length === 1 ? answer.predictions[0] : answer.predictions)}</b>`], ['By', answer.model], ['In', duration(answer.latency_ms)], ['Prediction', html`<a href=${`/passports/${enc(answer.prediction_id)}`}><code>${answer.prediction_id.slice(0, 8)}</code></a>`]]} /><${Contributions} of=${answer} />`)}</div></form><//>`;
}

/** What each feature added to the answer, the largest first; or why that is not known. @param {{of: any}} props */
function Contributions({ of: answer }) {
  const one = answer.explanations[0];
  if (!one) return answer.refusal ? html`<p class="muted">${answer.refusal}</p>` : null;
  const parts = byWeight(one.contributions), most = Math.max(...parts.map((p) => Math.abs(p.value)), 1e-12);
  return html`<table class="table contributions"><caption class="quiet">${answer.space}: ${[one.total].flat().map((v) => num(v)).join(', ')}, of which ${[one.base].flat().map((v) => num(v)).join(', ')} for any row, and</caption>
    <thead><tr><th scope="col">Feature</th><th scope="col" class="num">adds</th><td></td></tr></thead>
    <tbody>${parts.map((p) => html`<tr key=${p.name}><th scope="row">${p.name}</th><td class="num"><${Num} value=${p.value} /></td><td><meter class=${p.value < 0 ? 'less' : ''} min="0" max="1" value=${Math.abs(p.value) / most} aria-label=${`${p.name}: ${num(p.value)}`}></meter></td></tr>`)}</tbody></table>`;
}
