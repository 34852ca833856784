// @ts-check
/** One project: what it says of itself, what it holds, what answers for it and how that is, what happened, and what it cost. */

import { useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Deed } from '../components/deed.js';
import { Icon } from '../components/icon.js';
import { Block, Page } from '../components/page.js';
import { Show } from '../components/empty.js';
import { ProseBox } from '../components/prose.js';
import { Dialog, Field } from '../components/dialog.js';
import { State } from '../components/state.js';
import { SplitBar } from '../components/split-bar.js';
import { Table } from '../components/table.js';
import { Timeline } from '../components/timeline.js';
import { collapse, sentenceOf, toneOfFact } from '../components/fact.js';
import { Kv, Num, RefLink, Time, Who } from '../components/values.js';
import { useCommands, useResource } from '../components/use.js';
import { api, enc, withQuery } from '../lib/api.js';
import { count, num, plural } from '../lib/format.js';
import { byKind, deployed, sumOf } from '../lib/projects.js';
import { parseRef } from '../lib/refs.js';

const DAYS = 30;

/** @param {any} props */
export default function ProjectPage({ params }) {
  const name = params.project, at = `/projects/${enc(name)}`;
  const page = useResource(at, { kinds: ['project.', 'thing.'] });
  const facts = useResource(`${at}/activity?limit=200`, { kinds: [''], map: (a) => collapse(a.items.filter((/** @type {any} */ f) => !f.kind.startsWith('step_run.'))).slice(0, 20) });
  const [writing, setWriting] = useState(false);
  const p = page.data, experiments = (p?.things ?? []).filter((/** @type {string} */ r) => r.startsWith('experiment:')).map((/** @type {string} */ r) => parseRef(r).id);
  const write = html`<${Deed} may="project.write" on=${`project:${name}`} class="button small" onClick=${() => setWriting(true)}><${Icon} name="file-text" small />${p?.readme ? 'Edit' : 'Write'}<//>`;
  useCommands(p ? [{ id: 'actions', title: 'Write the readme of this project', icon: 'file-text', keys: '.', group: 'Project', run: () => setWriting(true) }] : []);
  const save = async (/** @type {FormData} */ form) => { await api(`${at}/readme`, { method: 'PUT', body: { content: String(form.get('content')), expect: p.edit } }); page.reload(); };
  return html`<${Page} crumbs=${[['Projects', '/projects'], ...(p?.project.parent ? [[p.project.parent, `/projects/${enc(p.project.parent)}`]] : []), [name]]} loading=${page.loading}>
    <${Show} of=${page}>${() => html`<div class="story"><h2>${name}</h2>${p.project.description && html`<p>${p.project.description}</p>`}</div>
      <div class="split"><div class="stack loose">
        <${Block} title="Readme" actions=${write}>${p.readme_html ? html`<${ProseBox} of=${p.readme_html} label=${`Readme of ${name}`} /><p class="caption"><${Who} of=${p.actor} /> wrote it <${Time} at=${p.at_ms} />.</p>` : html`<p class="muted">Nobody wrote one. Say here what the project is for, who answers for it, and where its parts are.</p>`}<//>
        <${Production} things=${p.things} />
        <${Block} title="What it holds" count=${p.things.length}>${p.things.length ? html`<${Kv} class="facts" items=${byKind(p.things).map(([kind, refs]) => [`${kind}s`, html`<span class="chips">${refs.map((r) => html`<span class="chip" key=${r}><${RefLink} to=${r} /></span>`)}</span>`])} />` : html`<p class="muted">Nothing you may read lies in it yet. Things are put into projects under <a href="/settings?tab=projects">Settings, Projects</a>.</p>`}<//>
        <${Cost} experiments=${experiments} />
      </div>
      <${Block} title="What happened" actions=${html`<a href=${`/audit?subject=${enc(`project:${name}`)}`}>Audit</a>`}><${Show} of=${facts}>${(/** @type {any} */ list) => (list.length ? html`<${Timeline} label="Latest facts of the project" items=${list.map((/** @type {any} */ f) => ({ key: f.seq, tone: toneOfFact(f), what: html`${sentenceOf(f)}${f.count > 1 ? html` <span class="muted">and ${f.count - 1} more</span>` : ''}`, at: f.at_ms }))} />` : html`<p class="muted">Nothing lately.</p>`)}<//><//></div>`}<//>
    ${writing && p && html`<${Dialog} title=${`Readme of ${name}`} deed="Save the readme" done="Saved" onClose=${() => setWriting(false)} act=${save}><${Field} as="textarea" label="Readme" name="content" rows="14" defaultValue=${p.readme} hint="Markdown. It is refused if somebody else wrote it since you read it." /><//>`}
  <//>`;
}

