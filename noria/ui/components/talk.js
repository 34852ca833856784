// @ts-check
/** What people said about a thing: threads of comments, reactions, and whether one is told of what happens to it. */

import { useRef, useState } from 'preact/hooks';
import { html } from './html.js';
import { Icon } from './icon.js';
import { Block } from './page.js';
import { Show } from './empty.js';
import { Prose } from './prose.js';
import { Dialog } from './dialog.js';
import { Time, Who } from './values.js';
import { useResource } from './use.js';
import { api, enc, post, remove, withQuery } from '../lib/api.js';
import { me, sayError, say } from '../lib/store.js';
import { placeText, REACTIONS, threadsOf } from '../lib/talk.js';

/** The talk about a thing, kept true. @param {string} about a ref, such as `run:0197…` or `model_version:fraud@7` */
export function useTalk(about) {
  return useResource(withQuery('/comments', { subject: about }), { kinds: ['comment.'] });
}

/** Everything said about a thing, in a block of a page. @param {{about: string, place?: string}} props */
export function Talk({ about, place }) {
  const talk = useTalk(about);
  return html`<${TalkOf} talk=${talk} place=${place} />`;
}

/** @param {{talk: ReturnType<typeof useTalk>, place?: string}} props */
export function TalkOf({ talk, place = '' }) {
  const d = talk.data;
  const count = d?.comments.filter((/** @type {any} */ c) => !c.removed_at_ms).length;
  const follow = async () => {
    try { await api(`/follows/${enc(d.subject)}`, { method: d.follows ? 'DELETE' : 'PUT' }); talk.reload(); say({ tone: 'ok', text: d.follows ? 'You are only told when somebody speaks to you.' : 'You are told of what happens here.' }); } catch (error) { sayError(error); }
  };
  return html`<${Block} title="Conversation" count=${count || null} id="conversation" actions=${d && html`<button type="button" class="button small plain" aria-pressed=${d.follows ? 'true' : 'false'} onClick=${follow}><${Icon} name=${d.follows ? 'bell' : 'bell-off'} small />${d.follows ? 'Following' : 'Follow'}</button>`}>
    <${Show} of=${talk} lines=${2}>${() => html`<div class="talk">${threadsOf(d.comments).map((thread) => html`<${Thread} key=${thread[0].id} thread=${thread} talk=${talk} />`)}
      ${d.may_write ? html`<${Write} subject=${d.subject} place=${place} label=${d.comments.length ? 'Say something else' : 'Say something'} hint="Markdown. @name tells somebody." onDone=${talk.reload} />` : html`<p class="muted">Your role reads here, and does not write.</p>`}</div>`}<//><//>`;
}

/** @param {{thread: any[], talk: any}} props */
function Thread({ thread, talk }) {
  const [answering, setAnswering] = useState(false);
  const [first, ...answers] = thread;
  return html`<article class="thread" id=${`comment-${first.id}`}>
    <${Said} comment=${first} talk=${talk} />
    ${answers.length > 0 && html`<div class="answers">${answers.map((c) => html`<${Said} key=${c.id} comment=${c} talk=${talk} />`)}</div>`}
    ${talk.data.may_write && (answering ? html`<div class="answers"><${Write} subject=${talk.data.subject} thread=${first.id} label="Answer" focus onDone=${() => { setAnswering(false); talk.reload(); }} onCancel=${() => setAnswering(false)} /></div>`
      : html`<button type="button" class="button small plain" onClick=${() => setAnswering(true)}>Answer</button>`)}</article>`;
}

/** @param {{comment: any, talk: any}} props */
function Said({ comment: c, talk }) {
  const [editing, setEditing] = useState(false);
  const [removing, setRemoving] = useState(false);
  const mine = me.value?.id === c.author_id, admin = me.value?.actions?.includes('system.admin');
  if (c.removed_at_ms) return html`<div class="said gone"><p class="muted">A comment was removed <${Time} at=${c.removed_at_ms} />.</p></div>`;
  return html`<div class="said">
    <header><b><${Who} of=${c.author} /></b><span class="muted"><${Time} at=${c.created_at_ms} />${c.edited_at_ms ? ', edited' : ''}</span>${c.place && html`<span class="chip">${placeText(c.place)}</span>`}
      <span class="end">${mine && html`<button type="button" class="button small plain" onClick=${() => setEditing(true)}>Edit</button>`}${(mine || admin) && html`<button type="button" class="button small plain" onClick=${() => setRemoving(true)}>Remove</button>`}</span></header>
    ${editing ? html`<${Write} subject=${c.subject} comment=${c} label="Other words" focus onDone=${() => { setEditing(false); talk.reload(); }} onCancel=${() => setEditing(false)} />` : html`<${Prose} of=${c.html} />`}
    ${talk.data.may_write && html`<${Reactions} comment=${c} onDone=${talk.reload} />`}
    ${removing && html`<${Dialog} title="Remove this comment?" deed="Remove the comment" danger done="The comment is gone." onClose=${() => setRemoving(false)} act=${async () => { await remove(`/comments/${enc(c.id)}`); talk.reload(); }}><p class="quiet">Its words cannot be brought back. Answers to it stay.</p><//>`}</div>`;
}

