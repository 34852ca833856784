// @ts-check
/** What the reader may do. The server is asked once for each thing a page is about, and again when rights change; buttons read the answer. */

import { signal } from '@preact/signals-core';
import { api, withQuery } from './api.js';

/** @typedef {{on: string, may: string[], roles: Record<string, string[]>, ask: string[], somewhere?: string[]}} Rights */

/** @type {Map<string, import('@preact/signals-core').Signal<Rights | null>>} */
const known = new Map();

/** The reader's rights on a thing ('': the workspace), or null until they are known. Reading it subscribes. @param {string} on @returns {Rights | null} */
export function rightsOn(on) {
  let found = known.get(on);
  if (!found) { found = signal(null); known.set(on, found); ask(on, found); }
  return found.value;
}

/** Asks again about everything that is known: somebody's roles changed. */
export function forgetRights() { for (const [on, into] of known) ask(on, into); }

/** @param {string} on @param {import('@preact/signals-core').Signal<Rights | null>} into */
async function ask(on, into) {
  try { into.value = await api(withQuery('/me/actions', { on })); } catch { /* Unknown is not refused: the server has the last word on the deed. */ }
}

/** Why the reader may not do something, and whom to ask; '' when they may, or while nothing is known. Pure.
 *  @param {Rights | null} rights @param {string} action @param {boolean} [somewhere] a right on one thing or another is enough */
export function whyNot(rights, action, somewhere = false) {
  if (!rights || rights.may.includes(action) || (somewhere && rights.somewhere?.includes(action))) return '';
  const roles = rights.roles[action] ?? [], where = rights.on ? ` on ${rights.on}` : '';
  const take = roles.length ? `${roles.length === 1 ? 'the role' : 'a role such as'} ${listed(roles, 'or')}${where}` : `a right that no role gives: ${action}`;
  return `You may not do this: it takes ${take}. ${rights.ask.length ? `Ask ${listed(rights.ask, 'or')}.` : 'Ask an administrator.'}`;
}

/** `a, b or c`. Pure. @param {string[]} names @param {string} word */
export function listed(names, word) { return names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} ${word} ${names[names.length - 1]}`; }
