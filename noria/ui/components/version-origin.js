// @ts-check
/** Where a version comes from: run, code, data, environment; and the graph of it. */

import { html } from './html.js';
import { Block } from './page.js';
import { Id, Kv, RefLink, Time, Who } from './values.js';
import { commandOf } from './run-parts.js';
import { useResource } from './use.js';
import { LineageGraph } from '../pages/lineage.js';
import { enc } from '../lib/api.js';
import { plural } from '../lib/format.js';
import { around, next } from '../lib/lineage.js';

/** @param {{version: any, lineage: any}} props */
export function VersionOrigin({ version: v, lineage }) {
  const run = useResource(v.run_id ? `/runs/${enc(v.run_id)}` : null), r = run.data;
  const commit = r?.source_commit || r?.tags?.['mlflow.source.git.commit'], command = commandOf(r?.argv) || r?.tags?.['mlflow.source.name'];
  const read = [...next(lineage, `run:${v.run_id}`, 'read', 'out'), ...next(lineage, `model_version:${v.id}`, 'trained_on', 'out')].filter((n, i, all) => all.findIndex((m) => m.ref === n.ref) === i);
  const measured = next(lineage, `model_version:${v.id}`, 'evaluated_on', 'out');
  const near = around(lineage, `model_version:${v.id}`);
  const none = (/** @type {string} */ text) => html`<span class="muted">${text}</span>`;
  const links = (/** @type {any[]} */ nodes) => nodes.map((n, i) => html`${i ? ', ' : ''}<${RefLink} key=${n.ref} to=${n.ref} />`);
  return html`<div class="stack loose"><${Kv} items=${[
      ['Run', v.run_id ? html`<span><${RefLink} to=${`run:${v.run_id}`} />${r ? html` <span class="muted">of <${Who} of=${r.user || r.actor} />, <${Time} at=${r.started_at_ms} /></span>` : run.error ? html` <span class="muted">${run.error.message}</span>` : ''}</span>` : none('It was not built by a tracked run.')],
      ['Code', commit ? html`<span><a href=${`/runs/${v.run_id}?tab=code`}><code>${commit.slice(0, 10)}</code></a>${r.source_dirty ? html` <span class="muted">with changes that were not committed</span>` : ''}</span>` : none(v.run_id && !r && !run.error ? 'Reading.' : 'Not recorded: run it with `noria run`, or in a git checkout.')],
      ['Command', command && html`<code class="breaks">${command}</code>`],
      ['Data', read.length ? html`<span>${links(read)}</span>` : none('Not recorded: log the data as an input of the run.')],
      ['Measured on', measured.length ? html`<span>${links(measured)}</span>` : null],
      ['Environment', v.packages?.length || v.environment_digest ? html`<span>${plural(v.packages?.length ?? 0, 'package')} <${Id} value=${v.environment_digest} /></span>` : none('Not recorded: log the model with its requirements.')],
      ['Logged model', v.logged_model && html`<code>${v.logged_model}</code>`]]} />
    <${Block} title="Graph" actions=${html`<a href=${`/lineage/${enc(`model_version:${v.id}`)}`}>Larger</a>`}>${near.edges.length ? html`<${LineageGraph} lineage=${near} here=${`model_version:${v.id}`} max=${420} />` : none('Nothing is linked to this version yet.')}<//></div>`;
}
