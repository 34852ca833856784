// @ts-check
/** Finds the page of a thing one knows only by its id. */

import { useEffect } from 'preact/hooks';
import { html } from '../components/html.js';
import { Page } from '../components/page.js';
import { Empty } from '../components/empty.js';
import { useResource } from '../components/use.js';
import { nameFromFacts } from '../lib/names.js';
import { withQuery } from '../lib/api.js';

/** @param {any} props */
export default function Go({ params, go }) {
  const ref = `${params.kind}:${params.id}`;
  const facts = useResource(withQuery('/events', { subject: ref, limit: 20 }));
  const found = facts.data ? nameFromFacts(ref, facts.data.items) : null;
  useEffect(() => { if (found?.href) go(found.href, { replace: true }); }, [found?.href]);
  return html`<${Page} crumbs=${[[params.kind.replaceAll('_', ' ')], [params.id]]} loading=${facts.loading}>${(facts.error || (facts.data && !found?.href)) && html`<${Empty} icon="search" title="No page is known for this id." text=${html`It may be gone, or not yours to know. <a href=${`/audit?subject=${encodeURIComponent(ref)}`}>What the record says about it</a>.`} />`}<//>`;
}
