// @ts-check
import { useEffect, useRef } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { useCommands, useName } from './use.js';

/** Details beside a list that keeps its place. Escape closes it. @param {{title: any, href?: string, onClose: () => void, children?: any}} props */
export function Sheet({ title, href, onClose, children }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const name = useName('sheet');
  useCommands([{ id: 'close', title: 'Close the sheet', keys: 'Escape', run: onClose, hidden: true }]);
  useEffect(() => { const before = /** @type {HTMLElement | null} */ (document.activeElement); box.current?.focus({ preventScroll: true }); return () => before?.focus?.({ preventScroll: true }); }, []);
  return html`<aside class="sheet" role="complementary" aria-labelledby=${name} tabindex="-1" ref=${box}>
    <header><h2 class="truncate grow" id=${name}>${title}</h2>${href && html`<a class="button plain small" href=${href}>Open<${Icon} name="arrow-right" small /></a>`}
      <button type="button" class="button plain icon-only" aria-label="Close" onClick=${onClose}><${Icon} name="x" /></button></header>
    <div class="body">${children}</div></aside>`;
}
