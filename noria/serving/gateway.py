"""The address that answers: raw ASGI, one pass over path and headers, the body handed on unread.

    POST /v2/models/{endpoint}[/versions/{v}]/infer     Open Inference Protocol V2
    POST /v2/models/{endpoint}/generate_stream          what a model says bit by bit, as server-sent events
    POST /v2/models/{endpoint}/explain                  which feature contributed how much; KServe's V1: /v1/models/{endpoint}:explain
    POST /endpoints/{endpoint}/invocations              MLflow; also GET …/ping, …/health and …/version
    POST /endpoints/{endpoint}/truth                    what turned out to be true; 202 once it is on disk
    GET  /v2, /v2/health/*, /v2/models/…, /health, /metrics

rpc.py answers the same over gRPC. Every wait has a deadline, every queue a bound, every bound a counter.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
import math
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest

from noria import __version__
from noria.access import tokens
from noria.config import Config
from noria.kernel.clock import Clock, SystemClock
from noria.kernel.errors import Forbidden, Invalid, NoriaError, NotFound, TooLarge, TooMuch, Unauthenticated, Unavailable
from noria.kernel.ids import new_id
from noria.serving.answers import Timeout, error_body
from noria.serving.frames import Ask
from noria.serving.lanes import Lane, Reply, Waiting
from noria.serving.model import Desired, DesiredAuth, Predictor
from noria.serving.routes import Split

log = logging.getLogger("noria.gateway")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

TIMEOUT_MS_MAX = 600_000
KEY_BYTES_MAX = 512
SHADOWS_MAX = 256  # shadow copies in flight per revision; dropped first, and counted
EXPIRE_S = 0.02
CACHE_MAX = 10_000
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
_WANTED = frozenset({
    b"host", b"content-type", b"content-length", b"authorization", b"x-noria-key", b"x-noria-event-at-ms",
    b"x-noria-timeout-ms", b"origin", b"sec-fetch-site", b"inference-header-content-length", b"content-encoding",
})  # fmt: skip
_JSON: Header = (b"content-type", b"application/json")
_TEXT: Header = (b"content-type", b"text/plain; charset=utf-8")
_EVENTS: Header = (b"content-type", b"text/event-stream; charset=utf-8")
_BINARY: Header = (b"content-type", b"application/octet-stream")
_ENCODINGS = {b"": "", b"identity": "", b"gzip": "gzip", b"deflate": "deflate"}
_WRITES = frozenset({"infer", "invocations", "truth"})
EXTENSIONS = ["binary_tensor_data", "generate"]


class Place(msgspec.Struct, frozen=True):
    """What a path asks for."""

    verb: str  # infer, invocations, truth, metadata, ready, ping, version, live, server, health, metrics
    protocol: str
    endpoint: str = ""
    version: int | None = None


class Answered(msgspec.Struct, frozen=True):
    """What a worker said to a request; `json_size` 0: all of the body is JSON."""

    status: int
    body: bytes
    json_size: int
    prediction_id: str
    lane: Lane
    stream: Waiting | None = None  # its parts are still to come


class Doorkeeper:
    """Who may call, from memory. What the control plane said last holds while it is away."""

    def __init__(self, clock: Clock, internal: str = "") -> None:
        self._clock = clock
        self._internal = f"Bearer {internal}".encode() if internal else None
        self._auth = DesiredAuth(version="", is_open=False)
        self._by_token: dict[str, Predictor] = {}
        self._seen: dict[bytes, Predictor | None] = {}

    def learn(self, auth: DesiredAuth) -> None:
        self._auth = auth
        self._by_token = {p.token_id: p for p in auth.predictors}
        self._seen.clear()

    def check(self, authorization: bytes | None, endpoint: str, verb: str) -> str:
        """Who it is: the id of the token, or nothing where everybody may. Raises Unauthenticated or Forbidden."""
        if self._auth.is_open:
            return ""
        if not authorization:
            raise Unauthenticated(
                "A token is needed to call this endpoint.", hint="Send it as: Authorization: Bearer nrk_…."
            )
        if self._internal is not None and hmac.compare_digest(authorization, self._internal):
            return "noria"  # the control plane, for somebody whom it has checked
        if authorization not in self._seen:
            if len(self._seen) > CACHE_MAX:
                self._seen.clear()
            self._seen[authorization] = self._find(authorization)
        found = self._seen[authorization]
        if found is None or (found.expires_at_ms is not None and found.expires_at_ms <= self._clock.now_ms()):
            raise Unauthenticated("The token is not valid (any more).", hint="Make a new one with: noria token create NAME.")
        allowed = found.truth if verb == "truth" else found.predict
        if allowed is not None and endpoint not in allowed:
            action = "endpoint.truth" if verb == "truth" else "endpoint.predict"
            raise Forbidden(
                f"This token may not do {action} on endpoint:{endpoint}.", hint="Ask an administrator for a role."
            )
        return found.token_id

    def _find(self, authorization: bytes) -> Predictor | None:
        scheme, _, value = authorization.decode("latin-1").partition(" ")
        text = value.strip()
        if scheme.lower() == "basic":
            try:
                text = base64.b64decode(text, validate=True).decode().partition(":")[2]
            except ValueError:
                return None
        elif scheme.lower() != "bearer":
            return None
        parsed = tokens.parse(text)
        found = self._by_token.get(parsed.id) if parsed else None
        if parsed is None or found is None or tokens.sha256(parsed.secret) != found.secret_sha256:
            return None
        return found


class TruthSink(Protocol):
    """Where truth goes; the node gives the recorder's connection. `write` returns once it is on disk."""

    async def write(self, endpoint: str, body: bytes, rows: int, at_ms: int, timeout_s: float) -> None: ...


