// @ts-check
/** Datasets by name, each with its latest version. */

import { html } from '../components/html.js';
import { Page, Filter } from '../components/page.js';
import { Table } from '../components/table.js';
import { Empty, Show } from '../components/empty.js';
import { Aliases } from '../components/chips.js';
import { Time, Who } from '../components/values.js';
import { useResource } from '../components/use.js';
import { bytes, count } from '../lib/format.js';

/** @param {any} props */
export default function Datasets({ query, setQuery }) {
  const list = useResource('/datasets?limit=500', { kinds: ['dataset'] });
  const q = (query.get('q') ?? '').toLowerCase();
  return html`<${Page} crumbs=${[['Datasets']]} loading=${list.loading} filter=${html`<${Filter} value=${query.get('q') ?? ''} onInput=${(/** @type {string} */ v) => setQuery({ q: v })} label="Filter datasets" />`}>
    <${Show} of=${list}>${(/** @type {any} */ a) => { const rows = a.items.filter((/** @type {any} */ d) => d.name.toLowerCase().includes(q)); return a.items.length === 0
      ? html`<${Empty} icon="database" title="No datasets yet." text="A dataset is files with a history: each version is addressed by its content, and only what changed is stored and sent." command=${'noria data commit flights data/ -m "first"'} />`
      : html`<${Table} keys label="Datasets" rows=${rows} rowKey=${(/** @type {any} */ d) => d.name} href=${(/** @type {any} */ d) => `/datasets/${encodeURIComponent(d.name)}`} columns=${[
        { key: 'name', label: 'Dataset', cell: (d) => d.name, sort: (d) => d.name },
        { key: 'latest', label: 'Latest', num: true, cell: (d) => (d.latest ? `@${d.latest}` : '–'), sort: (d) => d.latest },
        { key: 'aliases', label: 'Aliases', cell: (d) => html`<${Aliases} of=${(d.aliases ?? []).map((/** @type {any} */ x) => `${x.name} → ${x.number}`)} />` },
        { key: 'files', label: 'Files', num: true, cell: (d) => count(d.files_count), sort: (d) => d.files_count },
        { key: 'rows', label: 'Rows', num: true, cell: (d) => count(d.rows_count), sort: (d) => d.rows_count },
        { key: 'size', label: 'Size', num: true, cell: (d) => bytes(d.size_bytes), sort: (d) => d.size_bytes },
        { key: 'at', label: 'Changed', cell: (d) => html`<${Time} at=${d.updated_at_ms} />`, sort: (d) => d.updated_at_ms },
        { key: 'by', label: 'By', cell: (d) => html`<${Who} of=${d.actor} />` }]} />`; }}<//>
  <//>`;
}
