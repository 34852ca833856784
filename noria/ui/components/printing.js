// @ts-check
/** Paper is white: whatever prints, and however it was asked for, is drawn in the light theme first. */

import { eager } from './use.js';
import { scheme } from '../lib/store.js';

/** Before the browser prints (its menu and Ctrl P included), canvases are drawn anew in the light; afterwards all is as it was. What has been
 *  read already is drawn at once: the browser waits for nothing. */
export function printLight() {
  const root = document.documentElement;
  /** @type {(() => void) | null} */ let back = null;
  addEventListener('beforeprint', () => {
    if (back) return;
    const theme = root.dataset.theme, all = eager.peek();
    root.dataset.theme = 'light';
    eager.value = true;
    scheme.value = scheme.peek() + 1;
    back = () => { if (theme === undefined) delete root.dataset.theme; else root.dataset.theme = theme; eager.value = all; scheme.value = scheme.peek() + 1; };
  });
  addEventListener('afterprint', () => { back?.(); back = null; });
}
