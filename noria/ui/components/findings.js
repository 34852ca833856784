// @ts-check
/** What checks found of a system, worst first; one opened shows its evidence, what it is mapped to, and who waived it. */

import { html } from './html.js';
import { Deed } from './deed.js';
import { Icon } from './icon.js';
import { Glyph, State } from './state.js';
import { Command } from './empty.js';
import { Id, RefLink, Time, Who } from './values.js';
import { ORDER, STATES } from '../lib/compliance.js';
import { pageOf } from '../lib/refs.js';

/** @param {{of: any, checks: any[], frameworks: any[], open: string, onOpen: (id: string | null) => void, onWaive: (check: any) => void, onRevoke: (waiver: any) => void}} props */
export function Findings({ of, checks, frameworks, open, onOpen, onWaive, onRevoke }) {
  const known = new Map(checks.map((c) => [c.id, c]));
  const shown = of.findings.filter((/** @type {any} */ f) => known.has(f.check)).sort((/** @type {any} */ a, /** @type {any} */ b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state));
  return html`<ul class="findings">${shown.map((/** @type {any} */ f) => { const check = known.get(f.check), { word, tone } = STATES[f.state], isOpen = open === f.check; return html`
    <li key=${f.check} class=${`finding ${f.state}`}><button type="button" class="finding-head" aria-expanded=${isOpen ? 'true' : 'false'} onClick=${() => onOpen(isOpen ? null : f.check)}>
        <${State} of=${word} tone=${tone} /><b class="mono">${f.check}</b><span class="what"><span class="title">${check.title}</span><span class="why">${f.reason}</span></span><span class="muted nowrap"><${Time} at=${f.since_ms} /></span><${Icon} name=${isOpen ? 'chevron-up' : 'chevron-down'} small /></button>
      ${isOpen && html`<${Evidence} of=${f} check=${check} frameworks=${frameworks} waiver=${of.waivers.find((/** @type {any} */ w) => w.check === f.check)} onWaive=${() => onWaive(check)} onRevoke=${onRevoke} />`}</li>`; })}</ul>`;
}

/** @param {any} props */
function Evidence({ of, check, frameworks, waiver, onWaive, onRevoke }) {
  const titles = Object.fromEntries(frameworks.map((/** @type {any} */ f) => [f.id, f]));
  return html`<div class="evidence stack"><p>${check.asks} <span class="quiet">It passes when: ${check.passes}.</span></p>
    ${waiver && html`<div class="notice"><${Icon} name="hand" /><div class="stack tight grow"><span>Waived by <${Who} of=${waiver.actor} /> until <${Time} at=${waiver.expires_at_ms} absolute />: “${waiver.reason}”</span></div><${Deed} may="compliance.waive" class="button small" onClick=${() => onRevoke(waiver)}>End the waiver<//></div>`}
    ${of.items.length > 0 && html`<ul>${of.items.map((/** @type {any} */ item, /** @type {number} */ i) => html`<li class=${`gate ${item.ok ? 'pass' : item.ok === false ? 'fail' : 'wait'}`} key=${i}><${Glyph} tone=${item.ok ? 'done' : item.ok === false ? 'failed' : 'queued'} /><div class="stack tight"><span class="breaks">${item.says}</span>
      ${Object.keys(item.values).length > 0 && html`<details><summary class="muted">The values it rests on</summary><pre class="code" tabindex="0">${JSON.stringify(item.values, null, 2)}</pre></details>`}</div><small class="muted">${pageOf(item.subject) ? html`<${RefLink} to=${item.subject} />` : item.subject.split(':')[0].replaceAll('_', ' ')}</small></li>`)}</ul>`}
    ${of.items_count > of.items.length && html`<p class="muted">and ${of.items_count - of.items.length} more</p>`}
    ${!of.items.length && html`<p class="quiet">${of.reason}.</p>`}
    <div class="row wrap loose"><span class="chips">${Object.entries(check.maps).map(([id, at]) => html`<span class="chip" key=${id} title=${titles[id]?.edition}>${titles[id]?.title ?? id} <b>${at}</b></span>`)}</span></div>
    <div class="row wrap"><small class="muted">Measured <${Time} at=${of.at_ms} /> from inputs <${Id} value=${of.inputs_digest} />, catalogue ${of.catalogue}</small>
      ${!waiver && (of.measured === 'fail' || of.measured === 'unmeasurable') && html`<${Deed} may="compliance.waive" class="button small end" onClick=${onWaive}><${Icon} name="hand" small />Waive…<//>`}</div></div>`;
}

/** What is under a system without any finding. @param {{name: string}} props */
export function NotMeasured({ name }) {
  return html`<p class="muted">Nothing was measured yet. It is done within a minute, or now:</p><${Command} text=${`noria compliance show ${name} --now`} />`;
}
