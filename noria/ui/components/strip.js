// @ts-check
/** The lineage strip: dataset → run → version → endpoint, each a station one can go to. */

import { html } from './html.js';
import { Icon } from './icon.js';
import { wayOf } from '../lib/lineage.js';
import { named } from '../lib/names.js';
import { iconOf, nameOf, pageOf, parseRef } from '../lib/refs.js';

const ORDER = ['dataset_version', 'run', 'model_version', 'revision', 'endpoint'];
const SHOWN = 3;

/** @param {{lineage: any, here: string, extra?: Record<string, {label: string, note?: any, href?: string}>}} props */
export function Strip({ lineage, here, extra = {} }) {
  const nodes = wayOf(lineage, here).filter((/** @type {any} */ n) => ORDER.includes(n.kind ?? parseRef(n.ref).kind));
  const columns = ORDER.map((kind) => nodes.filter((/** @type {any} */ n) => (n.kind ?? parseRef(n.ref).kind) === kind && (kind !== parseRef(here).kind || n.ref === here))).filter((c) => c.length);
  if (!columns.length) return null;
  return html`<ol class="strip" aria-label="Lineage">${columns.map((c) => html`<li key=${c[0].kind}><div class="stack tight">${c.slice(0, SHOWN).map((/** @type {any} */ n) => html`<${Station} key=${n.ref} node=${n} here=${n.ref === here} extra=${extra[n.ref]} />`)}${c.length > SHOWN && html`<a class="caption" href=${`/lineage/${encodeURIComponent(here)}`}>and ${c.length - SHOWN} more</a>`}</div></li>`)}</ol>`;
}

/** @param {any} props */
function Station({ node, here, extra }) {
  const kind = node.kind ?? parseRef(node.ref).kind, known = named(node.ref);
  const label = extra?.label ?? known?.label ?? (node.label && node.label !== parseRef(node.ref).id ? node.label : nameOf(node.ref));
  const href = extra?.href ?? known?.href ?? pageOf(node.ref);
  const body = html`<span class="kind"><${Icon} name=${iconOf(kind)} />${kind.replace('_version', ' version').replace('model version', 'version').replace('dataset version', 'dataset')}</span><span class="name" title=${label}>${label}</span>${extra?.note && html`<span class="note">${extra.note}</span>`}`;
  return href && !here ? html`<a class="station" href=${href}>${body}</a>` : html`<div class=${`station ${here ? 'here' : ''}`} aria-current=${here ? 'true' : undefined}>${body}</div>`;
}
