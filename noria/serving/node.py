"""A serving node: the gateway, and what keeps it true to what the control plane wants.

`python -m noria.serving.node` listens on NORIA_GATEWAY_PORT. It asks the control plane what to run (a long poll), keeps the
answer in `home/serving/desired.json`, fetches model files by digest, keeps one worker process per revision alive, and reports
workers and traffic. When the control plane is away it goes on with what it was told last, also after a restart.

Invariant: a route is followed only to a revision that this node has been told to run; a model directory is used only when every
file in it has the digest it was registered with.
"""

from __future__ import annotations

import asyncio
import compileall
import contextlib
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

import httpx
import msgspec
import uvicorn

import noria
from noria.config import Config, load_config
from noria.kernel.clock import Clock, SystemClock
from noria.kernel.errors import Unavailable
from noria.kernel.ids import new_id
from noria.kernel.processes import die_with_parent
from noria.logs import set_up_logging
from noria.serving.bounds import limits_of
from noria.serving.converter import Converter, Primer
from noria.serving.environments import ModelEnvironments
from noria.serving.frames import Block, Hello, Unpacker, Written, pack, recorder_socket
from noria.serving.gateway import Gateway, Receive, Scope, Send, TruthSink
from noria.serving.keeper import SCALE_S, Keeper
from noria.serving.lanes import Lane, Link
from noria.serving.launch import Launcher
from noria.serving.model import (
    Conversion,
    Desired,
    DesiredRevision,
    ReplicaReport,
    TrafficReport,
    TrafficSample,
)
from noria.serving.narrow import narrowed

if TYPE_CHECKING:
    from noria.serving.rpc import Rpc

log = logging.getLogger("noria.node")

POLL_WAIT_S = 20
AWAY_WAIT_S = 3.2  # of the waits between attempts: after six seconds
REPORT_S = 2.0
PRUNE_S = 3600.0
REPLICAS_S = 10.0  # how often replicas are told even when nothing changed
TRUTHS_WAITING_MAX = 10_000
TORN_S = 60.0  # a file that is being written for longer has lost its writer

_written = msgspec.msgpack.Decoder(Written).decode


