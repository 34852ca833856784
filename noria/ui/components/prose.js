// @ts-check
/** A note as the server sanitised it. The HTML is parsed without being run and built again element by element from a closed list, so
 *  that nothing of it reaches the page that is not named here. */

import { h } from 'preact';
import { html } from './html.js';

const TAGS = new Set(['a', 'abbr', 'b', 'blockquote', 'br', 'code', 'dd', 'del', 'dl', 'dt', 'em', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'hr', 'i', 'kbd', 'li', 'ol', 'p', 'pre', 's', 'strong', 'sub', 'sup', 'table', 'tbody', 'td', 'th', 'thead', 'tr', 'ul']);
/** A note's headings begin below those of the page: the third level is that of its `top` ones. @param {string} tag @param {number} top */
const lowered = (tag, top) => `h${Math.min(6, Math.max(3, Number(tag[1]) + 3 - top))}`;

/** @param {{of: string, top?: number}} props */
export function Prose({ of, top = 1 }) {
  const body = new DOMParser().parseFromString(of, 'text/html').body;
  return html`<div class="prose">${[...body.childNodes].map((n) => build(n, top))}</div>`;
}

/** The same in a box, which scrolls when a table of the note is wide. @param {{of: string, label: string}} props */
export function ProseBox({ of, label }) {
  return html`<div class="sunken pad" tabindex="0" role="region" aria-label=${label}><${Prose} of=${of} /></div>`;
}

/** @param {Node} node @param {number} top @returns {any} */
function build(node, top) {
  if (node.nodeType === Node.TEXT_NODE) return node.textContent;
  if (!(node instanceof Element)) return null;
  const tag = node.tagName.toLowerCase(), children = [...node.childNodes].map((n) => build(n, top));
  if (!TAGS.has(tag)) return children;
  if (tag === 'th' && !node.textContent?.trim()) return h('td', null);
  const href = tag === 'a' ? node.getAttribute('href') ?? '' : '';
  const props = tag === 'a' && /^(https?:|mailto:)/i.test(href) ? { href, rel: 'noopener noreferrer nofollow', target: '_blank' } : tag === 'pre' ? { tabindex: '0', class: 'code' } : {};
  return h(tag === 'a' && !('href' in props) ? 'span' : (/^h[1-6]$/.test(tag) ? lowered(tag, top) : tag), props, ...children);
}
