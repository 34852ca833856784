// @ts-check
/** One dataset, or one version of it: its versions as a graph on the right, what is inside on the left – columns, files, samples, pictures, what is expected, and the difference to another version. */

import { useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Icon } from '../components/icon.js';
import { Page, Block } from '../components/page.js';
import { Table } from '../components/table.js';
import { Tabs } from '../components/tabs.js';
import { Command, Empty, Problem, Show } from '../components/empty.js';
import { Aliases, Chip } from '../components/chips.js';
import { DiffFiles } from '../components/diff.js';
import { TableDiff, TableProfile } from '../components/table-profile.js';
import { Expected } from '../components/expectations.js';
import { Pictures, isPicture } from '../components/pictures.js';
import { VersionGraph } from '../components/version-graph.js';
import { Id, Kv, Num, RefLink, Time, Who } from '../components/values.js';
import { Talk } from '../components/talk.js';
import { useResource } from '../components/use.js';
import { enc, href, withQuery } from '../lib/api.js';
import { bytes, count, percent, plural } from '../lib/format.js';
import { madeFrom } from '../lib/lineage.js';

/** @param {any} props */
export default function DatasetPage({ params, query, setQuery }) {
  const { dataset: name } = params, selector = params.selector ?? 'latest';
  const live = { kinds: ['dataset_version.', 'dataset_alias.', 'dataset_branch.', 'dataset_tag.', 'dataset.'] };
  const versions = useResource(`/datasets/${enc(name)}/versions?limit=200`, live);
  const version = useResource(`/datasets/${enc(name)}/versions/${enc(selector)}`, live);
  const v = version.data, history = versions.data?.items ?? [];
  const previous = v && history.find((/** @type {any} */ h) => v.parents?.includes(h.id)) || (v && history.find((/** @type {any} */ h) => h.number < v.number));
  const names = useResource(`/datasets/${enc(name)}/names`, live), usage = useResource('/datasets/blobs/usage', live);
  const lineage = useResource(v ? `/lineage/${enc(`dataset_version:${v.id}`)}?depth=4` : null, { kinds: ['run.', 'model_version.', 'endpoint.'] });
  const uses = v ? madeFrom(lineage.data, `dataset_version:${v.id}`) : [], takes = (usage.data ?? []).find((/** @type {any} */ u) => u.dataset === name);
  const tab = query.get('tab') ?? 'columns';
  return html`<${Page} crumbs=${[['Datasets', '/datasets'], ...(params.selector ? [[name, `/datasets/${enc(name)}`], [v ? `@${v.number}` : `@${selector}`]] : [[name]])]} title=${v ? `${name}@${v.number}` : name} loading=${version.loading}
      actions=${v && html`<a class="button" href=${`/lineage/${enc(`dataset_version:${v.id}`)}`}><${Icon} name="waypoints" />Lineage</a>`}>
    <${Show} of=${version}>${() => html`<div class="split">
      <div class="stack loose">
        <div class="story"><h2>${name}@${v.number}<${Aliases} of=${v.aliases} /></h2>
          <p><b><${Who} of=${v.actor} /></b> committed this version <${Time} at=${v.created_at_ms} />${v.message ? html`: “${v.message}”` : ''}. It has ${plural(v.files_count, 'file')} of ${bytes(v.size_bytes)}${v.rows_count !== null && v.rows_count !== undefined ? html`, ${count(v.rows_count)} rows` : ''}${v.schema?.length ? html` in ${plural(v.schema.length, 'column')}` : ''}. <${Uses} of=${uses} /></p></div>
        <${Tabs} label="What is inside" value=${tab} onChange=${(/** @type {string} */ t) => setQuery({ tab: t === 'columns' ? null : t })} tabs=${[
          { id: 'columns', label: 'Columns', count: v.schema?.length || null, body: () => html`<${Columns} name=${name} version=${v} />` },
          { id: 'files', label: 'Files', count: count(v.files_count), body: () => html`<${Files} name=${name} version=${v} query=${query} setQuery=${setQuery} />` },
          { id: 'sample', label: 'Sample', body: () => html`<${SampleTab} name=${name} version=${v} query=${query} setQuery=${setQuery} />` },
          { id: 'pictures', label: 'Pictures', body: () => html`<${PicturesTab} name=${name} version=${v} />` },
          { id: 'expected', label: 'Expected', body: () => html`<${Expected} name=${name} version=${v} />` },
          { id: 'diff', label: 'Difference', body: () => html`<${DiffTab} name=${name} version=${v} history=${history} previous=${previous} query=${query} setQuery=${setQuery} />` },
        ]} />
      </div>
      <div class="stack loose">
        <${Block} title="Versions" count=${history.length || null}><${VersionGraph} name=${name} history=${history} names=${names.data ?? []} here=${v.number} /><//>
        <${Block} title="Use it"><div class="stack"><${Command} text=${`noria data checkout ${name}@${v.number} data/`} /><${Command} text=${`import noria\ntable = noria.dataset("${name}").version(${v.aliases?.[0] ? `"${v.aliases[0]}"` : v.number}).to_pandas()`} /></div><//>
        <${Block} title="Identity"><${Kv} items=${[['Root', html`<${Id} value=${v.root_digest} />`], ['Version id', html`<${Id} value=${v.id} />`], ['Parents', v.parents?.length ? plural(v.parents.length, 'version') : 'none'], ['Described', html`<a class="button small" data-external download=${`${name}-${v.number}.croissant.json`} href=${href(`/datasets/${enc(name)}/versions/${v.number}/croissant`)}><${Icon} name="download" small />Croissant</a>`]]} /><//>
        ${takes && html`<${Block} title="Storage"><${Kv} items=${[['All versions', bytes(takes.size_bytes)], ['Stored', html`${bytes(takes.stored_bytes)} <span class="muted">equal bytes once, compressed</span>`], ['For it alone', html`${bytes(takes.only_here_bytes)} <span class="muted">freed if it went</span>`]]} /><//>`}
      </div></div>`}<//>
    ${v && html`<${Talk} about=${`dataset_version:${v.id}`} />`}
  <//>`;
}

