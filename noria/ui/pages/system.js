// @ts-check
/** One system: what is said of it, what checks found, its technical file, its evidence from elsewhere, its incidents. */

import { useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Deed } from '../components/deed.js';
import { Icon } from '../components/icon.js';
import { Block, Page } from '../components/page.js';
import { Command, Show } from '../components/empty.js';
import { Dialog, Field } from '../components/dialog.js';
import { Findings, NotMeasured } from '../components/findings.js';
import { State } from '../components/state.js';
import { SystemForm } from '../components/system-form.js';
import { Table } from '../components/table.js';
import { Tabs } from '../components/tabs.js';
import { TechnicalFile } from '../components/technical-file.js';
import { Kv, RefLink, Time, Who } from '../components/values.js';
import { useResource } from '../components/use.js';
import { enc, post, remove } from '../lib/api.js';
import { due, gaps } from '../lib/compliance.js';
import { now, sayError } from '../lib/store.js';

/** @param {any} props */
export default function System({ params, query, setQuery, go }) {
  const name = params.system, at = `/compliance/${enc(name)}`;
  const found = useResource(at, { kinds: ['compliance.', 'waiver.', 'system.'] }), catalogue = useResource('/compliance/checks');
  const people = useResource('/principals?limit=500');
  const [waiving, setWaiving] = useState(/** @type {any} */ (null)), [editing, setEditing] = useState(false), [busy, setBusy] = useState(false);
  const system = found.data?.system, tab = query.get('tab') ?? 'checks';
  const measure = () => { setBusy(true); post(`${at}/evaluate`, {}).then(found.reload, sayError).finally(() => setBusy(false)); };
  const checks = () => html`<${Show} of=${found}>${(/** @type {any} */ a) => html`<${Show} of=${catalogue}>${(/** @type {any} */ c) => (a.findings.length ? html`<${Findings} of=${a} checks=${c.checks} frameworks=${c.frameworks} open=${query.get('check') ?? ''} onOpen=${(/** @type {string | null} */ id) => setQuery({ check: id })} onWaive=${setWaiving} onRevoke=${(/** @type {any} */ w) => remove(`/waivers/${enc(w.id)}`).then(found.reload, sayError)} />` : html`<${NotMeasured} name=${name} />`)}<//>`}<//>`;
  const tabs = [{ id: 'checks', label: 'Checks', count: found.data?.findings.filter((/** @type {any} */ f) => f.state === 'fail').length || null, body: checks }];
  if (system) tabs.push({ id: 'file', label: 'Technical file', count: null, body: () => html`<${TechnicalFile} name=${name} />` }, { id: 'reports', label: 'Evidence from elsewhere', count: null, body: () => html`<${Reports} name=${name} />` }, { id: 'incidents', label: 'Incidents', count: null, body: () => html`<${Incidents} name=${name} />` });
  const missing = system ? gaps(system.spec) : [];
  return html`<${Page} crumbs=${[['Compliance', '/compliance'], [system ? system.spec.title || name : name === 'installation' ? 'The whole installation' : name]]} loading=${found.loading} actions=${html`<span class="row"><${Deed} may="compliance.write" on=${`system:${name}`} class="button" disabled=${busy} onClick=${measure}><${Icon} name="rotate-ccw" />Measure now<//>${system && html`<${Deed} may="compliance.write" on=${`system:${name}`} class="button" onClick=${() => setEditing(true)}>Describe…<//>`}</span>`}>
    ${system && html`<div class="stack">${missing.length > 0 && html`<div class="notice warn"><${Icon} name="triangle-alert" /><span>Not said yet: ${missing.join(', ')}.</span></div>`}
      <${Kv} class="facts" items=${[['Owner', system.spec.owner], ['Risk', `${system.spec.risk}${system.spec.risk_reason ? `: ${system.spec.risk_reason}` : ''}`], ['Personal data', system.spec.personal_data], ['Health data', system.spec.health_data], ['Sector', system.spec.sector], ['Members', system.spec.members.map((/** @type {string} */ m, /** @type {number} */ i) => html`${i ? ', ' : ''}<${RefLink} to=${m} label=${m} key=${m} />`)]]} />
      ${system.spec.purpose && html`<p>${system.spec.purpose}</p>`}</div>`}
    ${tabs.length > 1 ? html`<${Tabs} label="Of the system" value=${tab} onChange=${(/** @type {string} */ t) => setQuery({ tab: t === 'checks' ? null : t, check: null })} tabs=${tabs} />` : checks()}
    ${waiving && html`<${Dialog} title=${`Waive ${waiving.id}: ${waiving.title}`} deed="Waive it" done="Waived" onClose=${() => setWaiving(null)} act=${async (/** @type {FormData} */ f) => { await post(`${at}/waivers`, { check: waiving.id, reason: String(f.get('reason')), days: Number(f.get('days')) }); found.reload(); }}><p class="quiet">The check stays measured, and is shown as waived until then. Your name and the reason stay on record.</p><${Field} as="textarea" label="Why, and where that was decided" name="reason" required minlength="10" /><${Field} label="For how many days" name="days" type="number" min="1" max="366" defaultValue="30" required /><//>`}
    ${editing && html`<${SystemForm} system=${system} people=${people.data?.items ?? []} things=${[]} onClose=${() => setEditing(false)} onSaved=${() => { found.reload(); go(`/compliance/${enc(name)}`); }} />`}
  <//>`;
}

