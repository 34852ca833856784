// @ts-check
import { html } from './html.js';
import { Icon } from './icon.js';

/** @param {{tone?: string, children?: any, title?: string, onRemove?: () => void, icon?: string}} props */
export function Chip({ tone = '', children, title, onRemove, icon }) {
  return html`<span class=${`chip ${tone}`} title=${title}>${icon && html`<${Icon} name=${icon} small />`}${children}${onRemove && html`<button type="button" aria-label="Remove" onClick=${onRemove}><${Icon} name="x" small /></button>`}</span>`;
}

/** Tags as `key value` chips. @param {{of: any, limit?: number}} props */
export function Tags({ of, limit = 12 }) {
  const pairs = Array.isArray(of) ? of.map((t) => [t.key ?? t, t.value ?? '']) : Object.entries(of ?? {});
  const shown = pairs.filter(([k]) => !String(k).startsWith('mlflow.'));
  if (!shown.length) return null;
  return html`<span class="chips">${shown.slice(0, limit).map(([k, v]) => html`<span class="chip" key=${k} title=${`${k}: ${v}`}>${k}${v !== '' && v !== null && html` <b>${String(v).slice(0, 60)}</b>`}</span>`)}${shown.length > limit && html`<span class="muted">and ${shown.length - limit} more</span>`}</span>`;
}

const ALIAS_ICONS = /** @type {Record<string, string>} */ ({ champion: 'crown' });

/** Aliases of a version. @param {{of: any}} props */
export function Aliases({ of }) {
  const names = (of ?? []).map((/** @type {any} */ a) => (typeof a === 'string' ? a : a.name)).sort((/** @type {string} */ a, /** @type {string} */ b) => Number(b.startsWith('champion')) - Number(a.startsWith('champion')));
  if (!names.length) return null;
  return html`<span class="chips">${names.map((/** @type {string} */ n) => html`<${Chip} key=${n} tone="accent" icon=${ALIAS_ICONS[n.split(' ')[0]]}>${n}<//>`)}</span>`;
}

/** A few exclusive choices. @param {{value: string, options: [string, string][], onChange: (v: string) => void, label: string}} props */
export function Segmented({ value, options, onChange, label }) {
  return html`<span class="segmented" role="group" aria-label=${label}>${options.map(([v, text]) => html`<button key=${v} type="button" aria-pressed=${v === value ? 'true' : 'false'} onClick=${() => onChange(v)}>${text}</button>`)}</span>`;
}
