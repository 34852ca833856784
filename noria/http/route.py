"""How a slice declares a route: Litestar's handlers, plus the action the route asks for. A leaf: imports the kernel only.

A route may carry `opt={"quick": Answer}` too: then noria/http/quick.py answers it when its address has no parts, or ends in a
path (`{path:path}`) that is its only one.

Handlers are plain functions and run in the thread pool; `op` is injected; a body is a parameter named `data`, a struct.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import anyio.to_thread
from litestar import delete as _delete
from litestar import get as _get
from litestar import patch as _patch
from litestar import post as _post
from litestar import put as _put
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from noria.kernel.op import Op

Routes = Sequence[HTTPRouteHandler]
Declare = Callable[[Callable[..., Any]], HTTPRouteHandler]


BODY_BYTES_MAX = 1 << 20  # of a file that a quick route takes or gives; it is held in memory


class Asked(Struct, frozen=True):
    """A request as a quick route sees it."""

    body: bytes
    query: list[tuple[str, str]]  # as sent, repeated names and all
    parts: dict[str, str]  # of the path; in this lane at most `path`, as it was sent and decoded once


class Bytes(Struct, frozen=True):
    """An answer that is not JSON."""

    content: bytes
    kind: str
    headers: dict[str, str] = {}


Answer = Callable[[Op, Asked], bytes | Bytes | None]  # runs in a thread; None leaves it to the framework


def get(path: str | list[str], *, action: str, **options: Any) -> Declare:
    """A GET route that asks for `action`."""
    return _declare(_get, path, action, options)


def post(path: str | list[str], *, action: str, status_code: int = 200, **options: Any) -> Declare:
    """A POST route that asks for `action`; answers 200 unless told otherwise."""
    return _declare(_post, path, action, {"status_code": status_code, **options})


def put(path: str | list[str], *, action: str, **options: Any) -> Declare:
    """A PUT route that asks for `action`."""
    return _declare(_put, path, action, options)


def patch(path: str | list[str], *, action: str, **options: Any) -> Declare:
    """A PATCH route that asks for `action`."""
    return _declare(_patch, path, action, options)


def delete(path: str | list[str], *, action: str, status_code: int = 204, **options: Any) -> Declare:
    """A DELETE route that asks for `action`."""
    return _declare(_delete, path, action, {"status_code": status_code, **options})


def _declare(verb: Any, path: str | list[str], action: str, options: dict[str, Any]) -> Declare:
    def declare(handler: Callable[..., Any]) -> HTTPRouteHandler:
        opt = {**options.pop("opt", {}), "action": action}
        options.setdefault("operation_id", handler.__name__)
        if not inspect.iscoroutinefunction(handler):
            handler = handler if options.get("sync_to_thread") is False else _in_thread(handler)
        declared: HTTPRouteHandler = verb(path, opt=opt, **options)(handler)
        return declared

    return declare


def _in_thread(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The handler behind a hop to the thread pool.

    Litestar 2 has an option for it, but adds one hop each time it registers the handler: once per path, and again when
    another method is added to a path. Behind two hops the first one's coroutine was taken for the answer.
    """

    @functools.wraps(handler)
    async def hop(**params: Any) -> Any:
        return await anyio.to_thread.run_sync(functools.partial(handler, **params))

    return hop
