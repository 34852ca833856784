import test from 'node:test';
import assert from 'node:assert/strict';
import { addColumns, aggregate, append, dropRows, groupRows, patchRows, readTable, sortRows, valueAt } from '../../noria/ui/lib/columns.js';
import { cell, csv } from '../../noria/ui/lib/csv.js';
import { betweenGroups, importance, ranks, spearman } from '../../noria/ui/lib/importance.js';
import { add, columnsOf, format, parse, without } from '../../noria/ui/lib/mlfilter.js';
import { arrange, changesFor, moveBy, moveTo, needed, sameSpec, sortOf, specOf, usual, widthsOf, writeWidths } from '../../noria/ui/lib/view.js';

const table = readTable({ ids: ['a', 'b', 'c', 'd'], columns: { name: ['w', 'x', 'y', 'z'], 'metrics.loss': [1, 3, null, 8], 'params.opt': ['adam', 'sgd', 'adam', 'adam'] } });
const all = Uint32Array.from([0, 1, 2, 3]);

test('a group knows its rows, and its numbers are over the finite values it has', () => {
  const [adam] = groupRows(all, table.columns['params.opt'], new Set());
  assert.deepEqual([...adam.rows], [0, 2, 3]);
  const of = (how) => aggregate(table.columns['metrics.loss'], adam.rows, how);
  assert.deepEqual(['mean', 'median', 'min', 'max', 'sum'].map(of), [4.5, 4.5, 1, 8, 9]);
  assert.equal(of('std').toFixed(4), '4.9497');
  assert.ok(Number.isNaN(aggregate(table.columns['params.opt'], adam.rows, 'mean')), 'words have no mean');
  assert.ok(Number.isNaN(aggregate(table.columns['metrics.loss'], Uint32Array.from([2]), 'max')));
});
test('columns that come later find their rows by id', () => {
  const more = addColumns(table, readTable({ ids: ['d', 'a'], columns: { 'metrics.acc': [0.4, 0.1], 'tags.t': ['x', null] } }));
  assert.deepEqual([...more.columns['metrics.acc']], [0.1, NaN, NaN, 0.4]);
  assert.deepEqual(more.columns['tags.t'], [null, null, null, 'x']);
});
test('rows that are read again replace their old selves, new ones come first, gone ones go', () => {
  const after = patchRows(table, readTable({ ids: ['e', 'c'], columns: { name: ['new', 'y2'], 'metrics.loss': [5, 2] } }));
  assert.deepEqual(after.ids, ['e', 'a', 'b', 'c', 'd']);
  assert.deepEqual(after.columns.name, ['new', 'w', 'x', 'y2', 'z']);
  assert.deepEqual([...after.columns['metrics.loss']], [5, 1, 3, 2, 8]);
  assert.deepEqual(after.columns['params.opt'], [null, 'adam', 'sgd', 'adam', 'adam']);
  assert.deepEqual(dropRows(after, new Set(['a', 'e'])).columns.name, ['x', 'y2', 'z']);
});

test('a metric that diverged is no metric that is absent, whatever becomes of the table', () => {
  const read = (/** @type {any[]} */ loss, ids = loss.map((_, i) => `r${i}`)) => readTable({ ids, columns: { 'metrics.loss': loss } });
  const seen = (/** @type {any} */ t) => t.ids.map((/** @type {string} */ _, /** @type {number} */ i) => valueAt(t.columns['metrics.loss'], i));
  const first = read([1, 'NaN', null, 'Infinity', '-Infinity']);
  assert.deepEqual(seen(first), [1, NaN, null, Infinity, -Infinity]);
  assert.deepEqual(seen(read(['NaN', null])), [NaN, null], 'also where no run has a number');
  assert.deepEqual(seen(append(first, read([null, 'NaN'], ['a', 'b']))), [1, NaN, null, Infinity, -Infinity, null, NaN]);
  assert.deepEqual(seen(patchRows(first, read(['NaN', 2], ['r2', 'new']))), [2, 1, NaN, NaN, Infinity, -Infinity]);
  assert.deepEqual(seen(dropRows(first, new Set(['r0']))), [NaN, null, Infinity, -Infinity]);
  assert.deepEqual(seen(addColumns(readTable({ ids: ['r2', 'r1'], columns: { name: ['c', 'b'] } }), first)), [null, NaN]);
  assert.deepEqual([...sortRows(Uint32Array.from([0, 1, 2, 3, 4]), first.columns['metrics.loss'], 'desc')], [3, 0, 4, 1, 2]);
});

