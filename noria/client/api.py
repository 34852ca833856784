"""The one HTTP client of the SDK and the CLI: JSON in and out, errors as the eight errors.

`connect()` finds a server: NORIA_URL, else that of the project's noria.toml, else the server running on the local home, else
the same application in this process.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.client import credentials, project
from noria.kernel.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Invalid,
    NoriaError,
    NotFound,
    StorageFull,
    TooLarge,
    TooMuch,
    Unauthenticated,
    Unavailable,
)

if TYPE_CHECKING:
    import httpx  # takes a quarter of a second to load: where it is used, so that `noria.init()` need not wait for it

TIMEOUT_S = 60.0
TRIES_SOON = 5  # when the server says: in a second
_BY_CODE: dict[str, type[NoriaError]] = {
    e.code: e
    for e in (
        Invalid, Unauthenticated, Forbidden, NotFound, AlreadyExists, Conflict, TooMuch, TooLarge, Unavailable, StorageFull,
    )
}  # fmt: skip
_BY_STATUS: dict[int, type[NoriaError]] = {
    400: Invalid, 401: Unauthenticated, 403: Forbidden, 404: NotFound, 409: Conflict, 413: TooLarge, 429: TooMuch,
}  # fmt: skip


class Api:
    """A connection to one Noria. Close it, or use it as a context manager.

    `patience_s`: how long a server that does not answer is asked again; for callers whose requests may be repeated.
    """

    def __init__(self, http: httpx.Client, *, url: str, patience_s: float = 0.0) -> None:
        self._http = http
        self._patience_s = patience_s
        self.url = url.rstrip("/")

    @property
    def token(self) -> str:
        """What this connection signs in with; '' for nothing."""
        return str(self._http.headers.get("authorization", "")).removeprefix("Bearer ")

    def be_patient(self, patience_s: float) -> None:
        """From now on, ask a server that does not answer again for so long; once it is known that there is one."""
        self._patience_s = patience_s

    @property
    def http(self) -> httpx.Client:
        """The client itself, for who speaks MLflow's protocol over it."""
        return self._http

    def get(self, path: str, /, **params: Any) -> Any:
        """GET `/api/v1` + path; None parameters are left out."""
        return self._json("GET", path, params={k: v for k, v in params.items() if v is not None})

    def post(self, path: str, body: Any = None, *, timeout_s: float | None = None) -> Any:
        return self._json(
            "POST", path, content=_encode({} if body is None else body), headers=_JSON, timeout=timeout_s or TIMEOUT_S
        )

    def put(self, path: str, body: Any) -> Any:
        return self._json("PUT", path, content=_encode(body), headers=_JSON)

    def patch(self, path: str, body: Any) -> Any:
        return self._json("PATCH", path, content=_encode(body), headers=_JSON)

    def delete(self, path: str, /, **params: Any) -> Any:
        return self._json("DELETE", path, params=params)

    def put_bytes(self, path: str, data: bytes | Iterable[bytes]) -> Any:
        """PUT raw bytes, streamed when given chunks."""
        return self._json("PUT", path, content=data, headers={"content-type": "application/octet-stream"}, timeout=600.0)

    def get_bytes(self, path: str, /, **params: Any) -> Iterator[bytes]:
        """The body of a GET in chunks."""
        with self._stream(path, params) as answer:
            yield from answer.iter_bytes(1 << 20)

    def items(self, path: str, /, **params: Any) -> Iterator[Any]:
        """Every item of a paged list."""
        page: str | None = None
        while True:
            answer = self.get(path, **params, page=page) if page else self.get(path, **params)
            yield from answer["items"]
            page = answer.get("next")
            if not page:
                return

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Any request under the server's root, with errors raised."""
        import httpx

        try:
            answer = self._ask(method, url, options)
            for _ in range(TRIES_SOON):  # "try again in a moment": nothing was done yet
                if answer.status_code != 503 or answer.headers.get("retry-after") != "1":
                    break
                time.sleep(1)
                answer = self._ask(method, url, options)
        except httpx.TransportError as cause:
            raise Unavailable(
                f"No Noria answers at {self.url} ({type(cause).__name__}).", hint="Start one with: noria server."
            ) from cause
        if answer.is_error:
            raise to_error(answer.status_code, answer.content)
        return answer

    def _ask(self, method: str, url: str, options: dict[str, Any]) -> httpx.Response:
        if not self._patience_s:
            return self._http.request(method, url, **options)
        import httpx
        import stamina

        waits = {"timeout": self._patience_s, "attempts": None, "wait_initial": 0.1, "wait_max": 2.0}
        for attempt in stamina.retry_context(on=httpx.TransportError, **waits):  # type: ignore[arg-type]
            with attempt:
                return self._http.request(method, url, **options)
        raise AssertionError("the last attempt returns or raises")

    def _json(self, method: str, path: str, **options: Any) -> Any:
        answer = self.request(method, "/api/v1" + path, **options)
        return json.loads(answer.content) if answer.content else None

    @contextmanager
    def _stream(self, path: str, params: dict[str, Any]) -> Iterator[httpx.Response]:
        import httpx

        try:
            with self._http.stream(
                "GET", "/api/v1" + path, params={k: v for k, v in params.items() if v is not None}
            ) as answer:
                if answer.is_error:
                    raise to_error(answer.status_code, answer.read())
                yield answer
        except httpx.TransportError as cause:
            raise Unavailable(f"The connection to {self.url} broke.", hint="Try again.") from cause

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(url: str | None = None, token: str | None = None, *, home: str | None = None, patience_s: float = 0.0) -> Api:
    """Find a Noria: `url` or NORIA_URL; else the one of the project's noria.toml; else the server running on the home folder;
    else this process on that folder."""
    url = url or os.environ.get("NORIA_URL") or ("" if home else project_url()) or running_server(home)
    token = token or token_for(url)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    if url:
        import httpx

        limits = httpx.Limits(max_connections=20)
        return Api(
            httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, limits=limits), url=url, patience_s=patience_s
        )
    return _in_process(home, headers)


