// @ts-check
/** What happened, by whom, and because of what; and whether the record is whole. */

import { useEffect, useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Icon } from '../components/icon.js';
import { Page, Block } from '../components/page.js';
import { Empty, Problem, Show } from '../components/empty.js';
import { Sheet } from '../components/sheet.js';
import { Table } from '../components/table.js';
import { State, Glyph } from '../components/state.js';
import { Timeline } from '../components/timeline.js';
import { JsonView } from '../components/json-view.js';
import { sentenceOf, toneOfFact } from '../components/fact.js';
import { FactProof } from '../components/fact-proof.js';
import { Id, Kv, RefLink, Time, Who } from '../components/values.js';
import { useLive, useResource } from '../components/use.js';
import { api, post, withQuery } from '../lib/api.js';
import { count, plural } from '../lib/format.js';
import { sayError } from '../lib/store.js';

const KINDS = ['run', 'experiment', 'dataset', 'dataset_version', 'model', 'model_version', 'pipeline_run', 'endpoint', 'revision', 'canary', 'alert', 'monitor', 'window', 'approval', 'policy', 'loop', 'webhook', 'principal', 'group', 'member', 'role', 'grant', 'token', 'session', 'sign_in', 'access', 'project', 'label', 'clearance', 'sensitive', 'erasure', 'subject', 'key', 'audit'];

/** @param {any} props */
export default function Audit({ query, setQuery }) {
  const kinds = query.get('kinds') ?? '', subject = query.get('subject') ?? '', actor = query.get('actor') ?? '', seq = query.get('seq'), from = query.get('from') ?? '', to = query.get('to') ?? '';
  const day = (/** @type {string} */ text, /** @type {number} */ plus) => (text && !Number.isNaN(Date.parse(`${text}T00:00:00Z`)) ? Date.parse(`${text}T00:00:00Z`) + plus : null), fromMs = day(from, 0), toMs = day(to, 86_400_000);
  const [items, setItems] = useState(/** @type {any[]} */ ([]));
  const [next, setNext] = useState(/** @type {string | null} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  const [reading, setReading] = useState(true);
  const ask = (/** @type {string | null} */ before) => api(withQuery('/audit', { kinds: !kinds ? '' : kinds.includes('.') ? kinds : `${kinds}.*`, subject, actor, from_ms: fromMs, to_ms: toMs, page: before, limit: 100 }));
  useEffect(() => { let gone = false; setReading(true); setError(null); ask(null).then((a) => { if (!gone) { setItems(a.items); setNext(a.next); } }, (e) => { if (!gone) { setError(e); setItems([]); } }).finally(() => { if (!gone) setReading(false); }); return () => { gone = true; }; }, [kinds, subject, actor, fromMs, toMs]);
  useLive({ fact: (/** @type {any} */ f) => { if ((!kinds || f.kind === kinds || f.kind.startsWith(`${kinds}.`)) && (!fromMs || f.at_ms >= fromMs) && (!toMs || f.at_ms < toMs) && (!subject || f.subject === subject) && (!actor || f.actor === actor)) setItems((was) => (was[0]?.seq >= f.seq ? was : [f, ...was].slice(0, 2000))); } });
  const more = async () => { try { const a = await ask(next); setItems([...items, ...a.items]); setNext(a.next); } catch (e) { sayError(e); } };
  return html`<${Page} crumbs=${[['Audit']]} loading=${reading} actions=${html`<a class="button" href="/approvals"><${Icon} name="shield-check" />Approvals</a>`}>
    <${Seal} />
    <${Block} title="The record" actions=${html`
      <label><span class="sr">Kind</span><select class="select" value=${kinds} onChange=${(/** @type {any} */ e) => setQuery({ kinds: e.currentTarget.value })}><option value="">Every kind</option>${kinds.includes('.') && html`<option value=${kinds} selected>${kinds}</option>`}${KINDS.map((k) => html`<option key=${k} value=${k} selected=${k === kinds}>${k.replaceAll('_', ' ')}</option>`)}</select></label>
      <input class="input" aria-label="Subject" placeholder="subject, run:0197…" value=${subject} onChange=${(/** @type {any} */ e) => setQuery({ subject: e.currentTarget.value.trim() })} /><input class="input" aria-label="Actor" placeholder="actor, user:ada" value=${actor} onChange=${(/** @type {any} */ e) => setQuery({ actor: e.currentTarget.value.trim() })} />
      <label class="inline">from <input class="input" type="date" aria-label="From this day (UTC)" value=${from} onChange=${(/** @type {any} */ e) => setQuery({ from: e.currentTarget.value || null })} /></label><label class="inline">to <input class="input" type="date" aria-label="To this day (UTC)" value=${to} onChange=${(/** @type {any} */ e) => setQuery({ to: e.currentTarget.value || null })} /></label>`}>
      ${error && html`<${Problem} error=${error} />`}
      ${!reading && !error && items.length === 0 && html`<${Empty} icon="scroll-text" title=${kinds || subject || actor || from || to ? 'Nothing in the record matches.' : 'The record is empty.'} text="Every change is written here by the transaction that makes it, with who, when and because of what." />`}
      ${items.length > 0 && html`<${Table} keys label="Facts" rows=${items} selected=${seq ? Number(seq) : undefined} rowKey=${(/** @type {any} */ f) => f.seq} columns=${[
        { key: 'seq', label: 'Fact', num: false, cell: (f) => html`<button type="button" class="th-button mono" onClick=${() => setQuery({ seq: String(f.seq) })}>${f.seq}</button>` }, { key: 'at', label: 'When', cell: (f) => html`<${Time} at=${f.at_ms} />` },
        { key: 'k', label: 'Kind', cell: (f) => html`<span class=${`state ${toneOfFact(f)}`}><${Glyph} tone=${toneOfFact(f)} /><button type="button" onClick=${() => setQuery({ kinds: f.kind })}>${f.kind}</button></span>` }, { key: 'what', label: 'What', prose: true, cell: (f) => sentenceOf(f) }, { key: 'c', label: 'Because of', cell: (f) => (f.cause ? html`<button type="button" class="mono" onClick=${() => setQuery({ seq: String(f.cause) })}>${f.cause}</button>` : '') }]} />
        ${next && html`<button type="button" class="button" onClick=${more}>Read older facts</button>`}`}<//>
    ${seq && html`<${FactSheet} seq=${Number(seq)} known=${items.find((f) => f.seq === Number(seq))} onClose=${() => setQuery({ seq: null })} setQuery=${setQuery} />`}
  <//>`;
}

