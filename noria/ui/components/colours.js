// @ts-check
import { scheme } from '../lib/store.js';

/** @type {Map<string, string>} */
let cache = new Map();
let cachedFor = -1;

/** What a token looks like now, for canvases, which know no variables. Reading it subscribes to the theme.
 *  @param {string} expression such as `var(--series-1)` @returns {string} */
export function colour(expression) {
  if (cachedFor !== scheme.value) { cache = new Map(); cachedFor = scheme.value; }
  let found = cache.get(expression);
  if (!found) {
    const probe = document.createElement('span');
    probe.style.color = expression;
    probe.hidden = true;
    document.body.append(probe);
    found = getComputedStyle(probe).color;
    probe.remove();
    cache.set(expression, found);
  }
  return found;
}

/** The same with an opacity. @param {string} expression @param {number} alpha */
export function faded(expression, alpha) {
  return colour(`color-mix(in oklab, ${expression} ${Math.round(alpha * 100)}%, transparent)`);
}
