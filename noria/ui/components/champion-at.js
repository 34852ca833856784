// @ts-check
/** Which version had which name at a moment: asked of the record, not of what is known now. */

import { useState } from 'preact/hooks';
import { html } from './html.js';
import { Time, Who } from './values.js';
import { useResource } from './use.js';
import { enc, withQuery } from '../lib/api.js';
import { now, zone } from '../lib/store.js';
import { fromInput, toInput } from '../lib/dates.js';

/** @param {{model: string, query: URLSearchParams, setQuery: (changes: any) => void}} props */
export function ChampionAt({ model, query, setQuery }) {
  const asked = query.get('at'), at = asked ? Number(asked) : null;
  const [text, setText] = useState(toInput(at ?? now.peek(), zone.peek()));
  const answer = useResource(at ? withQuery(`/models/${enc(model)}/timeline`, { at_ms: at }) : null, { kinds: ['model_version.'] });
  const pick = (/** @type {string} */ value) => { setText(value); const ms = fromInput(value, zone.value); if (ms !== null) setQuery({ at: String(ms) }); };
  return html`<div class="champion-at row wrap"><label class="inline">Who was who on <input class="input" type="datetime-local" step="60" value=${text} onInput=${(/** @type {any} */ e) => pick(e.currentTarget.value)} /></label><span class="muted">${zone.value === 'utc' ? 'UTC' : 'local time'}</span>
    ${at && html`<span role="status" class="row wrap">${answer.error ? html`<span class="bad">${answer.error.message}</span>` : answer.data && (answer.data.items.length ? answer.data.items.map((/** @type {any} */ m) => html`<span key=${m.alias}><b>${m.alias}</b> was <a href=${`/models/${enc(model)}/${m.version}`}>@${m.version}</a> <span class="muted">since <${Time} at=${m.at_ms} absolute />, by <${Who} of=${m.actor} />${m.reason ? `: “${m.reason}”` : ''}</span></span>`) : html`<span class="quiet">No alias named a version then.</span>`)}</span><button type="button" class="button plain small" onClick=${() => setQuery({ at: null })}>Clear</button>`}</div>`;
}
