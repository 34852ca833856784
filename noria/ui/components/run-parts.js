// @ts-check
/** What a run was made by and from: its code, its environment, its data in and out. */

import { html } from './html.js';
import { Icon } from './icon.js';
import { Block } from './page.js';
import { Table } from './table.js';
import { DiffText } from './diff-text.js';
import { Command } from './empty.js';
import { Id, Kv, RefLink, Time } from './values.js';
import { useResource } from './use.js';
import { useState } from 'preact/hooks';
import { enc, href, withQuery } from '../lib/api.js';
import { bytes, count } from '../lib/format.js';

const DIFF = 'source/uncommitted.diff';
const LISTS = ['environment/packages.txt', 'model/requirements.txt', 'requirements.txt'];

/** The arguments as one types them. @param {any} argv */
export function commandOf(argv) {
  if (!argv) return '';
  try { const list = typeof argv === 'string' ? JSON.parse(argv) : argv; return Array.isArray(list) ? list.map((a) => (/^[\w@%+=:,./-]+$/.test(a) ? a : `'${String(a).replaceAll("'", "'\\''")}'`)).join(' ') : String(argv); } catch { return String(argv); }
}

/** @param {{run: any}} props */
export function Code({ run }) {
  const tags = run.tags ?? {}, commit = run.source_commit || tags['mlflow.source.git.commit'];
  const diff = useResource(run.source_dirty || run.source_diff_digest ? withQuery(`/runs/${enc(run.id)}/artifacts/preview`, { path: DIFF }) : null);
  const command = commandOf(run.argv) || tags['mlflow.source.name'];
  if (!commit && !command) return html`<div class="empty"><${Icon} name="git-branch" /><p>The code of this run was not recorded.</p><${Command} text="noria run -- python train.py" /></div>`;
  return html`<div class="stack loose"><${Kv} items=${[['Command', command && html`<${Command} text=${command} />`], ['Commit', commit && html`<${Id} value=${commit} full />`], ['Branch', tags['mlflow.source.git.branch'] && html`<code>${tags['mlflow.source.git.branch']}</code>`], ['Repository', tags['mlflow.source.git.repoURL'] && html`<code>${tags['mlflow.source.git.repoURL']}</code>`], ['Uncommitted', commit && (run.source_dirty ? 'yes' : 'nothing: the commit is the code')]]} />
    ${(run.source_dirty || run.source_diff_digest) && html`<${Block} title="Changes that were not committed" actions=${diff.data && html`<a class="button small" data-external download="uncommitted.diff" href=${href(withQuery(`/runs/${enc(run.id)}/artifacts/content`, { path: DIFF }))}><${Icon} name="download" small />${bytes(diff.data.size_bytes)}</a>`}>
      ${diff.data ? html`<${DiffText} text=${diff.data.text} />${diff.data.is_cut && html`<p class="caption">The beginning of the difference; download it for the rest.</p>`}` : diff.error ? html`<p class="muted">${diff.error.status === 404 ? 'The difference was not kept with the run.' : diff.error.message}</p>` : html`<div class="skeleton"></div>`}<//>`}</div>`;
}

/** @param {{run: any, fallback?: string}} props */
export function Environment({ run }) {
  const tags = run.tags ?? {};
  const at = useResource(withQuery(`/runs/${enc(run.id)}/artifacts`, { path: 'environment' }));
  const models = useResource(withQuery(`/runs/${enc(run.id)}/artifacts`, { path: 'model' }));
  const known = [...(at.data?.items ?? []), ...(models.data?.items ?? [])].map((/** @type {any} */ f) => f.path);
  const path = LISTS.find((p) => known.includes(p));
  const list = useResource(path ? withQuery(`/runs/${enc(run.id)}/artifacts/preview`, { path }) : null);
  const [text, setText] = useState('');
  const packages = (list.data?.text ?? '').split('\n').map((/** @type {string} */ l) => l.trim()).filter((/** @type {string} */ l) => l && !l.startsWith('#'));
  const shown = packages.filter((/** @type {string} */ p) => p.toLowerCase().includes(text.toLowerCase())).map((/** @type {string} */ p) => { const m = /^([A-Za-z0-9._-]+)(.*)$/.exec(p); return { name: m?.[1] ?? p, version: (m?.[2] ?? '').replace(/^==/, '').replace(/;.*$/, '').trim() }; });
  const machine = /** @type {[string, any][]} */ ([['Python', tags['noria.python']], ['System', tags['noria.os']], ['Host', tags['noria.host']], ['Processor', tags['noria.cpu'] && `${tags['noria.cpu']}${tags['noria.cpu_count'] ? `, ${tags['noria.cpu_count']} cores` : ''}`], ['Memory', tags['noria.memory_gb'] && `${tags['noria.memory_gb']} GiB`], ['GPU', tags['noria.gpu']], ['Environment', run.environment_digest && html`<${Id} value=${run.environment_digest} />`], ['List', path && html`<code>${path}</code>`]]);
  if (!path && !at.loading && !models.loading && !machine.some(([, v]) => v)) return html`<div class="empty"><${Icon} name="package" /><p>The environment of this run was not recorded.</p><${Command} text="noria run -- python train.py" /></div>`;
  return html`<div class="halves"><${Kv} items=${machine} />
    ${path && html`<div class="stack tight"><label class="search"><span class="sr">Find a package</span><${Icon} name="search" /><input class="input" value=${text} placeholder=${`Find among ${count(packages.length)} packages`} onInput=${(/** @type {any} */ e) => setText(e.currentTarget.value)} /></label><div class="tall"><${Table} label="Packages" rows=${shown} rowKey=${(/** @type {any} */ p) => p.name} columns=${[{ key: 'n', label: 'Package', cell: (p) => p.name, sort: (p) => p.name }, { key: 'v', label: 'Version', cell: (p) => html`<span class="mono">${p.version}</span>` }]} /></div></div>`}</div>`;
}

