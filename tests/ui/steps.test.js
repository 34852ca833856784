import test from 'node:test';
import assert from 'node:assert/strict';
import { conditionsOf, ruleOf } from '../../noria/ui/lib/starts.js';
import { bestSoFar, grouped, isOpen, keptOf, kindOf, rowsOf, trialTable, typed } from '../../noria/ui/lib/steps.js';

const view = (id, more = {}) => ({ step: { id, name: id, parent_id: '', kind: 'call', item: -1, ...more }, attempts: [] });
const many = (count) => [view('load'), view('fit', { kind: 'map' }), ...Array.from({ length: count }, (_, i) => view(`fit[${count - 1 - i}]`, { parent_id: 'fit', item: count - 1 - i }))];

test('elements follow their map, in order, unless they are many', () => {
  const few = grouped(many(3));
  assert.deepEqual(rowsOf(few, new Set()).map((r) => r.step.name), ['load', 'fit', 'fit[0]', 'fit[1]', 'fit[2]']);
  assert.deepEqual(rowsOf(few, new Set(['fit'])).map((r) => r.step.name), ['load', 'fit']);
  const lots = grouped(many(40));
  assert.equal(rowsOf(lots, new Set()).length, 2);
  assert.equal(rowsOf(lots, new Set(['fit'])).length, 42);
  assert.equal(isOpen(lots[0].of, lots[0].elements, new Set(['load'])), false);
});
test('a step says what it is', () => {
  assert.equal(kindOf(view('a', { kind: 'map' }), [view('b')]), 'each of 1');
  assert.equal(kindOf(view('a', { kind: 'sweep' }), [view('b')]), '1 trial');
  assert.equal(kindOf(view('a', { kind: 'approve' }), []), 'question');
  assert.equal(kindOf({ ...view('a'), attempts: [1, 2] }, []), '2 attempts');
});
test('the best so far never gets worse, and knows its direction', () => {
  const trials = [3, 5, null, 1, 2].map((value, number) => ({ number, value, outcome: value === null ? 'pruned' : 'complete', params: {} }));
  assert.deepEqual(bestSoFar(trials, 'minimize').map((p) => p.best), [3, 3, 1, 1]);
  assert.deepEqual(bestSoFar(trials, 'maximize').map((p) => p.best), [3, 5, 5, 5]);
});
test('trials become columns', () => {
  const table = trialTable([{ number: 0, outcome: 'complete', value: 2, params: { lr: 0.1, kind: null } }, { number: 1, outcome: 'failed', value: null, params: { lr: 1, kind: true } }], ['lr', 'kind'], 'loss');
  assert.deepEqual(table.columns['params.kind'], ['null', 'true']);
  assert.deepEqual([...table.columns['metrics.loss']], [2, NaN]);
});
test('a parameter is JSON where it is JSON', () => {
  assert.deepEqual([typed('3'), typed('"3"'), typed('flights'), typed('[1]')], [3, '3', 'flights', [1]]);
});
test('a rule is said in words, and conditions are read as they are typed', () => {
  assert.deepEqual(ruleOf({ cron: '0 3 * * *', time_zone: 'UTC' }), ['at', '0 3 * * * (UTC)']);
  assert.deepEqual(ruleOf({ kinds: ['alert.opened'], filter: [{ field: 'data.severity', op: '=', value: 'high' }] }), ['when', 'alert.opened where data.severity = high']);
  assert.deepEqual(ruleOf({ kinds: [], files: { url: 'file:///in', pattern: '*.csv' } })[1], 'file:///in (*.csv)');
  assert.deepEqual(conditionsOf("data.name = flights and data.rows >= 10 AND subject like model:*"), [{ field: 'data.name', op: '=', value: 'flights' }, { field: 'data.rows', op: '>=', value: 10 }, { field: 'subject', op: 'like', value: 'model:*' }]);
  assert.deepEqual(conditionsOf(''), []);
  assert.throws(() => conditionsOf('nonsense'), /no condition/);
});
test('the values that are in files are found wherever they are', () => {
  const saved = { as: 'saved', type: 'pandas.DataFrame', materialiser: 'noria.pandas', version: 1, digest: 'd1', size_bytes: 9, name: 'frame.arrow' };
  const value = { as: 'named', items: { frame: saved, rest: { as: 'many', items: [{ as: 'json', value: 1 }, { as: 'pickle', digest: 'd2', size_bytes: 3, type: '' }] }, dir: { ...saved, name: '' } } };
  assert.deepEqual(keptOf(value, 'result').map((k) => [k.part, k.by, k.file]), [['result.frame', 'noria.pandas 1', 'frame.arrow'], ['result.rest[1]', 'pickle', ''], ['result.dir', 'noria.pandas 1', 'files.tar']]);
  assert.deepEqual(keptOf({ as: 'json', value: 3 }), []);
});
