// @ts-check
/** What was made from what: walks over the edges that the server sends. Pure. */

/** @typedef {{ref: string, kind?: string, label?: string, state?: string}} Node */
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
  const nodes = new Map(parts.flatMap((p) => p.nodes).map((n) => [n.ref, n]));
  const edges = new Map(parts.flatMap((p) => p.edges).map((e) => [`${e.src} ${e.kind} ${e.dst}`, e]));
  return { nodes: [...nodes.values()], edges: [...edges.values()] };
}
