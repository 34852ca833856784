// @ts-check
/** One pipeline: its graph, what it takes, its runs. */

import { useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Deed } from '../components/deed.js';
import { Icon } from '../components/icon.js';
import { Page, Block } from '../components/page.js';
import { Show, Empty } from '../components/empty.js';
import { Graph } from '../components/graph.js';
import { Dialog, Field } from '../components/dialog.js';
import { PipelineRuns } from '../components/pipeline-runs.js';
import { Backfills, Starts } from '../components/starts.js';
import { Id, Kv, Time, Who } from '../components/values.js';
import { useCommands, useResource } from '../components/use.js';
import { enc, post, withQuery } from '../lib/api.js';
import { plural } from '../lib/format.js';
import { typed } from '../lib/steps.js';
import { sayError } from '../lib/store.js';

/** @param {any} props */
export default function PipelinePage({ params, go }) {
  const { pipeline: name } = params;
  const pipeline = useResource(`/pipelines/${enc(name)}`, { kinds: ['pipeline.'] });
  const runs = useResource(withQuery('/pipeline-runs', { pipeline: name, limit: 60 }), { kinds: ['pipeline_run.'] });
  const [asking, setAsking] = useState(false);
  const p = pipeline.data?.pipeline ?? pipeline.data, spec = p?.spec;
  const turn = async () => { try { await post(`/pipelines/${enc(name)}/${p.is_paused ? 'unpause' : 'pause'}`); pipeline.reload(); } catch (e) { sayError(e); } };
  useCommands([{ id: 'actions', title: `Run ${name}`, icon: 'play', keys: '.', group: 'Pipeline', run: () => setAsking(true) }]);
  const edges = (spec?.steps ?? []).flatMap((/** @type {any} */ s) => dependencies(s).map((d) => ({ from: d, to: s.name })));
  return html`<${Page} crumbs=${[['Pipelines', '/pipelines'], [name]]} loading=${pipeline.loading} actions=${html`${p && html`<${Deed} may="trigger.write" on=${`pipeline:${p.name}`} class="button" onClick=${turn}><${Icon} name=${p.is_paused ? 'play' : 'pause'} />${p.is_paused ? 'Let it start by itself' : 'Let nothing start it'}<//>`}<${Deed} may="pipeline.run" on=${`pipeline:${name}`} class="button primary" onClick=${() => setAsking(true)}><${Icon} name="play" />Run…<//>`}>
    <${Show} of=${pipeline}>${() => html`<div class="story"><h2>${name}</h2><p>${p.description || ''} Version ${p.version}${spec ? html`, ${plural(spec.steps.length, 'step')}` : ''}, changed <${Time} at=${p.updated_at_ms} />, owned by <b><${Who} of=${p.owner} /></b>${spec?.code?.commit ? html`, from commit <code>${spec.code.commit.slice(0, 10)}</code>${spec.code.is_dirty ? ' with uncommitted changes' : ''}` : ''}.</p></div>
      ${spec && html`<${Block} title="Steps"><${Graph} label=${`Steps of ${name}`} nodes=${spec.steps.map((/** @type {any} */ s) => ({ id: s.name, kind: s.cache_s !== null && s.cache_s !== undefined ? 'cached step' : 'step', icon: 'square', name: s.name, note: s.description || s.function }))} edges=${edges} /><//>`}
      <${Starts} pipeline=${name} params=${spec?.params} />
      <${Backfills} pipeline=${name} params=${spec?.params} />
      <${Block} title="Runs"><${Show} of=${runs}>${(/** @type {any} */ a) => (a.items.length ? html`<${PipelineRuns} rows=${a.items} pipeline=${false} />` : html`<${Empty} icon="play" title="It has not run yet." command=${`noria pipeline run ${name}`} />`)}<//><//>
      ${spec && html`<${Block} title="Code"><${Kv} items=${[['Entry', html`<code>${spec.entry}</code>`], ['Archive', html`<${Id} value=${spec.code.archive_digest} />`], ['Commit', spec.code.commit && html`<${Id} value=${spec.code.commit} />`], ['Branch', spec.code.branch], ['Remote', spec.code.remote], ['Environment', spec.environment_digest && html`<${Id} value=${spec.environment_digest} />`], ['Python', spec.python]]} /><//>`}`}<//>
    ${asking && html`<${Dialog} title=${`Run ${name}`} deed="Run" onClose=${() => setAsking(false)} act=${async (/** @type {FormData} */ form) => {
      const values = /** @type {Record<string, any>} */ ({});
      for (const key of Object.keys(spec?.params ?? {})) { const text = String(form.get(`p.${key}`) ?? ''); if (text !== '') values[key] = typed(text); }
      const run = await post(`/pipelines/${enc(name)}/runs`, { params: values });
      go(`/pipeline-runs/${run.id ?? run.run?.id}`);
    }}>${Object.keys(spec?.params ?? {}).length === 0 ? html`<p class="quiet">It takes no parameters.</p>` : Object.entries(spec.params).map(([k, v]) => html`<${Field} key=${k} label=${k} name=${`p.${k}`} required=${/** @type {any} */ (v).required} placeholder=${/** @type {any} */ (v).required ? '' : JSON.stringify(/** @type {any} */ (v).default)} hint=${/** @type {any} */ (v).type} />`)}<//>`}
  <//>`;
}

/** The steps a step waits for. @param {any} step @returns {string[]} */
export function dependencies(step) {
  const found = new Set(step.after ?? []);
  const walk = (/** @type {any} */ source) => {
    if (!source || typeof source !== 'object') return;
    if (source.from === 'step') found.add(source.step);
    for (const item of Object.values(source.items ?? {})) walk(item);
  };
  Object.values(step.inputs ?? {}).forEach(walk);
  return [...found];
}

