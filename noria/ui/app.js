// @ts-check
/** The interface: which page for which address, who is looking, what arrives live. Pages are modules read when first needed. */

import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { html } from './components/html.js';
import { Shell } from './components/shell.js';
import { Boundary, Empty, Problem } from './components/empty.js';
import { Page } from './components/page.js';
import { printLight } from './components/printing.js';
import { useLiveFrom } from './components/use.js';
import { api, onSignedOut } from './lib/api.js';
import { KEYS, perform } from './lib/commands.js';
import { createKeymap, isTyping } from './lib/keys.js';
import { createLive } from './lib/live.js';
import { createRouter } from './lib/router.js';
import { forgetRights } from './lib/may.js';
import { me, online, turns } from './lib/store.js';

/** The server reads these lines too (noria/http/static.py): it has the browser read the modules of a page, and the answers it asks for `first`,
 *  before any of this runs. In those addresses `:name` is a part of the path, and a query key without a value has that of the page.
 *  @type {import('./lib/router.js').Route[]} */
const routes = [
  { pattern: '/', name: 'home', nav: 'home', load: () => import('./pages/home.js') },
  { pattern: '/runs', name: 'runs', nav: 'runs', load: () => import('./pages/runs.js'), first: ['/experiments?limit=500', '/runs/columns?experiment=&stage=&filter=&limit=100'] },
  { pattern: '/runs/:run', name: 'run', nav: 'runs', load: () => import('./pages/run.js'), first: ['/runs/:run', '/experiments?limit=500'] },
  { pattern: '/views/:view', name: 'view', nav: 'runs', load: () => import('./pages/view.js') },
  { pattern: '/traces', name: 'traces', nav: 'runs', load: () => import('./pages/traces.js') },
  { pattern: '/traces/:trace', name: 'trace', nav: 'runs', load: () => import('./pages/trace.js') },
  { pattern: '/compare', name: 'compare', nav: 'runs', load: () => import('./pages/compare.js') },
  { pattern: '/datasets', name: 'datasets', nav: 'datasets', load: () => import('./pages/datasets.js') },
  { pattern: '/datasets/:dataset', name: 'dataset', nav: 'datasets', load: () => import('./pages/dataset.js') },
  { pattern: '/datasets/:dataset/diff', name: 'dataset-diff', nav: 'datasets', load: () => import('./pages/dataset-diff.js') },
  { pattern: '/datasets/:dataset/:selector', name: 'dataset', nav: 'datasets', load: () => import('./pages/dataset.js') },
  { pattern: '/models', name: 'models', nav: 'models', load: () => import('./pages/models.js'), first: ['/models?limit=500'] },
  { pattern: '/models/:model', name: 'model', nav: 'models', load: () => import('./pages/model.js'), first: ['/models/:model', '/models/:model/timeline'] },
  { pattern: '/models/:model/:number', name: 'model-version', nav: 'models', load: () => import('./pages/model-version.js'), first: ['/models/:model/versions/:number', '/models/:model'] },
  { pattern: '/lineage/:ref', name: 'lineage', nav: 'models', load: () => import('./pages/lineage.js') },
  { pattern: '/pipelines', name: 'pipelines', nav: 'pipelines', load: () => import('./pages/pipelines.js') },
  { pattern: '/pipelines/:pipeline', name: 'pipeline', nav: 'pipelines', load: () => import('./pages/pipeline.js') },
  { pattern: '/pipeline-runs/:id', name: 'pipeline-run', nav: 'pipelines', load: () => import('./pages/pipeline-run.js') },
  { pattern: '/endpoints', name: 'endpoints', nav: 'endpoints', load: () => import('./pages/endpoints.js') },
  { pattern: '/endpoints/:endpoint', name: 'endpoint', nav: 'endpoints', load: () => import('./pages/endpoint.js') },
  { pattern: '/endpoints/:endpoint/predictions', name: 'predictions', nav: 'endpoints', load: () => import('./pages/predictions.js') },
  { pattern: '/channels', name: 'channels', nav: 'monitors', load: () => import('./pages/channels.js') },
  { pattern: '/monitors', name: 'monitors', nav: 'monitors', load: () => import('./pages/monitors.js') },
  { pattern: '/monitors/:monitor', name: 'monitor', nav: 'monitors', load: () => import('./pages/monitor.js') },
  { pattern: '/alerts', name: 'monitors', nav: 'monitors', load: () => import('./pages/monitors.js') },
  { pattern: '/alerts/:alert', name: 'alert', nav: 'monitors', load: () => import('./pages/alert.js') },
  { pattern: '/loops', name: 'loops', nav: 'loops', load: () => import('./pages/loops.js') },
  { pattern: '/loops/:loop', name: 'loop', nav: 'loops', load: () => import('./pages/loop.js') },
  { pattern: '/reports', name: 'reports', nav: 'reports', load: () => import('./pages/reports.js') },
  { pattern: '/reports/:report', name: 'report', nav: 'reports', load: () => import('./pages/report.js') },
  { pattern: '/audit', name: 'audit', nav: 'audit', load: () => import('./pages/audit.js') },
  { pattern: '/approvals', name: 'approvals', nav: 'audit', load: () => import('./pages/approvals.js') },
  { pattern: '/approvals/:approval', name: 'approvals', nav: 'audit', load: () => import('./pages/approvals.js') },
  { pattern: '/compliance', name: 'compliance', nav: 'compliance', load: () => import('./pages/compliance.js') },
  { pattern: '/compliance/:system', name: 'system', nav: 'compliance', load: () => import('./pages/system.js') },
  { pattern: '/passports', name: 'passport', nav: 'endpoints', load: () => import('./pages/passport.js') },
  { pattern: '/passports/:prediction', name: 'passport', nav: 'endpoints', load: () => import('./pages/passport.js') },
  { pattern: '/inbox', name: 'inbox', nav: 'inbox', load: () => import('./pages/inbox.js') },
  { pattern: '/projects', name: 'projects', nav: 'projects', load: () => import('./pages/projects.js') },
  { pattern: '/projects/:project', name: 'project', nav: 'projects', load: () => import('./pages/project.js') },
  { pattern: '/settings', name: 'settings', nav: 'settings', load: () => import('./pages/settings.js') },
  { pattern: '/go/:kind/:id', name: 'go', nav: '', load: () => import('./pages/go.js') },
];

