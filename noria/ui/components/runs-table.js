// @ts-check
/** The runs table: a real `table` of which at most sixty rows exist at a time. Rows have one height, so place is arithmetic.
 *  It holds no selection of its own; what is selected, sorted, grouped and pinned is told to it. Columns are dragged by their headers,
 *  or moved with Alt and the arrows, and widened at their edge, or with Alt, Shift and the arrows. */

import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { State } from './state.js';
import { Time } from './values.js';
import { useCommands, useSize } from './use.js';
import { aggregate, valueAt, windowOf } from '../lib/columns.js';
import { clampWidth } from '../lib/view.js';
import { num, duration, count, short } from '../lib/format.js';
import { rowHeight, slotOf } from '../lib/store.js';

/** @typedef {{name: string, label: string, width: number, kind: 'name' | 'state' | 'time' | 'duration' | 'number' | 'text', pinned?: boolean, best?: number, say?: (value: any) => string}} RunColumn */

const RANGE_MAX = 200, HEAD = 32, GUTTER = 34;

/** @param {{table: import('../lib/columns.js').Table, rows: any, columns: RunColumn[], selected: Set<string>, drawn: string[], sort: {name: string, order: 'asc' | 'desc'}, how: string, onSort: (name: string, order?: 'asc' | 'desc') => void,
 *   onSelect: (ids: string[] | 'all') => void, onOpen: (id: string) => void, onGroup?: (group: string) => void, sayGroup?: (group: string) => string, onMove: (name: string, by: number | string) => void, onWidth: (name: string, width: number) => void,
 *   onColumnMenu: (name: string, at: DOMRect) => void, label: string, busy?: boolean}} props */
