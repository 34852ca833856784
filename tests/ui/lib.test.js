import test from 'node:test';
import assert from 'node:assert/strict';
import { append, bestRow, groupRows, readTable, select, sortRows, windowOf } from '../../noria/ui/lib/columns.js';
import { compileFilter, parseFilter, resolveKey } from '../../noria/ui/lib/filter.js';
import { extremes, outline, smooth } from '../../noria/ui/lib/extremes.js';
import { createKeymap } from '../../noria/ui/lib/keys.js';
import { fromMlflow, matchPath } from '../../noria/ui/lib/router.js';
import { concerns, createLive } from '../../noria/ui/lib/live.js';
import { layered, linePath, niceTicks, place, timeTicks } from '../../noria/ui/lib/layout.js';
import { pageOf, parseRef, nameOf } from '../../noria/ui/lib/refs.js';
import { merged, rank } from '../../noria/ui/lib/rank.js';
import { kindWord, parseHandle, placeOf } from '../../noria/ui/lib/search.js';
import { nameFromFacts } from '../../noria/ui/lib/names.js';
import { pairUp } from '../../noria/ui/lib/evaluations.js';
import { recent, totalRate } from '../../noria/ui/lib/traffic.js';
import { axisOf, passes } from '../../noria/ui/lib/axes.js';

const answer = { ids: ['a', 'b', 'c', 'd'], columns: { name: ['fox 2', 'fox 10', null, 'owl'], 'metrics.val/loss': [0.3, null, 'NaN', 0.1], 'params.lr': ['0.1', '0.01', '0.1', null], status: ['FINISHED', 'FAILED', 'FINISHED', 'RUNNING'] } };
const table = readTable(answer);
const all = Uint32Array.from([0, 1, 2, 3]);

test('a column of numbers becomes a typed array and keeps the words for non-finite values', () => {
  assert.ok(table.columns['metrics.val/loss'] instanceof Float64Array);
  assert.ok(table.columns['params.lr'] instanceof Float64Array, 'parameters that are all numbers are numbers');
  assert.ok(Array.isArray(table.columns.name));
});
test('sorting puts NaN after the numbers and what is absent last, in both directions, and is stable', () => {
  assert.deepEqual([...sortRows(all, table.columns['metrics.val/loss'], 'asc')], [3, 0, 2, 1]);
  assert.deepEqual([...sortRows(all, table.columns['metrics.val/loss'], 'desc')], [0, 3, 2, 1]);
  assert.deepEqual([...sortRows(all, table.columns.name, 'asc')], [0, 1, 3, 2], 'numbers inside words count as numbers');
});
test('sorting agrees with a plain sort on random numbers', () => {
  const values = Float64Array.from({ length: 3000 }, (_, i) => (i % 7 === 0 ? NaN : ((i * 7919) % 1009) / 10));
  const rows = Uint32Array.from(values.keys());
  const expected = [...rows].sort((a, b) => (Number.isNaN(values[a]) - Number.isNaN(values[b])) || (Number.isNaN(values[a]) ? a - b : values[a] - values[b] || a - b));
  assert.deepEqual([...sortRows(rows, values, 'asc')], expected);
});
test('pages of rows join, whatever columns each brings', () => {
  const both = append(table, readTable({ ids: ['e'], columns: { name: ['x'], 'metrics.new': [1] } }));
  assert.deepEqual(both.ids, ['a', 'b', 'c', 'd', 'e']);
  assert.deepEqual([...both.columns['metrics.new']], [NaN, NaN, NaN, NaN, 1]);
});
test('groups keep the order in which they appear and close', () => {
  const grouped = groupRows(all, table.columns['params.lr'], new Set(['0.1']));
  assert.deepEqual(grouped.map((g) => (typeof g === 'number' ? g : { group: g.group, count: g.count, open: g.open })), [{ group: '0.1', count: 2, open: false }, { group: '0.01', count: 1, open: true }, 1, { group: '', count: 1, open: true }, 3]);
});
test('the best of a column', () => {
  assert.equal(bestRow(all, table.columns['metrics.val/loss'], 'low'), 3);
  assert.equal(bestRow(all, table.columns['metrics.val/loss'], 'high'), 0);
});
test('no scroll position draws more than sixty rows', () => {
  for (const height of [200, 900, 5000]) for (let top = 0; top < 280_000; top += 9973) {
    const { from, to } = windowOf(top, height, 28, 10_000);
    assert.ok(to - from <= 60 && from >= 0 && to <= 10_000);
  }
});

