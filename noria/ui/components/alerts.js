// @ts-check
import { html } from './html.js';
import { Table } from './table.js';
import { State } from './state.js';
import { Num, RefLink, Time } from './values.js';

/** @param {{rows: any[]}} props */
export function Alerts({ rows }) {
  return html`<${Table} label="Alerts" rows=${rows} href=${(/** @type {any} */ a) => `/alerts/${a.id}`} columns=${[
    { key: 'w', label: 'Alert', cell: (a) => `${a.monitor}` }, { key: 's', label: 'State', cell: (a) => html`<${State} of=${a.state === 'open' ? (a.severity === 'warn' ? 'warning' : 'open') : 'resolved'} word=${a.state === 'open' ? (a.severity === 'warn' ? 'warning' : 'alert') : 'resolved'} />` },
    { key: 'v', label: 'Value', num: true, cell: (a) => html`<${Num} value=${a.value} /> <span class="muted">over <${Num} value=${a.limit} /></span>`, sort: (a) => a.value }, { key: 'e', label: 'Endpoint', cell: (a) => html`<${RefLink} to=${`endpoint:${a.endpoint}`} />` },
    { key: 'why', label: 'Why', prose: true, cell: (a) => a.why }, { key: 'at', label: 'Opened', cell: (a) => html`<${Time} at=${a.opened_at_ms} />`, sort: (a) => a.opened_at_ms }, { key: 'end', label: 'Resolved', cell: (a) => (a.resolved_at_ms ? html`<${Time} at=${a.resolved_at_ms} />` : '') }]} />`;
}
