// @ts-check
/** `/datasets/flights/diff?a=19&b=20` is the difference on the page of version b. */

import { useEffect } from 'preact/hooks';
import { html } from '../components/html.js';
import { Page } from '../components/page.js';

/** @param {any} props */
export default function DatasetDiff({ params, query, go }) {
  const e = encodeURIComponent, a = query.get('a'), b = query.get('b') ?? 'latest';
  useEffect(() => go(`/datasets/${e(params.dataset)}/${e(b)}?tab=diff${a ? `&against=${e(a)}` : ''}`, { replace: true }), []);
  return html`<${Page} crumbs=${[['Datasets', '/datasets'], [params.dataset]]} loading />`;
}
