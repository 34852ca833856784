// @ts-check
/** One model version: the lineage strip, gates with their reasons, numbers against the champion, its names over time, its files. */

import { useState } from 'preact/hooks';
import { html } from '../components/html.js';
import { Deed } from '../components/deed.js';
import { Icon } from '../components/icon.js';
import { Page, Block } from '../components/page.js';
import { Table } from '../components/table.js';
import { Tabs } from '../components/tabs.js';
import { Show } from '../components/empty.js';
import { Aliases, Tags } from '../components/chips.js';
import { Strip } from '../components/strip.js';
import { Glyph, State } from '../components/state.js';
import { Timeline } from '../components/timeline.js';
import { Against } from '../components/against.js';
import { ModelCard } from '../components/model-card.js';
import { Promote } from '../components/promote.js';
import { JsonView } from '../components/json-view.js';
import { VersionFiles } from '../components/version-files.js';
import { VersionOrigin } from '../components/version-origin.js';
import { VersionScan } from '../components/version-scan.js';
import { VersionSupply } from '../components/version-supply.js';
import { Command } from '../components/empty.js';
import { Delta, Id, Kv, Num, RefLink, Time, Who } from '../components/values.js';
import { Talk } from '../components/talk.js';
import { useCommands, useResource } from '../components/use.js';
import { enc, post, withQuery } from '../lib/api.js';
import { bytes, direction, plural } from '../lib/format.js';
import { pairUp } from '../lib/evaluations.js';
import { rowsOfExample } from '../lib/example.js';
import { say, sayError } from '../lib/store.js';

