"""The rows of the tries of steps, and their output."""

from __future__ import annotations

import msgspec

from noria.kernel.db import Read, Write
from noria.pipelines.model.places import Place
from noria.pipelines.model.steps import Attempt


def add_attempt(tx: Write, step_id: str, number: int, worker: str, at_ms: int, *, claim: str) -> None:
    tx.run(
        """insert into attempt (step_run_id, number, worker, state, started_at_ms, claim)
           values (:id, :number, :worker, 'running', :at_ms, :claim)""",
        id=step_id, number=number, worker=worker, at_ms=at_ms, claim=claim,
    )  # fmt: skip


def end_attempt(
    tx: Write, step_id: str, number: int, *, state: str, at_ms: int, error: str = "", exit_code: int | None = None,
    environment: str = "", memory_peak_bytes: int | None = None,
) -> None:  # fmt: skip
    tx.run(
        """update attempt set state = :state, ended_at_ms = :at_ms, error = :error, exit_code = :code,
                              environment_digest = :environment, memory_peak_bytes = :peak
            where step_run_id = :id and number = :number""",
        id=step_id, number=number, state=state, at_ms=at_ms, error=error[:4000], code=exit_code, environment=environment,
        peak=memory_peak_bytes,
    )  # fmt: skip


def attempts(tx: Read, run_id: str) -> dict[str, list[Attempt]]:
    """Every try of every step of a run, by step."""
    found = tx.rows(
        """select a.step_run_id, a.number, a.worker, a.state, a.started_at_ms, a.ended_at_ms, a.exit_code, a.error,
                  a.environment_digest, a.memory_peak_bytes, a.place
             from attempt a join step_run s on s.id = a.step_run_id
            where s.run_id = :id order by a.step_run_id, a.number limit 20000""",
        id=run_id,
    )
    grouped: dict[str, list[Attempt]] = {}
    for row in found:
        step_id, place = row.pop("step_run_id"), msgspec.json.decode(row.pop("place"), type=Place)
        grouped.setdefault(step_id, []).append(Attempt(**row, place=place))
    return grouped


def attempt_log_bytes(tx: Read, step_id: str, number: int, worker: str) -> int | None:
    """How much of this attempt's output is kept; None when the worker does not hold it."""
    found = tx.scalar(
        """select a.log_bytes from attempt a join step_run s on s.id = a.step_run_id
            where a.step_run_id = :id and a.number = :number and a.worker = :worker and s.attempt = a.number""",
        id=step_id, number=number, worker=worker,
    )  # fmt: skip
    return None if found is None else int(found)


def append_log(tx: Write, step_id: str, text: str, *, attempt: int | None, size_bytes: int) -> int:
    """Add to a step's output; returns its new length in bytes."""
    start = int(
        tx.scalar(
            "update step_run set log_bytes = log_bytes + :n where id = :id returning log_bytes", id=step_id, n=size_bytes
        )
    )
    tx.run(
        "insert into step_log (step_run_id, start, body) values (:id, :start, :body)",
        id=step_id, start=start - size_bytes, body=text,
    )  # fmt: skip
    if attempt is not None:
        tx.run(
            "update attempt set log_bytes = log_bytes + :n where step_run_id = :id and number = :number",
            id=step_id, number=attempt, n=size_bytes,
        )  # fmt: skip
    return start


def log_chunks(tx: Read, step_id: str, offset: int, limit: int) -> list[tuple[int, str]]:
    """Pieces of a step's output from the one that holds `offset` on, oldest first."""
    first = tx.scalar(
        "select max(start) from step_log where step_run_id = :id and start <= :offset", id=step_id, offset=offset
    )
    found = tx.rows(
        "select start, body from step_log where step_run_id = :id and start >= :first order by start limit :limit",
        id=step_id, first=first or 0, limit=limit,
    )  # fmt: skip
    return [(int(row["start"]), str(row["body"])) for row in found]
