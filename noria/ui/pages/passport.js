// @ts-check
/** From one answer of an endpoint back to everything it came from: model, run, code, data, environment, approvals. */

import { useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Icon } from '../components/icon.js';
import { Page, Block } from '../components/page.js';
import { Empty, Show } from '../components/empty.js';
import { Strip } from '../components/strip.js';
import { State } from '../components/state.js';
import { Table } from '../components/table.js';
import { Timeline } from '../components/timeline.js';
import { Alerts } from '../components/alerts.js';
import { JsonView } from '../components/json-view.js';
import { collapse, sentenceOf, toneOfFact } from '../components/fact.js';
import { Id, Kv, Num, RefLink, Time, Who } from '../components/values.js';
import { useResource } from '../components/use.js';
import { enc, href } from '../lib/api.js';
import { duration, plural } from '../lib/format.js';

/** @param {any} props */
export default function PassportPage({ params, go }) {
  const id = params.prediction;
  const [text, setText] = useState('');
  if (!id) return html`<${Page} crumbs=${[['Passport']]}><${Empty} icon="fingerprint" title="Where did this answer come from?" text="Every answer carries its id in the header x-noria-prediction-id. From it the passport names the model version, the run and code that built it, the data it was trained on, and who approved it." >
    <form class="row" onSubmit=${(/** @type {any} */ e) => { e.preventDefault(); if (text.trim()) go(`/passports/${enc(text.trim())}`); }}><input class="input" aria-label="Prediction id" placeholder="prediction id" value=${text} onInput=${(/** @type {any} */ e) => setText(e.currentTarget.value)} /><button class="button primary" type="submit">Open passport</button></form><//><//>`;
  return html`<${Passport} id=${id} />`;
}

/** @param {{id: string}} props */
function Passport({ id }) {
  const passport = useResource(`/passports/${enc(id)}`, { kinds: ['truth.'] });
  const p = passport.data, i = p?.prediction, ref = p ? `model_version:${p.model_version_id}` : null;
  const lineage = useResource(ref ? `/lineage/${enc(ref)}?depth=2` : null);
  return html`<${Page} crumbs=${[['Passport', '/passports'], [id]]} title="Passport of a prediction" loading=${passport.loading} actions=${p && html`<button type="button" class="button" onClick=${() => print()}><${Icon} name="file-text" />Print</button><a class="button" data-external href=${href(`/passports/${enc(id)}`)} download=${`passport-${id}.json`}><${Icon} name="download" />JSON</a>`}>
    <${Show} of=${passport}>${() => html`<div class="story"><h2>One answer of ${i.endpoint}${i.truth !== null ? html`<${State} of="done" word=${`truth: ${i.truth}`} />` : html`<${State} of="queued" word="no truth yet" />`}</h2>
        <p><${RefLink} to=${`endpoint:${i.endpoint}`} /> answered <${Time} at=${i.at_ms} absolute /> with <${RefLink} to=${ref} />${i.score !== null ? html`: score <b><${Num} value=${i.score} /></b>` : ''}${i.prediction !== null ? html`, prediction <b>${i.prediction}</b>` : ''}${i.latency_ms !== null ? `, in ${duration(i.latency_ms)}` : ''}. <b><${Who} of=${p.deployed_by} /></b> let this version answer${p.approvals.length ? html` after ${plural(p.approvals.filter((/** @type {any} */ a) => a.kind === 'approval.granted').length, 'approval')}` : ''}.${i.truth !== null ? html` The truth <b>${i.truth}</b> arrived <${Time} at=${i.truth_at_ms} />.` : ''}</p></div>
      <${Strip} lineage=${lineage.data} here=${ref} />
      <div class="halves"><${Block} title="What went in">${i.inputs ? html`<${Table} label="Inputs" rows=${Object.entries(i.inputs)} rowKey=${(/** @type {any} */ [k]) => k} columns=${[{ key: 'k', label: 'Feature', cell: ([k]) => k }, { key: 'v', label: 'Value', num: true, cell: ([, v]) => (typeof v === 'number' ? html`<${Num} value=${v} digits=${6} />` : v === null ? html`<span class="muted">missing</span>` : String(v)) }]} />` : html`<p class="muted">The inputs are no longer kept; their segment was removed by retention.</p>`}<//>
        <${Block} title="What came out"><div class="stack"><${JsonView} value=${i.output} /><${Kv} items=${[['Prediction', html`<${Id} value=${i.prediction_id} full />`], ['Key', i.key], ['Event time', html`<${Time} at=${i.event_at_ms} absolute />`], ['Revision', html`<${RefLink} to=${`revision:${i.revision_id}`} />`], ['Segment', html`<span><${Id} value=${i.segment} />, row ${i.row}</span>`]]} /></div><//></div>
      ${p.model_version && html`<${Origin} of=${p.model_version} />`}
      <div class="halves"><${Block} title="How it came to answer">${p.facts.length ? html`<${Timeline} chain label="Facts of the version and the revision" items=${collapse(p.facts).map((/** @type {any} */ f) => ({ key: f.seq, tone: toneOfFact(f), what: sentenceOf(f), at: f.at_ms, why: html`<a href=${`/audit?seq=${f.seq}`}>fact ${f.seq}</a>` }))} />` : html`<p class="muted">Nothing is recorded.</p>`}<//>
        <div class="stack loose"><${Block} title="Who approved it">${p.approvals.length ? html`<${Timeline} label="Approvals" items=${p.approvals.map((/** @type {any} */ f) => ({ key: f.seq, tone: toneOfFact(f), what: sentenceOf(f), at: f.at_ms }))} />` : html`<p class="muted">No approval was asked for this version.</p>`}<//>
          <${Block} title="What the monitors said then">${p.monitors_then.length ? html`<${Table} label="Monitors at the time" rows=${p.monitors_then} rowKey=${(/** @type {any} */ m) => m.name} href=${(/** @type {any} */ m) => `/monitors/${enc(m.name)}`} columns=${[{ key: 'n', label: 'Monitor', cell: (m) => m.name }, { key: 'v', label: 'Value', num: true, cell: (m) => (m.window ? html`<span class=${m.window.verdict === 'over' ? 'bad' : ''}><${Num} value=${m.window.value} /></span>` : html`<span class="muted">not judged</span>`) }, { key: 'l', label: 'Limit', num: true, cell: (m) => html`<${Num} value=${m.limit} />` }, { key: 'w', label: 'Verdict', cell: (m) => m.window && html`<${State} of=${m.window.verdict} tone=${m.window.verdict === 'over' ? 'alert' : m.window.verdict === 'within' ? 'done' : 'neutral'} />` }]} />` : html`<p class="muted">Nothing watched this endpoint.</p>`}<//>
          ${p.alerts_then.length > 0 && html`<${Block} title="Alerts in force"><${Alerts} rows=${p.alerts_then} /><//>`}</div></div>`}<//>
  <//>`;
}

