// @ts-check
/** A log that is read from its end backwards and from its end onwards, in bytes; lines are whole. Pure. */

/** @typedef {{start: number, end: number, text: string}} Span bytes [start, end) of the log and what they say */

/** The lines of a span; the first is dropped when the log began before it in the middle of a line. @param {Span} span @param {boolean} whole whether it begins where the log begins */
export function linesOf(span, whole) {
  if (!span.text) return [];
  const lines = span.text.split('\n');
  if (!whole) lines.shift();
  if (lines[lines.length - 1] === '') lines.pop();
  return lines.map(lastWrite);
}

/** What stands on a line after the cursor went back (`\r`), as progress bars do. @param {string} line */
export function lastWrite(line) {
  const text = stripColours(line.endsWith('\r') ? line.slice(0, -1) : line);
  const at = text.lastIndexOf('\r');
  return at < 0 ? text : text.slice(at + 1);
}

/** Without the codes that colour a terminal. @param {string} text */
export function stripColours(text) {
  // eslint-disable-next-line no-control-regex
  return text.replace(/\u001b\[[0-9;?]*[A-Za-z]/g, '');
}

/** How a line looks. @param {string} line @returns {'error' | 'warning' | ''} */
export function toneOf(line) {
  return /\b(error|traceback|exception|failed|fatal|critical)\b/i.test(line) ? 'error' : /\bwarn(ing)?\b/i.test(line) ? 'warning' : '';
}

/** Indices of the lines that hold a text, letters alike. @param {string[]} lines @param {string} text */
export function find(lines, text) {
  const want = text.toLowerCase();
  return want ? lines.flatMap((l, i) => (l.toLowerCase().includes(want) ? [i] : [])) : [];
}

/** Where the next part before a span begins. @param {number} start @param {number} step */
export function before(start, step) { return Math.max(0, start - step); }
