// @ts-check
/** What monitors say of each endpoint, by what they look at: the matrix of the Monitors page. Pure. */

/** The columns of the matrix. */
export const SIDES = /** @type {const} */ (['quality', 'drift', 'performance', 'fairness']);

/** @type {Record<string, typeof SIDES[number]>} */
const KINDS = {
  null_share: 'quality', new_categories: 'quality', out_of_range: 'quality', type_changes: 'quality',
  psi: 'drift', js: 'drift', ks: 'drift', wasserstein: 'drift', l_infinity: 'drift', score_psi: 'drift', prediction_psi: 'drift', reconstruction: 'drift', embedding: 'drift',
  parity_gap: 'fairness', parity_ratio: 'fairness', opportunity_gap: 'fairness',
};

/** On which side a monitor looks. A stream of an input is drift, of the loss performance.
 *  @param {{metric: string, columns?: string[]}} spec @returns {typeof SIDES[number]} */
export function sideOf(spec) {
  if (spec.metric === 'adwin' || spec.metric === 'page_hinkley') return spec.columns?.some((c) => c !== '@loss') ? 'drift' : 'performance';
  return KINDS[spec.metric] ?? 'performance';
}

const WORST = ['open', 'pending', 'ok'];

/** One row per endpoint: for each side its monitors and the worst of their states; '' where nobody looks.
 *  @param {any[]} monitors @param {any[]} endpoints */
export function matrixOf(monitors, endpoints) {
  const names = [...new Set([...endpoints.map((e) => e.name), ...monitors.map((m) => m.endpoint)])].sort();
  return names.map((name) => {
    const mine = monitors.filter((m) => m.endpoint === name), endpoint = endpoints.find((e) => e.name === name);
    /** @type {Record<string, {state: string, monitors: any[]}>} */
    const sides = {};
    for (const side of SIDES) {
      const here = mine.filter((m) => sideOf(m.spec) === side);
      sides[side] = { state: WORST.find((s) => here.some((m) => m.state === s)) ?? '', monitors: here };
    }
    return { name, model: endpoint?.model ?? '', operations: endpoint?.status ?? 'gone', sides };
  });
}