const router = createRouter(routes);
const live = createLive({ url: '/api/v1/stream' });
useLiveFrom(live);
const RIGHTS = /^(grant|role|group|member|project|label|clearance|thing|principal)\./;
live.listen({ fact: (/** @type {any} */ f) => { turns.value += 1; if (RIGHTS.test(f.kind)) forgetRights(); }, state: (on) => { online.value = on; } });

const keymap = createKeymap(Object.fromEntries(KEYS.map(([keys, command]) => [keys, command])));
addEventListener('keydown', (event) => {
  if (document.querySelector('dialog[open]') && event.key !== 'Escape') return;
  const command = keymap.feed(event, { typing: isTyping(event.target), at: event.timeStamp });
  if (command && (event.key !== 'Escape' || !document.querySelector('dialog[open]'))) { if (event.key.length === 1) event.preventDefault(); perform(command, event); } // or the letter would be typed into what the command opens
});

onSignedOut.add(() => { location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`); });

/** @type {Map<string, any>} pages already read */
const pages = new Map();

function App() {
  const place = router.place.value;
  const [, again] = useState(0);
  const [error, setError] = useState(/** @type {any} */ (null));
  const name = place?.route.name ?? '';
  useEffect(() => {
    setError(null);
    if (!place || pages.has(name)) return;
    place.route.load().then((module) => { pages.set(name, module.default); again((n) => n + 1); }).catch(setError);
  }, [name]);
  const View = pages.get(name);
  const content = !place
    ? html`<${Page} crumbs=${[['Not here']]}><${Empty} icon="search" title="There is no page at this address." text=${html`Press <kbd>Ctrl K</kbd> to search, or start at <a href="/">home</a>.`} /><//>`
    : error ? html`<${Page} crumbs=${[['Not read']]}><${Problem} error=${{ message: 'This page could not be read.', hint: `${error.message}. Reload; the server may have been updated.` }} retry=${() => location.reload()} /><//>`
      : View ? html`<${View} key=${place.route.name + JSON.stringify(place.params)} params=${place.params} query=${place.query} go=${router.go} setQuery=${router.setQuery} />` : html`<${Page} crumbs=${[['…']]} title="Noria" loading />`;
  return html`<${Shell} nav=${place?.route.nav ?? ''} go=${router.go}><${Boundary} at=${place?.path}>${content}<//><//>`;
}

api('/me').then((answer) => { me.value = answer; }).catch(() => { /* A refusal to say who one is shows on the page that needs it. */ });
live.start();
printLight();
render(html`<${App} />`, /** @type {HTMLElement} */ (document.getElementById('app')));
