"""What MLflow's clients ask of the server itself: its version, what it can do, its workspaces.

Noria has one workspace. It is called `default`, as in MLflow; the door refuses requests for any other.
"""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from noria.http.route import Routes, delete, get, patch, post
from noria.kernel.errors import NotFound
from noria.kernel.op import Op
from noria.tracking.mlflow import WORKSPACE, needed, rpc
from noria.tracking.transfers import Transfers
from noria.tracking.unserved import MIRRORS, PUBLIC, refuse

SPEAKS = "3.17.2"  # the version of MLflow whose API this is; docs/reference/mlflow.md lists it
NEWER = tuple(f"/{mirror}/3.0/mlflow" for mirror in MIRRORS)


class OfWorkspace(Struct):
    workspace_name: str | None = None


def routes(transfers: Transfers) -> Routes:
    return [*_server(transfers), *_workspaces()]


def _server(transfers: Transfers) -> list[HTTPRouteHandler]:
    @get([f"{prefix}/server-info" for prefix in NEWER], action=PUBLIC, include_in_schema=False)
    async def mlflow_server_info() -> dict[str, Any]:
        return {
            "store_type": "SqlStore", "workspaces_enabled": True, "trace_archival_enabled": False,
            # Said when it spares the server work; a client that wants parts anyway sets MLFLOW_ENABLE_PROXY_MULTIPART_….
            "multipart_uploads_enabled": transfers.is_direct, "multipart_downloads_enabled": transfers.is_direct,
            "presigned_upload_run_id_supported": False, "presigned_upload_model_id_supported": False,
            "features_enabled": {"gateway": False},
        }  # fmt: skip

    @get("/version", action=PUBLIC, include_in_schema=False)
    async def mlflow_version() -> Response[str]:
        """As text: clients ask before they send what is new, such as spans over OTLP."""
        return Response(SPEAKS, media_type="text/plain; charset=utf-8")

    return [mlflow_server_info, mlflow_version]


def _workspaces() -> list[HTTPRouteHandler]:
    only = {"name": WORKSPACE, "description": "Everything on this server."}

    def found(name: str | None) -> dict[str, Any]:
        if needed(name, "workspace_name") != WORKSPACE:
            raise NotFound(f"There is no workspace {str(name)[:80]!r}.", hint=f"This server has one: {WORKSPACE}.")
        return only

    def listed(op: Op, _: OfWorkspace) -> Any:
        return {"workspaces": [only]}

    def read(op: Op, body: OfWorkspace) -> Any:
        return {"workspace": found(body.workspace_name)}

    return [
        rpc(get, "/workspaces", "experiment.read", OfWorkspace, listed, prefixes=NEWER),
        rpc(get, "/workspaces/{workspace_name:str}", "experiment.read", OfWorkspace, read, prefixes=NEWER),
        *refuse([f"{prefix}/workspaces" for prefix in NEWER], "make_workspace", verbs=(post,)),
        *refuse([f"{prefix}/workspaces/{{rest:str}}" for prefix in NEWER], "change_workspace", verbs=(patch, delete)),
    ]  # fmt: skip
