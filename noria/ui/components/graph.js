// @ts-check
import { useEffect, useState } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { State } from './state.js';
import { layered } from '../lib/layout.js';

/** @typedef {{id: string, kind: string, icon: string, name: string, note?: any, state?: string, href?: string | null, here?: boolean, onClick?: () => void, pressed?: boolean, more?: number, onMore?: () => void, live?: boolean}} GraphNode */

/** A directed graph in layers: lineage and pipelines. Nodes are links; the list below it says the same in words for readers of the page.
 *  @param {{nodes: GraphNode[], edges: {from: string, to: string, label?: string}[], label: string, direction?: 'LR' | 'TB', width?: number, max?: number}} props */
export function Graph({ nodes, edges, label, direction = 'LR', width = 178, max = 460 }) {
  const height = nodes.some((n) => n.note) ? 66 : 50;
  const [at, setAt] = useState(/** @type {any} */ (null));
  const shape = JSON.stringify([nodes.map((n) => n.id), edges.map((e) => [e.from, e.to]), direction, height]);
  useEffect(() => {
    let gone = false;
    layered(nodes.map((n) => ({ id: n.id, width, height })), edges, { direction }).then((l) => { if (!gone) setAt(l); });
    return () => { gone = true; };
  }, [shape]);
  if (!at) return html`<div class="graph" aria-busy="true"><div class="world"><div class="skeleton"></div></div></div>`;
  const live = new Set(nodes.filter((n) => n.state === 'running').map((n) => n.id));
  return html`<div class="graph" role="group" aria-label=${`${label}: ${nodes.length} nodes, ${edges.length} edges`} tabindex="0" style=${{ maxHeight: `${max}px` }}>
    <div class="world" style=${{ width: `${at.width}px`, height: `${at.height}px` }}>
      <svg width=${at.width} height=${at.height} aria-hidden="true"><defs><marker id="arrow" viewBox="0 0 6 6" refX="5.5" refY="3" markerWidth="6" markerHeight="6" orient="auto"><path d="M0 0.5L5.5 3L0 5.5z" /></marker></defs>
        ${at.edges.map((/** @type {any} */ e) => html`<path key=${`${e.from} ${e.to}`} d=${e.d} class=${live.has(e.to) ? 'live' : ''} marker-end="url(#arrow)"><title>${edges.find((x) => x.from === e.from && x.to === e.to)?.label ?? ''}</title></path>`)}</svg>
      ${nodes.map((n) => { const p = at.nodes.get(n.id); if (!p) return null; const body = html`<span class="kind"><${Icon} name=${n.icon} />${n.kind}${n.state && html`<span class="end"><${State} of=${n.state} word="" /><span class="sr">${n.state}</span></span>`}</span><span class="name" title=${n.name}>${n.name}</span>${n.note && html`<span class="note">${n.note}</span>`}`;
        return html`<div key=${n.id} class=${n.live ? 'node live' : 'node'} style=${{ left: `${p.x}px`, top: `${p.y}px`, width: `${p.width}px`, height: `${p.height}px` }}>${n.onClick
          ? html`<button type="button" class=${`station ${n.here ? 'here' : ''}`} aria-pressed=${n.pressed ? 'true' : 'false'} onClick=${n.onClick}>${body}</button>`
          : n.href ? html`<a class=${`station ${n.here ? 'here' : ''}`} href=${n.href} aria-current=${n.here ? 'true' : undefined}>${body}</a>` : html`<div class=${`station ${n.here ? 'here' : ''}`}>${body}</div>`}${n.more && n.onMore ? html`<button type="button" class="more" title=${`Show ${n.more} more beside ${n.name}`} aria-label=${`Show ${n.more} more beside ${n.name}`} onClick=${n.onMore}>+${n.more}</button>` : ''}</div>`; })}
    </div></div>`;
}
