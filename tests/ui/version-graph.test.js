import test from 'node:test';
import assert from 'node:assert/strict';
import { versionGraph } from '../../noria/ui/lib/version-graph.js';

const of = (...rows) => versionGraph(rows.map(([id, ...parents]) => ({ id, parents })));
const lanes = (rows) => rows.map((r) => r.lane);

test('one history is one lane', () => {
  const rows = of(['c', 'b'], ['b', 'a'], ['a']);
  assert.deepEqual(lanes(rows), [0, 0, 0]);
  assert.deepEqual(rows.map((r) => r.lines), [[[0, 0]], [[0, 0]], []]);
});
test('a branch leaves and comes back', () => {
  const rows = of(['m', 'c', 't'], ['c', 'b'], ['t', 'b'], ['b', 'a'], ['a']);
  assert.deepEqual(lanes(rows), [0, 0, 1, 0, 0]);
  assert.deepEqual(rows[0].lines, [[0, 0], [0, 1]]);
  assert.deepEqual(rows[1].lines, [[1, 1], [0, 0]]);
  assert.deepEqual(rows[2].lines, [[0, 0], [1, 0]]);
  assert.equal(Math.max(...rows.map((r) => r.lanes)), 2);
});
test('two branches that are not merged stay beside each other', () => {
  const rows = of(['x', 'a'], ['y', 'a'], ['a']);
  assert.deepEqual(lanes(rows), [0, 1, 0]);
  assert.deepEqual(rows[1].lines, [[0, 0], [1, 0]]);
});
test('a parent that was deleted ends its line, and its lane is used again', () => {
  const rows = of(['c', 'gone'], ['b', 'a'], ['a']);
  assert.deepEqual(lanes(rows), [0, 0, 0]);
  assert.deepEqual(rows[0].lines, []);
  assert.deepEqual(versionGraph([]), []);
});
test('every line leads to the lane of the version it is for, in any history', () => {
  let seed = 7;
  const chance = (n) => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed % n; };
  for (let round = 0; round < 200; round++) {
    const n = 1 + chance(12);
    const versions = Array.from({ length: n }, (_, i) => ({ id: String(n - i), parents: [...new Set(Array.from({ length: chance(3) }, () => String(1 + chance(Math.max(1, n - i - 1)))))].filter((p) => Number(p) < n - i) }));
    const rows = versionGraph(versions);
    for (const [i, v] of versions.entries()) for (const parent of v.parents) {
      const target = versions.findIndex((x) => x.id === parent);
      let reached = new Set(rows[i].lines.filter(([from]) => from === rows[i].lane).map(([, to]) => to));
      for (let k = i + 1; k < target; k++) reached = new Set(rows[k].lines.filter(([from]) => reached.has(from)).map(([, to]) => to));
      assert.ok(reached.has(rows[target].lane), `${v.id} to ${parent} in ${JSON.stringify(versions)}`);
    }
  }
});
