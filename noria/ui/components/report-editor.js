// @ts-check
/** Writing a report: blocks added, moved, changed, removed; panels are live while they are written. What is not saved yet outlives a reload. */

import { useEffect, useState } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { Page } from './page.js';
import { Menu } from './menu.js';
import { Sheet } from './sheet.js';
import { ReportBlockForm } from './report-block-form.js';
import { ReportPanel } from './report-panel.js';
import { useCommands } from './use.js';
import { api, enc, post } from '../lib/api.js';
import { say, sayError } from '../lib/store.js';
import { KINDS, changed, inserted, isComplete, moved, newBlock, titleOf } from '../lib/reports.js';

/** @param {string} id */
const keyOf = (id) => `noria.report.${id}`;
const blockId = () => Array.from(crypto.getRandomValues(new Uint8Array(4)), (b) => b.toString(16).padStart(2, '0')).join('');

/** @param {{report: any, onLeave: () => void, onSaved: () => void}} props */
export function ReportEditor({ report, onLeave, onSaved }) {
  const [draft, setDraft] = useState(() => readDraft(report.id) ?? { title: report.title, blocks: report.blocks, expect: report.latest });
  const [at, setAt] = useState(''), [message, setMessage] = useState(''), [conflict, setConflict] = useState(/** @type {any} */ (null)), [busy, setBusy] = useState(false);
  const dirty = draft.title !== report.title || JSON.stringify(draft.blocks) !== JSON.stringify(report.blocks);
  const incomplete = draft.blocks.filter((/** @type {any} */ b) => !isComplete(b));
  useEffect(() => { try { if (dirty) sessionStorage.setItem(keyOf(report.id), JSON.stringify(draft)); else sessionStorage.removeItem(keyOf(report.id)); } catch { /* A private window keeps nothing; saving still works. */ } }, [draft, dirty]);
  useEffect(() => {
    const stay = (/** @type {BeforeUnloadEvent} */ e) => { if (dirty) e.preventDefault(); };
    addEventListener('beforeunload', stay);
    return () => removeEventListener('beforeunload', stay);
  }, [dirty]);
  const set = (/** @type {any} */ changes) => setDraft((/** @type {any} */ was) => ({ ...was, ...changes }));
  const setBlocks = (/** @type {(b: any[]) => any[]} */ f) => setDraft((/** @type {any} */ was) => ({ ...was, blocks: f(was.blocks) }));
  const add = (/** @type {string} */ kind, /** @type {number} */ where) => { const block = newBlock(kind, blockId()); setBlocks((b) => inserted(b, where, block)); if (kind !== 'text') setAt(block.id); else requestAnimationFrame(() => /** @type {any} */ (document.querySelector(`[data-block="${block.id}"] textarea`))?.focus()); };
  const save = async (/** @type {number} */ expect) => {
    if (busy) return;
    if (incomplete.length) { setAt(incomplete[0].id); say({ tone: 'info', text: 'This panel does not say yet what it shows.' }); return; }
    setBusy(true);
    try {
      await api(`/reports/${enc(report.id)}`, { method: 'PUT', body: { title: draft.title, blocks: draft.blocks, expect, message } });
      sessionStorage.removeItem(keyOf(report.id));
      say({ tone: 'ok', text: `Version ${expect + 1} is saved.` });
      onSaved();
    } catch (/** @type {any} */ error) { if (error.code === 'conflict') setConflict(error); else sayError(error); } finally { setBusy(false); }
  };
  const over = async () => { try { const now = await api(`/reports/${enc(report.id)}`); set({ expect: now.latest }); setConflict(null); await save(now.latest); } catch (error) { sayError(error); } };
  const leave = () => { try { sessionStorage.removeItem(keyOf(report.id)); } catch { /* Nothing was kept. */ } onLeave(); };
  useCommands([{ id: 'report.save', title: 'Save the report', icon: 'check', keys: 'Ctrl S', group: 'Report', run: () => save(draft.expect) }]);
  const open = draft.blocks.find((/** @type {any} */ b) => b.id === at);
  return html`<${Page} crumbs=${[['Reports', '/reports'], [report.title, `/reports/${enc(report.id)}`], ['Edit']]} title=${`Edit ${report.title}`}
      actions=${html`<input class="input small" aria-label="What changed" placeholder="What changed" maxlength="500" value=${message} onInput=${(/** @type {any} */ e) => setMessage(e.currentTarget.value)} /><button type="button" class="button" onClick=${leave}>${dirty ? 'Discard' : 'Leave'}</button><button type="button" class="button primary" disabled=${!dirty || busy || !draft.title.trim()} title=${dirty ? undefined : 'Nothing is changed.'} onClick=${() => save(draft.expect)}>Save</button>`}>
    <div class="stack" onKeyDown=${(/** @type {any} */ e) => { if ((e.ctrlKey || e.metaKey) && e.key === 's') { e.preventDefault(); save(draft.expect); } }}>
    ${conflict && html`<div class="notice warn" role="alert"><${Icon} name="triangle-alert" /><div class="stack tight"><span>${conflict.message}</span><div class="row wrap"><a class="button small" data-external target="_blank" href=${`/reports/${enc(report.id)}`}>Look at it</a><button type="button" class="button small" onClick=${over}>Save mine after it</button></div></div></div>`}
    ${report.latest !== draft.expect && !conflict && html`<div class="notice info"><${Icon} name="info" /><span>Somebody saved version ${report.latest} while you were writing from version ${draft.expect}.</span></div>`}
    <article class="report editing"><header><h2 class="sr">${draft.title}</h2><label><span class="sr">Title</span><input class="input title" maxlength="200" required value=${draft.title} onInput=${(/** @type {any} */ e) => set({ title: e.currentTarget.value })} /></label></header>
      <${Insert} onAdd=${(/** @type {string} */ k) => add(k, 0)} />
      ${draft.blocks.map((/** @type {any} */ b, /** @type {number} */ i) => html`<div key=${b.id} class="report-block" data-block=${b.id}>
        <div class="block-tools" role="group" aria-label=${`Block ${i + 1}`}><span class="muted">${KINDS.find(([k]) => k === b.kind)?.[1]}</span>
          ${b.kind !== 'text' && html`<button type="button" class="button small" aria-expanded=${at === b.id ? 'true' : 'false'} onClick=${() => setAt(at === b.id ? '' : b.id)}>Change</button>`}
          <button type="button" class="button small plain icon-only" aria-label="Move up" title="Move up" disabled=${i === 0} onClick=${() => setBlocks((x) => moved(x, b.id, -1))}><${Icon} name="arrow-up" small /></button><button type="button" class="button small plain icon-only" aria-label="Move down" title="Move down" disabled=${i === draft.blocks.length - 1} onClick=${() => setBlocks((x) => moved(x, b.id, 1))}><${Icon} name="arrow-down" small /></button>
          <button type="button" class="button small plain icon-only" aria-label="Remove" title="Remove" onClick=${() => { setBlocks((x) => x.filter((y) => y.id !== b.id)); if (at === b.id) setAt(''); }}><${Icon} name="trash-2" small /></button></div>
        ${b.kind === 'text' ? html`<label><span class="sr">Text</span><textarea class="input words" rows="3" placeholder="Markdown" value=${b.text} onInput=${(/** @type {any} */ e) => { const text = e.currentTarget.value; setBlocks((x) => changed(x, b.id, { text })); }}></textarea></label>`
          : isComplete(b) ? html`<${Preview} block=${b} />` : html`<div class="report-panel"><h3>${titleOf(b)}</h3><p class="muted">It does not say yet what it shows.</p></div>`}</div>
        <${Insert} key=${`${b.id}+`} onAdd=${(/** @type {string} */ k) => add(k, i + 1)} />`)}
    </article></div>
    ${open && open.kind !== 'text' && html`<${Sheet} title=${`${KINDS.find(([k]) => k === open.kind)?.[1]}: ${titleOf(open)}`} onClose=${() => setAt('')}><${ReportBlockForm} block=${open} onChange=${(/** @type {any} */ changes) => setBlocks((x) => changed(x, open.id, changes))} onClose=${() => setAt('')} /><//>`}
  <//>`;
}

