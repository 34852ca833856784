import test from 'node:test';
import assert from 'node:assert/strict';
import { before, find, lastWrite, linesOf, toneOf } from '../../noria/ui/lib/console.js';
import { imageType } from '../../noria/ui/lib/images.js';
import { groupKeys, stepsWithin } from '../../noria/ui/lib/metric-groups.js';
import { fileDiff, packageDiff, parseUnified } from '../../noria/ui/lib/unified.js';

test('lines are whole: the cut one at the front is left out, a progress bar shows its last state', () => {
  assert.deepEqual(linesOf({ start: 10, end: 30, text: 'lf a line\nb\n' }, false), ['b']);
  assert.deepEqual(linesOf({ start: 0, end: 30, text: 'a\nb' }, true), ['a', 'b']);
  assert.equal(lastWrite('10%\r50%\r100%'), '100%');
  assert.equal(lastWrite('\u001b[31mred\u001b[0m\r'), 'red');
  assert.deepEqual(['Traceback (most recent call last)', 'UserWarning: warning', 'ok'].map(toneOf), ['error', 'warning', '']);
  assert.deepEqual(find(['a Loss', 'b', 'loss'], 'LOSS'), [0, 2]);
  assert.equal(before(100, 500), 0);
});
test('a picture is one by its bytes, never by its name, and SVG is none', () => {
  assert.equal(imageType(Uint8Array.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10, 0])), 'image/png');
  assert.equal(imageType(new TextEncoder().encode('<svg onload="x()"/>')), '');
  assert.equal(imageType(new Uint8Array(0)), '');
});
test('a thousand metrics are found by words and kept by prefix', () => {
  const keys = Array.from({ length: 1000 }, (_, i) => `layer${i % 50}/weight_${i}/norm`).concat('loss', 'acc');
  const groups = groupKeys(keys);
  assert.deepEqual(groups.slice(0, 3).map((g) => [g.prefix, g.keys.length]), [['', 2], ['layer0', 20], ['layer1', 20]]);
  assert.deepEqual(groupKeys(keys, 'LAYER7 weight_57').flatMap((g) => g.keys), ['layer7/weight_57/norm', ...keys.filter((k) => k.startsWith('layer7/weight_57') && k !== 'layer7/weight_57/norm')]);
  assert.deepEqual(groupKeys(keys, 'nothing'), []);
});
test('a zoom by time asks the server for the steps behind it, extremes included', () => {
  const s = { step: [0, 100, 200, 300], at_ms: [1000, 2000, 3000, 4000] };
  assert.deepEqual(stepsWithin([s], 'time', 2500, 2600), { from: 100, to: 200 });
  assert.deepEqual(stepsWithin([s], 'elapsed', 1500, 2100), { from: 100, to: 300 });
  assert.deepEqual(stepsWithin([s], 'step', 1.5, 2.5), { from: 1, to: 3 });
  assert.equal(stepsWithin([s], 'time', 0, 500), null);
});
test('a diff is read file by file', () => {
  const files = parseUnified('diff --git a/x.py b/x.py\nindex 1..2\n--- a/x.py\n+++ b/x.py\n@@ -1,2 +1,2 @@\n same\n--- a line that was\n+++ a line that is\n+added\ndiff --git a/b.bin b/b.bin\nBinary files differ\n');
  assert.deepEqual(files.map((f) => [f.name, f.added, f.removed]), [['x.py', 2, 1], ['b.bin', 0, 0]]);
  assert.deepEqual(files[0].lines.map((l) => l.kind), ['hunk', 'same', 'del', 'add', 'add']);
  assert.deepEqual(parseUnified('no diff at all'), []);
});
test('packages and files are compared by what they are', () => {
  assert.deepEqual(packageDiff(['Numpy==1.0', 'a_b==1', '# c'], ['numpy==2.0', 'A-B==1', 'new>=3']), [{ name: 'new', was: null, now: '>=3', change: 'added' }, { name: 'numpy', was: '1.0', now: '2.0', change: 'changed' }]);
  const f = (path, digest) => ({ path, digest, size_bytes: 1 });
  assert.deepEqual(fileDiff([f('a', '1'), f('b', '1')], [f('a', '2'), f('c', '1')]).map((d) => [d.path, d.change]), [['a', 'changed'], ['b', 'removed'], ['c', 'added']]);
});

import { fromInput, toInput } from '../../noria/ui/lib/dates.js';
import { signatureDiff } from '../../noria/ui/lib/signatures.js';

test('a date field is a moment and back, the whole of its minute included', () => {
  const at = Date.UTC(2026, 2, 4, 9, 5, 0);
  assert.equal(toInput(at, 'utc'), '2026-03-04T09:05');
  assert.equal(fromInput('2026-03-04T09:05', 'utc'), at + 59_999);
  assert.equal(fromInput('nonsense', 'utc'), null);
});
test('signatures differ by field, type and whether a field may be missing', () => {
  const a = { inputs: [{ name: 'x', type: 'double' }, { name: 'y', type: 'long' }], outputs: [{ type: 'double' }] };
  const b = { inputs: [{ name: 'x', type: 'float' }, { name: 'y', type: 'long', required: false }, { name: 'z', type: 'string' }] };
  assert.deepEqual(signatureDiff(a, b).map((d) => [d.name, d.change]), [['inputs.x', 'changed'], ['inputs.y', 'changed'], ['inputs.z', 'added'], ['outputs.#0', 'removed']]);
  assert.deepEqual(signatureDiff(a, a), []);
});