test('a filter is words and comparisons', () => {
  assert.deepEqual(parseFilter('loss<0.3 status:failed "two words"').map((t) => t.word ?? `${t.key}${t.op}${t.value}`), ['loss<0.3', 'status=failed', 'two words']);
  const rows = (text) => [...select(table, compileFilter(text, table.columns).test)];
  assert.deepEqual(rows('loss < 0.2'), [3]);
  assert.deepEqual(rows('status:finished'), [0, 2]);
  assert.deepEqual(rows('fox status!=failed'), [0]);
  assert.deepEqual(rows('lr >= 0.05'), [0, 2]);
  assert.deepEqual(rows('name~OWL'), [3]);
  assert.deepEqual(rows('loss = NaN'), [2], 'what diverged is found, what is absent is not');
  assert.deepEqual(rows('loss < inf'), [0, 3]);
  assert.deepEqual(rows(''), [0, 1, 2, 3]);
});
test('a key nobody has matches nothing and is named', () => {
  const { test: t, unknown } = compileFilter('los < 1', table.columns);
  assert.deepEqual(unknown, ['los']);
  assert.equal(t(0), false);
});
test('a short key finds its column', () => assert.equal(resolveKey('loss', Object.keys(table.columns)), 'metrics.val/loss'));

test('thinning keeps the highest and the lowest of every bucket, ascending', () => {
  const y = Float64Array.from({ length: 10_000 }, (_, i) => Math.sin(i / 50) + (i === 4321 ? 100 : 0));
  y[17] = NaN;
  const kept = extremes(y, 100);
  assert.ok(kept.length <= 202);
  assert.ok(kept.includes(4321), 'the spike survives');
  assert.ok(!kept.includes(17));
  for (let i = 1; i < kept.length; i += 1) assert.ok(kept[i] > kept[i - 1]);
  assert.equal(kept.at(-1), 9999);
});
test('thinning nothing gives nothing', () => assert.equal(extremes([], 10).length, 0));
test('a line drawn from buckets visits low and high and never goes back', () => {
  const { x, y } = outline({ step: [0, 10, 20], min: [1, null, 0], max: [3, null, 2], first: [1, null, 2], last: [3, null, 0] });
  assert.deepEqual(y, [1, 1, 3, 3, 2, 2, 0, 0]);
  for (let i = 1; i < x.length; i += 1) assert.ok(x[i] > x[i - 1]);
});
test('smoothing starts at the first value and leaves constants alone', () => {
  assert.deepEqual([...smooth([2, 2, 2], 0.9)].map((v) => Number(v.toFixed(9))), [2, 2, 2]);
  assert.equal(smooth([5, 1], 0.5)[0], 5);
});

test('a sequence of keys is a command, and typing is not', () => {
  const map = createKeymap({ 'g r': 'runs', j: 'down', 'mod+k': 'palette', '?': 'keys' });
  assert.equal(map.feed({ key: 'g' }, { at: 0 }), null);
  assert.equal(map.feed({ key: 'r' }, { at: 300 }), 'runs');
  assert.equal(map.feed({ key: 'g' }, { at: 0 }), null);
  assert.equal(map.feed({ key: 'r' }, { at: 5000 }), null, 'too late');
  assert.equal(map.feed({ key: 'j' }, { at: 0, typing: true }), null);
  assert.equal(map.feed({ key: 'k', ctrlKey: true }, { at: 0, typing: true }), 'palette');
  assert.equal(map.feed({ key: '?', shiftKey: true }, { at: 0 }), 'keys');
});

test('addresses', () => {
  assert.deepEqual(matchPath('/models/:model/:number', '/models/fraud%2Fv2/7'), { model: 'fraud/v2', number: '7' });
  assert.equal(matchPath('/models/:model', '/models/fraud/7'), null);
  assert.deepEqual(matchPath('/', '/'), {});
  assert.deepEqual(matchPath('/files/*path', '/files/a/b'), { path: 'a/b' });
});

test('a fact concerns a page by kind and by subject', () => {
  const fact = { seq: 1, at_ms: 0, kind: 'run.finished', subject: 'run:1' };
  assert.ok(concerns(fact, { kinds: ['run.'] }));
  assert.ok(!concerns(fact, { kinds: ['model.'] }));
  assert.ok(concerns(fact, { subjects: ['run:1'] }));
  assert.ok(concerns(fact, { subjects: ['run:*'] }));
  assert.ok(!concerns(fact, { kinds: ['run.'], subjects: ['run:2'] }));
});

