"""The second look at an import: every run as it is here against what it is there, value by value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from noria.client.api import Api
from noria.client.moving import fit
from noria.client.moving import mlflow_words as words
from noria.client.moving.model import DELETED, Experiment, Number, Run, Source
from noria.client.moving.points import by_key, same
from noria.client.moving.report import Report
from noria.kernel.errors import NotFound

POINTS_PER_PAGE = 25_000


def verify_all(
    api: Api, source: Source, report: Report, *, only: set[str] | None, say: Callable[[str], None] = lambda text: None
) -> None:
    """Compare what came; differences go into the report. Runs that go on are not compared, nor those that
    came without a part."""
    verified = report.verified = {"runs": 0, "points": 0, "files": 0}
    skipped = {*report.unfinished, *report.incomplete}
    for experiment in source.experiments():
        if only is not None and experiment.name not in only:
            continue
        for run in source.runs(experiment):
            if run.id in skipped or run.status not in ("FINISHED", "FAILED", "KILLED"):
                continue
            verified["runs"] += 1
            say(f"comparing {experiment.name}: {verified['runs']:,} runs, {verified['points']:,} points")
            _compare(api, source, experiment, run, report)


def _compare(api: Api, source: Source, experiment: Experiment, run: Run, report: Report) -> None:
    try:
        here = api.get(f"/runs/{run.id}")
    except NotFound:
        report.differ("runs", run.id, "it is not here")
        return
    for name, there, now in _facts(experiment, run, here):
        if there != now:
            report.differ("runs", run.id, f"{name} is {_short(now)} here and {_short(there)} there")
    assert report.verified is not None
    seen = set()
    for key, points in by_key(source.numbers(run)):
        seen.add(key)
        counted = _Counted(points)
        if not same(counted, _numbers_here(api, run.id, key)):
            report.differ("runs", run.id, f"the points of {key} are not the same")
        report.verified["points"] += counted.count
    if more := set(here["metrics"]) - seen:
        report.differ("runs", run.id, f"there are points of {', '.join(sorted(more))} here only")
    files = {f.path: f.size_bytes for f in source.files(run)}
    mine = _files_here(api, run.id)
    if files != mine:
        wrong = sorted(path for path in files.keys() | mine.keys() if files.get(path) != mine.get(path))
        report.differ("runs", run.id, f"{len(wrong)} files are not the same: {', '.join(wrong[:5])}")
    report.verified["files"] += len(files)


def _facts(experiment: Experiment, run: Run, here: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    yield "status", run.status, here["status"]
    yield "start", run.started_at_ms, here["started_at_ms"]
    yield "end", run.ended_at_ms, here["ended_at_ms"]
    yield "user", run.user or run.tags.get("mlflow.user", ""), here["user"]
    yield "stage", DELETED if experiment.stage == DELETED else run.stage, here["stage"]
    yield "params", run.params, here["params"]
    named = {} if "mlflow.runName" in run.tags else {"mlflow.runName": here["name"]}
    own = {k: v for k, v in run.tags.items() if k not in fit.IMPORT_TAGS}
    yield "tags", own | named, {k: v for k, v in here["tags"].items() if k not in fit.IMPORT_TAGS}
    yield "inputs", sorted((i.name, i.digest) for i in run.inputs), sorted((i["name"], i["digest"]) for i in here["inputs"])


class _Counted:
    def __init__(self, points: Iterator[Number]) -> None:
        self._points, self.count = points, 0

    def __iter__(self) -> Iterator[Number]:
        for point in self._points:
            self.count += 1
            yield point


def _numbers_here(api: Api, run_id: str, key: str) -> Iterator[Number]:
    token: str | None = None
    while True:
        asked = {"run_id": run_id, "metric_key": key, "max_results": POINTS_PER_PAGE} | (
            {"page_token": token} if token else {}
        )
        page = api.request("GET", "/api/2.0/mlflow/metrics/get-history", params=asked).json()
        for found in page.get("metrics") or []:
            yield words.point(key, found, float)  # as it is: here an infinity is one
        token = page.get("next_page_token")
        if not token:
            return


def _files_here(api: Api, run_id: str) -> dict[str, int]:
    found: dict[str, int] = {}
    waiting = [""]
    while waiting:
        asked = {"run_id": run_id, "path": waiting.pop()}
        for item in api.request("GET", "/api/2.0/mlflow/artifacts/list", params=asked).json()["files"]:
            if item["is_dir"]:
                waiting.append(item["path"])
            else:
                found[item["path"]] = item["file_size"]
    return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:120] + "…"
