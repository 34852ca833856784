// @ts-check
/** Queues: what waits for which workers, and the rules about it. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Deed } from './deed.js';
import { Block } from './page.js';
import { Dialog, Field } from './dialog.js';
import { Table } from './table.js';
import { useResource } from './use.js';
import { api, enc } from '../lib/api.js';

export function Queues() {
  const list = useResource('/queues', { kinds: ['step_run.', 'queue.'], every: 10_000 });
  const [asking, setAsking] = useState(/** @type {any} */ (null));
  const rows = list.data?.items ?? list.data ?? [];
  if (!rows.length) return null;
  return html`<${Block} title="Queues"><${Table} label="Queues" rows=${rows} rowKey=${(/** @type {any} */ q) => q.name} columns=${[
    { key: 'n', label: 'Queue', cell: (q) => q.name }, { key: 'r', label: 'Waiting', num: true, cell: (q) => q.ready, sort: (q) => q.ready }, { key: 'a', label: 'Running', num: true, cell: (q) => q.running }, { key: 'w', label: 'Workers', num: true, cell: (q) => (q.workers ? q.workers : html`<b class=${q.ready ? 'bad' : ''}>none</b>`) },
    { key: 'p', label: 'Priority', num: true, cell: (q) => q.priority }, { key: 'q', label: 'At once', num: true, cell: (q) => q.quota ?? 'as many as fit' }, { key: 'x', label: '', cell: (q) => html`<${Deed} may="queue.write" class="button small" onClick=${() => setAsking(q)}>Rules…<//>` }]} /><//>
    ${asking && html`<${Dialog} title=${`Rules of the queue ${asking.name}`} deed="Set" done="Set" onClose=${() => setAsking(null)} act=${async (/** @type {FormData} */ f) => { const quota = String(f.get('quota') ?? ''); await api(`/queues/${enc(asking.name)}`, { method: 'PUT', body: { priority: Number(f.get('priority') || 0), quota: quota === '' ? null : Number(quota) } }); list.reload(); }}>
      <${Field} label="Priority" name="priority" type="number" value=${asking.priority} hint="A worker that serves two queues takes from the higher one first" /><${Field} label="Steps at once" name="quota" type="number" min="1" value=${asking.quota ?? ''} placeholder="as many as fit" /><//>`}`;
}
