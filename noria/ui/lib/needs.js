// @ts-check
/** What needs the reader, from the lists that say so: alerts, approvals they may answer, what was said to them, what failed of theirs and of
 *  the pipelines they follow. Pure. */

/** @typedef {{kind: 'alert' | 'approval' | 'said' | 'run' | 'pipeline', at_ms: number, of: any}} Need */

const FIRST = ['alert', 'approval', 'said', 'pipeline', 'run'];

/** The most pressing kind first, the newest of each first.
 *  @param {{alerts?: any[], approvals?: any[], inbox?: any[], pipelines?: any[], runs?: {ids: string[], columns: any} | null, since: number}} lists @returns {Need[]} */
export function needs({ alerts = [], approvals = [], inbox = [], pipelines = [], runs = null, since }) {
  const theirs = new Set(pipelines.map((p) => p.id));
  /** @type {Need[]} */ const all = [
    ...alerts.map((a) => ({ kind: /** @type {const} */ ('alert'), at_ms: a.opened_at_ms, of: a })),
    ...approvals.map((a) => ({ kind: /** @type {const} */ ('approval'), at_ms: a.created_at_ms, of: a })),
    ...inbox.filter((n) => n.comment).map((n) => ({ kind: /** @type {const} */ ('said'), at_ms: n.at_ms, of: n })),
    ...pipelines.filter((p) => (p.ended_at_ms ?? p.created_at_ms) > since).map((p) => ({ kind: /** @type {const} */ ('pipeline'), at_ms: p.ended_at_ms ?? p.created_at_ms, of: p })),
    ...inbox.filter((n) => n.kind === 'pipeline_run.failed' && n.at_ms > since && n.subject.startsWith('pipeline_run:') && !theirs.has(n.subject.slice(13))).map((n) => ({ kind: /** @type {const} */ ('pipeline'), at_ms: n.at_ms, of: { id: n.subject.slice(13), pipeline: n.title } })),
    ...(runs?.ids ?? []).map((id, i) => ({ kind: /** @type {const} */ ('run'), at_ms: runs?.columns.started_at_ms?.[i] ?? 0, of: { id, name: runs?.columns.name?.[i] } })),
  ];
  return all.sort((a, b) => FIRST.indexOf(a.kind) - FIRST.indexOf(b.kind) || b.at_ms - a.at_ms);
}
