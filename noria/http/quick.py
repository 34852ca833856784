"""The quick lane: routes of a fixed address whose work is one plain function, answered without the framework.

The routes are declared like every other (noria/http/route.py) and the framework knows them too; those that carry `opt["quick"]`
are answered here, because a framework's request, injection and response cost more than writing a point. What the framework
would do is done here in the same order: the guard before the body is read, one hop to a thread, the table of errors, the note
of a refusal. Anything else than an exact address and method goes on to the framework.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import partial
from typing import Any, Protocol
from urllib.parse import parse_qsl

import anyio.to_thread
import msgspec
from msgspec import Struct

from noria.http import errors
from noria.http.route import Answer, Asked
from noria.kernel.errors import Forbidden, Invalid
from noria.kernel.ids import OpId
from noria.kernel.op import NOBODY, Actor, Op

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Mint(Protocol):
    """Makes operations."""

    def mint(self, actor: Actor) -> Op: ...


class Guard(Protocol):
    """What the lane needs of access."""

    def knows(self, actor: Actor) -> bool: ...
    def require_somewhere(self, op: Op, action: str) -> None: ...
    def note_refusal(self, op: Op, action: str) -> None: ...


class QuickRoute(Struct, frozen=True):
    """One address and method."""

    action: str
    answer: Answer


class QuickLane:
    """Answers quick routes, and passes everything else on to `rest`."""

    def __init__(self, handlers: Iterable[Any], rest: Any, ops: Mint, access: Guard, *, checks: bool = False) -> None:
        self._rest, self._ops, self._access, self._checks = rest, ops, access, checks
        self._routes = {
            (str(method), path): QuickRoute(handler.opt["action"], handler.opt["quick"])
            for handler in handlers
            if "quick" in handler.opt
            for method in handler.http_methods
            for path in handler.paths
            if "{" not in path and method != "OPTIONS"
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            await self._rest(scope, receive, send)
            return
        actor, op_id = scope.get("noria_actor", NOBODY), scope["noria_op_id"]
        headers: dict[str, str] = {}
        try:
            status, content = 200, await self._answer(route, actor, op_id, scope, receive)
        except Exception as error:
            if isinstance(error, Forbidden):
                await anyio.to_thread.run_sync(self._access.note_refusal, self._ops.mint(actor), route.action)
            status, answer, headers = errors.answer(scope["method"], scope["path"], op_id, error)
            content = msgspec.json.encode(answer)
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        head += [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, route: QuickRoute, actor: Actor, op_id: str, scope: Scope, receive: Receive) -> bytes:
        guard = partial(self._access.require_somewhere, self._ops.mint(actor), route.action)
        if self._access.knows(actor):
            guard()  # from memory: not worth a hop
        else:
            await anyio.to_thread.run_sync(guard)
        body = await _body(receive)
        op = self._ops.mint(actor)
        op.id = OpId(op_id)
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True) if scope["query_string"] else []
        content = await anyio.to_thread.run_sync(route.answer, op, Asked(body, query, {}))
        if self._checks:
            assert route.action in op.asked, (
                f"{scope['method']} {scope['path']} declares {route.action} but did not ask for it"
            )
        return content


async def _body(receive: Receive) -> bytes:
    """The whole body. A connection that ends before it does is an error, so that half a request is never acted on."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        return bytes(message.get("body", b""))
    parts = bytearray()
    while message["type"] == "http.request":
        parts += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(parts)
        message = await receive()
    raise Invalid("The body ended early.", hint="Send it again.")
