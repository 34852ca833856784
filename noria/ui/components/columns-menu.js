// @ts-check
/** Which columns a table shows and in which order: shown ones first, moved with buttons, found by typing. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { Menu } from './menu.js';
import { moveBy, toggle } from '../lib/view.js';
import { count } from '../lib/format.js';

const FIXED = ['name', 'status', 'started_at_ms', 'duration_ms', 'user', 'experiment_id', 'ended_at_ms', 'source_commit'];
const SHOWN = 150;

/** @param {{catalogue: any, visible: string[], pins: string[], onOpen: () => void, onChange: (cols: string[] | null) => void, onPin: (pins: string[]) => void}} props */
export function ColumnsMenu(props) {
  return html`<${Menu} label=${html`<${Icon} name="columns-3" small />Columns`} class="button plain small" title="Choose, order and pin columns">${() => html`<${Chooser} ...${props} />`}<//>`;
}

/** @param {any} props */
function Chooser({ catalogue, visible, pins, onOpen, onChange, onPin }) {
  const [text, setText] = useState('');
  useState(() => onOpen());
  const uses = new Map((catalogue?.items ?? []).map((/** @type {any} */ c) => [c.name, c.runs]));
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const match = (/** @type {string} */ n) => words.every((w) => n.toLowerCase().includes(w) || titleOf(n).toLowerCase().includes(w));
  const others = [...FIXED, ...(catalogue?.items ?? []).map((/** @type {any} */ c) => c.name)].filter((n) => !visible.includes(n) && match(n));
  const row = (/** @type {string} */ n, /** @type {boolean} */ on) => html`<li key=${n}><label class="inline grow" title=${n}><input class="check" type="checkbox" checked=${on} disabled=${n === 'name'} onChange=${() => onChange(toggle(visible, n))} /><span class="truncate">${titleOf(n)}</span>${kindOf(n) && html`<span class="muted">${kindOf(n)}</span>`}</label>
    ${on ? html`<button type="button" class="icon-button" disabled=${n === 'name'} title="Move left" aria-label=${`Move ${titleOf(n)} left`} onClick=${() => onChange(moveBy(visible, n, -1))}><${Icon} name="arrow-up" small /></button><button type="button" class="icon-button" disabled=${n === 'name'} title="Move right" aria-label=${`Move ${titleOf(n)} right`} onClick=${() => onChange(moveBy(visible, n, 1))}><${Icon} name="arrow-down" small /></button><button type="button" class="icon-button" disabled=${n === 'name'} aria-pressed=${pins.includes(n) || n === 'name' ? 'true' : 'false'} title="Pin" aria-label=${`Pin ${titleOf(n)}`} onClick=${() => onPin(toggle(pins, n))}><${Icon} name="pin" small /></button>`
      : uses.has(n) && html`<span class="muted" title="Runs that have it">${count(/** @type {number} */ (uses.get(n)))}</span>`}</li>`;
  return html`<div class="columns-menu"><input class="input" placeholder="Find a column" aria-label="Find a column" value=${text} onInput=${(/** @type {any} */ e) => setText(e.currentTarget.value)} />
    <ul aria-label="Shown">${visible.filter(match).map((/** @type {string} */ n) => row(n, true))}</ul>
    ${others.length > 0 && html`<ul aria-label="Not shown">${others.slice(0, SHOWN).map((/** @type {string} */ n) => row(n, false))}${others.length > SHOWN && html`<li class="muted">and ${count(others.length - SHOWN)} more; type to find one</li>`}</ul>`}
    <button type="button" class="button plain small" onClick=${() => onChange(null)}>Back to the usual columns</button></div>`;
}

/** What a column is called in a header. @param {string} name */
export function titleOf(name) {
  return /** @type {Record<string, string>} */ ({ name: 'Run', status: 'State', started_at_ms: 'Started', ended_at_ms: 'Ended', duration_ms: 'Took', user: 'By', experiment_id: 'Experiment', source_commit: 'Commit' })[name] ?? name.replace(/^(metrics|params|tags)\./, '');
}
/** @param {string} name */
function kindOf(name) { return name.startsWith('metrics.') ? 'metric' : name.startsWith('params.') ? 'param' : name.startsWith('tags.') ? 'tag' : ''; }
