// @ts-check
/** Numbers of versions against each other. Only numbers on the same split of the same data are compared. Pure. */

/** @typedef {{dataset_version: string, split: string, metrics: Record<string, number>, at_ms?: number, slices?: Record<string, Record<string, number>>}} Evaluation */

/** @param {Evaluation[]} ours @param {Evaluation[]} theirs
 *  @returns {{dataset_version: string, split: string, at_ms: number, rows: {key: string, ours: number, theirs: number | undefined}[], same: boolean, slices: Record<string, Record<string, number>>}[]} */
export function pairUp(ours, theirs) {
  return [...ours].sort((a, b) => (b.at_ms ?? 0) - (a.at_ms ?? 0)).map((e) => {
    const other = theirs.find((t) => t.dataset_version === e.dataset_version && t.split === e.split);
    return { dataset_version: e.dataset_version, split: e.split, at_ms: e.at_ms ?? 0, same: Boolean(other), slices: e.slices ?? {}, rows: Object.keys(e.metrics).sort().map((key) => ({ key, ours: e.metrics[key], theirs: other?.metrics[key] })) };
  });
}

/** The history of each metric over versions, oldest first, on the split that most versions share.
 *  @param {{number: number, evaluations?: Evaluation[]}[]} versions */
export function histories(versions) {
  /** @type {Map<string, number>} */ const shared = new Map();
  for (const v of versions) for (const e of v.evaluations ?? []) shared.set(`${e.dataset_version}|${e.split}`, (shared.get(`${e.dataset_version}|${e.split}`) ?? 0) + 1);
  const best = [...shared].sort((a, b) => b[1] - a[1])[0]?.[0];
  /** @type {Record<string, {x: number[], y: number[]}>} */ const out = {};
  for (const v of [...versions].sort((a, b) => a.number - b.number)) {
    const e = (v.evaluations ?? []).find((x) => `${x.dataset_version}|${x.split}` === best);
    for (const [key, value] of Object.entries(e?.metrics ?? {})) { (out[key] ??= { x: [], y: [] }).x.push(v.number); out[key].y.push(value); }
  }
  return { metrics: out, split: best?.split('|')[1] ?? '', dataset_version: best?.split('|')[0] ?? '' };
}
