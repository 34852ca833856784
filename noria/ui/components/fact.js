// @ts-check
/** Facts as sentences: who did what to which thing. A kind without a phrase of its own is still readable: its noun and its past tense. */

import { html } from './html.js';
import { RefLink, Who } from './values.js';
import { parseRef, refText } from '../lib/refs.js';
import { count, num } from '../lib/format.js';

/** @typedef {import('../lib/live.js').Fact} Fact */

/** @type {Record<string, (f: any, d: any, thing: any) => any>} */
const PHRASES = {
  'run.created': (f, d, t) => html`began ${t}`,
  'run.finished': (f, d, t) => html`${d.status && String(d.status).toLowerCase() !== 'finished' ? `ended (${String(d.status).toLowerCase()})` : 'finished'} ${t}`,
  'dataset_version.committed': (f, d) => html`committed <${RefLink} to=${d.dataset ? `dataset_version:${d.dataset}@${d.number}` : f.subject} label=${d.dataset ? `${d.dataset}@${d.number}` : undefined} />`,
  'dataset_alias.moved': (f, d, t) => html`moved ${d.alias ?? 'an alias'} of ${t}`,
  'model_version.created': (f, d) => html`registered <${RefLink} to=${d.model ? `model_version:${d.model}@${d.number}` : f.subject} label=${d.model ? `${d.model}@${d.number}` : undefined} />`,
  'model_version.promoted': (f, d) => html`pointed <b>${d.alias}</b> at <${RefLink} to=${d.model ? `model_version:${d.model}@${d.number ?? d.version}` : f.subject} label=${d.model ? `${d.model}@${d.number ?? d.version}` : undefined} />${d.was ? ` (was ${d.was})` : ''}`,
  'model_version.evaluated': (f, d, t) => html`evaluated ${t}`,
  'canary.started': (f, d, t) => html`started a canary${d.version ? ` of @${d.version}` : ''} on ${t}${d.weight ? ` at ${num(d.weight)} %` : ''}`,
  'canary.advanced': (f, d, t) => html`moved the canary ${t}${d.weight ? ` to ${num(d.weight)} %` : ''}`,
  'canary.promoted': (f, d, t) => html`promoted the canary on ${t}`,
  'canary.rolled_back': (f, d, t) => html`rolled back the canary on ${t}${d.reason ? `: ${d.reason}` : ''}`,
  'alert.opened': (f, d, t) => html`opened ${d.monitor ? html`<${RefLink} to=${refText(f.subject)} label=${`an alert of ${d.monitor}`} />` : t}${d.metric ? `: ${d.metric} ${num(d.value)} over ${num(d.limit)}` : ''}`,
  'alert.resolved': (f, d, t) => html`saw ${t} resolve`,
  'window.evaluated': (f, d) => html`evaluated a window${d.monitor ? html` of <${RefLink} to=${`monitor:${d.monitor}`} />` : ''}`,
  'truth.written': (f, d) => html`received ${count(d.rows)} truths${d.endpoint ? html` of <${RefLink} to=${`endpoint:${d.endpoint}`} />` : ''}`,
  'endpoint.created': (f, d, t) => html`made the endpoint ${t}`,
  'endpoint.split_changed': (f, d, t) => html`moved traffic of ${t}${d.routes?.length ? `: ${d.routes.filter((/** @type {any} */ r) => r.weight > 0).map((/** @type {any} */ r) => `@${r.model_version} ${r.weight} %`).join(', ')}` : ''}`,
  'revision.created': (f, d) => html`asked for ${d.model ? html`<${RefLink} to=${`model_version:${d.model}@${d.version}`} label=${`${d.model}@${d.version}`} />` : `@${d.version}`} on <${RefLink} to=${`endpoint:${d.endpoint}`} />`,
  'revision.ready': (f, d) => html`loaded @${d.version} for <${RefLink} to=${`endpoint:${d.endpoint}`} />`,
  'endpoint.worker_ended': (f, d, t) => html`saw a worker of @${d.version} end on ${t}${d.reason ? `: ${d.reason}` : ''}`,
  'revision.failed': (f, d) => html`could not load @${d.version} for <${RefLink} to=${`endpoint:${d.endpoint}`} />${d.error ? `: ${d.error}` : ''}`,
  'run.imported': (f, d, t) => html`imported ${t}${d.source ? ` from ${d.source}` : ''}`,
  'logged_model.imported': (f, d, t) => html`imported the model ${t}${d.source ? ` from ${d.source}` : ''}`,
  'model_version.imported': (f, d) => html`imported <${RefLink} to=${d.model ? `model_version:${d.model}@${d.number}` : f.subject} label=${d.model ? `${d.model}@${d.number}` : undefined} />${d.source ? ` from ${d.source}` : ''}`,
  'run.started': (f, d, t) => html`logged the first numbers of ${t}`,
  'project.changed': (f, d, t) => html`made or changed the project ${t}`,
  'project.described': (f, d, t) => html`wrote the readme of ${t}`,
  'thing.placed': (f, d, t) => (d.project ? html`put the ${parseRef(f.subject).kind.replaceAll('_', ' ')} ${t} into <${RefLink} to=${`project:${d.project}`} />` : html`took ${t} out of ${d.was}`),
  'experiment.created': (f, d, t) => html`made the experiment ${t}`,
  'logged_model.created': (f, d, t) => html`logged the model ${t}${d.run_id ? html` in <${RefLink} to=${`run:${d.run_id}`} />` : ''}`,
  'dataset.created': (f, d, t) => html`made the dataset ${t}`,
  'model.created': (f, d, t) => html`made the model ${t}`,
  'monitor.created': (f, d, t) => html`asked to watch ${d.metric ?? ''} of <${RefLink} to=${`endpoint:${d.endpoint}`} /> with ${t}`,
  'pipeline.registered': (f, d, t) => html`registered version ${d.version} of ${t}`,
  'step_run.started': (f, d, t) => html`began the step ${t}`,
  'step_run.succeeded': (f, d, t) => html`finished the step ${t}${d.cached_from ? ' from the cache' : ''}`,
  'step_run.failed': (f, d, t) => html`failed in the step ${t}${d.will_retry ? ', and tries again' : ''}`,
  'pipeline_run.succeeded': (f, d, t) => html`finished ${t}`,
  'pipeline_run.failed': (f, d, t) => html`failed in ${t}${d.error ? `: ${String(d.error).slice(0, 120)}` : ''}`,
  'approval.requested': (f, d) => html`asked for an approval of ${String(d.action ?? '').replace('.', ' ')}${d.about ? html` for <${RefLink} to=${d.about} />` : ''}`,
  'approval.voted': (f, d) => html`${d.decision === 'approve' ? 'approved' : d.decision === 'reject' ? 'rejected' : 'decided on'} ${d.about ? html`<${RefLink} to=${d.about} />` : ''}${d.comment ? `: “${d.comment}”` : ''}`,
  'approval.granted': (f, d) => html`saw enough approvals${d.about ? html` for <${RefLink} to=${d.about} />` : ''}`,
  'policy.judged': (f, d, t) => html`asked the policies about ${String(d.action ?? '').replace('.', ' ')} of ${t}: ${d.allowed ? 'allowed' : 'refused'}`,
  'loop.created': (f, d, t) => html`declared the loop ${t}`,
  'loop.changed': (f, d, t) => html`changed the loop ${t}`,
  'loop.stopped': (f, d, t) => html`stopped the loop ${t}${d.reason ? `: ${d.reason}` : ''}`,
  'loop.started': (f, d, t) => html`started the loop ${t} again`,
  'loop.passed_over': (f, d, t) => html`let an alert pass at ${t}: ${d.reason}`,
  'loop.turn_started': (f, d) => html`began turn ${d.number} of <${RefLink} to=${`loop:${d.loop}`} />${d.reason ? `: ${d.reason}` : ''}`,
  'loop.turn_advanced': (f, d) => html`moved <${RefLink} to=${`loop:${d.loop}`} /> from ${String(d.was ?? '').replaceAll('_', ' ')} to <b>${String(d.state ?? '').replaceAll('_', ' ')}</b>${d.reason ? `: ${d.reason}` : ''}`,
  'segment.written': (f, d) => html`sealed ${count(d.rows)} inferences${d.endpoint ? html` of <${RefLink} to=${`endpoint:${d.endpoint}`} />` : ''}`,
  'pipeline_run.submitted': (f, d, t) => html`submitted ${t}${d.pipeline ? html` of <${RefLink} to=${`pipeline:${d.pipeline}`} />` : ''}`,
  'comment.added': (f, d) => html`${d.thread && d.thread !== parseRef(f.subject).id ? 'answered' : 'commented'} on <${RefLink} to=${d.about} />`,
  'compliance.changed': (f, d, t) => html`saw the check ${d.check} of ${t} ${d.now === 'pass' ? 'pass' : d.now === 'fail' ? html`<b>fail</b>` : `become ${String(d.now ?? '').replaceAll('_', ' ')}`}`,
  'report.created': (f, d) => html`began the report <${RefLink} to=${refText(f.subject)} label=${d.title} />`,
  'report.saved': (f, d) => html`saved version ${d.version} of the report <${RefLink} to=${refText(f.subject)} label=${d.title} />${d.restored_from ? `, as version ${d.restored_from} was` : ''}`,
  'report.shared': (f, d) => html`shared version ${d.version} of the report <${RefLink} to=${refText(f.subject)} label=${d.title} /> ${d.audience === 'public' ? 'with whoever has the link' : 'with whoever is signed in'}`,
  'report.link_revoked': (f, d) => html`revoked a link to the report <${RefLink} to=${refText(f.subject)} label=${d.title} />`,
  'report.deleted': (f, d) => html`deleted the report ${d.title}`,
  'audit.read': () => 'read the audit log',
  'access.refused': (f, d) => html`was refused ${d.action ?? ''}`,
};