/** Where the version comes from: run, code, data, environment. @param {{of: any}} props */
function Origin({ of: v }) {
  const r = v.run, c = v.code;
  return html`<${Block} title="Where the version comes from"><div class="halves">
    <${Kv} items=${[['Version', html`<a href=${`/models/${enc(v.model)}/${v.version}`}>${v.model}@${v.version}</a>`], ['Registered', html`<span><${Time} at=${v.created_at_ms} /> by <${Who} of=${v.created_by} /></span>`], ['Digest', html`<${Id} value=${v.digest} />`], ['Run', r ? (r.is_visible ? html`<a href=${`/runs/${r.id}`}>${r.name || r.id}</a>` : 'one you may not see') : 'none is recorded'], ['By', r?.user], ['Trained', r?.ended_at_ms && html`<span><${Time} at=${r.started_at_ms} absolute />, ${duration(r.ended_at_ms - r.started_at_ms)}</span>`],
      ['Code', c?.commit ? html`<span><${Id} value=${c.commit} />${c.is_dirty ? ' with uncommitted changes' : ''}</span>` : 'no commit is recorded'], ['Command', c?.argv && html`<code>${c.argv}</code>`], ['Data', v.datasets.length ? v.datasets.map((/** @type {any} */ d, /** @type {number} */ n) => html`${n ? ', ' : ''}${d.name ? html`<a href=${`/datasets/${enc(d.name)}/${d.number}`}>${d.name}@${d.number}</a>` : html`<${RefLink} to=${`dataset_version:${d.id}`} />`}`) : 'none is recorded'], ['Environment', v.environment.digest ? html`<${Id} value=${v.environment.digest} />` : 'not recorded']]} />
    <div class="stack">${r?.params && Object.keys(r.params).length > 0 && html`<details><summary class="quiet">${plural(Object.keys(r.params).length, 'parameter')}</summary><${Kv} items=${Object.entries(r.params)} /></details>`}
      ${v.environment.packages?.length > 0 && html`<details><summary class="quiet">${plural(v.environment.packages.length, 'package')}</summary><pre class="code" tabindex="0">${v.environment.packages.join('\n')}</pre></details>`}
      ${v.evaluations.map((/** @type {any} */ e, /** @type {number} */ n) => html`<section key=${n} class="stack tight"><h3>${e.split} of ${e.dataset?.name ? `${e.dataset.name}@${e.dataset.number}` : 'a dataset version'}</h3><${Kv} items=${Object.entries(e.metrics).map(([k, x]) => [k, html`<${Num} value=${x} />`])} /></section>`)}</div></div><//>`;
}
