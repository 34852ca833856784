// @ts-check
/** What an endpoint answered, in SQL; what of it is written, and in which files it lies. */

import { useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Icon } from '../components/icon.js';
import { Page, Block } from '../components/page.js';
import { Table } from '../components/table.js';
import { Problem, Show } from '../components/empty.js';
import { Kv, Time } from '../components/values.js';
import { useCommands, useResource } from '../components/use.js';
import { enc, post } from '../lib/api.js';
import { bytes, count, duration, num, percent } from '../lib/format.js';

const FIRST = 'select model_version, count(*) as answers, count(truth) as labelled, avg(score) as score\n  from predictions\n group by model_version\n order by model_version';

/** @param {any} props */
export default function Predictions({ params, query, setQuery }) {
  const { endpoint: name } = params;
  const [sql, setSql] = useState(query.get('sql') ?? FIRST);
  const [found, setFound] = useState(/** @type {any} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);
  const policy = useResource(`/endpoints/${enc(name)}/recording`, { kinds: ['recording.'] });
  const files = useResource(`/endpoints/${enc(name)}/log?limit=200`, { kinds: ['log.'] });
  const run = async () => {
    setBusy(true); setError(null);
    try { setFound(await post(`/endpoints/${enc(name)}/query`, { sql, limit: 500 })); setQuery({ sql: sql === FIRST ? null : sql }); } catch (problem) { setError(problem); } finally { setBusy(false); }
  };
  useCommands([{ id: 'run.sql', title: 'Run the query', icon: 'play', group: 'Predictions', run }]);
  return html`<${Page} crumbs=${[['Endpoints', '/endpoints'], [name, `/endpoints/${enc(name)}`], ['Predictions']]} loading=${busy}>
    <${Block} title="Ask in SQL" actions=${html`<span class="muted">one select over <code>predictions</code>; Ctrl+Enter runs it</span>`}>
      <form class="stack" onSubmit=${(/** @type {any} */ e) => { e.preventDefault(); run(); }}>
        <label class="field"><span class="sr">SQL</span><textarea class="input mono" rows="6" spellcheck=${false} value=${sql} onInput=${(/** @type {any} */ e) => setSql(e.currentTarget.value)} onKeyDown=${(/** @type {any} */ e) => { if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) { e.preventDefault(); run(); } }}></textarea></label>
        <div class="row wrap"><button type="submit" class="button primary" disabled=${busy}><${Icon} name="play" />Run</button>${found && html`<span class="quiet">${count(found.rows.length)} ${found.rows.length === 1 ? 'row' : 'rows'}${found.is_truncated ? ', and more that are not shown' : ''}, in ${duration(found.took_ms)}</span>`}</div>
      </form>
      ${error && html`<${Problem} error=${error} />`}
      ${found && !error && html`<${Answer} of=${found} />`}<//>
    <${Block} title="What is written"><${Show} of=${policy}>${(/** @type {any} */ p) => html`<${Kv} class="facts" items=${facts(p)} />`}<//><//>
    <${Block} title="Files" count=${files.data?.items.length}><${Show} of=${files}>${(/** @type {any} */ a) => (a.items.length === 0 ? html`<p class="muted">Answers become files when the hour in which they came is over. They can be asked before.</p>` : html`<${Table} label="Files of the log" rows=${[...a.items].reverse()} columns=${[
      { key: 'at', label: 'Arrived', cell: (f) => html`<${Time} at=${f.from_ms} absolute />`, sort: (f) => f.from_ms }, { key: 'k', label: 'Holds', cell: (f) => (f.kind === 'truth' ? 'truth' : 'answers') }, { key: 'r', label: 'Rows', num: true, cell: (f) => count(f.rows), sort: (f) => f.rows }, { key: 's', label: 'Size', num: true, cell: (f) => bytes(f.size_bytes), sort: (f) => f.size_bytes }, { key: 'd', label: 'Digest', cell: (f) => html`<code>${f.digest.slice(0, 12)}</code>` }]} />`)}<//><//>
  <//>`;
}

/** @param {any} p @returns {[string, any][]} */
function facts(p) {
  const columns = Object.entries(p.columns).map(([c, way]) => `${c}: ${way}`).join(', ');
  return [['Answers', p.sample === 1 ? 'all' : percent(p.sample)], ['Inputs', p.inputs === 'none' ? 'none' : columns || 'as they come'], ['Keys', p.key === 'hash' ? 'hashed' : 'as they come'],
    ['Kept', [p.keep_days === null ? '' : `${num(p.keep_days)} days`, p.keep_rows === null ? '' : `the latest ${count(p.keep_rows)}`].filter(Boolean).join(', ') || 'for ever'], ...(p.hold ? [/** @type {[string, any]} */ (['Hold', html`<span class="warn">${p.hold}</span>`])] : [])];
}

/** @param {{of: any}} props */
function Answer({ of }) {
  if (of.rows.length === 0) return html`<p class="muted">No row is like that.</p>`;
  return html`<${Table} label="Rows" rows=${of.rows} rowKey=${(/** @type {any} */ _, /** @type {number} */ i) => i} href=${of.columns[0].name === 'prediction_id' ? (/** @type {any} */ r) => (r[0] ? `/passports/${enc(r[0])}` : null) : undefined} columns=${of.columns.map((/** @type {any} */ c, /** @type {number} */ i) => ({
    key: `${i}`, label: c.name, num: /INT|DOUBLE|FLOAT|DECIMAL/.test(c.type) && !c.type.endsWith(']'), sort: (/** @type {any} */ r) => r[i],
    cell: (/** @type {any} */ r) => (r[i] === null ? html`<span class="muted">–</span>` : typeof r[i] === 'number' ? num(r[i]) : typeof r[i] === 'object' ? JSON.stringify(r[i]) : String(r[i])) }))} />`;
}
