"""Worker processes: as many for each revision as its requests need, each started again when it dies.

A revision begins with one worker, or as many as it asks for at least; more are started while more requests wait than those answer, and
ended when they have had nothing to do for a while, down to none where that is wished: then a request is held until a worker is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import shutil
import socket
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import msgspec

from noria.kernel.errors import Invalid, Unavailable
from noria.serving import bounds
from noria.serving.bounds import Watch
from noria.serving.environments import Prepared
from noria.serving.fetched import fetch_model
from noria.serving.frames import RECORDER_AWAY, RECORDER_HERE, Bound, Hello, Spec, pack
from noria.serving.lanes import Lane, Link
from noria.serving.launch import Wish
from noria.serving.logs import open_log, tail
from noria.serving.model import DesiredRevision, Replica

if TYPE_CHECKING:
    from noria.serving.node import Node

log = logging.getLogger("noria.node")

WATCH_S = 0.05
START_TIMEOUT_S = 180.0
STARTS_MAX = 3  # of a revision that was never ready; then it has failed
RESTART_WAIT_S = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_S = 30.0
DRAIN_S = 30.0
SCALE_S = 0.25  # how often the requests in flight are looked at
LEVEL_SHARE = 0.25  # of the newest look in the level that decides; a spike of one look starts nothing


class Keeper:
    """The workers of one revision."""

    def __init__(self, node: Node, lane: Lane) -> None:
        self.lane = lane
        self.node = node
        self.is_routed = False
        self.has_been_ready = False
        self.has_failed = False
        self._seats: list[Seat] = []
        self._next_number = 0
        self._level = 0.0  # requests in flight, smoothed
        self._idle_from_s = node.clock.monotonic_s()
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def revision(self) -> DesiredRevision:
        return self.lane.revision

    @property
    def is_asleep(self) -> bool:
        return not self._seats and not self.has_failed

    def start(self) -> None:
        """As many as it asks for, and one at the least: whether the model loads at all must be known."""
        for _ in range(max(1, self.revision.config.min_replicas)):
            self._add()
        self.lane.on_held = self._wake

    @property
    def environments(self) -> set[str]:
        """The keys of those that its workers run in."""
        return {s.environment.key for s in self._seats if s.environment is not None}

    def scale(self, now_s: float) -> None:
        """Called every SCALE_S: more workers at once, fewer after a while."""
        config, pending = self.revision.config, len(self.lane.pending)
        self._level += LEVEL_SHARE * (pending - self._level)
        if pending:
            self._idle_from_s = now_s
        if not self.has_been_ready or self.has_failed:
            return
        wanted = min(config.max_replicas, max(config.min_replicas, math.ceil(self._level / config.target_in_flight - 0.01)))
        while len(self._seats) < wanted:
            self._add()
        if len(self._seats) > max(wanted, 1):
            if all(s.has_rested(now_s, config.idle_s) for s in self._seats):
                self._end(self._seats.pop())
        elif (
            config.min_replicas == 0
            and self._seats
            and self._seats[-1].has_rested(now_s, config.idle_s)
            and (now_s - self._idle_from_s > config.idle_s)
        ):
            log.info("%s@%d of %s sleeps: no request for %g s", self.revision.model, self.revision.model_version,
                     self.revision.endpoint, config.idle_s)  # fmt: skip
            self._end(self._seats.pop())

    def note_ready(self, now_s: float) -> None:
        """A worker has come up; rest is counted from here, so that one that was woken in vain is seen awake."""
        self.has_been_ready = True
        self._idle_from_s = now_s

    def fail(self, error: str) -> None:
        """It never loaded and never will."""
        self.has_failed = True
        self.lane.fail_all()
        self.node.tell_soon()
        log.error("revision %s of %s cannot be served: %s", self.revision.id[:8], self.revision.endpoint, error)

    def replicas(self, at_ms: int) -> list[Replica]:
        if not self._seats:
            return [Replica(node=self.node.name, revision_id=self.revision.id, state="stopped", digest=self.revision.digest,
                            error="It sleeps until somebody asks.", at_ms=at_ms)]  # fmt: skip
        return [s.replica(at_ms) for s in self._seats]

    async def retire(self) -> None:
        """No new requests come; what is in flight is finished, then the workers hand over their records and end."""
        self.lane.on_held = None
        seats, self._seats = self._seats, []
        await asyncio.gather(*(s.retire() for s in seats), *self._ending, return_exceptions=True)
        self.lane.fail_all()

    def _wake(self) -> None:
        """A request is held and nobody is there to answer it."""
        if self.is_asleep:
            self._add()

    def _add(self) -> None:
        seat = Seat(self, self._next_number)
        self._next_number += 1
        self._seats.append(seat)
        seat.task = asyncio.get_running_loop().create_task(seat.keep())
        self.node.tell_soon()

    def _end(self, seat: Seat) -> None:
        task = asyncio.get_running_loop().create_task(seat.retire())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        self.node.tell_soon()


class Seat:
    """One worker process, in its next life when it dies."""

    def __init__(self, keeper: Keeper, number: int) -> None:
        self.number = number
        self.state = "starting"
        self.error = ""
        self.engine = ""
        self.environment: Prepared | None = None
        self.doing = ""
        self.restarts = 0
        self.has_been_ready = False
        self.task: asyncio.Task[None] | None = None
        self._link: Link | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper = keeper
        self._node = keeper.node
        self._said = asyncio.Event()  # the worker's hello arrived
        self._busy_s = keeper.node.clock.monotonic_s()  # when it was last seen with a request
        self._limits = keeper.node.limits(keeper.revision.config)
        self._bounds: Watch | None = None
        self._over = ""  # of which limit it took too much in this life
        self._fault, self._fault_at_ms = "", 0

    @property
    def _revision(self) -> DesiredRevision:
        return self._keeper.revision

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def said(self, link: Link, hello: Hello) -> Lane | None:
        """The worker is ready, or says why it is not. Only what this seat started has this connection."""
        if hello.state == "ready" and hello.pid == self.pid:
            self.state, self.error, self.has_been_ready = "ready", "", True
            self._link = link
            self._keeper.note_ready(self._node.clock.monotonic_s())
        else:
            self.error = hello.error
        self._said.set()
        self.doing = ""
        self._node.tell_soon()
        return self._node.connected(link, hello, self._keeper.lane) if self._link is link else None

    def has_rested(self, now_s: float, rest_s: float) -> bool:
        """Could the others have answered what it was given for so long?"""
        if self._link is not None and self._link.in_flight:
            self._busy_s = now_s
        return self.state == "ready" and now_s - self._busy_s > rest_s

    async def keep(self) -> None:
        """Until the seat is not needed, or the revision has failed for good."""
        tries = 0
        keeper, revision = self._keeper, self._revision
        while True:
            await asyncio.sleep(RESTART_WAIT_S[min(tries, len(RESTART_WAIT_S) - 1)])
            began_s = self._node.clock.monotonic_s()
            try:
                self._note("fetching the model's files\n")
                folder = await asyncio.to_thread(self._fetch)
                self.environment = await self._node.environments.prepare(folder, revision.config.environment, self._note)
                onnx = ""
                if revision.config.engine == "onnx" and not self.environment.key:
                    self._note("converting to ONNX\n")
                    onnx, self.engine = await self._node.converted(folder, revision)
                elif revision.config.engine == "onnx":
                    self.engine = "as it was saved: it runs in an environment of its own, which has no converter."
                self._note("loading the model\n")
                await self._run(folder, onnx, self.environment)
            except Exception as error:  # a model's files may be wrong in ways that nobody thought of; its owner must read it
                self.error = _words(error)
                is_known = isinstance(error, httpx.HTTPError | OSError | Invalid | Unavailable)
                log.warning(
                    "revision %s of %s: %s", revision.id[:8], revision.endpoint, error, exc_info=None if is_known else error
                )
            lived_s = self._node.clock.monotonic_s() - began_s
            tries = 0 if self.has_been_ready and lived_s > STEADY_S else tries + 1
            if (
                not keeper.has_been_ready
                and not keeper.is_routed
                and tries >= (1 if self._said.is_set() or self._over else STARTS_MAX)
            ):
                self.state = "failed"
                keeper.fail(self.error)
                return
            self.state = "restarting" if self.has_been_ready else "starting"
            self.restarts += 1
            self._node.tell_soon()

    def _fetch(self) -> Path:
        revision, node = self._revision, self._node
        return fetch_model(
            node.home / "serving" / "models", f"{revision.model}@{revision.model_version}", revision.digest, revision.files,
            lambda file, into: node.fetch_file(file.digest, into),
        )  # fmt: skip

    def _note(self, words: str) -> None:
        """What it waits for: told to people, and kept in the log."""
        with open_log(self._log) as output:
            output.write(words.encode())
        self.doing = " ".join(words.split()).strip("─ ")[:200]
        self._node.tell_soon()

    @property
    def _log(self) -> Path:
        return self._node.home / "serving" / "logs" / f"{self._revision.id}.log"

    @property
    def _scratch(self) -> Path:
        return self._node.home / "serving" / "scratch" / str(os.getpid()) / f"{self._revision.id}.{self.number}"

    async def _run(self, folder: Path, onnx: str, environment: Prepared) -> None:
        """One life of a worker."""
        self._said.clear()
        self.error = self._over = ""
        gateway, its_gateway = socket.socketpair()
        door, its_door = socket.socketpair()
        with its_gateway, door, its_door:
            wish = Wish(
                python=environment.python, is_own=bool(environment.key), scratch=self._scratch,
                reads=(folder, Path(onnx)) if onnx else (folder,), ports=tuple(self._revision.config.network_ports),
                limits=self._limits,
            )  # fmt: skip
            fds = its_gateway.fileno(), its_door.fileno()
            with open_log(self._log) as output:
                spec = self._spec(folder, onnx, *fds)
                try:
                    self._process = self._node.launcher.start(wish, "noria.serving.worker", [spec], output, fds=fds)
                except BaseException:
                    gateway.close()
                    raise
            self._bounds = Watch(self.pid, self._limits, self._scratch, self._log, self._node.clock.monotonic_s)
            its_gateway.close()
            its_door.close()
            loop = asyncio.get_running_loop()
            gateway.setblocking(False)
            door.setblocking(False)
            await loop.connect_accepted_socket(partial(Link, self.said, self._node.lost), gateway)
            loop.add_reader(door, self._hand_over, door)
            try:
                await self._watch()
            finally:
                loop.remove_reader(door)
                if self._process.poll() is not None:
                    bounds.end(self.pid)
                    await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)

    async def _watch(self) -> None:
        """Until the process ends."""
        assert self._process is not None and self._bounds is not None
        until_s = self._node.clock.monotonic_s() + START_TIMEOUT_S
        while self._process.poll() is None:
            await asyncio.sleep(WATCH_S)
            if not self._said.is_set() and self._node.clock.monotonic_s() > until_s:
                self.error = f"The model was not loaded within {START_TIMEOUT_S:.0f} s."
                bounds.end(self.pid)
            elif not self._over and (found := await self._bounds.look()):
                self._over = self._keeper.lane.fault = found  # before its requests hear that it is gone
                bounds.end(self.pid)
        code = self._process.wait()
        if self._over:
            self.error = f"The worker was ended: {self._over}."
            self._note_fault(self.error)
        elif not self._said.is_set() and not self.error:
            self.error = f"The worker ended with code {code} before the model was loaded.\n{tail(self._log)}".strip()
        elif self.state == "ready":
            self._keeper.lane.fault = ""
            self._note_fault(f"The worker ended with code {code}.")

    def _note_fault(self, words: str) -> None:
        """It ended unasked. Of one that never answered the revision tells."""
        revision = self._revision
        log.warning("%s@%d of %s: %s", revision.model, revision.model_version, revision.endpoint, words)
        if self.has_been_ready:
            self._fault, self._fault_at_ms = words, self._node.clock.now_ms()

    def _hand_over(self, door: socket.socket) -> None:
        """The worker asks for a connection to the recorder, which it may not make itself; it gets one for its records alone."""
        try:
            if not door.recv(1):
                raise ConnectionError
        except BlockingIOError:
            return
        except OSError:
            asyncio.get_running_loop().remove_reader(door)
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made, contextlib.suppress(OSError):
            try:
                made.connect(str(self._node.recorder_path))
                made.sendall(pack(Bound(self._revision.endpoint, self._revision.id)))
            except OSError:
                door.send(RECORDER_AWAY)
            else:
                socket.send_fds(door, [RECORDER_HERE], [made.fileno()])

    def _spec(self, folder: Path, onnx: str, gateway_fd: int, door_fd: int) -> str:
        revision = self._revision
        spec = Spec(
            gateway_fd=gateway_fd, door_fd=door_fd, folder=str(folder),
            endpoint=revision.endpoint, revision_id=revision.id, model=revision.model, model_version=revision.model_version,
            digest=revision.digest, onnx=onnx, onnx_digest=Path(onnx).name, max_batch_rows=revision.config.max_batch_rows,
            body_bytes_max=self._node.config.body_limit_mb << 20,
            log_level=self._node.config.log_level,
        )  # fmt: skip
        return msgspec.json.encode(spec).decode()

    def replica(self, at_ms: int) -> Replica:
        return Replica(
            node=self._node.name, revision_id=self._revision.id, seat=self.number, state=self.state,  # type: ignore[arg-type]
            restarts=self.restarts, pid=self.pid if self._process and self._process.poll() is None else 0,
            digest=self._revision.digest, engine=self.engine, error=self.error, at_ms=at_ms,
            environment=self.environment.words if self.environment else "", isolation=self._node.launcher.words, doing=self.doing,
            memory_bytes=self._bounds.memory_bytes if self._bounds else 0, memory_limit_bytes=self._limits.memory_bytes,
            fault=self._fault, fault_at_ms=self._fault_at_ms,
        )  # fmt: skip

    async def retire(self) -> None:
        """It gets nothing new, finishes what it has, hands over its records and ends."""
        if self.task is not None:
            self.task.cancel()
        lane, link = self._keeper.lane, self._link
        until_s = self._node.clock.monotonic_s() + DRAIN_S
        if link is not None:
            lane.release(link)
            while link.in_flight and link.is_open and self._node.clock.monotonic_s() < until_s:
                lane.expire(self._node.clock.monotonic_s())
                await asyncio.sleep(WATCH_S)
            link.close()
        if self._process is None:
            return
        if link is None:  # it has not spoken yet, so that nothing but a signal ends it
            bounds.end(self.pid)
        for _ in range(60):
            if self._process.poll() is not None:
                break
            await asyncio.sleep(WATCH_S)
        bounds.end(self.pid)
        self._process.wait()
        await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)


def _words(error: Exception) -> str:
    """What the endpoint's owner reads of it."""
    if isinstance(error, Invalid | Unavailable):
        return f"{error} {error.hint}".strip()
    if isinstance(error, httpx.HTTPError | OSError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}"
