// @ts-check
/** A report as one reads it, on the screen and on paper. `usePanel` reads a panel: with one's own rights, or through a link. */

import { useEffect } from 'preact/hooks';
import { html } from './html.js';
import { Prose } from './prose.js';
import { ReportPanel } from './report-panel.js';
import { eager } from './use.js';
import { scheme } from '../lib/store.js';

const PATIENCE_MS = 15_000;

/** @param {{report: any, usePanel: (block: any) => any, links?: boolean, byline?: any}} props */
export function ReportDocument({ report, usePanel, links = true, byline }) {
  const levels = Object.values(report.html).flatMap((text) => [.../** @type {string} */ (text).matchAll(/<h([1-6])>/g)].map((m) => Number(m[1]))), top = Math.min(6, ...levels);
  return html`<article class="report"><header><h2>${report.title}</h2>${byline && html`<p class="byline">${byline}</p>`}</header>
    ${report.blocks.map((/** @type {any} */ b) => (b.kind === 'text' ? html`<${Prose} key=${b.id} of=${report.html[b.id] ?? ''} top=${top} />` : html`<${LivePanel} key=${b.id} block=${b} usePanel=${usePanel} links=${links} />`))}
    ${!report.blocks.length && html`<p class="muted">Nothing is written here yet.</p>`}</article>`;
}

/** @param {any} props */
function LivePanel({ block, usePanel, links }) {
  return html`<${ReportPanel} block=${block} answer=${usePanel(block)} links=${links} />`;
}

/** Draws everything in the light theme, then asks the browser to print, which can also save as PDF. @param {boolean} on @param {() => void} onDone */
export function usePrinting(on, onDone) {
  useEffect(() => {
    if (!on) return undefined;
    const root = document.documentElement, before = root.dataset.theme;
    root.dataset.theme = 'light';
    eager.value = true;
    scheme.value += 1;
    const began = Date.now();
    const back = () => { if (before === undefined) delete root.dataset.theme; else root.dataset.theme = before; eager.value = false; scheme.value += 1; };
    const timer = setInterval(() => {
      const report = document.querySelector('.report');
      const waits = !report || report.querySelector('[aria-busy="true"]') || [...report.querySelectorAll('.plot')].some((p) => !p.querySelector('canvas'));
      if (waits && Date.now() - began < PATIENCE_MS) return;
      clearInterval(timer);
      root.dataset.printed = '';
      window.print();
      onDone();
    }, 200);
    return () => { clearInterval(timer); back(); };
  }, [on]);
}
