// @ts-check
/** The map: what a thing was made from and what was made from it, opened further from any node; what would feel its change; all of it as
 *  OpenLineage. What is open, the time and the view are in the address. */

import { useEffect, useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Icon } from '../components/icon.js';
import { Page } from '../components/page.js';
import { Graph } from '../components/graph.js';
import { Empty, Problem, Show } from '../components/empty.js';
import { Segmented } from '../components/chips.js';
import { State } from '../components/state.js';
import { RefLink, Time } from '../components/values.js';
import { Table } from '../components/table.js';
import { useResource } from '../components/use.js';
import { api, enc, href, withQuery } from '../lib/api.js';
import { feltBy, merged, nameIn, placeIn } from '../lib/lineage.js';
import { named } from '../lib/names.js';
import { iconOf, nameOf, parseRef } from '../lib/refs.js';
import { plural } from '../lib/format.js';

/** Edges that point from what was made to what it was made from are drawn the other way: time runs to the right. */
const BACKWARDS = new Set(['built_by', 'made_by', 'scored_by', 'read', 'trained_on', 'serves', 'evaluated_on', 'has', 'watches', 'raised_by', 'about', 'run_of', 'turn_of', 'names', 'shows', 'reproduces']);

const KINDS = ['model_version.', 'run.finished', 'revision.', 'dataset_version.', 'report.', 'endpoint.'], VERSIONS = 8, OPEN = 40;
const DAYS = /** @type {Record<string, number>} */ ({ '1d': 1, '7d': 7, '30d': 30, '90d': 90 });

/** @param {any} props */
export default function LineagePage({ params, query, setQuery }) {
  const ref = params.ref, depth = query.get('depth') ?? '2', view = query.get('view') ?? 'map', since = query.get('since') ?? '';
  const opened = (query.get('open') ?? '').split(',').filter(Boolean).slice(0, OPEN);
  const from = DAYS[since] ? Math.floor(Date.now() / 3_600_000) * 3_600_000 - DAYS[since] * 86_400_000 : null;
  const start = named(ref)?.label ?? nameOf(ref);
  return html`<${Page} crumbs=${[['Lineage'], [start]]} title=${`Lineage of ${start}`}
      actions=${html`<${Segmented} label="View" value=${view} options=${[['map', 'Map'], ['impact', 'Impact']]} onChange=${(/** @type {string} */ v) => setQuery({ view: v === 'map' ? null : v })} />
        ${view === 'map' && html`<${Segmented} label="Hops" value=${depth} options=${[['1', '1 hop'], ['2', '2 hops'], ['4', '4 hops']]} onChange=${(/** @type {string} */ d) => setQuery({ depth: d === '2' ? null : d })} />
        <label class="inline"><span class="sr">Linked in</span><select class="select" value=${since} onChange=${(/** @type {any} */ e) => setQuery({ since: e.currentTarget.value || null })}>${[['', 'All time'], ['1d', 'The last day'], ['7d', 'The last 7 days'], ['30d', 'The last 30 days'], ['90d', 'The last 90 days']].map(([v, t]) => html`<option key=${v} value=${v} selected=${v === since}>${t}</option>`)}</select></label>`}
        <a class="button" data-external download=${`${ref.replaceAll(':', '-')}.openlineage.json`} href=${href(withQuery(`/lineage/${enc(ref)}/openlineage`, { depth: 6, from_ms: from }))}><${Icon} name="download" />OpenLineage</a>`}>
    ${view === 'impact' ? html`<${Impact} at=${ref} />` : html`<${Around} key=${`${ref} ${depth} ${since}`} at=${ref} depth=${depth} from=${from} opened=${opened} onOpen=${(/** @type {string} */ r) => setQuery({ open: [...opened, r].join(',') })} />`}
  <//>`;
}

/** @param {{at: string, depth: string, from: number | null, opened: string[], onOpen: (ref: string) => void}} props */
function Around({ at, depth, from, opened, onOpen }) {
  const lineage = useLineage(at, depth, from);
  const [further, setFurther] = useState(/** @type {any} */ ({})), [error, setError] = useState(/** @type {any} */ (null));
  useEffect(() => {
    let gone = false;
    for (const r of opened) if (!further[r]) api(withQuery(`/lineage/${enc(r)}`, { depth: 1, from_ms: from })).then((found) => { if (!gone) setFurther((/** @type {any} */ was) => ({ ...was, [r]: found })); }, setError);
    return () => { gone = true; };
  }, [opened.join(',')]);
  return html`<${Show} of=${lineage}>${(/** @type {any} */ l) => {
    const all = merged([l, ...opened.map((r) => further[r]).filter(Boolean)]);
    return all.edges.length ? html`${error && html`<${Problem} error=${error} />`}<${LineageGraph} lineage=${all} here=${at} max=${720} onOpen=${onOpen} opened=${opened} />
      ${l.is_cut && html`<p class="muted">There is more than one map shows; this is the nearest of it.</p>`}
      <details><summary class="quiet">As a list: ${plural(all.edges.length, 'edge')}</summary><${Edges} lineage=${all} /></details>` : html`<${Empty} icon="waypoints" title=${from ? 'Nothing was linked to this in that time.' : 'Nothing is linked to this yet.'} text="Edges are written when a run reads a dataset, a version is built by a run, an endpoint serves a version, a report shows a model." />`; }}<//>`;
}

