// @ts-check
/** What is signed about a version, and the documents that others' tools read: each with its download. */

import { html } from './html.js';
import { Command } from './empty.js';
import { Icon } from './icon.js';
import { Id, Kv } from './values.js';
import { useResource } from './use.js';
import { enc, href } from '../lib/api.js';

/** @param {{model: string, number: number}} props */
export function VersionSupply({ model, number }) {
  const at = `/models/${enc(model)}/versions/${number}`, name = `${model}-${number}`;
  const signature = useResource(`${at}/signature`, { kinds: ['model_version.signed'] }), s = signature.data;
  const provenance = useResource(`${at}/provenance`, { kinds: ['model_version.attested'] });
  const hint = s?.bundle.verificationMaterial.publicKey.hint;
  const get = (/** @type {string} */ text, /** @type {string} */ path, /** @type {string} */ file) => html`<a class="button small" data-external download=${file} href=${href(`${at}/${path}`)}><${Icon} name="download" small />${text}</a>`;
  return html`<div class="stack"><${Kv} items=${[
      ['Files', s ? html`<span>signed with the key <${Id} value=${hint} /></span>` : html`<span class="muted">${signature.error?.status === 404 ? 'being signed' : signature.error ? 'cannot be shown' : 'reading'}</span>`],
      ['Where it comes from', provenance.data ? 'signed' : html`<span class="muted">${provenance.error?.status === 404 ? 'being signed' : 'reading'}</span>`]]} />
    <div class="row wrap">${s && get('Signature', 'signature', `${name}.signature.json`)}${provenance.data && get('Provenance', 'provenance', `${name}.provenance.json`)}${get('Bill of materials', 'bom', `${name}.cdx.json`)}</div>
    ${s && html`<${Command} text=${`noria model verify ${model}@${number}`} />`}</div>`;
}
