// @ts-check
/** Comments as threads. Pure. */

/** Reactions by the name that the API has for them. @type {Record<string, string>} */
export const REACTIONS = { thumbs_up: '👍', thumbs_down: '👎', party: '🎉', heart: '❤️', eyes: '👀', rocket: '🚀', confused: '😕' };

/** Threads by their first comment, each with its answers, oldest first; one of which nothing is left is left out.
 *  @param {any[]} comments oldest first @returns {any[][]} */
export function threadsOf(comments) {
  /** @type {Map<string, any[]>} */ const threads = new Map();
  for (const c of comments) {
    const thread = threads.get(c.thread);
    if (thread) thread.push(c); else threads.set(c.thread, [c]);
  }
  return [...threads.values()].filter((thread) => thread.some((c) => !c.removed_at_ms));
}

/** Where in a thing something was said, in words: `metric:val/loss@600` is val/loss at 600. @param {string} place */
export function placeText(place) {
  const [, kind, rest] = place.match(/^([a-z_]+):(.+)$/) ?? [null, '', place];
  if (kind !== 'metric') return kind ? `${kind.replaceAll('_', ' ')} ${rest}` : rest;
  const at = rest.lastIndexOf('@');
  return at > 0 ? `${rest.slice(0, at)} at ${rest.slice(at + 1)}` : rest;
}

/** Beginnings of the kinds of facts that people are told of; see WORTH in noria/conversations/inbox.py. */
export const TOLD = ['comment.', 'run.finished', 'pipeline_run.', 'dataset_version.', 'dataset_commit.', 'model_version.', 'alert.', 'approval.', 'revision.', 'canary.', 'loop.', 'report.'];

/** Why somebody is told, in words. @param {string} reason */
export const reasonWord = (reason) => ({ mention: 'You were spoken to', reply: 'An answer', yours: 'Yours', follow: 'You follow it' }[reason] ?? reason);
