// @ts-check
/** Moments as a date field writes them (`2026-03-04T09:05`), in UTC or in the browser's zone. Pure. */

import { stamp } from './format.js';

/** @param {number} atMs @param {'utc' | 'local'} zone */
export function toInput(atMs, zone) { return stamp(atMs, zone, false).replace(' ', 'T'); }

/** The end of the minute that was written, so that what happened within it counts; null when it is no moment. @param {string} text @param {'utc' | 'local'} zone */
export function fromInput(text, zone) {
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d/.test(text)) return null;
  const ms = Date.parse(`${text.slice(0, 16)}:59.999${zone === 'utc' ? 'Z' : ''}`);
  return Number.isNaN(ms) || ms < 0 ? null : ms;
}