export function RunsTable({ table, rows, columns, selected, drawn, sort, how, onSort, onSelect, onOpen, onGroup, sayGroup = (g) => g, onMove, onWidth, onColumnMenu, label, busy = false }) {
  const scroll = useRef(/** @type {any} */ (null)), body = useRef(/** @type {any} */ (null));
  const { height } = useSize(scroll);
  const [top, setTop] = useState(0);
  const [focus, setFocus] = useState(0);
  const [wide, setWide] = useState(/** @type {{name: string, width: number} | null} */ (null));
  const [over, setOver] = useState('');
  const dragged = useRef(''), anchor = useRef(0);
  const row = rowHeight.value, total = rows.length;
  const { from, to } = windowOf(top, Math.max(0, height - HEAD), row, total);
  const idAt = (/** @type {number} */ i) => (typeof rows[i] === 'number' ? table.ids[rows[i]] : null);
  const widthOf = (/** @type {RunColumn} */ c) => (wide?.name === c.name ? wide.width : c.width);

  const pending = useRef(false);
  /** @param {any} e */
  const onScroll = (e) => { const el = e.currentTarget; if (pending.current) return; pending.current = true; requestAnimationFrame(() => { pending.current = false; setTop(el.scrollTop); }); };

  const wantFocus = useRef(false);
  /** @param {number} i */
  const go = (i) => {
    const next = Math.max(0, Math.min(total - 1, i)), el = scroll.current;
    if (!el) return;
    const y = next * row, room = el.clientHeight - HEAD;
    if (y < el.scrollTop) el.scrollTop = y; else if (y + row > el.scrollTop + room) el.scrollTop = y + row - room;
    setTop(el.scrollTop); setFocus(next); wantFocus.current = true;
  };
  useLayoutEffect(() => { if (wantFocus.current) { wantFocus.current = false; body.current?.querySelector(`[data-row="${focus}"]`)?.focus({ preventScroll: true }); } });
  useEffect(() => { if (focus >= total) setFocus(Math.max(0, total - 1)); if (scroll.current) setTop(scroll.current.scrollTop); }, [total]);

  /** @param {number} i @param {boolean} range */
  const toggle = (i, range) => {
    if (range) {
      const [a, b] = [Math.min(anchor.current, i), Math.max(anchor.current, i)], ids = [...selected];
      for (let j = a; j <= b && ids.length < RANGE_MAX; j += 1) { const id = idAt(j); if (id && !selected.has(id)) ids.push(id); }
      onSelect(ids);
      return;
    }
    anchor.current = i;
    const id = idAt(i);
    if (id) onSelect(selected.has(id) ? [...selected].filter((s) => s !== id) : [...selected, id]);
  };
  useCommands([
    { id: 'row.next', title: 'Next row', keys: 'j', hidden: true, run: () => go(focus + 1) },
    { id: 'row.previous', title: 'Previous row', keys: 'k', hidden: true, run: () => go(focus - 1) },
    { id: 'row.select', title: 'Select the row', keys: 'x', hidden: true, run: (e) => toggle(focus, e?.key === 'X') },
    { id: 'row.open', title: 'Open the row', keys: 'Enter', hidden: true, run: (e) => { if (e?.target?.closest?.('a,button')) return; const id = idAt(focus); if (id && body.current?.contains(document.activeElement)) onOpen(id); } },
  ]);
  /** @param {any} e */
  const onKey = (e) => {
    if (e.altKey || e.target.closest('thead')) return;
    const page = Math.max(1, Math.floor((height - HEAD) / row) - 1);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page }[/** @type {string} */ (e.key)];
    if (step) { e.preventDefault(); go(focus + step); } else if (e.key === 'Home') { e.preventDefault(); go(0); } else if (e.key === 'End') { e.preventDefault(); go(total - 1); } else if (e.key === ' ' && e.target.tagName === 'TR') { e.preventDefault(); toggle(focus, e.shiftKey); }
  };
  /** Alt and arrows move a column, with Shift they widen it. @param {any} e @param {RunColumn} c */
  const onHeadKey = (e, c) => {
    const by = e.key === 'ArrowLeft' ? -1 : e.key === 'ArrowRight' ? 1 : 0;
    if (!by || !e.altKey) return;
    e.preventDefault(); e.stopPropagation();
    if (e.shiftKey) onWidth(c.name, clampWidth(c.width + by * 16)); else { onMove(c.name, by); headFocus.current = c.name; }
  };
  const headFocus = useRef('');
  useLayoutEffect(() => { if (headFocus.current) { const name = headFocus.current; headFocus.current = ''; for (const th of scroll.current?.querySelectorAll('th[data-column]') ?? []) if (th.dataset.column === name) th.querySelector('.th-button')?.focus(); } });
  /** @param {any} e @param {RunColumn} c */
  const startResize = (e, c) => {
    e.preventDefault(); e.stopPropagation();
    const x0 = e.clientX, w0 = c.width, el = e.currentTarget;
    let last = w0;
    el.setPointerCapture(e.pointerId);
    el.onpointermove = (/** @type {any} */ m) => { last = clampWidth(w0 + m.clientX - x0); setWide({ name: c.name, width: last }); };
    el.onpointerup = el.onpointercancel = () => { el.onpointermove = el.onpointerup = el.onpointercancel = null; setWide(null); if (last !== w0) onWidth(c.name, last); };
  };

  const lefts = /** @type {Record<string, number>} */ ({});
  let x = GUTTER;
  for (const c of columns) if (c.pinned) { lefts[c.name] = x; x += widthOf(c); }
  const lastPinned = columns.filter((c) => c.pinned).at(-1)?.name;
  /** @param {RunColumn} c */
  const cellClass = (c) => `${c.kind === 'number' || c.kind === 'duration' ? 'num' : ''} ${c.pinned ? 'pinned' : ''} ${c.name === lastPinned ? 'edge' : ''} ${c.kind === 'name' ? 'name' : ''}`;
  /** @param {RunColumn} c */
  const at = (c) => (c.pinned ? { '--at': `${lefts[c.name]}px` } : undefined);

  const lines = [];
  for (let i = from; i < to; i += 1) {
    const entry = rows[i];
    if (typeof entry !== 'number') {
      lines.push(html`<tr class=${`group ${i === focus ? 'focus' : ''}`} key=${`g ${entry.group}`} aria-rowindex=${i + 2} data-row=${i} tabindex=${i === focus ? 0 : -1} onFocus=${() => { if (focus !== i) setFocus(i); }}><td class="pinned"></td>${columns.map((c, j) => (j === 0
        ? html`<td key=${c.name} class=${cellClass(c)} style=${at(c)}><button type="button" class="th-button" tabindex="-1" aria-expanded=${entry.open ? 'true' : 'false'} onClick=${() => onGroup?.(entry.group)}><${Icon} name=${entry.open ? 'chevron-down' : 'chevron-right'} /><span class="truncate">${sayGroup(entry.group) || 'none'}</span> <span class="muted">${count(entry.count)}</span></button></td>`
        : html`<td key=${c.name} class=${cellClass(c)} style=${at(c)}>${totalOf(c, table, entry.rows, how)}</td>`))}</tr>`);
      continue;
    }
    const id = table.ids[entry], on = selected.has(id), isDrawn = on && drawn.includes(id);
    lines.push(html`<tr key=${id} data-row=${i} aria-rowindex=${i + 2} aria-selected=${on ? 'true' : 'false'} class=${i === focus ? 'focus' : ''} tabindex=${i === focus ? 0 : -1} onFocus=${() => { if (focus !== i) setFocus(i); }}
        onClick=${(/** @type {any} */ e) => { if (e.target.closest('a,button')) return; setFocus(i); if (e.shiftKey) toggle(i, true); else if (e.metaKey || e.ctrlKey) toggle(i, false); else onOpen(id); }}>
      <td class="pinned"><button type="button" class="swatch" tabindex="-1" aria-pressed=${on ? 'true' : 'false'} aria-label=${`${on ? 'Leave out' : 'Draw'} ${String(table.columns.name?.[entry] ?? short(id))}`} style=${on ? { '--c': isDrawn ? slotOf(id, drawn).colour : 'var(--line-strong)' } : undefined} onClick=${(/** @type {any} */ e) => toggle(i, e.shiftKey)}><span></span></button></td>
      ${columns.map((c) => html`<td key=${c.name} class=${cellClass(c)} style=${at(c)}>${cell(c, table, entry, id)}</td>`)}</tr>`);
  }
  const every = total > 0 && selected.size > 0;
  return html`<div class="runs-scroll" ref=${scroll} onScroll=${onScroll} onKeyDown=${onKey} tabindex=${total ? -1 : 0} role="region" aria-label=${label} aria-busy=${busy ? 'true' : undefined}>
    <table class="runs-table" role="grid" aria-rowcount=${total + 1} aria-colcount=${columns.length + 1} aria-multiselectable="true" aria-label=${label}>
      <colgroup><col style=${{ width: `${GUTTER}px` }} />${columns.map((c) => html`<col key=${c.name} style=${{ width: `${widthOf(c)}px` }} />`)}<col /></colgroup>
      <thead><tr aria-rowindex="1"><th class="pinned" scope="col"><button type="button" class="swatch" aria-pressed=${every ? 'true' : 'false'} title=${every ? 'Select none' : 'Select all of this list'} aria-label=${every ? 'Select none' : 'Select all of this list'} onClick=${() => onSelect(every ? [] : 'all')}><span></span></button></th>${columns.map((c) => html`<th key=${c.name} scope="col" data-column=${c.name} class=${`${cellClass(c)} ${over === c.name ? 'over' : ''}`} style=${at(c)} title=${`${c.name}\nDrag, or Alt and arrows, to move it`} aria-sort=${sort.name === c.name ? (sort.order === 'asc' ? 'ascending' : 'descending') : 'none'}
          draggable=${c.name !== 'name'} onDragStart=${(/** @type {any} */ e) => { dragged.current = c.name; e.dataTransfer.effectAllowed = 'move'; e.dataTransfer.setData('text/plain', c.name); }} onDragEnd=${() => { dragged.current = ''; setOver(''); }}
          onDragOver=${(/** @type {any} */ e) => { if (!dragged.current || c.name === 'name') return; e.preventDefault(); if (over !== c.name) setOver(c.name); }} onDrop=${(/** @type {any} */ e) => { e.preventDefault(); setOver(''); if (dragged.current && dragged.current !== c.name) onMove(dragged.current, c.name); }} onKeyDown=${(/** @type {any} */ e) => onHeadKey(e, c)}
          onContextMenu=${(/** @type {any} */ e) => { e.preventDefault(); onColumnMenu(c.name, e.currentTarget.getBoundingClientRect()); }}>
        <span class="th"><button type="button" class="th-button" onClick=${() => onSort(c.name)}><span class="truncate">${c.label}</span>${sort.name === c.name && html`<${Icon} name=${sort.order === 'asc' ? 'arrow-up' : 'arrow-down'} />`}</button><button type="button" class="th-more" aria-haspopup="menu" aria-label=${`Column ${c.label}`} onClick=${(/** @type {any} */ e) => onColumnMenu(c.name, e.currentTarget.getBoundingClientRect())}><${Icon} name="ellipsis" small /></button></span><span class="resize" aria-hidden="true" onPointerDown=${(/** @type {any} */ e) => startResize(e, c)}></span></th>`)}<td class="rest"></td></tr></thead>
      <tbody ref=${body}>${from > 0 && html`<tr class="spacer" key="above" aria-hidden="true"><td style=${{ height: `${from * row}px` }} colspan=${columns.length + 1}></td></tr>`}
        ${lines}
        ${to < total && html`<tr class="spacer" key="below" aria-hidden="true"><td style=${{ height: `${(total - to) * row}px` }} colspan=${columns.length + 1}></td></tr>`}</tbody>
    </table></div>`;
}

