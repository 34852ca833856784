import test from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { isProven } from '../../noria/ui/lib/proof.js';

const sha = (...parts) => createHash('sha256').update(Buffer.concat(parts)).digest();
const leafHash = (text) => sha(Buffer.of(0), Buffer.from(text));
const split = (n) => 2 ** Math.floor(Math.log2(n - 1));
/** RFC 6962, 2.1 and 2.1.1, by recursion. */
const root = (hashes) => (hashes.length === 1 ? hashes[0] : sha(Buffer.of(1), root(hashes.slice(0, split(hashes.length))), root(hashes.slice(split(hashes.length)))));
const path = (m, hashes) => { if (hashes.length === 1) return []; const k = split(hashes.length); return m < k ? [...path(m, hashes.slice(0, k)), root(hashes.slice(k))] : [...path(m - k, hashes.slice(k)), root(hashes.slice(0, k))]; };
const proofOf = (index, size) => {
  const leaves = Array.from({ length: size }, (_, i) => `{"seq":${i + 1},"actor":"ü"}`), hashes = leaves.map(leafHash), top = root(hashes);
  return { leaf: leaves[index], index, size, path: path(index, hashes).map((h) => h.toString('hex')), root: top.toString('hex'), checkpoint: `noria/x\n${size}\n${top.toString('base64')}\n\n— noria/x AAAA\n` };
};

test('every leaf of trees of every shape is proven', async () => {
  for (let size = 1; size <= 20; size += 1) for (let index = 0; index < size; index += 1) assert.equal(await isProven(proofOf(index, size)), true, `${index} of ${size}`);
});

test('what was changed is not', async () => {
  const good = proofOf(5, 13);
  for (const bad of [{ leaf: `${good.leaf} ` }, { index: 6 }, { index: 13 }, { path: good.path.slice(1) }, { path: [...good.path, good.path[0]] }, { size: 12 }, { root: good.path[0] }, { checkpoint: proofOf(5, 12).checkpoint }]) assert.equal(await isProven({ ...good, ...bad }), false, JSON.stringify(bad));
});
