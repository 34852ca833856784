// @ts-check
/** What a commit to a dataset must be like, and whether a version is. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { Command, Empty, Show } from './empty.js';
import { Table } from './table.js';
import { useResource } from './use.js';
import { enc, post } from '../lib/api.js';
import { count, plural } from '../lib/format.js';

/** @param {{name: string, version: any}} props */
export function Expected({ name, version }) {
  const found = useResource(`/datasets/${enc(name)}/expectations`, { kinds: ['dataset.expected'] });
  return html`<${Show} of=${found}>${(/** @type {any} */ e) => {
    const tables = Object.entries(e.tables ?? {});
    if (!tables.length && !('files_min' in e) && !('files_max' in e)) return html`<div class="stack"><${Empty} icon="shield-check" title="Nothing is expected of this dataset." text="Say in YAML what its tables must be like, and a commit that is not is refused." /><${Command} text=${`noria data expect ${name} expectations.yaml`} /></div>`;
    return html`<div class="stack loose"><${Check} key=${version.id} name=${name} version=${version} />
      ${tables.map(([pattern, t]) => html`<section class="stack" key=${pattern}><h3><span class="mono">${pattern}</span></h3><${Rules} table=${t} pattern=${pattern} /></section>`)}
      ${(e.files_min ?? e.files_max) !== undefined && html`<p>A version has ${e.files_min !== undefined ? `at least ${count(e.files_min)}` : ''}${e.files_min !== undefined && e.files_max !== undefined ? ' and ' : ''}${e.files_max !== undefined ? `at most ${count(e.files_max)}` : ''} files.</p>`}</div>`;
  }}<//>`;
}

/** @param {{table: any, pattern: string}} props */
function Rules({ table: t, pattern }) {
  const rows = [
    ...Object.entries(t.columns ?? {}).map(([column, rule]) => ({ what: column, rule: told(/** @type {any} */ (rule)) })),
    ...(t.unique?.length ? [{ what: t.unique.join(', '), rule: 'together name a row' }] : []),
    ...(t.rows ?? []).map((/** @type {string} */ r) => ({ what: 'every row', rule: r })),
    ...(t.rows_min !== undefined || t.rows_max !== undefined ? [{ what: 'rows', rule: [t.rows_min !== undefined ? `at least ${count(t.rows_min)}` : '', t.rows_max !== undefined ? `at most ${count(t.rows_max)}` : ''].filter(Boolean).join(', ') }] : []),
    ...(t.only ? [{ what: 'columns', rule: 'no others' }] : []),
  ];
  return html`<${Table} label=${`Rules for ${pattern}`} rows=${rows} rowKey=${(/** @type {any} */ _r, /** @type {number} */ i) => i} columns=${[{ key: 'w', label: 'What', cell: (r) => html`<b>${r.what}</b>` }, { key: 'r', label: t.severity === 'warning' ? 'Should be (a warning otherwise)' : 'Must be', prose: true, cell: (r) => r.rule }]} />`;
}

/** A column's rule in words. @param {any} r */
function told(r) {
  return [
    r.type && r.type, r.not_null && 'never missing', r.nulls_max !== undefined && `missing in at most ${(r.nulls_max * 100).toLocaleString()} %`, r.unique && 'each value once',
    r.min !== undefined && `≥ ${r.min}`, r.max !== undefined && `≤ ${r.max}`, r.values && `one of ${r.values.join(', ')}`, r.pattern && `matches ${r.pattern}`,
    r.mean_min !== undefined && `mean ≥ ${r.mean_min}`, r.mean_max !== undefined && `mean ≤ ${r.mean_max}`, r.required === false && 'may be absent',
  ].filter(Boolean).join(', ') || 'is there';
}

/** @param {{name: string, version: any}} props */
function Check({ name, version }) {
  const [state, set] = useState(/** @type {any} */ ({}));
  const run = async () => {
    set({ busy: true });
    try { set({ done: await post(`/datasets/${enc(name)}/versions/${version.number}/check`) }); } catch (error) { set({ error }); }
  };
  const broken = state.done?.broken ?? [], errors = broken.filter((/** @type {any} */ b) => b.severity === 'error').length;
  return html`<div class="stack"><div class="row"><button type="button" class="button" disabled=${state.busy} onClick=${run}><${Icon} name="shield-check" />${state.busy ? 'Reading every table…' : `Check @${version.number}`}</button>
      ${state.done && html`<span role="status" class=${errors ? 'bad' : 'ok'}>${errors ? `${plural(errors, 'rule')} broken` : `As expected: ${plural(state.done.rules_count, 'rule')} on ${plural(state.done.tables_count, 'table')}`}</span>`}${state.error && html`<span role="alert" class="bad">${state.error.message}</span>`}</div>
    ${broken.length > 0 && html`<ul>${broken.map((/** @type {any} */ b, /** @type {number} */ i) => html`<li class="row" key=${i}><${Icon} name=${b.severity === 'error' ? 'circle-x' : 'triangle-alert'} small /><span><span class="mono">${b.path}</span> ${b.rule}; found ${b.found}${b.examples?.length ? ` (such as ${b.examples.join(', ')})` : ''}</span></li>`)}</ul>`}</div>`;
}
