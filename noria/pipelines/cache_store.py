"""The rows of the cache: what a step returned, under its key."""

from __future__ import annotations

from typing import Any

from noria.kernel.db import Read, Write


def cached(tx: Read, key: str) -> dict[str, Any] | None:
    found = tx.rows("select step_run_id, outputs, created_at_ms from cache_entry where key = :key", key=key)
    return found[0] if found else None


def last_cached(tx: Read, pipeline: str, step: str) -> dict[str, Any] | None:
    found = tx.rows(
        """select code, inputs from cache_entry where pipeline = :pipeline and step = :step
            order by created_at_ms desc limit 1""",
        pipeline=pipeline, step=step,
    )  # fmt: skip
    return found[0] if found else None


def add_cached(
    tx: Write, *, key: str, pipeline: str, step: str, step_run_id: str, outputs: str, code: str, inputs: str, at_ms: int
) -> None:
    tx.run(
        """insert into cache_entry (key, pipeline, step, step_run_id, outputs, code, inputs, created_at_ms)
           values (:key, :pipeline, :step, :step_run_id, :outputs, :code, :inputs, :at_ms)
           on conflict (key) do update
              set step_run_id = excluded.step_run_id, outputs = excluded.outputs, created_at_ms = excluded.created_at_ms""",
        key=key, pipeline=pipeline, step=step, step_run_id=step_run_id, outputs=outputs, code=code, inputs=inputs,
        at_ms=at_ms,
    )  # fmt: skip
