// @ts-check
/** Endpoints by what is watched of them: the worst state of each, and a link to what says so. */

import { html } from './html.js';
import { State } from './state.js';
import { Table } from './table.js';
import { enc } from '../lib/api.js';
import { SIDES, matrixOf } from '../lib/watching.js';

/** @param {{monitors: any[], endpoints: any[]}} props */
export function Watching({ monitors, endpoints }) {
  return html`<${Table} label="Endpoints by what is watched" rows=${matrixOf(monitors, endpoints)} rowKey=${(/** @type {any} */ r) => r.name} href=${(/** @type {any} */ r) => `/endpoints/${enc(r.name)}`} columns=${[
    { key: 'n', label: 'Endpoint', cell: (/** @type {any} */ r) => r.name, sort: (/** @type {any} */ r) => r.name },
    ...SIDES.map((side) => ({ key: side, label: side[0].toUpperCase() + side.slice(1), cell: (/** @type {any} */ r) => html`<${Side} of=${r.sides[side]} />`, sort: (/** @type {any} */ r) => r.sides[side].state })),
    { key: 'o', label: 'Operations', cell: (/** @type {any} */ r) => html`<${State} of=${r.operations} />`, sort: (/** @type {any} */ r) => r.operations },
  ]} />`;
}

/** @param {{of: {state: string, monitors: any[]}}} props */
function Side({ of }) {
  if (!of.state) return html`<span class="muted">nobody looks</span>`;
  const worst = of.monitors.filter((m) => m.state === of.state);
  const state = html`<${State} of=${of.state === 'open' ? 'alert' : of.state} word=${of.state === 'ok' ? `${of.monitors.length} fine` : worst.length > 1 ? `${worst.length} ${of.state}` : worst[0].name} />`;
  return html`<a href=${worst.length === 1 ? `/monitors/${enc(worst[0].name)}` : `/monitors?q=${enc(worst[0].endpoint)}`}>${state}</a>`;
}