def home_folder(home: str | None = None) -> Path:
    return Path(home or os.environ.get("NORIA_HOME") or "./noria-home").absolute()


def find_server(url: str | None = None) -> str | None:
    """The address of a server: `url` or NORIA_URL, else MLflow's, else that of the project's file, else the one running on the
    local home; None: there is none."""
    mlflow = os.environ.get("MLFLOW_TRACKING_URI", "")
    named = url or os.environ.get("NORIA_URL") or (mlflow if mlflow.startswith("http") else None)
    return named or project_url() or running_server()


def token_for(url: str | None) -> str:
    """What to sign in with at a server; '' for nothing. A server that only the file of a repository names never gets
    NORIA_TOKEN: it may be somebody else's file."""
    saved = credentials.saved(url) if url else ""
    return saved if url and url == project_url() else os.environ.get("NORIA_TOKEN") or saved


def project_url() -> str:
    """The server that the project's noria.toml names, unless the environment names a server or a home."""
    return "" if os.environ.get("NORIA_URL") or os.environ.get("NORIA_HOME") else project.url()


def running_server(home: str | None = None) -> str | None:
    """The URL that the server on this home wrote down, if it answers."""
    note = home_folder(home) / "server.json"
    try:
        url = str(json.loads(note.read_text())["url"])
    except (OSError, ValueError, KeyError):
        return None
    import httpx

    try:
        httpx.get(url + "/health", timeout=2.0)
    except (ValueError, httpx.HTTPError, httpx.InvalidURL):
        return None
    return url


def _in_process(home: str | None, headers: dict[str, str]) -> Api:
    import httpx

    from noria.app import local_asgi  # the one place where a client brings its own server
    from noria.client.local import InProcess

    app, url = local_asgi(home_folder(home))
    return Api(httpx.Client(transport=InProcess(app), base_url=url, headers=headers, timeout=TIMEOUT_S), url=url)


_JSON = {"content-type": "application/json"}


def _encode(body: Any) -> bytes:
    import msgspec

    return msgspec.json.encode(body)


def to_error(status: int, content: bytes) -> NoriaError:
    """The error a server answered with."""
    try:
        answer = json.loads(content)
        if "error_code" in answer:  # MLflow's shape, on its paths
            return _BY_STATUS.get(status, Unavailable)(answer["message"])
        found = answer["error"]
        kind = _BY_CODE.get(found["code"])
    except (ValueError, KeyError, TypeError):
        return Unavailable(
            f"The server answered {status} without saying why.", hint=content[:200].decode("utf-8", "replace")
        )
    hint = found.get("hint", "") + (f" (operation {found['op']})" if kind is None and found.get("op") else "")
    return (kind or Unavailable)(found["message"], hint=hint.strip(), where=found.get("where", ""))
