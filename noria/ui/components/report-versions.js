// @ts-check
import { html } from './html.js';
import { Deed } from './deed.js';
import { Sheet } from './sheet.js';
import { Show } from './empty.js';
import { Time, Who } from './values.js';
import { useResource } from './use.js';
import { enc, post } from '../lib/api.js';
import { say, sayError } from '../lib/store.js';
import { plural } from '../lib/format.js';

/** Every version of a report beside it: looked at, brought back. @param {{report: any, onClose: () => void, go: (to: string) => void, reload: () => void}} props */
export function ReportVersions({ report: r, onClose, go, reload }) {
  const at = `/reports/${enc(r.id)}`;
  const versions = useResource(`${at}/versions?limit=200`, { kinds: ['report.'], subjects: [`report:${r.id}`] });
  const restore = async (/** @type {number} */ number) => {
    try { const now = await post(`${at}/restore`, { version: number, expect: r.latest }); say({ tone: 'ok', text: `Version ${now.version} is as version ${number} was.` }); reload(); go(`${at}?side=versions`); } catch (error) { sayError(error); }
  };
  return html`<${Sheet} title="Versions" onClose=${onClose}><${Show} of=${versions}>${(/** @type {any} */ a) => html`<ol class="versions">${a.items.map((/** @type {any} */ v) => html`<li key=${v.number} class=${v.number === r.version ? 'here' : ''}>
      <a href=${v.number === r.latest ? `${at}?side=versions` : `${at}?version=${v.number}&side=versions`} aria-current=${v.number === r.version ? 'true' : undefined}><b>Version ${v.number}</b> ${v.title !== r.title ? v.title : ''}</a>
      <small>${v.message ? html`“${v.message}” ` : ''}<${Who} of=${v.saved_by} />, <${Time} at=${v.saved_at_ms} />, ${plural(v.blocks_count, 'block')}${v.restored_from ? `, as version ${v.restored_from} was` : ''}</small>
      ${v.number !== r.latest && html`<${Deed} may="report.write" on=${`report:${r.id}`} class="button small" onClick=${() => restore(v.number)}>Bring it back<//>`}</li>`)}</ol>
      ${a.next && html`<p class="muted">The newest 200.</p>`}`}<//><//>`;
}
