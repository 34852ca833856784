// @ts-check
/** Which settings go along with a result, as bars; what is said and what is not is said under them. */

import { useEffect, useMemo, useState } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { Segmented } from './chips.js';
import { api, withQuery } from '../lib/api.js';
import { readTable } from '../lib/columns.js';
import { num, plural } from '../lib/format.js';
import { importance } from '../lib/importance.js';

const SHOWN = 15, PARAMS_MAX = 60, RUNS_MAX = 10_000;

/** @param {{table: import('../lib/columns.js').Table, experiments: string[], metrics: string[], query: URLSearchParams, setQuery: (changes: any) => void}} props table: of the compared runs */
export function Importance({ table, experiments, metrics, query, setQuery }) {
  const metric = metrics.includes(query.get('of') ?? '') ? /** @type {string} */ (query.get('of')) : metrics[0];
  const over = query.get('over') ?? (table.ids.length < 10 ? 'experiment' : 'these');
  const [whole, setWhole] = useState(/** @type {any} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  useEffect(() => {
    if (over !== 'experiment' || !metric) return undefined;
    let gone = false;
    const experiment = experiments.join(',');
    setError(null);
    api(withQuery('/runs/columns', { experiment, limit: 1000 }))
      .then((c) => c.items.filter((/** @type {any} */ x) => x.name.startsWith('params.')).slice(0, PARAMS_MAX).map((/** @type {any} */ x) => x.name))
      .then((params) => api(withQuery('/runs', { experiment, columns: [`metrics.${metric}`, ...params].join(','), limit: RUNS_MAX })))
      .then((a) => { if (!gone) setWhole(readTable(a)); }, (e) => { if (!gone) setError(e); });
    return () => { gone = true; };
  }, [over, metric, experiments.join(',')]);
  const from = over === 'experiment' ? whole : table;
  const found = useMemo(() => {
    const result = from?.columns[`metrics.${metric}`];
    if (!(result instanceof Float64Array)) return from ? [] : null;
    const settings = Object.fromEntries(Object.entries(from.columns).filter(([n]) => n.startsWith('params.')));
    return importance(/** @type {any} */ (settings), result, Uint32Array.from(from.ids.keys()));
  }, [from, metric]);
  if (!metric) return html`<p class="muted">The runs have no metric in common.</p>`;
  return html`<div class="stack"><div class="row wrap"><label class="inline">What goes along with <select class="select" value=${metric} onChange=${(/** @type {any} */ e) => setQuery({ of: e.currentTarget.value })}>${metrics.slice(0, 200).map((m) => html`<option key=${m} value=${m} selected=${m === metric}>${m}</option>`)}</select></label>
      <${Segmented} label="Runs" value=${over} options=${[['these', plural(table.ids.length, 'run')], ['experiment', 'All of the experiment']]} onChange=${(/** @type {string} */ v) => setQuery({ over: v })} /></div>
    ${error ? html`<p class="bad" role="alert">${error.message}</p>` : found === null ? html`<div class="skeleton"></div>` : !found.length ? html`<p class="muted">At least five runs with this metric and a setting that varies are needed.</p>`
      : html`<ul class="bars importance" aria-label=${`Settings by what goes along with ${metric}`}>${found.slice(0, SHOWN).map((f) => html`<li key=${f.name}><span class="truncate" title=${f.name}>${f.name.slice(7)}</span><span class="lane"><span style=${{ width: `${Math.max(0.5, f.share * 100)}%`, '--c': 'var(--accent)' }}></span></span><span class="num" title=${`${plural(f.runs, 'run')}, ${f.distinct} values`}>${Math.round(f.share * 100)} %${Number.isFinite(f.rho) && Math.abs(f.rho) > 0.1 ? html` <${Icon} name=${f.rho > 0 ? 'arrow-up' : 'arrow-down'} small label=${f.rho > 0 ? 'rises with it' : 'falls with it'} />` : html`<span class="icon small"></span>`}</span></li>`)}</ul>
        <p class="caption">The share of the metric's rank variance that goes along with one setting alone, over ${plural(found[0].runs, 'run')}: ρ² of Spearman's rank correlation (1904) for numbers, Kelley's ε² (1935), corrected for chance, for words. It says what moved together, not what caused it; settings that were changed together share the credit. ${found.length > SHOWN ? `${found.length - SHOWN} more are weaker than ${num(found[SHOWN].share * 100, { digits: 2 })} %.` : ''}</p>`}</div>`;
}
