"""The UI's files, and the pages that work without JavaScript: sign-in, set-up.

There is no build. At start-up the files are hashed together once: `/static/<hash>/…` never changes and is cached for a year. The
import map must be inline, so its hash goes into the Content-Security-Policy; nothing else inline runs. What would be a waterfall is
said in the page at once: a modulepreload link per module that app.js and the page of the address import statically, and a preload
link per answer that the page asks for first; both are read from the routes in app.js. The styles are sent as one file.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import mimetypes
import re
from functools import cached_property, lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import parse_qs, parse_qsl, quote, quote_plus, unquote

import anyio.to_thread
from litestar import Request, Response
from litestar.params import QueryParameter
from msgspec import Struct

from noria.access.http import address_of, session_cookie
from noria.access.model import Credentials, Setup
from noria.access.oidc import safe_path
from noria.access.policy import PUBLIC
from noria.access.service import Access
from noria.http.route import Routes, get, post
from noria.kernel.errors import NoriaError, NotFound
from noria.kernel.op import NOBODY, Op

UI = Path(__file__).parent.parent / "ui"
YEAR_S = 31_536_000
FORM_BYTES_MAX = 16_384
NOT_PAGES = ("api/", "ajax-api/", "static/", "mlflow/", "get-artifact")  # addresses that are never pages of the UI
SHEETS = ("tokens", "base", "layout", "components", "runs", "run", "charts", "reports", "print")
STYLES = "styles/all.css"
_ROUTE = re.compile(r"\{ pattern: '([^']+)',[^\n]*?import\('\./pages/([\w-]+)\.js'\)(?:, first: \[([^\]]*)\])? \}")
_TEXT = re.compile(r"'([^']+)'")
_SHEET = re.compile(r"""@import url\("\.\./([^"]+)"\) layer\((\w+)\);""")
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


class Page(Struct, frozen=True):
    """A route of app.js: its pattern, its module, and the answers that it asks for first."""

    pattern: str
    module: str
    first: tuple[str, ...] = ()


NOWHERE = Page("", "")


class Site:
    """The UI folder, read once."""

    def __init__(self, root: Path = UI) -> None:
        self.files = {
            path.relative_to(root).as_posix(): File(path.read_bytes(), _media_type(path))
            for path in sorted(root.rglob("*"))
            if path.is_file() and not path.name.endswith((".test.js", ".md", ".py"))
        }
        self.files[STYLES] = File(self._styles().encode(), "text/css")
        digest = hashlib.sha256()
        for name, file in self.files.items():
            digest.update(f"{name}\0{len(file.content)}\0".encode() + file.content)
        self.base = f"/static/{digest.hexdigest()[:16]}"
        self._texts: dict[Page, str] = {}  # as many as there are pages

    @cached_property
    def import_map(self) -> str:
        """The bare names of vendored packages, as the text of the inline import map."""
        vendor = json.loads(self.files["vendor/VENDOR.json"].content)
        names = {p["import"]: f"{self.base}/vendor/{p['file']}" for p in vendor["packages"] if p.get("import")}
        return json.dumps({"imports": names}, separators=(",", ":"))

    def index(self, path: str = "/", query: str = "") -> bytes:
        """index.html with its places filled for an address; the same but for its links at every one."""
        before, _, after = self._filled(self._at(path)[0]).partition("<!--first-->")
        links = (f'<link rel="preload" as="fetch" crossorigin href="{html.escape(a)}">' for a in self.first(path, query))
        return (before + "\n    ".join(links) + after).encode()

    @cached_property
    def shared(self) -> bytes:
        """The page of a report that is shared by a link: a program of its own, for whoever has the link."""
        text = self._text_of("shared.js", ["shared.js"])
        return text.replace("<!--first-->", '<meta name="robots" content="noindex, nofollow">').encode()

    def first(self, path: str, query: str) -> list[str]:
        """The answers of the API that the page at an address asks for first, as it asks for them."""
        page, parts = self._at(path)
        return ["/api/v1/me", *(_asked(template, parts, query) for template in page.first)]

    @cached_property
    def pages(self) -> list[Page]:
        """The routes of app.js, in their order."""
        found = _ROUTE.findall(self.files["app.js"].content.decode())
        return [Page(pattern, f"pages/{name}.js", tuple(_TEXT.findall(first))) for pattern, name, first in found]

    def _at(self, path: str) -> tuple[Page, dict[str, str]]:
        """The page at a path, and the named parts of the path."""
        for page in self.pages:
            parts = _match(page.pattern, path)
            if parts is not None:
                return page, parts
        return NOWHERE, {}

    def _filled(self, page: Page) -> str:
        if page not in self._texts:
            self._texts[page] = self._text_of("app.js", ["app.js", page.module])
        return self._texts[page]

    def _text_of(self, program: str, modules: list[str]) -> str:
        """index.html for a program, with its modules; only what is asked `first` is left open."""
        names = dict.fromkeys(name for module in modules for name in self.modules(module))
        links = "\n    ".join(f'<link rel="modulepreload" href="{self.base}/{name}">' for name in names)
        text = self.files["index.html"].content.decode().replace("{{static}}/app.js", f"{{{{static}}}}/{program}")
        text = text.replace("<!--importmap-->", f'<script type="importmap">{self.import_map}</script>')
        return text.replace("<!--preload-->", links).replace("{{static}}", self.base)

    def _styles(self) -> str:
        """The styles of the program in their order, each where it belongs, as one text."""
        texts = []
        for name in SHEETS:
            text = self.files[f"styles/{name}.css"].content.decode()
            texts.append(_SHEET.sub(lambda m: f"@layer {m[2]} {{ {self.files[m[1]].content.decode()} }}", text))
        return "\n".join(texts)

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