/** A browser of several tabs: one lock, one channel. */
function browser() {
  const queue = [], tabs = [], streams = [];
  let held = false;
  const pump = () => { if (held) return; const next = queue.shift(); if (!next) return; held = true; Promise.resolve(next.fn()).then(() => { held = false; next.done(); pump(); }); };
  const locks = { request: (_n, { signal }, fn) => new Promise((resolve, reject) => { const entry = { fn, done: resolve }; queue.push(entry); signal?.addEventListener('abort', () => { const i = queue.indexOf(entry); if (i >= 0) { queue.splice(i, 1); reject(Object.assign(new Error('a'), { name: 'AbortError' })); } }); pump(); }) };
  class Channel { constructor() { tabs.push(this); } postMessage(m) { for (const t of tabs) if (t !== this) t.onmessage?.({ data: structuredClone(m) }); } }
  class Stream { constructor(url) { this.url = url; this.on = {}; this.open = true; streams.push(this); } addEventListener(k, f) { this.on[k] = f; } close() { this.open = false; } send(fact) { this.on.fact({ data: JSON.stringify(fact), lastEventId: String(fact.seq) }); } }
  const tab = () => {
    const doc = { visibilityState: 'visible', handlers: [], addEventListener(_k, f) { this.handlers.push(f); } };
    const heard = [];
    const live = createLive({ url: '/s', EventSource: Stream, locks, Channel, doc });
    live.listen({ fact: (f) => heard.push(f.seq), resync: () => heard.push('resync') });
    live.start();
    return { heard, show: (v) => { doc.visibilityState = v ? 'visible' : 'hidden'; doc.handlers.forEach((f) => f()); } };
  };
  return { tab, open: () => streams.filter((s) => s.open) };
}
const settle = () => new Promise((r) => setTimeout(r, 5));

test('twenty tabs hold one stream, and all hear each fact once', async () => {
  const b = browser(), tabs = Array.from({ length: 20 }, b.tab);
  await settle();
  assert.equal(b.open().length, 1);
  b.open()[0].send({ seq: 1, kind: 'x' });
  b.open()[0].send({ seq: 2, kind: 'x' });
  for (const t of tabs) assert.deepEqual(t.heard, [1, 2]);
});
test('a hidden tab lets go and another takes over from where it was', async () => {
  const b = browser(), first = b.tab(), second = b.tab();
  await settle();
  b.open()[0].send({ seq: 7, kind: 'x' });
  first.show(false);
  await settle();
  assert.equal(b.open().length, 1);
  assert.equal(b.open()[0].url, '/s');
  b.open()[0].onopen();
  assert.deepEqual(second.heard, [7, 'resync'], 'facts may have gone by in between');
  b.open()[0].send({ seq: 8, kind: 'x' });
  assert.deepEqual(second.heard, [7, 'resync', 8]);
  first.show(true);
  assert.ok(first.heard.includes('resync'), 'who was away reads again');
});

