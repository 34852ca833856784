// @ts-check
/** What a panel shows, chosen from what there is. Each change is seen in the panel at once. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Segmented } from './chips.js';
import { Field } from './dialog.js';
import { Show } from './empty.js';
import { State } from './state.js';
import { Time } from './values.js';
import { useName, useResource } from './use.js';
import { withQuery } from '../lib/api.js';
import { listed, titleOf } from '../lib/reports.js';

const FORMS = /** @type {Record<string, (props: any) => any>} */ ({ curves: Curves, runs: Runs, model: Model, dataset: Dataset, monitor: Monitor, endpoint: Endpoint });

/** @param {{block: any, onChange: (changes: any) => void, onClose: () => void}} props */
export function ReportBlockForm({ block, onChange, onClose }) {
  const Form = FORMS[block.kind];
  return html`<form class="stack" onSubmit=${(/** @type {any} */ e) => { e.preventDefault(); onClose(); }}><${Form} block=${block} onChange=${onChange} />
    <${Field} label="Title" maxlength="200" placeholder=${titleOf({ ...block, title: '' })} value=${block.title} onInput=${(/** @type {any} */ e) => onChange({ title: e.currentTarget.value })} />
    <div class="row"><button type="submit" class="button primary">Done</button></div></form>`;
}

/** A field that offers names of a list there is. @param {any} props */
function Named({ label, path, value, onPick, hint, nameOf = (/** @type {any} */ x) => x.name, ...rest }) {
  const list = useResource(path), id = useName('offers');
  return html`<${Field} label=${label} list=${id} hint=${hint} autocomplete="off" spellcheck=${false} value=${value} onInput=${(/** @type {any} */ e) => onPick(e.currentTarget.value.trim())} ...${rest} /><datalist id=${id}>${(list.data?.items ?? []).map((/** @type {any} */ x) => html`<option key=${nameOf(x)} value=${nameOf(x)} />`)}</datalist>`;
}

/** Several words in one field; what is typed stays as it is typed. @param {any} props */
function Words({ label, value, offers, hint, onPick, placeholder }) {
  const [text, setText] = useState(value.join(', ')), id = useName('offers');
  const last = listed(text).at(-1) ?? '';
  return html`<div class="stack tight"><${Field} label=${label} hint=${hint} placeholder=${placeholder} autocomplete="off" spellcheck=${false} value=${text} onInput=${(/** @type {any} */ e) => { setText(e.currentTarget.value); onPick(listed(e.currentTarget.value)); }} />
    ${offers.length > 0 && html`<div class="chips" id=${id}>${offers.filter((/** @type {string} */ o) => !value.includes(o) && (!last || value.includes(last) || o.includes(last))).slice(0, 12).map((/** @type {string} */ o) => html`<button key=${o} type="button" class="chip" onClick=${() => { const now = [...value.filter((/** @type {string} */ v) => offers.includes(v)), o]; setText(now.join(', ')); onPick(now); }}>${o}</button>`)}</div>`}</div>`;
}

/** @param {any} props */
function Filters({ block, onChange }) {
  return html`<${Field} label="Filter" placeholder="metrics.auc > 0.8 and params.depth = '6'" spellcheck=${false} value=${block.filter} onInput=${(/** @type {any} */ e) => onChange({ filter: e.currentTarget.value })} />
    <div class="halves"><${Field} label="Order" placeholder="metrics.auc desc" spellcheck=${false} value=${block.order_by} onInput=${(/** @type {any} */ e) => onChange({ order_by: e.currentTarget.value })} hint="The newest first, if not said." /><${Field} label="At most" type="number" min="1" max=${block.kind === 'curves' ? 20 : 200} value=${block.limit} onInput=${(/** @type {any} */ e) => { if (e.currentTarget.value) onChange({ limit: Number(e.currentTarget.value) }); }} /></div>`;
}

