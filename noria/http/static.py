"""The UI's files, and the pages that work without JavaScript: sign-in, set-up.

There is no build. At start-up the files are hashed together once: `/static/<hash>/…` never changes and is cached for a year. The
import map must be inline, so its hash goes into the Content-Security-Policy; nothing else inline runs. A modulepreload link per
module that app.js imports statically spares the browser the waterfall.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import mimetypes
import re
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs

import anyio.to_thread
from litestar import Request, Response
from litestar.datastructures import Cookie
from msgspec import Struct

from noria.access.http import SESSION_COOKIE
from noria.access.model import Credentials, Setup
from noria.access.policy import PUBLIC
from noria.access.service import Access
from noria.http.route import Routes, get, post
from noria.kernel.errors import NoriaError, NotFound
from noria.kernel.op import NOBODY, Op

UI = Path(__file__).parent.parent / "ui"
YEAR_S = 31_536_000
FORM_BYTES_MAX = 16_384
NOT_PAGES = ("api/", "ajax-api/", "static/", "mlflow/", "get-artifact")  # addresses that are never pages of the UI
_IMPORT = re.compile(r"""^\s*(?:import|export)\b[^'"]*?['"]([^'"]+)['"]""", re.MULTILINE)
_TYPES = {
    ".mjs": "text/javascript",
    ".js": "text/javascript",
    ".woff2": "font/woff2",
    ".svg": "image/svg+xml",
    ".css": "text/css",
}


class File(Struct, frozen=True):
    """One file as it is sent."""

    content: bytes
    media_type: str


class Site:
    """The UI folder, read once."""

    def __init__(self, root: Path = UI) -> None:
        self.files = {
            path.relative_to(root).as_posix(): File(path.read_bytes(), _media_type(path))
            for path in sorted(root.rglob("*"))
            if path.is_file() and not path.name.endswith((".test.js", ".md", ".py"))
        }
        digest = hashlib.sha256()
        for name, file in self.files.items():
            digest.update(f"{name}\0{len(file.content)}\0".encode() + file.content)
        self.base = f"/static/{digest.hexdigest()[:16]}"

    @cached_property
    def import_map(self) -> str:
        """The bare names of vendored packages, as the text of the inline import map."""
        vendor = json.loads(self.files["vendor/VENDOR.json"].content)
        names = {p["import"]: f"{self.base}/vendor/{p['file']}" for p in vendor["packages"] if p.get("import")}
        return json.dumps({"imports": names}, separators=(",", ":"))

    @cached_property
    def index(self) -> bytes:
        """index.html with its places filled."""
        page = self.files["index.html"].content.decode()
        links = "\n    ".join(f'<link rel="modulepreload" href="{self.base}/{name}">' for name in self.modules("app.js"))
        page = page.replace("<!--importmap-->", f'<script type="importmap">{self.import_map}</script>')
        return page.replace("<!--preload-->", links).replace("{{static}}", self.base).encode()

    @cached_property
    def policy(self) -> str:
        """The Content-Security-Policy of the UI."""
        digest = base64.b64encode(hashlib.sha256(self.import_map.encode()).digest()).decode()
        return (
            f"default-src 'none'; script-src 'self' 'sha256-{digest}'; style-src 'self'; font-src 'self'; img-src 'self' data: "
            "blob:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        )

    def modules(self, start: str) -> list[str]:
        """The modules that `start` imports statically, itself first."""
        vendor = {
            p["import"]: f"vendor/{p['file']}"
            for p in json.loads(self.files["vendor/VENDOR.json"].content)["packages"]
            if p.get("import")
        }
        found: dict[str, None] = {}
        waiting = [start]
        while waiting:
            name = waiting.pop(0)
            if name in found or name not in self.files:
                continue
            found[name] = None
            for target in _IMPORT.findall(self.files[name].content.decode()):
                if target.startswith("."):
                    waiting.append(_join(name, target))
                elif target in vendor:
                    waiting.append(vendor[target])
        return list(found)


def routes(access: Access, site: Site | None = None) -> Routes:
    site = site or Site()

    @get("/static/{digest:str}/{path:path}", action=PUBLIC, include_in_schema=False)
    async def read_static(digest: str, path: str) -> Response[bytes]:
        """A file of the UI; the address changes when the content does."""
        file = site.files.get(path.lstrip("/"))
        if file is None or f"/static/{digest}" != site.base:
            raise NotFound("There is no such file.", hint="Reload the page; a newer version is running.")
        headers = {"cache-control": f"public, max-age={YEAR_S}, immutable"}
        return Response(file.content, media_type=file.media_type, headers=headers)

    @get(["/", "/{path:path}"], action=PUBLIC, include_in_schema=False)
    async def read_page(request: Request[Any, Any, Any], path: str = "") -> Response[bytes]:
        """Any page of the UI: the program in it reads the address."""
        if path.lstrip("/").startswith(NOT_PAGES):
            raise NotFound("There is nothing at this address.", hint="The API is described at /api/openapi.json.")
        if request.scope.get("noria_actor", NOBODY) == NOBODY:
            return Response(b"", status_code=303, headers={"location": "/login"})
        headers = {"content-security-policy": site.policy, "cache-control": "no-cache"}
        return Response(site.index, media_type="text/html; charset=utf-8", headers=headers)

    @get("/login", action=PUBLIC, include_in_schema=False)
    async def login_page() -> Response[bytes]:
        """The sign-in form."""
        return _form(site, "Sign in", "/login", _fields(), "Sign in")

    @post("/login", action=PUBLIC, include_in_schema=False)
    async def login(op: Op, request: Request[Any, Any, Any]) -> Response[bytes]:
        """Sign in with the form."""
        fields = await _read_form(request)
        credentials = Credentials(name=fields.get("name", ""), password=fields.get("password", ""))
        try:
            secret = await anyio.to_thread.run_sync(access.sign_in, op, credentials)
        except NoriaError as error:
            return _form(site, "Sign in", "/login", _fields(), "Sign in", error=error)
        is_tls = request.url.scheme == "https"
        cookie = Cookie(SESSION_COOKIE, value=secret, httponly=True, samesite="lax", secure=is_tls, path="/")
        return Response(b"", status_code=303, headers={"location": "/"}, cookies=[cookie])

    @get("/setup", action=PUBLIC, include_in_schema=False)
    async def setup_page(code: str = "") -> Response[bytes]:
        """The form behind the one-time link."""
        return _form(site, "Make the first administrator", "/setup", _fields(code), "Make account")

    @post("/setup", action=PUBLIC, include_in_schema=False)
    async def set_up_by_form(op: Op, request: Request[Any, Any, Any]) -> Response[bytes]:
        """Make the first administrator with the form."""
        fields = await _read_form(request)
        setup = Setup(code=fields.get("code", ""), name=fields.get("name", ""), password=fields.get("password", ""))
        try:
            await anyio.to_thread.run_sync(access.set_up, op, setup)
        except NoriaError as error:
            return _form(site, "Make the first administrator", "/setup", _fields(setup.code), "Make account", error=error)
        return Response(b"", status_code=303, headers={"location": "/login"})

    return [read_static, read_page, login_page, login, setup_page, set_up_by_form]


def _fields(code: str = "") -> str:
    hidden = f'<input type="hidden" name="code" value="{html.escape(code)}">' if code else ""
    return (
        hidden + '<label for="name">Name</label><input id="name" name="name" required autocomplete="username" autofocus>'
        '<label for="password">Password</label>'
        '<input id="password" name="password" type="password" required autocomplete="current-password">'
    )


def _form(
    site: Site, title: str, action: str, fields: str, button: str, *, error: NoriaError | None = None
) -> Response[bytes]:
    said = f'<p role="alert">{html.escape(error.message)} {html.escape(error.hint)}</p>' if error else ""
    styles = "".join(
        f'<link rel="stylesheet" href="{site.base}/styles/{name}.css">' for name in ("tokens", "base", "components", "plain")
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title} · Noria</title>{styles}</head>"
        f'<body><div class="plain"><main><div class="brand"><img src="{site.base}/mark.svg" alt="">Noria</div>'
        f'<h1>{title}</h1>{said}<form method="post" action="{action}">{fields}'
        f'<button type="submit" class="button primary">{button}</button></form></main></div></body></html>'
    )
    policy = (
        "default-src 'none'; style-src 'self'; font-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    headers = {"content-security-policy": policy, "cache-control": "no-store"}
    status = error.status if error else 200
    return Response(page.encode(), status_code=status, media_type="text/html; charset=utf-8", headers=headers)


async def _read_form(request: Request[Any, Any, Any]) -> dict[str, str]:
    body = (await request.body())[:FORM_BYTES_MAX]
    return {k: v[0] for k, v in parse_qs(body.decode("utf-8", "replace")).items()}


def _media_type(path: Path) -> str:
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def _join(module: str, target: str) -> str:
    parts: list[str] = []
    for part in (PurePosixPath(module).parent / target).parts:
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)
