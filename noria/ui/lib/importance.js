// @ts-check
/** Which settings go along with a result, over the runs at hand. Pure.
 *
 *  For a numeric setting: Spearman's rank correlation ρ, which sees any monotone relation and no outliers.
 *  For words, or few distinct values: the correlation ratio η² of the ranks, the share of the variance that lies between the groups,
 *  corrected for chance (ε² = η² less what as many random groups would show), so that a setting with many values does not look important.
 *  Both say "goes along with", never "causes": settings that were changed together are both credited.
 *  Source: Spearman, The proof and measurement of association between two things (1904); Kelley, An unbiased correlation ratio measure (1935). */

/** Ranks from 1, ties share their mean. @param {ArrayLike<number>} values @returns {Float64Array} */
export function ranks(values) {
  const order = Array.from(values, (_, i) => i).sort((a, b) => values[a] - values[b]);
  const out = new Float64Array(values.length);
  for (let i = 0; i < order.length;) {
    let j = i;
    while (j + 1 < order.length && values[order[j + 1]] === values[order[i]]) j += 1;
    for (let k = i; k <= j; k += 1) out[order[k]] = (i + j) / 2 + 1;
    i = j + 1;
  }
  return out;
}

/** Spearman's ρ in [-1, 1]; NaN for fewer than three pairs or when one of them never changes. @param {ArrayLike<number>} a @param {ArrayLike<number>} b */
export function spearman(a, b) {
  const n = a.length;
  if (n < 3 || n !== b.length) return NaN;
  const x = ranks(a), y = ranks(b), mean = (n + 1) / 2;
  let xy = 0, xx = 0, yy = 0;
  for (let i = 0; i < n; i += 1) { xy += (x[i] - mean) * (y[i] - mean); xx += (x[i] - mean) ** 2; yy += (y[i] - mean) ** 2; }
  return xx && yy ? xy / Math.sqrt(xx * yy) : NaN;
}

/** ε² of ranks between groups, in [0, 1]; NaN when there is nothing to tell apart. @param {string[]} groups @param {ArrayLike<number>} y */
export function betweenGroups(groups, y) {
  const n = groups.length, r = ranks(y), mean = (n + 1) / 2;
  /** @type {Map<string, {n: number, sum: number}>} */ const by = new Map();
  let total = 0;
  groups.forEach((g, i) => { const e = by.get(g) ?? { n: 0, sum: 0 }; e.n += 1; e.sum += r[i]; by.set(g, e); total += (r[i] - mean) ** 2; });
  const k = by.size;
  if (k < 2 || n <= k || !total) return NaN;
  let between = 0;
  for (const e of by.values()) between += e.n * (e.sum / e.n - mean) ** 2;
  return Math.max(0, (between - (k - 1) * ((total - between) / (n - k))) / total);
}

const FEW = 12;

/** Every setting by how much goes along with it, strongest first. `share` is ρ² or ε², whichever is larger; `rho` keeps the direction.
 *  @param {Record<string, ArrayLike<unknown>>} settings @param {ArrayLike<number>} result @param {ArrayLike<number>} rows
 *  @returns {{name: string, share: number, rho: number, runs: number, distinct: number}[]} */
export function importance(settings, result, rows) {
  const out = [];
  for (const [name, column] of Object.entries(settings)) {
    const kept = Array.from(rows).filter((i) => Number.isFinite(result[i]) && column[i] !== null && column[i] !== undefined && column[i] === column[i]);
    const y = Float64Array.from(kept, (i) => result[i]);
    const words = kept.map((i) => String(column[i])), numbers = kept.map((i) => (column[i] === '' ? NaN : Number(column[i])));
    const distinct = new Set(words).size;
    if (distinct < 2 || kept.length < 5) continue;
    const rho = numbers.every(Number.isFinite) ? spearman(numbers, y) : NaN;
    const eps = distinct <= FEW || Number.isNaN(rho) ? betweenGroups(words, y) : NaN;
    const share = Math.max(Number.isNaN(rho) ? 0 : rho * rho, Number.isNaN(eps) ? 0 : eps);
    out.push({ name, share, rho, runs: kept.length, distinct });
  }
  return out.sort((a, b) => b.share - a.share || a.name.localeCompare(b.name));
}
