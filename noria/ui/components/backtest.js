// @ts-check
/** What a monitor would have said with other limits: asked of the past, nothing is written. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Block } from './page.js';
import { Field } from './dialog.js';
import { Table } from './table.js';
import { Num, Time } from './values.js';
import { post } from '../lib/api.js';
import { sayError } from '../lib/store.js';

/** @param {{spec: any}} props */
export function Backtest({ spec }) {
  const [found, setFound] = useState(/** @type {any} */ (null)), [busy, setBusy] = useState(false);
  /** @param {any} e */
  const submit = (e) => {
    e.preventDefault();
    const form = new FormData(e.currentTarget), of = (/** @type {string} */ k) => Number(form.get(k));
    setBusy(true);
    post('/monitors/backtest', { spec: { ...spec, limit: of('limit'), k: of('k'), n: Math.max(of('k'), of('n')), clear_limit: of('limit') === spec.limit ? spec.clear_limit : null }, days: of('days') }).then(setFound, sayError).finally(() => setBusy(false));
  };
  return html`<${Block} title="Back-test" actions=${html`<span class="muted">nothing is written</span>`}><div class="stack"><form class="row wrap bottom" onSubmit=${submit}>
      <${Field} label="Limit" name="limit" type="number" step="any" required value=${spec.limit} /><${Field} label="Windows over it" name="k" type="number" min="1" max="100" required value=${spec.k} /><${Field} label="Of the last" name="n" type="number" min="1" max="100" required value=${spec.n} /><${Field} label="Days back" name="days" type="number" min="0.01" max="3660" step="any" required value="30" />
      <button type="submit" class="button" disabled=${busy}>${busy ? 'Looking back' : 'How often would it have fired?'}</button></form>
    ${found && html`<div class="stack"><p role="status"><b>${found.words || found.note}</b>${found.words && found.note ? ` ${found.note}` : ''}</p>
      ${found.alerts.length > 0 && html`<${Table} label="Alerts it would have opened" rows=${found.alerts} rowKey=${(/** @type {any} */ a) => a.opened_event_at_ms} columns=${[{ key: 'o', label: 'Opened', cell: (a) => html`<${Time} at=${a.opened_event_at_ms} absolute />` }, { key: 'r', label: 'Resolved', cell: (a) => (a.resolved_event_at_ms ? html`<${Time} at=${a.resolved_event_at_ms} absolute />` : html`<span class="muted">open still</span>`) }, { key: 'v', label: spec.metric, num: true, cell: (a) => html`<${Num} value=${a.value} />` }, { key: 'w', label: 'Why', prose: true, cell: (a) => a.why }]} />`}</div>`}</div><//>`;
}
