// @ts-check
/** Everything one can do, by name. The palette lists it, the keyboard map calls it; the page in front may answer before the shell. */

import { signal } from '@preact/signals-core';

/** @typedef {{id: string, title: string, icon?: string, keys?: string, group?: string, run: (event?: any) => void, hidden?: boolean}} Command */

/** Newest last: a page's command shadows the shell's of the same id. @type {import('@preact/signals-core').Signal<Command[]>} */
export const commands = signal([]);

/** @param {Command[]} list @returns {() => void} takes them back */
export function offer(list) {
  commands.value = [...commands.peek(), ...list];
  return () => { commands.value = commands.peek().filter((c) => !list.includes(c)); };
}

/** @param {string} id @param {any} [event] @returns {boolean} whether anyone answered */
export function perform(id, event) {
  const found = commands.peek().findLast((c) => c.id === id);
  if (!found) return false;
  found.run(event);
  return true;
}

/** Keys and what they mean. A command without a holder on this page does nothing. @type {[string, string, string][]} */
export const KEYS = [
  ['mod+k', 'palette', 'Go anywhere, do anything'],
  ['/', 'filter', 'Filter this list'],
  ['j', 'row.next', 'Next row'],
  ['k', 'row.previous', 'Previous row'],
  ['x', 'row.select', 'Select the row (shift: a range)'],
  ['X', 'row.select', ''],
  ['Enter', 'row.open', 'Open the row'],
  ['c', 'compare', 'Compare the selected runs'],
  ['e', 'column.pin', 'Pin the sorted column'],
  ['.', 'actions', 'Actions on this page'],
  ['[', 'previous', 'Previous run'],
  [']', 'next', 'Next run'],
  ['Escape', 'close', 'Close what is open'],
  ['?', 'keys', 'This list'],
  ['g h', 'go.home', 'Home'],
  ['g i', 'go.inbox', 'Inbox'],
  ['g j', 'go.projects', 'Projects'],
  ['g r', 'go.runs', 'Runs'],
  ['g d', 'go.datasets', 'Datasets'],
  ['g m', 'go.models', 'Models'],
  ['g p', 'go.pipelines', 'Pipelines'],
  ['g e', 'go.endpoints', 'Endpoints'],
  ['g o', 'go.monitors', 'Monitors'],
  ['g l', 'go.loops', 'Loops'],
  ['g t', 'go.reports', 'Reports'],
  ['g a', 'go.audit', 'Audit'],
  ['g c', 'go.compliance', 'Compliance'],
  ['g v', 'go.approvals', 'Approvals'],
  ['g x', 'go.traces', 'Traces'],
  ['g n', 'go.channels', 'Channels'],
  ['g s', 'go.settings', 'Settings'],
];
