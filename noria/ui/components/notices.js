// @ts-check
/** What everybody should see at once: a line above every page, until somebody looked at it. */

import { html } from './html.js';
import { Icon } from './icon.js';
import { Time } from './values.js';
import { useResource } from './use.js';

export function Notices() {
  const found = useResource('/notices', { kinds: ['approval.overridden', 'approval.reviewed', 'audit.'] });
  return html`${(found.data?.items ?? []).map((/** @type {any} */ n) => html`<div class="banner" role="alert" key=${n.ref}><${Icon} name="triangle-alert" /><span class="grow">${n.kind === 'override' ? html`<b>Emergency.</b> ` : ''}${n.text}${n.at_ms ? html` <${Time} at=${n.at_ms} />` : ''}</span><a href=${n.kind === 'override' ? `/approvals?id=${n.ref.split(':')[1]}` : '/audit'}>Look at it</a></div>`)}`;
}
