// @ts-check
/** What can be done with one column, at its header. It lies over the table, outside of what scrolls. */

import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';

/** @param {{at: DOMRect, label: string, items: [string, string, () => void][], onClose: () => void}} props items: icon, words, deed */
export function ColumnMenu({ at, label, items, onClose }) {
  const box = useRef(/** @type {any} */ (null));
  useLayoutEffect(() => {
    const el = box.current, before = /** @type {any} */ (document.activeElement);
    el.style.left = `${Math.max(8, Math.min(at.left, innerWidth - el.offsetWidth - 8))}px`;
    el.style.top = `${Math.min(at.bottom + 4, innerHeight - el.offsetHeight - 8)}px`;
    el.querySelector('button')?.focus();
    return () => before?.focus?.({ preventScroll: true });
  }, []);
  useEffect(() => {
    const away = (/** @type {any} */ e) => { if (!box.current?.contains(e.target)) onClose(); };
    document.addEventListener('pointerdown', away);
    return () => document.removeEventListener('pointerdown', away);
  }, []);
  const onKey = (/** @type {any} */ e) => {
    const all = [...box.current.querySelectorAll('button')], step = e.key === 'ArrowDown' ? 1 : e.key === 'ArrowUp' ? -1 : 0;
    if (e.key === 'Escape' || e.key === 'Tab') { e.stopPropagation(); e.preventDefault(); onClose(); }
    if (step) { e.preventDefault(); e.stopPropagation(); all[(all.indexOf(document.activeElement) + step + all.length) % all.length]?.focus(); }
  };
  return html`<div class="menu-pop fixed" role="menu" aria-label=${label} ref=${box} onKeyDown=${onKey}>${items.map(([icon, words, deed]) => html`<button key=${words} type="button" role="menuitem" onClick=${() => { deed(); onClose(); }}><${Icon} name=${icon} small />${words}</button>`)}</div>`;
}
