// @ts-check
/** What one was told: of being spoken to, of answers, of what happens to what is one's own or that one follows. */

import { html } from '../components/html.js';
import { Icon } from '../components/icon.js';
import { Page } from '../components/page.js';
import { Empty, Show } from '../components/empty.js';
import { State } from '../components/state.js';
import { Time, Who } from '../components/values.js';
import { toneOfFact } from '../components/fact.js';
import { useCommands, useResource } from '../components/use.js';
import { post } from '../lib/api.js';
import { pageOf, parseRef } from '../lib/refs.js';
import { inboxReads, sayError } from '../lib/store.js';
import { TOLD, reasonWord } from '../lib/talk.js';

/** @param {any} props */
export default function InboxPage({ query, setQuery, go }) {
  const onlyUnread = query.get('show') !== 'all';
  const inbox = useResource(`/inbox?limit=100${onlyUnread ? '&unread=true' : ''}`, { kinds: TOLD });
  const items = inbox.data?.items ?? [];
  const readAll = async () => {
    if (!items.length) return;
    try { await post('/inbox/read', { up_to: items[0].id }); inboxReads.value += 1; inbox.reload(); } catch (error) { sayError(error); }
  };
  const open = async (/** @type {any} */ n) => {
    const page = pageOf(n.subject);
    if (!n.read_at_ms) post('/inbox/read', { ids: [n.id] }).then(() => { inboxReads.value += 1; }).catch(sayError);
    if (page) go(n.comment ? `${page}${page.includes('?') ? '&' : '?'}${parseRef(n.subject).kind === 'run' ? 'tab=conversation' : ''}#comment-${n.comment}` : page);
  };
  useCommands([{ id: 'inbox.read', title: 'Mark all as read', icon: 'check', group: 'Inbox', run: readAll }]);
  return html`<${Page} crumbs=${[['Inbox']]} loading=${inbox.loading} actions=${html`<a class="button plain" href="/settings?tab=told"><${Icon} name="settings" />Told elsewhere too…</a><div class="segmented" role="group" aria-label="Which"><button type="button" aria-pressed=${onlyUnread ? 'true' : 'false'} onClick=${() => setQuery({ show: null })}>Unread</button><button type="button" aria-pressed=${onlyUnread ? 'false' : 'true'} onClick=${() => setQuery({ show: 'all' })}>All</button></div><button type="button" class="button" disabled=${!inbox.data?.unread} title=${inbox.data?.unread ? undefined : 'Everything is read.'} onClick=${readAll}><${Icon} name="check" />Mark all as read</button>`}>
    <${Show} of=${inbox}>${() => (items.length ? html`<ul class="inbox">${items.map((/** @type {any} */ n) => html`<li key=${n.id} class=${`list-link ${n.read_at_ms ? 'is-read' : ''}`}>
        <${State} of=${toneOfFact({ kind: n.kind, subject: n.subject, data: {} })} word=${wordOf(n.kind)} tone=${toneOfFact({ kind: n.kind, subject: n.subject, data: {} })} />
        <a class="grow truncate" href=${pageOf(n.subject) ?? '#'} onClick=${(/** @type {any} */ e) => { if (!e.ctrlKey && !e.metaKey) { e.preventDefault(); open(n); } }}>${n.excerpt ? html`<b><${Who} of=${n.actor} /></b> on ${n.title}: ${n.excerpt}` : html`${n.title}`}</a>
        <span class="muted">${reasonWord(n.reason)}</span><span class="muted"><${Time} at=${n.at_ms} /></span></li>`)}</ul>`
      : html`<${Empty} icon="bell" title=${onlyUnread ? 'Nothing waits for you.' : 'You were not told of anything yet.'} text=${html`You are told when somebody writes <code>@you</code> or answers you, and of what happens to things that you made or follow: each page has a Follow button beside its conversation.`} />`)}<//>
  <//>`;
}

/** @param {string} kind */
function wordOf(kind) { return kind === 'comment.added' ? 'comment' : kind.replace('.', ' ').replaceAll('_', ' '); }
