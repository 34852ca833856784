// @ts-check
/** One alert as a story: what led to it, what it said, what it led to. Nobody wrote the story; it is the record, followed by cause. */

import { useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Deed } from '../components/deed.js';
import { Icon } from '../components/icon.js';
import { Page, Block } from '../components/page.js';
import { Show } from '../components/empty.js';
import { Dialog, Field } from '../components/dialog.js';
import { State } from '../components/state.js';
import { Timeline } from '../components/timeline.js';
import { Curve } from '../components/curve.js';
import { LineageGraph } from './lineage.js';
import { sentenceOf, toneOfFact, collapse } from '../components/fact.js';
import { Num, RefLink, Time, Who } from '../components/values.js';
import { Talk } from '../components/talk.js';
import { useResource } from '../components/use.js';
import { enc, post } from '../lib/api.js';
import { duration } from '../lib/format.js';

/** @param {any} props */
export default function AlertPage({ params }) {
  const story = useResource(`/alerts/${enc(params.alert)}`, { kinds: [''] });
  const [closing, setClosing] = useState(false);
  const a = story.data?.alert ?? story.data;
  const windows = useResource(a ? `/monitors/${enc(a.monitor)}/windows?limit=120` : null, { kinds: ['window.'] });
  const ordered = [...(windows.data?.items ?? [])].sort((x, y) => x.end_ms - y.end_ms);
  return html`<${Page} crumbs=${[['Monitors', '/monitors'], ...(a ? [[a.monitor, `/monitors/${enc(a.monitor)}`]] : []), ['Alert']]} title=${a ? `Alert of ${a.monitor}` : 'Alert'} loading=${story.loading} actions=${a?.state === 'open' && html`<${Deed} may="monitor.write" on=${`endpoint:${a.endpoint}`} class="button" onClick=${() => setClosing(true)}><${Icon} name="check" />Resolve…<//>`}>
    <${Show} of=${story}>${() => html`<div class="story"><h2>${a.monitor}<${State} of=${a.state === 'open' ? 'open' : 'resolved'} word=${a.state === 'open' ? (a.severity === 'warn' ? 'warning' : 'alert') : 'resolved'} /></h2>
        <p>${a.metric} of <${RefLink} to=${`endpoint:${a.endpoint}`} /> was <b><${Num} value=${a.value} /></b>, over its limit of <${Num} value=${a.limit} />, in the window that ended <${Time} at=${a.event_at_ms} absolute />. The alert opened <${Time} at=${a.opened_at_ms} />${a.resolved_at_ms ? html` and was resolved after ${duration(a.resolved_at_ms - a.opened_at_ms)}${a.resolved_by ? html` by <b><${Who} of=${a.resolved_by} /></b>` : ''}${a.resolution ? html`: ${a.resolution.replace(/\.+$/, '')}` : ''}` : ' and is still open'}. ${a.why}</p></div>
      <div class="split"><div class="stack loose"><${Block} title="What led here, and what it led to"><${Chain} story=${story.data} alert=${a} /><//>
        ${story.data.edges?.length > 0 && html`<${Block} title="What it touched"><${LineageGraph} lineage=${graphOf(story.data.edges)} here=${`alert:${a.id}`} /><//>`}</div>
        <${Block} title="The number">${ordered.length > 0 && html`<${Curve} title=${a.metric} x="time" points lines=${[{ id: 'v', name: a.metric, colour: 'var(--accent)', x: ordered.map((w) => w.end_ms), y: ordered.map((w) => w.value) }]} thresholds=${[{ value: a.limit, label: `limit ${a.limit}` }]} moments=${[{ at: a.event_at_ms, label: 'alert', tone: 'bad' }]} legend=${false} />`}<p><a href=${`/monitors/${enc(a.monitor)}`}>All windows of ${a.monitor}</a></p><//></div>`}<//>
    ${closing && html`<${Dialog} title="Resolve this alert by hand" deed="Resolve alert" done="Resolved" onClose=${() => setClosing(false)} act=${async (/** @type {FormData} */ f) => { await post(`/alerts/${enc(a.id)}/resolve`, { reason: String(f.get('reason')) }); story.reload(); }}><p class="quiet">It resolves by itself when its windows are within the limit again. A reason is written into the record.</p><${Field} label="Why" name="reason" required /><//>`}
    ${a && html`<${Talk} about=${`alert:${a.id}`} />`}
  <//>`;
}

/** @param {any} props */
function Chain({ story, alert }) {
  const before = story.before ?? [], after = (story.after ?? []).filter((/** @type {any} */ f) => !f.kind.startsWith('step_run.')); // The pipeline run says how its steps went.
  const opened = { key: 'alert', tone: /** @type {const} */ ('alert'), at: alert.opened_at_ms, what: html`<b>The alert opened</b>: ${alert.metric} <${Num} value=${alert.value} /> over <${Num} value=${alert.limit} />`, why: alert.why };
  const say = (/** @type {any} */ f) => ({ key: f.seq, tone: toneOfFact(f), at: f.at_ms, what: html`${sentenceOf(f)}${f.count > 1 ? html` <span class="muted">and ${f.count - 1} more like it</span>` : ''}`, why: html`<a class="muted" href=${`/audit?seq=${f.seq}`}>fact ${f.seq}</a>${f.cause ? html`, because of ${f.cause}` : ''}` });
  const tail = collapse(after.filter((/** @type {any} */ f) => f.seq !== alert.opened_seq && f.kind !== 'alert.opened'));
  return html`<${Timeline} chain label="The causal chain" items=${[...collapse(before.filter((/** @type {any} */ f) => f.kind !== 'alert.opened')).map(say), opened, ...tail.map(say)]} />${!tail.length && html`<p class="muted">Nothing has followed from it yet. A trigger on <code>alert.opened</code>, or a loop, would.</p>`}`;
}

/** @param {any[]} edges */
function graphOf(edges) { const refs = [...new Set(edges.flatMap((e) => [e.src, e.dst]))]; return { nodes: refs.map((ref) => ({ ref, kind: ref.split(':')[0] })), edges }; }
