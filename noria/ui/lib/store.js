// @ts-check
/** What the whole interface shares and the URL does not say: the viewer, the theme, colours of runs, toasts. One signal each. */

import { signal, effect, computed } from '@preact/signals';

/** @template T @param {string} key @param {T} fallback */
function remembered(key, fallback) {
  let start = fallback;
  try { const text = localStorage.getItem(key); if (text !== null) start = JSON.parse(text); } catch { /* Private windows have no memory; the fallback serves. */ }
  const s = signal(start);
  effect(() => { const v = s.value; try { localStorage.setItem(key, JSON.stringify(v)); } catch { /* As above. */ } });
  return s;
}

/** @type {import('@preact/signals').Signal<'system' | 'light' | 'dark'>} */
export const theme = remembered('noria.theme', 'system');
/** @type {import('@preact/signals').Signal<'compact' | 'comfortable'>} */
export const density = remembered('noria.density', 'compact');
/** @type {import('@preact/signals').Signal<'utc' | 'local'>} */
export const zone = remembered('noria.zone', 'local');
export const railClosed = remembered('noria.rail', false);
/** Visible columns per experiment. @type {import('@preact/signals').Signal<Record<string, string[]>>} */
export const columnChoice = remembered('noria.columns', {});

/** Pages of things that were open in this browser, the last first, with who looked. @type {import('@preact/signals').Signal<{path: string, title: string, who: string}[]>} */
export const visited = remembered('noria.visited', []);
/** Notes that the page of a thing was looked at. @param {string} path @param {string} title */
export function visit(path, title) {
  const who = me.peek()?.id ?? '';
  if (path.split('/').length < 3 || /^\/(go|views|docs)\//.test(path)) return;
  visited.value = [{ path, title, who }, ...visited.peek().filter((v) => v.path !== path || v.who !== who)].slice(0, 20);
}

export const me = signal(/** @type {any} */ (null));
export const online = signal(true);
export const turns = signal(0);
export const openAlerts = signal(0);
/** Counts up when notifications were read here: reading is no fact, so nobody else says it. */
export const inboxReads = signal(0);

/** Counts up when the theme or the system's scheme changes; canvas charts read their colours again. */
export const scheme = signal(0);
effect(() => {
  const t = theme.value;
  if (t === 'system') delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = t;
  scheme.value = scheme.peek() + 1;
});
effect(() => { document.documentElement.dataset.density = density.value; });
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { scheme.value += 1; });

export const rowHeight = computed(() => (density.value === 'comfortable' ? 36 : 28));

/** The time, to the half minute, for "4 min ago". */
export const now = signal(Date.now());
setInterval(() => { if (document.visibilityState !== 'hidden') now.value = Date.now(); }, 10_000);

/** A run's colour is its identity: given when it is first drawn, kept while the tab lives, across pages. */
const slots = (() => { try { return new Map(/** @type {[string, number][]} */ (JSON.parse(sessionStorage.getItem('noria.slots') ?? '[]'))); } catch { return new Map(); } })();
const slotCount = 8;

/** The series slot of an id; the ninth repeats a colour with a dash. Slots go to the least used colour among `among`.
 *  @param {string} id @param {string[]} [among] ids drawn together @returns {{colour: string, dash: boolean, index: number}} */
export function slotOf(id, among = []) {
  if (!slots.has(id)) {
    const used = new Set(among.filter((x) => x !== id && slots.has(x)).map((x) => /** @type {number} */ (slots.get(x))));
    let slot = 0;
    while (used.has(slot)) slot += 1;
    slots.set(id, slot);
    try { sessionStorage.setItem('noria.slots', JSON.stringify([...slots].slice(-400))); } catch { /* The colours last as long as the page. */ }
  }
  const index = /** @type {number} */ (slots.get(id));
  return { colour: `var(--series-${(index % slotCount) + 1})`, dash: index >= slotCount, index };
}

/** `undo` takes the deed back, as long as the words are there. @typedef {{id: number, tone: 'ok' | 'bad' | 'info', text: string, hint?: string, op?: string, undo?: () => Promise<any>}} Toast */
export const toasts = signal(/** @type {Toast[]} */ ([]));
let toastId = 0;

/** Says something at the corner of the window. Refusals stay until dismissed. @param {Omit<Toast, 'id'>} toast */
export function say(toast) {
  const id = ++toastId;
  toasts.value = [...toasts.value.slice(-3), { id, ...toast }];
  if (toast.tone !== 'bad') setTimeout(() => hush(id), toast.undo ? UNDO_MS : 6000);
}

const UNDO_MS = 12_000;

/** Takes a deed back, and says what became of that. @param {Toast} toast */
export async function takeBack(toast) {
  hush(toast.id);
  try { await toast.undo?.(); say({ tone: 'ok', text: 'Taken back.' }); } catch (error) { sayError(error); }
}

/** @param {number} id */
export function hush(id) { toasts.value = toasts.value.filter((t) => t.id !== id); }

/** Says why something failed. @param {any} error */
export function sayError(error) {
  say({ tone: 'bad', text: error?.message ?? String(error), hint: error?.hint, op: error?.op });
}

/** @param {string} text @param {string} [what] */
export async function copy(text, what = 'Copied') {
  try { await navigator.clipboard.writeText(text); say({ tone: 'ok', text: `${what}.` }); } catch {
    say({ tone: 'info', text, hint: 'This browser lets no page copy over plain HTTP; select the text above.' });
  }
}
