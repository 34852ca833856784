// @ts-check
/** What a picture is, by its first bytes; never by its name. SVG is not among them: it is a program. Pure. */

/** @type {[string, (number | null)[]][]} */
const MAGIC = [
  ['image/png', [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]], ['image/jpeg', [0xff, 0xd8, 0xff]], ['image/gif', [0x47, 0x49, 0x46, 0x38]],
  ['image/webp', [0x52, 0x49, 0x46, 0x46, null, null, null, null, 0x57, 0x45, 0x42, 0x50]], ['image/bmp', [0x42, 0x4d]],
];

/** @param {Uint8Array} data @returns {string} its media type, or '' */
export function imageType(data) {
  return MAGIC.find(([, magic]) => data.length >= magic.length && magic.every((b, i) => b === null || data[i] === b))?.[0] ?? '';
}
