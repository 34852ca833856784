// @ts-check
/** A unified diff in its files and lines, and the difference of two lists of lines. Pure. */

/** @typedef {{name: string, added: number, removed: number, lines: {kind: 'add' | 'del' | 'hunk' | 'same' | 'note', text: string}[]}} FileDiff */

/** @param {string} text as `git diff` writes it @returns {FileDiff[]} */
export function parseUnified(text) {
  /** @type {FileDiff[]} */ const files = [];
  let here = /** @type {FileDiff | null} */ (null), inHunk = false;
  for (const line of text.split('\n')) {
    if (line.startsWith('diff --git ')) { here = { name: line.replace(/^diff --git a\/(.*) b\/.*$/, '$1'), added: 0, removed: 0, lines: [] }; files.push(here); inHunk = false; continue; }
    if (!here) { if (!line.startsWith('--- ') && !line.startsWith('@@')) continue; here = { name: line.slice(4), added: 0, removed: 0, lines: [] }; files.push(here); }
    if (line.startsWith('@@')) { inHunk = true; here.lines.push({ kind: 'hunk', text: line }); continue; }
    if (!inHunk) { if (line.startsWith('+++ ')) { const name = line.slice(4).replace(/^b\//, ''); if (name !== '/dev/null') here.name = name; } else if (/^(new file|deleted file|rename |Binary files|GIT binary)/.test(line)) here.lines.push({ kind: 'note', text: line }); continue; }
    if (line.startsWith('+')) { here.added += 1; here.lines.push({ kind: 'add', text: line.slice(1) }); } else if (line.startsWith('-')) { here.removed += 1; here.lines.push({ kind: 'del', text: line.slice(1) }); } else if (line.startsWith(' ')) here.lines.push({ kind: 'same', text: line.slice(1) });
  }
  return files;
}

/** What two lists of packages (`name==version`) do not share. @param {string[]} was @param {string[]} now */
export function packageDiff(was, now) {
  const read = (/** @type {string[]} */ lines) => new Map(lines.map((l) => l.trim()).filter((l) => l && !l.startsWith('#')).map((l) => { const m = /^([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*(.*)$/.exec(l); return m ? [m[1].toLowerCase().replace(/[-_.]+/g, '-'), m[2].replace(/^==/, '')] : [l, '']; }));
  const a = read(was), b = read(now);
  return [...new Set([...a.keys(), ...b.keys()])].sort().flatMap((name) => {
    const x = a.get(name), y = b.get(name);
    return x === y ? [] : [{ name, was: x ?? null, now: y ?? null, change: x === undefined ? 'added' : y === undefined ? 'removed' : 'changed' }];
  });
}

/** Files by path and digest that two lists do not share. @param {{path: string, digest: string, size_bytes: number}[]} was @param {{path: string, digest: string, size_bytes: number}[]} now */
export function fileDiff(was, now) {
  const a = new Map(was.map((f) => [f.path, f])), b = new Map(now.map((f) => [f.path, f]));
  return [...new Set([...a.keys(), ...b.keys()])].sort().flatMap((path) => {
    const x = a.get(path), y = b.get(path);
    return x?.digest === y?.digest ? [] : [{ path, change: !x ? 'added' : !y ? 'removed' : 'changed', was: x?.size_bytes ?? null, now: y?.size_bytes ?? null }];
  });
}
