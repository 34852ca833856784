"""One revision's process: drain the socket, one call of the model for all that came, one answer each.

Batching is natural: whatever arrived while the model was busy is the next batch; nobody waits for a timer. The loop is one
thread, so the model never competes with it. The worker speaks first (`Hello`), when the model is loaded and warm, or says why not.
Invariant: the record of an answer leaves the worker before the answer does. Blocks are kept until the recorder has them on disk;
what was written to its socket outlives this process, so a killed worker takes no answered request with it.

It opens no socket itself, and may not (`confine.py`): the gateway's is inherited, the recorder's handed over at the door, again when
the recorder comes back.

    python -m noria.serving.worker '{"gateway_fd": …, "door_fd": …, "folder": …, "revision_id": …, …}'
"""

from __future__ import annotations

import collections
import logging
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from noria.kernel.clock import SystemClock
from noria.kernel.errors import Invalid, NoriaError, Unavailable
from noria.kernel.ids import new_id
from noria.kernel.processes import die_with_parent
from noria.logs import set_up_logging
from noria.serving import loader, protocol, v2
from noria.serving.answers import ModelError, error_body
from noria.serving.explain import encode as encode_explanation
from noria.serving.frames import (
    FLOW_MARK,
    HELLO,
    RECORDER_HERE,
    RECORDER_WANTED,
    Answer,
    Ask,
    Block,
    Flow,
    Hello,
    Spec,
    Unpacker,
    Written,
    pack,
)
from noria.serving.intact import require_intact
from noria.serving.rows import Listed, Outputs, Rows, output_arrays
from noria.serving.streams import Stream

log = logging.getLogger("noria.worker")

READ_BYTES = 1 << 20
SEND_BYTES = 1 << 20  # what a socket holds before its reader has taken it
UNACKED_BYTES_MAX = 64 << 20  # blocks the recorder has not on disk yet; beyond it the oldest are dropped and counted
RECORDER_RETRY_S = 0.5
DOOR_LOOK_S = 0.01  # until what was asked for at the door has come
ERROR_LINES = 15
EXPLAINS = ("explain", "explain_v1")
STOP_TIMEOUT_S = 5

_flows = msgspec.msgpack.Decoder(Flow).decode
_asks = msgspec.msgpack.Decoder(Ask).decode
_written = msgspec.msgpack.Decoder(Written).decode


class Asked(Struct):
    """One request with its decoded rows."""

    ask: Ask
    rows: Rows
    latency_ms: float = 0.0


