// @ts-check
/** Models by name: how many versions, which one each alias names. */

import { html } from '../components/html.js';
import { Page, Filter } from '../components/page.js';
import { Table } from '../components/table.js';
import { Empty, Show } from '../components/empty.js';
import { Aliases, Tags } from '../components/chips.js';
import { Time, Who } from '../components/values.js';
import { useResource } from '../components/use.js';

/** @param {any} props */
export default function Models({ query, setQuery }) {
  const list = useResource('/models?limit=500', { kinds: ['model'] });
  const q = (query.get('q') ?? '').toLowerCase();
  return html`<${Page} crumbs=${[['Models']]} loading=${list.loading} filter=${html`<${Filter} value=${query.get('q') ?? ''} onInput=${(/** @type {string} */ v) => setQuery({ q: v })} label="Filter models" />`}>
    <${Show} of=${list}>${(/** @type {any} */ a) => (a.items.length === 0
      ? html`<${Empty} icon="box" title="No models yet." text="A model is a line of versions; a version is files that never change, with where they came from." command=${`mlflow.sklearn.log_model(model, name="model", registered_model_name="flights")`} />`
      : html`<${Table} keys label="Models" rows=${a.items.filter((/** @type {any} */ m) => m.name.toLowerCase().includes(q))} rowKey=${(/** @type {any} */ m) => m.name} href=${(/** @type {any} */ m) => `/models/${encodeURIComponent(m.name)}`} columns=${[
        { key: 'name', label: 'Model', cell: (m) => m.name, sort: (m) => m.name },
        { key: 'latest', label: 'Latest', num: true, cell: (m) => (m.latest ? `@${m.latest}` : '–'), sort: (m) => m.latest },
        { key: 'aliases', label: 'Aliases', cell: (m) => html`<${Aliases} of=${(m.aliases ?? []).map((/** @type {any} */ x) => `${x.name} → ${x.version}`)} />` },
        { key: 'versions', label: 'Versions', num: true, cell: (m) => m.versions_count, sort: (m) => m.versions_count },
        { key: 'tags', label: 'Tags', cell: (m) => html`<${Tags} of=${m.tags} limit=${3} />` },
        { key: 'at', label: 'Changed', cell: (m) => html`<${Time} at=${m.updated_at_ms} />`, sort: (m) => m.updated_at_ms },
        { key: 'by', label: 'By', cell: (m) => html`<${Who} of=${m.actor} />` }]} />`)}<//>
  <//>`;
}
