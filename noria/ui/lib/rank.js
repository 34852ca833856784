// @ts-check
/** Which names a few typed letters mean: whole words first, then beginnings of words, then letters in order. Pure.
 *  @template T @param {string} text @param {T[]} items @param {(item: T) => string} name @returns {T[]} best first, others left out */
export function rank(text, items, name) {
  const q = text.trim().toLowerCase();
  if (!q) return items;
  return items.map((item, i) => ({ item, i, score: score(q, name(item).toLowerCase()) })).filter((x) => x.score > 0).sort((a, b) => b.score - a.score || a.i - b.i).map((x) => x.item);
}

/** @param {string} q @param {string} name */
export function score(q, name) {
  if (name === q) return 100;
  if (name.startsWith(q)) return 80;
  if (name.split(/[\s/_.@:-]+/).some((w) => w.startsWith(q))) return 60;
  if (name.includes(q)) return 40;
  let at = 0;
  for (const letter of q) { at = name.indexOf(letter, at) + 1; if (at === 0) return 0; }
  return 10;
}

/** Things that a search found and what one can do here, in one list. What is called exactly as it was typed, or begins so, comes first: an answer
 *  that arrives late must not change what Enter means. Things that were found for an earlier text stay only if they hold the words of this one.
 *  @template {{title: string, more?: string}} T @param {string} text @param {T[]} things @param {T[]} here @param {boolean} isFresh @returns {T[]} */
export function merged(text, things, here, isFresh) {
  const q = text.trim().toLowerCase(), words = q.split(/\s+/).filter(Boolean);
  if (!q) return here;
  const kept = isFresh ? things : things.filter((t) => words.every((w) => `${t.title} ${t.more ?? ''}`.toLowerCase().includes(w)));
  const meant = here.filter((c) => c.title.toLowerCase().startsWith(q));
  return [...meant, ...kept, ...here.filter((c) => !meant.includes(c))];
}
