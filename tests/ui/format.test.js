import test from 'node:test';
import assert from 'node:assert/strict';
import * as f from '../../noria/ui/lib/format.js';

test('numbers have four significant digits and words for what is not a number', () => {
  const said = [0.123456, 1234.5, 99999, 1234567, -0.5, 0.00001234, 0, NaN, Infinity, -Infinity, null].map((v) => f.num(v));
  assert.deepEqual(said, ['0.1235', '1235', '99\u202f999', '1.23\u202fM', '\u22120.5', '1.234e\u22125', '0', 'NaN', '+∞', '\u2212∞', '–']);
});
test('the strings that stand for numbers on the wire are read as numbers', () => assert.equal(f.num('NaN'), 'NaN'));
test('bytes are binary and say so', () => assert.deepEqual([0, 1023, 1024, 1536, 5 * 1024 ** 3].map(f.bytes), ['0 B', '1023 B', '1 KiB', '1.5 KiB', '5 GiB']));
test('durations name two units at most', () => assert.deepEqual([0.5, 12, 1500, 61_000, 3_600_000, 7_500_000, 90_000_000].map(f.duration), ['0.5 ms', '12 ms', '1.5 s', '1 min 1 s', '1 h', '2 h 5 min', '1 d 1 h']));
test('time past and time to come', () => {
  const now = 1_700_000_000_000;
  assert.deepEqual([0, 42_000, 240_000, 7_200_000, -60_000].map((d) => f.ago(now - d, now)), ['now', '42 s ago', '4 min ago', '2 h ago', 'in 1 min']);
});
test('a stamp in UTC', () => assert.equal(f.stamp(0), '1970-01-01 00:00:00'));
test('ids show their tail, digests their head', () => {
  assert.equal(f.short('0197aaaabbbbccccddddeeeeffff0123'), 'ffff0123');
  assert.equal(f.short('ab'.repeat(32)), 'ababababab');
  assert.equal(f.short('fraud'), 'fraud');
});
test('a difference is better or worse by the direction of its metric', () => {
  assert.equal(f.delta(0.9, 0.8, 'high').verdict, 'better');
  assert.equal(f.delta(0.9, 0.8, 'low').verdict, 'worse');
  assert.equal(f.delta(0.8, 0.8, 'low').verdict, 'same');
  assert.equal(f.delta(0.9, 0.8, null).verdict, 'same');
});
test('the direction of a metric is in its name', () => assert.deepEqual(['val/loss', 'roc_auc', 'accuracy', 'latency_ms', 'banana'].map(f.direction), ['low', 'high', 'high', 'low', null]));
test('percentages', () => assert.deepEqual([0.5, 0.9876, 0.0301, 0.0004, null].map(f.percent), ['50 %', '98.8 %', '3.01 %', '0.04 %', '–']));
