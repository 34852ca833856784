// @ts-check
/** Right of the runs table: the curves of the drawn runs, or the whole list as parallel coordinates or as a scatter. */

import { useEffect, useMemo, useState } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { Curve } from './curve.js';
import { Bars } from './bars.js';
import { Parallel } from './parallel.js';
import { Scatter } from './scatter.js';
import { CurveControls, useCurveLook } from './curve-controls.js';
import { Segmented } from './chips.js';
import { useSeries, useLines } from './use-series.js';
import { api, withQuery } from '../lib/api.js';
import { direction, short } from '../lib/format.js';
import { weight } from '../lib/view.js';

const CHARTS = 12;

/** @param {{table: any, rows: Uint32Array, drawn: string[], visible: string[], query: URLSearchParams, setQuery: (changes: any) => void}} props */
export function RunsSide({ table, rows, drawn, visible, query, setQuery }) {
  const draw = query.get('draw') ?? 'curves';
  return html`<h2 class="sr">Curves of the selected runs</h2><div class="bar top"><${Segmented} label="Draw" value=${draw} options=${[['curves', 'Curves'], ['parallel', 'Parallel'], ['scatter', 'Scatter']]} onChange=${(/** @type {string} */ v) => setQuery({ draw: v === 'curves' ? null : v })} />
      ${draw === 'curves' && html`<${CurveControls} query=${query} setQuery=${setQuery} />`}</div>
    ${draw === 'parallel' ? html`<div class="inner"><${Parallel} table=${table} rows=${rows} selected=${drawn} visible=${visible} /></div>`
      : draw === 'scatter' ? html`<div class="inner"><${Scatter} table=${table} rows=${rows} selected=${drawn} columns=${visible} query=${query} setQuery=${setQuery} /></div>`
        : drawn.length ? html`<${Curves} table=${table} drawn=${drawn} visible=${visible} query=${query} />` : html`<div class="inner"><p class="muted">Select runs with <kbd>x</kbd> to draw their curves.</p></div>`}`;
}

/** @param {any} props */
function Curves({ table, drawn, visible, query }) {
  const { x, log, smooth } = useCurveLook(query);
  const [zoom, setZoom] = useState(/** @type {any} */ (null));
  const [shown, setShown] = useState(CHARTS);
  const [keys, setKeys] = useState(/** @type {string[] | null} */ (null));
  useEffect(() => setZoom(null), [x]);
  const names = useMemo(() => { const want = new Set(drawn), m = new Map(); table.ids.forEach((/** @type {string} */ id, /** @type {number} */ i) => { if (want.has(id)) m.set(id, String(table.columns.name?.[i] || short(id))); }); return m; }, [table, drawn.join(',')]);
  // Which metrics the drawn runs have is asked for them alone: the table holds only what it shows.
  useEffect(() => {
    let gone = false;
    const filter = `attributes.run_id in (${drawn.map((/** @type {string} */ id) => `'${id}'`).join(', ')})`;
    api(withQuery('/runs/columns', { filter, stage: 'all', limit: 100 })).then((a) => { if (!gone) setKeys(a.items.filter((/** @type {any} */ c) => c.name.startsWith('metrics.')).map((/** @type {any} */ c) => c.name.slice(8))); }, () => { if (!gone) setKeys([]); });
    return () => { gone = true; };
  }, [drawn.join(',')]);
  const ordered = useMemo(() => [...(keys ?? [])].sort((a, b) => rank(a, visible) - rank(b, visible) || a.localeCompare(b, 'en', { numeric: true })), [keys, visible.join('|')]);
  const now = ordered.slice(0, shown);
  const buckets = Math.max(100, Math.min(400, Math.floor(3000 / Math.max(1, drawn.length))));
  const { all } = useSeries(drawn, now, { buckets, from: x === 'step' ? zoom?.from ?? null : null, to: x === 'step' ? zoom?.to ?? null : null });
  const lines = useLines(all, drawn, now, (/** @type {string} */ id) => names.get(id) ?? short(id), x);
  return html`<div class="inner charts-pane">${zoom && html`<button type="button" class="button plain small" onClick=${() => setZoom(null)}><${Icon} name="zoom-out" small />Show all</button>`}<div class="charts">
      ${now.map((key) => (lines[key]?.length && lines[key].every((/** @type {any} */ l) => l.x.length === 1) ? html`<${Bars} key=${key} title=${key} lines=${lines[key]} better=${direction(key)} />` : html`<${Curve} key=${key} title=${key} lines=${lines[key] ?? []} x=${x} log=${log} smooth=${smooth} sync="runs" better=${direction(key)} onZoom=${x === 'step' ? setZoom : undefined} legend=${drawn.length <= 12} />`))}</div>
      ${keys && !keys.length && html`<p class="muted">The runs drawn here have no metrics.</p>`}
      ${ordered.length > shown && html`<button type="button" class="button" onClick=${() => setShown(shown + CHARTS)}>Show ${Math.min(CHARTS, ordered.length - shown)} more of ${ordered.length} metrics</button>`}</div>`;
}

/** What the table shows is drawn first. @param {string} key @param {string[]} visible */
function rank(key, visible) { const at = visible.indexOf(`metrics.${key}`); return at >= 0 ? at : 100 + weight(key); }
