"""The routes of tracking: Noria's own read API, and MLflow's protocol beside it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import anyio.to_thread
import msgspec
from litestar import Request, Response
from litestar.response import Stream

from noria.http.bodies import stored
from noria.http.route import Routes, delete, get, patch, post, put
from noria.kernel.errors import Invalid
from noria.kernel.op import Op
from noria.kernel.paging import Page, check_limit
from noria.kernel.preview import Note, Preview, render_markdown
from noria.tracking import imports_http, lifecycle_http, mlflow, mlflow_files, mlflow_server, transfers_mlflow, unserved
from noria.tracking.batch import RunsAct, RunsDone
from noria.tracking.columns import ColumnCatalogue
from noria.tracking.files import knock
from noria.tracking.model import Artifact, Experiment, LogPage, LogText, NewRun, Run, RunChange, RunColumns, check_path
from noria.tracking.rules import wire_value
from noria.tracking.series import BUCKETS_DEFAULT, BUCKETS_MAX
from noria.tracking.service import Tracking
from noria.tracking.transfers import Transfers

RUNS_PER_PAGE = 10_000  # columns are small; the table draws what is in view
RUNS_COMPARED_MAX = 20
NOTE_TAG = "mlflow.note.content"  # where MLflow keeps the description of a run
_STAGES = {"active": ["active"], "deleted": ["deleted"], "all": ["active", "deleted"]}
# A file is somebody's: shown as an attachment, in no origin of ours, with nothing allowed.
SAFE = {"content-security-policy": "sandbox; default-src 'none'"}  # `nosniff` is said by the door


def routes(tracking: Tracking, transfers: Transfers) -> Routes:
    @get("/api/v1/experiments", action="experiment.read")
    def list_experiments(
        op: Op,
        filter: str = "",
        order_by: str = "",
        stage: str = "active",
        limit: int | None = None,
        page: str | None = None,
    ) -> Page[Experiment]:
        """Experiments with how many runs they have, latest first."""
        return tracking.experiments(
            op, filter=filter, order_by=_commas(order_by), stages=_stages(stage), limit=check_limit(limit), page=page
        )

    @get("/api/v1/experiments/{experiment_id:str}", action="experiment.read")
    def read_experiment(op: Op, experiment_id: str) -> Experiment:
        """One experiment."""
        return tracking.experiment(op, experiment_id)

    @get("/api/v1/runs", action="run.read")
    def list_runs(
        op: Op, experiment: str = "", filter: str = "", order_by: str = "", columns: str | None = None, stage: str = "active",
        limit: int | None = None, page: str | None = None,
    ) -> RunColumns:  # fmt: skip
        """Runs by column. `experiment`: ids or names, comma-separated; `columns`: such as status,metrics.loss (all by default)."""
        knock(op, "run.read")
        return tracking.run_columns(
            op, experiments=[_experiment_id(tracking, op, e) for e in _commas(experiment)] or None, filter=filter,
            order_by=_commas(order_by), columns=None if columns is None else _commas(columns), stages=_stages(stage),
            limit=check_limit(limit, most=RUNS_PER_PAGE), page=page,
        )  # fmt: skip

    @get("/api/v1/runs/columns", action="run.read")
    def list_run_columns(
        op: Op, experiment: str = "", filter: str = "", stage: str = "active", limit: int | None = None
    ) -> ColumnCatalogue:
        """The params, metrics and tags that the latest `limit` runs have, most used first: what a table could show."""
        knock(op, "run.read")
        return tracking.column_catalogue(
            op, experiments=[_experiment_id(tracking, op, e) for e in _commas(experiment)] or None, filter=filter,
            stages=_stages(stage), limit=check_limit(limit, most=RUNS_PER_PAGE),
        )  # fmt: skip

    @post("/api/v1/runs/batch", action="run.log")
    def change_runs(op: Op, data: RunsAct) -> RunsDone:
        """Delete, restore or tag many runs: all or none. Deleting and restoring also ask for run.delete."""
        knock(op, "run.log")
        return tracking.batch.act(op, data)

    @post("/api/v1/runs", action="run.create")
    def create_run(op: Op, data: NewRun) -> Response[bytes]:
        """Start a run; its experiment is made when it is named and missing. With an `id` the request may be repeated."""
        knock(op, "run.create")
        experiment = data.experiment_id or "0"
        if data.experiment:
            experiment = tracking.experiment_by_name(op, data.experiment, create=True).id
        return _json(
            tracking.create_run(op, experiment, data.name, data.tags, started_at_ms=data.started_at_ms, run_id=data.id)
        )

    @get("/api/v1/runs/{run_id:str}", action="run.read")
    def read_run(op: Op, run_id: str) -> Response[bytes]:
        """One run: settings, latest numbers, tags, inputs, models, where it came from."""
        return _json(tracking.run(op, run_id))

    @get("/api/v1/runs/{run_id:str}/note", action="run.read")
    def read_note(op: Op, run_id: str) -> Note:
        """The note of a run (the tag mlflow.note.content), as text and as HTML that does nothing."""
        text = tracking.run(op, run_id).tags.get(NOTE_TAG, "")
        return Note(text=text, html=render_markdown(text))

    @patch("/api/v1/runs/{run_id:str}", action="run.log")
    def change_run(op: Op, run_id: str, data: RunChange) -> Response[bytes]:
        """Change a run's name, status or tags."""
        return _json(
            tracking.update_run(op, run_id, name=data.name, status=data.status, ended_at_ms=data.ended_at_ms, tags=data.tags)
        )

    @delete("/api/v1/runs/{run_id:str}", action="run.delete")
    def delete_run(op: Op, run_id: str) -> None:
        """Put a run away."""
        tracking.delete_run(op, run_id)

    @post("/api/v1/runs/{run_id:str}/restore", action="run.delete")
    def restore_run(op: Op, run_id: str) -> None:
        """Bring a run back."""
        tracking.restore_run(op, run_id)

    @get("/api/v1/runs/{run_id:str}/series", action="run.read")
    def read_series(
        op: Op, request: Request[Any, Any, Any], run_id: str, keys: str | None = None, buckets: int = BUCKETS_DEFAULT,
        to: int | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Curves of metrics, thinned: lowest, highest, first and last value of each bucket, over steps `from` to `to`."""
        start = _from(request)
        found = tracking.series(
            op, run_id, None if keys is None else _commas(keys), buckets=_buckets(buckets), start=start, end=to
        )
        return {"series": found}

    @get("/api/v1/series", action="run.read")
    def compare_series(
        op: Op, request: Request[Any, Any, Any], runs: str, keys: str | None = None, buckets: int = BUCKETS_DEFAULT,
        to: int | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """The same for several runs at once, by run id."""
        ids, start = _commas(runs), _from(request)
        if len(ids) > RUNS_COMPARED_MAX:
            raise Invalid(f"At most {RUNS_COMPARED_MAX} runs are compared at once.", where="runs")
        found = tracking.compare(
            op, ids, None if keys is None else _commas(keys), buckets=_buckets(buckets), start=start, end=to
        )
        return {"runs": found}

    @get("/api/v1/runs/{run_id:str}/artifacts", action="run.read")
    def list_artifacts(op: Op, run_id: str, path: str = "") -> Page[Artifact]:
        """What lies in a folder of a run or a logged model."""
        return Page(tracking.artifacts(op, run_id, path))

    @get("/api/v1/runs/{run_id:str}/artifacts/content", action="artifact.read")
    def read_artifact(op: Op, request: Request[Any, Any, Any], run_id: str, path: str) -> Stream:
        """The bytes of a file, or the part that a Range header asks for."""
        knock(op, "artifact.read")
        file = tracking.artifact(op, run_id, path)
        start, end = _range(request.headers.get("range", ""), file.size_bytes)
        is_part = (start, end) != (0, file.size_bytes)
        headers = {
            **SAFE, "content-length": str(end - start), "accept-ranges": "bytes", "etag": f'"{file.digest}"',
            "content-disposition": f"attachment; filename*=UTF-8''{quote(path.rsplit('/', 1)[-1], safe='')}",
        }  # fmt: skip
        if is_part:
            headers["content-range"] = f"bytes {start}-{end - 1}/{file.size_bytes}"
        return Stream(
            tracking.open_artifact(op, run_id, path, start, end), status_code=206 if is_part else 200, headers=headers,
            media_type="application/octet-stream",
        )  # fmt: skip

    @get("/api/v1/runs/{run_id:str}/artifacts/preview", action="artifact.read")
    def preview_artifact(op: Op, run_id: str, path: str) -> Preview:
        """A file as it can be shown safely: text, the first rows of a table, a note as sanitised HTML, or what it is."""
        knock(op, "artifact.read")
        return tracking.preview(op, run_id, path)

    @put("/api/v1/runs/{run_id:str}/artifacts/content", action="artifact.write")
    async def write_artifact(op: Op, request: Request[Any, Any, Any], run_id: str, path: str) -> Artifact:
        """Store a file of a run."""

        def check() -> None:
            knock(op, "artifact.write")
            check_path(path)
            tracking.run(op, run_id)  # before the bytes are taken in

        await anyio.to_thread.run_sync(check)
        async with stored(request) as file:
            return await anyio.to_thread.run_sync(tracking.put_artifact, op, run_id, path, file)

    @post("/api/v1/runs/{run_id:str}/logs", action="run.log")
    def append_log(op: Op, run_id: str, data: LogText) -> dict[str, int]:
        """Append text to a run's log; answers its size in bytes, which is the next `offset`."""
        return {"size_bytes": tracking.append_log(op, run_id, data.text, data.offset)}

    @get("/api/v1/runs/{run_id:str}/logs", action="run.read")
    def read_log(op: Op, run_id: str, offset: int = 0) -> LogPage:
        """A part of a run's log from `offset` on; read on from `next_offset`."""
        return tracking.log_page(op, run_id, offset)

    return [
        list_experiments, read_experiment, list_runs, list_run_columns, change_runs, create_run, read_run, change_run,
        read_note, delete_run, restore_run, read_series, compare_series, list_artifacts, read_artifact, preview_artifact, write_artifact,
        append_log, read_log, *lifecycle_http.routes(tracking), *imports_http.routes(tracking),
        *mlflow.routes(tracking), *mlflow_files.routes(tracking),
        *transfers_mlflow.routes(transfers, tracking), *mlflow_server.routes(transfers), *unserved.routes(),
    ]  # fmt: skip


def _json(run: Run) -> Response[bytes]:
    """A run as JSON, with words for the numbers that JSON has not."""
    fields = msgspec.to_builtins(run)
    fields["metrics"] = {key: wire_value(value) for key, value in run.metrics.items()}
    fields["points"] = [{**point, "value": wire_value(point["value"])} for point in fields["points"]]
    return Response(msgspec.json.encode(fields), media_type="application/json")


def _experiment_id(tracking: Tracking, op: Op, text: str) -> str:
    """An experiment given by id or by name. Raises NotFound."""
    is_id = text == "0" or re.fullmatch(r"[0-9a-f]{32}", text)
    return text if is_id else tracking.experiment_by_name(op, text).id


def _commas(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _stages(stage: str) -> list[str]:
    if stage not in _STAGES:
        raise Invalid("stage is active, deleted or all.", where="stage")
    return _STAGES[stage]


def _buckets(buckets: int) -> int:
    if not 1 <= buckets <= BUCKETS_MAX:
        raise Invalid(f"buckets is {buckets}; it must be between 1 and {BUCKETS_MAX}.", where="buckets")
    return buckets


def _from(request: Request[Any, Any, Any]) -> int | None:
    """The query's `from`, which no parameter can be called."""
    text = request.query_params.get("from")
    if text is None or text == "":
        return None
    if not re.fullmatch(r"-?\d{1,19}", text, re.ASCII):
        raise Invalid("from is a step.", where="from")
    return int(text)


def _range(header: str, size: int) -> tuple[int, int]:
    """The bytes that a Range header asks for; all of them when there is none that can be met."""
    found = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header.strip(), re.ASCII)
    if not found or found.groups() == ("", ""):
        return 0, size
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size
    start, end = int(first), min(int(last) + 1 if last else size, size)
    return (start, end) if start < end else (0, size)
