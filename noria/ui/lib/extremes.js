// @ts-check
/** Thinning of curves that keeps what people come to see: spikes, NaN and infinities. Pure. */

/** Two points per bucket – the lowest and the highest – so that a spike survives zooming out.
 *  The first and last finite points are always kept; non-finite values are never among the answer.
 *  @param {ArrayLike<number>} y values; NaN allowed @param {number} buckets @returns {Uint32Array} indices, ascending */
export function extremes(y, buckets) {
  const n = y.length;
  /** @type {number[]} */
  const keep = [];
  if (n === 0 || buckets < 1) return new Uint32Array(0);
  const size = Math.max(1, n / buckets);
  for (let b = 0; b < buckets; b += 1) {
    const from = Math.floor(b * size), to = Math.min(n, Math.floor((b + 1) * size));
    let low = -1, high = -1;
    for (let i = from; i < to; i += 1) {
      if (!Number.isFinite(y[i])) continue;
      if (low < 0 || y[i] < y[low]) low = i;
      if (high < 0 || y[i] > y[high]) high = i;
    }
    if (low < 0) continue;
    if (low === high) keep.push(low);
    else if (low < high) keep.push(low, high);
    else keep.push(high, low);
  }
  const first = firstFinite(y), last = lastFinite(y);
  if (first >= 0 && keep[0] !== first) keep.unshift(first);
  if (last >= 0 && keep[keep.length - 1] !== last) keep.push(last);
  return Uint32Array.from(keep);
}

/** Turns the server's buckets into one line (x, y) that visits the low and the high of each bucket.
 *  A bucket where first, last, min and max agree is one point. Order inside a bucket: first, the two extremes, last.
 *  @param {{step: number[], min: (number | null)[], max: (number | null)[], first?: (number | null)[], last?: (number | null)[]}} series
 *  @param {number[]} [x] positions to use instead of steps */
export function outline(series, x = series.step) {
  /** @type {number[]} */ const xs = [];
  /** @type {number[]} */ const ys = [];
  for (let i = 0; i < x.length; i += 1) {
    const low = series.min[i], high = series.max[i];
    if (low === null || high === null || low === undefined || high === undefined) continue;
    if (low === high) { xs.push(x[i]); ys.push(low); continue; }
    const next = i + 1 < x.length ? x[i + 1] : x[i] + (i > 0 ? x[i] - x[i - 1] : 1);
    const first = series.first?.[i] ?? low, last = series.last?.[i] ?? high;
    const middle = first <= last ? [low, high] : [high, low];
    const quarter = (next - x[i]) / 4;
    xs.push(x[i], x[i] + quarter, x[i] + 2 * quarter, x[i] + 3 * quarter);
    ys.push(first, middle[0], middle[1], last);
  }
  return { x: xs, y: ys };
}

/** Exponential smoothing, debiased, as training curves use it; weight 0 leaves the values alone.
 *  @param {ArrayLike<number>} y @param {number} weight in [0, 1) */
export function smooth(y, weight) {
  const out = new Float64Array(y.length);
  if (weight <= 0) return Float64Array.from(y);
  let last = 0, debias = 0;
  for (let i = 0; i < y.length; i += 1) {
    if (!Number.isFinite(y[i])) { out[i] = y[i]; continue; }
    last = last * weight + (1 - weight) * y[i];
    debias = debias * weight + (1 - weight);
    out[i] = last / debias;
  }
  return out;
}

/** @param {ArrayLike<number>} y */
function firstFinite(y) {
  for (let i = 0; i < y.length; i += 1) if (Number.isFinite(y[i])) return i;
  return -1;
}

/** @param {ArrayLike<number>} y */
function lastFinite(y) {
  for (let i = y.length - 1; i >= 0; i -= 1) if (Number.isFinite(y[i])) return i;
  return -1;
}
