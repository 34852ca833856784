// @ts-check
/** Addresses that answer: what is wanted behind each, and how the traffic is split. */

import { html } from '../components/html.js';
import { Page, Filter } from '../components/page.js';
import { Table } from '../components/table.js';
import { Empty, Show } from '../components/empty.js';
import { State } from '../components/state.js';
import { SplitBar } from '../components/split-bar.js';
import { Sparkline } from '../components/sparkline.js';
import { RefLink, Time } from '../components/values.js';
import { useResource } from '../components/use.js';
import { enc } from '../lib/api.js';
import { num } from '../lib/format.js';
import { totalRate } from '../lib/traffic.js';

/** @param {any} props */
export default function Endpoints({ query, setQuery }) {
  const list = useResource('/endpoints?limit=200', { kinds: ['endpoint.', 'revision.', 'canary.'] });
  const q = (query.get('q') ?? '').toLowerCase();
  return html`<${Page} crumbs=${[['Endpoints']]} loading=${list.loading} filter=${html`<${Filter} value=${query.get('q') ?? ''} onInput=${(/** @type {string} */ v) => setQuery({ q: v })} label="Filter endpoints" />`}>
    <${Show} of=${list}>${(/** @type {any} */ a) => (a.items.length === 0
      ? html`<${Empty} icon="radio-tower" title="No endpoints yet." text="An endpoint is an address that answers with a model version; versions change behind it without a dropped request." command="noria endpoint deploy flights@champion --name flights" />`
      : html`<${Table} keys label="Endpoints" rows=${a.items.filter((/** @type {any} */ e) => e.name.toLowerCase().includes(q))} rowKey=${(/** @type {any} */ e) => e.name} href=${(/** @type {any} */ e) => `/endpoints/${enc(e.name)}`} columns=${[
        { key: 'n', label: 'Endpoint', cell: (e) => e.name, sort: (e) => e.name }, { key: 's', label: 'State', cell: (e) => html`<${State} of=${e.status} />`, sort: (e) => e.status }, { key: 'm', label: 'Model', cell: (e) => html`<${RefLink} to=${`model:${e.model}`} />` },
        { key: 'split', label: 'Split', cell: (e) => html`<${SplitBar} routes=${e.routes} model=${e.model} />` }, { key: 't', label: 'Requests, last hour', cell: (e) => html`<${Rate} name=${e.name} />` }, { key: 'at', label: 'Changed', cell: (e) => html`<${Time} at=${e.updated_at_ms || e.created_at_ms} />`, sort: (e) => e.updated_at_ms }]} />`)}<//>
  <//>`;
}

/** @param {{name: string}} props */
function Rate({ name }) {
  const from = Math.floor((Date.now() - 3_600_000) / 60_000) * 60_000;
  const traffic = useResource(`/endpoints/${enc(name)}/traffic?from_ms=${from}&step_s=60`, { every: 30_000 });
  const t = traffic.data;
  if (!t?.t?.length) return html`<span class="muted">none</span>`;
  const rate = totalRate(t);
  return html`<span class="row"><${Sparkline} values=${rate} label=${`Requests of ${name}`} zero /><span class="muted">${num(rate.reduce((s, v) => s + v, 0))}</span></span>`;
}
