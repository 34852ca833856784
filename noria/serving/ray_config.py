"""An endpoint as a configuration of Ray Serve, for `serve deploy`. What it starts is ray_app.py.

Ray's own schema takes misspelt fields in silence, so what is written here is checked against the schema and read back in tests.
"""

from __future__ import annotations

from typing import Any

from noria.serving.kserve import label
from noria.serving.model import EndpointDetail, Exported, LeftOut

IMPORT_PATH = "noria.serving.ray_app:application"


def configuration(detail: EndpointDetail, *, url: str, hosts: list[str]) -> Exported:
    """One application for the endpoint: its door. It follows the endpoint, so a step or a rollback needs no new configuration."""
    name = detail.endpoint.name
    arguments: dict[str, Any] = {"endpoint": name, "url": url}
    if hosts:
        arguments["hosts"] = ",".join(hosts)
    application = {"name": f"noria-{label(name)}", "import_path": IMPORT_PATH, "route_prefix": "/", "args": arguments}
    left_out = [
        LeftOut(
            field="token", why="A configuration is no place for a secret.",
            instead="Set NORIA_TOKEN where Ray's nodes run: that of a service account with the role node.",
        ),
        LeftOut(
            field="stream", why="A replica gives its answer as a whole; a request for one bit by bit is refused with 400.",
            instead="The whole answer on Ray; streams on a node of Noria's.",
        ),
        LeftOut(
            field="gRPC", why="Ray Serve speaks gRPC for services that are compiled in.",
            instead="V2 and /invocations over HTTP; gRPC on a node of Noria's.",
        ),
    ]  # fmt: skip
    return Exported(endpoint=name, format="ray", objects=[{"applications": [application]}], left_out=left_out)