/** @param {any} props */
function Columns({ name, version }) {
  const profile = useResource(`/datasets/${enc(name)}/versions/${version.number}/profile`, { kinds: ['dataset_profile.', 'dataset_version.', 'job.'], ticks: [`dataset_version:${version.id}`] });
  if (profile.error?.status === 404) return html`<${Schema} version=${version} />`;
  return html`<${Show} of=${profile}>${(/** @type {any} */ p) => {
    if (!p.tables.length) return version.schema?.length ? html`<${Schema} version=${version} />` : html`<${Empty} icon="table" title="No tables in this version." text="Parquet and CSV files are described column by column; other files are kept byte for byte." />`;
    return html`<div class="stack loose">${p.state === 'pending' && html`<div class="notice info"><${Icon} name="hourglass" /><span>The tables are being read; columns appear as they are ready.</span></div>`}${p.tables.slice(0, 40).map((/** @type {any} */ t) => html`<${TableProfile} key=${t.path} table=${t} only=${p.tables.length === 1} />`)}${p.tables.length > 40 && html`<p class="muted">and ${p.tables.length - 40} more tables</p>`}</div>`;
  }}<//>`;
}

/** @param {any} props */
function Schema({ version }) {
  if (!version.schema?.length) return html`<${Empty} icon="table" title="No columns are known." text="Parquet and CSV files are described column by column." />`;
  return html`<${Table} label="Columns" rows=${version.schema} rowKey=${(/** @type {any} */ c) => c.name} columns=${[{ key: 'n', label: 'Column', cell: (c) => c.name }, { key: 't', label: 'Type', cell: (c) => html`<code>${c.type}</code>` }]} />`;
}

