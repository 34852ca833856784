import test from 'node:test';
import assert from 'node:assert/strict';
import { rowsOf, svgOf, ticks } from '../../noria/ui/lib/chart-file.js';
import { KEYS } from '../../noria/ui/lib/commands.js';
import { whyNot } from '../../noria/ui/lib/may.js';
import { needs } from '../../noria/ui/lib/needs.js';
import { byKind, deployed, sumOf } from '../../noria/ui/lib/projects.js';
import { ways } from '../../noria/ui/lib/quick-start.js';

const line = { name: 'a <b>', colour: '#123456', x: [0, 1, 2, 4], y: [1, null, 3, 9], low: [1, null, 2, 8], high: [1, null, 4, 10], nan: [1], inf: [3], minusInf: [] };

test('a chart as rows has every place, what is no number as what it is, and what a point stands for', () => {
  const { head, rows } = rowsOf([line, { name: 'c', colour: '#000', x: [2], y: [7] }], 'step');
  assert.deepEqual(head, ['step', 'a <b>', 'a <b> lowest', 'a <b> highest', 'c']);
  assert.deepEqual(rows, [[0, 1, 1, 1, null], [1, NaN, null, null, null], [2, 3, 2, 4, 7], [3, Infinity, null, null, null], [4, 9, 8, 10, null]]);
});
test('a chart as a drawing marks NaN and infinity, and writes names as text', () => {
  const look = { ink: '#111', quiet: '#222', rule: '#333', paper: '#fff' };
  const svg = svgOf({ title: 'loss & more', lines: [line], x: 'step', width: 400, height: 200, look, xText: String, yText: String });
  assert.ok(svg.startsWith('<svg ') && svg.endsWith('</svg>') && svg.includes('loss &amp; more') && svg.includes('a &lt;b> · 1 NaN · 1 ∞'));
  assert.ok(svg.includes('<title>NaN at 1</title>') && svg.includes('<title>infinite at 3</title>'));
  assert.equal((svg.match(/<polyline points="([^"]*)"/)[1].split(' ')).length, 3, 'a hole is no point');
  assert.ok(!/NaN,|,NaN|Infinity/.test(svg.replace(/<title>.*?<\/title>/g, '').replace('· 1 NaN', '')), 'no place is a number that is none');
  const log = svgOf({ title: 'l', lines: [{ ...line, y: [0, 1, 10, 100], low: undefined, high: undefined }], x: 'step', width: 400, height: 200, log: true, look, xText: String, yText: String });
  assert.equal(log.match(/<polyline points="([^"]*)"/)[1].split(' ').length, 3, 'zero has no logarithm');
  assert.ok(svgOf({ title: 'empty', lines: [], x: 'step', width: 400, height: 200, look, xText: String, yText: String }).endsWith('</svg>'));
});
test('ticks are round', () => { assert.deepEqual(ticks(0, 1, 5), [0, 0.2, 0.4, 0.6, 0.8, 1]); assert.deepEqual(ticks(-3, 12, 4), [0, 5, 10]); });
test('a button that is not one’s own says what it takes and whom to ask; what is unknown is not refused', () => {
  const rights = { on: 'model:fraud', may: ['model.read'], roles: { 'model.promote': ['admin', 'deployer'], 'x.y': [] }, ask: ['ada', 'ben'] };
  assert.equal(whyNot(null, 'model.promote'), '');
  assert.equal(whyNot(rights, 'model.read'), '');
  assert.equal(whyNot(rights, 'model.promote'), 'You may not do this: it takes a role such as admin or deployer on model:fraud. Ask ada or ben.');
  assert.equal(whyNot({ ...rights, on: '', ask: [], roles: { a: ['admin'] } }, 'a'), 'You may not do this: it takes the role admin. Ask an administrator.');
  assert.match(whyNot(rights, 'x.y'), /no role gives/);
  const one = { on: '', may: [], roles: { 'report.write': ['contributor'] }, ask: [], somewhere: ['report.write'] };
  assert.equal(whyNot(one, 'report.write', true), '');
  assert.match(whyNot(one, 'report.write'), /takes the role contributor/);
});
test('what needs one comes by how pressing it is, then the newest first', () => {
  const found = needs({ alerts: [{ id: 'a', opened_at_ms: 1 }], approvals: [{ id: 'p', created_at_ms: 9 }], inbox: [{ id: 'n', at_ms: 5, comment: 'c' }, { id: 'f', at_ms: 6 }], pipelines: [{ id: 'old', ended_at_ms: 1, created_at_ms: 1 }, { id: 'new', ended_at_ms: 50, created_at_ms: 1 }], runs: { ids: ['r', 's'], columns: { name: ['x', 'y'], started_at_ms: [10, 20] } }, since: 5 });
  assert.deepEqual(found.map((n) => `${n.kind} ${n.of.id}`), ['alert a', 'approval p', 'said n', 'pipeline new', 'run s', 'run r']);
  const told = (/** @type {string} */ id, /** @type {number} */ at) => ({ id, at_ms: at, kind: 'pipeline_run.failed', subject: `pipeline_run:${id}`, title: id });
  const followed = needs({ pipelines: [{ id: 'mine', ended_at_ms: 50, created_at_ms: 1 }], inbox: [told('mine', 50), told('followed', 60), told('long-ago', 2)], since: 5 });
  assert.deepEqual(followed.map((n) => n.of.id), ['followed', 'mine'], 'each once: what is one’s own, and what one follows');
});
test('what a project holds is sorted, its endpoints are found by their models, its costs added up', () => {
  assert.deepEqual(byKind(['model:b', 'system:s', 'project:p', 'model:a', 'widget:w']).map(([k, r]) => `${k} ${r.length}`), ['project 1', 'model 2', 'system 1', 'widget 1']);
  const rows = deployed([{ name: 'calm', model: 'b', status: 'ready' }, { name: 'ill', model: 'x', status: 'ready' }, { name: 'far', model: 'y', status: 'ready' }], [{ endpoint: 'ill', metric: 'psi' }], ['model:b', 'endpoint:ill']);
  assert.deepEqual(rows.map((e) => `${e.name} ${e.alerts.length}`), ['ill 1', 'calm 0']);
  assert.deepEqual(sumOf([{ runs_count: 2, hours: 1, cost: 3, priced_count: 1 }, { runs_count: 1, hours: 2, cost: 0, priced_count: 0 }]), { runs: 3, hours: 3, cost: 3, priced: 1 });
});
test('lines to copy hold the address, and a token where one is needed', () => {
  const open = ways({ url: 'http://h:1', needsToken: false }), shut = ways({ url: 'http://h:1', needsToken: true }), made = ways({ url: 'http://h:1', needsToken: true, token: 'noria_x' });
  assert.ok(open[0].code.includes('MLFLOW_TRACKING_URI=http://h:1') && !open[0].code.includes('TOKEN'));
  assert.ok(shut[0].code.includes('MLFLOW_TRACKING_TOKEN=<your token>') && made[1].code.includes('NORIA_TOKEN=noria_x'));
});
test('no two commands have the same keys', () => { const keys = KEYS.map(([k]) => k); assert.deepEqual(keys.filter((k, i) => keys.indexOf(k) !== i), []); });