/** @param {any} props */
function FactSheet({ seq, known, onClose, setQuery }) {
  const chain = useResource(`/events/${seq}/chain`);
  const fact = chain.data?.items?.find((/** @type {any} */ f) => f.seq === seq) ?? known;
  return html`<${Sheet} title=${`Fact ${seq}`} onClose=${onClose}>${fact ? html`<div class="stack loose"><p class="prose">${sentenceOf(fact)}</p>
      <${Kv} items=${[['Kind', html`<code>${fact.kind}</code>`], ['Subject', html`<button type="button" onClick=${() => setQuery({ subject: fact.subject, seq: null })} class="mono">${fact.subject}</button>`], ['', html`<${RefLink} to=${fact.subject} />`], ['Actor', html`<${Who} of=${fact.actor} />`], ['At', html`<${Time} at=${fact.at_ms} absolute />`], ['Operation', html`<${Id} value=${fact.op_id} full />`]]} />
      <${FactProof} key=${seq} seq=${seq} />
      <section class="stack"><h3>What it says</h3><${JsonView} value=${fact.data} /></section>
      ${chain.data?.items?.length > 1 && html`<section class="stack"><h3>What led to it</h3><${Timeline} label="Chain of causes" items=${chain.data.items.map((/** @type {any} */ f) => ({ key: f.seq, tone: f.seq === seq ? 'running' : toneOfFact(f), at: f.at_ms, what: sentenceOf(f), why: html`<button type="button" onClick=${() => setQuery({ seq: String(f.seq) })}>fact ${f.seq}</button>` }))} /></section>`}</div>` : html`<${Show} of=${chain}>${() => ''}<//>`}<//>`;
}

/** How far the record is sealed, and the button that checks it. */
function Seal() {
  const status = useResource('/audit/status', { every: 15_000 });
  const [report, setReport] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);
  const verify = async () => { setBusy(true); try { setReport(await post('/audit/verify')); } catch (e) { sayError(e); } finally { setBusy(false); } };
  const s = status.data, point = s?.checkpoint;
  if (status.error && !s) return null;
  return html`<div class="card">${s?.problem && html`<div class="notice bad"><${Icon} name="triangle-alert" /><span>Nothing is sealed any more: ${s.problem} Work goes on; what happens meanwhile is sealed later.</span></div>`}<div class="row wrap loose"><${State} of="sealed" word=${s ? `${count(s.sealed ?? point?.size ?? 0)} of ${plural(s.facts ?? 0, 'fact')} sealed` : 'reading'} />
      ${point && html`<span class="quiet">checkpoint of ${count(point.size)} <${Time} at=${point.at_ms} /></span><span class="muted">root <${Id} value=${point.root} /></span>`}
      <button type="button" class="button small end" onClick=${verify} disabled=${busy}>${busy ? 'Reading every fact…' : 'Verify now'}</button></div>
    ${report && html`<div class=${`notice ${report.is_intact ? 'ok' : 'bad'}`} role="status"><${Icon} name=${report.is_intact ? 'shield-check' : 'shield-x'} /><div class="stack tight"><span>${report.is_intact ? html`The record is whole: ${plural(report.facts, 'fact')} read again, ${count(report.sealed)} sealed, in ${report.took_ms} ms.` : 'The record has been damaged.'}</span>${[...report.faults, ...report.warnings].map((/** @type {any} */ f) => html`<small key=${f.message}>${f.seq ? `fact ${f.seq}: ` : ''}${f.message}</small>`)}</div></div>`}
    ${point?.note && html`<details><summary class="quiet">The signed note</summary><pre class="code" tabindex="0">${point.note}</pre><p class="caption">Others verify it without Noria: <code>noria audit verify</code> shows how.</p></details>`}</div>`;
}
