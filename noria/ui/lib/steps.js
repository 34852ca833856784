// @ts-check
/** The steps of a pipeline run as a page needs them: elements under their map or sweep, and what a trial is worth. Pure. */

/** @typedef {{step: any, attempts: any[], [more: string]: any}} StepView */
/** @typedef {{number: number, outcome: string, value: number | null, params: Record<string, unknown>}} Trial */

export const OPEN_BELOW = 13; // a map of so many elements is shown folded

/** Steps of the pipeline, each with the steps that it became. @param {StepView[]} steps @returns {{of: StepView, elements: StepView[]}[]} */
export function grouped(steps) {
  /** @type {Map<string, StepView[]>} */ const below = new Map();
  for (const s of steps) if (s.step.parent_id) below.set(s.step.parent_id, [...(below.get(s.step.parent_id) ?? []), s]);
  return steps.filter((s) => !s.step.parent_id).map((of) => ({ of, elements: (below.get(of.step.id) ?? []).sort((a, b) => a.step.item - b.step.item) }));
}

/** The rows of the clock: a map's elements follow it when it is open. @param {{of: StepView, elements: StepView[]}[]} groups @param {Set<string>} turned those whose fold was turned by hand */
export function rowsOf(groups, turned) {
  return groups.flatMap(({ of, elements }) => [of, ...(isOpen(of, elements, turned) ? elements : [])]);
}

/** @param {StepView} of @param {StepView[]} elements @param {Set<string>} turned */
export function isOpen(of, elements, turned) { return elements.length > 0 && (elements.length < OPEN_BELOW) !== turned.has(of.step.id); }

/** What a step is, in two words. @param {StepView} of @param {StepView[]} elements */
export function kindOf({ step, attempts }, elements) {
  if (step.kind === 'map') return elements.length ? `each of ${elements.length}` : 'for each';
  if (step.kind === 'sweep') return elements.length === 1 ? '1 trial' : `${elements.length} trials`;
  if (step.kind === 'approve') return 'question';
  return step.cached_from ? 'cached' : attempts.length > 1 ? `${attempts.length} attempts` : 'step';
}

/** After each trial that ended well, in the order of their numbers: its value and the best until then. @param {Trial[]} trials @param {string} direction */
export function bestSoFar(trials, direction) {
  /** @type {{number: number, value: number, best: number}[]} */ const found = [];
  let best = NaN;
  for (const t of trials) {
    if (t.outcome !== 'complete' || t.value === null) continue;
    best = Number.isNaN(best) ? t.value : direction === 'maximize' ? Math.max(best, t.value) : Math.min(best, t.value);
    found.push({ number: t.number, value: t.value, best });
  }
  return found;
}

/** Trials as a table of columns: parameters, and the metric of those that ended well. @param {Trial[]} trials @param {string[]} names @param {string} metric
 *  @returns {import('./columns.js').Table} */
export function trialTable(trials, names, metric) {
  const params = Object.fromEntries(names.map((n) => [`params.${n}`, trials.map((t) => { const v = t.params[n]; return v === null || v === undefined ? String(v) : typeof v === 'boolean' ? String(v) : v; })]));
  const values = Float64Array.from(trials, (t) => (t.outcome === 'complete' && t.value !== null ? t.value : NaN));
  return { ids: trials.map((t) => String(t.number)), columns: { ...params, [`metrics.${metric}`]: values } };
}

/** A parameter as typed: JSON where it is JSON, else the words themselves. @param {string} text */
export function typed(text) { try { return JSON.parse(text); } catch { return text; } }

/** @typedef {{part: string, type: string, by: string, digest: string, size: number, file: string}} Kept */

/** The parts of a value that are kept in files, each with where it is in the value and what keeps it. @param {any} v @param {string} [part] @returns {Kept[]} */
export function keptOf(v, part = '') {
  switch (v?.as) {
    case 'pickle': return [{ part, type: v.type || 'object', by: 'pickle', digest: v.digest, size: v.size_bytes, file: '' }];
    case 'saved': return [{ part, type: v.type || 'object', by: `${v.materialiser} ${v.version}`, digest: v.digest, size: v.size_bytes, file: v.name || 'files.tar' }];
    case 'many': return v.items.flatMap((/** @type {any} */ x, /** @type {number} */ i) => keptOf(x, `${part}[${i}]`));
    case 'named': return Object.entries(v.items).flatMap(([k, x]) => keptOf(x, part ? `${part}.${k}` : k));
    case 'part': return keptOf(v.value, part);
    default: return [];
  }
}
