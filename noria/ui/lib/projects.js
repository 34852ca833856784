// @ts-check
/** A project's parts, sorted and added up. Pure. */

import { parseRef } from './refs.js';

/** What lies in a project, by kind, in the order people think of. @param {string[]} refs @returns {[string, string[]][]} */
export function byKind(refs) {
  const order = ['project', 'experiment', 'dataset', 'model', 'pipeline', 'endpoint', 'monitor', 'loop', 'system'];
  /** @type {Record<string, string[]>} */ const found = {};
  for (const ref of refs) (found[parseRef(ref).kind] ??= []).push(ref);
  return Object.entries(found).sort(([a], [b]) => (order.indexOf(a) + 99) % 99 - (order.indexOf(b) + 99) % 99);
}

/** The endpoints that belong to a project – themselves, or by the model they answer with – with their open alerts; the worst first.
 *  @param {any[]} endpoints @param {any[]} alerts @param {string[]} refs */
export function deployed(endpoints, alerts, refs) {
  const inside = new Set(refs);
  return endpoints.filter((e) => inside.has(`endpoint:${e.name}`) || inside.has(`model:${e.model}`))
    .map((e) => ({ ...e, alerts: alerts.filter((a) => a.endpoint === e.name) }))
    .sort((a, b) => b.alerts.length - a.alerts.length || Number(b.status !== 'ready') - Number(a.status !== 'ready') || a.name.localeCompare(b.name));
}

/** The sum of what runs took. @param {{runs_count: number, hours: number, cost: number, priced_count: number}[]} rows */
export function sumOf(rows) {
  return rows.reduce((all, r) => ({ runs: all.runs + r.runs_count, hours: all.hours + r.hours, cost: all.cost + r.cost, priced: all.priced + r.priced_count }), { runs: 0, hours: 0, cost: 0, priced: 0 });
}
