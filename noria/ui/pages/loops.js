// @ts-check
/** The closed loops: watch, retrain, compare, approve, try, promote – each as one object. */

import { html } from '../components/html.js';
import { Page, Filter } from '../components/page.js';
import { Table } from '../components/table.js';
import { Empty, Show } from '../components/empty.js';
import { State } from '../components/state.js';
import { Turn } from '../components/turn.js';
import { RefLink, Time } from '../components/values.js';
import { useResource } from '../components/use.js';
import { enc } from '../lib/api.js';

const MANIFEST = `cat > loop.yaml <<'YAML'
kind: Loop
name: flights
model: flights
endpoint: flights
monitor: flights-calibration
pipeline: flights
gate: {metric: log_loss, direction: lower, min_improvement: 0.005}
approval: {mode: required, count: 1}
canary: {steps: [25]}
YAML
noria apply -f loop.yaml`;

/** @param {any} props */
export default function Loops({ query, setQuery }) {
  const list = useResource('/loops?limit=200', { kinds: ['loop', 'turn', 'alert.', 'pipeline_run.', 'canary.'] });
  const q = (query.get('q') ?? '').toLowerCase();
  return html`<${Page} crumbs=${[['Loops']]} loading=${list.loading} filter=${html`<${Filter} value=${query.get('q') ?? ''} onInput=${(/** @type {string} */ v) => setQuery({ q: v })} label="Filter loops" />`}>
    <${Show} of=${list}>${(/** @type {any} */ a) => (a.items.length === 0
      ? html`<${Empty} icon="iteration-cw" title="No loops yet." text="A loop joins a monitor to a pipeline to an endpoint: when the monitor alerts it retrains, compares, asks for approval, tries a canary, and promotes or rolls back. It has a budget, a cool-down and a stop button." command=${MANIFEST} />`
      : html`<${Table} keys label="Loops" rows=${a.items.filter((/** @type {any} */ l) => nameOf(l).toLowerCase().includes(q))} rowKey=${nameOf} href=${(/** @type {any} */ l) => `/loops/${enc(nameOf(l))}`} columns=${[
        { key: 'n', label: 'Loop', cell: nameOf, sort: nameOf }, { key: 's', label: 'State', cell: (l) => html`<${State} of=${!l.is_enabled ? 'paused' : turning(l.turn) ? 'running' : 'enabled'} word=${!l.is_enabled ? 'stopped' : turning(l.turn) ? 'turning' : 'watching'} />` },
        { key: 'w', label: 'Watches', cell: (l) => (spec(l).monitor ? html`<${RefLink} to=${`monitor:${spec(l).monitor}`} />` : html`<span class="muted">by hand only</span>`) }, { key: 'p', label: 'Retrains with', cell: (l) => html`<${RefLink} to=${`pipeline:${spec(l).pipeline}`} />` }, { key: 'e', label: 'Serves', cell: (l) => html`<${RefLink} to=${`endpoint:${spec(l).endpoint}`} />` },
        { key: 't', label: 'Latest turn', cell: (l) => { return l.turn ? html`<${Turn} state=${l.turn.state} />` : html`<span class="muted">none</span>`; } }, { key: 'c', label: 'Turns', num: true, cell: (l) => l.turns_count }, { key: 'at', label: 'Changed', cell: (l) => html`<${Time} at=${l.updated_at_ms ?? l.created_at_ms} />` }]} />`)}<//>
  <//>`;
}

/** @param {any} turn */
export const turning = (turn) => Boolean(turn) && !['promoted', 'rolled_back', 'rejected', 'failed', 'stopped'].includes(turn.state);
/** @param {any} l */
export const spec = (l) => l.spec ?? l;
/** @param {any} l */
export const nameOf = (l) => l.name ?? l.spec?.name ?? l.loop?.name ?? '';
