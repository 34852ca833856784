// @ts-check
/** A thousand metric names in groups one can find one's way in. Pure. */

/** @typedef {{prefix: string, keys: string[]}} KeyGroup */

/** Keys by what stands before the first slash, or before a number at the end of it (`layer0/…`, `layer1/…` are of one kind but stay apart);
 *  keys without a slash come first under ''. Every word of `text` must be in a key. @param {string[]} keys @param {string} [text] @returns {KeyGroup[]} */
export function groupKeys(keys, text = '') {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  /** @type {Map<string, string[]>} */ const groups = new Map();
  for (const key of [...keys].sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))) {
    const lower = key.toLowerCase();
    if (!words.every((w) => lower.includes(w))) continue;
    const cut = key.indexOf('/'), prefix = cut > 0 ? key.slice(0, cut) : '';
    const list = groups.get(prefix);
    if (list) list.push(key); else groups.set(prefix, [key]);
  }
  return [...groups].map(([prefix, list]) => ({ prefix, keys: list })).sort((a, b) => Number(a.prefix !== '') - Number(b.prefix !== '') || a.prefix.localeCompare(b.prefix, 'en', { numeric: true }));
}

/** The range of steps that lies behind a range of another axis, so that the server can be asked for it; null when nothing does.
 *  @param {{step: number[], at_ms: number[]}[]} series @param {'step' | 'time' | 'elapsed'} x @param {number} from @param {number} to */
export function stepsWithin(series, x, from, to) {
  if (x === 'step') return { from: Math.floor(from), to: Math.ceil(to) };
  let low = Infinity, high = -Infinity;
  for (const s of series) {
    const start = x === 'elapsed' ? s.at_ms[0] ?? 0 : 0;
    for (let i = 0; i < s.step.length; i += 1) {
      // A bucket reaches until the next one begins, so the one before the range belongs to it too.
      const here = s.at_ms[i] - start, next = i + 1 < s.step.length ? s.at_ms[i + 1] - start : Infinity;
      if (next < from || here > to) continue;
      low = Math.min(low, s.step[i]);
      high = Math.max(high, i + 1 < s.step.length ? s.step[i + 1] : s.step[i]);
    }
  }
  return low <= high ? { from: low, to: high } : null;
}
