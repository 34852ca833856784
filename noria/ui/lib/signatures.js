// @ts-check
/** What two signatures do not share. Pure. */

/** @param {any} signature @returns {Map<string, string>} "inputs.hour" → "double" */
export function fieldsOf(signature) {
  const out = new Map();
  for (const part of ['inputs', 'outputs', 'params']) {
    for (const [i, c] of (Array.isArray(signature?.[part]) ? signature[part] : []).entries()) {
      const type = c.type === 'tensor' ? `${c['tensor-spec']?.dtype} ${JSON.stringify(c['tensor-spec']?.shape)}` : typeof c.type === 'string' ? c.type : JSON.stringify(c.type ?? '');
      out.set(`${part}.${c.name ?? `#${i}`}`, `${type}${c.required === false ? ', optional' : ''}`);
    }
  }
  return out;
}

/** @param {any} was @param {any} now */
export function signatureDiff(was, now) {
  const a = fieldsOf(was), b = fieldsOf(now);
  return [...new Set([...a.keys(), ...b.keys()])].sort().flatMap((name) => (a.get(name) === b.get(name) ? [] : [{ name, was: a.get(name) ?? null, now: b.get(name) ?? null, change: !a.has(name) ? 'added' : !b.has(name) ? 'removed' : 'changed' }]));
}
