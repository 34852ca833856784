// @ts-check
/** Projects: the named parts of the workspace. */

import { html } from '../components/html.js';
import { Page, Filter } from '../components/page.js';
import { Table } from '../components/table.js';
import { Empty, Show } from '../components/empty.js';
import { RefLink, Time } from '../components/values.js';
import { useResource } from '../components/use.js';
import { enc } from '../lib/api.js';

/** @param {any} props */
export default function Projects({ query, setQuery }) {
  const list = useResource('/projects', { kinds: ['project.', 'thing.'] });
  const q = (query.get('q') ?? '').toLowerCase();
  return html`<${Page} crumbs=${[['Projects']]} loading=${list.loading} filter=${html`<${Filter} value=${query.get('q') ?? ''} onInput=${(/** @type {string} */ v) => setQuery({ q: v })} label="Filter projects" />`} actions=${html`<a class="button" href="/settings?tab=projects">Arrange…</a>`}>
    <${Show} of=${list}>${(/** @type {any} */ a) => (a.items.length === 0
      ? html`<${Empty} icon="layers" title="No projects yet." text="A project is a named part of the workspace with a page of its own: a readme, what happened, what answers, what it cost. A role on it counts on every thing in it." command="noria project create churn && noria project add churn model:churn" />`
      : html`<${Table} keys label="Projects" rows=${a.items.filter((/** @type {any} */ p) => `${p.name} ${p.description}`.toLowerCase().includes(q))} rowKey=${(/** @type {any} */ p) => p.name} href=${(/** @type {any} */ p) => `/projects/${enc(p.name)}`} columns=${[
        { key: 'n', label: 'Project', cell: (p) => p.name, sort: (p) => p.name }, { key: 'd', label: 'For', prose: true, cell: (p) => p.description || html`<span class="muted">–</span>` }, { key: 'p', label: 'In', cell: (p) => (p.parent ? html`<${RefLink} to=${`project:${p.parent}`} label=${p.parent} />` : html`<span class="muted">–</span>`) },
        { key: 't', label: 'Things', num: true, cell: (p) => p.things.length, sort: (p) => p.things.length }, { key: 'at', label: 'Since', cell: (p) => html`<${Time} at=${p.created_at_ms} />`, sort: (p) => p.created_at_ms }]} />`)}<//>
  <//>`;
}
