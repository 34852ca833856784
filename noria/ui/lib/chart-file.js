// @ts-check
/** A chart as a file: its points as rows, and a drawing of it as SVG. Pure: colours come in as they are to be written. */

/** @typedef {{name: string, colour: string, dash?: boolean, x: ArrayLike<number>, y: ArrayLike<number | null>, low?: ArrayLike<number | null>, high?: ArrayLike<number | null>, nan?: number[], inf?: number[], minusInf?: number[]}} Line */
/** @typedef {{ink: string, quiet: string, rule: string, paper: string}} Look */

/** Head and rows of a chart: one row per place that any line has, each line with its value, and with its lowest and highest where a point
 *  stands for many. What is no finite number is written as a word. @param {Line[]} lines @param {string} x @returns {{head: string[], rows: any[][]}} */
export function rowsOf(lines, x) {
  /** @type {[string, (at: number) => any][]} */ const columns = [];
  const places = new Set(/** @type {number[]} */ ([]));
  for (const l of lines) {
    const off = new Map([...(l.nan ?? []).map((s) => /** @type {[number, any]} */ ([s, NaN])), ...(l.inf ?? []).map((s) => /** @type {[number, any]} */ ([s, Infinity])), ...(l.minusInf ?? []).map((s) => /** @type {[number, any]} */ ([s, -Infinity]))]);
    const index = new Map(Array.from(l.x, (v, i) => [v, i]));
    for (const v of [...index.keys(), ...off.keys()]) places.add(v);
    const of = (/** @type {ArrayLike<number | null>} */ values) => (/** @type {number} */ at) => { const i = index.get(at); return i === undefined ? null : values[i]; };
    columns.push([l.name, (at) => of(l.y)(at) ?? off.get(at) ?? null]);
    if (l.low && l.high) columns.push([`${l.name} lowest`, of(l.low)], [`${l.name} highest`, of(l.high)]);
  }
  return { head: [x, ...columns.map(([name]) => name)], rows: [...places].sort((a, b) => a - b).map((at) => [at, ...columns.map(([, value]) => value(at))]) };
}

/** @param {{title: string, lines: Line[], x: string, width: number, height: number, log?: boolean, look: Look, xText: (v: number) => string, yText: (v: number) => string}} chart */
export function svgOf({ title, lines, width, height, log = false, look, xText, yText }) {
  const left = 56, top = 34, right = 12, legend = 18 * lines.length + 8, bottom = 26, w = width - left - right, h = height - top - bottom;
  const ok = (/** @type {number | null | undefined} */ v) => v !== null && v !== undefined && Number.isFinite(v) && (!log || v > 0);
  const xs = lines.flatMap((l) => [...Array.from(l.x), ...(l.nan ?? []), ...(l.inf ?? []), ...(l.minusInf ?? [])]), ys = lines.flatMap((l) => [...Array.from(l.y), ...Array.from(l.low ?? []), ...Array.from(l.high ?? [])]).filter(ok).map(Number);
  const [x0, x1] = spread(xs), [y0, y1] = spread(log ? ys.map(Math.log10) : ys, 0.06);
  const px = (/** @type {number} */ v) => left + ((v - x0) / (x1 - x0)) * w, py = (/** @type {number} */ v) => top + h - (((log ? Math.log10(v) : v) - y0) / (y1 - y0)) * h;
  const f = (/** @type {number} */ v) => v.toFixed(2).replace(/\.?0+$/, '');
  const out = [`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height + legend}" viewBox="0 0 ${width} ${height + legend}" font-family="Inter, sans-serif" font-size="11">`, `<title>${escape(title)}</title>`, `<rect width="100%" height="100%" fill="${look.paper}"/>`, `<text x="12" y="20" font-size="13" font-weight="600" fill="${look.ink}">${escape(title)}</text>`];
  for (const t of ticks(y0, y1, 5)) { const v = log ? 10 ** t : t, y = f(py(v)); out.push(`<line x1="${left}" x2="${left + w}" y1="${y}" y2="${y}" stroke="${look.rule}"/><text x="${left - 6}" y="${y}" dy="4" text-anchor="end" fill="${look.quiet}">${escape(yText(v))}</text>`); }
  for (const t of ticks(x0, x1, 6)) { const x = f(px(t)); out.push(`<line x1="${x}" x2="${x}" y1="${top}" y2="${top + h}" stroke="${look.rule}"/><text x="${x}" y="${top + h + 16}" text-anchor="middle" fill="${look.quiet}">${escape(xText(t))}</text>`); }
  for (const l of lines) {
    const points = (/** @type {ArrayLike<number | null>} */ y) => Array.from(l.x, (x, i) => (ok(y[i]) ? `${f(px(x))},${f(py(Number(y[i])))}` : null));
    if (l.low && l.high) { const up = points(l.high).filter(Boolean), down = points(l.low).filter(Boolean).reverse(); if (up.length) out.push(`<polygon points="${[...up, ...down].join(' ')}" fill="${l.colour}" fill-opacity="0.14"/>`); }
    out.push(`<polyline points="${points(l.y).filter(Boolean).join(' ')}" fill="none" stroke="${l.colour}" stroke-width="1.5"${l.dash ? ' stroke-dasharray="5 3"' : ''}/>`);
    for (const s of l.nan ?? []) out.push(`<path d="M${f(px(s) - 4)} ${top + h - 8}l8 8m0 -8l-8 8" stroke="${l.colour}" stroke-width="1.5"><title>NaN at ${s}</title></path>`);
    for (const s of l.inf ?? []) out.push(`<path d="M${f(px(s))} ${top}l-4 8h8z" fill="${l.colour}"><title>infinite at ${s}</title></path>`);
    for (const s of l.minusInf ?? []) out.push(`<path d="M${f(px(s))} ${top + h}l-4 -8h8z" fill="${l.colour}"><title>minus infinity at ${s}</title></path>`);
  }
  lines.forEach((l, i) => { const y = height + 14 + 18 * i, off = [[l.nan, 'NaN'], [l.inf, '∞'], [l.minusInf, '\u2212∞']].filter(([k]) => k?.length).map(([k, sign]) => ` · ${/** @type {any} */ (k).length} ${sign}`).join(''); out.push(`<line x1="${left}" x2="${left + 16}" y1="${y - 4}" y2="${y - 4}" stroke="${l.colour}" stroke-width="2"${l.dash ? ' stroke-dasharray="5 3"' : ''}/><text x="${left + 22}" y="${y}" fill="${look.ink}">${escape(l.name + off)}</text>`); });
  return [...out, '</svg>'].join('\n');
}

/** The least and the greatest, apart by something. @param {number[]} values @param {number} [air] @returns {[number, number]} */
function spread(values, air = 0) {
  let low = Infinity, high = -Infinity;
  for (const v of values) { if (v < low) low = v; if (v > high) high = v; }
  if (!(low <= high)) return [0, 1];
  if (low === high) return [low - 0.5, high + 0.5];
  return [low - (high - low) * air, high + (high - low) * air];
}

/** Round places between two numbers. @param {number} low @param {number} high @param {number} about */
export function ticks(low, high, about) {
  const rough = (high - low) / about, power = 10 ** Math.floor(Math.log10(rough)), step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough) ?? power * 10;
  const out = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i += 1) out.push(Number((i * step).toPrecision(12)));
  return out;
}

/** @param {string} text */
const escape = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
