// @ts-check
/** The console of a run: its last lines first, earlier ones as one asks for them, new ones as they come while one stays at the end.
 *  Only the lines near the window exist in the document. */

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { useLive } from './use.js';
import { api, withQuery } from '../lib/api.js';
import { concerns } from '../lib/live.js';
import { before, find, linesOf, toneOf } from '../lib/console.js';
import { bytes, count } from '../lib/format.js';
import { sayError } from '../lib/store.js';

const TAIL = 65_536, STEP = 524_288, KEPT = 8 << 20, LINE = 18, OVER = 20, AT_ONCE = 400;

/** @param {{path: string, size: number, live: boolean, about: string, label: string}} props */
export function Console({ path, size, live, about, label }) {
  const [span, setSpan] = useState(/** @type {import('../lib/console.js').Span | null} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  const [follow, setFollow] = useState(true);
  const [text, setText] = useState(''), [hit, setHit] = useState(0);
  const [top, setTop] = useState(0), [busy, setBusy] = useState(false);
  const box = useRef(/** @type {any} */ (null)), reading = useRef(false), now = useRef(/** @type {any} */ (null));
  now.current = span;
  const height = box.current?.clientHeight ?? 720;

  /** Reads [from, to) or to the end. @param {number} from @param {number} to */
  const read = async (from, to) => {
    let at = from, found = '';
    for (let round = 0; round < 200 && at < to; round += 1) {
      const part = await api(withQuery(path, { offset: at }));
      if (!part.text) break;
      const room = to - at;
      // A part may reach beyond what is wanted: cut it in bytes, where the next span begins.
      found += part.next_offset - at > room ? new TextDecoder().decode(new TextEncoder().encode(part.text).slice(0, room)) : part.text;
      at = Math.min(to, part.next_offset);
    }
    return { start: from, end: at, text: found };
  };
  const onwards = async () => {
    const was = now.current;
    if (!was || reading.current) return;
    reading.current = true;
    try {
      const more = await read(was.end, Number.MAX_SAFE_INTEGER);
      if (more.text) setSpan((s) => (s && s.end === more.start ? trim({ start: s.start, end: more.end, text: s.text + more.text }) : s));
      setError(null);
    } catch (e) { setError(e); } finally { reading.current = false; }
  };
  const earlier = async (/** @type {number} */ step) => {
    const was = now.current;
    if (!was || was.start === 0) return false;
    const more = await read(before(was.start, step), was.start);
    setSpan((s) => (s && s.start === more.end ? { start: more.start, end: s.end, text: more.text + s.text } : s));
    return true;
  };
  useEffect(() => {
    let gone = false;
    const from = before(size, TAIL);
    read(from, Number.MAX_SAFE_INTEGER).then((s) => { if (!gone) setSpan(s); }, (e) => { if (!gone) setError(e); });
    return () => { gone = true; };
  }, [path]);
  useEffect(() => { if (!live) return undefined; const pulse = setInterval(() => { if (document.visibilityState !== 'hidden') onwards(); }, 2000); return () => clearInterval(pulse); }, [live, path]);
  useLive({ tick: (/** @type {any} */ t) => { if (t.ref === about) onwards(); }, fact: (/** @type {any} */ f) => { if (concerns(f, { subjects: [about] })) onwards(); } });

  const lines = useMemo(() => (span ? linesOf(span, span.start === 0) : []), [span]);
  const hits = useMemo(() => find(lines, text), [lines, text]);
  useLayoutEffect(() => { const el = box.current; if (el && follow) { el.scrollTop = el.scrollHeight; setTop(el.scrollTop); } }, [lines, follow]);
  const goTo = (/** @type {number} */ n) => { if (!hits.length) return; const i = (n + hits.length) % hits.length; setHit(i); setFollow(false); const el = box.current; el.scrollTop = Math.max(0, hits[i] * LINE - el.clientHeight / 2); setTop(el.scrollTop); };
  const withBusy = async (/** @type {() => Promise<any>} */ deed) => { setBusy(true); try { await deed(); } catch (e) { sayError(e); } finally { setBusy(false); } };
  const readAll = () => withBusy(async () => { while (now.current.start > 0 && now.current.end - now.current.start < KEPT) { await earlier(STEP); await new Promise((r) => setTimeout(r, 0)); } });

  if (error && !span) return html`<p class="muted" role="alert">${error.message}</p>`;
  if (!span) return html`<div class="skeleton" aria-busy="true"></div>`;
  if (!lines.length) return html`<div class="empty"><${Icon} name="terminal" /><p>Nothing was written${live ? ' yet' : ''}. <code>noria run -- python train.py</code> keeps what a command prints.</p></div>`;
  const from = Math.max(0, Math.floor(top / LINE) - OVER), to = Math.min(lines.length, from + Math.min(AT_ONCE, Math.ceil(height / LINE) + 2 * OVER));
  const hitSet = new Set(hits);
  return html`<div class="stack tight"><div class="row wrap"><label class="search console-search"><span class="sr">Search the console</span><${Icon} name="search" /><input class="input" value=${text} placeholder="Search" spellcheck=${false} onInput=${(/** @type {any} */ e) => { setText(e.currentTarget.value); setHit(0); }} onKeyDown=${(/** @type {any} */ e) => { if (e.key === 'Enter') { e.preventDefault(); goTo(e.shiftKey ? hit - 1 : text && hits.length && !follow ? hit + 1 : 0); } }} /></label>
      ${text && html`<span class="quiet nowrap" role="status">${hits.length ? `${follow ? '' : `${Math.min(hit + 1, hits.length)} of `}${count(hits.length)} found` : 'None found'}${span.start > 0 ? ` in the last ${bytes(span.end - span.start)}` : ''}</span>${span.start > 0 && html`<button type="button" class="button plain small" disabled=${busy} onClick=${readAll}>Search all of it</button>`}`}
      <span class="end row"><span class="muted nowrap">${span.start > 0 ? `the last ${bytes(span.end - span.start)} of ${bytes(span.end)}` : bytes(span.end)}</span>
        <button type="button" class="button small" aria-pressed=${follow ? 'true' : 'false'} title="Stay at the end as lines come" onClick=${() => setFollow(!follow)}><${Icon} name="arrow-down" small />Follow</button></span></div>
    <div class="log console" ref=${box} tabindex="0" role="log" aria-live=${live && follow ? 'polite' : 'off'} aria-label=${label} onScroll=${(/** @type {any} */ e) => { const el = e.currentTarget; setTop(el.scrollTop); const end = el.scrollHeight - el.scrollTop - el.clientHeight < 24; if (!end && follow && el.scrollTop < (Number(el.dataset.top ?? 0))) setFollow(false); if (end && live && !follow) setFollow(true); el.dataset.top = el.scrollTop; }}>
      ${span.start > 0 && html`<button type="button" class="button plain small earlier" disabled=${busy} onClick=${() => { setFollow(false); const el = box.current, rest = el.scrollHeight - el.scrollTop; withBusy(async () => { await earlier(STEP); requestAnimationFrame(() => { el.scrollTop = el.scrollHeight - rest; }); }); }}>Show earlier lines</button>`}
      <ol style=${{ height: `${lines.length * LINE}px`, paddingTop: `${from * LINE}px` }}>${lines.slice(from, to).map((l, i) => html`<li key=${from + i} class=${`${toneOf(l)} ${hitSet.has(from + i) ? 'hit' : ''} ${!follow && hits[hit] === from + i ? 'now' : ''}`}>${l || '\u00a0'}</li>`)}</ol></div></div>`;
}

/** Keeps the end of what has become too long. @param {import('../lib/console.js').Span} span */
function trim(span) {
  if (span.end - span.start <= KEPT) return span;
  const bytesOf = new TextEncoder().encode(span.text), cut = bytesOf.length - KEPT / 2;
  return { start: span.end - KEPT / 2, end: span.end, text: new TextDecoder().decode(bytesOf.slice(cut)) };
}
