"""MLflow's multipart uploads and presigned downloads. See transfers.py.

Noria's own addresses for parts and links take the secret in a header, which the client sends because the answer tells it to: an
address lands in logs, a header does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import anyio.to_thread
import msgspec
from litestar import Request, Response
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream
from msgspec import Struct

from noria.http.bodies import stored
from noria.http.route import Routes, get, post, put
from noria.kernel.blobs import Spool
from noria.kernel.errors import Invalid, TooLarge
from noria.kernel.op import Op
from noria.tracking.files import artifact_path_of, knock
from noria.tracking.mlflow import BODIES, Whole, needed, rpc, whole
from noria.tracking.model import Artifact
from noria.tracking.service import Tracking
from noria.tracking.transfers import Transfers
from noria.tracking.unserved import PUBLIC

FILES = ("/api/2.0/mlflow-artifacts", "/ajax-api/2.0/mlflow-artifacts")
REQUEST_BYTES_MAX = 8 << 20  # 10,000 parts with their addresses are 3 MiB
SECRET_HEADER = "x-noria-transfer"  # noqa: S105
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})", re.ASCII)
DIRECT_ONLY = "is not supported for proxied artifact storage: files of this server are named by mlflow-artifacts: URIs."


class Begin(Struct):
    path: str | None = None  # of the file on the client's machine; its last part is the name
    num_parts: Whole = None


class Part(Struct):
    part_number: Whole = None
    etag: str | None = None


class Finish(Struct):
    path: str | None = None
    upload_id: str | None = None
    parts: list[Part] | None = None


class Presign(Struct):
    run_id: str | None = None
    model_id: str | None = None
    path: str | None = None
    expiration: Whole = None


def routes(transfers: Transfers, tracking: Tracking) -> Routes:
    return [*_uploads(transfers), *_links(transfers, tracking)]


def _uploads(transfers: Transfers) -> list[HTTPRouteHandler]:
    def create(op: Op, request: Request[Any, Any, Any], uri: str, body: Begin) -> Any:
        made = transfers.create(op, uri, 1 if body.num_parts is None else whole(body.num_parts, "num_parts"))
        at = f"{base_of(request)}{FILES[0]}/mpu/parts/{made.transfer.id}"
        return {
            "upload_id": made.transfer.id,
            "credentials": [
                {"url": made.urls[n - 1], "part_number": n, "headers": {}} if made.urls
                else {"url": f"{at}/{n}", "part_number": n, "headers": {SECRET_HEADER: made.secret}}
                for n in range(1, made.transfer.parts + 1)
            ],
        }  # fmt: skip

    def complete(op: Op, _: Request[Any, Any, Any], uri: str, body: Finish) -> Any:
        etags = {
            whole(part.part_number or 0, "part_number"): part.etag or "" for part in needed(body.parts or None, "parts")
        }
        transfers.complete(op, needed(body.upload_id, "upload_id"), uri, etags)
        return {}

    def abort(op: Op, _: Request[Any, Any, Any], uri: str, body: Finish) -> Any:
        transfers.abort(op, needed(body.upload_id, "upload_id"), uri)
        return {}

    @put(
        [f"{prefix}/mpu/parts/{{upload_id:str}}/{{number:int}}" for prefix in FILES], action=PUBLIC, include_in_schema=False
    )
    async def mlflow_upload_part(request: Request[Any, Any, Any], upload_id: str, number: int) -> Response[dict[str, Any]]:
        """One part. Whoever knows the upload's secret may send it."""
        secret = request.headers.get(SECRET_HEADER, "")
        await anyio.to_thread.run_sync(transfers.check_part, upload_id, secret, number)
        async with stored(request) as file:
            part = file.path if isinstance(file, Spool) else file
            etag = await anyio.to_thread.run_sync(transfers.put_part, upload_id, secret, number, part)
        return Response({}, headers={"etag": f'"{etag}"'})

    return [
        _of_file("create", Begin, create), _of_file("complete", Finish, complete), _of_file("abort", Finish, abort),
        mlflow_upload_part,
    ]  # fmt: skip


def _of_file(verb: str, body: type[Struct], do: Callable[..., Any]) -> HTTPRouteHandler:
    """`/mpu/<verb>/<folder>`, whose body names the file in it."""
    decoder = msgspec.json.Decoder(body, strict=False)

    @post([f"{prefix}/mpu/{verb}/{{path:path}}" for prefix in FILES], action="artifact.write", include_in_schema=False,
          operation_id=f"mlflow_multipart_{verb}")  # fmt: skip
    async def handle(op: Op, request: Request[Any, Any, Any]) -> Response[Any]:
        folder = artifact_path_of(request, f"/mpu/{verb}/")
        asked: Any = decoder.decode(await _request_of(request) or b"{}")

        def work() -> Any:
            knock(op, "artifact.write")
            name = PurePosixPath(str(needed(asked.path, "path")).replace("\\", "/")).name
            return do(op, request, f"mlflow-artifacts:/{folder}/{needed(name, 'path')}", asked)

        return Response(await anyio.to_thread.run_sync(work))

    return handle


