// @ts-check
/** Addresses. `matchPath` is pure; `createRouter` binds it to the browser's history. State that can be shared lives in the URL. */

import { signal } from '@preact/signals-core';

/** @typedef {{pattern: string, name: string, nav: string, load: () => Promise<any>, first?: string[]}} Route */
/** @typedef {{route: Route, params: Record<string, string>, path: string, query: URLSearchParams}} Place */

/** The named parts of a path under a pattern such as `/models/:model/:number`, or null. A last `*rest` takes what remains.
 *  @param {string} pattern @param {string} path @returns {Record<string, string> | null} */
export function matchPath(pattern, path) {
  const want = pattern.split('/').filter(Boolean), have = path.split('/').filter(Boolean);
  /** @type {Record<string, string>} */ const params = {};
  for (let i = 0; i < want.length; i += 1) {
    if (want[i].startsWith('*')) { params[want[i].slice(1)] = have.slice(i).map(decode).join('/'); return params; }
    if (have[i] === undefined) return null;
    if (want[i].startsWith(':')) params[want[i].slice(1)] = decode(have[i]);
    else if (want[i] !== have[i]) return null;
  }
  return want.length === have.length ? params : null;
}

/** Where the addresses lead that MLflow's client prints (`/#/experiments/1/runs/ab`), or null. Pure. @param {string} hash */
export function fromMlflow(hash) {
  const parts = hash.replace(/^#\/?/, '').split('?')[0].split('/').filter(Boolean);
  if (parts[0] === 'experiments' && parts[2] === 'runs' && parts[3]) return `/runs/${parts[3]}`;
  if (parts[0] === 'experiments' && parts[1]) return `/runs?experiment=${parts[1]}`;
  if (parts[0] === 'models' && parts[1]) return `/models/${parts[1]}${parts[2] === 'versions' && parts[3] ? `/${parts[3]}` : ''}`;
  return null;
}

/** @param {Route[]} routes @param {string} base path under which the interface lives, without a trailing slash */
export function createRouter(routes, base = '') {
  const known = fromMlflow(location.hash);
  if (known) history.replaceState(null, '', base + known);
  const place = signal(locate(routes, base, location.href));

  function update() { place.value = locate(routes, base, location.href); }

  /** @param {string} to @param {{replace?: boolean}} [options] */
  function go(to, { replace = false } = {}) {
    const url = to.startsWith('?') ? location.pathname + to : base + to;
    if (url === location.pathname + location.search) return;
    history[replace ? 'replaceState' : 'pushState'](null, '', url);
    update();
    if (!replace && !to.startsWith('?')) document.querySelector('.page > .content')?.scrollTo(0, 0);
  }

  /** Sets or removes (null, '') query parameters, keeping the others. @param {Record<string, string | null | undefined>} changes @param {{push?: boolean}} [options] */
  function setQuery(changes, { push = false } = {}) {
    const query = new URLSearchParams(location.search);
    for (const [k, v] of Object.entries(changes)) if (v) query.set(k, v); else query.delete(k);
    const text = query.toString().replaceAll('%2C', ',').replaceAll('%2F', '/').replaceAll('%3A', ':').replaceAll('%7E', '~');
    go(text ? `?${text}` : location.pathname.slice(base.length) || '/', { replace: !push });
  }

  addEventListener('popstate', update);
  document.addEventListener('click', (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = /** @type {Element} */ (event.target).closest?.('a[href]');
    if (!(link instanceof HTMLAnchorElement) || link.target || link.hasAttribute('download') || link.dataset.external !== undefined) return;
    const url = new URL(link.href);
    if (url.origin !== location.origin) return;
    if (url.hash && url.pathname === location.pathname) return;
    if (!locate(routes, base, link.href)) return;
    event.preventDefault();
    go(url.pathname.slice(base.length) + url.search);
  });
  return { place, go, setQuery, base };
}

/** @param {Route[]} routes @param {string} base @param {string} href @returns {Place | null} */
function locate(routes, base, href) {
  const url = new URL(href);
  if (base && !url.pathname.startsWith(base)) return null;
  const path = url.pathname.slice(base.length) || '/';
  for (const route of routes) {
    const params = matchPath(route.pattern, path);
    if (params) return { route, params, path, query: url.searchParams };
  }
  return null;
}

/** @param {string} part */
function decode(part) {
  try { return decodeURIComponent(part); } catch { return part; }
}