/** What answers for the project, and whether it is well. @param {{things: string[]}} props */
function Production({ things }) {
  const concerned = things.some((r) => r.startsWith('endpoint:') || r.startsWith('model:'));
  const endpoints = useResource(concerned ? '/endpoints?limit=1000' : null, { kinds: ['endpoint.', 'revision.', 'canary.'] }), alerts = useResource(concerned ? '/alerts?state=open&limit=500' : null, { kinds: ['alert.'] });
  const rows = deployed(endpoints.data?.items ?? [], alerts.data?.items ?? [], things);
  if (!rows.length) return null;
  return html`<${Block} title="In production" count=${rows.length}><${Table} label="Deployed models of the project" rows=${rows} rowKey=${(/** @type {any} */ e) => e.name} href=${(/** @type {any} */ e) => `/endpoints/${enc(e.name)}`} columns=${[
    { key: 'n', label: 'Endpoint', cell: (e) => e.name }, { key: 'm', label: 'Model', cell: (e) => html`<${RefLink} to=${`model:${e.model}`} />` }, { key: 'split', label: 'Split', cell: (e) => html`<${SplitBar} routes=${e.routes ?? []} />` }, { key: 's', label: 'State', cell: (e) => html`<${State} of=${e.status} />` },
    { key: 'a', label: 'Alerts', cell: (e) => (e.alerts.length ? html`<span class="chips">${e.alerts.map((/** @type {any} */ a) => html`<a key=${a.id} href=${`/alerts/${enc(a.id)}`}><${State} of="open" word=${`${a.metric} ${num(a.value)}`} /></a>`)}</span>` : html`<${State} of="done" word="none open" />`) }]} /><//>`;
}

/** What its runs took lately. @param {{experiments: string[]}} props */
function Cost({ experiments }) {
  const spent = useResource(experiments.length ? withQuery('/spent', { experiments: experiments.join(','), days: DAYS }) : null, { kinds: ['run.finished'] });
  if (!experiments.length) return null;
  return html`<${Block} title=${`What its runs took in ${DAYS} days`}><${Show} of=${spent}>${(/** @type {any} */ a) => { const all = sumOf(a.items); return !all.runs ? html`<p class="muted">Nothing ran.</p>` : html`<p class="quiet"><b><${Num} value=${all.hours} /> hours</b> in ${plural(all.runs, 'run')}${all.priced ? html`, <b><${Num} value=${all.cost} /></b> in money${all.priced < all.runs ? html` (${count(all.priced)} of them knew their price)` : ''}` : html`. With <code>NORIA_PRICE_PER_HOUR</code> set where runs run, what they cost is shown too`}.</p>
    <${Table} label="By who and experiment" rows=${a.items} rowKey=${(/** @type {any} */ r) => `${r.experiment_id} ${r.user}`} columns=${[{ key: 'u', label: 'Who', cell: (r) => r.user || html`<span class="muted">not said</span>` }, { key: 'e', label: 'Experiment', cell: (r) => html`<${RefLink} to=${`experiment:${r.experiment_id}`} />` }, { key: 'r', label: 'Runs', num: true, cell: (r) => count(r.runs_count) }, { key: 'h', label: 'Hours', num: true, cell: (r) => html`<${Num} value=${r.hours} />`, sort: (r) => r.hours }, ...(all.priced ? [{ key: 'c', label: 'Cost', num: true, cell: (/** @type {any} */ r) => (r.priced_count ? html`<${Num} value=${r.cost} />` : html`<span class="muted">–</span>`), sort: (/** @type {any} */ r) => r.cost }] : [])]} />`; }}<//><//>`;
}
