// @ts-check
/** Whether a fact is in the signed log, worked out here from its leaf and the hashes beside its way up (RFC 9162, 2.1.3.2). */

/** @param {Uint8Array[]} parts @returns {Promise<Uint8Array>} */
const sha256 = async (...parts) => {
  const whole = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const part of parts) { whole.set(part, at); at += part.length; }
  return new Uint8Array(await crypto.subtle.digest('SHA-256', whole));
};
/** @param {string} hex */
const bytes = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
/** @param {Uint8Array} found */
const hex = (found) => Array.from(found, (b) => b.toString(16).padStart(2, '0')).join('');

/** Does `path` lead from the leaf to the root, and is that root the one in the signed note?
 *  @param {{leaf: string, index: number, size: number, path: string[], root: string, checkpoint: string}} proof @returns {Promise<boolean>} */
export async function isProven({ leaf, index, size, path, root, checkpoint }) {
  if (!(index >= 0 && index < size)) return false;
  let node = await sha256(Uint8Array.of(0), new TextEncoder().encode(leaf)), at = index, last = size - 1;
  for (const part of path.map(bytes)) {
    if (last === 0) return false;
    if (at % 2 === 1 || at === last) {
      node = await sha256(Uint8Array.of(1), part, node);
      while (at % 2 === 0 && at > 0) { at = Math.floor(at / 2); last = Math.floor(last / 2); }
    } else node = await sha256(Uint8Array.of(1), node, part);
    at = Math.floor(at / 2); last = Math.floor(last / 2);
  }
  const [, signedSize, signedRoot] = checkpoint.split('\n');
  const signed = hex(Uint8Array.from(atob(signedRoot ?? ''), (c) => c.charCodeAt(0)));
  return last === 0 && hex(node) === root && signed === root && Number(signedSize) === size;
}
