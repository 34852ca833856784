"""The part of a query that both lists, of schedules and of triggers, narrow themselves by."""

from __future__ import annotations

from typing import Any


def narrowed(pipeline: str, names: list[str] | None) -> tuple[str, dict[str, Any]]:
    where, args = "", dict[str, Any]()
    if pipeline:
        where, args = "and pipeline = :pipeline", {"pipeline": pipeline}
    if names is not None:
        where += " and pipeline in :names"
        args["names"] = names
    return where, args
