// @ts-check
/** What was made from what: walks over the edges that the server sends. Pure. */

import { nameOf, pageOf, parseRef } from './refs.js';

/** @typedef {{ref: string, kind?: string, label?: string, state?: string, of?: string, is_live?: boolean, more?: number, at_ms?: number | null}} Node */
/** @typedef {{src: string, kind: string, dst: string}} Edge */
/** @typedef {{nodes: Node[], edges: Edge[]}} Lineage */

/** The relations of which the source was made from the target. Being measured on data, or named, makes nothing. */
const MADE_FROM = new Set(['built_by', 'read', 'trained_on', 'scored_by', 'serves', 'has']);

/** The ends of a thing's own edges of one kind: of those that leave it, or that come in. @param {Lineage | null | undefined} lineage @param {string} ref @param {string} kind @param {'out' | 'in'} way @returns {Node[]} */
export function next(lineage, ref, kind, way) {
  const ends = new Set((lineage?.edges ?? []).filter((e) => e.kind === kind && (way === 'out' ? e.src : e.dst) === ref).map((e) => (way === 'out' ? e.dst : e.src)));
  return (lineage?.nodes ?? []).filter((n) => ends.has(n.ref));
}

/** What was made from a thing, and from that, and so on. @param {Lineage | null | undefined} lineage @param {string} ref @returns {Node[]} */
export function madeFrom(lineage, ref) {
  const edges = (lineage?.edges ?? []).filter((e) => MADE_FROM.has(e.kind)), on = new Set([ref]);
  for (let edge = [ref]; edge.length;) {
    edge = edges.filter((e) => edge.includes(e.dst) && !on.has(e.src)).map((e) => e.src);
    for (const r of edge) on.add(r);
  }
  return (lineage?.nodes ?? []).filter((n) => on.has(n.ref) && n.ref !== ref);
}

/** The nodes on the way from what a thing was made from to what was made from it, without their other relations. @param {Lineage | null | undefined} lineage @param {string} ref @returns {Node[]} */
export function wayOf(lineage, ref) {
  const edges = (lineage?.edges ?? []).filter((e) => MADE_FROM.has(e.kind));
  const on = new Set([ref]);
  for (const [from, to] of /** @type {['src' | 'dst', 'src' | 'dst'][]} */ ([['src', 'dst'], ['dst', 'src']])) {
    let edge = [ref];
    while (edge.length) {
      edge = edges.filter((e) => edge.includes(e[from]) && !on.has(e[to])).map((e) => e[to]);
      for (const r of edge) on.add(r);
    }
  }
  return (lineage?.nodes ?? []).filter((n) => on.has(n.ref));
}

/** The way of a thing and what it is tied to itself; not what its neighbours are tied to. @param {Lineage | null | undefined} lineage @param {string} ref @returns {Lineage} */
export function around(lineage, ref) {
  const way = new Set(wayOf(lineage, ref).map((n) => n.ref));
  const edges = (lineage?.edges ?? []).filter((e) => (way.has(e.src) && way.has(e.dst)) || e.src === ref || e.dst === ref);
  const ends = new Set(edges.flatMap((e) => [e.src, e.dst]));
  return { nodes: (lineage?.nodes ?? []).filter((n) => ends.has(n.ref)), edges };
}

/** Several lineages as one. @param {Lineage[]} parts @returns {Lineage} */
export function merged(parts) {
  /** @type {Map<string, Node>} */ const nodes = new Map();
  for (const n of parts.flatMap((p) => p.nodes)) { const was = nodes.get(n.ref); nodes.set(n.ref, was && (was.more ?? 0) < (n.more ?? 0) ? { ...n, more: was.more } : n); }
  const edges = new Map(parts.flatMap((p) => p.edges).map((e) => [`${e.src} ${e.kind} ${e.dst}`, e]));
  return { nodes: [...nodes.values()], edges: [...edges.values()] };
}

/** What a thing on the map is called: as the server names it, where it does. @param {Node} n */
export function nameIn(n) {
  return n.label && n.label !== parseRef(n.ref).id ? n.label : nameOf(n.ref);
}

/** Where a thing on the map is shown: on its own page, or on that of what it belongs to. @param {Node} n @returns {string | null} */
export function placeIn(n) {
  const { kind } = parseRef(n.ref);
  if ((kind === 'model_version' || kind === 'dataset_version') && n.label?.includes('@')) return pageOf(`${kind}:${n.label}`);
  return pageOf(n.ref) ?? (n.of ? pageOf(n.of) : null);
}

const ORDER = ['endpoint', 'revision', 'model_version', 'model', 'report', 'monitor', 'loop', 'pipeline_run', 'run', 'dataset_version'];

/** What would feel a change, by kind: what people rely on first, and in each what is live. @param {Lineage} lineage @param {string} ref @returns {[string, Node[]][]} */
export function feltBy(lineage, ref) {
  const { id } = parseRef(ref);
  const mine = new Set(lineage.nodes.filter((n) => n.ref === ref || n.of === ref && n.kind?.endsWith('_version') && n.label?.startsWith(`${id}@`)).map((n) => n.ref));
  /** @type {Map<string, Node[]>} */ const groups = new Map();
  for (const n of lineage.nodes) if (!mine.has(n.ref)) groups.set(n.kind ?? '', [...(groups.get(n.kind ?? '') ?? []), n]);
  const place = (/** @type {string} */ kind) => (ORDER.includes(kind) ? ORDER.indexOf(kind) : ORDER.length);
  return [...groups].sort((a, b) => place(a[0]) - place(b[0])).map(([kind, some]) => [kind, some.sort((a, b) => Number(b.is_live ?? false) - Number(a.is_live ?? false) || (b.at_ms ?? 0) - (a.at_ms ?? 0))]);
}