class Recorder:
    """The worker's end of the recorder's socket: never waits, keeps blocks until they are acknowledged."""

    def __init__(self, spec: Spec, model: loader.Model, clock: SystemClock, door: socket.socket) -> None:
        self._spec = spec
        self._model = model
        self._clock = clock
        self._door = door
        self._has_asked = False
        self._source = new_id()
        self._seq = 0
        self._unacked: collections.deque[tuple[int, bytes]] = collections.deque()
        self._unacked_bytes = 0
        self._outgoing: collections.deque[memoryview] = collections.deque()
        self._frames = Unpacker()
        self._retry_at_s = 0.0
        self._pending: list[tuple[list[Asked], Any, Outputs | None, list[list[Any]] | None]] = []
        self.socket: socket.socket | None = None
        self.dropped = 0

    def add(self, asked: list[Asked], matrix: Any, outputs: Outputs | None, values: list[list[Any]] | None) -> None:
        """Take the records of one batch; `outputs` None: the model raised."""
        self._pending.append((asked, matrix, outputs, values))

    def due_s(self) -> float | None:
        """Seconds until the connection is tried again; None: it is there."""
        return None if self.socket is not None else max(0.0, self._retry_at_s - self._clock.monotonic_s())

    def tick(self) -> None:
        now_s = self._clock.monotonic_s()
        if self.socket is None and now_s >= self._retry_at_s:
            self._connect(now_s)

    def flush(self) -> None:
        """Make blocks of what is pending, one for all that have the same form, and send them."""
        taken, self._pending = self._pending, []
        groups: dict[tuple[int, tuple[int, ...]], list[Any]] = {}
        for item in taken:
            outputs = item[2]
            shape = () if outputs is None or outputs.probability is None else outputs.probability.shape[1:]
            groups.setdefault((500 if outputs is None else outputs.status, shape), []).append(item)
        for items in groups.values():
            self._seq += 1
            self._keep(self._seq, _block(self._spec, self._model, self._source, self._seq, items))
        self.send()

    def _keep(self, seq: int, frame: bytes) -> None:
        self._unacked.append((seq, frame))
        self._unacked_bytes += len(frame)
        if self.socket is not None:
            self._outgoing.append(memoryview(frame))
        while self._unacked_bytes > UNACKED_BYTES_MAX and len(self._unacked) > 1:
            self._unacked_bytes -= len(self._unacked.popleft()[1])
            self.dropped += 1
            if self.dropped & (self.dropped - 1) == 0:
                log.warning("the recorder does not keep up: %d blocks of records dropped", self.dropped)

    def send(self) -> None:
        """Write as much as the socket takes."""
        if self.socket is None:
            return
        try:
            while self._outgoing:
                sent = self.socket.send(self._outgoing[0])
                if sent < len(self._outgoing[0]):
                    self._outgoing[0] = self._outgoing[0][sent:]
                    return
                self._outgoing.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._lost()

    def read(self) -> None:
        """Take acknowledgements."""
        assert self.socket is not None
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        for head, _ in self._frames.feed(data):
            upto = _written(head).seq
            while self._unacked and self._unacked[0][0] <= upto:
                self._unacked_bytes -= len(self._unacked.popleft()[1])

    @property
    def wants_write(self) -> bool:
        return bool(self._outgoing)

    @property
    def is_settled(self) -> bool:
        """Is everything on the recorder's disk?"""
        return not self._pending and not self._unacked

    def _connect(self, now_s: float) -> None:
        """Ask for a connection, or take the one that was asked for."""
        self._retry_at_s = now_s + DOOR_LOOK_S
        try:
            if not self._has_asked:
                self._door.send(RECORDER_WANTED, socket.MSG_DONTWAIT)
                self._has_asked = True
            answer, handed, _, _ = socket.recv_fds(self._door, 1, 1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            answer, handed = b"", []
        self._has_asked = False
        if answer != RECORDER_HERE or not handed:
            self._retry_at_s = now_s + RECORDER_RETRY_S
            return
        made = socket.socket(fileno=handed[0])
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        self.socket, self._frames = made, Unpacker()
        self._outgoing = collections.deque(memoryview(frame) for _, frame in self._unacked)
        self.send()

    def _lost(self) -> None:
        if self.socket is not None:
            self.socket.close()
        self.socket = None
        self._outgoing.clear()
        self._retry_at_s = self._clock.monotonic_s() + RECORDER_RETRY_S


class Worker:
    """The loop. See the module."""

    def __init__(self, spec: Spec, model: loader.Model, gateway: socket.socket, door: socket.socket) -> None:
        self._spec = spec
        self._model = model
        self._gateway = gateway
        self._clock = SystemClock()
        self._frames = Unpacker()
        self._recorder = Recorder(spec, model, self._clock, door)
        self._selector = selectors.DefaultSelector()
        self._selector.register(gateway, selectors.EVENT_READ)
        self._registered: socket.socket | None = None
        self._features = loader.feature_kinds(model.schema.columns)
        self._out: list[bytes] = []
        self._streams: dict[int, Stream] = {}

    def run(self) -> None:
        """Until the gateway closes the connection; then hand the last records over."""
        while True:
            self._watch_recorder()
            is_busy = any(s.credit for s in self._streams.values())
            for key, events in self._selector.select(0 if is_busy else self._recorder.due_s()):
                if key.fileobj is self._gateway:
                    if not self._serve():
                        self._finish()
                        return
                    continue
                if events & selectors.EVENT_WRITE:
                    self._recorder.send()
                if events & selectors.EVENT_READ and self._recorder.socket is not None:
                    self._recorder.read()
            self._recorder.tick()
            self._step()

    def _step(self) -> None:
        """One part of each stream whose caller can take one; in between, other requests are answered."""
        for stream in [s for s in self._streams.values() if s.credit]:
            self._go_on(stream)
        self._send()

    def _watch_recorder(self) -> None:
        current = self._recorder.socket
        if self._registered is not current:
            if self._registered is not None:
                self._selector.unregister(self._registered)
            if current is not None:
                self._selector.register(current, selectors.EVENT_READ)
            self._registered = current
        if current is not None:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._recorder.wants_write else 0)
            if self._selector.get_key(current).events != wanted:
                self._selector.modify(current, wanted)

    def _serve(self) -> bool:
        """Read what came, answer it; False when the gateway is gone."""
        try:
            data = self._gateway.recv(READ_BYTES)
        except ConnectionError:
            return False
        if not data:
            return False
        frames = list(self._frames.feed(data))
        while len(data) == READ_BYTES and len(frames) < self._spec.max_batch_rows:
            try:
                data = self._gateway.recv(READ_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            frames.extend(self._frames.feed(data))
        self._answer_all(frames)
        return True

    def _answer_all(self, frames: list[tuple[bytes, bytes]]) -> None:
        batch: list[Asked] = []
        rows = 0
        for head, body in frames:
            if head[0] == FLOW_MARK:
                self._flow(_flows(head))
                continue
            asked = self._decode(_asks(head), body)
            if asked is None:
                continue
            if asked.ask.protocol in EXPLAINS:
                self._explain(asked)
                continue
            if asked.rows.is_stream:
                self._begin(asked)
                continue
            if batch and (not self._fit(batch[-1].rows, asked.rows) or rows + asked.rows.n > self._spec.max_batch_rows):
                self._answer_batch(batch)
                batch, rows = [], 0
            batch.append(asked)
            rows += asked.rows.n
        if batch:
            self._answer_batch(batch)
        self._send()

    def _send(self) -> None:
        if self._out:
            self._recorder.flush()
            self._gateway.sendall(b"".join(self._out))
            self._out.clear()

    def _explain(self, asked: Asked) -> None:
        """Answered by itself and not recorded: it is a question about an answer, not one."""
        ask, rows = asked.ask, asked.rows
        try:
            found = self._model.explain(self._model.batch([rows]))
            body = encode_explanation(
                ask, found, self._model.schema, rows, self._spec.endpoint, str(self._spec.model_version)
            )
        except NoriaError as error:
            self._refuse(ask, error)
        except Exception as error:  # the model's own code may raise anything
            log.exception("the explanation for %s failed", ask.prediction_id)
            self._refuse(ask, ModelError(f"The explanation raised {type(error).__name__}: {str(error)[:500]}"))
        else:
            self._out.append(pack(Answer(ask.id, 200, rows.n), body))

    # --- streams -------------------------------------------------------------------------------------------------------

    def _begin(self, asked: Asked) -> None:
        ask, rows = asked.ask, asked.rows
        try:
            parts = self._model.stream(self._model.batch([rows]), rows.params)
        except Exception as error:  # the model's own code may raise anything
            self._fail(asked, error)
            return
        stream = Stream(ask, rows, parts, self._spec.endpoint, str(self._spec.model_version))
        if ask.role == "shadow":
            stream.credit = sys.maxsize  # nobody listens, so nobody says that there may be more
        self._streams[ask.id] = stream
        self._go_on(stream)

    def _go_on(self, stream: Stream) -> None:
        ask = stream.ask
        try:
            event = stream.next()
        except Exception as error:  # as above
            self._end(stream, 500, error)
            return
        if event is None:
            self._end(stream, 200, None)
        elif ask.role != "shadow":
            stream.has_begun = True
            self._out.append(pack(Answer(ask.id, 200, stream.rows.n, 0, True), event))
        elif stream.is_kept_whole:
            self._out.append(pack(Answer(ask.id, 200, stream.rows.n, 0, True)))  # nobody listens; it goes on all the same
        else:  # nothing more of it would be written
            self._end(stream, 200, None)

    def _flow(self, flow: Flow) -> None:
        stream = self._streams.get(flow.id)
        if stream is None:
            return
        stream.credit += flow.parts
        if not flow.parts:
            self._end(stream, 499, None)

    def _end(self, stream: Stream, status: int, error: Exception | None) -> None:
        """The last word, and the record of all of it."""
        del self._streams[stream.ask.id]
        try:
            stream.close()
        except Exception:  # a generator that is told to stop may raise, too
            log.exception("the model raised when it was told to stop")
        asked = Asked(stream.ask, stream.rows)
        if error is not None and not stream.has_begun:
            self._fail(asked, error)
            return
        if error is not None:
            log.error("the model raised for %s", stream.ask.prediction_id, exc_info=error)
            told = (
                error
                if isinstance(error, NoriaError)
                else ModelError(f"The model raised {type(error).__name__}: {str(error)[:500]}")
            )
            self._out.append(pack(Answer(stream.ask.id, 500, stream.rows.n), stream.failed(told)))
        elif status == 200:
            if not stream.has_begun:
                self._out.append(pack(Answer(stream.ask.id, 200, stream.rows.n, 0, True), b": it had nothing to say\n\n"))
            self._out.append(pack(Answer(stream.ask.id, 200, stream.rows.n), stream.last))
        asked.latency_ms = (self._clock.monotonic_s() - stream.ask.arrived_s) * 1000
        self._recorder.add([asked], None, stream.outputs(status), self._values([asked]))
        self._recorder.flush()

    # --- batches -------------------------------------------------------------------------------------------------------

    def _fit(self, one: Rows, other: Rows) -> bool:
        """May two requests be one call of the model?"""
        alone = self._model.is_alone or one.params is not None or other.params is not None
        return not alone and one.absent == other.absent

    def _decode(self, ask: Ask, body: bytes) -> Asked | None:
        if ask.deadline_s < self._clock.monotonic_s():
            return None  # the gateway has already answered 504
        try:
            return Asked(ask, self._model.read(ask, body, self._spec.body_bytes_max))
        except NoriaError as error:
            self._refuse(ask, error)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            self._refuse(ask, Invalid(f"The body does not fit the model's signature: {error}."))
        return None

    def _refuse(self, ask: Ask, error: NoriaError) -> None:
        self._out.append(pack(Answer(ask.id, error.status), error_body(ask.protocol, error)))

    def _answer_batch(self, batch: list[Asked]) -> None:
        try:
            outputs, given = self._predict([a.rows for a in batch])
        except Exception as error:  # the model's own code may raise anything
            if len(batch) > 1:
                for asked in batch:  # one bad row must not fail its neighbours
                    self._answer_batch([asked])
                return
            self._fail(batch[0], error)
            return
        listed, start, now_s = Listed(outputs), 0, self._clock.monotonic_s()
        for asked in batch:
            ask, rows = asked.ask, asked.rows
            asked.latency_ms = (now_s - ask.arrived_s) * 1000
            try:
                body, json_size = protocol.encode(
                    ask, listed, start, rows, model=self._spec.endpoint, version=str(self._spec.model_version)
                )
                self._out.append(pack(Answer(ask.id, 200, rows.n, json_size), body))
            except Invalid as error:
                self._refuse(ask, error)
            except TypeError as error:
                self._refuse(ask, ModelError(f"The model's answer cannot be sent: {error}."))
            start += rows.n
        self._recorder.add(batch, given if self._model.as_matrix else None, outputs, self._values(batch))

    def _predict(self, parts: list[Rows]) -> tuple[Outputs, Any]:
        given = self._model.batch(parts)
        n = sum(p.n for p in parts)
        outputs = self._model.predict(given, n, parts[0].params)
        if outputs.is_whole and len(parts) > 1:
            self._model.is_alone = True  # it does not answer row by row
            raise Unavailable("The model's answer cannot be shared out.")
        if len(outputs.prediction) != n:
            raise Unavailable(f"The model answered {len(outputs.prediction)} rows to {n}.")
        return outputs, given

    def _values(self, batch: list[Asked]) -> list[list[Any]] | None:
        if self._model.as_matrix or self._model.schema.is_free:
            return None
        return [[v for a in batch for v in (a.rows.columns or [])[i]] for i in range(len(self._features))]

    def _fail(self, asked: Asked, error: Exception) -> None:
        asked.latency_ms = (self._clock.monotonic_s() - asked.ask.arrived_s) * 1000
        if isinstance(error, NoriaError):
            self._refuse(asked.ask, error)
            if error.status < 500:
                return
        else:
            log.error("the model raised for %s", asked.ask.prediction_id, exc_info=error)
            told = ModelError(f"The model raised {type(error).__name__}: {str(error)[:500]}")
            self._refuse(asked.ask, told)
        matrix = loader.join_matrix([asked.rows]) if self._model.as_matrix else None
        self._recorder.add([asked], matrix, None, self._values([asked]))

    def _finish(self) -> None:
        """The last records: a second for the recorder to take them."""
        self._recorder.flush()
        until_s = self._clock.monotonic_s() + 1.0
        while not self._recorder.is_settled and self._clock.monotonic_s() < until_s:
            self._watch_recorder()
            for _, events in self._selector.select(0.05):
                if events & selectors.EVENT_WRITE:
                    self._recorder.send()
                if events & selectors.EVENT_READ and self._recorder.socket is not None:
                    self._recorder.read()
            self._recorder.tick()


def _block(spec: Spec, model: loader.Model, source: str, seq: int, items: list[Any]) -> bytes:
    """One block of records out of several batches of the same form."""
    asked: list[Asked] = [a for item in items for a in item[0]]
    outputs: list[Outputs] = [item[2] for item in items if item[2] is not None]
    n = sum(a.rows.n for a in asked)
    arrays: list[tuple[str, Any]] = []
    if items[0][1] is not None:
        arrays.append(("features", np.concatenate([item[1] for item in items])))
    values = None if items[0][3] is None else [[v for item in items for v in item[3][i]] for i in range(len(items[0][3]))]
    predictions: list[object] = []
    if outputs:
        output_arrays(outputs, arrays, predictions)
    parts = [np.ascontiguousarray(a, dtype=np.float64) for _, a in arrays]
    block = Block(
        kind="inference", source=source, seq=seq, endpoint=spec.endpoint, revision_id=spec.revision_id, model=spec.model,
        model_version=spec.model_version, classes=model.classes, rows=n,
        ids=_spread(asked, _ids), at_ms=_spread(asked, lambda a: [a.ask.at_ms] * a.rows.n),
        event_at_ms=_spread(asked, lambda a: [a.ask.event_at_ms] * a.rows.n),
        keys=_spread(asked, lambda a: [a.ask.key] * a.rows.n), roles=_spread(asked, lambda a: [a.ask.role] * a.rows.n),
        latency_ms=_spread(asked, lambda a: [a.latency_ms] * a.rows.n), status=[outputs[0].status if outputs else 500] * n,
        features=loader.feature_kinds(model.schema.columns), values=values or [], predictions=predictions,
        layout=[(name, len(a), 1 if a.ndim == 1 else a.shape[1]) for (name, _), a in zip(arrays, parts, strict=True)],
    )  # fmt: skip
    return pack(block, b"".join(p.tobytes() for p in parts))


def _spread(asked: list[Asked], each: Callable[[Asked], list[Any]]) -> list[Any]:
    return [v for a in asked for v in each(a)]


def _ids(asked: Asked) -> list[str]:
    first = asked.ask.prediction_id
    return [first, *(f"{first}.{i}" for i in range(1, asked.rows.n))]


def main() -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the node says when to stop
    # The end of the gateway's connection is what stops a worker, after its last records; the alarm is for a model that hangs.
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(STOP_TIMEOUT_S))
    spec = msgspec.json.decode(sys.argv[1], type=Spec)
    set_up_logging("worker", spec.log_level)
    gateway, door = socket.socket(fileno=spec.gateway_fd), socket.socket(fileno=spec.door_fd)
    try:
        sys.dont_write_bytecode = True  # in the model's folder: the next start would find files that were never registered
        if spec.digest:
            require_intact(Path(spec.folder), spec.digest, f"{spec.model}@{spec.model_version}")
        if spec.onnx:
            require_intact(Path(spec.onnx), spec.onnx_digest, f"the ONNX form of {spec.model}@{spec.model_version}")
        model = loader.load_onnx(Path(spec.folder), Path(spec.onnx)) if spec.onnx else loader.load_model(Path(spec.folder))
    except Exception:  # a model's code may raise anything while it is loaded; the endpoint's owner must read it
        text = "".join(traceback.format_exc().splitlines(keepends=True)[-ERROR_LINES:])
        _hello(gateway, Hello(revision_id=spec.revision_id, pid=os.getpid(), state="failed", error=text))
        sys.exit(3)
    gateway.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
    metadata = {**v2.metadata(model.schema, model.outputs()), "mlflow_version": model.mlflow_version}
    _hello(gateway, Hello(revision_id=spec.revision_id, pid=os.getpid(), state="ready", metadata=metadata))
    Worker(spec, model, gateway, door).run()


def _hello(gateway: socket.socket, hello: Hello) -> None:
    gateway.sendall(pack(Answer(HELLO, 0), msgspec.msgpack.encode(hello)))


if __name__ == "__main__":
    main()