class RecorderLink(TruthSink):
    """The gateway's end of the recorder's socket. Truth that is not on disk is sent again after a broken connection."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._source = new_id()
        self._seq = 0
        self._waiting: dict[int, tuple[bytes, asyncio.Future[None]]] = {}
        self._transport: asyncio.Transport | None = None

    async def write(self, endpoint: str, body: bytes, rows: int, at_ms: int, timeout_s: float) -> None:
        if len(self._waiting) >= TRUTHS_WAITING_MAX:
            raise Unavailable("Too much truth waits for the disk.", retry_after_s=1, hint="Try again in a moment.")
        self._seq += 1
        seq = self._seq
        block = Block(kind="truth", source=self._source, seq=seq, endpoint=endpoint, rows=rows, at_ms=[at_ms])
        frame = pack(block, body)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[seq] = (frame, done)
        if self._transport is not None and not self._transport.is_closing():  # else `keep` sends it on the next connection
            self._transport.write(frame)
        try:
            async with asyncio.timeout(timeout_s):
                await done
        except TimeoutError:
            raise Unavailable("The truth could not be written in time.", retry_after_s=2, hint="Send it again.") from None
        finally:
            self._waiting.pop(seq, None)

    async def keep(self) -> None:
        """Stay connected."""
        loop = asyncio.get_running_loop()
        while True:
            lost: asyncio.Future[None] = loop.create_future()
            with contextlib.suppress(OSError):
                transport, _ = await loop.create_unix_connection(partial(_Acks, self, lost), str(self._path))
                for frame, _ in list(self._waiting.values()):
                    transport.write(frame)
                self._transport = transport
                await lost
                self._transport = None
            await asyncio.sleep(0.1)

    def written(self, upto: int) -> None:
        for seq in [s for s in self._waiting if s <= upto]:
            _, done = self._waiting[seq]
            if not done.done():
                done.set_result(None)


class _Acks(asyncio.Protocol):
    def __init__(self, link: RecorderLink, lost: asyncio.Future[None]) -> None:
        self._link = link
        self._lost = lost
        self._frames = Unpacker()

    def data_received(self, data: bytes) -> None:
        for head, _ in self._frames.feed(data):
            self._link.written(_written(head).seq)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._lost.done():
            self._lost.set_result(None)


class Node:
    """See the module."""

    def __init__(self, config: Config, *, clock: Clock | None = None) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self.home = config.home
        # The server's own node and one elsewhere may share a machine.
        self.name = f"{socket.gethostname()}/{config.serve_only}" if config.serve_only else socket.gethostname()
        self.recorder_path = recorder_socket(config.home)
        self._recorder = RecorderLink(self.recorder_path)
        self.gateway = Gateway(config, self._recorder, clock=self.clock)
        self.limits = partial(
            limits_of,
            home=config.home,
            memory_mb=config.model_memory_mb,
            disk_mb=config.model_disk_mb,
            tasks=config.model_tasks,
        )
        self.launcher = Launcher(config.model_isolation, os.environ, config.model_variables)
        self.environments = ModelEnvironments(
            config.home, os.environ, config.model_environment, Primer(config.home, self.launcher, self.limits).prime
        )
        self.converted = Converter(
            config.home, self.launcher, self.limits, self._register, lambda file, into: self.fetch_file(file.digest, into)
        ).converted
        self._rpc = _rpc(self.gateway, config)
        self._keepers: dict[str, Keeper] = {}
        self._links: set[Link] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._retiring: set[asyncio.Task[None]] = set()
        self._tell = asyncio.Event()
        self._unsent: dict[tuple[str, int], TrafficSample] = {}
        self._desired: Desired | None = None
        self._url = config.url or config.control_url
        self._headers = {"authorization": f"Bearer {(config.internal_token.reveal() or config.token.reveal())}"}
        self._is_away = False

    async def start(self) -> None:
        for name in ("models", "logs"):
            (self.home / "serving" / name).mkdir(parents=True, exist_ok=True)
        log.info("models are %s", self.launcher.words)
        await asyncio.to_thread(tidy, self.home)
        loop = asyncio.get_running_loop()
        known = await asyncio.to_thread(read_desired, self.home)
        if known is not None:
            self.apply(narrowed(known, self.config.serve_only))  # another node may have written it: they share a home
        if self._rpc is not None:
            await self._rpc.start()
            log.info("gRPC on port %d", self.config.grpc_port)
        for work in (self._sync, self._report, self._recorder.keep, self.gateway.expire_forever, self._scale):
            self._tasks.append(loop.create_task(go_on(work)))

    def keeper(self, revision: DesiredRevision) -> Keeper:
        """What keeps the workers of a revision."""
        return Keeper(self, Lane(revision, self.clock))

    async def stop(self) -> None:
        if self._rpc is not None:
            await self._rpc.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(k.retire() for k in self._keepers.values()), *self._retiring, return_exceptions=True)

    @property
    def has_failed(self) -> bool:
        """Is there a revision that never comes up?"""
        return any(k.has_failed for k in self._keepers.values())

    def tell_soon(self) -> None:
        self._tell.set()

    def fetch_file(self, digest: str, into: IO[bytes]) -> None:
        """The bytes with this digest, from the control plane. Runs in a thread."""
        url = f"{self._url}/api/v1/blobs/{digest}"
        with httpx.stream("GET", url, headers=self._headers, timeout=60.0) as answer:
            answer.raise_for_status()
            for chunk in answer.iter_bytes(1 << 20):
                into.write(chunk)

    async def _register(self, made: Conversion, folder: Path) -> Conversion:
        """The bytes, then the row."""
        async with httpx.AsyncClient(base_url=self._url, headers=self._headers, timeout=60.0) as control:
            for file in made.files:
                body = await asyncio.to_thread((folder / file.path).read_bytes)
                kind = {"content-type": "application/octet-stream"}
                (await control.put(f"/api/v1/blobs/{file.digest}", content=body, headers=kind)).raise_for_status()
            answer = await control.post("/api/v1/serving/conversions", content=msgspec.json.encode(made), headers=_JSON)
            answer.raise_for_status()
            return msgspec.json.decode(answer.content, type=Conversion)

    # --- wanted ------------------------------------------------------------------------------------------------------

    async def _sync(self) -> None:
        """Ask what is wanted, for ever."""
        wait_s = 0.2
        async with httpx.AsyncClient(base_url=self._url, headers=self._headers, timeout=POLL_WAIT_S + 10) as control:
            is_first = True
            while True:
                try:
                    desired = await self._ask(control, is_first)
                except (httpx.HTTPError, msgspec.DecodeError) as error:
                    self._note_away(error, wait_s)
                    await asyncio.sleep(wait_s)
                    wait_s = min(5.0, wait_s * 2)
                    continue
                if self._is_away:
                    log.info("the control plane is back")
                    self._is_away = False
                is_first, wait_s = False, 0.2
                if desired is not None:
                    await self._take(desired)

    async def _take(self, desired: Desired) -> None:
        """Keep what is wanted, then follow it: the recorder knows a policy before a worker can answer."""
        await asyncio.to_thread(write_desired, self.home, desired)
        self.apply(desired)

    async def _ask(self, control: httpx.AsyncClient, is_first: bool) -> Desired | None:
        known = self._desired
        params: dict[str, str | int] = {
            "generation": -1 if known is None or is_first else known.generation,
            "auth": "" if known is None or is_first else known.auth.version,
            "wait_s": 0 if is_first else POLL_WAIT_S,
        }
        answer = await control.get("/api/v1/serving/desired", params=params)
        answer.raise_for_status()
        desired = narrowed(msgspec.json.decode(answer.content, type=Desired), self.config.serve_only)
        same = known is not None and (desired.generation, desired.auth.version) == (known.generation, known.auth.version)
        return None if same and not is_first else desired

    def _note_away(self, error: Exception, wait_s: float) -> None:
        """Said once, and not in the first seconds: a control plane that starts together with this node is not away."""
        if not self._is_away and wait_s >= AWAY_WAIT_S:
            log.warning("the control plane does not answer (%s); serving what was wanted last", error)
            self._is_away = True

    def apply(self, desired: Desired) -> None:
        """Start what is new, let the gateway follow, retire what is gone. Nothing here waits."""
        self._desired = desired
        wanted = {r.id: r for r in desired.revisions}
        routed = {r.revision_id for e in desired.endpoints for r in e.routes if r.weight > 0}
        loop = asyncio.get_running_loop()
        for revision in wanted.values():
            if revision.id not in self._keepers:
                keeper = self._keepers[revision.id] = self.keeper(revision)
                keeper.start()
        for keeper in self._keepers.values():
            keeper.is_routed = keeper.revision.id in routed
        gone = [self._keepers.pop(i) for i in list(self._keepers) if i not in wanted]
        self.gateway.apply(desired, {i: k.lane for i, k in self._keepers.items()})
        for keeper in gone:
            self._collect(keeper.lane)
            task = loop.create_task(keeper.retire())
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        self.tell_soon()

    def connected(self, link: Link, hello: Hello, lane: Lane) -> Lane:
        """A worker is ready: it gets what waits."""
        self._links.add(link)
        lane.connected(link, hello)
        return lane

    def lost(self, link: Link) -> None:
        self._links.discard(link)

    # --- told --------------------------------------------------------------------------------------------------------

    async def _scale(self) -> None:
        """Give each revision as many workers as its requests need, for ever; now and then remove environments that nobody uses."""
        pruned_s = self.clock.monotonic_s()
        while True:
            await asyncio.sleep(SCALE_S)
            now_s = self.clock.monotonic_s()
            for keeper in list(self._keepers.values()):
                keeper.scale(now_s)
            if now_s - pruned_s > PRUNE_S:
                pruned_s = now_s
                used = {key for k in self._keepers.values() for key in k.environments}
                await asyncio.to_thread(self.environments.prune, used)

    async def _report(self) -> None:
        """Tell the control plane of workers (when they change) and of traffic (every REPORT_S)."""
        told_s = 0.0
        async with httpx.AsyncClient(base_url=self._url, headers=self._headers, timeout=10.0) as control:
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._tell.wait(), REPORT_S)
                for keeper in self._keepers.values():
                    self._collect(keeper.lane)
                now_s = self.clock.monotonic_s()
                try:
                    if self._tell.is_set() or now_s - told_s >= REPLICAS_S:
                        self._tell.clear()
                        await self._tell_replicas(control)
                        told_s = now_s
                    await self._tell_traffic(control)
                except httpx.HTTPError as error:
                    self._note_away(error, AWAY_WAIT_S)
                    told_s = 0.0
                    await asyncio.sleep(REPORT_S)

    async def _tell_replicas(self, control: httpx.AsyncClient) -> None:
        at_ms = self.clock.now_ms()
        generation = self._desired.generation if self._desired else 0
        report = ReplicaReport(
            node=self.name, generation=generation, replicas=[r for k in self._keepers.values() for r in k.replicas(at_ms)]
        )
        answer = await control.post("/api/v1/serving/replicas", content=msgspec.json.encode(report), headers=_JSON)
        answer.raise_for_status()

    def _collect(self, lane: Lane) -> None:
        """Add a lane's count to what is to be reported, per step of ten seconds."""
        requests, errors, rejected, latency = lane.count.take()
        if not requests and not rejected:
            return
        at_ms = self.clock.now_ms() // 10_000 * 10_000
        key = (lane.revision.id, at_ms)
        before = self._unsent.get(key)
        if before is not None:
            requests, errors, rejected = requests + before.requests, errors + before.errors, rejected + before.rejected
            for bucket, n in before.latency.items():
                latency[bucket] = latency.get(bucket, 0) + n
        self._unsent[key] = TrafficSample(
            endpoint=lane.revision.endpoint, revision_id=lane.revision.id, at_ms=at_ms, requests=requests, errors=errors,
            rejected=rejected, latency=latency,
        )  # fmt: skip
        while len(self._unsent) > 100_000:
            self._unsent.pop(next(iter(self._unsent)))

    async def _tell_traffic(self, control: httpx.AsyncClient) -> None:
        while self._unsent:
            sent = dict(list(self._unsent.items())[:1000])
            report = TrafficReport(node=self.name, samples=list(sent.values()))
            answer = await control.post("/api/v1/serving/traffic", content=msgspec.json.encode(report), headers=_JSON)
            answer.raise_for_status()
            for key, sample in sent.items():
                if self._unsent.get(key) is sample:
                    del self._unsent[key]


