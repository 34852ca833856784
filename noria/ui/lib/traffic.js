// @ts-check
/** Traffic as the server keeps it – columns over common steps, per revision – read for charts. Pure. */

/** @typedef {{t: number[], by_revision: Record<string, {count: number[], errors: number[], p50_ms: (number | null)[], p99_ms: (number | null)[]}>}} Traffic */

/** Requests per step over all revisions. @param {Traffic} traffic */
export function totalRate(traffic) {
  return traffic.t.map((_, i) => Object.values(traffic.by_revision).reduce((s, r) => s + (r.count[i] ?? 0), 0));
}

/** Sums of the last `steps` steps. @param {Traffic} traffic @param {number} steps */
export function recent(traffic, steps) {
  let requests = 0, errors = 0, worst = 0;
  for (const r of Object.values(traffic.by_revision)) {
    for (let i = Math.max(0, traffic.t.length - steps); i < traffic.t.length; i += 1) { requests += r.count[i] ?? 0; errors += r.errors[i] ?? 0; worst = Math.max(worst, r.p99_ms[i] ?? 0); }
  }
  return { requests, errors, error_share: requests ? errors / requests : 0, p99_ms: worst };
}

/** Median of the non-null values of a column, weighted by count. @param {(number | null)[]} values @param {number[]} counts */
export function typical(values, counts) {
  const pairs = values.map((v, i) => [v, counts[i]]).filter(([v, c]) => v !== null && /** @type {number} */ (c) > 0).sort((a, b) => /** @type {number} */ (a[0]) - /** @type {number} */ (b[0]));
  const half = pairs.reduce((s, [, c]) => s + /** @type {number} */ (c), 0) / 2;
  let seen = 0;
  for (const [v, c] of pairs) { seen += /** @type {number} */ (c); if (seen >= half) return v; }
  return null;
}
