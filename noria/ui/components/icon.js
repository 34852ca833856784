// @ts-check
import { html, STATIC } from './html.js';

/** One drawing of the sprite. Decorative unless it has a label. @param {{name: string, label?: string, small?: boolean, class?: string}} props */
export function Icon({ name, label, small, class: extra = '' }) {
  return html`<svg class=${`icon ${small ? 'small' : ''} ${extra}`} aria-hidden=${label ? undefined : 'true'} role=${label ? 'img' : undefined} aria-label=${label}>
    <use href=${`${STATIC}/vendor/lucide/icons.svg#${name}`}></use></svg>`;
}
