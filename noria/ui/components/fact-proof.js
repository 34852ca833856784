// @ts-check
/** The proof that one fact is in the signed log: checked in this browser, and a file to give away. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { Id, Kv } from './values.js';
import { api } from '../lib/api.js';
import { count } from '../lib/format.js';
import { isProven } from '../lib/proof.js';

/** @param {{seq: number}} props */
export function FactProof({ seq }) {
  const [found, setFound] = useState(/** @type {any} */ (null));
  const prove = async () => {
    try { const proof = await api(`/audit/proof/${seq}`); setFound({ proof, holds: await isProven(proof) }); }
    catch (e) { setFound({ error: /** @type {any} */ (e).message }); }
  };
  if (!found) return html`<button type="button" class="button small" onClick=${prove}><${Icon} name="shield-check" small />Prove that it is in the signed log</button>`;
  if (found.error) return html`<p class="muted">${found.error}</p>`;
  const { proof, holds } = found, file = URL.createObjectURL(new Blob([JSON.stringify(proof, null, 1)], { type: 'application/json' }));
  return html`<section class="stack"><h3>Proof</h3><div class=${`notice ${holds ? 'ok' : 'bad'}`} role="status"><${Icon} name=${holds ? 'shield-check' : 'shield-x'} /><span>${holds ? html`Worked out in this browser: it is number ${count(proof.seq)} of the ${count(proof.size)} facts that were signed.` : 'The hashes do not lead to the signed root.'}</span></div>
    <${Kv} items=${[['Leaf', html`<${Id} value=${proof.leaf_hash} />`], ['Root', html`<${Id} value=${proof.root} />`], ['Way up', `${proof.path.length} hashes`]]} />
    <div class="row"><a class="button small" data-external download=${`fact-${seq}.proof.json`} href=${file}><${Icon} name="download" small />Proof and signed note</a></div></section>`;
}