/** @param {any} props */
export default function ModelVersionPage({ params, query, setQuery }) {
  const { model: name, number: selector } = params;
  const page = useResource(`/models/${enc(name)}/versions/${enc(selector)}`, { kinds: ['model.', 'model_version.'] });
  const model = useResource(`/models/${enc(name)}`, { kinds: ['model_version.'] });
  const v = page.data?.version, ref = v && `model_version:${v.id}`;
  const lineage = useResource(ref ? `/lineage/${enc(ref)}?depth=2` : null, { kinds: ['revision.', 'endpoint.', 'model_version.'] });
  const verdicts = useResource(ref ? withQuery('/verdicts', { subject: ref, limit: 50 }) : null, { kinds: ['policy.', 'approval.', 'model_version.'] });
  const approvals = useResource(ref ? withQuery('/approvals', { subject: ref, limit: 20 }) : null, { kinds: ['approval.'] });
  const facts = useResource(ref ? withQuery('/events', { subject: ref, limit: 50 }) : null, { subjects: ref ? [ref] : [] });
  const champion = model.data?.model.aliases.find((/** @type {any} */ a) => a.name === 'champion');
  const rival = useResource(champion && v && champion.version !== v.number ? `/models/${enc(name)}/versions/${champion.version}` : null);
  const card = useResource(v ? `/models/${enc(name)}/versions/${v.number}/card` : null);
  const hasCard = Boolean(card.data);
  const [promoting, setPromoting] = useState(false);
  useCommands(v ? [{ id: 'actions', title: `Promote ${name}@${v.number}`, icon: 'crown', keys: '.', group: 'Version', run: () => setPromoting(true) }] : []);
  const tab = query.get('tab') ?? 'numbers';
  return html`<${Page} crumbs=${[['Models', '/models'], [name, `/models/${enc(name)}`], [v ? `@${v.number}` : `@${selector}`]]} title=${`${name}@${v?.number ?? selector}`} loading=${page.loading}
      actions=${v && html`<${Deed} may="model.promote" on=${`model:${name}`} class="button primary" onClick=${() => setPromoting(true)}><${Icon} name="crown" />Promote…<//>`}>
    <${Show} of=${page}>${() => html`
      <div class="story"><h2>${name}@${v.number}<${Aliases} of=${v.aliases} />${String(v.status).toUpperCase() !== 'READY' && html`<${State} of=${v.status} />`}</h2>
        <p><b><${Who} of=${v.actor} /></b> registered this version <${Time} at=${v.created_at_ms} />${v.run_id ? html`, built by <${RefLink} to=${`run:${v.run_id}`} />` : ''}. It is ${plural(v.files_count, 'file')} of ${bytes(v.size_bytes)}${Object.keys(v.flavors ?? {}).length ? html`, as ${Object.keys(v.flavors).filter((f) => f !== 'python_function').join(' and ') || 'python function'}` : ''}. ${v.description}</p>
        <${Strip} lineage=${lineage.data} here=${ref} extra=${{ [ref]: { label: `${name}@${v.number}`, note: v.aliases.join(', ') } }} />
        <${Tags} of=${v.tags} /></div>
      <div class="split"><div class="stack loose">
        <${Tabs} label="Parts of the version" value=${tab} onChange=${(/** @type {string} */ t) => setQuery({ tab: t === 'numbers' ? null : t, file: null })} tabs=${[
          { id: 'numbers', label: 'Numbers', count: v.evaluations.length || null, body: () => html`<${Numbers} version=${v} rival=${rival.data?.version} model=${name} />` },
          ...(rival.data ? [{ id: 'against', label: `Against @${rival.data.version.number}`, body: () => html`<${Against} page=${page.data} rival=${rival.data} />` }] : []),
          ...(hasCard ? [{ id: 'card', label: 'Card', body: () => html`<${ModelCard} model=${name} number=${v.number} />` }] : []),
          { id: 'signature', label: 'Signature', body: () => html`<${Signature} of=${v.signature} example=${v.input_example} />` },
          { id: 'files', label: 'Files', count: page.data.files.length, body: () => html`<${VersionFiles} base=${`/models/${enc(name)}/versions/${v.number}`} files=${page.data.files} query=${query} setQuery=${setQuery} />` },
          { id: 'origin', label: 'Lineage', body: () => html`<${VersionOrigin} version=${v} lineage=${lineage.data} />` },
          { id: 'environment', label: 'Environment', count: v.packages?.length || null, body: () => html`<div class="stack"><${Kv} items=${[['Digest', html`<${Id} value=${v.environment_digest} />`]]} /><pre class="code" tabindex="0">${(v.packages ?? []).join('\n') || 'No packages are listed.'}</pre></div>` },
          { id: 'use', label: 'Use it', body: () => html`<div class="stack"><${Command} text=${`import mlflow\nmodel = mlflow.pyfunc.load_model("models:/${name}/${v.number}")`} /><${Command} text=${`noria endpoint deploy ${name}@${v.number} --name ${name}`} /></div>` },
        ]} /></div>
      <div class="stack loose">
        <${Block} title="Gates"><${Gates} verdicts=${verdicts.data?.items} moves=${page.data.moves} approvals=${approvals.data?.items} /><//>
        <${Block} title="What the files do"><${VersionScan} model=${name} number=${v.number} /><//>
        <${Block} title="Signed"><${VersionSupply} model=${name} number=${v.number} /><//>
        <${Block} title="Its life"><${Life} moves=${page.data.moves} facts=${facts.data?.items ?? []} number=${v.number} /><//>
        ${page.data.edges.some((/** @type {any} */ e) => e.protects && !e.is_outgoing) && html`<${Block} title="Protected by"><ul>${page.data.edges.filter((/** @type {any} */ e) => e.protects && !e.is_outgoing).map((/** @type {any} */ e) => html`<li class="list-link" key=${e.ref}><${Icon} name="lock" small /><${RefLink} to=${e.ref} /><span class="muted end">${e.kind.replaceAll('_', ' ')}</span></li>`)}</ul><//>`}
        <${Block} title="Identity"><${Kv} items=${[['Digest', html`<${Id} value=${v.digest} />`], ['Version id', html`<${Id} value=${v.id} />`], ['Source', v.source && html`<code>${v.source}</code>`]]} /><//>
      </div></div>`}<//>
    ${promoting && v && html`<${Promote} model=${name} number=${v.number} aliases=${model.data?.model.aliases ?? []} onClose=${() => setPromoting(false)} onDone=${() => { page.reload(); model.reload(); }} />`}
    ${v && html`<${Talk} about=${`model_version:${v.id}`} />`}
  <//>`;
}

/** @param {any} props */
function Numbers({ version, rival, model }) {
  const groups = pairUp(version.evaluations, rival?.evaluations ?? []);
  if (!groups.length) return html`<div class="empty"><p>No numbers yet. An evaluation is metrics on one split of one dataset version; gates compare them with the champion's on the same data.</p><${Command} text=${`curl -X POST ${location.origin}/api/v1/models/${model}/versions/${version.number}/evaluations \\\n  -H 'content-type: application/json' \\\n  -d '{"dataset_version": "<id>", "split": "test", "metrics": {"auc": 0.91}}'`} /></div>`;
  return html`<div class="stack loose">${groups.map((g) => html`<section key=${`${g.dataset_version}${g.split}`} class="stack"><h3>${g.split} of <${RefLink} to=${`dataset_version:${g.dataset_version}`} /> ${g.at_ms > 0 && html`<span class="muted"><${Time} at=${g.at_ms} /></span>`}</h3>
    ${rival && !g.same && html`<p class="muted">The champion @${rival.number} was not measured on this data, so nothing is compared.</p>`}
    <${Table} label=${`Metrics on ${g.split}`} rows=${g.rows} rowKey=${(/** @type {any} */ r) => r.key} columns=${[{ key: 'k', label: 'Metric', cell: (r) => r.key }, { key: 'o', label: `@${version.number}`, num: true, cell: (r) => html`<${Num} value=${r.ours} digits=${5} />` },
      ...(g.same ? [{ key: 't', label: `Champion @${rival.number}`, num: true, cell: (/** @type {any} */ r) => html`<${Num} value=${r.theirs} digits=${5} />` }, { key: 'd', label: 'Difference', num: true, cell: (/** @type {any} */ r) => html`<${Delta} now=${r.ours} was=${r.theirs} better=${direction(r.key)} />` }] : [])]} />
    ${Object.keys(g.slices).length > 0 && html`<details><summary class="quiet">${plural(Object.keys(g.slices).length, 'slice')}</summary><${Table} label="Slices" rows=${Object.entries(g.slices)} rowKey=${(/** @type {any} */ [k]) => k} columns=${[{ key: 's', label: 'Slice', cell: ([k]) => k, sort: ([k]) => k }, ...g.rows.map((r) => ({ key: r.key, label: r.key, num: true, sort: (/** @type {any} */ [, m]) => m[r.key], cell: (/** @type {any} */ [, m]) => html`<${Num} value=${m[r.key]} />` }))]} /></details>`}</section>`)}</div>`;
}

/** What policies said, and who approved. @param {any} props */
function Gates({ verdicts, moves, approvals }) {
  const fromMoves = (moves ?? []).flatMap((/** @type {any} */ m) => (m.verdicts ?? []).map((/** @type {any} */ x) => ({ ...x, at_ms: m.at_ms, action: x.action ?? `promote to ${m.alias}` })));
  const all = verdicts?.length ? verdicts : fromMoves;
  const seen = new Set();
  const latest = all.filter((/** @type {any} */ x) => { const k = `${x.policy}${x.action}`; return !seen.has(k) && seen.add(k); });
  if (!latest.length && !approvals?.length) return html`<p class="muted">No policy was asked about this version. Gates answer when an alias moves or traffic would.</p>`;
  return html`<div>${latest.map((/** @type {any} */ g) => html`<div class=${`gate ${g.allowed ? 'pass' : g.mode === 'warn' ? 'wait' : 'fail'}`} key=${`${g.policy}${g.action}`}><${Glyph} tone=${g.allowed ? 'done' : g.mode === 'warn' ? 'warn' : 'failed'} /><div><div><b>${g.policy}</b> <span class="muted">${String(g.action ?? '').replaceAll('.', ' ')}</span></div><small>${g.reason || (g.allowed ? 'holds' : 'does not hold')}</small></div><small><${Time} at=${g.at_ms} /></small></div>`)}
    ${(approvals ?? []).map((/** @type {any} */ a) => html`<${ApprovalGate} key=${a.id} of=${a} />`)}</div>`;
}

/** An approval with its votes, and the two buttons while it waits. @param {{of: any}} props */
export function ApprovalGate({ of: a }) {
  const given = a.votes.filter((/** @type {any} */ v) => v.decision !== 'reject').length;
  const answer = async (/** @type {string} */ what) => { try { await post(`/approvals/${enc(a.id)}/${what}`, { comment: '', digest: a.digest }); say({ tone: 'ok', text: what === 'approve' ? 'Approved.' : 'Rejected.' }); } catch (e) { sayError(e); } };
  return html`<div class=${`gate ${a.state === 'granted' ? 'pass' : a.state === 'pending' ? 'wait' : 'fail'}`}><${Glyph} tone=${a.state === 'granted' ? 'done' : a.state === 'pending' ? 'queued' : 'failed'} />
    <div class="stack tight"><div><b>Approval</b> <span class="muted">of ${a.action.replaceAll('.', ' ')}</span></div><small>${a.state}, ${given} of ${a.required}${a.is_emergency ? ', by emergency override' : ''}; asked by <${Who} of=${a.requested_by} />${a.comment ? `: “${a.comment}”` : ''}</small>
      ${a.votes.map((/** @type {any} */ v) => html`<small key=${v.at_ms}><${Who} of=${v.actor} /> ${v.decision === 'approve' ? 'approved' : v.decision === 'reject' ? 'rejected' : 'overrode'}${v.comment ? `: “${v.comment}”` : ''}</small>`)}
      ${a.state === 'pending' && html`<div class="row"><${Deed} may="approval.decide" on=${a.subject} class="button small" onClick=${() => answer('approve')}>Approve these bytes<//><${Deed} may="approval.decide" on=${a.subject} class="button small danger" onClick=${() => answer('reject')}>Reject<//></div>`}</div>
    <small><${Time} at=${a.created_at_ms} /></small></div>`;
}

/** @param {any} props */
function Life({ moves, facts, number }) {
  const items = [...moves.map((/** @type {any} */ m) => ({ key: `m${m.alias}${m.at_ms}`, tone: m.version === number ? 'done' : 'neutral', at: m.at_ms, what: m.version === number ? html`became <b>${m.alias}</b>${m.was ? ` after @${m.was}` : ''}` : html`<b>${m.alias}</b> went ${m.version ? `to @${m.version}` : 'away'}`, why: html`by <${Who} of=${m.actor} />${m.reason ? `: “${m.reason}”` : ''}${m.until_ms ? html`, until <${Time} at=${m.until_ms} />` : ''}` })),
    ...facts.filter((/** @type {any} */ f) => ['model_version.created', 'model_version.imported', 'model_version.evaluated'].includes(f.kind)).map((/** @type {any} */ f) => ({ key: f.seq, tone: 'neutral', at: f.at_ms, what: f.kind.endsWith('created') ? 'was registered' : f.kind.endsWith('imported') ? `came from ${f.data.source ?? 'elsewhere'}` : `was evaluated on ${f.data.split ?? ''}`, why: html`by <${Who} of=${f.actor} />` }))].sort((a, b) => b.at - a.at);
  return items.length ? html`<${Timeline} label="Life of the version" items=${items} />` : html`<p class="muted">Nothing yet.</p>`;
}

/** @param {any} props */
function Signature({ of, example }) {
  if (!of) return html`<p class="muted">The model was logged without a signature; requests to it cannot be checked.</p>`;
  const rows = (/** @type {any} */ part) => (Array.isArray(part) ? part : []).map((/** @type {any} */ c, /** @type {number} */ i) => ({ i, name: c.name ?? `#${i}`, type: c.type === 'tensor' ? `${c['tensor-spec']?.dtype} ${JSON.stringify(c['tensor-spec']?.shape)}` : c.type ?? '', required: c.required !== false }));
  return html`<div class="stack loose"><div class="halves">${[['Inputs', of.inputs], ['Outputs', of.outputs], ['Parameters', of.params]].map(([title, part]) => (rows(part).length ? html`<section class="stack" key=${title}><h3>${title}</h3><${Table} label=${title} rows=${rows(part)} rowKey=${(/** @type {any} */ r) => r.i} columns=${[{ key: 'n', label: 'Name', cell: (r) => r.name }, { key: 't', label: 'Type', cell: (r) => html`<code>${r.type}</code>` }, { key: 'r', label: '', cell: (r) => (r.required ? '' : html`<span class="muted">optional</span>`) }]} /></section>` : null))}
    </div>${example && html`<section class="stack"><h3>Example of an input</h3><${Example} of=${example} /></section>`}</div>`;
}

/** @param {{of: any}} props */
function Example({ of }) {
  const table = rowsOfExample(of);
  if (!table) return html`<div class="sunken pad"><${JsonView} value=${of} /></div>`;
  return html`<${Table} label="Example of an input" rows=${table.rows} rowKey=${(/** @type {any} */ _, /** @type {number} */ i) => i} columns=${table.columns.map((c, i) => ({ key: c, label: c, num: table.rows.some((r) => typeof r[i] === 'number'), cell: (/** @type {any[]} */ r) => html`<code>${typeof r[i] === 'string' ? r[i] : JSON.stringify(r[i] ?? null)}</code>` }))} />${table.more > 0 && html`<p class="caption">and ${plural(table.more, 'row')} more</p>`}`;
}
