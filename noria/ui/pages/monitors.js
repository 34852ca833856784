// @ts-check
/** What is watched, how it stands, and what is open. */

import { html } from '../components/html.js';
import { Icon } from '../components/icon.js';
import { Watching } from '../components/watching.js';
import { Page, Block, Filter } from '../components/page.js';
import { Table } from '../components/table.js';
import { Empty, Show } from '../components/empty.js';
import { State } from '../components/state.js';
import { Sparkline } from '../components/sparkline.js';
import { Alerts } from '../components/alerts.js';
import { Num, RefLink, Time } from '../components/values.js';
import { useResource } from '../components/use.js';
import { enc } from '../lib/api.js';
import { duration } from '../lib/format.js';

/** @param {any} props */
export default function Monitors({ query, setQuery }) {
  const list = useResource('/monitors?limit=200', { kinds: ['monitor.', 'alert.', 'window.'] });
  const alerts = useResource('/alerts?limit=40', { kinds: ['alert.'] });
  const endpoints = useResource('/endpoints?limit=200', { kinds: ['endpoint.'] });
  const q = (query.get('q') ?? '').toLowerCase();
  const open = (alerts.data?.items ?? []).filter((/** @type {any} */ a) => a.state === 'open');
  return html`<${Page} crumbs=${[['Monitors']]} loading=${list.loading} filter=${html`<${Filter} value=${query.get('q') ?? ''} onInput=${(/** @type {string} */ v) => setQuery({ q: v })} label="Filter monitors" />`} actions=${html`<a class="button" href="/channels"><${Icon} name="radio-tower" />Channels</a>`}>
    ${open.length > 0 && html`<${Block} title="Open alerts" count=${open.length}><${Alerts} rows=${open} /><//>`}
    <${Show} of=${list}>${(/** @type {any} */ a) => (a.items.length === 0
      ? html`<${Empty} icon="gauge" title="Nothing is watched yet." text="A monitor compares what an endpoint sees and says with a reference, window by window of event time, and opens an alert when k of n windows are over its limit." command="noria monitor create temperature --endpoint flights --metric psi --limit 0.25 --column temp --reference dataset:flights@1" />`
      : html`<${Block} title="Models"><${Watching} monitors=${a.items} endpoints=${endpoints.data?.items ?? []} /><//><${Block} title="Monitors"><${Table} keys label="Monitors" rows=${a.items.filter((/** @type {any} */ m) => `${m.name} ${m.endpoint}`.toLowerCase().includes(q))} rowKey=${(/** @type {any} */ m) => m.name} href=${(/** @type {any} */ m) => `/monitors/${enc(m.name)}`} columns=${[
        { key: 'n', label: 'Monitor', cell: (m) => m.name, sort: (m) => m.name }, { key: 's', label: 'State', cell: (m) => html`<${State} of=${m.state === 'open' ? 'alert' : m.state} />`, sort: (m) => m.state }, { key: 'e', label: 'Endpoint', cell: (m) => html`<${RefLink} to=${`endpoint:${m.endpoint}`} />` },
        { key: 'm', label: 'Watches', cell: (m) => html`${m.spec.metric} <span class="muted">over ${duration(m.spec.window_s * 1000)}, ${m.spec.k} of ${m.spec.n}</span>` }, { key: 'w', label: 'Latest windows', cell: (m) => html`<${Spark} monitor=${m} />` },
        { key: 'l', label: 'Limit', num: true, cell: (m) => html`<${Num} value=${m.spec.limit} />` }, { key: 'at', label: 'Judged until', cell: (m) => html`<${Time} at=${m.judged_until_ms} />` }]} /><//>`)}<//>
    ${(alerts.data?.items?.length ?? 0) > open.length && html`<${Block} title="Past alerts"><${Alerts} rows=${alerts.data.items.filter((/** @type {any} */ x) => x.state !== 'open')} /><//>`}
  <//>`;
}

/** @param {{monitor: any}} props */
function Spark({ monitor }) {
  const windows = useResource(`/monitors/${enc(monitor.name)}/windows?limit=30`, { kinds: ['window.'], subjects: [`monitor:${monitor.name}`, `monitor:${monitor.id}`] });
  const values = [...(windows.data?.items ?? [])].sort((a, b) => a.end_ms - b.end_ms).map((w) => w.value);
  return html`<${Sparkline} values=${values} limit=${monitor.spec.limit} label=${monitor.spec.metric} />`;
}