/** @param {{run: any, read: import('../lib/lineage.js').Node[], versions: import('../lib/lineage.js').Node[]}} props read: dataset versions the run read, versions: model versions built by it */
export function Data({ run, read, versions }) {
  const inputs = run.inputs ?? [];
  const extra = read.filter((n) => !inputs.some((/** @type {any} */ i) => n.ref === `dataset_version:${i.dataset_version}`));
  const uses = run.models ?? [];
  const rows = [...inputs.map((/** @type {any} */ d) => ({ key: `${d.name}${d.digest}`, name: d.dataset_version ? html`<${RefLink} to=${`dataset_version:${d.dataset_version}`} />` : d.name, context: d.tags?.['mlflow.data.context'] ?? '', digest: d.digest, source: sourceOf(d), size: sizeOf(d) })), ...extra.map((n) => ({ key: n.ref, name: html`<${RefLink} to=${n.ref} />`, context: '', digest: '', source: 'Noria', size: '' }))];
  return html`<div class="stack loose"><${Block} title="Read" count=${rows.length}>${rows.length ? html`<${Table} label="Data that was read" rows=${rows} rowKey=${(/** @type {any} */ r) => r.key} columns=${[{ key: 'n', label: 'Dataset', cell: (r) => r.name }, { key: 'c', label: 'For', cell: (r) => r.context }, { key: 's', label: 'Size', cell: (r) => r.size }, { key: 'd', label: 'Digest', cell: (r) => html`<${Id} value=${r.digest} />` }, { key: 'o', label: 'From', cell: (r) => html`<span class="mono truncate">${r.source}</span>` }]} />` : html`<p class="muted">No data was recorded. <code>mlflow.log_input(dataset)</code>, or <code>noria run --data flights@3</code>.</p>`}<//>
    <${Block} title="Wrote" count=${versions.length + uses.filter((/** @type {any} */ m) => m.direction === 'output').length}>${versions.length || uses.length ? html`<ul>${versions.map((n) => html`<li class="list-link" key=${n.ref}><${Icon} name="box" small /><${RefLink} to=${n.ref} /><span class="muted end">model version</span></li>`)}${uses.map((/** @type {any} */ m) => html`<li class="list-link" key=${`${m.model_id}${m.direction}`}><${Icon} name="package" small /><code>${m.model_id}</code><span class="muted end">logged model, ${m.direction}${m.step ? ` at step ${m.step}` : ''}</span></li>`)}</ul>` : html`<p class="muted">It wrote no model.</p>`}<//></div>`;
}

/** @param {any} d */
function sourceOf(d) {
  try { const s = JSON.parse(d.source); return s.uri ?? s.url ?? s.path ?? d.source; } catch { return d.source || d.source_type; }
}
/** @param {any} d */
function sizeOf(d) {
  try { const p = JSON.parse(d.profile); const rows = p.num_rows ?? p.features_shape?.[0]; return rows ? `${count(rows)} rows` : ''; } catch { return ''; }
}

/** @param {{run: any, experiment: any}} props */
export function Origin({ run, experiment }) {
  return html`<${Kv} items=${[['Run id', html`<${Id} value=${run.id} full />`], ['Experiment', experiment?.name], ['Started', html`<${Time} at=${run.started_at_ms} absolute />`], ['Ended', run.ended_at_ms ? html`<${Time} at=${run.ended_at_ms} absolute />` : null]]} />`;
}