test('no cell of a CSV is a formula, and numbers stay numbers', () => {
  for (const text of ['=1+1', '+cmd', '-x', '@SUM(A1)', '\t=1', '\r=1', ' =1', '\uFF1D1', '|cmd', '=cmd|\' /C calc\'!A0']) {
    const written = cell(text);
    assert.ok(/^"?'/.test(written), `${JSON.stringify(text)} became ${written}`);
  }
  assert.deepEqual(['-1.5', '+3', '1e-5', -2, NaN, null, 'a'].map(cell), ['-1.5', '+3', '1e-5', '-2', 'NaN', '', 'a']);
  assert.equal(cell('say "hi", you\nthere'), '"say ""hi"", you\nthere"');
  assert.equal(csv(['a', '=b'], [[1, 'x'], [null, '=y']]), "a,'=b\r\n1,x\r\n,'=y\r\n");
});

test('the filter language is read as the server reads it', () => {
  const text = "metrics.`val/loss x` < 0.3 and params.model = 'it''s' and tags.\"a.b\" ilike '%A%' and attributes.status in ('FAILED', 'KILLED') and metrics.acc between 0 and 1e-2 and params.in is not null and name not like 'x%'";
  const { conditions, error } = parse(text);
  assert.equal(error, null);
  assert.deepEqual(conditions.map(({ entity, key, op, value }) => [entity, key, op, value]), [
    ['metrics', 'val/loss x', '<', 0.3], ['params', 'model', '=', "it's"], ['tags', 'a.b', 'ilike', '%A%'], ['attributes', 'status', 'in', ['FAILED', 'KILLED']],
    ['metrics', 'acc', '>=', 0], ['metrics', 'acc', '<=', 0.01], ['params', 'in', 'is not null', null], ['attributes', 'name', 'not like', 'x%']]);
});
test('what is written is what was read', () => {
  for (const c of parse("metrics.`a b` < -1.5 and params.`in` = 'o\\'c' and tags.x is null and attributes.status not in ('A', 'B')").conditions) {
    const again = parse(format(c)).conditions[0];
    assert.deepEqual([again.entity, again.key, again.op, again.value], [c.entity, c.key, c.op, c.value]);
  }
});
test('a mistake is named at its place', () => {
  for (const [text, at] of [['metrics.loss < ', 15], ['metrics.loss <', 14], ["params.a = 'x", 11], ['metrics.a = 1 or metrics.b = 2', 14], ['loss.x = 1', 0], ["metrics.a = 'x'", 12], ['params.a = 3', 11], ['and', 0], ['metrics.a ? 1', 10], ["params.a like x", 14], ['metrics.a < 1 and', 17]]) {
    const { error } = parse(text);
    assert.ok(error && error.message, text);
    assert.equal(error.at, at, `${text}: ${error.message}`);
  }
});
test('chips take and give conditions', () => {
  const one = add('', { entity: 'metrics', key: 'loss', op: '<', value: 0.3 });
  const two = add(one, { entity: 'params', key: 'kind of', op: '=', value: 'a' });
  assert.equal(two, "metrics.loss < 0.3 and params.`kind of` = 'a'");
  assert.equal(without(two, 0), "params.`kind of` = 'a'");
  assert.deepEqual(columnsOf(two), ['metrics.loss', 'params.kind of']);
});

test('columns move, and the name of the run stays first', () => {
  const cols = ['name', 'a', 'b', 'c'];
  assert.deepEqual(moveTo(cols, 'c', 'a'), ['name', 'c', 'a', 'b']);
  assert.deepEqual(moveTo(cols, 'a', 'c'), ['name', 'b', 'c', 'a']);
  assert.deepEqual(moveBy(cols, 'a', -1), cols);
  assert.deepEqual(moveBy(cols, 'name', 1), cols);
  assert.deepEqual(arrange(['b', 'name', 'a'], ['a']), ['name', 'a', 'b']);
});
test('a view is the query of an address and back', () => {
  const query = new URLSearchParams({ filter: 'metrics.a < 1', cols: 'name,metrics.a', sel: 'abc', saved: 'x', w: 'metrics.a~140' });
  const spec = specOf(query);
  assert.deepEqual(Object.keys(spec).sort(), ['cols', 'filter', 'w']);
  assert.ok(sameSpec(spec, { ...spec, group: '' }) && !sameSpec(spec, { ...spec, group: 'params.a' }));
  const changes = changesFor({ id: 'v', scope: '', spec });
  assert.equal(changes.sort, null, 'what the view does not say is taken away');
  assert.equal(changes.filter, 'metrics.a < 1');
  assert.deepEqual(widthsOf('metrics.a~b~140,x~9'), { 'metrics.a~b': 140, x: 56 });
  assert.equal(writeWidths({ a: 100.4 }), 'a~100');
  assert.deepEqual(sortOf('metrics.a:b:asc'), { name: 'metrics.a:b', order: 'asc' });
  assert.deepEqual(sortOf(null), { name: 'started_at_ms', order: 'desc' });
});
test('only what is shown, sorted, grouped or sought is asked for', () => {
  assert.deepEqual(needed({ cols: ['name', 'duration_ms', 'metrics.a'], sort: 'metrics.b', group: 'params.c', words: ['tags.d'] }), ['name', 'status', 'started_at_ms', 'ended_at_ms', 'metrics.a', 'metrics.b', 'params.c', 'tags.d']);
});
test('one run with a thousand metrics does not choose the usual columns', () => {
  const catalogue = [{ name: 'metrics.loss', runs: 99 }, { name: 'params.lr', runs: 99 }, ...Array.from({ length: 1000 }, (_, i) => ({ name: `metrics.layer${i}`, runs: 1 }))];
  assert.deepEqual(usual(catalogue, 100), ['name', 'status', 'metrics.loss', 'started_at_ms', 'duration_ms', 'user', 'params.lr']);
});

test('ranks share ties; the rank correlation agrees with a worked example', () => {
  assert.deepEqual([...ranks([10, 20, 20, 5])], [2, 3.5, 3.5, 1]);
  // IQ and hours of television, the example of the article on Spearman's coefficient: ρ = −29/165.
  const iq = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110], tv = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17];
  assert.equal(spearman(iq, tv).toFixed(6), (-29 / 165).toFixed(6));
  assert.ok(Number.isNaN(spearman([1, 1, 1], [1, 2, 3])));
});
test('what decides the result is found, what does not is near nothing', () => {
  let seed = 7;
  const random = () => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed / 2147483648; };
  const n = 400, rows = Uint32Array.from({ length: n }, (_, i) => i);
  const lr = Array.from({ length: n }, () => String(random())), opt = Array.from({ length: n }, (_, i) => ['adam', 'sgd', 'lion'][i % 3]), noise = Array.from({ length: n }, () => `v${Math.floor(random() * 10)}`);
  const result = Float64Array.from(lr, (v, i) => Number(v) + (opt[i] === 'sgd' ? 1 : 0));
  const found = importance({ 'params.noise': noise, 'params.lr': lr, 'params.opt': opt, 'params.same': lr.map(() => 'x') }, result, rows);
  assert.deepEqual(found.map((f) => f.name), ['params.opt', 'params.lr', 'params.noise']);
  assert.ok(found[2].share < 0.05, `noise has ${found[2].share}`);
  assert.ok(found[1].rho > 0.3);
  assert.equal(betweenGroups(['a', 'a', 'b', 'b'], [1, 1, 2, 2]), 1);
});
