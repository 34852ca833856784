import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checksOf, counts, due, families, gaps, measuredAt } from '../../noria/ui/lib/compliance.js';

const checks = [{ id: 'INV-1', maps: { gdpr: 'Art. 5' } }, { id: 'INV-2', maps: { hipaa: '164' } }, { id: 'DOC-1', maps: { gdpr: 'Art. 30' } }];

test('a framework leaves the checks that are mapped to it', () => {
  assert.deepEqual(checksOf(checks, 'gdpr').map((c) => c.id), ['INV-1', 'DOC-1']);
  assert.equal(checksOf(checks, '').length, 3);
});

test('checks of a family stand together, in the order of the catalogue', () => {
  assert.deepEqual(families(checks).map(([name, list]) => [name, list.length]), [['INV', 2], ['DOC', 1]]);
});

test('states are counted worst first, and those without any are left out', () => {
  assert.deepEqual(counts({ 'INV-1': 'pass', 'INV-2': 'fail', 'DOC-1': 'pass' }, checks), [['fail', 1], ['pass', 2]]);
});

test('the oldest measurement counts, and there may be none yet', () => {
  assert.deepEqual([measuredAt([{ at_ms: 7 }, { at_ms: null }, { at_ms: 3 }]), measuredAt([{ at_ms: null }, {}]), measuredAt([])], [3, 0, 0]);
});

test('a deadline reads as days', () => {
  const day = 86_400_000;
  assert.deepEqual([due(3 * day, 0), due(day, 0), due(0, 2 * day), due(0, 0)], ['in 3 days', 'in 1 day', '2 days ago', 'today']);
});

test('what has to be said of a system and is not', () => {
  assert.deepEqual(gaps({ owner: '', purpose: ' ', risk: 'unclassified', personal_data: 'unknown', members: [] }), ['owner', 'intended purpose', 'risk class', 'personal data', 'members']);
  assert.deepEqual(gaps({ owner: 'ada', purpose: 'p', risk: 'high', personal_data: 'no', members: ['model:m'] }), []);
});
