"""An endpoint on Ray Serve: the same gateway, the same workers, Ray in between.

    serve run noria.serving.ray_app:application endpoint=flights url=https://noria.example.org      (NORIA_TOKEN in the environment)

    client ──Ray's proxy──▶ Door (Noria's gateway: rights, split, sticky key, shadows, rates, truth)
                              │  one Ray Serve application per revision, made and deleted as the endpoint's revisions come and go
                              ▼
                            Replica (Ray scales it) ──framed unix socket──▶ worker: digest checked, model loaded, answers recorded

The door is a node that follows the control plane like any other, so a canary's step, a promotion and a rollback reach Ray as they
reach Noria's own data plane. What differs is who keeps the workers: Ray. Recorders are shared per machine: whichever of the
processes on a machine holds the lock has it as its child.
Invariant: an answer is the worker's own bytes; Ray passes them on.
"""

from __future__ import annotations

import asyncio
import getpass
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError
from starlette.requests import Request
from starlette.responses import Response

from noria.config import Config, load_config
from noria.kernel.clock import Clock
from noria.kernel.errors import Invalid
from noria.logs import set_up_logging
from noria.serving.answers import error_body
from noria.serving.elsewhere import RecorderProcess
from noria.serving.frames import Answer, Ask, Hello
from noria.serving.keeper import WATCH_S, Keeper
from noria.serving.lanes import Lane, Waiting
from noria.serving.model import DesiredRevision
from noria.serving.model import Replica as ReplicaRow
from noria.serving.node import Node
from noria.serving.replica import ReplicaNode

log = logging.getLogger("noria.node")

_head = msgspec.msgpack.Encoder().encode
_ask = msgspec.msgpack.Decoder(Ask).decode
_revision = msgspec.json.Decoder(DesiredRevision).decode


def application(args: dict[str, str]) -> serve.Application:
    """What `serve run` and `serve deploy` start. Raises Invalid for arguments that are missing or unknown."""
    unknown = set(args) - {"endpoint", "url", "hosts"}
    if unknown or not args.get("endpoint"):
        raise Invalid(
            f"Unknown arguments: {', '.join(sorted(unknown))}." if unknown else "Which endpoint?", where="args",
            hint="endpoint, and if need be url (NORIA_URL) and hosts (NORIA_ALLOWED_HOSTS).",
        )  # fmt: skip
    return DOOR.bind(args["endpoint"], args.get("url", ""), args.get("hosts", ""))


def _config(url: str, **more: Any) -> Config:
    """The settings of a process on Ray: those of its environment, in a home that all of them on this machine share."""
    home = os.environ.get("NORIA_HOME") or str(Path(tempfile.gettempdir()) / f"noria-ray-{getpass.getuser()}")
    config = load_config(home=home, url=url or None, grpc_port=0, **more)
    if not config.url or not (config.token.reveal() or config.internal_token.reveal()):
        raise Invalid(
            "The server and the token are needed where Ray's processes run.", where="NORIA_TOKEN",
            hint="Set NORIA_URL (or the argument url) and NORIA_TOKEN, that of a service account with the role node.",
        )  # fmt: skip
    (config.home / "serving").mkdir(parents=True, exist_ok=True, mode=0o700)
    return config


def _recorder(config: Config) -> RecorderProcess:
    return RecorderProcess(config.home, {**os.environ, "NORIA_HOME": str(config.home), "NORIA_URL": config.url})


class RayLane(Lane):
    """The way to the replicas of a revision. Ray picks one; its handle holds requests while there is none."""

    def __init__(self, revision: DesiredRevision, clock: Clock) -> None:
        super().__init__(revision, clock)
        self.handle: Any = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_ready(self) -> bool:
        return self.handle is not None

    def opened(self, handle: Any, hello: Hello) -> None:
        """Replicas are there: they get what waits."""
        self.handle, self.hello = handle, hello
        queued, self._queue = self._queue, []
        for number in queued:
            waiting = self.pending.get(number)
            if waiting is not None:
                self._begin(waiting)

    def send(self, waiting: Waiting) -> None:
        self.pending[waiting.head.id] = waiting
        if self.is_lost:
            self._give_up(waiting, 503)
        elif self.handle is None:
            self._queue.append(waiting.head.id)
        else:
            self._begin(waiting)

    def _begin(self, waiting: Waiting) -> None:
        task = asyncio.get_running_loop().create_task(self._pass_on(waiting))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, waiting: Waiting) -> None:
        head, now_s = waiting.head, self._clock.monotonic_s()
        try:
            status, body, json_size = await self.handle.answer.remote(
                _head(head), waiting.body, now_s - head.arrived_s, waiting.deadline_s - now_s
            )
        except (RayError, BackPressureError) as error:
            log.warning("a replica of %s did not answer: %s", self.revision.endpoint, str(error).splitlines()[0])
            self._give_up(waiting, 503)
            return
        if body:
            self.answered(Answer(head.id, status, 0, json_size), body)
        else:
            self._give_up(waiting, status)


