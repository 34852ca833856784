// @ts-check
/** The technical file of a system: what is written, what is stale, and what the record adds. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Deed } from './deed.js';
import { Icon } from './icon.js';
import { Show } from './empty.js';
import { Dialog, Field } from './dialog.js';
import { State } from './state.js';
import { Time, Who } from './values.js';
import { useResource } from './use.js';
import { api, enc, href } from '../lib/api.js';
import { percent } from '../lib/format.js';

/** @param {{name: string}} props */
export function TechnicalFile({ name }) {
  const at = `/systems/${enc(name)}/technical-file`;
  const file = useResource(at, { kinds: ['system.', 'endpoint.', 'compliance.'] });
  const [writing, setWriting] = useState(/** @type {any} */ (null));
  return html`<${Show} of=${file}>${(/** @type {any} */ f) => html`<div class="stack"><div class="row wrap"><span><b>${percent(f.score)}</b> <span class="quiet">of the technical file is written and current (EU AI Act, Annex IV).</span></span><span class="row end"><a class="button small" data-external target="_blank" rel="noopener" href=${href(`${at}?form=page`)}><${Icon} name="file-text" small />Read, print</a><a class="button small" data-external download=${`${name}-technical-file.md`} href=${href(`${at}?form=md`)}><${Icon} name="download" small />Markdown</a></span></div>
      <ul>${f.sections.map((/** @type {any} */ s) => html`<li class="list-link" key=${s.number}><span class="muted num">${s.number}</span><span class="grow stack tight"><b>${s.title}</b><span class="muted">${s.content.trim() ? html`<${Who} of=${s.actor} /> wrote it <${Time} at=${s.at_ms} />` : s.question}</span></span>
        <${State} of=${!s.content.trim() ? 'queued' : s.is_stale ? 'warning' : 'done'} word=${!s.content.trim() ? 'not written' : s.is_stale ? 'stale: a version went live since' : 'current'} /><${Deed} may="compliance.write" on=${`system:${name}`} class="button small" aria-label=${`${s.content.trim() ? 'Edit' : 'Write'} section ${s.number}`} onClick=${() => setWriting(s)}>${s.content.trim() ? 'Edit' : 'Write'}<//></li>`)}</ul></div>
    ${writing && html`<${Dialog} title=${`${writing.number}. ${writing.title}`} deed="Save the section" done="Saved" onClose=${() => setWriting(null)} act=${async (/** @type {FormData} */ form) => { await api(`${at}/${writing.number}`, { method: 'PUT', body: { content: String(form.get('content')), expect: writing.edit } }); file.reload(); }}><${Field} as="textarea" label=${writing.question} name="content" rows="10" defaultValue=${writing.content} hint="Markdown. The record is added below it; every text that was here before is kept." /><//>`}`}<//>`;
}
