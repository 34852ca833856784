// @ts-check
/** A note as the server sanitised it. The HTML is parsed without being run and built again element by element from a closed list, so
 *  that nothing of it reaches the page that is not named here. */

import { h } from 'preact';
import { html } from './html.js';

const TAGS = new Set(['a', 'abbr', 'b', 'blockquote', 'br', 'code', 'dd', 'del', 'dl', 'dt', 'em', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'hr', 'i', 'kbd', 'li', 'ol', 'p', 'pre', 's', 'strong', 'sub', 'sup', 'table', 'tbody', 'td', 'th', 'thead', 'tr', 'ul']);
/** A note's headings begin below those of the page. */
const LOWER = /** @type {Record<string, string>} */ ({ h1: 'h3', h2: 'h4', h3: 'h5', h4: 'h6', h5: 'h6', h6: 'h6' });

/** @param {{of: string}} props */
export function Prose({ of }) {
  const body = new DOMParser().parseFromString(of, 'text/html').body;
  return html`<div class="prose">${[...body.childNodes].map(build)}</div>`;
}

/** The same in a box, which scrolls when a table of the note is wide. @param {{of: string, label: string}} props */
export function ProseBox({ of, label }) {
  return html`<div class="sunken pad" tabindex="0" role="region" aria-label=${label}><${Prose} of=${of} /></div>`;
}

/** @param {Node} node @returns {any} */
function build(node) {
  if (node.nodeType === Node.TEXT_NODE) return node.textContent;
  if (!(node instanceof Element)) return null;
  const tag = node.tagName.toLowerCase(), children = [...node.childNodes].map(build);
  if (!TAGS.has(tag)) return children;
  if (tag === 'th' && !node.textContent?.trim()) return h('td', null);
  const href = tag === 'a' ? node.getAttribute('href') ?? '' : '';
  const props = tag === 'a' && /^(https?:|mailto:)/i.test(href) ? { href, rel: 'noopener noreferrer nofollow', target: '_blank' } : tag === 'pre' ? { tabindex: '0', class: 'code' } : {};
  return h(tag === 'a' && !('href' in props) ? 'span' : LOWER[tag] ?? tag, props, ...children);
}