/** @param {{name: string}} props */
function Reports({ name }) {
  const list = useResource(`/systems/${enc(name)}/reports`, { kinds: ['system.'] });
  const [adding, setAdding] = useState(false);
  return html`<${Block} title="Documents that are evidence" actions=${html`<${Deed} may="compliance.write" on=${`system:${name}`} class="button" onClick=${() => setAdding(true)}><${Icon} name="plus" />Attach…<//>`}>
    <${Show} of=${list}>${(/** @type {any} */ a) => (a.items.length ? html`<${Table} label="Reports" rows=${a.items} columns=${[{ key: 't', label: 'Report', cell: (r) => (/^https?:/.test(r.uri) ? html`<a href=${r.uri} rel="noopener noreferrer" target="_blank" data-external>${r.title}</a>` : r.title) }, { key: 'k', label: 'On', cell: (r) => r.kind.replaceAll('_', ' ') }, { key: 'n', label: 'Counted', cell: (r) => Object.entries(r.numbers).map(([k, v]) => `${k} ${v}`).join(', ') || '–' }, { key: 'd', label: 'Dated', cell: (r) => html`<${Time} at=${r.dated_at_ms} />` }, { key: 'u', label: 'Where', cell: (r) => html`<span class="breaks">${r.uri}</span>` }, { key: 'by', label: 'Attached by', cell: (r) => html`<${Who} of=${r.actor} />` }]} />` : html`<p class="muted">Nothing is attached. What Noria cannot measure itself – attacks, vulnerabilities, a test of the stop – is attached as a dated report.</p><${Command} text=${`noria system report ${name} --kind robustness --title "Attack report" --uri https://docs.example.com/7`} />`)}<//>
    ${adding && html`<${Dialog} title="Attach a report" deed="Attach it for good" done="Attached" onClose=${() => setAdding(false)} act=${async (/** @type {FormData} */ f) => { const kind = String(f.get('kind')); await post(`/systems/${enc(name)}/reports`, { kind, title: String(f.get('title')), uri: String(f.get('uri')), dated_at_ms: Date.parse(String(f.get('date'))), numbers: kind === 'vulnerabilities' ? { critical: Number(f.get('critical')) } : {} }); list.reload(); }}>
      <${Field} as="select" label="On" name="kind" options=${[['robustness', 'robustness'], ['stop_test', 'a test of the stop'], ['vulnerabilities', 'vulnerabilities'], ['validation', 'validation'], ['other', 'something else']]} /><${Field} label="Title" name="title" required /><${Field} label="Where it is" name="uri" required placeholder="https://…" /><div class="halves"><${Field} label="Made on" name="date" type="date" required /><${Field} label="Critical ones (vulnerabilities)" name="critical" type="number" min="0" defaultValue="0" /></div><//>`}<//>`;
}

/** @param {{name: string}} props */
function Incidents({ name }) {
  const list = useResource(`/systems/${enc(name)}/incidents`, { kinds: ['incident.'] });
  const [asking, setAsking] = useState(/** @type {{what: 'open' | 'report' | 'close', of?: any} | null} */ (null));
  const stateOf = (/** @type {any} */ i) => (i.closed_at_ms ? ['completed', 'closed'] : i.reported_at_ms ? ['running', 'reported'] : !i.due_at_ms ? ['pending', 'open'] : i.due_at_ms < now.value ? ['alert', 'overdue'] : ['pending', `due ${due(i.due_at_ms, now.value)}`]);
  return html`<${Block} title="Serious incidents" actions=${html`<${Deed} may="compliance.write" on=${`system:${name}`} class="button" onClick=${() => setAsking({ what: 'open' })}><${Icon} name="plus" />Note an incident…<//>`}>
    <${Show} of=${list}>${(/** @type {any} */ a) => (a.items.length ? html`<${Table} label="Incidents" rows=${a.items} columns=${[{ key: 't', label: 'Incident', prose: true, cell: (i) => html`<b>${i.title}</b>${i.description && html`<br />${i.description}`}${i.resolution && html`<br /><span class="muted">${i.resolution}</span>`}` }, { key: 's', label: 'Severity', cell: (i) => i.severity }, { key: 'x', label: 'State', cell: (i) => { const [of, word] = stateOf(i); return html`<${State} of=${of} word=${word} />`; } }, { key: 'a', label: 'Known since', cell: (i) => html`<${Time} at=${i.aware_at_ms} />` }, { key: 'r', label: 'Reported', cell: (i) => (i.reported_at_ms ? html`<${Time} at=${i.reported_at_ms} /> <span class="muted">${i.reported_to}</span>` : '–') }, { key: 'd', label: '', cell: (i) => html`<span class="row">${!i.reported_at_ms && i.due_at_ms && html`<${Deed} may="compliance.write" on=${`system:${name}`} class="button small" onClick=${() => setAsking({ what: 'report', of: i })}>Reported…<//>`}${!i.closed_at_ms && (i.reported_at_ms || !i.due_at_ms) && html`<${Deed} may="compliance.write" on=${`system:${name}`} class="button small" onClick=${() => setAsking({ what: 'close', of: i })}>Close…<//>`}</span>` }]} />` : html`<p class="muted">No incident is on record. A serious one has to be reported within 15 days, a widespread one within 2, after a death within 10 (EU AI Act, Article 73).</p>`)}<//>
    ${asking?.what === 'open' && html`<${Dialog} title="Note an incident" deed="Note it" done="Noted" onClose=${() => setAsking(null)} act=${async (/** @type {FormData} */ f) => { await post(`/systems/${enc(name)}/incidents`, { title: String(f.get('title')), severity: String(f.get('severity')), description: String(f.get('description')) }); list.reload(); }}><${Field} label="What happened" name="title" required /><${Field} as="select" label="Severity" name="severity" options=${[['serious', 'serious: 15 days'], ['widespread', 'widespread: 2 days'], ['death', 'a death: 10 days'], ['other', 'other: need not be reported']]} /><${Field} as="textarea" label="More" name="description" /><//>`}
    ${asking?.what === 'report' && html`<${Dialog} title=${`Reported: ${asking.of.title}`} deed="It was reported now" done="On record" onClose=${() => setAsking(null)} act=${async (/** @type {FormData} */ f) => { await post(`/incidents/${enc(asking.of.id)}/report`, { to: String(f.get('to')) }); list.reload(); }}><${Field} label="To whom" name="to" required /><//>`}
    ${asking?.what === 'close' && html`<${Dialog} title=${`Close: ${asking.of.title}`} deed="Close it" done="Closed" onClose=${() => setAsking(null)} act=${async (/** @type {FormData} */ f) => { await post(`/incidents/${enc(asking.of.id)}/close`, { resolution: String(f.get('resolution')) }); list.reload(); }}><${Field} as="textarea" label="What was done about it" name="resolution" required /><//>`}<//>`;
}
