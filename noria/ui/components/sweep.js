// @ts-check
/** A sweep while it goes on: the best so far, which parameters go along with it, and every trial. */

import { useEffect, useMemo, useRef } from 'preact/hooks';
import { html } from './html.js';
import { Block } from './page.js';
import { Show } from './empty.js';
import { Parallel } from './parallel.js';
import { Sparkline } from './sparkline.js';
import { State } from './state.js';
import { Table } from './table.js';
import { Kv } from './values.js';
import { colour, faded } from './colours.js';
import { useResource, useSize } from './use.js';
import { enc } from '../lib/api.js';
import { duration, num, plural } from '../lib/format.js';
import { importance } from '../lib/importance.js';
import { bestSoFar, trialTable } from '../lib/steps.js';
import { now, scheme } from '../lib/store.js';

const HEIGHT = 180, LEFT = 76, RIGHT = 12, TOP = 12, BOTTOM = 24;

/** @param {{step: any, run: string}} props */
export function Sweep({ step, run }) {
  const found = useResource(`/step-runs/${enc(step.id)}/trials`, { kinds: ['step_run.'], ticks: [`pipeline_run:${run}`], every: 5000 });
  return html`<${Block} title=${`Trials of ${step.name}`}><${Show} of=${found}>${(/** @type {any} */ s) => html`<${Trials} sweep=${s} run=${run} />`}<//><//>`;
}

/** @param {{sweep: any, run: string}} props */
function Trials({ sweep, run }) {
  const { spec, trials } = sweep, names = Object.keys(spec.space), metric = spec.metric || 'value';
  const table = useMemo(() => trialTable(trials, names, metric), [sweep]);
  const rows = useMemo(() => Uint32Array.from(trials.keys()), [sweep]);
  const weights = useMemo(() => importance(/** @type {any} */ (Object.fromEntries(names.map((n) => [`params.${n}`, table.columns[`params.${n}`]]))), /** @type {any} */ (table.columns[`metrics.${metric}`]), rows), [table]);
  const line = useMemo(() => bestSoFar(trials, spec.direction), [sweep]);
  const best = trials.find((/** @type {any} */ t) => t.number === sweep.best), over = (/** @type {string} */ word) => trials.filter((/** @type {any} */ t) => t.outcome === word).length;
  const sign = spec.direction === 'minimize' ? 1 : -1;
  const ordered = [...trials].sort((a, b) => (a.value === null ? 1 : 0) - (b.value === null ? 1 : 0) || sign * ((a.value ?? 0) - (b.value ?? 0)) || a.number - b.number);
  const counts = [['running', 'under way'], ['complete', 'complete'], ['pruned', 'given up'], ['failed', 'failed']].filter(([w]) => over(w)).map(([w, t]) => `${over(w)} ${t}`);
  return html`<div class="stack loose">
    <p class="quiet">${best ? html`<b>Trial ${best.number}</b> is the best so far: ${metric} <b class="num">${num(best.value)}</b>. ` : ''}${plural(trials.length, 'trial')} of ${spec.trials}${counts.length ? ` (${counts.join(', ')})` : ''}, ${spec.parallel} at once, drawn by ${spec.sampler}${spec.pruner === 'none' ? '' : `, given up by ${spec.pruner}`}.</p>
    ${best && html`<${Kv} items=${names.map((n) => [n, html`<code>${JSON.stringify(best.params[n])}</code>`])} />`}
    ${line.length > 1 && html`<${BestSoFar} line=${line} metric=${metric} />`}
    ${trials.length > 2 && names.length > 0 && html`<${Parallel} noun="trial" table=${table} rows=${rows} selected=${best ? [String(best.number)] : []} visible=${[...names.map((n) => `params.${n}`), `metrics.${metric}`]} />`}
    ${weights.length > 0 && html`<div><h3>What goes along with ${metric}</h3><ul class="bars importance" aria-label=${`Parameters by what goes along with ${metric}`}>${weights.map((w) => html`<li key=${w.name}><span class="truncate">${w.name.slice(7)}</span><span class="lane"><span style=${{ width: `${Math.max(0.5, w.share * 100)}%`, '--c': 'var(--accent)' }}></span></span><span class="num">${Math.round(w.share * 100)} %</span></li>`)}</ul></div>`}
    ${trials.length > 0 && html`<${Table} label="Trials" rows=${ordered} rowKey=${(/** @type {any} */ t) => t.number} href=${(/** @type {any} */ t) => `/pipeline-runs/${run}?step=${t.step_run_id}`} columns=${[
      { key: 'n', label: 'Trial', cell: (/** @type {any} */ t) => t.number, sort: (/** @type {any} */ t) => t.number },
      { key: 's', label: 'Outcome', cell: (/** @type {any} */ t) => html`<${State} of=${t.outcome === 'complete' ? 'succeeded' : t.outcome === 'pruned' ? 'skipped' : t.outcome === 'running' ? t.state : 'failed'} word=${t.outcome === 'pruned' ? 'given up' : t.outcome === 'running' ? t.state : t.outcome} />` },
      { key: 'v', label: metric, num: true, cell: (/** @type {any} */ t) => (t.value === null ? '–' : t.number === sweep.best ? html`<b>${num(t.value)}</b>` : num(t.value)), sort: (/** @type {any} */ t) => t.value },
      ...names.map((n) => ({ key: `p.${n}`, label: n, num: typeof trials[0]?.params[n] === 'number', cell: (/** @type {any} */ t) => (typeof t.params[n] === 'number' ? num(t.params[n]) : html`<code>${JSON.stringify(t.params[n])}</code>`), sort: (/** @type {any} */ t) => t.params[n] })),
      { key: 'r', label: 'Reported', cell: (/** @type {any} */ t) => (t.reports.length ? html`<${Sparkline} values=${t.reports.map((/** @type {any} */ r) => r[1])} label=${`What trial ${t.number} reported`} />` : '') },
      { key: 't', label: 'Took', num: true, cell: (/** @type {any} */ t) => (t.started_at_ms ? duration((t.ended_at_ms ?? now.value) - t.started_at_ms) : '–') },
      { key: 'w', label: 'Why', prose: true, cell: (/** @type {any} */ t) => (t.outcome === 'complete' ? '' : t.reason) }]} />`}</div>`;
}

