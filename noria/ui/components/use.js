// @ts-check
/** Hooks: a resource that stays true, a command a page offers, whether something is in view, how large it is. */

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import { signal } from '@preact/signals';
import { api } from '../lib/api.js';
import { concerns } from '../lib/live.js';
import { offer } from '../lib/commands.js';

/** @type {{listen: (l: any) => () => void}} */
let live = { listen: () => () => {} };
/** @param {typeof live} source */
export function useLiveFrom(source) { live = source; }

/** An answer of the API that reads itself again when a fact concerns it. The old answer stays on screen meanwhile.
 *  @param {string | null} path null asks nothing
 *  @param {{kinds?: string[], subjects?: string[], ticks?: string[], every?: number, map?: (answer: any) => any}} [interest]
 *  @returns {{data: any, error: any, loading: boolean, reload: () => void, path: string | null}} */
export function useResource(path, interest = {}) {
  const [state, set] = useState(/** @type {any} */ ({ data: null, error: null, loading: path !== null, path }));
  const again = useRef(() => {});
  const wants = useRef(interest);
  wants.current = interest;

  useEffect(() => {
    if (path === null) { set({ data: null, error: null, loading: false, path }); return undefined; }
    let gone = false, busy = false, dirty = false;
    /** @type {any} */ let timer = null;
    const stop = new AbortController();
    set((/** @type {any} */ was) => (was.path === path ? was : { ...was, loading: true }));
    const load = async () => {
      if (busy) { dirty = true; return; }
      busy = true;
      try {
        const answer = await api(path, { signal: stop.signal });
        if (!gone) set({ data: wants.current.map ? wants.current.map(answer) : answer, error: null, loading: false, path });
      } catch (error) {
        if (gone || stop.signal.aborted) return;
        set((/** @type {any} */ was) => ({ data: was.path === path ? was.data : null, error, loading: false, path }));
        if (/** @type {any} */ (error).status === 0) timer = setTimeout(load, 4000);
      } finally {
        busy = false;
        if (dirty && !gone) { dirty = false; soon(); }
      }
    };
    const soon = (delay = 250) => { clearTimeout(timer); timer = setTimeout(load, delay); };
    again.current = () => { load(); };
    load();
    const unlisten = live.listen({
      fact: (/** @type {any} */ fact) => { const { kinds, subjects } = wants.current; if ((kinds || subjects) && concerns(fact, { kinds, subjects })) soon(); },
      tick: (/** @type {any} */ tick) => { if (wants.current.ticks?.some((r) => (r.endsWith('*') ? String(tick.ref).startsWith(r.slice(0, -1)) : tick.ref === r))) soon(400); },
      resync: () => soon(100),
    });
    const every = wants.current.every;
    const pulse = every ? setInterval(() => { if (document.visibilityState !== 'hidden') load(); }, every) : null;
    return () => { gone = true; stop.abort(); clearTimeout(timer); if (pulse) clearInterval(pulse); unlisten(); };
  }, [path]);
  return { ...state, reload: () => again.current() };
}

/** Hears facts and ticks while mounted. @param {any} listener */
export function useLive(listener) {
  const current = useRef(listener);
  current.current = listener;
  useEffect(() => live.listen({
    fact: (/** @type {any} */ f) => current.current.fact?.(f), tick: (/** @type {any} */ t) => current.current.tick?.(t), resync: () => current.current.resync?.(),
  }), []);
}

/** Offers commands to the palette and the keyboard while mounted. The closures may change with each render.
 *  @param {import('../lib/commands.js').Command[]} list */
export function useCommands(list) {
  const current = useRef(list);
  current.current = list;
  const ids = list.map((c) => c.id).join(' ');
  useEffect(() => offer(current.current.map((c) => ({ ...c, run: (event) => current.current.find((x) => x.id === c.id)?.run(event) }))), [ids]);
}

/** @type {WeakMap<Element, (seen: boolean) => void>} */
const watched = new WeakMap();
const eye = new IntersectionObserver((entries) => { for (const e of entries) watched.get(e.target)?.(e.isIntersecting); }, { rootMargin: '200px' });

/** Everything is drawn, in view or not: for paper. */
export const eager = signal(false);

/** True from the first time the element came near the window: no chart mounts before. @param {{current: Element | null}} ref */
export function useSeen(ref) {
  const [seen, set] = useState(false);
  useEffect(() => {
    const el = ref.current;
    if (!el || seen) return undefined;
    watched.set(el, (is) => { if (is) set(true); });
    eye.observe(el);
    return () => eye.unobserve(el);
  }, [seen]);
  return seen || eager.value;
}

/** The size of an element, followed. @param {{current: Element | null}} ref */
export function useSize(ref) {
  const [size, set] = useState({ width: 0, height: 0 });
  useLayoutEffect(() => {
    const el = ref.current;
    if (!el) return undefined;
    const look = () => { const r = el.getBoundingClientRect(); set((was) => (Math.abs(was.width - r.width) < 1 && Math.abs(was.height - r.height) < 1 ? was : { width: r.width, height: r.height })); };
    look();
    const o = new ResizeObserver(look);
    o.observe(el);
    return () => o.disconnect();
  }, []);
  return size;
}

let ids = 0;
/** An id for aria relations. @param {string} [stem] */
export function useName(stem = 'n') { return useMemo(() => `${stem}-${++ids}`, []); }
