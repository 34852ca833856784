"""A lane: the way to the workers of one revision. Bounded, counted, and nobody in it is lost when the worker dies.

A request is written at once to the connection of the worker that has the fewest; the answer comes back under its number. When a worker
dies, what it had not answered is sent once more, to another or the next, within its deadline.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

import msgspec

from noria.kernel.clock import Clock
from noria.serving.frames import HELLO, Answer, Ask, Flow, Hello, Unpacker, pack
from noria.serving.model import DesiredRevision
from noria.serving.rates import Rates
from noria.serving.routes import latency_bucket

log = logging.getLogger("noria.gateway")

TRIES_MAX = 2
_answer = msgspec.msgpack.Decoder(Answer).decode
_hello = msgspec.msgpack.Decoder(Hello).decode

Reply = tuple[int, bytes, int]  # status, body, and how much of the body is JSON when not all of it (else 0)
Part = tuple[bytes, bool, int]  # of a stream: its bytes, whether more come, and the status with which it ended


class Waiting:
    """One request that a worker has not answered yet. `reply` None: a shadow's, nobody waits."""

    __slots__ = ("body", "deadline_s", "head", "link", "parts", "reply", "tries")

    def __init__(self, head: Ask, body: bytes, reply: asyncio.Future[Reply] | None) -> None:
        self.head = head
        self.body = body
        self.reply = reply
        self.deadline_s = head.deadline_s
        self.parts: asyncio.Queue[Part] | None = None  # of a stream; bounded by the credit that the worker keeps to
        self.tries = 0
        self.link: Link | None = None  # who has it; None: nobody yet


class Count:
    """What a lane answered; `take` gives what came since the last `take`."""

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.rejected = 0
        self.latency: dict[int, int] = {}
        self.total_requests: dict[int, int] = {}  # by status, for Prometheus
        self.total_rejected = 0

    def note(self, status: int, ms: float) -> None:
        self.requests += 1
        if status >= 500:
            self.errors += 1
        self.total_requests[status] = self.total_requests.get(status, 0) + 1
        found = latency_bucket(ms)
        self.latency[found] = self.latency.get(found, 0) + 1

    def reject(self) -> None:
        self.rejected += 1
        self.total_rejected += 1

    def take(self) -> tuple[int, int, int, dict[int, int]]:
        taken = self.requests, self.errors, self.rejected, self.latency
        self.requests, self.errors, self.rejected, self.latency = 0, 0, 0, {}
        return taken