/** @param {{comment: any, onDone: () => void}} props */
function Reactions({ comment: c, onDone }) {
  const [choosing, setChoosing] = useState(false);
  const who = me.value?.kind ? `${me.value.kind}:${me.value.name}` : '';
  const toggle = async (/** @type {string} */ name) => {
    const on = !(c.reactions[name] ?? []).includes(who);
    try { await api(`/comments/${enc(c.id)}/reactions/${name}`, { method: on ? 'PUT' : 'DELETE' }); setChoosing(false); onDone(); } catch (error) { sayError(error); }
  };
  const shown = choosing ? Object.keys(REACTIONS) : Object.keys(REACTIONS).filter((r) => c.reactions[r]?.length);
  return html`<div class="reactions">${shown.map((r) => html`<button key=${r} type="button" class="chip" aria-pressed=${(c.reactions[r] ?? []).includes(who) ? 'true' : 'false'} aria-label=${`${r.replaceAll('_', ' ')}, ${(c.reactions[r] ?? []).length}`} title=${(c.reactions[r] ?? []).map((/** @type {string} */ w) => w.split(':')[1]).join(', ') || r.replaceAll('_', ' ')} onClick=${() => toggle(r)}><span aria-hidden="true">${REACTIONS[r]}</span>${c.reactions[r]?.length ? html` ${c.reactions[r].length}` : ''}</button>`)}
    <button type="button" class="button small plain icon-only" aria-label=${choosing ? 'No reaction' : 'React'} title=${choosing ? 'No reaction' : 'React'} aria-expanded=${choosing ? 'true' : 'false'} onClick=${() => setChoosing(!choosing)}><${Icon} name=${choosing ? 'x' : 'plus'} small /></button></div>`;
}

/** A box to write in; Ctrl Enter sends. @param {{subject: string, label: string, thread?: string, comment?: any, place?: string, hint?: string, focus?: boolean, onDone: () => void, onCancel?: () => void}} props */
function Write({ subject, label, thread = '', comment, place = '', hint, focus = false, onDone, onCancel }) {
  const [text, setText] = useState(comment?.body ?? '');
  const [busy, setBusy] = useState(false);
  const box = useRef(/** @type {any} */ (null));
  const send = async () => {
    if (!text.trim() || busy) return;
    setBusy(true);
    try {
      if (comment) await api(`/comments/${enc(comment.id)}`, { method: 'PATCH', body: { body: text } });
      else {
        const posted = await post('/comments', { subject, body: text, thread, place });
        if (posted.not_told.length) say({ tone: 'info', text: `Not told: ${posted.not_told.join(', ')}.`, hint: 'They are not known here, or may not see this.' });
      }
      setText('');
      onDone();
    } catch (error) { sayError(error); } finally { setBusy(false); }
  };
  return html`<form class="write" onSubmit=${(/** @type {any} */ e) => { e.preventDefault(); send(); }}>
    <label class="field"><span class="sr">${label}</span><textarea class="input" ref=${(/** @type {any} */ el) => { if (el && focus && box.current !== el) el.focus(); box.current = el; }} rows="2" maxlength="20000" placeholder=${label} value=${text} onInput=${(/** @type {any} */ e) => setText(e.currentTarget.value)} onKeyDown=${(/** @type {any} */ e) => { if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) { e.preventDefault(); send(); } else if (e.key === 'Escape' && onCancel) onCancel(); }}></textarea></label>
    ${(text.trim() || onCancel) && html`<div class="row"><button type="submit" class="button small primary" disabled=${!text.trim() || busy}>${comment ? 'Save' : thread ? 'Answer' : 'Comment'}</button>${onCancel && html`<button type="button" class="button small plain" onClick=${onCancel}>Cancel</button>`}${hint && html`<span class="muted">${hint}</span>`}</div>`}</form>`;
}
