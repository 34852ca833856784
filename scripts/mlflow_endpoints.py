"""Writes scripts/data/mlflow-endpoints.txt: every endpoint of an installed MLflow server, from its own route tables.

Run it with the Python of an environment that holds the full `mlflow` and Flask-WTF (for its optional users and roles):

    .venv/clients/server/bin/python scripts/mlflow_endpoints.py

One line an endpoint: method, path, and under which of the two mirrors (`/api`, `/ajax-api`) it is served.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

FILE = Path(__file__).parent / "data" / "mlflow-endpoints.txt"
Endpoint = tuple[str, str]  # method, path with {} for each part that varies


def flask_routes() -> Iterator[Endpoint]:
    from mlflow.server import app

    for rule in app.url_map.iter_rules():
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            yield method, str(rule)


def fastapi_routes() -> Iterator[Endpoint]:
    from mlflow.server.fastapi_app import create_fastapi_app

    waiting = [(route, "") for route in create_fastapi_app().routes]
    while waiting:
        route, prefix = waiting.pop()
        if router := getattr(route, "original_router", None):
            within = str(getattr(route.include_context, "prefix", "") or "")  # type: ignore[attr-defined]
            waiting += [(inner, prefix + within) for inner in router.routes]
        for method in (getattr(route, "methods", None) or set()) - {"HEAD", "OPTIONS"}:
            yield method, prefix + route.path  # type: ignore[attr-defined]


def auth_routes() -> Iterator[Endpoint]:
    """What `mlflow server --app-name basic-auth` adds."""
    os.environ["MLFLOW_FLASK_SERVER_SECRET_KEY"] = "x"
    os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"] = "only-for-this-list-1"
    from mlflow.server import app, auth

    before = set(flask_routes())
    auth._init_store_for_app = lambda: None  # the list of routes needs no database
    auth.create_app(app)
    yield from set(flask_routes()) - before


def plain(path: str) -> str:
    """`/x/<path:y>/{z:path}` as `/x/{y}/{z}`."""
    return re.sub(r"\{([^}:]+)(:[^}]*)?\}", r"{\1}", re.sub(r"<(?:[^>:]+:)?([^>]+)>", r"{\1}", path))


def lines() -> list[str]:
    import mlflow

    found = {(m, plain(p)) for m, p in [*flask_routes(), *fastapi_routes(), *auth_routes()]}
    mirrors: dict[Endpoint, set[str]] = {}
    for method, path in found:
        area = "ajax-api" if path.startswith("/ajax-api/") else "api" if path.startswith("/api/") else "-"
        key = path.replace("/ajax-api/", "/api/", 1) if area == "ajax-api" else path
        mirrors.setdefault((method, key), set()).add(area)
    rows = [
        f"{m} {p} {','.join(sorted(where))}" for (m, p), where in sorted(mirrors.items(), key=lambda i: (i[0][1], i[0][0]))
    ]
    return [f"# MLflow {mlflow.__version__}. Written by scripts/mlflow_endpoints.py.", *rows]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    os.chdir(tempfile.mkdtemp())
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text("\n".join(lines()) + "\n")