async def go_on(work: Callable[[], Awaitable[None]]) -> None:
    """Do work that has no end. A defect in it is said and it begins again: the node goes on serving."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("%s broke; it begins again", getattr(work, "__qualname__", work))
        await asyncio.sleep(1.0)


_JSON = {"content-type": "application/json"}


def _rpc(gateway: Gateway, config: Config) -> Rpc | None:
    """The gRPC door, unless it is switched off; its library is only imported for it."""
    if not config.grpc_port:
        return None
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # the node starts workers, which replace the process at once
    from noria.serving.rpc import Rpc

    return Rpc(gateway, config.host, config.grpc_port, config.body_limit_mb << 20)


def read_desired(home: Path) -> Desired | None:
    """What was wanted last; None when nothing was, or the file is damaged."""
    try:
        return msgspec.json.decode((home / "serving" / "desired.json").read_bytes(), type=Desired)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        log.warning("what was wanted last cannot be read: %s", error)
        return None


def write_desired(home: Path, desired: Desired) -> None:
    """Keep it, whole or not at all, for this user's eyes only: it has hashes of tokens."""
    path = home / "serving" / "desired.json"
    temporary = path.with_name(f"desired.{new_id()}.tmp")  # on Ray several processes share a home
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(desired))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def tidy(home: Path) -> None:
    """Remove what workers of nodes that are gone left (others may run on this home); compile what workers import and cannot write."""
    for left in (home / "serving" / "scratch").glob("*"):
        if not Path(f"/proc/{left.name}").exists():
            shutil.rmtree(left, ignore_errors=True)
    for torn in (home / "serving").glob("desired.*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - torn.stat().st_mtime > TORN_S:
                torn.unlink()
    for folder in (Path(noria.__file__).parent / "serving", Path(noria.__file__).parent / "kernel"):
        compileall.compile_dir(folder, quiet=2, maxlevels=0)


def application(node: Node) -> object:
    """The gateway with the node's life around it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await node.gateway(scope, receive, send)
            return
        async with _lifespan(node, receive, send):
            pass

    return app


@asynccontextmanager
async def _lifespan(node: Node, receive: Receive, send: Send) -> AsyncIterator[None]:
    await receive()
    await node.start()
    await send({"type": "lifespan.startup.complete"})
    yield
    await receive()
    await node.stop()
    await send({"type": "lifespan.shutdown.complete"})


def main() -> None:
    die_with_parent(signal.SIGTERM)
    config = load_config()
    set_up_logging("node", config.log_level)
    serve(config)


def serve(config: Config) -> None:
    """Listen until the process is told to stop."""
    uvicorn.run(
        application(Node(config)),  # type: ignore[arg-type]
        host=config.host, port=config.gateway_port, loop="uvloop", http="httptools", lifespan="on", log_config=None,
        access_log=False, server_header=False, date_header=False, timeout_keep_alive=75, timeout_graceful_shutdown=5,
        backlog=2048,
    )  # fmt: skip


if __name__ == "__main__":
    main()