class Gateway:
    """The ASGI application."""

    def __init__(self, config: Config, truth: TruthSink, *, clock: Clock | None = None) -> None:
        self._config = config
        self._truth = truth
        self._clock = clock or SystemClock()
        self._door = Doorkeeper(self._clock, config.internal_token.reveal())
        self._splits: dict[str, Split[Lane]] = {}
        self._models: dict[str, str] = {}
        self.lanes: dict[str, Lane] = {}
        self._places: dict[str, Place | None] = {}
        self._hosts = {config.host.lower(), *(h.lower() for h in config.allowed_hosts)}
        if config.is_loopback or config.host in ("0.0.0.0", "::"):
            self._hosts |= LOOPBACK_NAMES
        self._hosts_seen: set[bytes] = set()
        self._body_limit = config.body_limit_mb << 20
        self.truths = 0
        self.is_synced = False  # has it heard from the control plane, or read what it said last?

    def apply(self, desired: Desired, lanes: dict[str, Lane]) -> None:
        """Serve `desired` from now on: one assignment, between two requests."""
        self.lanes = lanes
        self._splits = {e.name: Split(e.name, e.routes, lanes) for e in desired.endpoints}
        self._models = {e.name: e.model for e in desired.endpoints}
        self._door.learn(desired.auth)
        self.is_synced = True

    async def expire_forever(self) -> None:
        """Let go of requests that are past their deadline."""
        while True:
            await asyncio.sleep(EXPIRE_S)
            now_s = self._clock.monotonic_s()
            for lane in list(self.lanes.values()):
                if lane.pending:
                    lane.expire(now_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        place: Place | None = None
        try:
            path = scope["raw_path"].decode("latin-1") if scope.get("raw_path") else scope["path"]
            place = self._place(path)
            if place is None:
                raise NotFound("There is nothing at this address.", hint="See docs/guides/serve-a-model.md.")
            headers = {k: v for k, v in scope["headers"] if k in _WANTED}
            self._check_host(headers.get(b"host", b""))
            if place.verb in _WRITES:
                self._check_write(scope["method"], headers)
                caller = self._door.check(headers.get(b"authorization"), place.endpoint, place.verb)
                body = await self._read(receive, headers)
                if place.verb == "truth":
                    await self._take_truth(place, headers, body, send)
                else:
                    await self._predict(place, headers, body, caller, receive, send)
            else:
                if scope["method"] not in ("GET", "HEAD"):
                    raise _MethodNotAllowed(f"{scope['method']} is not possible here.")
                await self._tell(place, headers, send)
        except NoriaError as error:
            await _refuse(send, place.protocol if place else "", error)

    # --- before ------------------------------------------------------------------------------------------------------

    def _place(self, path: str) -> Place | None:
        found = self._places.get(path)
        if found is None and path not in self._places:
            found = _parse(path)
            if len(self._places) > CACHE_MAX:
                self._places.clear()
            self._places[path] = found
        return found

    def _check_host(self, host: bytes) -> None:
        if host in self._hosts_seen:
            return
        try:
            name = (urlsplit(f"//{host.decode('latin-1')}").hostname or "").lower()
        except ValueError:
            name = ""
        if name not in self._hosts:
            raise Forbidden(
                f"This server does not answer to the name {name!r}.",
                hint="Add it to NORIA_ALLOWED_HOSTS if it is one of its names.",
            )
        if len(self._hosts_seen) < 100:
            self._hosts_seen.add(host)

    def _check_write(self, method: str, headers: dict[bytes, bytes]) -> None:
        if method != "POST":
            raise _MethodNotAllowed(f"{method} is not possible here; POST is.")
        site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
        if site and site not in (b"same-origin", b"none"):
            raise Forbidden("A page of another site tried to call this endpoint.")
        if (
            origin
            and urlsplit(origin.decode("latin-1")).netloc.lower() != headers.get(b"host", b"").decode("latin-1").lower()
        ):
            raise Forbidden("A page of another site tried to call this endpoint.")

    async def _read(self, receive: Receive, headers: dict[bytes, bytes]) -> bytes:
        declared = headers.get(b"content-length")
        if declared and declared.isdigit() and int(declared) > self._body_limit:
            raise self._too_large()
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            parts, size = [body], len(body)
            while message.get("more_body"):
                message = await receive()
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > self._body_limit:
                    raise self._too_large()
            body = b"".join(parts)
        if message["type"] == "http.disconnect":
            raise Invalid("The caller went away.")
        return body

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body is larger than {self._body_limit >> 20} MiB.", hint="Send less at once.")

    # --- predict -----------------------------------------------------------------------------------------------------

    async def _predict(
        self, place: Place, headers: dict[bytes, bytes], body: bytes, caller: str, receive: Receive, send: Send
    ) -> None:
        found = await self.ask(place, headers, body, caller)
        if found.stream is not None:
            await _pass_on(found, found.stream, receive, send)
            return
        about = [(b"content-length", b"%d" % len(found.body)), (b"x-noria-prediction-id", found.prediction_id.encode())]
        if found.json_size:
            about += (_BINARY, (b"inference-header-content-length", b"%d" % found.json_size))
        else:
            about.append(_JSON)
        await send({"type": "http.response.start", "status": found.status, "headers": about + found.lane.headers})
        await send({"type": "http.response.body", "body": found.body})

    async def ask(self, place: Place, headers: dict[bytes, bytes], body: bytes, caller: str = "") -> Answered:
        """What the worker says, whichever way the request came; the caller has been checked. Raises NoriaError."""
        arrived_s = self._clock.monotonic_s()
        at_ms = self._clock.now_ms()
        split = self._splits.get(place.endpoint)
        if split is None:
            raise _no_endpoint(place.endpoint)
        key_bytes = headers.get(b"x-noria-key")
        key = _key(key_bytes) if key_bytes else None
        prediction_id = new_id(at_ms)
        lane, role = self._choose(split, place, key or prediction_id)
        if lane.is_full:
            lane.count.reject()
            raise TooMuch(
                f"{lane.limit} requests already wait for {place.endpoint}.", retry_after_s=1, hint="Try again in a moment."
            )
        if lane.rates is not None:
            wait_s = lane.rates.take(caller, arrived_s)
            if wait_s:
                lane.count.reject()
                raise TooMuch(
                    f"You ask {place.endpoint} more than {lane.revision.config.rate_per_s:g} times a second.", retry_after_s=wait_s,
                    hint="Wait as long as Retry-After says.",
                )  # fmt: skip
        timeout = headers.get(b"x-noria-timeout-ms")
        timeout_s = lane.timeout_s if timeout is None else _number(timeout, "x-noria-timeout-ms", TIMEOUT_MS_MAX) / 1000
        event = headers.get(b"x-noria-event-at-ms")
        event_at_ms = at_ms if event is None else _number(event, "x-noria-event-at-ms", 1 << 60)
        json_size, encoding = headers.get(b"inference-header-content-length"), headers.get(b"content-encoding", b"").lower()
        if encoding not in _ENCODINGS:
            raise _UnknownEncoding(
                f"The body is encoded as {encoding.decode('latin-1')!r}.", hint="Send it as it is, or with gzip or deflate."
            )
        ask = Ask(
            lane.next_number(), place.protocol, prediction_id, at_ms, event_at_ms, key, role, arrived_s + timeout_s,
            arrived_s, headers.get(b"content-type", b"application/json").decode("latin-1"),
            -1 if json_size is None else _number(json_size, "Inference-Header-Content-Length", self._body_limit),
            _ENCODINGS[encoding],
        )  # fmt: skip
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        waiting = Waiting(ask, body, reply)
        lane.send(waiting)
        if split.shadows and not place.protocol.startswith("explain"):
            self._shadow(split.shadows, ask, body, lane)
        status, answer, answer_json_size = await reply
        if waiting.parts is not None:
            return Answered(status, b"", 0, prediction_id, lane, waiting)
        lane.count.note(status, (self._clock.monotonic_s() - arrived_s) * 1000)
        if not answer:
            raise _no_answer(status, lane, timeout_s)
        return Answered(status, answer, answer_json_size, prediction_id, lane)

    def _choose(self, split: Split[Lane], place: Place, key: str) -> tuple[Lane, str]:
        if place.version is not None:
            lane = split.lanes.get(place.version)
            if lane is None:
                raise NotFound(f"{place.endpoint} does not serve version {place.version}.", hint=_serves(split))
            return lane, "champion"
        if split.is_empty:
            raise Unavailable(
                f"{place.endpoint} has no version that is ready.", retry_after_s=2, hint="Deploy one, or wait."
            )
        return split.pick(key)

    def _shadow(self, shadows: list[Lane], ask: Ask, body: bytes, answering: Lane) -> None:
        """A copy for each shadow: nobody waits for it, and it is dropped first."""
        for lane in shadows:
            if lane is answering:
                continue
            if not lane.is_ready or len(lane.pending) >= min(SHADOWS_MAX, lane.limit):
                lane.shadow_dropped += 1
                continue
            copy = msgspec.structs.replace(ask, id=lane.next_number(), role="shadow")
            lane.send(Waiting(copy, body, None))

    # --- truth -------------------------------------------------------------------------------------------------------

    async def _take_truth(self, place: Place, headers: dict[bytes, bytes], body: bytes, send: Send) -> None:
        if place.endpoint not in self._splits:
            raise _no_endpoint(place.endpoint)
        items = read_truth(body)
        timeout = headers.get(b"x-noria-timeout-ms")
        timeout_s = 10.0 if timeout is None else _number(timeout, "x-noria-timeout-ms", TIMEOUT_MS_MAX) / 1000
        await self._truth.write(place.endpoint, body, items, self._clock.now_ms(), timeout_s)
        self.truths += items
        await _reply(send, 202, msgspec.json.encode({"accepted": items}))

    # --- tell --------------------------------------------------------------------------------------------------------

    async def _tell(self, place: Place, headers: dict[bytes, bytes], send: Send) -> None:
        if place.endpoint:
            self.check_caller(headers, place.endpoint)
            await self._tell_model(place, send)
        elif place.verb == "live":
            await _reply(send, 200, b'{"live":true}')
        elif place.verb == "ready":  # of the server
            ok = self.is_synced
            await _reply(send, 200 if ok else 503, msgspec.json.encode({"ready": ok}))
        elif place.verb == "server":
            await _reply(send, 200, msgspec.json.encode({"name": "noria", "version": __version__, "extensions": EXTENSIONS}))
        elif place.verb == "health":
            await _reply(send, 200, msgspec.json.encode(self._health()))
        else:
            await _reply(send, 200, generate_latest(self), (b"content-type", b"text/plain; version=0.0.4; charset=utf-8"))

    def _health(self) -> dict[str, object]:
        return {
            "status": "ok" if self.is_synced else "starting", "version": __version__, "endpoints": len(self._splits),
            "workers": sum(lane.is_ready for lane in self.lanes.values()), "revisions": len(self.lanes),
        }  # fmt: skip

    async def _tell_model(self, place: Place, send: Send) -> None:
        if place.verb == "ready":
            ok = self.is_model_ready(place)
            await _reply(send, 200 if ok else 503, msgspec.json.encode({"name": place.endpoint, "ready": ok}))
        elif place.verb == "ping":
            ok = self.is_model_ready(place)
            await _reply(send, 200 if ok else 503, b"\n", _JSON)
        elif place.verb == "version":
            hello = self._lane_of(place).hello
            await _reply(send, 200, str(hello.metadata.get("mlflow_version", "") if hello else "").encode(), _TEXT)
        else:
            await _reply(send, 200, msgspec.json.encode(self.model_metadata(place)))

    def is_model_ready(self, place: Place) -> bool:
        """Has what the place names a worker? Raises NotFound, Unavailable (nothing is deployed yet)."""
        lane = self._lane_of(place)
        return lane.is_ready or (lane.hello is not None and lane.revision.config.min_replicas == 0)  # asleep: it will answer

    def model_metadata(self, place: Place) -> dict[str, Any]:
        """A model as V2 describes it. Raises NotFound, Unavailable."""
        lane = self._lane_of(place)
        described = lane.hello.metadata if lane.hello else {}
        return {
            "name": place.endpoint, "versions": [str(v) for v in sorted(self._splits[place.endpoint].lanes)],
            "platform": "mlflow", "inputs": described.get("inputs", []), "outputs": described.get("outputs", []),
        }  # fmt: skip

    def _lane_of(self, place: Place) -> Lane:
        split = self._splits.get(place.endpoint)
        if split is None:
            raise _no_endpoint(place.endpoint)
        return self._choose(split, place, "")[0]

    def check_caller(self, headers: dict[bytes, bytes], endpoint: str) -> str:
        """Who asks, if he may. Raises Unauthenticated, Forbidden."""
        return self._door.check(headers.get(b"authorization"), endpoint, "infer")

    def collect(self) -> list[Any]:
        """Prometheus asks."""
        requests = CounterMetricFamily(
            "noria_requests", "Predictions answered, by status.", labels=["endpoint", "revision", "version", "status"]
        )
        rejected = CounterMetricFamily(
            "noria_requests_rejected", "Predictions refused because the queue was full.", labels=["endpoint", "revision"]
        )
        dropped = CounterMetricFamily("noria_shadow_dropped", "Shadow copies not sent.", labels=["endpoint", "revision"])
        waiting = GaugeMetricFamily(
            "noria_requests_in_flight", "Predictions not answered yet.", labels=["endpoint", "revision"]
        )
        ready = GaugeMetricFamily("noria_worker_ready", "Workers that take requests.", labels=["endpoint", "revision"])
        truths = CounterMetricFamily("noria_truths", "Truths taken.")
        truths.add_metric([], self.truths)
        for lane in self.lanes.values():
            revision = lane.revision
            labels = [revision.endpoint, revision.id]
            for status, n in lane.count.total_requests.items():
                requests.add_metric([*labels, str(revision.model_version), str(status)], n)
            rejected.add_metric(labels, lane.count.total_rejected)
            dropped.add_metric(labels, lane.shadow_dropped)
            waiting.add_metric(labels, len(lane.pending))
            ready.add_metric(labels, len(lane.links))
        return [requests, rejected, dropped, waiting, ready, truths]


async def _pass_on(found: Answered, waiting: Waiting, receive: Receive, send: Send) -> None:
    """A stream, part by part, as fast as the caller takes it. Once he is gone, the model is told to stop."""
    assert waiting.parts is not None
    lane, parts = found.lane, waiting.parts
    headers = [
        _EVENTS,
        (b"cache-control", b"no-store"),
        (b"x-noria-prediction-id", found.prediction_id.encode()),
        *lane.headers,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    gone = asyncio.ensure_future(_until_gone(receive))
    status, has_more = 200, True
    try:
        while has_more:
            part = asyncio.ensure_future(parts.get())
            await asyncio.wait((part, gone), return_when=asyncio.FIRST_COMPLETED)
            if not part.done():
                part.cancel()
                status = 499
                return
            body, has_more, status = part.result()
            if not body and status >= 500:
                body = _event_of(_broken_off(status, lane))
            await send({"type": "http.response.body", "body": body, "more_body": has_more})
            lane.taken(waiting)
    finally:
        gone.cancel()
        lane.abandon(waiting)
        lane.count.note(status, (lane.now_s() - waiting.head.arrived_s) * 1000)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _broken_off(status: int, lane: Lane) -> NoriaError:
    name = lane.revision.endpoint
    if status == 504:
        return Timeout(f"{name} said nothing for {lane.timeout_s:g} s, or nobody took what it said.")
    return Unavailable(f"The worker of {name} stopped in the middle of its answer{_because(lane)}.", hint="Ask again.")


def _event_of(error: NoriaError) -> bytes:
    return b"data: " + error_body("v2", error) + b"\n\n"


class _UnknownEncoding(Invalid):
    """415."""

    code, status = "invalid", 415


class _MethodNotAllowed(Invalid):
    """405."""

    code, status = "invalid", 405


def _parse(path: str) -> Place | None:
    """What a raw path asks for; None: nothing. Parts are decoded once, after splitting."""
    parts = [unquote(p) for p in path.split("?", 1)[0].split("/")[1:]]
    match parts:
        case ["v2"] | ["v2", ""]:
            return Place("server", "v2")
        case ["v2", "health", ("live" | "ready") as verb]:
            return Place(verb, "v2")
        case ["v2", "models", name]:
            return Place("metadata", "v2", name)
        case ["v2", "models", name, ("ready" | "infer") as verb]:
            return Place(verb, "v2", name)
        case ["v2", "models", name, ("generate_stream" | "explain") as verb]:
            return Place("infer", verb, name)
        case ["v2", "models", name, "versions", version, ("generate_stream" | "explain") as verb] if version.isdigit():
            return Place("infer", verb, name, int(version))
        case ["v1", "models", name] if name.endswith(":explain"):
            return Place("infer", "explain_v1", name.removesuffix(":explain"))
        case ["v1", "models", name, "versions", version] if version.removesuffix(":explain").isdigit():
            return Place("infer", "explain_v1", name, int(version.removesuffix(":explain"))) if ":" in version else None
        case ["v2", "models", name, "versions", version] if version.isdigit():
            return Place("metadata", "v2", name, int(version))
        case ["v2", "models", name, "versions", version, ("ready" | "infer") as verb] if version.isdigit():
            return Place(verb, "v2", name, int(version))
        case ["endpoints", name, "invocations"]:
            return Place("invocations", "invocations", name)
        case ["endpoints", name, ("ping" | "health")]:
            return Place("ping", "invocations", name)
        case ["endpoints", name, "version"]:
            return Place("version", "invocations", name)
        case ["endpoints", name, "truth"]:
            return Place("truth", "", name)
        case ["health"]:
            return Place("health", "")
        case ["metrics"]:
            return Place("metrics", "")
    return None


class _Truth(msgspec.Struct):
    value: float | int | bool | str
    prediction_id: str | None = None
    key: str | None = None
    at_ms: int | None = None


class _TruthBody(msgspec.Struct):
    items: list[_Truth]


_truth_body = msgspec.json.Decoder(_TruthBody).decode
TRUTHS_MAX = 10_000


def read_truth(body: bytes) -> int:
    """How many truths a body brings. Raises Invalid, naming the item at fault."""
    try:
        items = _truth_body(body).items
    except (msgspec.DecodeError, UnicodeDecodeError) as cause:
        raise Invalid(
            f"The body cannot be read: {cause}.", where="items",
            hint='Send {"items": [{"prediction_id" or "key": …, "value": …, "at_ms": …}]}.',
        ) from cause  # fmt: skip
    if not items or len(items) > TRUTHS_MAX:
        raise Invalid(f"There are {len(items)} items; 1 to {TRUTHS_MAX} are taken at once.", where="items")
    for i, item in enumerate(items):
        if bool(item.prediction_id) == bool(item.key):
            raise Invalid(f"Item {i} needs either a prediction_id or a key.", where=f"items[{i}]")
        if item.at_ms is not None and not 0 <= item.at_ms < 1 << 60:
            raise Invalid(f"Item {i} has an at_ms that is no time.", where=f"items[{i}].at_ms")
    return len(items)


def _key(raw: bytes) -> str:
    if len(raw) > KEY_BYTES_MAX:
        raise Invalid(f"x-noria-key has {len(raw)} bytes; at most {KEY_BYTES_MAX} are taken.", where="x-noria-key")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _number(raw: bytes, name: str, most: int) -> int:
    if not raw.isdigit() or len(raw) > 19 or not 0 < int(raw) <= most:
        raise Invalid(f"{name} must be a whole number between 1 and {most}.", where=name)
    return int(raw)


def _no_endpoint(name: str) -> NotFound:
    return NotFound(f"There is no endpoint {name!r}.", hint="noria endpoint list shows them.")


def _serves(split: Split[Lane]) -> str:
    return "It serves " + (", ".join(str(v) for v in sorted(split.lanes)) or "none") + "."


def _no_answer(status: int, lane: Lane, timeout_s: float) -> NoriaError:
    endpoint = lane.revision.endpoint
    if status == 504:
        return Timeout(f"{endpoint} did not answer within {timeout_s:g} s.", hint="Ask for more with x-noria-timeout-ms.")
    return Unavailable(
        f"The worker of {endpoint} stopped twice with this request{_because(lane)}.", retry_after_s=2, hint="Try again."
    )


def _because(lane: Lane) -> str:
    return f": {lane.fault}" if lane.fault else ""


async def _refuse(send: Send, protocol: str, error: NoriaError) -> None:
    headers: list[Header] = []
    if error.retry_after_s:
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after_s))).encode()))
    if error.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="noria"'))
    await _reply(send, error.status, error_body(protocol, error), *headers)


async def _reply(send: Send, status: int, body: bytes, *headers: Header) -> None:
    named = list(headers) if any(h[0] == b"content-type" for h in headers) else [_JSON, *headers]
    named.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": named})
    await send({"type": "http.response.body", "body": body})
