// @ts-check
/** Small values as people read them, the exact one on hover. */

import { html } from './html.js';
import { Icon } from './icon.js';
import * as f from '../lib/format.js';
import { now, zone, copy } from '../lib/store.js';
import { pageOf, nameOf, iconOf, parseRef } from '../lib/refs.js';
import { named } from '../lib/names.js';

/** "4 min ago", with the exact UTC and local time on hover. @param {{at: number | null | undefined, absolute?: boolean}} props */
export function Time({ at, absolute = false }) {
  if (!at) return html`<span class="muted">–</span>`;
  const title = `${f.stamp(at, 'utc')} UTC\n${f.stamp(at, 'local')} local`;
  return html`<time dateTime=${new Date(at).toISOString()} title=${title}>${absolute ? f.stamp(at, zone.value) : f.ago(at, at > now.value && at < now.value + 30_000 ? at : now.value)}</time>`;
}

/** @param {{value: any, digits?: number}} props */
export function Num({ value, digits = 4 }) {
  const bad = typeof value === 'number' ? !Number.isFinite(value) : value === 'NaN' || value === 'Infinity' || value === '-Infinity';
  return html`<span class=${bad ? 'bad' : ''} title=${value === null || value === undefined ? undefined : String(value)}>${f.num(value, { digits })}</span>`;
}

/** A signed difference with its verdict as arrow and colour. @param {{now: any, was: any, better?: 'low' | 'high' | null}} props */
export function Delta({ now: a, was: b, better }) {
  if (typeof a !== 'number' || typeof b !== 'number') return html`<span class="muted">–</span>`;
  const { text, verdict, up } = f.delta(a, b, better);
  return html`<span class=${`delta ${verdict}`} title=${`${a} against ${b}`}>${text !== '0' && html`<${Icon} name=${up ? 'arrow-up' : 'arrow-down'} label=${verdict === 'same' ? (up ? 'higher' : 'lower') : verdict} />`}${text}</span>`;
}

/** An id or digest in mono, short, the whole of it in the title and one click from the clipboard. @param {{value: string | null | undefined, full?: boolean}} props */
export function Id({ value, full = false }) {
  if (!value) return html`<span class="muted">–</span>`;
  return html`<button type="button" class="mono" title=${`${value}\nClick to copy`} aria-label=${`Copy ${value}`} onClick=${() => copy(value)}>${full ? value : f.short(value)}</button>`;
}

/** A link to the page of a ref; plain text when it has none. @param {{to: any, label?: any, icon?: boolean}} props */
export function RefLink({ to, label, icon = false }) {
  const known = named(to);
  const href = known?.href ?? pageOf(to), text = label ?? known?.label ?? nameOf(to);
  const body = icon ? html`<span class="row"><${Icon} name=${iconOf(parseRef(to).kind)} small />${text}</span>` : text;
  return href ? html`<a href=${href} title=${typeof to === 'string' ? to : undefined}>${body}</a>` : html`<span>${body}</span>`;
}

/** Who did it: `user:ada`, or `trigger:drift for user:ada`. @param {{of: any}} props */
export function Who({ of }) {
  if (!of) return html`<span class="muted">–</span>`;
  const [who, owner] = String(typeof of === 'string' ? of : of.name ?? of.id).split(' for ');
  const name = (/** @type {string} */ label) => { const { kind, id } = parseRef(label); return kind === 'system' || kind === 'internal' || label === 'internal' ? (id && id !== 'internal' && id !== 'noria' ? `Noria (${id})` : 'Noria') : /^[0-9a-f]{32}$/.test(id) ? named(`principal:${id}`)?.label ?? `${kind} ${f.short(id)}`.trim() : id; };
  return html`<span title=${String(of)}>${name(who)}${owner ? html` <span class="muted">for ${name(owner)}</span>` : ''}</span>`;
}

/** Label and value pairs; empty ones are left out. @param {{items: [string, any][], class?: string}} props */
export function Kv({ items, class: kind = 'kv' }) {
  const shown = items.filter(([, v]) => v !== null && v !== undefined && v !== '' && v !== false);
  return kind === 'facts'
    ? html`<dl class="facts">${shown.map(([k, v]) => html`<div key=${k}><dt>${k}</dt><dd>${v}</dd></div>`)}</dl>`
    : html`<dl class="kv">${shown.map(([k, v]) => [html`<dt>${k}</dt>`, html`<dd>${v}</dd>`])}</dl>`;
}
