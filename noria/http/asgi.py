"""The control plane as one ASGI application: the routes of every slice behind the door.

Start-up refuses a route that declares no action, or one that is not in access/policy.py. While the checks are on (in tests), a
route that answers without having asked for its action is a bug.
"""

from __future__ import annotations

import re
import warnings
from contextlib import asynccontextmanager
from typing import Any, Protocol

import anyio.to_thread
from litestar import Litestar, Request, Router
from litestar.config.app import AppConfig
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.exceptions import LitestarDeprecationWarning
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.types import ControllerRouterHandler

from noria import __version__
from noria.access.policy import ACTIONS, PUBLIC, STEP_UP
from noria.access.service import Access
from noria.config import Config
from noria.http import errors
from noria.http.compress import Compress
from noria.http.door import ASGI, Door
from noria.http.quick import QuickLane
from noria.kernel.errors import Forbidden
from noria.kernel.op import NOBODY, Op, Ops


class Served(Protocol):
    """What the door needs of the wired application."""

    @property
    def config(self) -> Config: ...
    @property
    def access(self) -> Access: ...
    @property
    def ops(self) -> Ops: ...
    def routes(self) -> list[HTTPRouteHandler]: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


# Litestar 2 announces the style of its third version at every handler; the dependency is held below 3.
warnings.simplefilter("ignore", LitestarDeprecationWarning)


def asgi(app: Served, *, checks: bool = False) -> ASGI:
    """Build the application. `checks` also verifies after each answer that the route asked for its declared action."""

    def provide_op(request: Request[Any, Any, Any]) -> Op:
        scope = _open(request.scope)
        op = scope["noria_op"] = app.ops.mint(scope.get("noria_actor", NOBODY))
        op.id = scope.get("noria_op_id", op.id)
        return op

    async def check_asked(request: Request[Any, Any, Any]) -> None:
        op, action = _open(request.scope).get("noria_op"), _action_of(request.route_handler)
        assert action == PUBLIC or op is None or action in op.asked, (
            f"{request.method} {request.url.path} declares {action} but did not ask for it"
        )

    async def note_refusal(error: Exception, scope: Any) -> None:
        if isinstance(error, Forbidden):
            op, action = app.ops.mint(scope.get("noria_actor", NOBODY)), _action_of(scope["route_handler"])
            await anyio.to_thread.run_sync(app.access.note_refusal, op, action)

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        """Refuse nobody, and whoever may do this nowhere, before the body is read. The service asks again, for the thing itself."""
        action = _action_of(handler)
        if action != PUBLIC:
            op = app.ops.mint(_open(connection.scope).get("noria_actor", NOBODY))
            await anyio.to_thread.run_sync(app.access.require_somewhere, op, action)
            app.access.sessions.require_recent(op, action)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> Any:
        app.start()
        try:
            yield
        finally:
            app.stop()

    handlers: list[ControllerRouterHandler] = list(app.routes())
    check_routes(handlers)
    litestar = Litestar(
        route_handlers=handlers,
        dependencies={"op": Provide(provide_op, sync_to_thread=False)},
        exception_handlers={Exception: errors.render},
        after_exception=[note_refusal],
        guards=[guard],
        after_response=check_asked if checks else None,
        lifespan=[lifespan],
        openapi_config=None,
        on_app_init=[_openapi],
        request_max_body_size=None,  # the door counts, by kind of route
        logging_config=None,
    )
    lane = QuickLane(handlers, Compress(litestar), app.ops, app.access, checks=checks)  # type: ignore[arg-type]
    return Door(lane, app.config, app.access)


def _open(scope: Any) -> dict[str, Any]:
    """The ASGI scope with what the door put into it."""
    found: dict[str, Any] = scope
    return found


def check_routes(handlers: list[Any]) -> None:
    """Refuse to start with a route that has no action: an open door is a bug, not a default."""
    for handler in handlers:
        assert isinstance(handler, HTTPRouteHandler), f"{handler} is not a route declared through noria.http.route"
        action = _action_of(handler)
        assert action in ACTIONS or action == PUBLIC, f"{sorted(handler.paths)} declares no known action ({action!r})"
        assert "quick" not in handler.opt or action not in STEP_UP, f"{action} wants a recent sign-in: not in the quick lane"


def _action_of(handler: Any) -> str:
    return str(handler.opt.get("action", ""))


def _openapi(config: AppConfig) -> AppConfig:
    config.openapi_config = OpenAPIConfig(
        title="Noria", version=__version__, path="/api", render_plugins=[JsonRenderPlugin()], use_handler_docstrings=True,
        openapi_router=Router("/api", route_handlers=[], opt={"action": PUBLIC}),
    )  # fmt: skip
    return config


def route_table(handlers: list[Any]) -> list[tuple[str, str, str]]:
    """Every (method, path, action) there is, sorted; the tests walk it."""
    return sorted(
        (method, re.sub(r":(str|int|path)\}", "}", path), _action_of(handler))
        for handler in handlers
        for path in handler.paths
        for method in handler.http_methods
        if method != "OPTIONS"
    )
