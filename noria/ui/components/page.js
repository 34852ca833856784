// @ts-check
import { html } from './html.js';
import { Icon } from './icon.js';
import { useCommands } from './use.js';
import { useEffect, useRef } from 'preact/hooks';
import { visit } from '../lib/store.js';

/** The frame of every page: where one is, the filter, what one can do, the content.
 *  @param {{crumbs: [string, string?][], title?: string, filter?: any, actions?: any, flush?: boolean, children?: any, loading?: boolean}} props */
export function Page({ crumbs, title, filter, actions, flush = false, children, loading = false }) {
  const last = crumbs[crumbs.length - 1][0];
  useEffect(() => { document.title = `${title ?? last} · Noria`; if (!loading) visit(location.pathname, title ?? last); }, [title ?? last, loading]);
  return html`<div class="page">
    ${loading && html`<div class="progress" role="progressbar" aria-label="Reading"></div>`}
    <header>
      <nav class="crumbs" aria-label="Breadcrumb"><ol>${crumbs.map(([label, href], i) => html`<li key=${i}>${i === crumbs.length - 1 ? html`<h1 class="truncate">${label}</h1>` : html`<a href=${href}>${label}</a>`}</li>`)}</ol></nav>
      ${filter && html`<div class="filter">${filter}</div>`}
      ${actions && html`<div class="actions">${actions}</div>`}
    </header>
    <div class=${`content ${flush ? 'flush' : ''}`} tabindex=${flush ? '-1' : '0'} id="content">${flush ? children : html`<div class="inner">${children}</div>`}</div>
  </div>`;
}

/** A titled part of a page. @param {{title: any, count?: any, actions?: any, children?: any, id?: string}} props */
export function Block({ title, count, actions, children, id }) {
  return html`<section class="block" id=${id}><div class="block-head"><h2>${title}${count !== undefined && count !== null ? html` <span class="muted">${count}</span>` : ''}</h2>${actions && html`<div class="end">${actions}</div>`}</div>${children}</section>`;
}

/** The filter field; `/` goes there, Escape leaves. @param {{value: string, onInput: (text: string) => void, placeholder?: string, label?: string, unknown?: string[]}} props */
export function Filter({ value, onInput, placeholder = 'Filter', label = 'Filter this list', unknown = [] }) {
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  useCommands([{ id: 'filter', title: 'Filter this list', icon: 'list-filter', keys: '/', run: (e) => { e?.preventDefault?.(); field.current?.focus(); field.current?.select(); } }]);
  return html`<label class="search"><span class="sr">${label}</span><${Icon} name="search" />
    <input ref=${field} class="input" type="text" spellcheck=${false} autocomplete="off" placeholder=${placeholder} value=${value} aria-invalid=${unknown.length ? 'true' : undefined}
      title=${unknown.length ? `No column is called ${unknown.join(', ')}.` : undefined}
      onInput=${(/** @type {any} */ e) => onInput(e.currentTarget.value)} onKeyDown=${(/** @type {any} */ e) => { if (e.key === 'Escape') { onInput(''); e.currentTarget.blur(); } }} />
    <kbd aria-hidden="true">/</kbd></label>`;
}
