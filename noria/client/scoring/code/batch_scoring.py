"""Batch scoring: the predictions of a model for every row of a dataset version, as a new dataset version.

`noria endpoint score` and `noria.score()` register and run it; a schedule or a trigger may start it like any other pipeline.
"""

import os
from typing import Any

from noria.client.pipeline import pipeline, step
from noria.client.scoring import work

if os.environ.get("NORIA_ZYGOTE"):
    work.warm()


@step(timeout="1h")
def prepare(model: str, dataset: str, output: str, keep: list[str] | None, chunk_rows: int, record: bool) -> dict[str, Any]:
    """Look whether the model fits the data, and cut the data into chunks."""
    return work.prepare(model, dataset, output, keep, chunk_rows, record)


@step(cache=True, cache_ignore=["where"], retries=2, timeout="6h")
def predict(chunk: dict[str, Any], how: dict[str, Any], where: dict[str, Any]) -> dict[str, Any]:
    """Score one chunk, unless this model did already."""
    return work.predict(chunk, how, where)


@step(retries=2, timeout="1h")
def gather(parts: list[dict[str, Any]], where: dict[str, Any]) -> dict[str, Any]:
    """Make the scored chunks one dataset version."""
    return work.gather(parts, where)


@pipeline(name="batch-scoring")
def batch_scoring(
    model: str,
    dataset: str,
    output: str = "",
    keep: list[str] | None = None,
    chunk_rows: int = 100_000,
    record: bool = False,
) -> dict[str, Any]:
    """A model's predictions for every row of a dataset version, as a dataset version."""
    plan = prepare(model, dataset, output, keep, chunk_rows, record)
    parts = predict.map(plan["chunks"], how=plan["how"], where=plan["where"])
    return {"scored": gather(parts, plan["where"])}