/** A group's number in a column. @param {RunColumn} c @param {import('../lib/columns.js').Table} table @param {Uint32Array} rows @param {string} how */
function totalOf(c, table, rows, how) {
  if (c.kind !== 'number' && c.kind !== 'duration') return null;
  const column = table.columns[c.name], v = aggregate(column, rows, how), finite = rows.reduce((n, i) => n + Number(Number.isFinite(column?.[i])), 0);
  return Number.isNaN(v) ? html`<span class="absent">–</span>` : html`<span title=${`${how} of ${finite < rows.length ? `${count(finite)} of ` : ''}${count(rows.length)}: ${v}`}>${c.kind === 'duration' ? duration(v) : num(v)}</span>`;
}

/** @param {RunColumn} c @param {import('../lib/columns.js').Table} table @param {number} i @param {string} id */
function cell(c, table, i, id) {
  const v = valueAt(table.columns[c.name], i);
  switch (c.kind) {
    case 'name': return html`<a href=${`/runs/${id}`} tabindex="-1" title=${`${v ?? ''}\n${id}`}>${v || short(id)}</a>`;
    case 'state': return html`<${State} of=${v} />`;
    case 'time': return html`<${Time} at=${v} />`;
    case 'duration': return v !== null ? duration(v) : html`<span class="absent">–</span>`;
    case 'number': return v !== null ? html`<span class=${c.best === i ? 'best' : Number.isFinite(v) ? '' : 'bad'} title=${String(v)}>${num(v)}</span>` : html`<span class="absent">–</span>`;
    default: { const text = v === null ? null : c.say ? c.say(v) : String(v); return text === null ? html`<span class="absent">–</span>` : html`<span title=${text}>${text}</span>`; }
  }
}
