// @ts-check
/** The keyboard map: single keys, two-key sequences (`g r`) and ones with Ctrl/⌘. Pure: events in, command ids out. */

/** @typedef {{key: string, ctrlKey?: boolean, metaKey?: boolean, altKey?: boolean, shiftKey?: boolean}} Stroke */

const SEQUENCE_MS = 1000;

/** @param {Record<string, string>} map  `"g r"`, `"mod+k"`, `"?"` → command id */
export function createKeymap(map) {
  const prefixes = new Set(Object.keys(map).filter((k) => k.includes(' ')).map((k) => k.split(' ')[0]));
  let pending = '', pendingAt = 0;
  return {
    /** The command this stroke completes, or null. @param {Stroke} stroke @param {{typing?: boolean, at: number}} context */
    feed(stroke, { typing = false, at }) {
      const name = strokeName(stroke);
      if (!name) return null;
      if (typing && !name.startsWith('mod+') && name !== 'Escape') { pending = ''; return null; }
      if (pending && at - pendingAt <= SEQUENCE_MS) {
        const command = map[`${pending} ${name}`];
        pending = '';
        if (command) return command;
      }
      pending = '';
      if (map[name]) return map[name];
      if (prefixes.has(name)) { pending = name; pendingAt = at; }
      return null;
    },
  };
}

/** @param {Stroke} stroke */
export function strokeName(stroke) {
  const { key } = stroke;
  if (['Control', 'Meta', 'Alt', 'Shift', 'Dead'].includes(key)) return '';
  if (stroke.altKey) return '';
  const mod = stroke.ctrlKey || stroke.metaKey;
  return mod ? `mod+${key.toLowerCase()}` : key.length === 1 ? key : key;
}

/** Whether keys belong to what is being edited. @param {EventTarget | null} target */
export function isTyping(target) {
  const el = /** @type {HTMLElement | null} */ (target);
  if (!el || !el.tagName) return false;
  if (el.isContentEditable) return true;
  if (el.tagName === 'TEXTAREA' || el.tagName === 'SELECT') return true;
  return el.tagName === 'INPUT' && !['checkbox', 'radio', 'button', 'submit', 'range'].includes(/** @type {HTMLInputElement} */ (el).type);
}
