// @ts-check
/** The files of a run: folders on the left, what a file looks like on the right. Nothing of a file runs here. */

import { useEffect, useState } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { ProseBox } from './prose.js';
import { JsonView } from './json-view.js';
import { DiffText } from './diff-text.js';
import { Show } from './empty.js';
import { Id } from './values.js';
import { useResource } from './use.js';
import { api, enc, href, withQuery } from '../lib/api.js';
import { bytes, count } from '../lib/format.js';
import { imageType } from '../lib/images.js';

const IMAGE_BYTES_MAX = 20 << 20;

/** @param {{run: string, query: URLSearchParams, setQuery: (changes: any) => void}} props */
export function Artifacts({ run, query, setQuery }) {
  const folder = query.get('path') ?? '', file = query.get('file') ?? '';
  const files = useResource(withQuery(`/runs/${enc(run)}/artifacts`, { path: folder }), { subjects: [`run:${run}`] });
  const parts = folder.split('/').filter(Boolean);
  return html`<div class="artifacts"><div class="stack tight"><nav class="crumbs" aria-label="Folder"><ol><li><button type="button" class="button plain small" onClick=${() => setQuery({ path: null })}><${Icon} name="folder-open" small />artifacts</button></li>${parts.map((p, i) => html`<li key=${i}><button type="button" class="button plain small" onClick=${() => setQuery({ path: parts.slice(0, i + 1).join('/') })}>${p}</button></li>`)}</ol></nav>
      <${Show} of=${files}>${(/** @type {any} */ a) => (a.items.length ? html`<ul class="files" aria-label="Files">${a.items.map((/** @type {any} */ f) => { const last = f.path.split('/').pop(); return html`<li key=${f.path}><button type="button" class="file" aria-current=${f.path === file ? 'true' : undefined} onClick=${() => setQuery(f.is_dir ? { path: f.path } : { file: f.path })}><${Icon} name=${f.is_dir ? 'folder' : iconOfFile(f.path)} small /><span class="truncate grow" title=${f.path}>${last}${f.is_dir ? '/' : ''}</span><span class="muted num">${bytes(f.size_bytes)}</span></button></li>`; })}</ul>` : html`<p class="muted">${folder ? 'No files here.' : html`No files were logged. <code>mlflow.log_artifact("plot.png")</code> puts one here.`}</p>`)}<//></div>
    <div class="file-view">${file ? html`<${FileView} key=${file} base=${`/runs/${enc(run)}/artifacts`} path=${file} />` : html`<div class="empty"><${Icon} name="file" /><p>Choose a file to look at it.</p></div>`}</div></div>`;
}

/** One file, as far as it can be shown. @param {{base: string, path: string}} props base: the address of the files, below which `preview` and `content` are */
export function FileView({ base, path }) {
  const preview = useResource(withQuery(`${base}/preview`, { path }));
  const [wrap, setWrap] = useState(true);
  const to = href(withQuery(`${base}/content`, { path })), name = path.split('/').pop();
  return html`<div class="stack"><div class="row"><h3 class="truncate" title=${path}>${name}</h3><span class="end row">${preview.data && html`<span class="muted nowrap">${bytes(preview.data.size_bytes)}</span><${Id} value=${preview.data.digest} />`}${['text', 'json'].includes(preview.data?.kind) && html`<label class="inline"><input class="check" type="checkbox" checked=${wrap} onChange=${() => setWrap(!wrap)} />wrap</label>`}<a class="button small" data-external download=${name} href=${to}><${Icon} name="download" small />Download</a></span></div>
    <${Show} of=${preview}>${(/** @type {any} */ p) => html`${shown(p, to, wrap)}${p.is_cut && html`<p class="caption">${p.kind === 'table' ? `The first ${count(p.rows.length)} rows${p.rows_count ? ` of ${count(p.rows_count)}` : ''} and ${count(p.columns.length)} columns.` : 'The beginning of the file; download it for the rest.'}</p>`}`}<//></div>`;
}

/** @param {any} p @param {string} to @param {boolean} wrap */
function shown(p, to, wrap) {
  switch (p.kind) {
    case 'image': return html`<${Picture} at=${to} size=${p.size_bytes} name=${p.path} />`;
    case 'table': return html`<div class="table-wrap sunken" tabindex="0" role="region" aria-label=${`Rows of ${p.path}`}><table class="table data"><thead><tr>${p.columns.map((/** @type {string} */ c, /** @type {number} */ i) => html`<th key=${i} scope="col" class=${p.rows.some((/** @type {any[]} */ r) => isNumber(r[i])) ? 'num' : ''}>${c}</th>`)}</tr></thead><tbody>${p.rows.map((/** @type {any[]} */ r, /** @type {number} */ i) => html`<tr key=${i}>${p.columns.map((/** @type {string} */ _c, /** @type {number} */ j) => html`<td key=${j} class=${isNumber(r[j]) ? 'num' : ''}>${r[j] ?? html`<span class="absent">–</span>`}</td>`)}</tr>`)}</tbody></table></div>`;
    case 'markdown': return html`<${ProseBox} of=${p.html} label=${p.path} />`;
    case 'json': return html`<div class="sunken pad"><${JsonText} text=${p.text} /></div>`;
    case 'text': return /\.(diff|patch)$/.test(p.path) ? html`<${DiffText} text=${p.text} />` : html`<pre class=${`code ${wrap ? 'wrap' : ''}`} tabindex="0">${p.text || 'The file is empty.'}</pre>`;
    default: return html`<div class="empty"><${Icon} name="file" /><p>${p.why || 'This file has no preview.'}</p></div>`;
  }
}

/** @param {{text: string}} props */
function JsonText({ text }) {
  try { return html`<${JsonView} value=${JSON.parse(text)} />`; } catch { return html`<pre class="code wrap" tabindex="0">${text}</pre>`; }
}

/** A picture from bytes that were looked at: only what is a picture by its first bytes is shown. @param {{at: string, size: number, name: string}} props */
export function Picture({ at, size, name }) {
  const [url, setUrl] = useState(''), [why, setWhy] = useState(size > IMAGE_BYTES_MAX ? 'The picture is too large to be shown here.' : '');
  useEffect(() => {
    if (size > IMAGE_BYTES_MAX) return undefined;
    let made = '';
    fetch(at, { credentials: 'same-origin' }).then(async (answer) => {
      const data = new Uint8Array(await answer.arrayBuffer()), type = imageType(data);
      if (!answer.ok || !type) { setWhy('These bytes are not a picture that is known here.'); return; }
      made = URL.createObjectURL(new Blob([data], { type }));
      setUrl(made);
    }).catch(() => setWhy('The picture could not be read.'));
    return () => { if (made) URL.revokeObjectURL(made); };
  }, [at]);
  if (why) return html`<p class="muted">${why}</p>`;
  return url ? html`<div class="picture"><img src=${url} alt=${name} /></div>` : html`<div class="skeleton"></div>`;
}

/** @param {any} v */
function isNumber(v) { return typeof v === 'string' && /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(v); }
/** The icon of a file by its name. @param {string} path */
export function iconOfFile(path) { return /\.(png|jpe?g|gif|webp|bmp)$/i.test(path) ? 'image' : /\.(csv|tsv|parquet)$/i.test(path) ? 'table' : /\.(md|txt|log|json|ya?ml|py|diff)$/i.test(path) ? 'file-text' : 'file'; }
