// @ts-check
/** The curves of one run: found by name, grouped by prefix, read and drawn as they come into view. */

import { useMemo, useState } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { Curve } from './curve.js';
import { CurveControls, useCurveLook } from './curve-controls.js';
import { Empty } from './empty.js';
import { useSeries, useLines } from './use-series.js';
import { direction, plural, short } from '../lib/format.js';
import { groupKeys, stepsWithin } from '../lib/metric-groups.js';

const FLAT_KEYS = 24, OPEN_KEYS = 60, PER_GROUP = 24;

/** @param {{run: any, keys: string[], query: URLSearchParams, setQuery: (changes: any) => void, what?: string}} props */
export function RunCurves({ run, keys, query, setQuery, what = 'metrics' }) {
  const { x, log, smooth } = useCurveLook(query);
  const [zoom, setZoom] = useState(/** @type {{from: number, to: number, x: string} | null} */ (null));
  const [seen, setSeen] = useState(/** @type {string[]} */ ([]));
  const [more, setMore] = useState(/** @type {Record<string, number>} */ ({}));
  const text = query.get('find') ?? '', toggled = (query.get('open') ?? '').split(',').filter(Boolean);
  const groups = useMemo(() => (keys.length > FLAT_KEYS ? groupKeys(keys, text) : flat(groupKeys(keys, text))), [keys.join('\n'), text]);
  const count = groups.reduce((s, g) => s + g.keys.length, 0);
  // Few enough are all open; of many the first group is, and what one opens.
  const isOpen = (/** @type {import('../lib/metric-groups.js').KeyGroup} */ g, /** @type {number} */ i) => (count <= OPEN_KEYS || i === 0) !== toggled.includes(g.prefix || '-');
  const here = zoom && zoom.x === x ? zoom : null;
  const { all, error } = useSeries([run.id], seen, { buckets: 400, from: here?.from ?? null, to: here?.to ?? null });
  const lines = useLines(all, [run.id], seen, () => run.name || short(run.id), x);
  const onZoom = (/** @type {{from: number, to: number} | null} */ range) => {
    if (!range) { setZoom(null); return; }
    const steps = stepsWithin(Object.values(all.get(run.id) ?? {}), x, range.from, range.to);
    if (steps) setZoom({ ...steps, x });
  };
  if (!keys.length) return html`<${Empty} icon="chart-line" title=${what === 'metrics' ? 'No metrics yet.' : 'No system metrics.'} text=${what === 'metrics' ? 'They appear here while the run writes them.' : 'Processor, memory and GPU while the run goes on.'} command=${what === 'metrics' ? 'mlflow.log_metric("loss", value, step=step)' : 'noria run -- python train.py'} />`;
  return html`<div class="stack loose-charts"><div class="row wrap"><label class="search metric-search"><span class="sr">Find a metric</span><${Icon} name="search" /><input class="input" value=${text} placeholder=${`Find among ${plural(keys.length, 'metric')}`} spellcheck=${false} onInput=${(/** @type {any} */ e) => setQuery({ find: e.currentTarget.value })} /></label>
      <${CurveControls} query=${query} setQuery=${setQuery} />${here && html`<button type="button" class="button plain small" onClick=${() => setZoom(null)}><${Icon} name="zoom-out" small />Show all</button>`}${error && html`<span class="bad" role="alert">${error.message}</span>`}</div>
    ${!count && html`<p class="muted">No metric is called “${text}”.</p>`}
    ${groups.map((g, i) => { const open = isOpen(g, i), shown = g.keys.slice(0, more[g.prefix] ?? PER_GROUP);
      return html`<section key=${g.prefix} class="metric-group">${groups.length > 1 && html`<h3><button type="button" class="th-button" aria-expanded=${open ? 'true' : 'false'} onClick=${() => { const k = g.prefix || '-'; setQuery({ open: (toggled.includes(k) ? toggled.filter((t) => t !== k) : [...toggled, k]).join(',') }); }}><${Icon} name=${open ? 'chevron-down' : 'chevron-right'} />${g.prefix || 'Metrics'} <span class="muted">${g.keys.length}</span></button></h3>`}
      ${open && html`<div class="charts">${shown.map((k) => html`<${Curve} key=${k} title=${g.prefix ? k.slice(g.prefix.length + 1) : k} lines=${lines[k] ?? []} x=${x} log=${log} smooth=${smooth} sync=${`run-${run.id}`} better=${direction(k)} onZoom=${onZoom} onSeen=${() => setSeen((was) => (was.includes(k) ? was : [...was, k]))} />`)}</div>
        ${g.keys.length > shown.length && html`<button type="button" class="button small" onClick=${() => setMore({ ...more, [g.prefix]: shown.length + PER_GROUP })}>Show ${Math.min(PER_GROUP, g.keys.length - shown.length)} more of ${g.keys.length}</button>`}`}</section>`; })}</div>`;
}

/** One group of all: few charts need no headings. @param {import('../lib/metric-groups.js').KeyGroup[]} groups */
function flat(groups) { const keys = groups.flatMap((g) => g.keys); return keys.length ? [{ prefix: '', keys }] : []; }
