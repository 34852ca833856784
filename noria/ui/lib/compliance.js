// @ts-check
/** Checks and what they found, in the order and words in which people read them. Pure. */

/** @type {Record<string, {word: string, tone: 'done' | 'failed' | 'queued' | 'neutral' | 'warn'}>} */
export const STATES = {
  pass: { word: 'pass', tone: 'done' }, fail: { word: 'fail', tone: 'failed' }, unmeasurable: { word: 'cannot be told', tone: 'queued' },
  waived: { word: 'waived', tone: 'warn' }, not_applicable: { word: 'not for it', tone: 'neutral' },
};
/** Worst first. */
export const ORDER = ['fail', 'unmeasurable', 'waived', 'pass', 'not_applicable'];

/** The checks that a framework is mapped to; all of them without one. @param {any[]} checks @param {string} framework */
export const checksOf = (checks, framework) => (framework ? checks.filter((c) => c.maps[framework]) : checks);

/** `PRV-1` and its kin together, in the order of the catalogue. @param {any[]} checks @returns {[string, any[]][]} */
export function families(checks) {
  /** @type {Map<string, any[]>} */
  const found = new Map();
  for (const check of checks) { const name = check.id.split('-')[0]; found.set(name, [...(found.get(name) ?? []), check]); }
  return [...found];
}

/** How many checks of a row are in each state, worst first; states without any are left out.
 *  @param {Record<string, string>} states @param {any[]} checks @returns {[string, number][]} */
export function counts(states, checks) {
  const found = ORDER.map((state) => /** @type {[string, number]} */ ([state, checks.filter((c) => states[c.id] === state).length]));
  return found.filter(([, n]) => n > 0);
}

/** When the row that was measured longest ago was; 0 when none was yet. @param {{at_ms?: number | null}[]} rows */
export const measuredAt = (rows) => rows.reduce((found, { at_ms: at }) => (at && (!found || at < found) ? at : found), 0);

/** How a deadline reads: `in 3 days`, `2 days ago`. @param {number} at @param {number} now */
export function due(at, now) {
  const days = Math.round(Math.abs(at - now) / 86_400_000), many = `${days} day${days === 1 ? '' : 's'}`;
  return at < now ? (days ? `${many} ago` : 'today') : days ? `in ${many}` : 'today';
}

/** What of a system is not said and has to be. @param {any} spec */
export const gaps = (spec) => [!spec.owner && 'owner', !spec.purpose?.trim() && 'intended purpose', spec.risk === 'unclassified' && 'risk class', spec.personal_data === 'unknown' && 'personal data', !spec.members?.length && 'members'].filter(Boolean);