/** @param {any} props */
function Curves({ block, onChange }) {
  const chosen = block.runs.length > 0, [picking, setPicking] = useState(chosen);
  const known = useResource(withQuery('/runs/columns', { experiment: block.experiment, limit: 200 }));
  const metrics = (known.error ? [] : known.data?.items ?? []).map((/** @type {any} */ c) => c.name).filter((/** @type {string} */ n) => n.startsWith('metrics.')).map((/** @type {string} */ n) => n.slice(8));
  return html`<${Named} label="Experiment" path="/experiments?limit=500" value=${block.experiment} onPick=${(/** @type {string} */ v) => onChange({ experiment: v })} hint="Every one that may be seen, if empty." />
    <${Words} label="Metrics" value=${block.metrics} offers=${metrics} onPick=${(/** @type {string[]} */ v) => onChange({ metrics: v })} placeholder="loss, val/auc" />
    <${Segmented} label="Which runs" value=${picking ? 'chosen' : 'match'} options=${[['match', 'Runs that match'], ['chosen', 'Chosen runs']]} onChange=${(/** @type {string} */ v) => { setPicking(v === 'chosen'); if (v === 'match') onChange({ runs: [] }); }} />
    ${picking ? html`<${Chosen} block=${block} onChange=${onChange} />` : html`<${Filters} block=${block} onChange=${onChange} />`}
    <div class="row wrap"><${Segmented} label="Horizontal axis" value=${block.x} options=${[['step', 'Step'], ['elapsed', 'Elapsed'], ['time', 'Clock']]} onChange=${(/** @type {string} */ v) => onChange({ x: v })} /><label class="inline"><input class="check" type="checkbox" checked=${block.log} onChange=${() => onChange({ log: !block.log })} />log</label><label class="inline">smooth <input type="range" min="0" max="0.95" step="0.05" value=${block.smooth} aria-label="Smoothing" onInput=${(/** @type {any} */ e) => onChange({ smooth: Number(e.currentTarget.value) })} /></label></div>`;
}

/** @param {any} props */
function Chosen({ block, onChange }) {
  const list = useResource(withQuery('/runs', { experiment: block.experiment, columns: 'name,status,started_at_ms', limit: 100 }));
  const toggle = (/** @type {string} */ id) => onChange({ runs: block.runs.includes(id) ? block.runs.filter((/** @type {string} */ r) => r !== id) : [...block.runs, id].slice(-20) });
  return html`<${Show} of=${list}>${(/** @type {any} */ a) => html`<ul class="pick" aria-label="Runs">${a.ids.map((/** @type {string} */ id, /** @type {number} */ i) => html`<li key=${id}><label class="inline"><input class="check" type="checkbox" checked=${block.runs.includes(id)} onChange=${() => toggle(id)} /><span class="truncate grow">${a.columns.name[i] || id.slice(-8)}</span><${State} of=${a.columns.status[i]} word="" /><span class="muted"><${Time} at=${a.columns.started_at_ms[i]} /></span></label></li>`)}</ul>`}<//>`;
}

/** @param {any} props */
function Runs({ block, onChange }) {
  const known = useResource(withQuery('/runs/columns', { experiment: block.experiment, limit: 200 }));
  return html`<${Named} label="Experiment" path="/experiments?limit=500" value=${block.experiment} onPick=${(/** @type {string} */ v) => onChange({ experiment: v })} hint="Every one that may be seen, if empty." />
    <${Filters} block=${block} onChange=${onChange} />
    <${Words} label="Columns" value=${block.columns} offers=${(known.error ? [] : known.data?.items ?? []).map((/** @type {any} */ c) => c.name)} onPick=${(/** @type {string[]} */ v) => onChange({ columns: v })} placeholder="metrics.auc, params.depth" hint="Beside the name, the state and when it began." />`;
}

/** @param {any} props */
function Model({ block, onChange }) {
  return html`<${Named} label="Model" path="/models?limit=500" required value=${block.model} onPick=${(/** @type {string} */ v) => onChange({ model: v })} /><${Field} label="Version" required value=${block.version} onInput=${(/** @type {any} */ e) => onChange({ version: e.currentTarget.value.trim() || 'latest' })} hint="A number, an alias such as champion, or latest." />`;
}

/** @param {any} props */
function Dataset({ block, onChange }) {
  return html`<${Named} label="Dataset" path="/datasets?limit=500" required value=${block.dataset} onPick=${(/** @type {string} */ v) => onChange({ dataset: v })} />
    <div class="halves"><${Field} label="Version" required value=${block.version} onInput=${(/** @type {any} */ e) => onChange({ version: e.currentTarget.value.trim() || 'latest' })} hint="A number, a name, or latest." /><${Field} label="Against" value=${block.against} onInput=${(/** @type {any} */ e) => onChange({ against: e.currentTarget.value.trim() })} hint="Another version: the difference is shown." /></div>`;
}

/** @param {any} props */
function Monitor({ block, onChange }) {
  return html`<${Named} label="Monitor" path="/monitors?limit=500" required value=${block.monitor} onPick=${(/** @type {string} */ v) => onChange({ monitor: v })} />`;
}

/** @param {any} props */
function Endpoint({ block, onChange }) {
  return html`<${Named} label="Endpoint" path="/endpoints?limit=500" required value=${block.endpoint} onPick=${(/** @type {string} */ v) => onChange({ endpoint: v })} /><${Segmented} label="Span of time" value=${block.span} options=${['1h', '6h', '24h', '7d'].map((s) => [s, s])} onChange=${(/** @type {string} */ v) => onChange({ span: v })} />`;
}
