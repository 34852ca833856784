// @ts-check
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { commands } from '../lib/commands.js';
import { kindWord, search } from '../lib/search.js';
import { iconOf } from '../lib/refs.js';
import { me, visited } from '../lib/store.js';
import { merged, rank } from '../lib/rank.js';

const ROWS_MAX = 60;

/** The buttons of the page in front that have a name, as commands: what one can click here one can type. Those of table rows are not
 *  among them, since each row has the same.  @returns {import('../lib/commands.js').Command[]} */
function deedsOfPage() {
  const seen = new Set();
  return [...document.querySelectorAll('main .page button, main .page header a.button, main .page [role=tab]')].flatMap((/** @type {any} */ el, i) => {
    const title = (el.getAttribute('aria-label') || el.textContent || '').trim().replace(/\s+/g, ' ');
    if (!title || title.length > 60 || seen.has(title) || el.disabled || el.closest('td, th, .command, .menu-pop, .timeline, pre') || !el.checkVisibility()) return [];
    seen.add(title);
    const group = el.getAttribute('role') === 'tab' ? 'Parts of this page' : 'On this page';
    return [{ id: `page.${i}`, title, icon: el.getAttribute('role') === 'tab' ? 'chevron-right' : 'play', group, keys: el.getAttribute('aria-disabled') === 'true' ? 'not yours to do' : undefined, run: () => { el.focus(); el.click(); } }];
  });
}

/** Everything one can do or go to, by name. @param {{onClose: () => void, go: (to: string) => void}} props */
export function Palette({ onClose, go }) {
  const box = useRef(/** @type {any} */ (null)), list = useRef(/** @type {any} */ (null));
  const [text, setText] = useState('');
  const [at, setAt] = useState(0);
  const [found, setFound] = useState({ text: '', items: /** @type {any[]} */ ([]) });
  const deeds = useMemo(deedsOfPage, []);
  const places = useMemo(() => visited.value.filter((v) => v.who === (me.value?.id ?? '') && v.path !== location.pathname).slice(0, 5).map((v) => ({ id: `was ${v.path}`, title: v.title, icon: 'history', group: 'Where you were', keys: undefined, run: () => go(v.path) })), []);
  useLayoutEffect(() => { box.current?.showModal(); }, []);
  useEffect(() => {
    if (text.trim().length < 2) { setFound({ text, items: [] }); return undefined; }
    const stop = new AbortController();
    const timer = setTimeout(() => search(text, stop.signal).then((items) => { if (!stop.signal.aborted) setFound({ text, items }); }), 120);
    return () => { clearTimeout(timer); stop.abort(); };
  }, [text]);

  const items = useMemo(() => {
    const seen = new Set();
    const all = commands.value.filter((c) => !c.hidden).reverse().filter((c) => !seen.has(c.id) && seen.add(c.id)).reverse();
    const here = rank(text, [...deeds, ...places, ...all], (c) => c.title).map((c) => ({ key: c.id, icon: c.icon ?? 'chevron-right', title: c.title, hint: c.keys, group: c.group ?? 'Do', run: c.run }));
    const things = found.items.map((f) => ({ key: `${f.kind} ${f.href}`, icon: iconOf(f.kind), title: f.label, more: f.detail, hint: kindWord(f.kind), group: 'Found', run: () => (f.kind === 'manual' ? location.assign(f.href) : go(f.href)) }));
    return merged(text, things, here, found.text === text).slice(0, ROWS_MAX);
  }, [text, found, commands.value]);

  const pick = (/** @type {any} */ item) => { box.current?.close(); if (item) setTimeout(() => item.run(), 0); };
  /** @param {any} e */
  const onKey = (e) => {
    const step = e.key === 'ArrowDown' || (e.ctrlKey && e.key === 'n') ? 1 : e.key === 'ArrowUp' || (e.ctrlKey && e.key === 'p') ? -1 : 0;
    if (step) { e.preventDefault(); const next = (at + step + items.length) % Math.max(1, items.length); setAt(next); list.current?.querySelector(`#palette-${next}`)?.scrollIntoView({ block: 'nearest' }); } else if (e.key === 'Enter') { e.preventDefault(); pick(items[at]); }
  };
  let group = '';
  return html`<dialog class="palette" ref=${box} aria-label="Go anywhere, do anything" onClose=${onClose} onClick=${(/** @type {any} */ e) => { if (e.target === box.current) box.current.close(); }}>
    <div class="ask"><${Icon} name="search" /><input type="text" role="combobox" aria-expanded="true" aria-controls="palette-list" aria-activedescendant=${items.length ? `palette-${at}` : undefined} aria-label="Name of a page, an action or a thing" placeholder="Go anywhere, do anything: a run, a team, a page of the manual, model:fraud@champion" spellcheck=${false} autocomplete="off" value=${text} onInput=${(/** @type {any} */ e) => { setText(e.currentTarget.value); setAt(0); }} onKeyDown=${onKey} /><kbd>esc</kbd></div>
    <ul id="palette-list" role="listbox" aria-label="Results" ref=${list}>${items.map((item, i) => { const head = item.group !== group; group = item.group; return [head && html`<li class="head" role="presentation" key=${`h${item.group}`}>${item.group}</li>`,
      html`<li key=${item.key} id=${`palette-${i}`} role="option" aria-selected=${i === at ? 'true' : 'false'} onClick=${() => pick(item)} onMouseMove=${() => { if (at !== i) setAt(i); }}><${Icon} name=${item.icon} /><span class="truncate grow">${item.title}${item.more && html` <span class="muted">${item.more}</span>`}</span>${item.hint && html`<span class="hint">${item.hint}</span>`}</li>`]; })}
      ${!items.length && html`<li class="head" role="presentation">Nothing is called “${text}”.</li>`}</ul></dialog>`;
}