@lru_cache(maxsize=1)
def the_site() -> Site:
    """The UI of this installation."""
    return Site()


def sign_in_page(site: Site, access: Access, next_path: str, error: NoriaError | None = None) -> Response[bytes]:
    """The sign-in form, with what went wrong."""
    fields, more = _fields(next_path=next_path), _provider(access, next_path)
    return _form(site, "Sign in", "/login", fields, "Sign in", error=error, more=more)


def routes(access: Access, site: Site | None = None) -> Routes:
    site = site or the_site()

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
        index = site.index(request.url.path, request.scope["query_string"].decode("latin-1"))
        return Response(index, media_type="text/html; charset=utf-8", headers=headers)

    @get("/shared", action=PUBLIC, include_in_schema=False)
    async def shared_page() -> Response[bytes]:
        """The page of a report that is shared; it holds nothing of it, and no search engine lists it."""
        headers = {
            "content-security-policy": site.policy, "cache-control": "no-store", "x-robots-tag": "noindex, nofollow, noarchive",
        }  # fmt: skip
        return Response(site.shared, media_type="text/html; charset=utf-8", headers=headers)

    @get("/login", action=PUBLIC, include_in_schema=False)
    async def login_page(where: Annotated[str, QueryParameter(name="next")] = "/") -> Response[bytes]:
        """The sign-in form."""
        return sign_in_page(site, access, where)

    @post("/login", action=PUBLIC, include_in_schema=False)
    async def login(op: Op, request: Request[Any, Any, Any]) -> Response[bytes]:
        """Sign in with the form."""
        fields = await read_form(request)
        credentials = Credentials(name=fields.get("name", ""), password=fields.get("password", ""))
        try:
            sign_in = partial(access.sign_in, address=address_of(request), agent=request.headers.get("user-agent", ""))
            secret = await anyio.to_thread.run_sync(sign_in, op, credentials)
        except NoriaError as error:
            return sign_in_page(site, access, fields.get("next", "/"), error)
        location = safe_path(fields.get("next", "/"))
        return Response(b"", status_code=303, headers={"location": location}, cookies=[session_cookie(request, secret)])

    @get("/setup", action=PUBLIC, include_in_schema=False)
    async def setup_page(code: str = "") -> Response[bytes]:
        """The form behind the one-time link."""
        return _form(site, "Make the first administrator", "/setup", _fields(code), "Make account")

    @post("/setup", action=PUBLIC, include_in_schema=False)
    async def set_up_by_form(op: Op, request: Request[Any, Any, Any]) -> Response[bytes]:
        """Make the first administrator with the form."""
        fields = await read_form(request)
        setup = Setup(code=fields.get("code", ""), name=fields.get("name", ""), password=fields.get("password", ""))
        try:
            await anyio.to_thread.run_sync(access.set_up, op, setup)
        except NoriaError as error:
            return _form(site, "Make the first administrator", "/setup", _fields(setup.code), "Make account", error=error)
        return Response(b"", status_code=303, headers={"location": "/login"})

    return [read_static, read_page, shared_page, login_page, login, setup_page, set_up_by_form]


