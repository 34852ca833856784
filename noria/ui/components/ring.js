// @ts-check
/** A loop as what it is: stations on a wheel, in the order in which it turns. The present station is filled; ended ones are ticked. */

import { html } from './html.js';
import { Icon } from './icon.js';
import { Glyph } from './state.js';

/** @typedef {{id: string, icon: string, kind: string, name: string, href?: string | null, is: 'past' | 'now' | 'ahead'}} RingStation */

const WIDTH = 620, HEIGHT = 300, NODE_WIDTH = 150, NODE_HEIGHT = 46, RX = 226, RY = 112;

/** Places on the ellipse, clockwise from the top left. Pure. @param {number} n */
export function ringPlaces(n) {
  return Array.from({ length: n }, (_, i) => { const a = -Math.PI / 2 - Math.PI / n + (2 * Math.PI * i) / n + Math.PI / n; return { x: WIDTH / 2 + RX * Math.cos(a), y: HEIGHT / 2 + RY * Math.sin(a) }; });
}

/** @param {{stations: RingStation[], label: string, word: string}} props */
export function Ring({ stations, label, word }) {
  const places = ringPlaces(stations.length);
  return html`<div class="ring" role="group" aria-label=${label} style=${{ width: `${WIDTH}px`, height: `${HEIGHT}px` }}>
    <svg width=${WIDTH} height=${HEIGHT} aria-hidden="true"><ellipse class="rim" cx=${WIDTH / 2} cy=${HEIGHT / 2} rx=${RX} ry=${RY} />
      ${places.map((p, i) => { const a = Math.atan2(p.y - HEIGHT / 2, (p.x - WIDTH / 2) * (RY / RX)) + Math.PI / stations.length, x = WIDTH / 2 + RX * Math.cos(a), y = HEIGHT / 2 + RY * Math.sin(a), turn = Math.atan2(RY * Math.cos(a), -RX * Math.sin(a)); return html`<path key=${i} class="flow" d="M-5 -4L3 0L-5 4" transform=${`translate(${x.toFixed(1)} ${y.toFixed(1)}) rotate(${((turn * 180) / Math.PI).toFixed(1)})`} />`; })}
      <text class="strong" x=${WIDTH / 2} y=${HEIGHT / 2 + 4} text-anchor="middle">${word}</text></svg>
    <ol>${stations.map((s, i) => { const body = html`<span class="kind">${s.is === 'ahead' ? html`<${Icon} name=${s.icon} />` : html`<span class=${`state ${s.is === 'now' ? 'running' : 'done'}`}><${Glyph} tone=${s.is === 'now' ? 'running' : 'done'} /></span>`}${s.kind}</span><span class="name" title=${s.name}>${s.name}</span>`;
      return html`<li key=${s.id} aria-current=${s.is === 'now' ? 'step' : undefined} style=${{ left: `${places[i].x - NODE_WIDTH / 2}px`, top: `${places[i].y - NODE_HEIGHT / 2}px`, width: `${NODE_WIDTH}px` }}>${s.href ? html`<a class=${`station ${s.is === 'now' ? 'here' : ''}`} href=${s.href}>${body}</a>` : html`<div class=${`station ${s.is === 'now' ? 'here' : ''}`}>${body}</div>`}</li>`; })}</ol></div>`;
}
