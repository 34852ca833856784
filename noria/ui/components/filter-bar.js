// @ts-check
/** The filter of a list as chips and as text in MLflow's language. A mistake is shown where it is, before it is sent; what the server
 *  refuses is shown in the same place. */

import { useEffect, useRef, useState } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { Chip } from './chips.js';
import { Menu } from './menu.js';
import { useName } from './use.js';
import { add, format, parse, without } from '../lib/mlfilter.js';

const OPS = /** @type {Record<string, string[]>} */ ({ metrics: ['<', '<=', '>', '>=', '=', '!=', 'is null', 'is not null'], other: ['=', '!=', 'like', 'ilike', 'not ilike', 'is null', 'is not null'] });
export const ATTRIBUTES = ['name', 'status', 'user', 'run_id', 'source_commit', 'start_time', 'end_time'];

/** @param {{filter: string, columns: string[], error: any, onChange: (filter: string) => void}} props */
export function FilterBar({ filter, columns, error, onChange }) {
  const { conditions, error: wrong } = parse(filter);
  const [open, setOpen] = useState(Boolean(wrong));
  const refused = error?.where === 'filter' || error?.where === 'order_by' ? error : null;
  return html`<span class="chips filter-chips">${conditions.map((c, i) => html`<${Chip} key=${`${i} ${format(c)}`} title=${format(c)} onRemove=${() => onChange(without(filter, i))}>${c.key} <span class="muted">${c.op}</span>${c.value !== null && html` <b>${Array.isArray(c.value) ? c.value.join(', ') : String(c.value)}</b>`}<//>`)}
      <${Menu} start label=${html`<${Icon} name="list-filter" small />Add filter`} class="button plain small">${(/** @type {() => void} */ close) => html`<${AddCondition} columns=${columns} onAdd=${(/** @type {any} */ c) => { onChange(add(filter, c)); close(); }} />`}<//>
      <button type="button" class="button plain small" aria-pressed=${open ? 'true' : 'false'} title="Write the filter as text" onClick=${() => setOpen(!open)}>Text</button></span>
    ${(open || wrong || refused) && html`<${FilterText} key=${filter} filter=${filter} refused=${refused} onChange=${onChange} />`}`;
}

/** @param {{filter: string, refused: any, onChange: (filter: string) => void}} props */
function FilterText({ filter, refused, onChange }) {
  const [text, setText] = useState(filter);
  const field = useRef(/** @type {any} */ (null)), name = useName('filter-error');
  const { error } = parse(text);
  const same = text === filter;
  const shown = error ?? (refused && same ? { message: `${refused.message} ${refused.hint}`, at: -1 } : null);
  useEffect(() => { if (!filter) field.current?.focus(); }, []);
  return html`<form class="filter-text" onSubmit=${(/** @type {any} */ e) => { e.preventDefault(); if (!error) onChange(text.trim()); else field.current?.setSelectionRange(error.at, text.length); }}>
    <label class="search"><span class="sr">Filter in MLflow's language</span><${Icon} name="list-filter" /><input class="input mono" ref=${field} value=${text} spellcheck=${false} autocomplete="off" aria-invalid=${shown ? 'true' : undefined} aria-describedby=${shown ? name : undefined}
      placeholder="metrics.loss < 0.3 and params.model = 'forest' and attributes.status = 'FINISHED'" onInput=${(/** @type {any} */ e) => setText(e.currentTarget.value)} onBlur=${() => { if (!error && !same) onChange(text.trim()); }} /></label>
    ${shown && html`<p class="filter-error" id=${name} role="alert">${shown.at >= 0 && html`<code aria-hidden="true">${' '.repeat(Math.min(shown.at, 200))}^</code>`}<span>${shown.message}</span></p>`}</form>`;
}

/** @param {{columns: string[], onAdd: (condition: any) => void}} props */
function AddCondition({ columns, onAdd }) {
  const [column, setColumn] = useState(''), [op, setOp] = useState(''), [value, setValue] = useState('');
  const list = useName('columns');
  const name = columns.includes(column) || ATTRIBUTES.includes(column) || column.includes('.') ? column : '';
  const [entity, key] = name.includes('.') ? [name.slice(0, name.indexOf('.')), name.slice(name.indexOf('.') + 1)] : ['attributes', name];
  const isNumber = entity === 'metrics' || key.endsWith('_time');
  const ops = OPS[isNumber ? 'metrics' : 'other'], chosen = ops.includes(op) ? op : ops[0];
  const ready = name && (chosen.endsWith('null') || (value !== '' && (!isNumber || !Number.isNaN(Number(value)))));
  return html`<form class="add-condition" onSubmit=${(/** @type {any} */ e) => { e.preventDefault(); e.stopPropagation(); if (ready) onAdd({ entity, key, op: chosen, value: chosen.endsWith('null') ? null : isNumber ? Number(value) : value }); }}>
    <label class="field"><span>Column</span><input class="input" list=${list} value=${column} spellcheck=${false} placeholder="metrics.loss" onInput=${(/** @type {any} */ e) => setColumn(e.currentTarget.value)} /></label>
    <datalist id=${list}>${[...ATTRIBUTES, ...columns].slice(0, 600).map((c) => html`<option key=${c} value=${c} />`)}</datalist>
    <div class="row"><label class="field"><span>Is</span><select class="select" value=${chosen} onChange=${(/** @type {any} */ e) => setOp(e.currentTarget.value)}>${ops.map((o) => html`<option key=${o} value=${o} selected=${o === chosen}>${o}</option>`)}</select></label>
      ${!chosen.endsWith('null') && html`<label class="field grow"><span>Value</span><input class="input" value=${value} inputmode=${isNumber ? 'decimal' : 'text'} placeholder=${isNumber ? '0.3' : chosen.includes('like') ? '%forest%' : 'forest'} onInput=${(/** @type {any} */ e) => setValue(e.currentTarget.value)} /></label>`}</div>
    <button type="submit" class="button primary small" disabled=${!ready}>Add filter</button></form>`;
}