class Lane:
    """One revision as the gateway sees it."""

    def __init__(self, revision: DesiredRevision, clock: Clock) -> None:
        self.revision = revision
        self.limit = revision.config.max_in_flight
        self.timeout_s = revision.config.timeout_ms / 1000
        self.headers = [
            (b"x-noria-model", f"{revision.model}@{revision.model_version}".encode()),
            (b"x-noria-revision", revision.id.encode()),
        ]
        self.rates = Rates(revision.config.rate_per_s, revision.config.burst) if revision.config.rate_per_s else None
        self.count = Count()
        self.hello: Hello | None = None
        self.links: list[Link] = []  # workers that take requests
        self.on_held: Callable[[], None] | None = None  # told when a request waits and there is no worker
        self.pending: dict[int, Waiting] = {}
        self.shadow_dropped = 0
        self.fault = ""  # why the last worker was ended, when it took too much
        self.is_lost = False  # nobody will come who could answer
        self._queue: list[int] = []  # numbers in `pending` that no worker has
        self._number = 0
        self._clock = clock

    @property
    def is_ready(self) -> bool:
        return bool(self.links)

    @property
    def is_full(self) -> bool:
        return len(self.pending) >= self.limit

    def now_s(self) -> float:
        return self._clock.monotonic_s()

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def send(self, waiting: Waiting) -> None:
        """Pass on, or keep until there is a worker."""
        self.pending[waiting.head.id] = waiting
        links = self.links
        if not links:
            waiting.link = None
            if self.is_lost:
                self._give_up(waiting, 503)
                return
            self._queue.append(waiting.head.id)
            if self.on_held is not None:
                self.on_held()
            return
        link = links[0] if len(links) == 1 else min(links, key=_load)
        waiting.tries += 1
        waiting.link = link
        link.in_flight += 1
        link.write(pack(waiting.head, waiting.body))

    def answered(self, answer: Answer, body: bytes) -> None:
        waiting = self.pending.get(answer.id) if answer.has_more else self._let_go(answer.id)
        if waiting is None:
            return
        if answer.has_more:
            waiting.deadline_s = self._clock.monotonic_s() + self.timeout_s  # a stream may last; its pauses may not
        if waiting.reply is None:
            return
        if answer.has_more and waiting.parts is None:
            waiting.parts = asyncio.Queue()
            if not waiting.reply.done():
                waiting.reply.set_result((answer.status, body, 0))
        if waiting.parts is not None:
            waiting.parts.put_nowait((body, answer.has_more, answer.status))
        elif not waiting.reply.done():
            waiting.reply.set_result((answer.status, body, answer.json_size))

    def taken(self, waiting: Waiting) -> None:
        """A part of a stream has been passed on: the worker may make one more."""
        if waiting.link is not None:
            waiting.link.write(pack(Flow(waiting.head.id, 1)))

    def abandon(self, waiting: Waiting) -> None:
        """Whoever listened to a stream is gone."""
        if self._let_go(waiting.head.id) is not None and waiting.link is not None:
            waiting.link.write(pack(Flow(waiting.head.id, 0)))

    def connected(self, link: Link, hello: Hello) -> None:
        """A worker is ready: it gets what waits."""
        self.links.append(link)
        self.hello = hello
        queued, self._queue = self._queue, []
        for number in queued:
            waiting = self.pending.pop(number, None)
            if waiting is not None:
                self.send(waiting)

    def release(self, link: Link) -> None:
        """The worker gets nothing more; what it has, it answers."""
        if link in self.links:
            self.links.remove(link)

    def disconnected(self, link: Link) -> None:
        """The worker is gone: what it had is tried once more, but shadows and second failures are not."""
        self.release(link)
        for waiting in [w for w in self.pending.values() if w.link is link]:
            if waiting.reply is None or waiting.tries >= TRIES_MAX or waiting.parts is not None:
                self._give_up(waiting, 503)
            else:
                del self.pending[waiting.head.id]
                self.send(waiting)

    def expire(self, now_s: float) -> None:
        """Let go of requests whose deadline has passed."""
        for waiting in [w for w in self.pending.values() if w.deadline_s <= now_s]:
            self._give_up(waiting, 504)

    def fail_all(self) -> None:
        """Nobody will ever answer here, neither what waits nor what comes."""
        self.is_lost = True
        for waiting in list(self.pending.values()):
            self._give_up(waiting, 503)

    def _give_up(self, waiting: Waiting, status: int) -> None:
        self._let_go(waiting.head.id)
        if status == 504 and waiting.link is not None:  # it may be a stream that has not begun; the worker knows what is one
            waiting.link.write(pack(Flow(waiting.head.id, 0)))
        if waiting.parts is not None:
            waiting.parts.put_nowait((b"", False, status))
        elif waiting.reply is not None and not waiting.reply.done():
            waiting.reply.set_result((status, b"", 0))

    def _let_go(self, number: int) -> Waiting | None:
        waiting = self.pending.pop(number, None)
        if waiting is not None and waiting.link is not None:
            waiting.link.in_flight -= 1
        return waiting


class Link(asyncio.Protocol):
    """The connection of one worker; in its first frame it says that it is ready, or why it never will be."""

    def __init__(self, on_hello: Callable[[Link, Hello], Lane | None], on_lost: Callable[[Link], None]) -> None:
        self._on_hello = on_hello
        self._on_lost = on_lost
        self._frames = Unpacker()
        self._transport: asyncio.Transport | None = None
        self.lane: Lane | None = None
        self.pid = 0
        self.in_flight = 0
        self.is_open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in deed, not in name

    def write(self, frame: bytes) -> None:
        """Send; a connection that is being lost takes nothing, and `connection_lost` sees to what it was to take."""
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.write(frame)

    def data_received(self, data: bytes) -> None:
        for head, body in self._frames.feed(data):
            answer = _answer(head)
            if answer.id == HELLO and self.lane is None:
                hello = _hello(body)
                self.pid = hello.pid
                self.lane = self._on_hello(self, hello)
                if self.lane is None:
                    self.close()
            elif self.lane is not None:
                self.lane.answered(answer, body)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self.lane is not None:
            self.lane.disconnected(self)
        self._on_lost(self)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _load(link: Link) -> int:
    return link.in_flight
