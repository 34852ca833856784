"""The manual at /docs, as a site that works without the internet.

It is built from docs/ by `make docs` and by the building of the wheel, and read once it is there. Its pages have a few
scripts of their own inline; their hashes go into the Content-Security-Policy, so nothing else runs. Its search makes its styles while
it runs, so inline styles are allowed here, where nothing that users wrote is shown.
"""

from __future__ import annotations

import base64
import hashlib
import html
import mimetypes
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import anyio.to_thread
import msgspec
from litestar import Request, Response
from msgspec import Struct

from noria.access.policy import PUBLIC
from noria.http.route import Routes, get
from noria.kernel.errors import NotFound

SITE = Path(__file__).parent.parent / "site"
_MARK = re.compile(r"<[^>]*>")
_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


class Heading(Struct, frozen=True):
    """A page of the manual, or a part of one: its title, where it is below /docs/, and the titles it stands under."""

    title: str
    location: str
    path: list[str] = []


class _Index(Struct, frozen=True):
    items: list[Heading]


class Manual:
    """The built pages, by their path below /docs/."""

    def __init__(self, root: Path = SITE) -> None:
        self._root = root

        self._files: dict[str, bytes] = {}
        self._headings: list[Heading] = []

    @property
    def files(self) -> dict[str, bytes]:
        """Read once it is there: a manual that is built while the server runs is shown too."""
        if not self._files:
            found = [p for p in sorted(self._root.rglob("*")) if p.is_file()]
            self._files = {p.relative_to(self._root).as_posix(): p.read_bytes() for p in found}
        return self._files

    @cached_property
    def policy(self) -> str:
        """The Content-Security-Policy of the pages."""
        pages = [content for name, content in self.files.items() if name.endswith(".html")]
        inline = sorted({text for page in pages for text in _SCRIPT.findall(page)})
        scripts = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in inline)
        return (
            f"default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; font-src 'self'; "
            "img-src 'self' data:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )

    @property
    def headings(self) -> list[Heading]:
        """Every page and part of a page; none while the manual is not built."""
        if not self._headings and "search.json" in self.files:
            found = msgspec.json.decode(self.files["search.json"], type=_Index).items
            self._headings = [Heading(_plain(h.title), h.location, [_plain(p) for p in h.path]) for h in found]
        return self._headings

    def find(self, path: str) -> tuple[str, bytes]:
        """The name and content at a path; a folder is its index. Raises NotFound."""
        if not self.files:
            raise NotFound(
                "The manual was not built.", hint="In a checkout: make docs. Its pages are also readable in docs/."
            )
        for name in (path, f"{path.rstrip('/')}/index.html".lstrip("/")):
            if name in self.files:
                return name, self.files[name]
        raise NotFound(f"The manual has no page {path[:200]!r}.", hint="Begin at /docs/.")


def _plain(title: str) -> str:
    """A title without its marks (`<code>`)."""
    return html.unescape(_MARK.sub("", title))


def routes(manual: Manual | None = None) -> Routes:
    manual = manual or Manual()

    @get(["/docs", "/docs/{path:path}"], action=PUBLIC, include_in_schema=False)
    async def read_manual(request: Request[Any, Any, Any], path: str = "") -> Response[bytes]:
        """A page of the manual, or a file of its site."""
        # As it was sent: the router drops the trailing slash, which the links of a page are relative to.
        sent = (request.scope.get("raw_path") or request.scope["path"].encode()).decode("ascii", "replace").partition("?")[0]
        name, content = await anyio.to_thread.run_sync(manual.find, path.strip("/"))
        if name.endswith("index.html") and not sent.endswith(("/", "index.html")):
            return Response(b"", status_code=308, headers={"location": f"{sent}/"})
        policy = await anyio.to_thread.run_sync(lambda: manual.policy)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        headers = {"content-security-policy": policy, "cache-control": "no-cache"}
        return Response(content, media_type=f"{kind}; charset=utf-8" if kind.startswith("text/") else kind, headers=headers)

    return [read_manual]
