"""Sign-in by an identity provider – off to it, and back –, programs that a browser approves, and OAuth's token endpoint."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any
from urllib.parse import quote

import anyio.to_thread
from litestar import Request, Response
from litestar.datastructures import Cookie
from litestar.params import QueryParameter

from noria.access.http import session_cookie
from noria.access.model import Granted
from noria.access.oauth import DEVICE_GRANT, EXCHANGE_GRANT, OAuthError
from noria.access.oidc import PENDING_MS, Oidc, not_set, safe_path
from noria.access.policy import PUBLIC
from noria.access.service import Access
from noria.http.route import Routes, get, post
from noria.http.static import device_form, read_form, said_page, sign_in_page, the_site
from noria.kernel.errors import NoriaError, NotFound
from noria.kernel.op import Op

BROWSER_COOKIE = "noria-sign-in"
NOT_KEPT = {"cache-control": "no-store"}


def routes(access: Access) -> Routes:
    def oidc() -> Oidc:
        if access.oidc is None:
            raise not_set()
        return access.oidc

    @get("/login/oidc", action=PUBLIC, include_in_schema=False)
    def leave_for_provider(
        op: Op,
        request: Request[Any, Any, Any],
        where: Annotated[str, QueryParameter(name="next")] = "/",
        again: bool = False,
    ) -> Response[bytes]:
        """Off to the identity provider."""
        try:
            address, browser = oidc().begin(op, safe_path(where), again=again)
        except NoriaError as error:
            return sign_in_page(the_site(), access, where, error)
        is_tls = request.url.scheme == "https"
        cookie = Cookie(
            BROWSER_COOKIE,
            value=browser,
            httponly=True,
            samesite="lax",
            secure=is_tls,
            path="/login",
            max_age=PENDING_MS // 1000,
        )
        return Response(b"", status_code=303, headers={"location": address, "cache-control": "no-store"}, cookies=[cookie])

    @get("/login/oidc/callback", action=PUBLIC, include_in_schema=False)
    def come_back(op: Op, request: Request[Any, Any, Any]) -> Response[bytes]:
        """Back from the identity provider with a code."""
        query = {str(k): str(v) for k, v in request.query_params.items()}
        browser, agent = request.cookies.get(BROWSER_COOKIE, ""), request.headers.get("user-agent", "")
        try:
            secret, location = oidc().finish(op, query, browser, agent)
        except NoriaError as error:
            access.note_refusal(op, "sign_in", "somebody at the identity provider")
            return sign_in_page(the_site(), access, "/", error)
        gone = Cookie(BROWSER_COOKIE, value="", max_age=0, path="/login")
        headers = {"location": location, "cache-control": "no-store"}
        return Response(b"", status_code=303, headers=headers, cookies=[session_cookie(request, secret), gone])

    @post("/oauth/device", action=PUBLIC, include_in_schema=False)
    async def start_device(op: Op, request: Request[Any, Any, Any]) -> Response[Any]:
        """RFC 8628: codes for a program that wants to sign in."""
        form = await read_form(request)
        started = await anyio.to_thread.run_sync(access.oauth.start, op, form.get("client_name", form.get("client_id", "")))
        return Response(started, headers=NOT_KEPT)

    @get("/device", action=PUBLIC, include_in_schema=False)
    def device_page(op: Op, user_code: str = "") -> Response[bytes]:
        """Where somebody approves a program."""
        if op.actor.kind == "nobody":
            where = quote("/device" + (f"?user_code={quote(user_code[:20], safe='')}" if user_code else ""), safe="")
            return Response(b"", status_code=303, headers={"location": f"/login?next={where}"})
        return device_form(the_site(), user_code[:20])

    @post("/device", action="token.own", include_in_schema=False)
    async def decide_device(op: Op, request: Request[Any, Any, Any]) -> Response[bytes]:
        """Approve a program, or refuse it."""
        form = await read_form(request)
        is_granted = form.get("decision") == "approve"
        try:
            decide = partial(access.oauth.decide, grant=is_granted)
            found = await anyio.to_thread.run_sync(decide, op, form.get("user_code", ""))
        except NotFound as error:
            return device_form(the_site(), form.get("user_code", "")[:20], error)
        said = f"{found.client} is signed in as {op.actor.name}." if is_granted else f"{found.client} was refused."
        return said_page(the_site(), "Approve a program", f"{said} You may close this page.")

    @post("/oauth/token", action=PUBLIC, include_in_schema=False)
    async def token(op: Op, request: Request[Any, Any, Any]) -> Response[Any]:
        """RFC 8628 and RFC 8693: a token for an approved program, or for a token of an issuer that is trusted."""
        form = await read_form(request)
        try:
            granted = await anyio.to_thread.run_sync(_granted, op, form)
        except OAuthError as error:
            said = {"error": error.error, "error_description": error.description}
            return Response(said, status_code=400, headers=NOT_KEPT)
        return Response(granted, headers=NOT_KEPT)

    def _granted(op: Op, form: dict[str, str]) -> Granted:
        grant = form.get("grant_type", "")
        if grant == DEVICE_GRANT:
            return access.oauth.poll(op, form.get("device_code", ""))
        if grant == EXCHANGE_GRANT:
            try:
                return access.oauth.exchange(op, form)
            except OAuthError:
                access.note_refusal(op, "sign_in", "a token to exchange")
                raise
        raise OAuthError("unsupported_grant_type", f"grant_type is {DEVICE_GRANT} or {EXCHANGE_GRANT}.")

    return [leave_for_provider, come_back, start_device, device_page, decide_device, token]