/** @param {Fact} f */
export function sentenceOf(f) {
  const d = f.data ?? {}, { kind } = parseRef(f.subject);
  const thing = html`<${RefLink} to=${refText(f.subject)} label=${d.name ? String(d.name) : undefined} />`;
  const [noun, verb] = splitKind(f.kind);
  const phrase = PHRASES[f.kind]?.(f, d, thing) ?? html`${verb.replaceAll('_', ' ')} ${noun !== kind ? `${noun.replaceAll('_', ' ')} of ` : ''}${thing}`;
  return html`<span class="quiet"><${Who} of=${f.actor} /></span> ${phrase}`;
}

/** @param {Fact} f @returns {import('./state.js').Tone} */
export function toneOfFact(f) {
  const [noun, verb] = splitKind(f.kind);
  if (noun === 'alert' && verb === 'opened') return 'alert';
  if (f.kind === 'loop.turn_advanced') return /failed|rolled_back|rejected/.test(f.data?.state) ? 'failed' : f.data?.state === 'promoted' ? 'done' : 'running';
  if (f.kind === 'policy.judged') return f.data?.allowed ? 'done' : 'failed';
  if (f.kind === 'approval.voted') return f.data?.decision === 'reject' ? 'failed' : 'done';
  if (/(failed|rejected|rolled_back|refused|lost|worker_ended)/.test(verb)) return 'failed';
  if (/(promoted|succeeded|finished|granted|resolved|ready|committed|approved)/.test(verb)) return String(f.data?.status ?? '').toLowerCase() === 'failed' ? 'failed' : 'done';
  if (/(started|submitted|advanced)/.test(verb)) return 'running';
  if (/(requested|queued)/.test(verb)) return 'queued';
  return 'neutral';
}

/** @param {string} kind */
function splitKind(kind) { const at = kind.lastIndexOf('.'); return [kind.slice(0, at), kind.slice(at + 1)]; }

/** What happens all the time. @param {any} f */
const quiet = (f) => /^(segment|window|truth|step_run|compliance|thing)\./.test(f.kind);

/** Neighbours of one kind about one noun become one line with a count. Pure. @param {any[]} facts */
export function collapse(facts) {
  /** @type {any[]} */ const out = [];
  for (const f of facts) {
    const last = quiet(f) ? out.slice(-3).find((x) => x.kind === f.kind && x.subject === f.subject) : undefined;
    if (last) last.count += 1; else out.push({ ...f, count: 1 });
  }
  return out;
}
