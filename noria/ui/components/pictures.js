// @ts-check
/** The pictures of a version, small, a page at a time. What is shown is a picture by its first bytes, whatever it is called. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Picture } from './artifacts.js';
import { href, withQuery } from '../lib/api.js';
import { bytes, count } from '../lib/format.js';

const PER_PAGE = 24;
export const isPicture = (/** @type {string} */ path) => /\.(png|jpe?g|gif|webp|bmp)$/i.test(path);

/** @param {{base: string, files: any[], more: boolean}} props base: the address of the version; more: there are files that are not listed */
export function Pictures({ base, files, more }) {
  const [page, setPage] = useState(0);
  const pages = Math.ceil(files.length / PER_PAGE), shown = files.slice(page * PER_PAGE, (page + 1) * PER_PAGE);
  return html`<div class="stack"><div class="pictures">${shown.map((f) => html`<figure key=${f.path}><${Picture} at=${href(withQuery(`${base}/content`, { path: f.path }))} size=${f.size_bytes} name=${f.path} /><figcaption class="truncate muted" title=${f.path}>${f.path.split('/').pop()} · ${bytes(f.size_bytes)}</figcaption></figure>`)}</div>
    <div class="row"><button type="button" class="button small" disabled=${page === 0} onClick=${() => setPage(page - 1)}>Before</button><span class="muted">${page * PER_PAGE + 1}–${page * PER_PAGE + shown.length} of ${count(files.length)}${more ? ' among the first files' : ''}</span><button type="button" class="button small" disabled=${page + 1 >= pages} onClick=${() => setPage(page + 1)}>After</button></div></div>`;
}
