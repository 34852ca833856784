"""The quick lane: routes of a fixed address whose work is one plain function, answered without the framework.

The routes are declared like every other (noria/http/route.py) and the framework knows them too; those that carry `opt["quick"]`
are answered here, because a framework's request, injection and response cost more than writing a point. What the framework
would do is done here in the same order: the guard before the body is read, one hop to a thread, the table of errors, the note
of a refusal. Anything else than an exact address and method goes on to the framework; so does, of the routes that end in a path
of somebody's files, a body that is large or does not say how large it is, and whatever the function leaves to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec
from msgspec import Struct

from noria.http import errors
from noria.http.route import BODY_BYTES_MAX, Answer, Asked, Bytes
from noria.kernel.errors import Forbidden, Invalid
from noria.kernel.ids import DEFAULT_WORKSPACE, Ref
from noria.kernel.op import NOBODY, Actor, Op

T = TypeVar("T")
PATH = "{path:path}"
THREADS_MAX = 40  # as many as the framework's own pool; requests beyond queue
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Mint(Protocol):
    """Makes operations."""

    def mint(self, actor: Actor, *, op_id: str = "") -> Op: ...


class Guard(Protocol):
    """What the lane needs of access."""

    def knows(self, actor: Actor) -> bool: ...
    def allows(self, actor: Actor, workspace: str, action: str, on: Ref | None) -> bool: ...
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
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="quick")
        self._routes = {
            (str(method), path): QuickRoute(handler.opt["action"], handler.opt["quick"])
            for handler in handlers
            if "quick" in handler.opt
            for method in handler.http_methods
            for path in handler.paths
            if "{" not in path.removesuffix(PATH) and method != "OPTIONS"
        }
        self._folders = tuple({path.removesuffix(PATH) for _, path in self._routes if path.endswith(PATH)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route, parts = self._find(scope)
        if route is None:
            await self._rest(scope, receive, send)
            return
        actor, op_id = scope.get("noria_actor", NOBODY), scope["noria_op_id"]
        headers: dict[str, str] = {}
        try:
            status, content = 200, await self._answer(route, actor, op_id, scope, receive, parts)
            if content is None:
                await self._rest(scope, receive, send)
                return
        except Exception as error:
            if isinstance(error, Forbidden):
                await self._hop(self._access.note_refusal, self._ops.mint(actor), route.action)
            status, answer, headers = errors.answer(scope["method"], scope["path"], op_id, error)
            content = msgspec.json.encode(answer)
        kind = "application/json"
        if isinstance(content, Bytes):
            kind, headers, content = content.kind, content.headers, content.content
        head = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(content))]
        head += [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": content})

    def _find(self, scope: Scope) -> tuple[QuickRoute | None, dict[str, str]]:
        if scope["type"] != "http":
            return None, {}
        found = self._routes.get((scope["method"], scope["path"]))
        if found is not None or not scope["path"].startswith(self._folders):
            return found, {}
        folder = next(f for f in self._folders if scope["path"].startswith(f))
        sent = scope.get("raw_path") or b""  # from the raw path: what was sent, not what a router made of it
        if not sent.startswith(folder.encode()) or not _is_small(scope):
            return None, {}
        try:
            path = unquote_to_bytes(sent[len(folder) :]).decode()
        except UnicodeDecodeError:
            return None, {}
        return self._routes.get((scope["method"], folder + PATH)), {"path": path}

    async def _answer(
        self, route: QuickRoute, actor: Actor, op_id: str, scope: Scope, receive: Receive, parts: dict[str, str]
    ) -> bytes | Bytes | None:
        if not self._access.knows(actor):
            await self._hop(self._guard, actor, route.action)
        elif not self._access.allows(actor, DEFAULT_WORKSPACE, route.action, None):
            self._guard(actor, route.action)  # from memory: not worth a hop
        body = await _body(receive)
        op = self._ops.mint(actor, op_id=op_id)
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True) if scope["query_string"] else []
        content = await self._hop(route.answer, op, Asked(body, query, parts))
        if self._checks and content is not None:
            assert route.action in op.asked, (
                f"{scope['method']} {scope['path']} declares {route.action} but did not ask for it"
            )
        return content

    def _guard(self, actor: Actor, action: str) -> None:
        self._access.require_somewhere(self._ops.mint(actor), action)

    def _hop(self, work: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """`work(*args)` in a thread. Of asyncio and not of anyio, whose hop costs as much as the writing of a point."""
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *args)


def _is_small(scope: Scope) -> bool:
    """Is there no body, or one that says it is small?"""
    if scope["method"] in ("GET", "HEAD"):
        return True
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return declared.isdigit() and int(declared) <= BODY_BYTES_MAX


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