/** What would feel a change, what is live first. @param {{at: string}} props */
function Impact({ at }) {
  const felt = useResource(`/lineage/${enc(at)}/impact`, { kinds: KINDS });
  return html`<${Show} of=${felt}>${(/** @type {any} */ l) => {
    const groups = feltBy(l, at), live = l.nodes.filter((/** @type {any} */ n) => n.is_live && n.kind === 'endpoint');
    if (!groups.length) return html`<${Empty} icon="waypoints" title="Nothing would feel a change of this." text="No run, version, endpoint, monitor or report rests on it, as far as you may see." />`;
    return html`<div class="story"><p>A change of this would be felt by ${groups.map(([kind, some], i) => html`${i ? (i === groups.length - 1 ? ' and ' : ', ') : ''}<b>${plural(some.length, kind.replaceAll('_', ' '))}</b>`)}.${live.length ? html` <b>${plural(live.length, 'endpoint')}</b> ${live.length === 1 ? 'answers' : 'answer'} requests with it now.` : ' None of it answers requests now.'}</p></div>
      <${LineageGraph} lineage=${l} here=${at} max=${560} />
      <${Table} label="What would feel it" rows=${groups.flatMap(([, some]) => some)} rowKey=${(/** @type {any} */ n) => n.ref} columns=${[{ key: 'n', label: 'What', cell: (n) => html`<a href=${placeIn(n) ?? undefined} class="row"><${Icon} name=${iconOf(n.kind)} small />${nameIn(n)}</a>`, sort: (n) => nameIn(n) }, { key: 'k', label: 'Kind', cell: (n) => n.kind.replaceAll('_', ' '), sort: (n) => n.kind }, { key: 'l', label: 'Live', cell: (n) => (n.is_live ? html`<${State} of="live" tone="done" word="live" />` : html`<span class="muted">–</span>`), sort: (n) => Number(n.is_live) }, { key: 's', label: 'State', cell: (n) => n.state && html`<${State} of=${n.state} />` }, { key: 'at', label: 'Since', cell: (n) => html`<${Time} at=${n.at_ms} />`, sort: (n) => n.at_ms }]} />`; }}<//>`;
}

/** @param {{lineage: any}} props */
function Edges({ lineage }) {
  const nodes = new Map(lineage.nodes.map((/** @type {any} */ n) => [n.ref, n]));
  const link = (/** @type {string} */ r) => html`<${RefLink} to=${r} icon label=${nodes.has(r) ? nameIn(nodes.get(r)) : undefined} />`;
  return html`<${Table} label="Edges" rows=${lineage.edges} rowKey=${(/** @type {any} */ e) => `${e.src}${e.kind}${e.dst}`} columns=${[{ key: 's', label: 'From', cell: (e) => link(e.src) }, { key: 'k', label: 'Relation', cell: (e) => e.kind.replaceAll('_', ' ') }, { key: 'd', label: 'To', cell: (e) => link(e.dst) }, { key: 'p', label: '', cell: (e) => (e.protects ? html`<span class="muted">protects</span>` : '') }]} />`;
}

/** The lineage of a ref. A model has few edges of its own: it is the versions that its aliases name, and the latest. @param {string} ref @param {string} depth @param {number | null} from */
function useLineage(ref, depth, from) {
  const { kind, id } = parseRef(ref), isModel = kind === 'model';
  const at = (/** @type {string} */ r) => withQuery(`/lineage/${enc(r)}`, { depth, from_ms: from });
  const one = useResource(at(ref), { kinds: KINDS });
  const model = useResource(isModel ? `/models/${enc(id)}` : null, { kinds: KINDS });
  const [all, set] = useState(/** @type {any} */ ({ data: null, error: null, loading: true }));
  useEffect(() => {
    if (!model.data || !one.data) return undefined;
    let gone = false;
    const numbers = new Set([...model.data.model.aliases.map((/** @type {any} */ a) => a.version), model.data.model.latest]);
    const refs = model.data.versions.filter((/** @type {any} */ v) => numbers.has(v.number)).slice(0, VERSIONS).map((/** @type {any} */ v) => `model_version:${v.id}`);
    Promise.all(refs.map((/** @type {string} */ r) => api(at(r)))).then((parts) => { if (!gone) set({ data: merged([...parts, one.data]), error: null, loading: false }); }, (error) => { if (!gone) set({ data: null, error, loading: false }); });
    return () => { gone = true; };
  }, [model.data, one.data, depth, from]);
  return isModel ? { ...all, error: all.error ?? model.error ?? one.error, loading: all.loading && !model.error, reload: model.reload } : one;
}

/** @param {{lineage: any, here: string, max?: number, onOpen?: (ref: string) => void, opened?: string[]}} props */
export function LineageGraph({ lineage, here, max = 360, onOpen, opened = [] }) {
  const nodes = lineage.nodes.slice(0, 300).map((/** @type {any} */ n) => {
    const kind = n.kind ?? parseRef(n.ref).kind, known = n.label && n.label !== parseRef(n.ref).id ? null : named(n.ref);
    return { id: n.ref, kind: kind.replaceAll('_', ' '), icon: iconOf(kind), name: known?.label ?? nameIn(n), href: known?.href ?? placeIn(n), here: n.ref === here, state: n.is_live ? 'live' : n.state || undefined, live: n.is_live, more: opened.includes(n.ref) ? 0 : n.more, onMore: onOpen ? () => onOpen(n.ref) : undefined };
  });
  const edges = lineage.edges.map((/** @type {any} */ e) => (BACKWARDS.has(e.kind) ? { from: e.dst, to: e.src, label: e.kind } : { from: e.src, to: e.dst, label: e.kind }));
  return html`<${Graph} nodes=${nodes} edges=${edges} label="Lineage" max=${max} />`;
}
