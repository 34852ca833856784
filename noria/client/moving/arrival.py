"""The writing end of an import: one run or logged model at a time, into a Noria, so that each may be broken off and repeated.

Begin, send what is missing, seal. The server seals only what it counts to be whole, so whatever carries its mark needs no
second look.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import msgspec

from noria.client.api import Api
from noria.client.moving import fit
from noria.client.moving.model import DELETED, File, Input, Model, Number, Run, Source, Trace, Version
from noria.client.moving.points import POINTS_PER_BATCH, Different, batches
from noria.client.moving.report import ALREADY, NEW, RESUMED, Report
from noria.client.sender import LOG_BATCH, wire
from noria.kernel.errors import Invalid, NotFound, TooLarge
from noria.tracking.model import LOG_CHUNK_BYTES_MAX, PAIRS_PER_REQUEST, PARAMS_PER_BATCH

JSON = {"content-type": "application/json"}
DERIVED_TRACE_TAGS = ("mlflow.artifactLocation", "mlflow.trace.spansLocation")
_IN_RUN = re.compile(r"/([0-9a-zA-Z][\w\-]*)/artifacts(?:/(.*))?\Z")
_IN_MODEL = re.compile(r"/models/(m-[0-9a-zA-Z]+)/artifacts/?\Z")
Owner = Run | Model


class Arrival:
    """Where things arrive. Safe to use from several threads."""

    def __init__(self, api: Api, source: Source, report: Report) -> None:
        self._api, self._source, self._report = api, source, report

    # --- runs -----------------------------------------------------------------------------------------------------------

    def run(self, run: Run, experiment_id: str, *, is_put_away: bool) -> str:
        """Bring a run; says whether it is new, was gone on with, or was whole already.

        `is_put_away`: the run goes with its experiment, not on its own.
        """
        note = self._noter("runs", run.id)
        params, tags = fit.fitting(run.params, "param", note), fit.fitting(run.tags, "tag", note)
        params_first, params_rest = _split(params)
        tags_first, tags_rest = _split(tags)
        begun = self._api.post("/imports/runs", {
            "id": run.id, "experiment_id": experiment_id, "source": self._source.label, "started_at_ms": run.started_at_ms,
            "name": run.name, "user": run.user, "tags": tags_first, "params": params_first,
            "inputs": [_input(i) for i in run.inputs],
            "models": [msgspec.to_builtins(use) for use in run.models],
        })  # fmt: skip
        if begun["is_sealed"]:
            return ALREADY
        if begun["stage"] == DELETED:
            raise Invalid("it was put away here before it was complete; restore it first")
        for why in begun["left_out"]:
            self._report.leave_out("runs", run.id, why, is_lineage=True)
        for part, name in ((params_rest, "params"), (tags_rest, "tags")):
            for few in _parts(part, PARAMS_PER_BATCH):
                self._log_batch(run.id, **{name: [{"key": k, "value": v} for k, v in few.items()]})
        points = self._numbers(run, note)
        there = {} if begun["is_new"] else self._there(run.id)
        sent = self._files(run, experiment_id, there, note)
        self._log_text(run)
        is_named = "mlflow.runName" in tags  # else the server named it
        expected = {
            "points": points, "params": len(params), "tags": len(tags) + (0 if is_named else 1),
            "inputs": len({(i.name, i.digest) for i in run.inputs}), **sent,
        }  # fmt: skip
        is_complete = run.status in ("FINISHED", "FAILED", "KILLED")
        stage = "active" if is_put_away else run.stage
        counted = self._api.post(f"/imports/runs/{run.id}/seal", {
            "status": run.status, "ended_at_ms": run.ended_at_ms, "stage": stage,
            "deleted_at_ms": run.deleted_at_ms if stage == DELETED else None,
            "is_complete": is_complete or stage == DELETED, "expect": expected,
        })  # fmt: skip
        self._report.brought(counted)
        if not is_complete:
            self._report.goes_on(run.id)
        return NEW if begun["is_new"] else RESUMED

    def _numbers(self, run: Run, note: Callable[[str], None]) -> int:
        """Send every point; returns how many different ones there were."""
        different, refused = Different(), 0
        fits: dict[str, bool] = {}

        def kept() -> Iterator[Number]:
            nonlocal refused
            for point in self._source.numbers(run):
                if point.key not in fits:
                    fits[point.key] = fit.fits_key(point.key, note)
                if not fits[point.key]:
                    continue
                if not fit.fits_point(point.at_ms, point.step):
                    refused += 1
                    continue
                different.add(point)
                yield point

        for batch in batches(kept()):
            points = [{"key": p.key, "value": wire(p.value), "timestamp": p.at_ms, "step": p.step} for p in batch]
            self._log_batch(run.id, metrics=points)
        if refused:
            note(f"{refused} points with a time before 1970, or a step beyond 64 bits")
        return different.total()

    def _log_batch(self, run_id: str, **parts: list[dict[str, Any]]) -> None:
        self._api.request("POST", LOG_BATCH, content=msgspec.json.encode({"run_id": run_id, **parts}), headers=JSON)

    def _log_text(self, run: Run) -> None:
        offset = 0
        for text in self._source.log(run):
            for part in _texts(text):
                self._api.post(f"/runs/{run.id}/logs", {"text": part, "offset": offset})
                offset += len(part.encode())

    # --- files ----------------------------------------------------------------------------------------------------------

    def _files(self, owner: Owner, experiment_id: str, there: dict[str, int], note: Callable[[str], None]) -> dict[str, int]:
        """Send the files that are not there; returns how many there must be now, and their size."""
        count = size = 0
        try:
            found = list(self._source.files(owner))
        except (Invalid, NotFound) as refusal:
            note(f"its files: {refusal.message} {refusal.hint}".strip())
            found = []
        for file in found:
            if not fit.fits_path(file.path, note):
                continue
            sent = file.size_bytes
            if there.get(file.path) != file.size_bytes:
                try:
                    sent = self._send(owner, experiment_id, file)
                except (Invalid, NotFound, TooLarge) as refusal:
                    note(f"{file.path}: {refusal.message}")
                    continue
            if sent != file.size_bytes:
                note(f"{file.path}: it has {sent} bytes, though {file.size_bytes} were announced")
            count, size = count + 1, size + sent
        return {"files": count, "file_bytes": size}

    def _send(self, owner: Owner, experiment_id: str, file: File) -> int:
        content = _Content(self._source, owner, file)
        if isinstance(owner, Run):
            self._api.put_bytes(f"/runs/{owner.id}/artifacts/content?path={quote(file.path, safe='')}", content)
        else:
            self._put_mlflow(f"{experiment_id}/models/{owner.id}/artifacts/{file.path}", content)
        return content.sent_bytes

    def _put_mlflow(self, path: str, content: Any) -> None:
        self._api.request(
            "PUT", f"/api/2.0/mlflow-artifacts/artifacts/{quote(path)}", content=content, timeout=600.0,
            headers={"content-type": "application/octet-stream"},
        )  # fmt: skip

    def _there(self, owner_id: str) -> dict[str, int]:
        """The files of a run or a logged model here, without those of the models a run logged."""
        found: dict[str, int] = {}
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            for item in self._list(owner_id, folder):
                if item["is_dir"]:
                    waiting.append(item["path"])
                else:
                    found[item["path"]] = item.get("file_size") or 0
        return found

    def _list(self, owner_id: str, folder: str) -> list[dict[str, Any]]:
        if owner_id.startswith("m-"):
            url, asked = (
                f"/api/2.0/mlflow/logged-models/{owner_id}/artifacts/directories",
                {"artifact_directory_path": folder},
            )
        else:
            url, asked = "/api/2.0/mlflow/artifacts/list", {"run_id": owner_id, "path": folder}
        found: list[dict[str, Any]] = self._api.request("GET", url, params=asked).json()["files"]
        return found

    # --- models ---------------------------------------------------------------------------------------------------------

    def model(self, model: Model, experiment_id: str) -> str:
        """Bring a logged model; says whether it is new, was gone on with, or was whole already."""
        note = self._noter("logged models", model.id)
        params, tags = fit.fitting(model.params, "param", note), fit.fitting(model.tags, "tag", note)
        begun = self._api.post("/imports/logged-models", {
            "id": model.id, "experiment_id": experiment_id, "source": self._source.label, "name": model.name,
            "created_at_ms": model.created_at_ms, "updated_at_ms": model.updated_at_ms, "model_type": model.model_type,
            "source_run_id": model.source_run_id, "tags": tags, "params": params,
        })  # fmt: skip
        if begun["is_sealed"]:
            return ALREADY
        points = [p for p in model.points if fit.fits_point(p.at_ms, p.step)]
        for at in range(0, len(points), POINTS_PER_BATCH):
            few = [msgspec.to_builtins(p) | {"value": wire(p.value)} for p in points[at : at + POINTS_PER_BATCH]]
            self._api.post(f"/imports/logged-models/{model.id}/points", {"points": few})
        there = {} if begun["is_new"] else self._there(model.id)
        sent = self._files(model, experiment_id, there, note)
        distinct = {(p.run_id, p.key, p.step, p.at_ms, repr(p.value + 0.0)) for p in points}
        counted = self._api.post(f"/imports/logged-models/{model.id}/seal", {
            "status": model.status, "status_message": model.status_message, "stage": model.stage,
            "updated_at_ms": model.updated_at_ms,
            "expect": {"points": len(distinct), "params": len(params), "tags": len(tags), **sent},
        })  # fmt: skip
        self._report.brought(counted)
        return NEW if begun["is_new"] else RESUMED

    def version(self, version: Version) -> str:
        """Bring a version of a model; says whether it is new or was there already."""
        path = f"/models/{quote(version.model, safe='')}/versions"
        try:
            was = self._api.get(f"{path}/{version.number}")["version"]
        except NotFound:
            was = None
        made = self._api.post(f"/imports{path}", {
            "number": version.number, "source": source_here(version), "imported_from": self._source.label,
            "created_at_ms": version.created_at_ms, "updated_at_ms": version.updated_at_ms, "run_id": version.run_id,
            "run_link": version.run_link, "description": version.description, "tags": version.tags,
        })  # fmt: skip
        return ALREADY if was is not None and was["id"] == made["id"] else NEW

    # --- traces ---------------------------------------------------------------------------------------------------------

    def trace(self, trace: Trace, experiment_id: str) -> str:
        """Bring a trace with its spans; one that was there already is now as it is elsewhere."""
        url = "/api/3.0/mlflow/traces"
        try:
            self._api.request("GET", f"{url}/{quote(trace.id, safe='')}")
            was_there = True
        except NotFound:
            was_there = False
        info = trace.info | {
            "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment_id}},
            "tags": {k: v for k, v in (trace.info.get("tags") or {}).items() if k not in DERIVED_TRACE_TAGS},
        }  # fmt: skip
        self._api.request("POST", url, content=msgspec.json.encode({"trace": {"trace_info": info}}), headers=JSON)
        if trace.spans:
            self._put_mlflow(f"{experiment_id}/traces/{trace.id}/artifacts/traces.json", trace.spans)
        return ALREADY if was_there else NEW

    def _noter(self, kind: str, name: str) -> Callable[[str], None]:
        return lambda why: self._report.leave_out(kind, name, why)


class _Content:
    """The bytes of a file, read anew each time they are asked for, so that a request can be repeated."""

    def __init__(self, source: Source, owner: Owner, file: File) -> None:
        self._source, self._owner, self._file = source, owner, file
        self.sent_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        self.sent_bytes = 0
        for chunk in self._source.read(self._owner, self._file.path):
            self.sent_bytes += len(chunk)
            yield chunk


def source_here(version: Version) -> str:
    """Where the files of a version are, in words that Noria knows; elsewhere they may be a place in a bucket."""
    source = version.source
    if source.startswith(("runs:/", "models:/")):
        return source
    if found := _IN_MODEL.search(source):
        return f"models:/{found[1]}"
    found = _IN_RUN.search(source)
    if found and (not version.run_id or found[1] == version.run_id):
        return f"runs:/{found[1]}/{found[2]}".rstrip("/") if found[2] else f"runs:/{found[1]}"
    return source  # refused by the server, with its reason


def _input(item: Input) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(item)
    return found


def _split(pairs: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """What fits the first request, and the rest. Tags with a meaning come first: they are read there."""
    keys = sorted(pairs, key=lambda key: (not key.startswith(("mlflow.", "noria.")), key))
    most = PAIRS_PER_REQUEST - 10  # the server adds a few
    return {k: pairs[k] for k in keys[:most]}, {k: pairs[k] for k in keys[most:]}


def _parts(pairs: dict[str, str], size: int) -> Iterator[dict[str, str]]:
    items = list(pairs.items())
    for at in range(0, len(items), size):
        yield dict(items[at : at + size])


def _texts(text: str) -> Iterator[str]:
    most = LOG_CHUNK_BYTES_MAX // 4  # a character has at most four bytes
    for at in range(0, len(text), most):
        yield text[at : at + most]
