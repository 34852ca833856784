// @ts-check
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { matrixOf, sideOf } from '../../noria/ui/lib/watching.js';

test('a monitor stands under what it looks at', () => {
  assert.equal(sideOf({ metric: 'null_share' }), 'quality');
  assert.equal(sideOf({ metric: 'score_psi' }), 'drift');
  assert.equal(sideOf({ metric: 'auc' }), 'performance');
  assert.equal(sideOf({ metric: 'estimated_f1' }), 'performance');
  assert.equal(sideOf({ metric: 'adwin', columns: ['temp'] }), 'drift');
  assert.equal(sideOf({ metric: 'adwin', columns: [] }), 'performance');
  assert.equal(sideOf({ metric: 'parity_gap' }), 'fairness');
});

test('a row is the worst of its monitors, and says where nobody looks', () => {
  const monitor = (/** @type {string} */ endpoint, /** @type {string} */ metric, /** @type {string} */ state) => ({ name: `${metric}-${state}`, endpoint, state, spec: { metric } });
  const rows = matrixOf([monitor('a', 'psi', 'ok'), monitor('a', 'ks', 'open'), monitor('z', 'auc', 'pending')], [{ name: 'a', model: 'm', status: 'ready' }, { name: 'b', model: 'n', status: 'failed' }]);
  assert.deepEqual(rows.map((r) => [r.name, r.operations]), [['a', 'ready'], ['b', 'failed'], ['z', 'gone']]);
  assert.equal(rows[0].sides.drift.state, 'open');
  assert.equal(rows[0].sides.drift.monitors.length, 2);
  assert.equal(rows[1].sides.quality.state, '');
  assert.equal(rows[2].sides.performance.state, 'pending');
});
