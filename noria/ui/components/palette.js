// @ts-check
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { commands } from '../lib/commands.js';
import { search } from '../lib/search.js';
import { iconOf, pageOf, parseRef } from '../lib/refs.js';
import { rank } from '../lib/rank.js';

/** Everything one can do or go to, by name. @param {{onClose: () => void, go: (to: string) => void}} props */
export function Palette({ onClose, go }) {
  const box = useRef(/** @type {any} */ (null)), list = useRef(/** @type {any} */ (null));
  const [text, setText] = useState('');
  const [at, setAt] = useState(0);
  const [found, setFound] = useState(/** @type {any[]} */ ([]));
  useLayoutEffect(() => { box.current?.showModal(); }, []);
  useEffect(() => {
    if (text.trim().length < 2) { setFound([]); return undefined; }
    const stop = new AbortController();
    const timer = setTimeout(() => search(text, stop.signal).then((items) => { if (!stop.signal.aborted) setFound(items); }), 120);
    return () => { clearTimeout(timer); stop.abort(); };
  }, [text]);

  const items = useMemo(() => {
    const seen = new Set();
    const all = commands.value.filter((c) => !c.hidden).reverse().filter((c) => !seen.has(c.id) && seen.add(c.id)).reverse();
    const here = rank(text, all, (c) => c.title).map((c) => ({ key: c.id, icon: c.icon ?? 'chevron-right', title: c.title, hint: c.keys, group: c.group ?? 'Do', run: c.run }));
    const things = found.flatMap((f) => { const to = f.href ?? pageOf(f.ref ?? `${f.kind}:${f.id ?? f.name}`); return to ? [{ key: `${f.ref ?? f.kind + f.name}`, icon: iconOf(f.kind ?? parseRef(f.ref).kind), title: f.label ?? f.name ?? f.ref, hint: (f.kind ?? parseRef(f.ref).kind).replaceAll('_', ' '), group: 'Found', run: () => go(to) }] : []; });
    const order = text ? [...things, ...here] : here;
    return order.slice(0, 40);
  }, [text, found, commands.value]);

  const pick = (/** @type {any} */ item) => { box.current?.close(); if (item) setTimeout(() => item.run(), 0); };
  /** @param {any} e */
  const onKey = (e) => {
    const step = e.key === 'ArrowDown' || (e.ctrlKey && e.key === 'n') ? 1 : e.key === 'ArrowUp' || (e.ctrlKey && e.key === 'p') ? -1 : 0;
    if (step) { e.preventDefault(); const next = (at + step + items.length) % Math.max(1, items.length); setAt(next); list.current?.querySelector(`#palette-${next}`)?.scrollIntoView({ block: 'nearest' }); } else if (e.key === 'Enter') { e.preventDefault(); pick(items[at]); }
  };
  let group = '';
  return html`<dialog class="palette" ref=${box} aria-label="Go anywhere, do anything" onClose=${onClose} onClick=${(/** @type {any} */ e) => { if (e.target === box.current) box.current.close(); }}>
    <div class="ask"><${Icon} name="search" /><input type="text" role="combobox" aria-expanded="true" aria-controls="palette-list" aria-activedescendant=${items.length ? `palette-${at}` : undefined} aria-label="Name of a page, an action or a thing" placeholder="Go anywhere, do anything: a run, a model, model:fraud@champion" spellcheck=${false} autocomplete="off" value=${text} onInput=${(/** @type {any} */ e) => { setText(e.currentTarget.value); setAt(0); }} onKeyDown=${onKey} /><kbd>esc</kbd></div>
    <ul id="palette-list" role="listbox" aria-label="Results" ref=${list}>${items.map((item, i) => { const head = item.group !== group; group = item.group; return [head && html`<li class="head" role="presentation" key=${`h${item.group}`}>${item.group}</li>`,
      html`<li key=${item.key} id=${`palette-${i}`} role="option" aria-selected=${i === at ? 'true' : 'false'} onClick=${() => pick(item)} onMouseMove=${() => { if (at !== i) setAt(i); }}><${Icon} name=${item.icon} /><span class="truncate grow">${item.title}</span>${item.hint && html`<span class="hint">${item.hint}</span>`}</li>`]; })}
      ${!items.length && html`<li class="head" role="presentation">Nothing is called “${text}”.</li>`}</ul></dialog>`;
}
