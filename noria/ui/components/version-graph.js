// @ts-check
/** The versions of a dataset, newest first, with the lines of their branches beside them. */

import { html } from './html.js';
import { Aliases, Chip } from './chips.js';
import { Sparkline } from './sparkline.js';
import { Time } from './values.js';
import { enc } from '../lib/api.js';
import { versionGraph } from '../lib/version-graph.js';

const ROW = 34, STEP = 14, LANES_MAX = 6;

/** @param {{name: string, history: any[], names: any[], here: number}} props */
export function VersionGraph({ name, history, names, here }) {
  if (!history.length) return null;
  const shown = history.slice(0, 200), rows = versionGraph(shown), lanes = Math.min(LANES_MAX, Math.max(...rows.map((r) => r.lanes)));
  const sizes = history.map((h) => h.size_bytes).reverse();
  const x = (/** @type {number} */ lane) => Math.min(lane, LANES_MAX - 1) * STEP + STEP / 2, y = (/** @type {number} */ i) => i * ROW + ROW / 2;
  const called = (/** @type {any} */ h) => names.filter((n) => n.version_id === h.id && n.kind !== 'alias');
  return html`<div class="stack">${history.length > 2 && html`<div class="row"><${Sparkline} values=${sizes} width=${220} height=${28} label="Size of each version" zero /><span class="muted">size</span></div>`}
    <div class="version-graph" style=${{ '--gutter': `${lanes * STEP + 6}px` }}>
      <svg width=${lanes * STEP} height=${shown.length * ROW} aria-hidden="true">${rows.map((r, i) => r.lines.map(([from, to], j) => html`<path key=${`${i}-${j}`} class=${`lane-${to % 4}`} d=${`M${x(from)} ${y(i)}C${x(from)} ${y(i) + ROW / 2} ${x(to)} ${y(i) + ROW / 2} ${x(to)} ${y(i + 1)}`} />`))}
        ${rows.map((r, i) => html`<circle key=${i} class=${`lane-${r.lane % 4}${shown[i].number === here ? ' here' : ''}`} cx=${x(r.lane)} cy=${y(i)} r=${shown[i].number === here ? 5 : 4} />`)}</svg>
      <ol aria-label="Versions">${shown.map((h) => html`<li class="list-link" key=${h.id}><a href=${`/datasets/${enc(name)}/${h.number}`} aria-current=${h.number === here ? 'page' : undefined}>${h.number === here ? html`<b>@${h.number}</b>` : `@${h.number}`}</a><span class="truncate grow quiet" title=${h.message}>${h.message || html`<span class="muted">no message</span>`}</span>${called(h).map((n) => html`<${Chip} key=${n.name} icon=${n.kind === 'tag' ? 'tag' : 'git-branch'} title=${n.kind === 'tag' ? 'A tag: it never moves' : 'A branch'}>${n.name}<//>`)}<${Aliases} of=${(h.aliases ?? []).filter((/** @type {string} */ a) => names.some((n) => n.kind === 'alias' && n.name === a) || !names.length)} /><span class="muted nowrap"><${Time} at=${h.created_at_ms} /></span></li>`)}</ol></div>
    ${history.length > shown.length && html`<p class="muted">The newest ${shown.length}; <code>noria data log ${name}</code> lists all.</p>`}</div>`;
}
