// @ts-check
/** Moving an alias, and taking the move back: against the generation one saw, so that a move by somebody else in between is not undone. */

import { api, enc, remove, withQuery } from './api.js';

/** @typedef {{name: string, version: number, generation: number}} Alias */

/** Points `name` at a version; gives what takes that back. @param {string} model @param {string} name @param {number} version @param {Alias | undefined} was @param {string} reason */
export async function moveAlias(model, name, version, was, reason) {
  const moved = await put(model, name, version, was?.generation ?? 0, reason);
  const why = `taken back: ${name} was moved to @${version} by mistake`;
  return { undo: () => (was ? put(model, name, was.version, moved.generation, why) : drop(model, name, moved.generation, why)) };
}

/** Lets `was` name nothing; gives what takes that back. @param {string} model @param {Alias} was @param {string} reason */
export async function removeAlias(model, was, reason) {
  await drop(model, was.name, was.generation, reason);
  return { undo: () => put(model, was.name, was.version, 0, `taken back: ${was.name} was removed by mistake`) };
}

/** @param {string} model @param {string} name @param {number} version @param {number} expect @param {string} reason */
const put = (model, name, version, expect, reason) => api(`/models/${enc(model)}/aliases/${enc(name)}`, { method: 'PUT', body: { version, expect, reason } });
/** @param {string} model @param {string} name @param {number} expect @param {string} reason */
const drop = (model, name, expect, reason) => remove(withQuery(`/models/${enc(model)}/aliases/${enc(name)}`, { expect, reason }));
