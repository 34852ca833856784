// @ts-check
/** One trace: what it was as a sentence, its spans against the clock, and what one of them took and gave. */

import { useMemo } from 'preact/hooks';
import { html } from '../components/html.js';
import { Page, Block } from '../components/page.js';
import { Gantt } from '../components/gantt.js';
import { State } from '../components/state.js';
import { Tags } from '../components/chips.js';
import { Id, Kv, RefLink, Time } from '../components/values.js';
import { Assessments } from '../components/assessments.js';
import { JsonView } from '../components/json-view.js';
import { Show } from '../components/empty.js';
import { useResource } from '../components/use.js';
import { enc } from '../lib/api.js';
import { count, duration, plural } from '../lib/format.js';
import { wordOf } from './traces.js';

const SHOWN = 2000;
const SHOWN_ABOVE = new Set(['mlflow.spanInputs', 'mlflow.spanOutputs', 'mlflow.spanType']);

/** @param {any} props */
export default function TracePage({ params, query, setQuery }) {
  const id = params.trace;
  const trace = useResource(`/traces/${enc(id)}`, { kinds: ['assessment.'] });
  const spans = useResource(`/traces/${enc(id)}/spans`);
  const t = trace.data;
  return html`<${Page} crumbs=${[['Traces', t ? `/traces?experiment=${enc(t.experiment_id)}` : '/traces'], [t?.name || id]]} loading=${trace.loading}>
    <${Show} of=${trace}>${(/** @type {any} */ data) => html`<${Story} trace=${data} />`}<//>
    <${Show} of=${spans}>${(/** @type {any} */ data) => html`<${Spans} spans=${data.spans} query=${query} setQuery=${setQuery} />`}<//>
    ${t && html`<${Block} title="Assessments" count=${t.assessments.length}>${t.assessments.length ? html`<${Assessments} of=${t.assessments} />` : html`<p class="muted">Nobody has judged this trace.</p>`}<//>`}
    ${t && html`<${Block} title="Metadata"><${Kv} items=${[['Trace id', html`<${Id} value=${t.id} full />`], ...Object.entries(t.metadata).filter(([k]) => !['mlflow.traceInputs', 'mlflow.traceOutputs', 'mlflow.trace.tokenUsage'].includes(k)).map(([k, v]) => [k, html`<span class="mono">${String(v).slice(0, 500)}</span>`])]} /><//>`}
  <//>`;
}

/** @param {any} props */
function Story({ trace: t }) {
  const tokens = parsed(t.metadata?.['mlflow.trace.tokenUsage']);
  return html`<div class="story"><h2>${t.name || t.id}<${State} of=${wordOf(t.state)} /></h2>
    <p>It began <${Time} at=${t.at_ms} />${t.duration_ms === null || t.duration_ms === undefined ? '' : html` and took ${duration(t.duration_ms)}`}${tokens ? html`; ${plural(tokens.total_tokens ?? (tokens.input_tokens ?? 0) + (tokens.output_tokens ?? 0), 'token')} (${count(tokens.input_tokens ?? 0)} in, ${count(tokens.output_tokens ?? 0)} out)` : ''}${t.run_ids.length ? html`, in ${t.run_ids.map((/** @type {string} */ r, /** @type {number} */ i) => html`${i ? ', ' : ''}<${RefLink} to=${`run:${r}`} />`)}` : ''}.</p>
    <${Tags} of=${t.tags} /></div>`;
}

/** @param {any} props */
function Spans({ spans, query, setQuery }) {
  const rows = useMemo(() => tree(spans), [spans]);
  const chosen = spans.find((/** @type {any} */ s) => s.id === query.get('span')) ?? rows[0]?.span;
  const attributes = Object.fromEntries(Object.entries(chosen?.attributes ?? {}).filter(([k]) => !SHOWN_ABOVE.has(k)));
  if (!rows.length) return html`<${Block} title="Spans"><p class="muted">No spans have arrived.</p><//>`;
  const bars = rows.slice(0, SHOWN).map(({ span: s, depth }) => ({
    id: s.id, name: '\u2003'.repeat(Math.min(depth, 12)) + s.name, state: s.status === 'ERROR' ? 'failed' : s.duration_us === null || s.duration_us === undefined ? 'running' : 'done',
    spans: [{ start: s.offset_us / 1000, end: (s.offset_us + (s.duration_us ?? 0)) / 1000, state: s.status === 'ERROR' ? 'failed' : 'done', label: `${s.kind.toLowerCase()} ${s.name}, ${duration((s.duration_us ?? 0) / 1000)}` }],
  }));
  return html`<${Block} title="Spans" count=${spans.length}><${Gantt} rows=${bars} selected=${chosen?.id} onSelect=${(/** @type {string} */ s) => setQuery({ span: s })} label="Spans against the clock" />
      ${rows.length > SHOWN && html`<p class="muted">The first ${SHOWN} of ${plural(rows.length, 'span')}.</p>`}<//>
    ${chosen && html`<${Block} title=${chosen.name}><div class="stack"><p class="row"><${State} of=${chosen.status === 'ERROR' ? 'error' : 'ok'} />${chosen.kind !== 'UNKNOWN' && html`<span class="quiet">${chosen.kind.toLowerCase().replaceAll('_', ' ')}</span>`}${chosen.message && html`<span>${chosen.message}</span>`}</p>
      <div class="halves"><section class="stack tight"><h3>Inputs</h3>${value(chosen.inputs)}</section><section class="stack tight"><h3>Outputs</h3>${value(chosen.outputs)}</section></div>
      ${Object.keys(attributes).length > 0 && html`<section class="stack tight"><h3>Attributes</h3><${JsonView} value=${attributes} /></section>`}
      ${chosen.events.length > 0 && html`<section class="stack tight"><h3>Events</h3><${JsonView} value=${chosen.events} /></section>`}</div><//>`}`;
}

/** @param {string | undefined} text */
function parsed(text) { try { const v = JSON.parse(text ?? ''); return typeof v === 'object' ? v : null; } catch { return null; } }

/** @param {any} of */
function value(of) { return of === null || of === undefined ? html`<p class="muted">None.</p>` : html`<${JsonView} value=${of} />`; }

/** Spans as a tree, each below its parent, the earliest first; what has no parent here stands at the top. @param {any[]} spans @returns {{span: any, depth: number}[]} */
export function tree(spans) {
  const known = new Set(spans.map((s) => s.id)), below = new Map();
  for (const s of spans) { const at = known.has(s.parent_id) ? s.parent_id : ''; if (!below.has(at)) below.set(at, []); below.get(at).push(s); }
  const out = /** @type {{span: any, depth: number}[]} */ ([]), seen = new Set();
  const waiting = (below.get('') ?? []).map((/** @type {any} */ span) => ({ span, depth: 0 })).reverse();
  while (waiting.length) {
    const next = waiting.pop();
    if (!next || seen.has(next.span.id)) continue;
    seen.add(next.span.id);
    out.push(next);
    for (const span of [...(below.get(next.span.id) ?? [])].reverse()) waiting.push({ span, depth: next.depth + 1 });
  }
  return [...out, ...spans.filter((s) => !seen.has(s.id)).map((span) => ({ span, depth: 0 }))];
}