/** A dot per trial, and the best until then as a staircase. @param {{line: {number: number, value: number, best: number}[], metric: string}} props */
function BestSoFar({ line, metric }) {
  const frame = useRef(/** @type {any} */ (null)), canvas = useRef(/** @type {any} */ (null));
  const { width } = useSize(frame);
  const values = line.map((p) => p.value), low = Math.min(...values), high = Math.max(...values), last = line[line.length - 1].number || 1, look = scheme.value;
  useEffect(() => {
    const el = canvas.current;
    if (!el || !width) return;
    const ratio = devicePixelRatio || 1;
    el.width = width * ratio; el.height = HEIGHT * ratio;
    const ctx = el.getContext('2d'), x = (/** @type {number} */ n) => LEFT + (n / last) * (width - LEFT - RIGHT), y = (/** @type {number} */ v) => HEIGHT - BOTTOM - ((v - low) / (high - low || 1)) * (HEIGHT - TOP - BOTTOM);
    ctx.scale(ratio, ratio);
    ctx.fillStyle = faded('var(--ink-3)', 0.7);
    for (const p of line) { ctx.beginPath(); ctx.arc(x(p.number), y(p.value), 3, 0, 7); ctx.fill(); }
    ctx.strokeStyle = colour('var(--accent)'); ctx.lineWidth = 2; ctx.beginPath();
    line.forEach((p, i) => { if (i === 0) ctx.moveTo(x(p.number), y(p.best)); else { ctx.lineTo(x(p.number), y(line[i - 1].best)); ctx.lineTo(x(p.number), y(p.best)); } });
    ctx.stroke();
  }, [line, width, look]);
  return html`<figure class="stack" ref=${frame}><div style=${{ position: 'relative', height: `${HEIGHT}px` }}><canvas ref=${canvas} style=${{ width: `${width}px`, height: `${HEIGHT}px` }} role="img" aria-label=${`Best ${metric} so far: ${num(line[0].best)} after the first trial, ${num(line[line.length - 1].best)} after ${line.length}.`}></canvas>
    <svg width=${width} height=${HEIGHT} style=${{ position: 'absolute', inset: '0', 'pointer-events': 'none' }} aria-hidden="true"><text x=${LEFT - 8} y=${TOP + 4} text-anchor="end">${num(high)}</text><text x=${LEFT - 8} y=${HEIGHT - BOTTOM + 4} text-anchor="end">${num(low)}</text><text x=${LEFT} y=${HEIGHT - 6}>trial ${line[0].number}</text><text x=${width - RIGHT} y=${HEIGHT - 6} text-anchor="end">trial ${last}</text><line class="axis" x1=${LEFT} x2=${width - RIGHT} y1=${HEIGHT - BOTTOM} y2=${HEIGHT - BOTTOM} /></svg></div>
    <p class="caption">Each dot is a trial's ${metric}; the line is the best until then.</p></figure>`;
}
