// @ts-check
/** `/views/<id>` is the short address of a saved view: it leads to the list that the view is of, as it was saved. */

import { useEffect } from 'preact/hooks';
import { html } from '../components/html.js';
import { Page } from '../components/page.js';
import { Problem } from '../components/empty.js';
import { useResource } from '../components/use.js';
import { enc, withQuery } from '../lib/api.js';
import { changesFor } from '../lib/view.js';

/** @param {any} props */
export default function View({ params, go }) {
  const view = useResource(`/views/${enc(params.view)}`);
  useEffect(() => { if (view.data) go(withQuery(`/${view.data.page}`, changesFor(view.data)), { replace: true }); }, [view.data]);
  return html`<${Page} crumbs=${[['Runs', '/runs'], ['View']]} loading=${view.loading}>${view.error && html`<${Problem} error=${view.error} />`}<//>`;
}
