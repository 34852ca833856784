// @ts-check
/** What a thing was made from and what was made from it. */

import { useEffect, useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Page } from '../components/page.js';
import { Graph } from '../components/graph.js';
import { Empty, Show } from '../components/empty.js';
import { Segmented } from '../components/chips.js';
import { RefLink } from '../components/values.js';
import { Table } from '../components/table.js';
import { useResource } from '../components/use.js';
import { api, enc } from '../lib/api.js';
import { merged } from '../lib/lineage.js';
import { named } from '../lib/names.js';
import { iconOf, nameOf, pageOf, parseRef } from '../lib/refs.js';
import { plural } from '../lib/format.js';

/** Edges that point from what was made to what it was made from are drawn the other way: time runs to the right. */
const BACKWARDS = new Set(['built_by', 'made_by', 'scored_by', 'read', 'trained_on', 'serves', 'evaluated_on', 'has', 'watches', 'raised_by', 'about', 'run_of', 'turn_of', 'names']);

const KINDS = ['model_version.', 'run.finished', 'revision.', 'dataset_version.'], VERSIONS = 8;

/** @param {any} props */
export default function LineagePage({ params, query, setQuery }) {
  const ref = params.ref, depth = query.get('depth') ?? '2';
  const lineage = useLineage(ref, depth);
  const label = named(ref)?.label ?? nameOf(ref);
  return html`<${Page} crumbs=${[['Lineage'], [label]]} title=${`Lineage of ${label}`} loading=${lineage.loading}
      actions=${html`<${Segmented} label="Hops" value=${depth} options=${[['1', '1 hop'], ['2', '2 hops'], ['4', '4 hops']]} onChange=${(/** @type {string} */ d) => setQuery({ depth: d === '2' ? null : d })} />`}>
    <${Show} of=${lineage}>${(/** @type {any} */ l) => (l.edges.length ? html`<${LineageGraph} lineage=${l} here=${ref} max=${720} />
      <details><summary class="quiet">As a list: ${plural(l.edges.length, 'edge')}</summary><${Table} label="Edges" rows=${l.edges} rowKey=${(/** @type {any} */ e) => `${e.src}${e.kind}${e.dst}`} columns=${[{ key: 's', label: 'From', cell: (e) => html`<${RefLink} to=${e.src} icon />` }, { key: 'k', label: 'Relation', cell: (e) => e.kind.replaceAll('_', ' ') }, { key: 'd', label: 'To', cell: (e) => html`<${RefLink} to=${e.dst} icon />` }, { key: 'p', label: '', cell: (e) => (e.protects ? html`<span class="muted">protects</span>` : '') }]} /></details>` : html`<${Empty} icon="waypoints" title="Nothing is linked to this yet." text="Edges are written when a run reads a dataset, a version is built by a run, an endpoint serves a version." />`)}<//>
  <//>`;
}

/** The lineage of a ref. A model has no edges of its own: it is the versions that its aliases name, and the latest. @param {string} ref @param {string} depth */
function useLineage(ref, depth) {
  const { kind, id } = parseRef(ref), isModel = kind === 'model';
  const one = useResource(isModel ? null : `/lineage/${enc(ref)}?depth=${depth}`, { kinds: KINDS });
  const model = useResource(isModel ? `/models/${enc(id)}` : null, { kinds: KINDS });
  const [all, set] = useState(/** @type {any} */ ({ data: null, error: null, loading: true }));
  useEffect(() => {
    if (!model.data) return undefined;
    let gone = false;
    const numbers = new Set([...model.data.model.aliases.map((/** @type {any} */ a) => a.version), model.data.model.latest]);
    const refs = model.data.versions.filter((/** @type {any} */ v) => numbers.has(v.number)).slice(0, VERSIONS).map((/** @type {any} */ v) => `model_version:${v.id}`);
    Promise.all(refs.map((/** @type {string} */ r) => api(`/lineage/${enc(r)}?depth=${depth}`))).then((parts) => { if (!gone) set({ data: merged(parts), error: null, loading: false }); }, (error) => { if (!gone) set({ data: null, error, loading: false }); });
    return () => { gone = true; };
  }, [model.data, depth]);
  return isModel ? { ...all, error: all.error ?? model.error, loading: all.loading && !model.error, reload: model.reload } : one;
}

/** @param {{lineage: any, here: string, max?: number}} props */
export function LineageGraph({ lineage, here, max = 360 }) {
  const nodes = lineage.nodes.slice(0, 300).map((/** @type {any} */ n) => { const known = named(n.ref), kind = n.kind ?? parseRef(n.ref).kind; return { id: n.ref, kind: kind.replaceAll('_', ' '), icon: iconOf(kind), name: known?.label ?? (n.label && n.label !== parseRef(n.ref).id ? n.label : nameOf(n.ref)), href: known?.href ?? pageOf(n.ref), here: n.ref === here, state: n.state || undefined }; });
  const edges = lineage.edges.map((/** @type {any} */ e) => (BACKWARDS.has(e.kind) ? { from: e.dst, to: e.src, label: e.kind } : { from: e.src, to: e.dst, label: e.kind }));
  return html`<${Graph} nodes=${nodes} edges=${edges} label="Lineage" max=${max} />`;
}