/** @param {any} props */
function Files({ name, version, query, setQuery }) {
  const prefix = query.get('prefix') ?? '';
  const files = useResource(withQuery(`/datasets/${enc(name)}/versions/${version.number}/files`, { prefix, limit: 500 }));
  return html`<div class="stack"><input class="input" placeholder="Paths that begin with…" aria-label="Paths that begin with" value=${prefix} onInput=${(/** @type {any} */ e) => setQuery({ prefix: e.currentTarget.value })} />
    <${Show} of=${files}>${(/** @type {any} */ a) => html`<${Table} label="Files" rows=${a.items} rowKey=${(/** @type {any} */ f) => f.path} columns=${[
      { key: 'p', label: 'Path', cell: (f) => html`<a class="mono" data-external href=${href(withQuery(`/datasets/${enc(name)}/versions/${version.number}/content`, { path: f.path }))} download=${f.path.split('/').pop()}>${f.path}</a>`, sort: (f) => f.path },
      { key: 's', label: 'Size', num: true, cell: (f) => bytes(f.size_bytes), sort: (f) => f.size_bytes }, { key: 'd', label: 'BLAKE3', cell: (f) => html`<${Id} value=${f.digest} />` },
      { key: 'x', label: '', cell: (f) => (/\.(parquet|pq|csv|tsv|txt|json|jsonl|md|yaml|yml)$/i.test(f.path) ? html`<button type="button" class="button plain small" onClick=${() => setQuery({ tab: 'sample', path: f.path })}>Look</button>` : '') }]} />${a.next && html`<p class="muted">The first 500; narrow them above.</p>`}`}<//></div>`;
}

/** What was made from a version, counted. @param {{of: any[]}} props */
function Uses({ of }) {
  const some = (/** @type {string} */ kind) => of.filter((n) => n.ref.startsWith(`${kind}:`));
  const runs = some('run'), models = some('model_version'), endpoints = some('endpoint');
  const parts = [[runs, 'run'], [models, 'model version'], [endpoints, 'live endpoint']].filter(([found]) => found.length).map(([found, what]) => html`<b>${plural(found.length, /** @type {any} */ (what))}</b> (${/** @type {any} */ (found).slice(0, 2).map((/** @type {any} */ n, /** @type {number} */ i) => html`${i ? ', ' : ''}<${RefLink} key=${n.ref} to=${n.ref} />`)}${found.length > 2 ? ' …' : ''})`);
  return parts.length ? html`It is used by ${parts.map((p, i) => html`${i ? (i === parts.length - 1 ? ' and ' : ', ') : ''}${p}`)}.` : html`<span class="muted">Nothing recorded that it read this version.</span>`;
}

/** @param {any} props */
function PicturesTab({ name, version }) {
  const base = `/datasets/${enc(name)}/versions/${version.number}`, files = useResource(`${base}/files?limit=5000`);
  return html`<${Show} of=${files}>${(/** @type {any} */ a) => {
    const found = a.items.filter((/** @type {any} */ f) => isPicture(f.path));
    return found.length ? html`<${Pictures} base=${base} files=${found} more=${Boolean(a.next)} />` : html`<${Empty} icon="image" title="No pictures in this version." text="PNG, JPEG, GIF, WebP and BMP files are shown here." />`;
  }}<//>`;
}

