// @ts-check
/** The files of a version on the left, what one of them looks like on the right. Nothing of a file runs here. */

import { html } from './html.js';
import { Icon } from './icon.js';
import { FileView, iconOfFile } from './artifacts.js';
import { bytes } from '../lib/format.js';

/** @param {{base: string, files: any[], query: URLSearchParams, setQuery: (changes: any) => void}} props base: the address of the version */
export function VersionFiles({ base, files, query, setQuery }) {
  const file = query.get('file') ?? '', known = files.some((f) => f.path === file);
  if (!files.length) return html`<p class="muted">The version has no files.</p>`;
  return html`<div class="artifacts narrow"><ul class="files" aria-label="Files">${files.map((f) => html`<li key=${f.path}><button type="button" class="file" aria-current=${f.path === file ? 'true' : undefined} onClick=${() => setQuery({ file: f.path })}><${Icon} name=${iconOfFile(f.path)} small /><span class="truncate grow" title=${f.path}>${f.path}</span><span class="muted num">${bytes(f.size_bytes)}</span></button></li>`)}</ul>
    <div class="file-view">${known ? html`<${FileView} key=${file} base=${base} path=${file} />` : html`<div class="empty"><${Icon} name="file" /><p>${file ? 'The version has no such file.' : 'Choose a file to look at it.'}</p></div>`}</div></div>`;
}
