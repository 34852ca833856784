// @ts-check
/** The runs table: a real `table` of which at most sixty rows exist at a time. Rows have one height, so place is arithmetic.
 *  It holds no selection of its own; what is selected, sorted, grouped and pinned is told to it. */

import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { State } from './state.js';
import { Time } from './values.js';
import { useCommands, useSize } from './use.js';
import { windowOf } from '../lib/columns.js';
import { num, duration, short } from '../lib/format.js';
import { rowHeight, slotOf } from '../lib/store.js';

/** @typedef {{name: string, label: string, width: number, kind: 'name' | 'state' | 'time' | 'duration' | 'number' | 'text', pinned?: boolean, best?: number}} RunColumn */

/** @param {{table: import('../lib/columns.js').Table, rows: any, columns: RunColumn[], selected: string[], sort: {name: string, order: 'asc' | 'desc'}, onSort: (name: string) => void,
 *   onSelect: (ids: string[]) => void, onOpen: (id: string) => void, onGroup?: (group: string) => void, label: string}} props */
export function RunsTable({ table, rows, columns, selected, sort, onSort, onSelect, onOpen, onGroup, label }) {
  const scroll = useRef(/** @type {any} */ (null)), body = useRef(/** @type {any} */ (null));
  const { height } = useSize(scroll);
  const [top, setTop] = useState(0);
  const [focus, setFocus] = useState(0);
  const anchor = useRef(0);
  const row = rowHeight.value, total = rows.length, head = 32;
  const { from, to } = windowOf(top, Math.max(0, height - head), row, total);
  const chosen = new Set(selected);
  const idAt = (/** @type {number} */ i) => (typeof rows[i] === 'number' ? table.ids[rows[i]] : null);

  const pending = useRef(false);
  /** @param {any} e */
  const onScroll = (e) => { const el = e.currentTarget; if (pending.current) return; pending.current = true; requestAnimationFrame(() => { pending.current = false; setTop(el.scrollTop); }); };

  const wantFocus = useRef(false);
  /** @param {number} i */
  const go = (i) => {
    const next = Math.max(0, Math.min(total - 1, i)), el = scroll.current;
    if (!el) return;
    const y = next * row, room = el.clientHeight - head;
    if (y < el.scrollTop) el.scrollTop = y; else if (y + row > el.scrollTop + room) el.scrollTop = y + row - room;
    setTop(el.scrollTop); setFocus(next); wantFocus.current = true;
  };
  useLayoutEffect(() => { if (wantFocus.current) { wantFocus.current = false; body.current?.querySelector(`[data-row="${focus}"]`)?.focus({ preventScroll: true }); } });
  useEffect(() => { if (focus >= total) setFocus(Math.max(0, total - 1)); }, [total]);

  /** @param {number} i @param {boolean} range */
  const toggle = (i, range) => {
    if (range) {
      const [a, b] = [Math.min(anchor.current, i), Math.max(anchor.current, i)], ids = [];
      for (let j = a; j <= b && ids.length < 200; j += 1) { const id = idAt(j); if (id && !chosen.has(id)) ids.push(id); }
      onSelect([...selected, ...ids]);
      return;
    }
    anchor.current = i;
    const id = idAt(i);
    if (id) onSelect(chosen.has(id) ? selected.filter((s) => s !== id) : [...selected, id]);
  };
  useCommands([
    { id: 'row.next', title: 'Next row', keys: 'j', hidden: true, run: () => go(focus + 1) },
    { id: 'row.previous', title: 'Previous row', keys: 'k', hidden: true, run: () => go(focus - 1) },
    { id: 'row.select', title: 'Select the row', keys: 'x', hidden: true, run: (e) => toggle(focus, e?.key === 'X') },
    { id: 'row.open', title: 'Open the row', keys: 'Enter', hidden: true, run: (e) => { if (e?.target?.closest?.('a,button')) return; const id = idAt(focus); if (id && body.current?.contains(document.activeElement)) onOpen(id); } },
  ]);
  /** @param {any} e */
  const onKey = (e) => {
    const page = Math.max(1, Math.floor((height - head) / row) - 1);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page }[/** @type {string} */ (e.key)];
    if (step) { e.preventDefault(); go(focus + step); } else if (e.key === 'Home') { e.preventDefault(); go(0); } else if (e.key === 'End') { e.preventDefault(); go(total - 1); } else if (e.key === ' ' && e.target.tagName === 'TR') { e.preventDefault(); toggle(focus, e.shiftKey); }
  };

  const lefts = /** @type {Record<string, number>} */ ({});
  let x = 34;
  for (const c of columns) if (c.pinned) { lefts[c.name] = x; x += c.width; }
  const lastPinned = columns.filter((c) => c.pinned).at(-1)?.name;
  /** @param {RunColumn} c */
  const cellClass = (c) => `${c.kind === 'number' || c.kind === 'duration' ? 'num' : ''} ${c.pinned ? 'pinned' : ''} ${c.name === lastPinned ? 'edge' : ''} ${c.kind === 'name' ? 'name' : ''}`;
  /** @param {RunColumn} c */
  const at = (c) => (c.pinned ? { '--at': `${lefts[c.name]}px` } : undefined);

  const lines = [];
  for (let i = from; i < to; i += 1) {
    const entry = rows[i];
    if (typeof entry !== 'number') {
      lines.push(html`<tr class="group" key=${`g ${entry.group}`} aria-rowindex=${i + 2} data-row=${i}><td class="pinned"></td><td class="pinned" style=${{ '--at': '34px' }} colspan=${columns.length}><button type="button" class="th-button" aria-expanded=${entry.open ? 'true' : 'false'} onClick=${() => onGroup?.(entry.group)}><${Icon} name=${entry.open ? 'chevron-down' : 'chevron-right'} />${entry.group || 'none'} <span class="muted">${entry.count}</span></button></td></tr>`);
      continue;
    }
    const id = table.ids[entry], on = chosen.has(id);
    lines.push(html`<tr key=${id} data-row=${i} aria-rowindex=${i + 2} aria-selected=${on ? 'true' : 'false'} class=${i === focus ? 'focus' : ''} tabindex=${i === focus ? 0 : -1} onFocus=${() => { if (focus !== i) setFocus(i); }}
        onClick=${(/** @type {any} */ e) => { if (e.target.closest('a,button')) return; setFocus(i); if (e.shiftKey) toggle(i, true); else if (e.metaKey || e.ctrlKey) toggle(i, false); else onOpen(id); }}>
      <td class="pinned"><button type="button" class="swatch" tabindex="-1" aria-pressed=${on ? 'true' : 'false'} aria-label=${`${on ? 'Leave out' : 'Draw'} ${String(table.columns.name?.[entry] ?? short(id))}`} style=${on ? { '--c': slotOf(id, selected).colour } : undefined} onClick=${(/** @type {any} */ e) => toggle(i, e.shiftKey)}><span></span></button></td>
      ${columns.map((c) => html`<td key=${c.name} class=${cellClass(c)} style=${at(c)}>${cell(c, table, entry, id)}</td>`)}</tr>`);
  }
  return html`<div class="runs-scroll" ref=${scroll} onScroll=${onScroll} onKeyDown=${onKey} tabindex=${total ? -1 : 0} role="region" aria-label=${label}>
    <table class="runs-table" role="grid" aria-rowcount=${total + 1} aria-colcount=${columns.length + 1} aria-multiselectable="true" aria-label=${label}>
      <colgroup><col style=${{ width: '34px' }} />${columns.map((c) => html`<col key=${c.name} style=${{ width: `${c.width}px` }} />`)}</colgroup>
      <thead><tr aria-rowindex="1"><th class="pinned" scope="col"><span class="sr">Drawn</span></th>${columns.map((c) => html`<th key=${c.name} scope="col" class=${cellClass(c)} style=${at(c)} title=${c.name} aria-sort=${sort.name === c.name ? (sort.order === 'asc' ? 'ascending' : 'descending') : 'none'}>
        <button type="button" class="th-button" onClick=${() => onSort(c.name)}><span class="truncate">${c.label}</span>${sort.name === c.name && html`<${Icon} name=${sort.order === 'asc' ? 'arrow-up' : 'arrow-down'} />`}</button></th>`)}</tr></thead>
      <tbody ref=${body}>${from > 0 && html`<tr class="spacer" key="above" aria-hidden="true"><td style=${{ height: `${from * row}px` }} colspan=${columns.length + 1}></td></tr>`}
        ${lines}
        ${to < total && html`<tr class="spacer" key="below" aria-hidden="true"><td style=${{ height: `${(total - to) * row}px` }} colspan=${columns.length + 1}></td></tr>`}</tbody>
    </table></div>`;
}

/** @param {RunColumn} c @param {import('../lib/columns.js').Table} table @param {number} i @param {string} id */
function cell(c, table, i, id) {
  const v = /** @type {any} */ (table.columns[c.name]?.[i]);
  switch (c.kind) {
    case 'name': return html`<a href=${`/runs/${id}`} tabindex="-1" title=${`${v ?? ''}\n${id}`}>${v || short(id)}</a>`;
    case 'state': return html`<${State} of=${v} />`;
    case 'time': return html`<${Time} at=${v} />`;
    case 'duration': return v === v && v !== null && v !== undefined ? duration(v) : html`<span class="absent">–</span>`;
    case 'number': return v === v && v !== undefined && v !== null ? html`<span class=${c.best === i ? 'best' : Number.isFinite(v) ? '' : 'bad'} title=${String(v)}>${num(v)}</span>` : html`<span class="absent">–</span>`;
    default: return v === null || v === undefined || v !== v ? html`<span class="absent">–</span>` : html`<span title=${String(v)}>${String(v)}</span>`;
  }
}
