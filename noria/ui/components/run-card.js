// @ts-check
/** The card of a run: the note people keep with it, in Markdown, and the cards of the versions it built. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Deed } from './deed.js';
import { Icon } from './icon.js';
import { Block } from './page.js';
import { ProseBox } from './prose.js';
import { Dialog, Field } from './dialog.js';
import { ModelCard } from './model-card.js';
import { RefLink } from './values.js';
import { useResource } from './use.js';
import { api, enc } from '../lib/api.js';
import { named } from '../lib/names.js';

const NOTE = 'mlflow.note.content';

/** @param {{run: any, versions: import('../lib/lineage.js').Node[], onDone: () => void}} props */
export function RunCard({ run, versions, onDone }) {
  const text = run.tags?.[NOTE] ?? '';
  const note = useResource(text ? `/runs/${enc(run.id)}/note` : null, { subjects: [`run:${run.id}`] });
  const [writing, setWriting] = useState(false);
  const save = async (/** @type {FormData} */ form) => { await api(`/runs/${enc(run.id)}`, { method: 'PATCH', body: { tags: { [NOTE]: String(form.get('content')) } } }); onDone(); note.reload(); };
  return html`<div class="stack loose"><${Block} title="Note" actions=${run.stage !== 'deleted' && html`<${Deed} may="run.log" on=${`experiment:${run.experiment_id}`} class="button small" onClick=${() => setWriting(true)}><${Icon} name="file-text" small />${text ? 'Edit' : 'Write'}<//>`}>
      ${text ? (note.data ? html`<${ProseBox} of=${note.data.html} label="Note of the run" />` : html`<p class="prose">${text}</p>`) : html`<p class="muted">Nobody wrote a note. It is the same as MLflow's description of a run.</p>`}<//>
    ${versions.map((v) => { const at = /^(.*)@(\d+)$/.exec(named(v.ref)?.label ?? ''); return at && html`<${Block} key=${v.ref} title="Card of the version it built" actions=${html`<${RefLink} to=${v.ref} />`}><${ModelCard} model=${at[1]} number=${Number(at[2])} /><//>`; })}
    ${!versions.length && html`<p class="muted">A version that is registered from this run has a card of its own; it is shown here too.</p>`}</div>
    ${writing && html`<${Dialog} title="Note of the run" deed="Save the note" done="Saved" onClose=${() => setWriting(false)} act=${save}><${Field} as="textarea" label="Note" name="content" rows="10" defaultValue=${text} hint="Markdown." /><//>`}`;
}
