// @ts-check
/** The runs of a table, read in the order in which one looks: first what fills the window, then the rest, then columns as they are asked
 *  for. Runs that change are read again by id; the list as a whole is read once. */

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { useLive } from './use.js';
import { api, withQuery } from '../lib/api.js';
import { addColumns, append, dropRows, patchRows, readTable } from '../lib/columns.js';
import { usual } from '../lib/view.js';

export const PAGE = 10_000;
const FIRST = 100, SAMPLE = 100, PATCH_MAX = 60, PATCH_MS = 800;

/** @typedef {{experiment: string, filter: string, stage: string}} Question */

/** The columns that runs have, most used first; a sample at once, all of them when `whole`.
 *  @param {Question} question @param {boolean} whole */
export function useCatalogue({ experiment, filter, stage }, whole) {
  const [found, set] = useState(/** @type {any} */ (null));
  useEffect(() => {
    let gone = false;
    api(withQuery('/runs/columns', { experiment, stage: stage || null, filter: whole ? null : filter, limit: whole ? PAGE : SAMPLE }))
      .then((a) => { if (!gone) set({ ...a, whole, of: experiment }); }, () => { if (!gone) set((/** @type {any} */ was) => (was?.of === experiment ? was : { runs: 0, items: [], whole, of: experiment })); });
    return () => { gone = true; };
  }, [experiment, stage, whole, whole ? '' : filter]);
  return found;
}

/** @param {Question} question @param {string[] | null} columns that are needed; null while they are not known @param {string} order for the server, used when there are more runs than one page */
export function useRuns(question, columns, order) {
  const [state, set] = useState(/** @type {{table: any, next: string | null, error: any, loading: boolean, whole: boolean, of: string}} */ ({ table: null, next: null, error: null, loading: true, whole: false, of: '' }));
  const [round, again] = useState(0);
  const now = useRef(state);
  now.current = state;
  const partial = state.next !== null && state.whole;
  const base = { experiment: question.experiment, filter: question.filter, stage: question.stage };
  const key = JSON.stringify([base, partial || now.current.of.includes('"by"') ? order : '', round]);
  const wanted = useRef(/** @type {string[]} */ ([]));
  wanted.current = columns ?? [];
  const ready = columns !== null;

  useEffect(() => {
    if (!ready) return undefined;
    const stop = new AbortController();
    const of = JSON.stringify([base, order]);
    const by = now.current.next !== null && now.current.whole ? order : '';
    const ask = (/** @type {number} */ limit, /** @type {string[]} */ names) => api(withQuery('/runs', { ...base, order_by: by, columns: names.join(','), limit }), { signal: stop.signal });
    set((was) => ({ ...was, loading: true }));
    (async () => {
      try {
        const names = wanted.current;
        const first = await ask(FIRST, names);
        const table = withDuration(readTable(first));
        set({ table, next: first.next, error: null, loading: first.next !== null, whole: first.next === null, of });
        if (first.next === null) return;
        const all = await ask(PAGE, names);
        set({ table: withDuration(readTable(all)), next: all.next, error: null, loading: false, whole: true, of });
      } catch (error) {
        if (!stop.signal.aborted) set((was) => ({ ...was, error, loading: false }));
      }
    })();
    return () => stop.abort();
  }, [key, ready]);

  // A column that is asked for later is read for the rows that are here.
  const missing = state.whole && state.table && columns ? columns.filter((c) => !(c in state.table.columns)) : [];
  useEffect(() => {
    if (!missing.length) return undefined;
    const stop = new AbortController(), of = state.of;
    set((was) => ({ ...was, loading: true }));
    api(withQuery('/runs', { ...base, columns: missing.join(','), limit: PAGE }), { signal: stop.signal }).then(
      (answer) => set((was) => (was.of === of && was.table ? { ...was, table: withDuration(addColumns(was.table, readTable(answer))), loading: false } : was)),
      (error) => { if (!stop.signal.aborted) set((was) => ({ ...was, error, loading: false })); });
    return () => stop.abort();
  }, [missing.join(','), state.of]);

  const changed = useRef(new Set()), timer = useRef(/** @type {any} */ (null));
  const readChanged = async () => {
    timer.current = null;
    const ids = [...changed.current];
    changed.current.clear();
    const { table } = now.current;
    if (!ids.length || !table) return;
    if (ids.length > PATCH_MAX) { again((n) => n + 1); return; }
    const one = `attributes.run_id in (${ids.map((id) => `'${id}'`).join(', ')})`;
    try {
      const answer = await api(withQuery('/runs', { ...base, filter: base.filter ? `${base.filter} and ${one}` : one, columns: Object.keys(table.columns).filter((c) => c !== 'duration_ms').join(','), limit: PATCH_MAX }));
      const found = new Set(answer.ids);
      set((was) => (was.table ? { ...was, table: withDuration(patchRows(dropRows(was.table, new Set(ids.filter((id) => !found.has(id)))), readTable(answer)), true) } : was));
    } catch { /* The list stays as it was; the next change asks again. */ }
  };
  const note = (/** @type {string} */ ref) => { if (!/^run:[0-9a-zA-Z_-]+$/.test(ref)) return; changed.current.add(ref.slice(4)); timer.current ??= setTimeout(readChanged, PATCH_MS); };
  useLive({
    fact: (/** @type {any} */ f) => { if (f.kind?.startsWith('run.')) note(String(f.subject)); },
    tick: (/** @type {any} */ t) => { if (String(t.ref).startsWith('run:')) note(String(t.ref)); },
    resync: () => again((n) => n + 1),
  });
  useEffect(() => () => clearTimeout(timer.current), []);

  const more = async () => {
    const { next, table } = now.current;
    if (!next || !table) return;
    const answer = await api(withQuery('/runs', { ...base, order_by: order, columns: wanted.current.join(','), limit: PAGE, page: next }));
    set((was) => ({ ...was, table: withDuration(append(was.table, readTable(answer)), true), next: answer.next }));
  };
  return { ...state, reload: () => again((n) => n + 1), more };
}

/** The columns to show: those of the address, those chosen last, or the usual ones. @param {string[]} asked @param {string[] | undefined} remembered @param {any} catalogue @returns {string[] | null} */
export function useVisible(asked, remembered, catalogue) {
  return useMemo(() => (asked.length ? asked : remembered?.length ? remembered : catalogue ? usual(catalogue.items, catalogue.runs) : null), [asked.join(','), remembered?.join(','), catalogue?.of, catalogue?.whole ? 0 : catalogue?.runs]);
}

/** @param {any} table @param {boolean} [anew] */
function withDuration(table, anew = false) {
  const { started_at_ms: a, ended_at_ms: b } = table.columns;
  if (!a || !b || (table.columns.duration_ms && !anew && table.columns.duration_ms.length === table.ids.length)) return table;
  return { ids: table.ids, columns: { ...table.columns, duration_ms: Float64Array.from(a, (s, i) => { const d = b[i] - s; return b[i] !== null && d >= 0 ? d : NaN; }) } };
}
