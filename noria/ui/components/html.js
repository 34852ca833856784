// @ts-check
import { h } from 'preact';
import htm from 'htm';

export const html = htm.bind(h);
/** The prefix of static files, from the document; it changes with their content. */
export const STATIC = document.documentElement.dataset.static ?? '/static';
