// @ts-check
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { html } from './html.js';
import { api, withQuery } from '../lib/api.js';
import { useLive } from './use.js';
import { lastWrite } from '../lib/console.js';
import { concerns } from '../lib/live.js';

/** Lines as they come. It starts at the end and follows while one stays at the end.
 *  @param {{path: string, live?: boolean, ref_?: string, label: string}} props */
export function Log({ path, live = false, ref_, label }) {
  const [lines, setLines] = useState(/** @type {string[] | null} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  const box = useRef(/** @type {any} */ (null)), offset = useRef(0), tail = useRef(''), stuck = useRef(true), busy = useRef(false);
  const read = async () => {
    if (busy.current) return;
    busy.current = true;
    try {
      for (let round = 0; round < 50; round += 1) {
        const answer = await api(withQuery(path, { offset: offset.current }));
        const text = typeof answer === 'string' ? answer : answer.text ?? (answer.lines ? `${answer.lines.map((/** @type {any} */ l) => (typeof l === 'string' ? l : l.text)).join('\n')}${answer.lines.length ? '\n' : ''}` : '');
        const next = answer.next_offset ?? answer.next ?? answer.offset ?? offset.current;
        if (text) {
          const parts = (tail.current + text).split('\n');
          tail.current = parts.pop() ?? '';
          setLines((was) => [...(was ?? []), ...parts].slice(-5000));
        } else setLines((was) => was ?? []);
        const moved = Number(next) > offset.current;
        if (moved) offset.current = Number(next);
        if (!moved || !text) break;
      }
      setError(null);
    } catch (problem) { setError(problem); setLines((was) => was ?? []); } finally { busy.current = false; }
  };
  useEffect(() => { offset.current = 0; tail.current = ''; setLines(null); setError(null); read(); const pulse = live ? setInterval(read, 1500) : null; return () => { if (pulse) clearInterval(pulse); }; }, [path, live]);
  useLive({ tick: (/** @type {any} */ t) => { if (ref_ && t.ref === ref_) read(); }, fact: (/** @type {any} */ f) => { if (ref_ && concerns(f, { subjects: [ref_] })) read(); } });
  useLayoutEffect(() => { if (stuck.current && box.current) box.current.scrollTop = box.current.scrollHeight; }, [lines]);
  if (error && !lines?.length) return html`<p class="muted">${error.status === 404 ? 'There is no log.' : error.message}</p>`;
  if (lines === null) return html`<div class="skeleton"></div>`;
  const all = tail.current ? [...lines, tail.current] : lines;
  if (!all.length) return html`<p class="muted">Nothing was written${live ? ' yet' : ''}.</p>`;
  return html`<div class="log" ref=${box} tabindex="0" role="log" aria-label=${label} onScroll=${(/** @type {any} */ e) => { const el = e.currentTarget; stuck.current = el.scrollHeight - el.scrollTop - el.clientHeight < 24; }}>
    <ol>${all.slice(-2000).map((l, i) => html`<li key=${all.length - Math.min(2000, all.length) + i} class=${/\b(error|traceback|exception|failed)\b/i.test(l) ? 'error' : /\bwarn(ing)?\b/i.test(l) ? 'warning' : ''}>${lastWrite(l)}</li>`)}</ol></div>`;
}
