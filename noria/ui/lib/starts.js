// @ts-check
/** Schedules and triggers in words, and conditions as they are typed. Pure. */

import { typed } from './steps.js';

/** How a thing starts its pipeline: a word and a rule. @param {any} r @returns {[string, string]} */
export function ruleOf(r) {
  if (r.cron) return ['at', `${r.cron} (${r.time_zone})`];
  if (r.is_hook) return ['on a signed message to', `/api/v1/hooks/${r.name}`];
  if (r.files) return ['when a file arrives in', `${r.files.url}${r.files.pattern === '*' ? '' : ` (${r.files.pattern})`}`];
  return ['when', `${r.kinds.join(', ')}${r.filter?.length ? ` where ${conditionsText(r.filter)}` : ''}`];
}

/** Conditions as they are typed. @param {{field: string, op: string, value: any}[]} conditions @returns {string} */
export function conditionsText(conditions) { return conditions.map((c) => `${c.field} ${c.op} ${c.value}`).join(' and '); }

/** `data.name = flights and data.rows >= 10` as conditions. Throws what is wrong with it. @param {string} text */
export function conditionsOf(text) {
  return text.split(/\s+and\s+/i).map((part) => part.trim()).filter(Boolean).map((part) => {
    const found = /^([\w.]+)\s*(!=|>=|<=|=|>|<|\slike\s)\s*(.+)$/i.exec(part);
    if (!found) throw new Error(`“${part}” is no condition; write it as data.name = value.`);
    return { field: found[1], op: found[2].trim().toLowerCase(), value: typed(found[3].replace(/^'(.*)'$/, '"$1"')) };
  });
}
