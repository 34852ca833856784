import assert from 'node:assert/strict';
import { test } from 'node:test';
import { placeText, threadsOf } from '../../noria/ui/lib/talk.js';

const said = (id, thread, removed = null) => ({ id, thread, removed_at_ms: removed });

test('answers follow the comment they answer, in order', () => {
  const threads = threadsOf([said('a', 'a'), said('b', 'b'), said('c', 'a'), said('d', 'b'), said('e', 'a')]);
  assert.deepEqual(threads.map((t) => t.map((c) => c.id)), [['a', 'c', 'e'], ['b', 'd']]);
});

test('a thread of which nothing is left is not shown; one with an answer keeps its place', () => {
  const threads = threadsOf([said('a', 'a', 1), said('b', 'b', 1), said('c', 'b')]);
  assert.deepEqual(threads.map((t) => t.map((c) => c.id)), [['b', 'c']]);
});

test('where something was said is read in words', () => {
  assert.equal(placeText('metric:val/loss@600'), 'val/loss at 600');
  assert.equal(placeText('metric:auc'), 'auc');
  assert.equal(placeText('row_group:7'), 'row group 7');
  assert.equal(placeText('the third table'), 'the third table');
});
