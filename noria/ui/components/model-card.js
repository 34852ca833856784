// @ts-check
/** The card of a version: what was recorded and what people wrote, as the server sanitised it. Sections are written in Markdown. */

import { useEffect, useState } from 'preact/hooks';
import { html } from './html.js';
import { Deed } from './deed.js';
import { Icon } from './icon.js';
import { ProseBox } from './prose.js';
import { Dialog, Field } from './dialog.js';
import { Time, Who } from './values.js';
import { Show } from './empty.js';
import { useResource } from './use.js';
import { api, enc, href } from '../lib/api.js';
import { percent } from '../lib/format.js';

/** @param {{model: string, number: number}} props */
export function ModelCard({ model, number }) {
  const at = `/models/${enc(model)}/versions/${number}/card`;
  const card = useResource(at, { kinds: ['model_version.'] });
  const [text, setText] = useState(''), [writing, setWriting] = useState(/** @type {any} */ (null));
  useEffect(() => { let gone = false; if (card.data) fetch(href(`${at}?form=html`), { credentials: 'same-origin' }).then((r) => (r.ok ? r.text() : '')).then((t) => { if (!gone) setText(t); }, () => {}); return () => { gone = true; }; }, [card.data]);
  return html`<${Show} of=${card}>${(/** @type {any} */ c) => html`<div class="stack loose"><div class="row"><span class="quiet">${percent(c.completeness?.score)} of the card is filled.</span><button type="button" class="button small end" onClick=${() => print()}><${Icon} name="file-text" small />Print</button><a class="button small" data-external download=${`${model}-${number}.md`} href=${href(`${at}?form=md`)}><${Icon} name="download" small />Markdown</a></div>
      ${text && html`<${ProseBox} of=${text} label=${`Card of ${model}@${number}`} />`}
      <ul>${(c.sections ?? []).map((/** @type {any} */ s) => html`<li class="list-link" key=${s.section}><b>${s.title}</b><span class="muted truncate grow">${s.content ? html`<${Who} of=${s.actor} /> wrote it <${Time} at=${s.at_ms} />` : s.question}</span><${Deed} may="model.tag" on=${`model:${model}`} class="button small" onClick=${() => setWriting(s)}>${s.content ? 'Edit' : 'Write'}<//></li>`)}</ul></div>
    ${writing && html`<${Dialog} title=${writing.title} deed="Save the section" done="Saved" onClose=${() => setWriting(null)} act=${async (/** @type {FormData} */ f) => { await api(`${at}/${enc(writing.section)}`, { method: 'PUT', body: { content: String(f.get('content')), expect: writing.edit } }); card.reload(); }}><${Field} as="textarea" label=${writing.question} name="content" rows="10" defaultValue=${writing.content} hint="Markdown. Every text that was here before is kept." /><//>`}`}<//>`;
}
