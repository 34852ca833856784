"""The page docs/reference/mlflow.md: every endpoint of MLflow's server, and what Noria does with it.

From three things that cannot disagree: the list that scripts/mlflow_endpoints.py took from MLflow, the routes Noria serves, and
the table of refusals (noria/tracking/unserved.py) that also writes the answer 501.
"""

from __future__ import annotations

import re
import tempfile
from functools import lru_cache
from pathlib import Path

from msgspec import Struct

from noria.tracking.unserved import MIRRORS, reason
from scripts.mlflow_differences import section

FILE = Path(__file__).parent / "data" / "mlflow-endpoints.txt"
# What is worth knowing of an endpoint that is served; docs/internals/tracking.md argues each.
NOTES = {
    "POST /api/2.0/mlflow/experiments/create": "`artifact_location` other than the server's own store is refused",
    "POST /api/2.0/mlflow/model-versions/create": "the source must lie on this server; the text of a prompt is its own",
    "POST /api/2.0/mlflow/model-versions/transition-stage": "kept as a tag; says nothing about what is served",
    "POST /api/2.0/mlflow/registered-models/alias": "policies may refuse; every move is kept",
    "GET /": "Noria's own pages",
    "GET /version": "the version of MLflow whose API this is",
}


class Endpoint(Struct, frozen=True):
    """One of MLflow's endpoints. `mirrors`: the prefixes under which MLflow serves it; empty for a path outside the API."""

    method: str
    path: str
    mirrors: tuple[str, ...]

    @property
    def area(self) -> str:
        """What it is about, as a heading."""
        parts = [p for p in self.path.split("/") if p not in ("", "api", "2.0", "3.0", "mlflow")]
        return parts[0] if self.path.startswith("/api/") and parts else "outside the API"

    def paths(self) -> list[str]:
        return [self.path.replace("/api/", f"/{m}/", 1) for m in self.mirrors] or [self.path]


def endpoints() -> tuple[str, list[Endpoint]]:
    """The version of MLflow, and its endpoints by path."""
    first, *rest = FILE.read_text().splitlines()
    rows = [line.split() for line in rest]
    known = [Endpoint(method, path, () if m == "-" else tuple(sorted(m.split(",")))) for method, path, m in rows]
    return first.split()[2].rstrip("."), known


@lru_cache(maxsize=1)
def served() -> frozenset[tuple[str, str]]:
    """(method, path) of every route that does more than refuse; what varies in a path is {}."""
    from noria.app import build
    from noria.config import load_config

    with tempfile.TemporaryDirectory() as home:
        app = build(load_config({}, home=home))
        found = [
            (method, form(path))
            for handler in app.routes()
            if not handler.opt.get("unserved")
            for path in handler.paths
            for method in handler.http_methods
        ]
        app.db.close()
    return frozenset((m, p) for m, p in found if p != "/{}")  # any page of the UI


def form(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


def is_served(endpoint: Endpoint) -> bool:
    """Under every one of its mirrors."""
    return all((endpoint.method, form(path)) in served() for path in endpoint.paths())


def page() -> str:
    version, known = endpoints()
    areas: dict[str, list[Endpoint]] = {}
    for endpoint in known:
        areas.setdefault(endpoint.area, []).append(endpoint)
    count = sum(map(is_served, known))
    lines = [
        "# MLflow's API",
        "",
        "<!-- Written by scripts/reference.py. -->",
        "",
        f"Every endpoint of MLflow {version}'s server, optional parts included, and what Noria does: {count} of {len(known)} are "
        "served. Those of the API have a mirror under `/ajax-api` where MLflow has one; both are served alike. What is not served "
        'answers 501 `{"error_code": "NOT_IMPLEMENTED", "message": …}`, names the endpoint and gives the reason below.',
        "",
        "How answers differ is [at the end](#how-answers-differ).",
    ]
    for area in sorted(areas, key=lambda a: (a == "outside the API", a)):
        lines += ["", f"## {area}", "", "| | endpoint | Noria |", "|---|---|---|"]
        lines += [f"| {e.method} | `{e.path}`{_mirror(e)} | {_what(e)} |" for e in areas[area]]
    return "\n".join([*lines, "", *section()]) + "\n"


def _what(endpoint: Endpoint) -> str:
    if is_served(endpoint):
        note = NOTES.get(f"{endpoint.method} {endpoint.path}", "")
        return f"served; {note}" if note else "served"
    return "**no.** " + (reason(endpoint.path) or "?")


def _mirror(endpoint: Endpoint) -> str:
    return " (only under `/ajax-api`)" if endpoint.mirrors == MIRRORS[1:] else ""
