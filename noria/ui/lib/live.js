// @ts-check
/** One event stream per browser. Browsers allow six connections to a host over HTTP/1.1 and a stream keeps one for ever, so one
 *  visible tab holds it (elected by a Web Lock) and tells the others over a BroadcastChannel; hidden tabs let go.
 *  Where locks do not exist (plain HTTP to another machine) each visible tab holds its own.
 *  Invariant: after any gap every listener hears `resync`, so that nobody waits for a fact that went by. */

/** @typedef {{seq: number, at_ms: number, kind: string, subject: string, actor?: any, op_id?: string, cause?: number | null, data?: any}} Fact */
/** @typedef {{fact?: (fact: Fact) => void, tick?: (tick: {ref: string, value: any}) => void, resync?: () => void, state?: (on: boolean) => void}} Listener */

/** @param {{url: string, EventSource?: any, locks?: any, Channel?: any, doc?: any}} options */
export function createLive({ url, EventSource = globalThis.EventSource, locks = globalThis.navigator?.locks, Channel = globalThis.BroadcastChannel, doc = globalThis.document }) {
  /** @type {Set<Listener>} */ const listeners = new Set();
  const channel = Channel ? new Channel('noria-live') : null;
  let lastSeq = 0, wasGone = false;
  /** @type {(() => void) | null} */ let release = null;
  /** @type {AbortController | null} */ let waiting = null;

  /** @param {{type: string, body?: any}} message */
  function tell(message) {
    if (message.type === 'fact') {
      if (message.body.seq && message.body.seq <= lastSeq) return;
      lastSeq = message.body.seq || lastSeq;
    }
    for (const listener of listeners) /** @type {any} */ (listener)[message.type]?.(message.body);
  }

  /** @param {{type: string, body?: any}} message */
  function share(message) { tell(message); channel?.postMessage(message); }
  if (channel) channel.onmessage = (/** @type {MessageEvent} */ event) => tell(event.data);

  function hold() {
    /** @type {any} */ let source = null;
    /** @type {any} */ let retry = null;
    let gap = wasGone || lastSeq > 0;
    const open = () => {
      source = new EventSource(url);
      source.onopen = () => { share({ type: 'state', body: true }); if (gap) share({ type: 'resync' }); gap = false; };
      source.addEventListener('fact', (/** @type {MessageEvent} */ e) => share({ type: 'fact', body: withSeq(JSON.parse(e.data), e.lastEventId) }));
      source.addEventListener('tick', (/** @type {MessageEvent} */ e) => share({ type: 'tick', body: readTick(JSON.parse(e.data)) }));
      source.onerror = () => {
        share({ type: 'state', body: false });
        gap = true;
        if (source.readyState === 2) { clearTimeout(retry); retry = setTimeout(open, 5000); }
      };
    };
    open();
    return () => { clearTimeout(retry); source?.close(); };
  }

  function start() {
    if (release || waiting) return;
    if (!locks) { const close = hold(); release = () => { close(); release = null; }; return; }
    const asking = new AbortController();
    waiting = asking;
    locks.request('noria-live', { signal: asking.signal }, () => new Promise((resolve) => {
      waiting = null;
      const close = hold();
      release = () => { close(); release = null; resolve(null); };
    })).catch((/** @type {Error} */ error) => { if (error.name !== 'AbortError') throw error; });
  }

  function stop() { waiting?.abort(); waiting = null; release?.(); wasGone = true; }

  function follow() {
    if (doc.visibilityState === 'hidden') stop();
    else { start(); if (wasGone) tell({ type: 'resync' }); }
  }
  doc?.addEventListener('visibilitychange', follow);
  globalThis.addEventListener?.('pagehide', stop);
  globalThis.addEventListener?.('pageshow', (e) => { if (/** @type {PageTransitionEvent} */ (e).persisted) follow(); });

  return {
    start, stop,
    /** @param {Listener} listener @returns {() => void} */
    listen(listener) { listeners.add(listener); return () => listeners.delete(listener); },
  };
}

/** Whether a fact concerns a page: kinds match by prefix (`run.`), subjects exactly or by prefix when they end in `*`.
 *  @param {Fact} fact @param {{kinds?: string[], subjects?: string[]}} interest */
export function concerns(fact, { kinds, subjects }) {
  const kind = !kinds || kinds.some((k) => fact.kind.startsWith(k));
  const subject = !subjects || subjects.some((s) => (s.endsWith('*') ? String(fact.subject).startsWith(s.slice(0, -1)) : refText(fact.subject) === s));
  return kind && subject;
}

/** @param {any} ref */
function refText(ref) { return typeof ref === 'string' ? ref : ref ? `${ref.kind}:${ref.id}` : ''; }

/** @param {{subject: string, data: any}} tick */
function readTick(tick) { return { ref: tick.subject, value: tick.data }; }

/** @param {any} fact @param {string} id */
function withSeq(fact, id) { return fact.seq ? fact : { ...fact, seq: Number(id) || 0 }; }
