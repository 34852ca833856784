// @ts-check
/** Code, environment and data of two runs against each other. */

import { html } from './html.js';
import { Icon } from './icon.js';
import { Block } from './page.js';
import { Table } from './table.js';
import { DiffMark } from './diff.js';
import { DiffText } from './diff-text.js';
import { Id, Kv, RefLink } from './values.js';
import { commandOf } from './run-parts.js';
import { useResource } from './use.js';
import { enc, withQuery } from '../lib/api.js';
import { named } from '../lib/names.js';
import { packageDiff } from '../lib/unified.js';
import { plural } from '../lib/format.js';

/** @param {string | null} run @param {string} path */
function useText(run, path) { return useResource(run ? withQuery(`/runs/${enc(run)}/artifacts/preview`, { path }) : null); }

/** @param {{base: any, other: any}} props */
export function CodeDiff({ base, other }) {
  const was = useText(base.source_diff_digest || base.source_dirty ? base.id : null, 'source/uncommitted.diff'), now = useText(other.source_diff_digest || other.source_dirty ? other.id : null, 'source/uncommitted.diff');
  const wasPackages = useText(base.id, 'environment/packages.txt'), nowPackages = useText(other.id, 'environment/packages.txt');
  const same = (/** @type {any} */ a, /** @type {any} */ b) => html`${a || html`<span class="muted">–</span>`}${a === b ? html` <span class="muted">in both</span>` : html` <${Icon} name="arrow-right" small /> ${b || html`<span class="muted">–</span>`}`}`;
  const packages = wasPackages.data && nowPackages.data ? packageDiff(wasPackages.data.text.split('\n'), nowPackages.data.text.split('\n')) : null;
  const sameDiff = (was.data?.text ?? '') === (now.data?.text ?? '');
  return html`<div class="stack loose"><${Kv} items=${[['Command', html`<code class="breaks">${same(commandOf(base.argv) || base.tags['mlflow.source.name'], commandOf(other.argv) || other.tags['mlflow.source.name'])}</code>`], ['Commit', html`<span class="mono">${same(base.source_commit?.slice(0, 12), other.source_commit?.slice(0, 12))}</span>`], ['Branch', same(base.tags['mlflow.source.git.branch'], other.tags['mlflow.source.git.branch'])]]} />
    <${Block} title="Changes that were not committed">${was.loading || now.loading ? html`<div class="skeleton"></div>` : !was.data && !now.data ? html`<p class="muted">Neither run kept uncommitted changes${base.source_commit && base.source_commit === other.source_commit ? '; both ran the same commit' : ''}.</p>`
      : sameDiff && base.source_commit === other.source_commit ? html`<p class="muted">The same in both: the two runs ran the same code.</p><${DiffText} text=${was.data.text} />`
        : html`<div class="halves"><section class="stack tight"><h3>${base.name}</h3>${was.data ? html`<${DiffText} text=${was.data.text} />` : html`<p class="muted">None.</p>`}</section><section class="stack tight"><h3>${other.name}</h3>${now.data ? html`<${DiffText} text=${now.data.text} />` : html`<p class="muted">None.</p>`}</section></div>`}<//>
    <${Block} title="Packages" count=${packages?.length}>${packages === null ? html`<p class="muted">${wasPackages.loading || nowPackages.loading ? 'Reading.' : 'At least one of the runs did not record its packages.'}</p>` : !packages.length ? html`<p class="muted">The same in both.</p>` : html`<${PackageTable} rows=${packages} />`}<//></div>`;
}

/** @param {{rows: {name: string, was: string | null, now: string | null, change: string}[]}} props */
export function PackageTable({ rows }) {
  return html`<div class="tall"><${Table} label="Packages that differ" rows=${rows} rowKey=${(/** @type {any} */ r) => r.name} columns=${[{ key: 'n', label: 'Package', cell: (r) => r.name, sort: (r) => r.name }, { key: 'c', label: 'Change', cell: (r) => html`<${DiffMark} of=${r.change} />`, sort: (r) => r.change }, { key: 'w', label: 'Was', cell: (r) => html`<span class="mono">${r.was ?? '–'}</span>` }, { key: 'i', label: 'Is', cell: (r) => html`<span class="mono">${r.now ?? '–'}</span>` }]} /></div>`;
}

/** @param {{base: any, other: any}} props */
export function DataDiff({ base, other }) {
  const key = (/** @type {any} */ d) => `${d.name}|${d.tags?.['mlflow.data.context'] ?? ''}`;
  const was = new Map((base.inputs ?? []).map((/** @type {any} */ d) => [key(d), d])), now = new Map((other.inputs ?? []).map((/** @type {any} */ d) => [key(d), d]));
  const rows = [...new Set([...was.keys(), ...now.keys()])].sort().map((k) => ({ k, a: was.get(k), b: now.get(k) }));
  if (!rows.length) return html`<p class="muted">Neither run recorded the data it read.</p>`;
  const one = (/** @type {any} */ d) => (!d ? html`<span class="muted">–</span>` : d.dataset_version ? html`<${RefLink} to=${`dataset_version:${d.dataset_version}`} />` : html`<${Id} value=${d.digest} />`);
  const link = (/** @type {any} */ r) => { const a = named(`dataset_version:${r.a?.dataset_version}`)?.label, b = named(`dataset_version:${r.b?.dataset_version}`)?.label; const [x, y] = [a?.split('@'), b?.split('@')]; return x && y && x[0] === y[0] && a !== b ? `/datasets/${enc(x[0])}/diff?a=${enc(x[1])}&b=${enc(y[1])}` : null; };
  return html`<${Table} label="Data of the two runs" rows=${rows} rowKey=${(/** @type {any} */ r) => r.k} columns=${[{ key: 'n', label: 'Dataset', cell: (r) => (r.a ?? r.b).name }, { key: 'c', label: 'For', cell: (r) => (r.a ?? r.b).tags?.['mlflow.data.context'] ?? '' }, { key: 'a', label: base.name, cell: (r) => one(r.a) }, { key: 'b', label: other.name, cell: (r) => one(r.b) },
    { key: 'd', label: '', cell: (r) => (r.a && r.b && r.a.digest === r.b.digest ? html`<span class="muted">the same</span>` : html`<${DiffMark} of=${!r.a ? 'added' : !r.b ? 'removed' : 'changed'} />${link(r) && html` <a href=${link(r)}>what changed</a>`}`) }]} /><p class="caption">${plural(rows.filter((r) => r.a?.digest !== r.b?.digest).length, 'dataset')} differ.</p>`;
}
