"""`noria.score()`: ask for predictions of a whole dataset version."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from noria.client.api import Api, connect
from noria.client.datasets import Version, dataset
from noria.client.following import follow, say
from noria.client.pipeline import Pipeline
from noria.client.scoring import work

CODE = Path(__file__).parent / "code" / "batch_scoring.py"
CHUNK_ROWS = 100_000


def score(
    model: str, data: str, *, output: str = "", keep: list[str] | None = None, chunk_rows: int = CHUNK_ROWS,
    record: bool = False, wait: bool = True, show: bool = True, api: Api | None = None,
) -> Any:  # fmt: skip
    """The predictions of a model for every row of a dataset version, as a version of the dataset `output`.

    `model`: a version, `fraud@champion`, or the name of an endpoint, for what it serves. `data`: a dataset version, `claims@latest`.
    `keep`: the columns that stay beside the predictions; by default the key of the table, or all where it has none; ["*"] for all,
    [] for none. `record`: also into the endpoint's record, like live predictions. With `wait`, returns the version; else the run.
    Raises Invalid naming the column that does not fit, before anything runs; PipelineFailed.
    """
    connection = api or connect()
    try:
        run = submit(connection, model, data, output=output, keep=keep, chunk_rows=chunk_rows, record=record)
        if not wait:
            return run
        ended = follow(connection, run["id"], show=say if show else None)
        return scored(connection, ended)
    finally:
        if api is None and not wait:
            connection.close()


def submit(
    api: Api, model: str, data: str, *, output: str, keep: list[str] | None, chunk_rows: int, record: bool
) -> dict[str, Any]:  # fmt: skip
    """Look whether it can be done, and start the run."""
    work.check(api, model, data, output=output, keep=keep, chunk_rows=chunk_rows, record=record)
    params = {"model": model, "dataset": data, "output": output, "keep": keep, "chunk_rows": chunk_rows, "record": record}
    return scoring_pipeline().submit(params, api=api)


def scored(api: Api, run: dict[str, Any]) -> Version:
    """The version that a run made."""
    outputs = run["outputs"]["scored"]["value"]
    return dataset(str(outputs["version"]).rpartition("@")[0], api=api).version(outputs["version_id"])


def scoring_pipeline() -> Pipeline[Any, Any]:
    """The pipeline, from the file that is sent along with it."""
    found = sys.modules.get("batch_scoring")
    if found is None or getattr(found, "__file__", "") != str(CODE):
        spec = importlib.util.spec_from_file_location("batch_scoring", CODE)
        assert spec and spec.loader
        found = importlib.util.module_from_spec(spec)
        sys.modules["batch_scoring"] = found
        spec.loader.exec_module(found)
    pipeline: Pipeline[Any, Any] = found.batch_scoring
    return pipeline