async def _request_of(request: Request[Any, Any, Any]) -> bytes:
    """The body of a request that is no file, though its address is among those of files. Raises TooLarge."""
    read = bytearray()
    async for chunk in request.stream():
        read += chunk
        if len(read) > REQUEST_BYTES_MAX:
            raise TooLarge(f"This request has at most {REQUEST_BYTES_MAX >> 20} MiB.", hint="Send fewer parts.")
    return bytes(read)


def _links(transfers: Transfers, tracking: Tracking) -> list[HTTPRouteHandler]:
    def found(op: Op, path: str) -> tuple[str, Artifact]:
        uri = f"mlflow-artifacts:/{path}"
        mount, _, below = path.partition("/")
        if mount in tracking.mounts:
            return uri, tracking.mounts[mount].open_path(op, below)[0]
        knock(op, "artifact.read")
        return uri, tracking.open_at(op, tracking.place(op, uri))[0]

    @get([f"{prefix}/presigned/{{path:path}}" for prefix in FILES], action="artifact.read", include_in_schema=False)
    async def mlflow_presigned(op: Op, request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        path = artifact_path_of(request, "/presigned/")

        def work() -> dict[str, Any]:
            uri, file = found(op, path)
            made = transfers.link(op, uri, file)
            url = made.urls[0] if made.urls else f"{base_of(request)}{FILES[0]}/links/{made.transfer.id}"
            headers = {} if made.urls else {SECRET_HEADER: made.secret}
            return {"url": url, "headers": headers, "file_size": file.size_bytes}

        return Response(await anyio.to_thread.run_sync(work))

    @get([f"{prefix}/links/{{link_id:str}}" for prefix in FILES], action=PUBLIC, include_in_schema=False)
    async def mlflow_link(request: Request[Any, Any, Any], link_id: str) -> Stream:
        """A file or a range of it. Whoever knows the link's secret may read it."""
        link = await anyio.to_thread.run_sync(transfers.open_link, link_id, request.headers.get(SECRET_HEADER, ""))
        start, end, is_part = range_of(request.headers.get("range", ""), link.size_bytes)
        headers = {"content-length": str(end - start), "content-disposition": "attachment", "accept-ranges": "bytes"}
        if is_part:
            headers["content-range"] = f"bytes {start}-{end - 1}/{link.size_bytes}"
        chunks = await anyio.to_thread.run_sync(transfers.read_link, link, start, end)
        return Stream(chunks, media_type="application/octet-stream", headers=headers, status_code=206 if is_part else 200)

    def refuse(what: str) -> Any:
        def answer(op: Op, body: Presign) -> Any:
            if bool(body.run_id) == bool(body.model_id):
                raise Invalid("Exactly one of run_id and model_id must be provided.", where="run_id")
            needed(body.path, "path")
            tracking.files(op, str(body.run_id or body.model_id), "")  # NotFound comes first, as in MLflow
            raise Invalid(f"{what} {DIRECT_ONLY}", hint="Use the artifact proxy, /api/2.0/mlflow-artifacts.")

        return answer

    return [
        mlflow_presigned, mlflow_link,
        rpc(post, "/artifacts/presigned-upload-url", "run.read", Presign, refuse("Presigned upload"), prefixes=BODIES),
        rpc(post, "/artifacts/presigned-download-url", "run.read", Presign, refuse("Presigned download"), prefixes=BODIES),
    ]  # fmt: skip


def base_of(request: Request[Any, Any, Any]) -> str:
    """Where the client reaches this server: the host it asked, and the scheme that a proxy in front says it was asked by."""
    proxied = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    scheme = proxied if proxied in ("http", "https") else request.url.scheme
    return f"{scheme}://{request.headers.get('host', '')}{str(request.scope.get('root_path') or '').rstrip('/')}"


def range_of(header: str, size: int) -> tuple[int, int, bool]:
    """Start, end (exclusive) and whether it is a part, of a Range header over `size` bytes. Raises Invalid for one beyond it.

    Only one range is understood; anything else means the whole, as the standard allows.
    """
    found = _RANGE.fullmatch(header.strip())
    if not found or found.groups() == ("", ""):
        return 0, size, False
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size, True
    start, end = int(first), min(int(last) + 1 if last else size, size)
    if start >= end:
        raise Invalid(f"The range {header[:40]!r} lies outside the {size} bytes.", where="range")
    return start, end, True
