// @ts-check
/** Numbers, sizes, times and names as people read them. Pure; the clock is an argument.
 *  Four significant digits; the exact value belongs in a title. Times are UTC milliseconds. */

const MINUS = '\u2212';
const NONE = '\u2013';

/** Four significant digits, thousands as SI beyond 10,000. NaN and the infinities are words, absence is a dash.
 *  @param {unknown} value @param {{digits?: number, exact?: boolean}} [options] @returns {string} */
export function num(value, { digits = 4, exact = false } = {}) {
  if (value === null || value === undefined || value === '') return NONE;
  const v = typeof value === 'string' ? Number(value) : /** @type {number} */ (value);
  if (typeof v !== 'number') return String(value);
  if (Number.isNaN(v)) return 'NaN';
  if (v === Infinity) return '+∞';
  if (v === -Infinity) return `${MINUS}∞`;
  if (exact) return String(v).replace('-', MINUS);
  const a = Math.abs(v);
  if (a === 0) return '0';
  if (Number.isInteger(v) && a < 100_000) return count(v);
  if (a >= 1e15 || a < 1e-4) return v.toExponential(digits - 1).replace(/\.?0+e/, 'e').replace('e+', 'e').replace(/-/g, MINUS);
  if (a >= 100_000) return si(v);
  if (a >= 10 ** digits) return count(v);
  return trim(v.toPrecision(digits)).replace('-', MINUS);
}

/** A whole number with thin spaces between thousands. @param {number} n */
export function count(n) {
  if (n === null || n === undefined || Number.isNaN(Number(n))) return NONE;
  const s = String(Math.abs(Math.round(n)));
  const grouped = s.length > 4 ? s.replace(/\B(?=(\d{3})+$)/g, '\u202f') : s;
  return (n < 0 ? MINUS : '') + grouped;
}

/** 12 300 000 → 12.3 M. @param {number} v */
export function si(v) {
  const a = Math.abs(v);
  for (const [size, unit] of /** @type {[number, string][]} */ ([[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']])) {
    if (a >= size) return `${trim((v / size).toPrecision(3))}\u202f${unit}`.replace('-', MINUS);
  }
  return num(v);
}

/** Binary bytes, three digits. @param {number | null | undefined} n */
export function bytes(n) {
  if (n === null || n === undefined) return NONE;
  if (n < 1024) return `${n} B`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let v = n / 1024, i = 0;
  while (v >= 1000 && i < units.length - 1) { v /= 1024; i += 1; }
  return `${trim(v.toPrecision(3))} ${units[i]}`;
}

/** A share as a percentage, three digits. @param {number | null | undefined} share */
export function percent(share) {
  if (share === null || share === undefined || Number.isNaN(share)) return NONE;
  const p = share * 100;
  return `${p !== 0 && Math.abs(p) < 0.1 ? trim(p.toPrecision(2)) : trim(p.toFixed(Math.abs(p) < 10 ? 2 : 1))} %`.replace('-', MINUS);
}

/** A length of time: 850 ms, 12.4 s, 3 min 20 s, 2 h 5 min, 4 d 3 h. @param {number | null | undefined} ms */
export function duration(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return NONE;
  if (ms < 0) ms = 0;
  if (ms < 1) return `${trim(ms.toPrecision(2))} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${trim(s.toFixed(s < 10 ? 2 : 1))} s`;
  const m = Math.floor(s / 60);
  if (m < 60) return pair(m, 'min', Math.floor(s % 60), 's');
  const h = Math.floor(m / 60);
  if (h < 24) return pair(h, 'h', m % 60, 'min');
  return pair(Math.floor(h / 24), 'd', h % 24, 'h');
}

/** How long ago, or how soon. @param {number | null | undefined} atMs @param {number} nowMs */
export function ago(atMs, nowMs) {
  if (atMs === null || atMs === undefined) return NONE;
  const d = nowMs - atMs;
  const s = Math.abs(d) / 1000;
  let text;
  if (s < 5) return 'now';
  if (s < 60) text = `${Math.floor(s)} s`;
  else if (s < 3600) text = `${Math.floor(s / 60)} min`;
  else if (s < 86_400) text = `${Math.floor(s / 3600)} h`;
  else if (s < 86_400 * 60) text = `${Math.floor(s / 86_400)} d`;
  else if (s < 86_400 * 730) text = `${Math.floor(s / 86_400 / 30.44)} mo`;
  else text = `${Math.floor(s / 86_400 / 365.25)} y`;
  return d >= 0 ? `${text} ago` : `in ${text}`;
}

/** 2026-03-04 09:05:06 in UTC or in the browser's zone. @param {number} atMs @param {'utc' | 'local'} zone @param {boolean} [seconds] */
export function stamp(atMs, zone = 'utc', seconds = true) {
  const d = new Date(atMs);
  if (Number.isNaN(d.getTime())) return NONE;
  if (zone === 'utc') return d.toISOString().slice(0, seconds ? 19 : 16).replace('T', ' ');
  const p = (/** @type {number} */ n) => String(n).padStart(2, '0');
  return `${d.getFullYear()}-${p(d.getMonth() + 1)}-${p(d.getDate())} ${p(d.getHours())}:${p(d.getMinutes())}${seconds ? `:${p(d.getSeconds())}` : ''}`;
}

/** The short form of a 32-hex id or a digest: its tail for ids (the head is time), its head for digests.
 *  @param {string | null | undefined} id */
export function short(id) {
  if (!id) return NONE;
  const bare = id.replace(/^(sha256|blake3):/, '');
  if (/^[0-9a-f]{64}$/.test(bare)) return bare.slice(0, 10);
  if (/^[0-9a-f]{32}$/.test(bare)) return bare.slice(-8);
  return id;
}

/** A signed difference and whether it is better, by the direction in which the metric improves.
 *  @param {number} now @param {number} was @param {'low' | 'high' | null | undefined} better */
export function delta(now, was, better) {
  const d = now - was;
  const text = d === 0 ? '0' : (d > 0 ? '+' : '') + num(d);
  const verdict = d === 0 || !better || Number.isNaN(d) ? 'same' : (d < 0) === (better === 'low') ? 'better' : 'worse';
  return { text, verdict, up: d > 0 };
}

/** The direction in which a metric of this name usually improves; null when its name does not say.
 *  @param {string} name @returns {'low' | 'high' | null} */
export function direction(name) {
  const n = name.toLowerCase();
  if (/(loss|error|err\b|mae|mse|rmse|mape|latency|duration|perplexity|brier|_ms\b|wer\b|cer\b|miss|psi|drift)/.test(n)) return 'low';
  if (/(acc|auc|f1|precision|recall|r2|score|ndcg|map\b|bleu|rouge|iou|dice|throughput|gain|lift)/.test(n)) return 'high';
  return null;
}

/** one run, two runs. @param {number} n @param {string} one @param {string} [many] */
export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** @param {string} s */
function trim(s) {
  return s.includes('.') && !s.includes('e') ? s.replace(/0+$/, '').replace(/\.$/, '') : s;
}

/** @param {number} a @param {string} ua @param {number} b @param {string} ub */
function pair(a, ua, b, ub) {
  return b ? `${a} ${ua} ${b} ${ub}` : `${a} ${ua}`;
}
