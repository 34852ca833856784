// @ts-check
/** What the files of a version would do when they are read, and who accepted it. */

import { html } from './html.js';
import { Command } from './empty.js';
import { Glyph } from './state.js';
import { Time, Who } from './values.js';
import { useResource } from './use.js';
import { enc } from '../lib/api.js';

const SAID = { clean: 'Nothing in the files runs code.', unscanned: 'Not everything could be looked through.', suspicious: 'The files would run code when they are read.' };

/** @param {{model: string, number: number}} props */
export function VersionScan({ model, number }) {
  const scan = useResource(`/models/${enc(model)}/versions/${number}/scan`, { kinds: ['model_version.scanned', 'model_version.scan_accepted'] }), s = scan.data;
  if (!s) return html`<p class="muted">${scan.error ? 'The scan cannot be shown.' : 'Looking…'}</p>`;
  const tone = s.is_pending || s.status === 'unscanned' ? 'wait' : s.status === 'clean' || s.accepted_by ? 'pass' : 'fail';
  return html`<div class="stack"><div class=${`gate ${tone}`}><${Glyph} tone=${tone === 'pass' ? 'done' : tone === 'wait' ? 'queued' : 'failed'} />
      <div class="stack tight"><b>${s.is_pending ? 'The files are being looked through.' : SAID[/** @type {keyof SAID} */ (s.status)]}</b>
        ${s.is_safe && html`<small>No format among them can.</small>`}${s.why && html`<small class="breaks">${s.why}</small>`}
        ${s.findings.slice(0, 10).map((/** @type {any} */ f, /** @type {number} */ i) => html`<small class="breaks" key=${i}><code>${f.file}</code> ${f.reason}${f.opcode ? html` <span class="muted">${f.opcode} at byte ${f.at}</span>` : ''}</small>`)}
        ${s.findings.length > 10 && html`<small class="muted">and ${s.findings.length - 10} more</small>`}
        ${s.accepted_by && html`<small>Accepted by <${Who} of=${s.accepted_by} /> <${Time} at=${s.accepted_at_ms} />: “${s.accepted_reason}”</small>`}</div>
      ${s.at_ms && html`<small><${Time} at=${s.at_ms} /></small>`}</div>
    ${s.status === 'suspicious' && !s.accepted_by && html`<p class="muted">It gets no traffic until an administrator accepts it:</p><${Command} text=${`noria model scan ${model}@${number} --accept "who read it, and where that is written down"`} />`}</div>`;
}