/** @param {any} props */
function SampleTab({ name, version, query, setQuery }) {
  const files = useResource(`/datasets/${enc(name)}/versions/${version.number}/files?limit=200`);
  const first = (files.data?.items ?? []).find((/** @type {any} */ f) => /\.(parquet|pq|csv|tsv)$/i.test(f.path)) ?? files.data?.items?.[0];
  const path = query.get('path') ?? first?.path;
  const sample = useResource(path ? withQuery(`/datasets/${enc(name)}/versions/${version.number}/sample`, { path, limit: 50 }) : null);
  return html`<div class="stack"><label class="field"><span>File</span><select class="select" value=${path} onChange=${(/** @type {any} */ e) => setQuery({ path: e.currentTarget.value })}>${(files.data?.items ?? []).map((/** @type {any} */ f) => html`<option key=${f.path} value=${f.path} selected=${f.path === path}>${f.path}</option>`)}</select></label>
    <${Show} of=${sample}>${(/** @type {any} */ s) => (s.kind === 'table' ? html`<div class="table-wrap" tabindex="0" role="region" aria-label="First rows"><table class="table"><thead><tr>${s.columns.map((/** @type {any} */ c) => html`<th scope="col" key=${c.name} class=${typeof s.rows[0]?.[s.columns.indexOf(c)] === 'number' ? 'num' : ''} title=${c.type}>${c.name}</th>`)}</tr></thead><tbody>${s.rows.map((/** @type {any[]} */ r, /** @type {number} */ i) => html`<tr key=${i}>${r.map((v, j) => html`<td key=${j} class=${typeof v === 'number' ? 'num' : ''}>${typeof v === 'number' ? html`<${Num} value=${v} digits=${6} />` : v === null ? html`<span class="muted">null</span>` : String(v).slice(0, 80)}</td>`)}</tr>`)}</tbody></table></div>${s.is_truncated && html`<p class="muted">The first ${s.rows.length} rows.</p>`}`
      : s.kind === 'text' ? html`<pre class="code" tabindex="0">${s.text}</pre>` : html`<p class="muted">${bytes(s.size_bytes)} that are neither a table nor text.</p>`)}<//></div>`;
}

/** @param {any} props */
function DiffTab({ name, version, history, previous, query, setQuery }) {
  const a = query.get('against') ?? previous?.number;
  const [rows, setRows] = useState(false), key = query.get('key') ?? '', [typed, setTyped] = useState(key);
  const diff = useResource(a ? withQuery(`/datasets/${enc(name)}/diff`, { a, b: version.number, rows: rows ? 1 : null, key: rows ? key : null }) : null);
  if (!a) return html`<${Empty} icon="git-compare" title="There is nothing to compare with." text="This is the first version." />`;
  return html`<div class="stack"><div class="row wrap"><label class="inline">From <select class="select" value=${String(a)} onChange=${(/** @type {any} */ e) => setQuery({ against: e.currentTarget.value })}>${history.filter((/** @type {any} */ h) => h.number !== version.number).map((/** @type {any} */ h) => html`<option key=${h.number} value=${h.number} selected=${String(h.number) === String(a)}>@${h.number}</option>`)}</select> to @${version.number}</label>
      <label class="inline"><input type="checkbox" class="check" checked=${rows} onChange=${() => setRows(!rows)} />Compare rows too</label>
      ${rows && html`<label class="inline">by <input class="input small" placeholder="key columns, or whole rows" aria-label="Key columns" value=${typed} onInput=${(/** @type {any} */ e) => setTyped(e.currentTarget.value)} onChange=${(/** @type {any} */ e) => setQuery({ key: e.currentTarget.value.trim() || null })} /></label>`}</div>
    ${diff.error ? html`<${Problem} error=${diff.error} retry=${diff.reload} />` : html`<${Show} of=${diff}>${(/** @type {any} */ d) => html`<div class="stack loose">
      <div class="chips"><${Chip} tone="ok">+${count(d.added_count)} added<//><${Chip} tone="bad">−${count(d.removed_count)} removed<//><${Chip} tone="warn">~${count(d.changed_count)} changed<//></div>
      ${(d.tables ?? []).map((/** @type {any} */ t) => html`<${TableDiff} key=${t.path} table=${t} />`)}
      ${d.added.length + d.removed.length + d.changed.length > 0 ? html`<${Block} title="Files"><${DiffFiles} label="Changed files" items=${[...d.added.map((/** @type {any} */ c) => ({ path: c.path, change: 'added', now: c.after?.size_bytes })), ...d.removed.map((/** @type {any} */ c) => ({ path: c.path, change: 'removed', was: c.before?.size_bytes })), ...d.changed.map((/** @type {any} */ c) => ({ path: c.path, change: 'changed', was: c.before?.size_bytes, now: c.after?.size_bytes }))].slice(0, 500)} /><//>` : html`<p class="muted">The two versions have the same files.</p>`}</div>`}<//>`}</div>`;
}
