// @ts-check
/** Versions as a graph, newest first: which lane each is in, and the lines from its row to the next. Pure. */

/** @typedef {{id: string, parents?: string[]}} Version */
/** @typedef {{lane: number, lines: [number, number][], lanes: number}} Row lines: from a lane beside this row to a lane beside the next */

/** One row for each version. A parent that is not in the list ends its line. @param {Version[]} versions @returns {Row[]} */
export function versionGraph(versions) {
  const known = new Set(versions.map((v) => v.id));
  /** @type {(string | null)[]} */ let waiting = []; // by lane: the version that the line leads to
  return versions.map((v) => {
    let lane = waiting.indexOf(v.id);
    if (lane < 0) lane = free(waiting);
    /** @type {[number, number][]} */ const lines = [];
    const after = waiting.map((id) => (id === v.id ? null : id));
    after.forEach((id, i) => { if (id) lines.push([i, i]); });
    if (lane >= after.length) after.length = lane + 1;
    for (const parent of (v.parents ?? []).filter((p) => known.has(p))) {
      let at = after.findIndex((id) => id === parent);
      if (at < 0) { at = after[lane] ? free(after) : lane; after[at] = parent; }
      lines.push([lane, at]);
    }
    waiting = Array.from(after, (id) => id ?? null);
    while (waiting.length && waiting[waiting.length - 1] === null) waiting.pop();
    return { lane, lines, lanes: Math.max(lane, ...lines.flat()) + 1 };
  });
}

/** The first lane that leads nowhere. @param {(string | null | undefined)[]} lanes */
function free(lanes) {
  const at = Array.from(lanes, (id) => id ?? null).indexOf(null);
  return at < 0 ? lanes.length : at;
}
