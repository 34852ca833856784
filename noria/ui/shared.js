// @ts-check
/** A report behind a link: a page of its own, which reads that report and nothing else. The secret stands behind the # of the address, so
 *  that no server is told of it in an address; it is sent in a header. */

import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { html, STATIC } from './components/html.js';
import { Boundary, Problem } from './components/empty.js';
import { ReportDocument, usePrinting } from './components/report-document.js';
import { printLight } from './components/printing.js';
import { Time } from './components/values.js';
import { api, enc } from './lib/api.js';

const EVERY_MS = 30_000;
const secret = () => location.hash.slice(1);

/** @param {string} path */
const read = (path) => api(`/shared${path}`, { headers: { 'x-noria-share': secret() } });

/** An answer behind the link, read again now and then. @param {string} path @returns {{data: any, error: any}} */
function useShared(path) {
  const [answer, set] = useState(/** @type {any} */ ({ data: null, error: null }));
  useEffect(() => {
    let gone = false;
    const load = () => { if (document.visibilityState !== 'hidden') read(path).then((data) => { if (!gone) set({ data, error: null }); }, (error) => { if (!gone) set({ data: null, error }); }); };
    load();
    const timer = setInterval(load, EVERY_MS);
    return () => { gone = true; clearInterval(timer); };
  }, [path]);
  return answer;
}

/** @param {any} block */
const usePanel = (block) => useShared(`/panels/${enc(block.id)}`);

function Shared() {
  const report = useShared(''), r = report.data;
  const [printing, setPrinting] = useState(new URLSearchParams(location.search).has('print'));
  useEffect(() => { document.title = r ? `${r.title} · Noria` : 'Noria'; }, [r?.title]);
  usePrinting(printing && Boolean(r), () => setPrinting(false));
  if (report.error?.status === 401) return html`<${Problem} center error=${report.error} /><p class="row center"><a class="button primary" href="/login" data-external>Sign in</a></p>`;
  if (report.error) return html`<${Problem} center error=${report.error} />`;
  if (!r) return html`<div class="progress" role="progressbar" aria-label="Reading"></div>`;
  return html`<${ReportDocument} key=${r.version} report=${r} usePanel=${usePanel} links=${false} byline=${html`Version ${r.version}, saved <${Time} at=${r.saved_at_ms} />. This link ends <${Time} at=${r.expires_at_ms} absolute />.`} />
    <p class="screen-only"><button type="button" class="button" onClick=${() => setPrinting(true)}>Print, or save as PDF</button></p>`;
}

printLight();
addEventListener('hashchange', () => location.reload());
render(html`<div class="shared"><header class="shared-head"><img src=${`${STATIC}/mark.svg`} alt="" width="20" height="20" /><h1>Noria report</h1></header><main><${Boundary}><${Shared} /><//></main></div>`, /** @type {HTMLElement} */ (document.getElementById('app')));