test('ticks are round and cover the range', () => {
  assert.deepEqual(niceTicks(0, 1, 5), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(niceTicks(NaN, 1), []);
  assert.deepEqual(timeTicks(10_000, 5), [0, 2000, 4000, 6000, 8000, 10000]);
});
test('a span lies inside its window', () => assert.deepEqual(place(50, 100, { from: 0, to: 200 }), { left: 25, width: 25 }));
test('a path breaks where there is no number', () => assert.equal(linePath([0, 1, 2, 3], [1, NaN, 2, 3]), 'M0 1M2 2L3 3'));
test('layers of a graph go from left to right', async () => {
  const { nodes, edges, width } = await layered([{ id: 'a' }, { id: 'b' }, { id: 'c' }], [{ from: 'a', to: 'b' }, { from: 'b', to: 'c' }, { from: 'a', to: 'nowhere' }]);
  assert.ok(nodes.get('a').x < nodes.get('b').x && nodes.get('b').x < nodes.get('c').x);
  assert.equal(edges.length, 2);
  assert.ok(width > 0);
});

test('refs know their page', () => {
  assert.equal(pageOf('model_version:fraud@7'), '/models/fraud/7');
  assert.equal(pageOf({ kind: 'run', id: 'ab' }), '/runs/ab');
  assert.equal(pageOf('replica:1'), null);
  assert.deepEqual(parseRef('a:b:c'), { kind: 'a', id: 'b:c' });
  assert.equal(nameOf('model:fraud'), 'fraud');
});
test('a few letters find the name that was meant', () => assert.deepEqual(rank('mon', ['Common', 'Open monitors', 'Monitors'], (x) => x), ['Monitors', 'Open monitors', 'Common']));

test('an axis is logarithmic where values span decades, and brushes keep rows', () => {
  const rows = Uint32Array.from([0, 1, 2]);
  const a = axisOf('params.lr', ['0.0001', '0.01', '1'], rows);
  assert.equal(a.at(1), 0.5);
  assert.deepEqual([...passes([a], rows, { 'params.lr': [0.4, 1] })], [1, 2]);
  const words = axisOf('params.opt', ['adam', 'sgd', null], rows);
  assert.equal(words.at(1), 1);
  assert.ok(Number.isNaN(words.at(2)));
});

test('a handle is kind, name and selector, each but the name optional', () => {
  assert.deepEqual(parseHandle('model:fraud@champion'), { kind: 'model', name: 'fraud', selector: 'champion' });
  assert.deepEqual(parseHandle('fraud'), { kind: '', name: 'fraud', selector: '' });
  assert.equal(parseHandle('two words'), null);
  assert.equal(placeOf({ kind: 'manual', ref: '', href: '/docs/guides/data/' }), '/docs/guides/data/');
  assert.equal(placeOf({ kind: 'group', ref: 'group:7' }), '/settings?tab=people');
  assert.equal(placeOf({ kind: 'channel', ref: 'channel:ops' }), '/channels?channel=ops');
  assert.equal(placeOf({ kind: 'view', ref: 'view:01' }), '/views/01');
  assert.deepEqual([kindWord('model_version'), kindWord('principal'), kindWord('loop')], ['version', 'person', 'loop']);
});
test('the facts about a thing name it', () => {
  const id = 'a'.repeat(32);
  assert.deepEqual(nameFromFacts(`model_version:${id}`, [{ kind: 'model_version.promoted', data: { model: 'fraud', number: 7, alias: 'champion' } }]), { label: 'fraud@7', href: '/models/fraud/7' });
  assert.equal(nameFromFacts(`run:${id}`, []), null);
});
test('only numbers on the same split of the same data are compared', () => {
  const ours = [{ dataset_version: 'd', split: 'test', metrics: { auc: 0.9 } }, { dataset_version: 'd', split: 'train', metrics: { auc: 0.99 } }];
  const theirs = [{ dataset_version: 'd', split: 'test', metrics: { auc: 0.8 } }, { dataset_version: 'e', split: 'train', metrics: { auc: 0.1 } }];
  assert.deepEqual(pairUp(ours, theirs).map((g) => [g.split, g.same, g.rows[0].theirs]), [['test', true, 0.8], ['train', false, undefined]]);
});
test('traffic adds up over revisions', () => {
  const traffic = { t: [0, 1], by_revision: { a: { count: [1, 2], errors: [0, 1], p50_ms: [1, 2], p99_ms: [3, 4] }, b: { count: [10, 0], errors: [0, 0], p50_ms: [5, null], p99_ms: [9, null] } } };
  assert.deepEqual(totalRate(traffic), [11, 2]);
  assert.deepEqual(recent(traffic, 1), { requests: 2, errors: 1, error_share: 0.5, p99_ms: 4 });
});
test('addresses that the MLflow client prints lead to the same thing', () => {
  assert.equal(fromMlflow('#/experiments/1/runs/ab'), '/runs/ab');
  assert.equal(fromMlflow('#/experiments/1'), '/runs?experiment=1');
  assert.equal(fromMlflow('#/models/fraud/versions/3'), '/models/fraud/3');
  assert.equal(fromMlflow('#content'), null);
});
test('what is found late does not change what Enter means', () => {
  const things = [{ title: 'Comfortable chairs' }, { title: 'rows', more: 'a table' }], here = [{ title: 'Go home' }, { title: 'Comfortable rows' }];
  const names = (/** @type {any[]} */ list) => list.map((i) => i.title);
  assert.deepEqual(names(merged('comfortable rows', things, here, false)), ['Comfortable rows', 'Go home'], 'what an earlier text found and this one does not name is gone');
  assert.deepEqual(names(merged('rows', things, here, true)), ['Comfortable chairs', 'rows', 'Go home', 'Comfortable rows'], 'the search says what it found for this text');
  assert.deepEqual(names(merged('go', things, here, true))[0], 'Go home');
  assert.deepEqual(names(merged(' ', things, here, true)), names(here));
});
