// @ts-check
/** The filter people type above a table: `loss < 0.3 status:failed user!=ada bold` – words and comparisons, all of which must
 *  hold. Pure: text → terms → a predicate over the rows of a columnar table. */

import { valueAt } from './columns.js';

/** @typedef {{key: string, op: '=' | '!=' | '<' | '<=' | '>' | '>=' | '~', value: string, number: number}} Comparison */
/** @typedef {{word: string}} Word */

const TERM = /("[^"]*"|`[^`]*`|[^\s<>=!~:"]+)\s*(<=|>=|!=|==|=|<|>|~|:)\s*("[^"]*"|\S+)|("[^"]*"|\S+)/g;

/** @param {string} text @returns {(Comparison | Word)[]} */
export function parseFilter(text) {
  /** @type {(Comparison | Word)[]} */
  const terms = [];
  for (const match of text.matchAll(TERM)) {
    if (match[4] !== undefined) { const word = unquote(match[4]).toLowerCase(); if (word) terms.push({ word }); continue; }
    const op = match[2] === ':' || match[2] === '==' ? '=' : match[2];
    const value = unquote(match[3]);
    terms.push({ key: unquote(match[1]), op: /** @type {Comparison['op']} */ (op), value, number: numberOf(value) });
  }
  return terms;
}

/** What is written as a number, infinities too; NaN when it is none. @param {string} text */
function numberOf(text) {
  const infinite = /^([+-\u2212]?)(?:inf(?:inity)?|∞)$/i.exec(text);
  return infinite ? (['-', '\u2212'].includes(infinite[1]) ? -Infinity : Infinity) : text === '' ? NaN : Number(text);
}

/** The column a typed key means: exact, then by its last part (`loss` finds `metrics.val/loss`), or null.
 *  @param {string} key @param {string[]} names */
export function resolveKey(key, names) {
  const k = key.toLowerCase();
  return names.find((n) => n.toLowerCase() === k)
    ?? names.find((n) => n.toLowerCase() === `metrics.${k}` || n.toLowerCase() === `params.${k}` || n.toLowerCase() === `tags.${k}`)
    ?? names.find((n) => n.toLowerCase().endsWith(`/${k}`) || n.toLowerCase().endsWith(`.${k}`))
    ?? null;
}

/** A predicate over row indices. Unknown keys match nothing, so that a typing error is seen at once.
 *  @param {string} text @param {Record<string, ArrayLike<unknown>>} columns @returns {{test: (i: number) => boolean, unknown: string[]}} */
export function compileFilter(text, columns) {
  const names = Object.keys(columns);
  const searchable = names.filter((n) => typeof firstValue(columns[n]) === 'string');
  /** @type {string[]} */ const unknown = [];
  const tests = parseFilter(text).map((term) => {
    if ('word' in term) {
      const word = term.word;
      return (/** @type {number} */ i) => searchable.some((n) => { const v = columns[n][i]; return typeof v === 'string' && v.toLowerCase().includes(word); });
    }
    const name = resolveKey(term.key, names);
    if (!name) { unknown.push(term.key); return () => false; }
    const column = columns[name];
    return (/** @type {number} */ i) => holds(valueAt(column, i), term);
  });
  return { test: (i) => tests.every((t) => t(i)), unknown };
}

/** @param {unknown} value @param {Comparison} term */
function holds(value, term) {
  if (value === null || value === undefined) return term.op === '!=';
  if (typeof value === 'number' && !Number.isNaN(term.number)) {
    switch (term.op) {
      case '<': return value < term.number;
      case '<=': return value <= term.number;
      case '>': return value > term.number;
      case '>=': return value >= term.number;
      case '!=': return value !== term.number;
      default: return value === term.number;
    }
  }
  const a = String(value).toLowerCase(), b = term.value.toLowerCase();
  switch (term.op) {
    case '~': return a.includes(b);
    case '!=': return a !== b;
    case '=': return a === b;
    default: {
      const x = Number(a);
      if (Number.isNaN(x) || Number.isNaN(term.number)) return term.op.startsWith('<') ? a < b : a > b;
      return holds(x, term);
    }
  }
}

/** @param {ArrayLike<unknown>} column */
function firstValue(column) {
  for (let i = 0; i < column.length; i += 1) if (column[i] !== null && column[i] !== undefined) return column[i];
  return undefined;
}

/** @param {string} s */
function unquote(s) {
  return /^(".*"|`.*`)$/.test(s) ? s.slice(1, -1) : s;
}
