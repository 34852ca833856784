// @ts-check
/** An input example of a model as rows, when it is a table: MLflow writes one split, as records, or as columns. Pure. */

const ROWS_MAX = 50;

/** @param {any} example @returns {{columns: string[], rows: any[][], more: number} | null} null when it is no table */
export function rowsOfExample(example) {
  const of = example?.dataframe_split ?? example?.dataframe_records ?? example;
  if (Array.isArray(of?.columns) && Array.isArray(of?.data) && of.data.every(Array.isArray)) return cut(of.columns.map(String), of.data);
  if (Array.isArray(of) && of.length && of.every((r) => r !== null && typeof r === 'object' && !Array.isArray(r))) {
    const columns = [...new Set(of.flatMap((r) => Object.keys(r)))];
    return cut(columns, of.map((r) => columns.map((c) => r[c])));
  }
  return null;
}

/** @param {string[]} columns @param {any[][]} rows */
function cut(columns, rows) { return { columns, rows: rows.slice(0, ROWS_MAX), more: Math.max(0, rows.length - ROWS_MAX) }; }

/** What somebody typed, in the type that the example has; empty is missing, and what is no number stays a word for the server to refuse.
 *  @param {string} text @param {any} like @returns {any} */
export function typed(text, like) {
  const trimmed = text.trim();
  if (trimmed === '') return typeof like === 'string' ? text : null;
  if (typeof like === 'boolean') return trimmed === 'true' ? true : trimmed === 'false' ? false : text;
  if (typeof like === 'number') return Number.isFinite(Number(trimmed)) ? Number(trimmed) : text;
  return text;
}

/** Contributions of features, the largest first whichever way it points; of several classes, their sizes are added up.
 *  @param {any} contributions an object, or one for each class @returns {{name: string, value: number}[]} */
export function byWeight(contributions) {
  const classes = [contributions].flat(), of = (/** @type {string} */ name) => classes.length === 1 ? classes[0][name] : classes.reduce((sum, c) => sum + Math.abs(c[name]), 0);
  return Object.keys(classes[0] ?? {}).map((name) => ({ name, value: of(name) })).sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
}
