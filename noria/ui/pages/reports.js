// @ts-check
/** Reports: what people wrote about runs, models and data, with panels that stay true. */

import { useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Icon } from '../components/icon.js';
import { Page, Filter } from '../components/page.js';
import { Deed } from '../components/deed.js';
import { Dialog, Field } from '../components/dialog.js';
import { Empty, Show } from '../components/empty.js';
import { Table } from '../components/table.js';
import { Time, Who } from '../components/values.js';
import { useCommands, useResource } from '../components/use.js';
import { enc, post } from '../lib/api.js';

/** @param {any} props */
export default function Reports({ query, setQuery, go }) {
  const list = useResource('/reports?limit=500', { kinds: ['report.'] });
  const [beginning, setBeginning] = useState(query.get('new') === '1');
  const q = (query.get('q') ?? '').toLowerCase();
  const begin = () => setBeginning(true);
  useCommands([{ id: 'report.new', title: 'New report', icon: 'plus', group: 'Reports', run: begin }]);
  return html`<${Page} crumbs=${[['Reports']]} loading=${list.loading} filter=${html`<${Filter} value=${query.get('q') ?? ''} onInput=${(/** @type {string} */ v) => setQuery({ q: v })} label="Filter reports" />`}
      actions=${html`<${Deed} may="report.write" somewhere class="button primary" onClick=${begin}><${Icon} name="plus" />New report<//>`}>
    <${Show} of=${list}>${(/** @type {any} */ a) => (a.items.length === 0
      ? html`<${Empty} icon="file-text" title="No reports yet." text="A report is words with live panels between them: curves of chosen runs, a table by filter, a model, a dataset, a monitor, an endpoint. Every save is a version, and a link shows one to whoever should see it."><${Deed} may="report.write" somewhere class="button primary" onClick=${begin}><${Icon} name="plus" />Begin the first<//><//>`
      : html`<${Table} keys label="Reports" rows=${a.items.filter((/** @type {any} */ r) => r.title.toLowerCase().includes(q))} href=${(/** @type {any} */ r) => `/reports/${enc(r.id)}`} columns=${[
        { key: 't', label: 'Report', cell: (r) => r.title, sort: (r) => r.title }, { key: 'v', label: 'Version', num: true, cell: (r) => r.latest, sort: (r) => r.latest }, { key: 'by', label: 'Saved by', cell: (r) => html`<${Who} of=${r.updated_by} />`, sort: (r) => r.updated_by },
        { key: 'at', label: 'Saved', cell: (r) => html`<${Time} at=${r.updated_at_ms} />`, sort: (r) => r.updated_at_ms }, { key: 'b', label: 'Begun by', cell: (r) => html`<${Who} of=${r.created_by} />` }, { key: 'c', label: 'Begun', cell: (r) => html`<${Time} at=${r.created_at_ms} />`, sort: (r) => r.created_at_ms }]} />`)}<//>
    ${beginning && html`<${Dialog} title="New report" deed="Begin" onClose=${() => setBeginning(false)} act=${async (/** @type {FormData} */ f) => { const made = await post('/reports', { title: String(f.get('title')), project: String(f.get('project') ?? '').trim() }); go(`/reports/${made.id}?edit=1`); }}>
      <${Field} label="Title" name="title" required maxlength="200" autofocus /><${Field} label="Project" name="project" hint="Where it lies, if in one: a role there is then a role on it." /><//>`}
  <//>`;
}