/** Where a block may be put. @param {{onAdd: (kind: string) => void}} props */
function Insert({ onAdd }) {
  return html`<div class="insert"><${Menu} start class="button small plain" title="Add a block here" label=${html`<${Icon} name="plus" small />Add`}>${(/** @type {() => void} */ close) => KINDS.map(([kind, title, icon]) => html`<button key=${kind} type="button" onClick=${() => { close(); onAdd(kind); }}><${Icon} name=${icon} small />${title}</button>`)}<//></div>`;
}

/** A panel as it would be. @param {{block: any}} props */
function Preview({ block }) {
  const [answer, set] = useState(/** @type {any} */ ({ data: null, error: null }));
  const text = JSON.stringify({ ...block, title: '' });
  useEffect(() => {
    let gone = false;
    const timer = setTimeout(() => post('/reports/preview', { block }).then((data) => { if (!gone) set({ data, error: null }); }, (error) => { if (!gone) set({ data: null, error }); }), 350);
    return () => { gone = true; clearTimeout(timer); };
  }, [text]);
  return html`<${ReportPanel} block=${block} answer=${answer} />`;
}

/** @param {string} id */
function readDraft(id) {
  try { return JSON.parse(sessionStorage.getItem(keyOf(id)) ?? 'null'); } catch { return null; }
}