class RayKeeper(Keeper):
    """A revision as an application of Ray Serve."""

    lane: RayLane

    def __init__(self, node: RayNode, lane: RayLane) -> None:
        super().__init__(node, lane)
        self._app = f"noria-{lane.revision.id}"
        self._state, self._error = "starting", ""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._deploy())

    async def _deploy(self) -> None:
        config = self.revision.config
        options: dict[str, Any] = {"max_ongoing_requests": config.max_in_flight}
        if config.max_replicas > 1 or config.min_replicas == 0:
            options["autoscaling_config"] = {
                "min_replicas": config.min_replicas, "max_replicas": config.max_replicas,
                "initial_replicas": max(1, config.min_replicas), "target_ongoing_requests": config.target_in_flight,
                "downscale_delay_s": config.idle_s,
            }  # fmt: skip
        bound = REPLICA.options(**options).bind(msgspec.json.encode(self.revision), self.node.config.url)
        try:
            handle = await asyncio.to_thread(serve.run, bound, name=self._app, route_prefix=None)
            hello = msgspec.msgpack.decode(await handle.hello.remote(), type=Hello)
        except Exception as error:  # whatever Ray or the model raises while it starts, the endpoint's owner must read it
            self._error = await asyncio.to_thread(self._why, str(error))
            self._state = "failed"
            self.fail(self._error)
            return
        self._state = "ready"
        self.note_ready(self.node.clock.monotonic_s())
        self.lane.opened(handle, hello)
        self.node.tell_soon()

    def _why(self, said: str) -> str:
        """The replica's own words, which Ray keeps with the application's deployments."""
        found = serve.status().applications.get(self._app)
        words = [d.message for d in found.deployments.values()] if found else []
        return "\n".join([*words, said]).strip()

    def scale(self, now_s: float) -> None:
        """Ray does."""

    def replicas(self, at_ms: int) -> list[ReplicaRow]:
        return [ReplicaRow(
            node=self.node.name, revision_id=self.revision.id, state=self._state, digest=self.revision.digest,  # type: ignore[arg-type]
            engine="Ray Serve", error=self._error, at_ms=at_ms,
        )]  # fmt: skip

    async def retire(self) -> None:
        if self._task is not None:
            self._task.cancel()
        until_s = self.node.clock.monotonic_s() + self.lane.timeout_s
        while self.lane.pending and self.lane.handle is not None and self.node.clock.monotonic_s() < until_s:  # noqa: ASYNC110 - a number tells by itself alone
            await asyncio.sleep(WATCH_S)
        await asyncio.to_thread(serve.delete, self._app)
        self.lane.fail_all()


class RayNode(Node):
    """A node whose workers are Ray's."""

    def keeper(self, revision: DesiredRevision) -> Keeper:
        return RayKeeper(self, RayLane(revision, self.clock))


class Replica:
    """One worker of one revision, as Ray scales it."""

    async def __init__(self, revision: bytes, url: str) -> None:  # type: ignore[misc]  # Ray awaits it
        config = _config(url)
        set_up_logging("replica", config.log_level)
        self._recorder = _recorder(config)
        self._recorder.start()
        self._node = ReplicaNode(config)
        wanted = _revision(revision)
        alone = msgspec.structs.replace(wanted.config, min_replicas=1, max_replicas=1)
        self._lane = await self._node.start_with(msgspec.structs.replace(wanted, config=alone))

    async def answer(self, head: bytes, body: bytes, waited_s: float, left_s: float) -> tuple[int, bytes, int]:
        """The worker's answer. Times are relative: every machine has a monotonic clock of its own."""
        now_s = self._node.clock.monotonic_s()
        ask = msgspec.structs.replace(
            _ask(head), id=self._lane.next_number(), arrived_s=now_s - waited_s, deadline_s=now_s + left_s
        )
        reply: asyncio.Future[tuple[int, bytes, int]] = asyncio.get_running_loop().create_future()
        waiting = Waiting(ask, body, reply)
        self._lane.send(waiting)
        found = await reply
        if waiting.parts is not None:
            self._lane.abandon(waiting)
            return 400, error_body(ask.protocol, Invalid("Answers do not come bit by bit through Ray.", where="stream")), 0
        return found

    async def hello(self) -> bytes:
        """The worker's first words, with the model's metadata."""
        return _head(self._lane.hello)

    async def check_health(self) -> None:
        """Ray replaces a replica whose worker cannot be kept."""
        if self._node.has_failed:
            raise RuntimeError("The worker of this replica does not come up.")

    async def __del__(self) -> None:
        await self._node.stop()
        await asyncio.to_thread(self._recorder.stop)


class Door:
    """Noria's gateway behind Ray's proxy."""

    async def __init__(self, endpoint: str, url: str, hosts: str) -> None:  # type: ignore[misc]  # Ray awaits it
        config = _config(url, serve_only=endpoint, **({"allowed_hosts": hosts} if hosts else {}))
        set_up_logging("node", config.log_level)
        self._recorder = _recorder(config)
        self._recorder.start()
        self._node = RayNode(config)
        await self._node.start()

    async def __call__(self, request: Request) -> Response:
        """Whatever path it is: the gateway knows."""
        head: dict[str, Any] = {}
        parts: list[bytes] = []

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                head.update(message)
            else:
                parts.append(message.get("body", b""))

        await self._node.gateway(request.scope, request.receive, send)
        answer = Response(b"".join(parts), status_code=head["status"])
        answer.raw_headers = list(head["headers"])
        return answer

    async def __del__(self) -> None:
        await self._node.stop()
        await asyncio.to_thread(self._recorder.stop)


# Under names of their own: Ray then finds the classes by name, in its processes, instead of copying what they refer to.
_QUIET = {"enable_access_log": False}  # two lines for each request; the door counts and the recorder records
REPLICA = serve.deployment(
    name="replica", ray_actor_options={"num_cpus": 0.5}, health_check_period_s=5, graceful_shutdown_timeout_s=30,
    logging_config=_QUIET,
)(Replica)  # fmt: skip
DOOR = serve.deployment(
    name="door", ray_actor_options={"num_cpus": 0.5}, max_ongoing_requests=10_000, logging_config=_QUIET
)(Door)
