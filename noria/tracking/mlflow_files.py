"""Files in MLflow's protocol: the artifact proxy, and the older addresses that name a file by its run.

Bytes are streamed in and out; a path is taken as it was sent and checked once (tracking/files.py).
"""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from litestar import Request, Response
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream

from noria.http.bodies import stored
from noria.http.route import BODY_BYTES_MAX, Asked, Bytes, Routes, delete, get, post, put
from noria.kernel.op import Op
from noria.tracking.files import artifact_path_of, knock
from noria.tracking.mlflow import OfRun, files_out, needed, rpc, run_id
from noria.tracking.model import Artifact, check_path
from noria.tracking.service import Tracking

FILES = ("/api/2.0/mlflow-artifacts", "/ajax-api/2.0/mlflow-artifacts")
PAGES = ("/ajax-api/2.0/mlflow",)  # asked by MLflow's own pages only


class ListFiles(OfRun):
    path: str | None = None


def routes(tracking: Tracking) -> Routes:
    return [*_proxy(tracking), *_by_owner(tracking)]


def _proxy(tracking: Tracking) -> list[HTTPRouteHandler]:
    def list_of_run(op: Op, body: ListFiles) -> Any:
        run = tracking.run(op, run_id(body))
        files = tracking.artifacts(op, run.id, body.path or "", with_models=False)
        return {"root_uri": run.artifact_uri, "files": files_out(files)}

    def list_at(op: Op, body: ListFiles) -> Any:
        # The proxy names files relative to the folder that was asked for.
        mount, _, below = (body.path or "").partition("/")
        if mount in tracking.mounts:
            found = tracking.mounts[mount].list_files(op, below)
        else:
            found = tracking.list_at(op, tracking.place(op, "mlflow-artifacts:/" + (body.path or "")))
        return {"files": [{**f, "path": f["path"].rsplit("/", 1)[-1]} for f in files_out(found)]}

    one = [f"{prefix}/artifacts/{{path:path}}" for prefix in FILES]

    def small_up(op: Op, sent_: Asked) -> bytes:
        knock(op, "artifact.write")
        tracking.put_at(op, tracking.place(op, "mlflow-artifacts:/" + check_path(sent_.parts["path"])), sent_.body)
        return b"{}"

    def small_down(op: Op, sent_: Asked) -> Bytes | None:
        path = check_path(sent_.parts["path"])
        knock(op, "artifact.read")
        if path.partition("/")[0] in tracking.mounts:
            return None
        file, chunks = tracking.open_at(op, tracking.place(op, "mlflow-artifacts:/" + path))
        if file.size_bytes > BODY_BYTES_MAX:
            return None
        return Bytes(b"".join(chunks), "application/octet-stream", {"content-disposition": "attachment"})

    @get(one, action="artifact.read", include_in_schema=False, operation_id="mlflow_download", opt={"quick": small_down})
    async def download(op: Op, request: Request[Any, Any, Any]) -> Stream:
        path = artifact_path_of(request, "/artifacts/")

        def find() -> tuple[Artifact, Any]:
            mount, _, below = path.partition("/")
            if mount in tracking.mounts:
                return tracking.mounts[mount].open_path(op, below)
            knock(op, "artifact.read")
            return tracking.open_at(op, tracking.place(op, "mlflow-artifacts:/" + path))

        return sent(*await anyio.to_thread.run_sync(find))

    @put(one, action="artifact.write", include_in_schema=False, operation_id="mlflow_upload", opt={"quick": small_up})
    async def upload(op: Op, request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        path = artifact_path_of(request, "/artifacts/")

        def find() -> Any:
            knock(op, "artifact.write")
            return tracking.place(op, "mlflow-artifacts:/" + path)

        place = await anyio.to_thread.run_sync(find)
        async with stored(request) as file:
            await anyio.to_thread.run_sync(tracking.put_at, op, place, file)
        return Response({})

    @delete(one, action="artifact.write", status_code=200, include_in_schema=False, operation_id="mlflow_remove")
    async def remove(op: Op, request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        path = artifact_path_of(request, "/artifacts/")

        def work() -> None:
            knock(op, "artifact.write")
            tracking.delete_at(op, tracking.place(op, "mlflow-artifacts:/" + path))

        await anyio.to_thread.run_sync(work)
        return Response({})

    return [
        rpc(get, "/artifacts/list", "run.read", ListFiles, list_of_run),
        rpc(get, "/artifacts", "run.read", ListFiles, list_at, prefixes=FILES),
        download, upload, remove,
    ]  # fmt: skip


def _by_owner(tracking: Tracking) -> list[HTTPRouteHandler]:
    """One file of a run or of a logged model, named by the query."""

    def found(op: Op, owner: str, path: str) -> Stream:
        knock(op, "artifact.read")
        file = tracking.artifact(op, owner, path)
        return sent(file, tracking.open_artifact(op, owner, path))

    @get("/get-artifact", action="artifact.read", include_in_schema=False)
    async def mlflow_get_artifact(op: Op, request: Request[Any, Any, Any], path: str = "") -> Stream:
        owner = run_of(request)
        return await anyio.to_thread.run_sync(found, op, owner, needed(path, "path"))

    @get(f"{PAGES[0]}/logged-models/{{model_id:str}}/artifacts/files", action="artifact.read", include_in_schema=False)
    async def mlflow_get_model_file(op: Op, model_id: str, artifact_file_path: str = "") -> Stream:
        path = needed(artifact_file_path, "artifact_file_path")
        return await anyio.to_thread.run_sync(found, op, model_id, path)

    @post(f"{PAGES[0]}/upload-artifact", action="artifact.write", include_in_schema=False)
    async def mlflow_upload_artifact(op: Op, request: Request[Any, Any, Any], path: str = "") -> Response[dict[str, Any]]:
        owner, path = run_of(request), needed(path, "path")
        await anyio.to_thread.run_sync(knock, op, "artifact.write")
        async with stored(request) as file:
            await anyio.to_thread.run_sync(tracking.put_artifact, op, owner, path, file)
        return Response({})

    return [mlflow_get_artifact, mlflow_get_model_file, mlflow_upload_artifact]


def run_of(request: Request[Any, Any, Any]) -> str:
    """The run that a query names, by the new name or the old. Raises Invalid."""
    query = request.query_params
    return str(needed(query.get("run_id") or query.get("run_uuid"), "run_id"))


def sent(file: Artifact, chunks: Any) -> Stream:
    """A file as an answer: never shown in the page's own origin, since anybody may have written it."""
    return Stream(
        chunks, media_type="application/octet-stream",
        headers={"content-length": str(file.size_bytes), "content-disposition": "attachment"},
    )  # fmt: skip
