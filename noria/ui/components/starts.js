// @ts-check
/** What starts pipelines by itself: schedules and triggers, made, switched and removed here; and runs for many dates. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Deed } from './deed.js';
import { Icon } from './icon.js';
import { Block } from './page.js';
import { Dialog, Field } from './dialog.js';
import { State } from './state.js';
import { Table } from './table.js';
import { RefLink, Time } from './values.js';
import { useResource } from './use.js';
import { api, enc, post, remove } from '../lib/api.js';
import { plural } from '../lib/format.js';
import { conditionsOf, conditionsText, ruleOf } from '../lib/starts.js';
import { typed } from '../lib/steps.js';
import { sayError } from '../lib/store.js';

const ENDED = ['succeeded', 'failed', 'cancelled'];

/** @param {{pipeline?: string, params?: Record<string, any>}} props */
export function Starts({ pipeline, params = {} }) {
  const schedules = useResource('/schedules?limit=100', { kinds: ['schedule.', 'pipeline_run.submitted'] });
  const triggers = useResource('/triggers?limit=100', { kinds: ['trigger.', 'pipeline_run.submitted'] });
  const [asking, setAsking] = useState(/** @type {any} */ (null));
  const mine = (/** @type {any} */ x) => !pipeline || x.pipeline === pipeline;
  const rows = [...(triggers.data?.items ?? []).filter(mine).map((/** @type {any} */ t) => ({ ...t, at: `/triggers/${enc(t.name)}` })), ...(schedules.data?.items ?? []).filter(mine).map((/** @type {any} */ s) => ({ ...s, at: `/schedules/${enc(s.name)}` }))];
  const reload = () => { schedules.reload(); triggers.reload(); };
  const turn = async (/** @type {any} */ r) => { try { await api(r.at, { method: 'PATCH', body: { is_enabled: !r.is_enabled } }); reload(); } catch (e) { sayError(e); } };
  const old = asking?.what === 'remove' ? null : asking?.row;  // what is changed; nothing when one is made
  const keep = (/** @type {string} */ path, /** @type {any} */ body) => (old ? api(old.at, { method: 'PUT', body: { ...body, is_enabled: old.is_enabled } }) : post(path, body));
  if (!rows.length && !pipeline) return null;
  const buttons = pipeline && html`<span class="row"><${Deed} may="trigger.write" on=${`pipeline:${pipeline}`} class="button small" onClick=${() => setAsking({ what: 'schedule' })}><${Icon} name="clock" small />At a time…<//><${Deed} may="trigger.write" on=${`pipeline:${pipeline}`} class="button small" onClick=${() => setAsking({ what: 'trigger' })}><${Icon} name="bell" small />When something happens…<//></span>`;
  return html`<${Block} title="Starts by itself" actions=${buttons}>${rows.length ? html`<${Table} label="Schedules and triggers" rows=${rows} rowKey=${(/** @type {any} */ r) => r.at} columns=${[
    { key: 'n', label: 'Name', cell: (r) => r.name }, ...(pipeline ? [] : [{ key: 'p', label: 'Pipeline', cell: (/** @type {any} */ r) => html`<${RefLink} to=${`pipeline:${r.pipeline}`} />` }]), { key: 'r', label: 'Rule', prose: true, cell: (r) => { const [word, rule] = ruleOf(r); return html`<span class="muted">${word}</span> <code>${rule}</code>`; } },
    { key: 'on', label: 'State', cell: (r) => html`<${Deed} may="trigger.write" on=${`pipeline:${r.pipeline}`} class="button small" aria-pressed=${r.is_enabled} aria-label=${`${r.name} is ${r.is_enabled ? 'on' : 'off'}; turn it ${r.is_enabled ? 'off' : 'on'}`} onClick=${() => turn(r)}><${State} of=${r.is_enabled ? 'enabled' : 'paused'} word=${r.is_enabled ? 'on' : 'off'} /><//>` },
    { key: 'next', label: 'Next', cell: (r) => (r.next_at_ms && r.is_enabled ? html`<${Time} at=${r.next_at_ms} />` : '') }, { key: 'last', label: 'Last', cell: (r) => (r.last_run_id ? html`<a href=${`/pipeline-runs/${r.last_run_id}`}><${Time} at=${r.last_at_ms} /></a>` : html`<span class="muted">never</span>`) },
    { key: 'e', label: '', prose: true, cell: (r) => (r.error ? html`<span class="bad">${r.error}</span>` : r.is_declared ? html`<span class="muted">from the code</span>` : r.skipped ? html`<span class="muted">${r.skipped} in the cool-down</span>` : '') },
    { key: 'x', label: '', cell: (r) => (r.is_declared ? '' : html`<span class="row">${pipeline && !r.files && !r.is_hook && html`<${Deed} may="trigger.write" on=${`pipeline:${r.pipeline}`} class="button plain small" aria-label=${`Change ${r.name}`} onClick=${() => setAsking({ what: r.cron ? 'schedule' : 'trigger', row: r })}>Change…<//>`}<${Deed} may="trigger.write" on=${`pipeline:${r.pipeline}`} class="button plain small" onClick=${() => setAsking({ what: 'remove', row: r })}><${Icon} name="x" small label=${`Remove ${r.name}`} /><//></span>`) }]} />` : html`<p class="muted">Only people start it.</p>`}<//>
    ${asking?.what === 'remove' && html`<${Dialog} title=${`Remove ${asking.row.name}`} deed="Remove" danger done="Removed" onClose=${() => setAsking(null)} act=${async () => { await remove(asking.row.at); reload(); }}><p class="quiet">Runs that it started stay.</p><//>`}
    ${asking?.what === 'schedule' && html`<${Dialog} title=${old ? `Change ${old.name}` : `Run ${pipeline} at a time`} deed=${old ? 'Change it' : 'Make the schedule'} done=${old ? 'The schedule is changed' : 'The schedule is on'} onClose=${() => setAsking(null)} act=${async (/** @type {FormData} */ f) => { await keep('/schedules', { name: old ? old.name : f.get('name'), pipeline, cron: f.get('cron'), time_zone: f.get('zone'), catch_up: f.get('catch'), params: given(f, params) }); reload(); }}>
      ${!old && html`<${Field} label="Name" name="name" required value=${`${pipeline}-nightly`} />`}<${Field} label="Cron" name="cron" required value=${old?.cron ?? '0 3 * * *'} hint="Minute, hour, day of the month, month, day of the week" /><${Field} label="Time zone" name="zone" required value=${old?.time_zone ?? Intl.DateTimeFormat().resolvedOptions().timeZone ?? 'UTC'} /><${Field} label="Times that pass while no server runs" as="select" name="catch" value=${old?.catch_up ?? 'latest'} options=${[['latest', 'run the latest of them'], ['all', 'run all of them'], ['none', 'run none of them']]} /><${Params} params=${params} values=${old?.params} hint="\${date} and \${at} are the time in its zone" /><//>`}
    ${asking?.what === 'trigger' && html`<${Dialog} title=${old ? `Change ${old.name}` : `Run ${pipeline} when something happens`} deed=${old ? 'Change it' : 'Make the trigger'} done=${old ? 'The trigger is changed' : 'The trigger is on'} onClose=${() => setAsking(null)} act=${async (/** @type {FormData} */ f) => { await keep('/triggers', { name: old ? old.name : f.get('name'), pipeline, kinds: String(f.get('kinds')).split(/[,\s]+/).filter(Boolean), filter: conditionsOf(String(f.get('filter') ?? '')), cooldown_s: Number(f.get('cool') || 0) * 60, params: given(f, params) }); reload(); }}>
      ${!old && html`<${Field} label="Name" name="name" required value=${`${pipeline}-on-data`} />`}<${Field} label="Kinds of facts" name="kinds" required value=${old ? old.kinds.join(', ') : 'dataset_version.committed'} hint="For instance dataset_version.committed, alert.opened, model_version.promoted; the manual lists all" /><${Field} label="Only if" name="filter" value=${old ? conditionsText(old.filter) : ''} placeholder="data.dataset = customers" hint="Conditions on subject or data.<name>, joined with and" /><${Field} label="Cool-down, minutes" name="cool" type="number" min="0" value=${old ? old.cooldown_s / 60 : 0} /><${Params} params=${params} values=${old?.params} hint="\${subject} and \${data.<name>} are parts of the fact" /><//>`}`;
}

/** @param {{params: Record<string, any>, hint: string, values?: Record<string, any>}} props */
function Params({ params, hint, values = {} }) {
  return Object.keys(params).map((k, i) => html`<${Field} key=${k} label=${k} name=${`p.${k}`} value=${k in values ? (typeof values[k] === 'string' ? values[k] : JSON.stringify(values[k])) : ''} placeholder=${JSON.stringify(params[k].default ?? null)} required=${params[k].required} hint=${i === 0 ? hint : ''} />`);
}

/** @param {FormData} form @param {Record<string, any>} params */
function given(form, params) {
  return Object.fromEntries(Object.keys(params).map((k) => [k, String(form.get(`p.${k}`) ?? '')]).filter(([, v]) => v !== '').map(([k, v]) => [k, typed(v)]));
}

/** Runs of a pipeline for many dates. @param {{pipeline: string, params?: Record<string, any>}} props */
export function Backfills({ pipeline, params = {} }) {
  const list = useResource(`/backfills?pipeline=${enc(pipeline)}&limit=20`, { kinds: ['backfill.', 'pipeline_run.'], every: 10_000 });
  const [asking, setAsking] = useState(false);
  const names = Object.keys(params), rows = list.data?.items ?? [];
  const cancel = async (/** @type {any} */ b) => { try { await post(`/backfills/${enc(b.id)}/cancel`); list.reload(); } catch (e) { sayError(e); } };
  if (!names.length && !rows.length) return null;
  return html`<${Block} title="Backfills" actions=${names.length > 0 && html`<${Deed} may="pipeline.run" on=${`pipeline:${pipeline}`} class="button small" onClick=${() => setAsking(true)}><${Icon} name="history" small />For many dates…<//>`}>${rows.length ? html`<${Table} label="Backfills" rows=${rows} columns=${[
    { key: 'r', label: 'Dates', cell: (b) => `${b.first} to ${b.last}, each ${b.step}, as ${b.param}` }, { key: 's', label: 'State', cell: (b) => html`<${State} of=${b.state} />` },
    { key: 'c', label: 'Done', prose: true, cell: (b) => Object.entries(b.counts).map(([k, v]) => `${v} ${k}`).join(', ') }, { key: 'p', label: 'At once', num: true, cell: (b) => b.parallel }, { key: 'at', label: 'Asked for', cell: (b) => html`<${Time} at=${b.created_at_ms} />` },
    { key: 'e', label: '', cell: (b) => (b.error ? html`<span class="bad">${b.error}</span>` : ENDED.includes(b.state) ? '' : html`<${Deed} may="pipeline.cancel" on=${`pipeline:${b.pipeline}`} class="button small" onClick=${() => cancel(b)}>Cancel<//>`) }]} />` : html`<p class="muted">None yet. A backfill runs the pipeline once for each date, a few at a time, and no date twice.</p>`}<//>
    ${asking && html`<${Dialog} title=${`Run ${pipeline} for many dates`} deed="Begin" done="The backfill has begun" onClose=${() => setAsking(false)} act=${async (/** @type {FormData} */ f) => { await post(`/pipelines/${enc(pipeline)}/backfills`, { param: f.get('param'), first: f.get('first'), last: f.get('last'), step: f.get('step'), parallel: Number(f.get('parallel')) }); list.reload(); }}>
      <${Field} label="The parameter that takes the date" as="select" name="param" options=${names} /><${Field} label="First" name="first" type="date" required /><${Field} label="Last" name="last" type="date" required /><${Field} label="One run for each" as="select" name="step" options=${['day', 'week', 'hour']} /><${Field} label="At once" name="parallel" type="number" min="1" max="100" value="2" hint=${plural(rows.length, 'backfill')} /><//>`}`;
}
