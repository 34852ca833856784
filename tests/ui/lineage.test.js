import test from 'node:test';
import assert from 'node:assert/strict';
import { around, madeFrom, merged, next, wayOf } from '../../noria/ui/lib/lineage.js';

// A version built by a run that read some data; it and another version were measured on other data, which another run read.
const EDGES = [
  ['model_version:b', 'built_by', 'run:r'], ['run:r', 'read', 'dataset_version:d'], ['model_version:b', 'evaluated_on', 'dataset_version:e'],
  ['model_version:a', 'evaluated_on', 'dataset_version:e'], ['run:s', 'read', 'dataset_version:e'], ['revision:v', 'serves', 'model_version:b'],
  ['endpoint:x', 'has', 'revision:v'], ['alias:m@champion', 'names', 'model_version:b'],
].map(([src, kind, dst]) => ({ src, kind, dst }));
const of = (edges) => ({ edges, nodes: [...new Set(edges.flatMap((e) => [e.src, e.dst]))].sort().map((ref) => ({ ref, kind: ref.split(':')[0] })) });
const refs = (nodes) => nodes.map((n) => n.ref);

test('a run read what its own edge says, not what its version was measured on', () => {
  assert.deepEqual(refs(next(of(EDGES), 'run:r', 'read', 'out')), ['dataset_version:d']);
  assert.deepEqual(refs(next(of(EDGES), 'run:r', 'built_by', 'in')), ['model_version:b']);
  assert.deepEqual(next(null, 'run:r', 'read', 'out'), []);
});
test('the way of a version has no run that only read the same data', () => {
  assert.deepEqual(refs(wayOf(of(EDGES), 'model_version:b')), ['dataset_version:d', 'endpoint:x', 'model_version:b', 'revision:v', 'run:r']);
  assert.deepEqual(refs(wayOf(of(EDGES), 'endpoint:x')), ['dataset_version:d', 'endpoint:x', 'model_version:b', 'revision:v', 'run:r']);
});
test('what was made from data are its readers, their models and what serves those', () => {
  assert.deepEqual(refs(madeFrom(of(EDGES), 'dataset_version:d')), ['endpoint:x', 'model_version:b', 'revision:v', 'run:r']);
  assert.deepEqual(refs(madeFrom(of(EDGES), 'dataset_version:e')), ['run:s']);
  assert.deepEqual(madeFrom(null, 'dataset_version:d'), []);
});
test('around a version there are its own ties, not those of its neighbours', () => {
  const near = around(of(EDGES), 'model_version:b');
  assert.deepEqual(refs(near.nodes), ['alias:m@champion', 'dataset_version:d', 'dataset_version:e', 'endpoint:x', 'model_version:b', 'revision:v', 'run:r']);
  assert.equal(near.edges.length, 6);
});
test('lineages of versions make one of their model, each thing once', () => {
  const both = merged([of(EDGES.slice(0, 3)), of(EDGES.slice(2))]);
  assert.deepEqual([both.nodes.length, both.edges.length], [of(EDGES).nodes.length, EDGES.length]);
});
