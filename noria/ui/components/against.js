// @ts-check
/** A version against the one it would replace: settings of their runs, signature, environment, files. Numbers have a tab of their own. */

import { html } from './html.js';
import { Block } from './page.js';
import { Table } from './table.js';
import { DiffFiles, DiffMark, DiffTable } from './diff.js';
import { PackageTable } from './two-runs.js';
import { useResource } from './use.js';
import { enc } from '../lib/api.js';
import { fileDiff, packageDiff } from '../lib/unified.js';
import { signatureDiff } from '../lib/signatures.js';
import { plural } from '../lib/format.js';

/** @param {{page: any, rival: any}} props page and rival: VersionPage */
export function Against({ page, rival }) {
  const v = page.version, w = rival.version;
  const now = useResource(v.run_id ? `/runs/${enc(v.run_id)}` : null), was = useResource(w.run_id ? `/runs/${enc(w.run_id)}` : null);
  const files = fileDiff(rival.files, page.files), packages = packageDiff(w.packages ?? [], v.packages ?? []), signature = signatureDiff(w.signature, v.signature);
  const params = now.data && was.data ? [...new Set([...Object.keys(was.data.params), ...Object.keys(now.data.params)])].sort().map((key) => ({ key, values: [was.data.params[key], now.data.params[key]] })).filter((r) => r.values[0] !== r.values[1]) : null;
  const different = [[params?.length ?? 0, 'setting'], [signature.length, 'field'], [packages.length, 'package'], [files.length, 'file']].filter(([n]) => n).map(([n, word]) => plural(Number(n), String(word)));
  const same = (/** @type {string} */ text) => html`<p class="muted">${text}</p>`;
  return html`<div class="stack loose"><p class="quiet">From the champion @${w.number} to @${v.number}: ${different.length ? `${different.join(', ')} changed.` : 'the same files, packages and signature.'}</p>
    <${Block} title="Settings of the runs" count=${params?.length}>${params === null ? same(v.run_id && w.run_id ? (was.error || now.error ? 'A run cannot be read.' : 'Reading.') : 'One of the versions was not built by a run.') : params.length ? html`<${DiffTable} names=${[`@${w.number}`, `@${v.number}`]} rows=${params} label="Settings that differ" />` : same('The same in both.')}<//>
    <${Block} title="Signature" count=${signature.length || null}>${signature.length ? html`<${Table} label="Fields that differ" rows=${signature} rowKey=${(/** @type {any} */ r) => r.name} columns=${[{ key: 'n', label: 'Field', cell: (r) => html`<span class="mono">${r.name}</span>` }, { key: 'c', label: 'Change', cell: (r) => html`<${DiffMark} of=${r.change} />` }, { key: 'w', label: 'Was', cell: (r) => html`<code>${r.was ?? '–'}</code>` }, { key: 'i', label: 'Is', cell: (r) => html`<code>${r.now ?? '–'}</code>` }]} />` : same(v.signature ? 'The same in both: callers need not change.' : 'Neither has one.')}<//>
    <${Block} title="Environment" count=${packages.length || null}>${packages.length ? html`<${PackageTable} rows=${packages} />` : same(v.packages?.length ? 'The same packages in both.' : 'No packages are listed.')}<//>
    <${Block} title="Files" count=${files.length || null}>${files.length ? html`<${DiffFiles} items=${files} label="Files that differ" />` : same('The same bytes in both.')}<//></div>`;
}
