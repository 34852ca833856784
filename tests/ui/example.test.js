import test from 'node:test';
import assert from 'node:assert/strict';
import { byWeight, rowsOfExample, typed } from '../../noria/ui/lib/example.js';

test('an example is a table when it is written split or as records, whichever way MLflow wraps it', () => {
  const split = { columns: ['a', 'b'], data: [[1, 'x'], [2, null]] };
  for (const of of [split, { dataframe_split: split }]) assert.deepEqual(rowsOfExample(of), { columns: ['a', 'b'], rows: [[1, 'x'], [2, null]], more: 0 });
  assert.deepEqual(rowsOfExample([{ a: 1 }, { b: 2, a: 3 }]), { columns: ['a', 'b'], rows: [[1, undefined], [3, 2]], more: 0 });
  assert.deepEqual(rowsOfExample({ columns: ['a'], data: Array.from({ length: 60 }, (_, i) => [i]) })?.more, 10);
});
test('what is no table is left to be shown as it is', () => {
  for (const of of [null, 1, 'text', [], [1, 2], { inputs: [[1, 2]] }, { columns: ['a'], data: [1] }]) assert.equal(rowsOfExample(of), null);
});

test('what is typed into a form has the type of the example, and what has not is left for the server to refuse', () => {
  assert.equal(typed(' 1.5 ', 3), 1.5);
  assert.equal(typed('fast', 3), 'fast');
  assert.equal(typed('', 3), null);
  assert.equal(typed('', 'EWR'), '');
  assert.equal(typed('7', 'EWR'), '7');
  assert.equal(typed('false', true), false);
  assert.equal(typed('yes', true), 'yes');
});

test('contributions come largest first, whichever way they point', () => {
  assert.deepEqual(byWeight({ a: 0.1, b: -2, c: 1 }).map((p) => p.name), ['b', 'c', 'a']);
  assert.deepEqual(byWeight([{ a: 1, b: 0 }, { a: -1, b: 1.5 }]), [{ name: 'a', value: 2 }, { name: 'b', value: 1.5 }]);
});