def _provider(access: Access, next_path: str) -> str:
    """The way to the identity provider, when there is one."""
    if access.oidc is None:
        return ""
    address = f"/login/oidc?next={quote(safe_path(next_path), safe='')}"
    return f'<p><a class="button" href="{html.escape(address)}">Sign in with {html.escape(access.oidc.name)}</a></p>'


def _fields(code: str = "", next_path: str = "/") -> str:
    hidden = f'<input type="hidden" name="code" value="{html.escape(code)}">' if code else ""
    if next_path != "/":
        hidden += f'<input type="hidden" name="next" value="{html.escape(safe_path(next_path))}">'
    return (
        hidden + '<label for="name">Name</label><input id="name" name="name" required autocomplete="username" autofocus>'
        '<label for="password">Password</label>'
        '<input id="password" name="password" type="password" required autocomplete="current-password">'
    )


def _form(
    site: Site, title: str, action: str, fields: str, button: str, *, error: NoriaError | None = None, more: str = ""
) -> Response[bytes]:
    said = f'<p role="alert">{html.escape(error.message)} {html.escape(error.hint)}</p>' if error else ""
    submit = f'<button type="submit" class="button primary">{button}</button>' if button else ""
    content = f'{said}<form method="post" action="{action}">{fields}{submit}</form>{more}'
    return _plain(site, title, content, error.status if error else 200)


def device_form(site: Site, user_code: str, error: NoriaError | None = None) -> Response[bytes]:
    """Where somebody approves a program that shows a code."""
    fields = (
        "<p>A program wants to sign in as you. Approve it only if you started it and it shows this code.</p>"
        f'<label for="user_code">Code</label><input id="user_code" name="user_code" required value="{html.escape(user_code)}">'
        '<button type="submit" class="button primary" name="decision" value="approve">Approve</button>'
        '<button type="submit" class="button" name="decision" value="refuse">Refuse</button>'
    )
    return _form(site, "Approve a program", "/device", fields, "", error=error)


def said_page(site: Site, title: str, text: str) -> Response[bytes]:
    """A page that says one thing."""
    return _plain(site, title, f"<p>{html.escape(text)}</p>", 200)


def _plain(site: Site, title: str, content: str, status: int) -> Response[bytes]:
    """A page that needs no JavaScript."""
    styles = "".join(
        f'<link rel="stylesheet" href="{site.base}/styles/{name}.css">' for name in ("tokens", "base", "components", "plain")
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title} · Noria</title>{styles}</head>"
        f'<body><div class="plain"><main><div class="brand"><img src="{site.base}/mark.svg" alt="">Noria</div>'
        f"<h1>{title}</h1>{content}</main></div></body></html>"
    )
    policy = (
        "default-src 'none'; style-src 'self'; font-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    headers = {"content-security-policy": policy, "cache-control": "no-store"}
    return Response(page.encode(), status_code=status, media_type="text/html; charset=utf-8", headers=headers)


async def read_form(request: Request[Any, Any, Any]) -> dict[str, str]:
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


def _match(pattern: str, path: str) -> dict[str, str] | None:
    """The named parts of a path under a pattern of app.js, as lib/router.js finds them; None when it is another's."""
    want, have = ([part for part in text.split("/") if part] for text in (pattern, path))
    if len(want) != len(have):
        return None
    pairs = list(zip(want, have, strict=True))
    if any(not w.startswith(":") and w != h for w, h in pairs):
        return None
    return {w[1:]: unquote(h) for w, h in pairs if w.startswith(":")}


def _asked(template: str, parts: dict[str, str], query: str) -> str:
    """The address that a template of app.js stands for, written as the program writes it: a preload is used only if they are the same."""
    path, _, wanted = template.partition("?")
    path = re.sub(r":(\w+)", lambda m: quote(parts[m[1]], safe="!~*'()"), path)
    given = dict(reversed(parse_qsl(query)))
    found = {key: value or given.get(key, "") for key, value in parse_qsl(wanted, keep_blank_values=True)}
    text = "&".join(f"{key}={quote_plus(value, safe='*').replace('~', '%7E')}" for key, value in found.items() if value)
    return f"/api/v1{path}?{text}" if text else f"/api/v1{path}"
