// @ts-check
/** The only way out: Noria's public HTTP API, the same one the SDK and the command line use. */

const ROOT = '/api/v1';

/** What the server said when it refused: a sentence, what to do, and the operation to quote. */
export class ApiError extends Error {
  /** @param {number} status @param {{code?: string, message?: string, hint?: string, where?: string, op?: string}} body */
  constructor(status, body) {
    super(body.message || `The server answered ${status}.`);
    this.name = 'ApiError';
    this.status = status;
    this.code = body.code ?? '';
    this.hint = body.hint ?? '';
    this.where = body.where ?? '';
    this.op = body.op ?? '';
  }
}

/** @template T @param {string} path under /api/v1 @param {{method?: string, body?: unknown, signal?: AbortSignal, headers?: Record<string, string>}} [options] @returns {Promise<T>} */
export async function api(path, { method = 'GET', body, signal, headers = {} } = {}) {
  let answer;
  try {
    answer = await fetch(ROOT + path, {
      method, signal, credentials: 'same-origin',
      headers: { ...headers, accept: 'application/json', ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (cause) {
    if (signal?.aborted) throw cause;
    throw new ApiError(0, { code: 'Unavailable', message: 'The server cannot be reached.', hint: 'Is it running? This page tries again by itself when it comes back.' });
  }
  const text = await answer.text();
  const data = text ? parse(text) : null;
  if (!answer.ok) {
    const error = new ApiError(answer.status, data?.error ?? { message: data?.message ?? data?.detail, code: data?.error_code });
    if (answer.status === 401) onSignedOut.forEach((f) => f(error));
    throw error;
  }
  return data;
}

/** Called when the session ended. @type {Set<(error: ApiError) => void>} */
export const onSignedOut = new Set();

/** @param {string} path @param {unknown} [body] @returns {Promise<any>} */
export const post = (path, body = {}) => api(path, { method: 'POST', body });
/** @param {string} path @returns {Promise<any>} */
export const remove = (path) => api(path, { method: 'DELETE' });

/** A path with its query; null, undefined and '' are left out. @param {string} path @param {Record<string, unknown>} query */
export function withQuery(path, query) {
  const q = new URLSearchParams();
  for (const [k, v] of Object.entries(query)) if (v !== null && v !== undefined && v !== '') q.set(k, String(v));
  const text = q.toString();
  return text ? `${path}?${text}` : path;
}

/** The address of bytes, for links and downloads. @param {string} path */
export const href = (path) => ROOT + path;

/** A part of a path. @param {unknown} part */
export const enc = (part) => encodeURIComponent(String(part));

/** JSON as servers really send it: NaN and the infinities, bare, are read as strings. @param {string} text */
function parse(text) {
  try { return JSON.parse(text); } catch { /* Below: numbers that JSON has no word for. */ }
  try { return JSON.parse(text.replace(/([[:,]\s*)(NaN|-?Infinity)(?=\s*[,\]}])/g, '$1"$2"')); } catch { return { message: text.slice(0, 300) }; }
}
