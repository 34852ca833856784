// @ts-check
/** Runs side by side: curves together, then metrics and parameters with what differs marked. */

import { useEffect, useMemo, useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Page, Block } from '../components/page.js';
import { Bars } from '../components/bars.js';
import { Curve } from '../components/curve.js';
import { DiffTable } from '../components/diff.js';
import { Empty, Problem } from '../components/empty.js';
import { State } from '../components/state.js';
import { Delta, Num } from '../components/values.js';
import { Segmented, Chip } from '../components/chips.js';
import { useSeries, useLines } from '../components/use-series.js';
import { api, enc } from '../lib/api.js';
import { direction, duration, short } from '../lib/format.js';
import { slotOf } from '../lib/store.js';
import { pairs } from './run.js';

/** @param {any} props */
export default function Compare({ query, setQuery }) {
  const ids = /** @type {string[]} */ ((query.get('runs') ?? '').split(',').filter(Boolean).slice(0, 20));
  const [runs, setRuns] = useState(/** @type {any[] | null} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  const [different, setDifferent] = useState(true);
  const [zoom, setZoom] = useState(/** @type {any} */ (null));
  const x = query.get('x') ?? 'step';
  useEffect(() => { setError(null); Promise.all(ids.map((id) => api(`/runs/${enc(id)}`))).then(setRuns, setError); }, [ids.join(',')]);

  const keys = useMemo(() => [...new Set((runs ?? []).flatMap((r) => pairs(r.metrics).map((m) => m.key)))].sort((a, b) => Number(a.startsWith('system/')) - Number(b.startsWith('system/')) || a.localeCompare(b)), [runs]);
  const drawn = keys.slice(0, 18);
  const names = new Map((runs ?? []).map((r) => [r.id, r.name || short(r.id)]));
  const { all } = useSeries(ids, drawn, { buckets: Math.max(120, Math.floor(4000 / Math.max(1, ids.length))), from: x === 'step' ? zoom?.from ?? null : null, to: x === 'step' ? zoom?.to ?? null : null });
  const lines = useLines(all, ids, drawn, (/** @type {string} */ id) => names.get(id) ?? short(id), x);
  const head = (runs ?? []).map((r) => html`<span class="row" style=${{ color: slotOf(r.id, ids).colour }}><span class="dot"></span><a href=${`/runs/${r.id}`}>${names.get(r.id)}</a></span>`);
  const rowsOf = (/** @type {string} */ part) => { const maps = (runs ?? []).map((r) => new Map(pairs(r[part]).map((p) => [p.key, p.value]))); return [...new Set(maps.flatMap((m) => [...m.keys()]))].filter((k) => !k.startsWith('mlflow.')).sort().map((key) => ({ key, values: maps.map((m) => m.get(key)) })); };
  const metricRows = rowsOf('metrics');
  return html`<${Page} crumbs=${[['Runs', '/runs'], ['Compare']]} title="Compare runs" loading=${!runs && !error}
      actions=${html`<${Segmented} label="Horizontal axis" value=${x} options=${[['step', 'Step'], ['elapsed', 'Elapsed'], ['time', 'Clock']]} onChange=${(/** @type {string} */ v) => { setZoom(null); setQuery({ x: v === 'step' ? null : v }); }} /><label class="inline"><input type="checkbox" class="check" checked=${different} onChange=${() => setDifferent(!different)} />Only what differs</label>`}>
    ${error && html`<${Problem} error=${error} />`}
    ${!ids.length && html`<${Empty} icon="git-compare" title="Nothing to compare." text=${html`Select runs in <a href="/runs">the table</a> with <kbd>x</kbd> and press <kbd>c</kbd>.`} />`}
    ${runs && ids.length > 0 && html`<div class="chips">${runs.map((r) => html`<${Chip} key=${r.id} onRemove=${() => setQuery({ runs: ids.filter((i) => i !== r.id).join(',') })}><span class="dot" style=${{ color: slotOf(r.id, ids).colour }}></span><b>${names.get(r.id)}</b><${State} of=${r.status} /><span>${r.ended_at_ms ? duration(r.ended_at_ms - r.started_at_ms) : ''}</span><//>`)}</div>
      <${Block} title="Curves"><div class="charts">${drawn.filter((k) => lines[k]?.length).map((k) => lines[k].every((/** @type {any} */ l) => l.x.length === 1) ? html`<${Bars} key=${k} title=${k} lines=${lines[k]} better=${direction(k)} />` : html`<${Curve} key=${k} title=${k} lines=${lines[k]} x=${x} sync="compare" better=${direction(k)} onZoom=${x === 'step' ? setZoom : undefined} legend=${ids.length <= 8} />`)}</div><//>
      <${Block} title="Metrics"><${DiffTable} names=${head} rows=${metricRows} label="Metrics of the runs" cell=${(/** @type {any} */ v, /** @type {string} */ key) => { const base = metricRows.find((m) => m.key === key)?.values[0]; return v === undefined ? html`<span class="muted">–</span>` : html`<span class="row"><${Num} value=${v} />${base !== v && runs.length > 1 && html`<small><${Delta} now=${v} was=${base} better=${direction(key)} /></small>`}</span>`; }} /><//>
      <${Block} title="Parameters"><${DiffTable} names=${head} rows=${rowsOf('params')} onlyDifferent=${different} label="Parameters of the runs" /><//>
      <${Block} title="Tags"><${DiffTable} names=${head} rows=${rowsOf('tags')} onlyDifferent=${different} label="Tags of the runs" /><//>`}
  <//>`;
}
