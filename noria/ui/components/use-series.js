// @ts-check
/** Series of several runs and keys, thinned by the server, kept true by ticks. Requests are per run, for the charts in view. */

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { api, enc } from '../lib/api.js';
import { outline } from '../lib/extremes.js';
import { useLive } from './use.js';
import { slotOf } from '../lib/store.js';

const KEYS_AT_ONCE = 20;

/** @param {string[]} ids @param {string[]} keys @param {{buckets?: number, from?: number | null, to?: number | null}} [options] @returns {{all: Map<string, Record<string, any>>, error: any}} run → key → series */
export function useSeries(ids, keys, { buckets = 400, from = null, to = null } = {}) {
  const [all, set] = useState(() => new Map());
  const [error, setError] = useState(/** @type {any} */ (null));
  const span = `${buckets}|${from}|${to}`;
  const wanted = useRef({ ids, keys, span });
  wanted.current = { ids, keys, span };
  const timers = useRef(new Map());
  const asked = useRef(/** @type {Map<string, string>} */ (new Map()));

  /** Reads keys of a run, some at a time; those that were asked for over the same span are not asked for again. @param {string} id @param {boolean} [anew] */
  const read = async (id, anew = false) => {
    const missing = wanted.current.keys.filter((k) => anew || asked.current.get(`${id} ${k}`) !== span);
    for (const k of missing) asked.current.set(`${id} ${k}`, span);
    for (let i = 0; i < missing.length; i += KEYS_AT_ONCE) {
      const some = missing.slice(i, i + KEYS_AT_ONCE);
      const q = new URLSearchParams({ keys: some.join(','), buckets: String(buckets) });
      if (from !== null) q.set('from', String(Math.floor(from)));
      if (to !== null) q.set('to', String(Math.ceil(to)));
      try {
        const answer = await api(`/runs/${enc(id)}/series?${q}`);
        if (wanted.current.span !== span) return;
        set((was) => new Map(was).set(id, { ...(was.get(id) ?? {}), ...answer.series }));
        setError(null);
      } catch (problem) { for (const k of some) asked.current.delete(`${id} ${k}`); setError(problem); }
    }
  };
  useEffect(() => { for (const id of ids) read(id); }, [ids.join(','), keys.join(','), span]);
  useLive({ tick: (/** @type {any} */ tick) => {
    const id = String(tick.ref ?? '').replace(/^run:/, '');
    if (!wanted.current.ids.includes(id) || timers.current.has(id)) return;
    timers.current.set(id, setTimeout(() => { timers.current.delete(id); read(id, true); }, 700));
  }, fact: (/** @type {any} */ f) => { const id = String(f.subject ?? '').replace(/^run:/, ''); if (f.kind?.startsWith('run.') && wanted.current.ids.includes(id)) read(id, true); }, resync: () => wanted.current.ids.forEach((id) => read(id, true)) });
  return { all, error };
}

/** Lines of one key for several runs. @param {Map<string, Record<string, any>>} all @param {string[]} ids @param {string} key @param {(id: string) => string} name @param {'step' | 'time' | 'elapsed'} x */
export function linesOf(all, ids, key, name, x) {
  return ids.flatMap((id) => {
    const s = all.get(id)?.[key];
    if (!s || !s.step?.length) return [];
    const slot = slotOf(id, ids), start = s.at_ms?.[0] ?? 0;
    const at = x === 'step' ? s.step : x === 'time' ? s.at_ms : s.at_ms.map((/** @type {number} */ t) => t - start);
    const { x: xs, y } = outline({ ...s, min: s.min.map(finite), max: s.max.map(finite), first: s.first?.map(finite), last: s.last?.map(finite) }, at);
    const place = (/** @type {number} */ step) => (x === 'step' ? step : at[Math.max(0, nearest(s.step, step))] ?? 0);
    return [{ id, name: name(id), colour: slot.colour, dash: slot.dash, href: `/runs/${id}`, x: xs, y, nan: (s.nan ?? []).map(place), inf: (s.inf ?? []).map(place), minusInf: (s.minus_inf ?? []).map(place), nanCount: s.nan_count, infCount: s.inf_count, minusInfCount: s.minus_inf_count, count: s.count }];
  });
}

/** The lines of many keys, computed again only when something changed. @param {any[]} args */
export function useLines(...args) {
  const [all, ids, keys, name, x] = args;
  return useMemo(() => Object.fromEntries(keys.map((/** @type {string} */ k) => [k, linesOf(all, ids, k, name, x)])), [all, ids.join(','), keys.join(','), x, name]);
}

/** @param {any} v */
function finite(v) { return typeof v === 'number' && Number.isFinite(v) ? v : null; }

/** @param {number[]} steps @param {number} step */
function nearest(steps, step) { let i = 0; while (i + 1 < steps.length && steps[i + 1] <= step) i += 1; return i; }
