"""What MLflow's server can do and Noria does not, with the reason: the answer 501, and the page docs/reference/mlflow.md.

One table for both, so that what the page says is what the server answers. Routes that any slice serves win over these.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from litestar import Request, Response
from litestar.handlers import HTTPRouteHandler

from noria.http.route import Routes, delete, get, patch, post, put

PUBLIC = "public"
Verb = Callable[..., Any]  # get, post, … of noria.http.route
MIRRORS = ("api", "ajax-api")  # MLflow serves most paths twice: for clients, and for its own pages

ELSEWHERE = "Noria has this as its own: "
UNSERVED: tuple[tuple[str, str], ...] = (
    # A pattern of paths, as in MLflow's route table, without the mirror; why it is not served. The first that matches counts.
    (r"/build/.*|/static-files/.*|/signup", "The pages of MLflow's UI; Noria has its own."),
    (r"/graphql", "The query language of MLflow's own UI; no client uses it."),
    (r".*/ui-telemetry", "Noria sends no telemetry."),
    (r"/gateway/.*|.*/mlflow/gateway.*|.*/gateway-proxy", "Noria is no gateway to other companies' language models."),
    (r".*/mlflow/assistant.*", "Noria has no built-in chat assistant."),
    (r".*/mlflow/mcp-servers.*", "Noria keeps no registry of MCP servers."),
    (r".*/mlflow/demo/.*", ELSEWHERE + "`noria demo`."),
    (r".*/create-promptlab-run", "Noria calls no language models on the server."),
    (r".*/mlflow/(genai|scorer|prompt-optimization|issues)(/.*)?", "Noria calls no language models on the server."),
    (r".*/mlflow/scorers(/.*)?", "Noria keeps no scorers; they run where `mlflow.genai.evaluate` is called."),
    (r".*/mlflow/(label-schemas|review-queues)(/.*)?", "Noria has no labelling of traces."),
    (r".*/(mlflow/)?jobs(/.*)?", ELSEWHERE + "pipelines, at /api/v1/pipeline-runs."),
    (r".*/mlflow/(users|roles)(/.*)?", ELSEWHERE + "principals, roles and tokens, at /api/v1/principals; see `noria user`."),
    (r".*/mlflow/workspaces(/.*)?", "A Noria server has one workspace, `default`; it is neither made nor changed."),
    (r".*/mlflow/(traces|unified-traces|get-trace-artifact|get-online-trace-details)(/.*)?", "Noria does not serve this of traces."),
    (r".*/mlflow/datasets(/.*)?", "Noria does not serve this of evaluation datasets."),
    (r"/api/2\.0mlflow/.*", "A misspelt path of MLflow's own; the right one is served."),
)  # fmt: skip
UNKNOWN = "Noria does not serve this part of MLflow's API."

EVERYTHING = tuple(
    f"/{m}/{v}/{part}" for m in MIRRORS for v in ("2.0", "3.0") for part in ("mlflow", "mlflow-artifacts", "jobs")
)
LOOSE = (
    "/gateway/{rest:path}", "/graphql", "/signup", "/build/{rest:path}", "/static-files/{rest:path}",
    *(f"/{m}/2.0mlflow/{{rest:path}}" for m in MIRRORS), *(f"/{m}/3.0/jobs" for m in MIRRORS),
)  # fmt: skip


def reason(path: str) -> str:
    """Why `path` is not served; '' if the table does not say. A mirror's path counts as the path it mirrors."""
    path = re.sub(r"^/ajax-api/", "/api/", path)
    return next((why for pattern, why in UNSERVED if re.fullmatch(pattern, path)), "")


def routes() -> Routes:
    """501 for everything under MLflow's addresses that nothing else serves."""
    return refuse([*(f"{prefix}/{{rest:path}}" for prefix in EVERYTHING), *LOOSE], "rest")


def refuse(
    paths: list[str], name: str, first: str = "", verbs: tuple[Verb, ...] = (get, post, put, patch, delete)
) -> list[HTTPRouteHandler]:
    """501 by name on `verbs` of `paths`; the message begins with `first`. More specific routes of any slice win."""
    made = []
    for verb in verbs:

        async def answer(request: Request[Any, Any, Any]) -> Response[dict[str, str]]:
            path = request.url.path[:200]
            text = f"{first}{request.method} {path} is not served here. {reason(path) or UNKNOWN}"
            return Response({"error_code": "NOT_IMPLEMENTED", "message": text}, status_code=501)

        options: dict[str, Any] = {
            "action": PUBLIC,
            "include_in_schema": False,
            "status_code": 200,
            "opt": {"unserved": True},
        }
        made.append(verb(paths, operation_id=f"mlflow_{name}_{verb.__name__}", **options)(answer))
    return made
