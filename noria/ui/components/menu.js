// @ts-check
import { useEffect, useRef, useState } from 'preact/hooks';
import { html } from './html.js';

/** A button that opens a small panel; a click elsewhere or Escape closes it. @param {{label: any, title?: string, class?: string, start?: boolean, children: (close: () => void) => any}} props */
export function Menu({ label, title, class: kind = 'button', start = false, children }) {
  const [open, setOpen] = useState(false);
  const box = useRef(/** @type {any} */ (null));
  useEffect(() => {
    if (!open) return undefined;
    const away = (/** @type {any} */ e) => { if (!box.current?.contains(e.target)) setOpen(false); };
    const esc = (/** @type {any} */ e) => { if (e.key === 'Escape') { setOpen(false); e.stopPropagation(); box.current?.querySelector('button')?.focus(); } };
    document.addEventListener('pointerdown', away);
    box.current?.addEventListener('keydown', esc);
    box.current?.querySelector('.menu-pop input, .menu-pop button')?.focus();
    return () => { document.removeEventListener('pointerdown', away); box.current?.removeEventListener('keydown', esc); };
  }, [open]);
  return html`<span class="menu" ref=${box}><button type="button" class=${kind} aria-expanded=${open ? 'true' : 'false'} aria-haspopup="true" title=${title} aria-label=${title} onClick=${() => setOpen(!open)}>${label}</button>
    ${open && html`<div class=${`menu-pop ${start ? 'start' : ''}`}>${children(() => setOpen(false))}</div>`}</span>`;
}
