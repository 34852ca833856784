// @ts-check
/** Compliance: what is on record of each system, requests for erasure, reviews of access, what must not be removed. */

import { useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Deed } from '../components/deed.js';
import { Icon } from '../components/icon.js';
import { Page } from '../components/page.js';
import { Empty, Show } from '../components/empty.js';
import { Tabs } from '../components/tabs.js';
import { Time } from '../components/values.js';
import { CheckMatrix } from '../components/check-matrix.js';
import { Erasures } from '../components/erasures.js';
import { Holds } from '../components/holds.js';
import { AccessReviews } from '../components/access-reviews.js';
import { SystemForm } from '../components/system-form.js';
import { Table } from '../components/table.js';
import { useResource } from '../components/use.js';
import { checksOf, measuredAt } from '../lib/compliance.js';

/** @param {any} props */
export default function Compliance({ query, setQuery, go }) {
  const matrix = useResource('/compliance', { kinds: ['compliance.', 'system.', 'waiver.'] });
  const catalogue = useResource('/compliance/checks');
  const people = useResource('/principals?limit=500'), models = useResource('/models?limit=100'), endpoints = useResource('/endpoints');
  const [registering, setRegistering] = useState(false);
  const tab = query.get('tab') ?? 'systems', framework = query.get('framework') ?? '';
  const things = [...(models.data?.items ?? []).map((/** @type {any} */ m) => `model:${m.name}`), ...(endpoints.data?.items ?? []).map((/** @type {any} */ e) => `endpoint:${e.name ?? e.endpoint?.name}`)];
  const button = html`<${Deed} may="compliance.write" class="button" onClick=${() => setRegistering(true)}><${Icon} name="plus" />Register a system…<//>`;
  const systems = () => html`<${Show} of=${matrix}>${(/** @type {any} */ m) => html`<${Show} of=${catalogue}>${(/** @type {any} */ c) => {
    const checks = checksOf(c.checks, framework), rows = m.rows, at = measuredAt(rows), any = rows.some((/** @type {any} */ r) => r.system);
    if (!any) return html`<${Empty} icon="shield-check" title="No system is registered." text="A system is what laws speak of: models and endpoints with one purpose, one owner, one class of risk. Once one is registered, everything on record of it is held against ${c.checks.length} checks, four times a day." command=${'noria system set flight-delays --owner ada --risk limited \\\n  --purpose "tells passengers of delays" --member model:flights'}>${button}<//>`;
    return html`<div class="stack"><div class="row wrap"><label class="row"><span class="quiet">Mapped to</span><select class="select" value=${framework} onChange=${(/** @type {any} */ e) => setQuery({ framework: e.currentTarget.value || null })}><option value="">everything</option>${c.frameworks.map((/** @type {any} */ f) => html`<option key=${f.id} value=${f.id} selected=${f.id === framework}>${f.title}</option>`)}</select></label>
        ${framework && html`<span class="muted">${c.frameworks.find((/** @type {any} */ f) => f.id === framework)?.edition}</span>`}<span class="muted end">A check says whether evidence is there, not that you comply.</span></div>
      <${CheckMatrix} rows=${rows} checks=${checks} />
      <small class="muted">Catalogue ${c.version} of ${c.date}. ${at ? html`Measured <${Time} at=${at} />.` : 'Not measured yet.'}</small></div>`; }}<//>`}<//>`;
  return html`<${Page} crumbs=${[['Compliance']]} loading=${matrix.loading} actions=${tab === 'systems' && button}>
    <${Tabs} label="Compliance" value=${tab} onChange=${(/** @type {string} */ t) => setQuery({ tab: t === 'systems' ? null : t })} tabs=${[
      { id: 'systems', label: 'Systems', body: systems },
      { id: 'checks', label: 'Checks', body: () => html`<${Show} of=${catalogue}>${(/** @type {any} */ c) => html`<${Table} label="Checks" rows=${c.checks} columns=${[{ key: 'id', label: 'Check', cell: (r) => html`<span class="mono nowrap">${r.id}</span>` }, { key: 'a', label: 'Asks', prose: true, cell: (r) => html`<b>${r.title}</b><br />${r.asks}` }, { key: 'p', label: 'Passes when', prose: true, cell: (r) => r.passes }, { key: 'm', label: 'Mapped to', prose: true, cell: (r) => Object.entries(r.maps).map(([k, v]) => `${c.frameworks.find((/** @type {any} */ f) => f.id === k)?.title} ${v}`).join('; ') }]} />`}<//>` },
      { id: 'reviews', label: 'Access reviews', body: () => html`<${AccessReviews} open=${query.get('review') ?? ''} onOpen=${(/** @type {string | null} */ id) => setQuery({ review: id })} />` },
      { id: 'erasures', label: 'Erasure requests', body: () => html`<${Erasures} />` },
      { id: 'holds', label: 'Retention and holds', body: () => html`<${Holds} />` }]} />
    ${registering && html`<${SystemForm} system=${null} people=${people.data?.items ?? []} things=${things} onClose=${() => setRegistering(false)} onSaved=${(/** @type {string} */ name) => go(`/compliance/${encodeURIComponent(name)}`)} />`}
  <//>`;
}
