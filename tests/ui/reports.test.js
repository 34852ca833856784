// @ts-check
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KINDS, changed, inserted, isComplete, listed, moved, newBlock, titleOf } from '../../noria/ui/lib/reports.js';
import { feltBy, merged, nameIn, placeIn } from '../../noria/ui/lib/lineage.js';

test('blocks are put in, moved and changed, and others keep their place', () => {
  const blocks = ['a', 'b', 'c'].map((id) => newBlock('text', id));
  assert.deepEqual(inserted(blocks, 1, newBlock('model', 'm')).map((b) => b.id), ['a', 'm', 'b', 'c']);
  assert.deepEqual(moved(blocks, 'c', -1).map((b) => b.id), ['a', 'c', 'b']);
  assert.equal(moved(blocks, 'a', -1), blocks);
  assert.equal(moved(blocks, 'nothing', 1), blocks);
  assert.deepEqual(changed(blocks, 'b', { text: 'x' }).map((b) => b.text), ['', 'x', '']);
  assert.notEqual(newBlock('curves', 'x').metrics, newBlock('curves', 'y').metrics, 'two blocks share no list');
});

test('a panel says what it shows, or that it does not say yet', () => {
  assert.deepEqual(KINDS.map(([kind]) => isComplete(newBlock(kind, 'x'))), [true, false, true, false, false, false, false]);
  assert.equal(titleOf({ ...newBlock('curves', 'x'), metrics: ['loss', 'auc'], experiment: 'flights' }), 'loss, auc of flights');
  assert.equal(titleOf({ ...newBlock('dataset', 'x'), dataset: 'clicks', version: '2', against: '1' }), 'clicks: from @1 to @2');
  assert.equal(titleOf({ ...newBlock('runs', 'x'), title: 'Best' }), 'Best');
  assert.deepEqual(listed(' a, b  c,a'), ['a', 'b', 'c']);
});

const node = (/** @type {string} */ ref, /** @type {any} */ more = {}) => ({ ref, kind: ref.split(':')[0], label: '', ...more });

test('what would feel a change is grouped, what is live first, and without the thing itself', () => {
  const nodes = [node('dataset:clicks', { of: 'dataset:clicks' }), node('dataset_version:1', { of: 'dataset:clicks', label: 'clicks@1' }), node('report:r'), node('endpoint:a'), node('endpoint:b', { is_live: true })];
  assert.deepEqual(feltBy({ nodes, edges: [] }, 'dataset:clicks').map(([kind, some]) => [kind, some.map((n) => n.ref)]), [['endpoint', ['endpoint:b', 'endpoint:a']], ['report', ['report:r']]]);
});

test('a thing on the map has a name and a page', () => {
  assert.equal(placeIn(node('model_version:0197', { label: 'fraud@3' })), '/models/fraud/3');
  assert.equal(placeIn(node('revision:0197', { of: 'endpoint:fraud', label: 'fraud: fraud@3' })), '/endpoints/fraud');
  assert.equal(nameIn(node('report:x', { label: 'January' })), 'January');
  assert.equal(placeIn(node('blob:x')), null);
});

test('of two maps the one that shows more says how much is left', () => {
  const both = merged([{ nodes: [node('run:a', { more: 3 })], edges: [] }, { nodes: [node('run:a', { more: 0 })], edges: [] }]);
  assert.equal(both.nodes[0].more, 0);
});
