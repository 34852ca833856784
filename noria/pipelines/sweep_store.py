"""The rows of sweeps: what steps report while they work, and trials as the sampler sees them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from noria.kernel.db import Read, Write, js
from noria.pipelines import graph
from noria.pipelines.model.steps import StepRun, StepState
from noria.pipelines.model.sweeps import Report
from noria.pipelines.space import SweepSpec, Trial, TrialState

_STATES: dict[StepState, TrialState] = {
    "succeeded": "complete",
    "skipped": "pruned",
    "failed": "failed",
    "cancelled": "failed",
}


def under_way(tx: Read) -> list[tuple[str, str]]:
    """(step run, run) of the sweeps that run."""
    return tx.tuples(
        "select id, run_id from step_run where state = 'running' and kind = 'sweep' order by started_at_ms, id limit 1000"
    )


def trials(tx: Read, sweep: SweepSpec, elements: list[StepRun]) -> list[Trial]:
    """The trials of a sweep as they stand. One that ended well without a number counts as failed."""
    reports = reports_of(tx, {each.id: each.attempt for each in elements}, sweep.metric)
    found = []
    for each in elements:
        assert each.spec is not None
        state, told = _STATES.get(each.state, "running"), reports.get(each.id, {})
        value = None
        if state == "complete":
            value = graph.metric(each.outputs, sweep.metric)
            value = told[max(told)] if value is None and told else value
            state = "failed" if value is None else state
        params = graph.trial_params(each.spec, sweep)
        found.append(Trial(number=each.item, state=state, params=params, value=value, reports=told))
    return found


def keep(tx: Write, step_run_id: str, report: Report, at_ms: int) -> int:
    """Keep what a step reports; the same step of it again replaces it. Returns how many reports the attempt has."""
    tx.run(
        """insert into step_report (step_run_id, attempt, step, metrics, at_ms)
           values (:id, :attempt, :step, :metrics, :at_ms)
           on conflict (step_run_id, attempt, step) do update set metrics = excluded.metrics, at_ms = excluded.at_ms""",
        id=step_run_id, attempt=report.attempt, step=report.step, metrics=js(report.values), at_ms=at_ms,
    )  # fmt: skip
    count = "select count(*) from step_report where step_run_id = :id and attempt = :attempt"
    return int(tx.scalar(count, id=step_run_id, attempt=report.attempt))


def prune(tx: Write, step_run_id: str, attempt: int, step: int) -> None:
    """Note that the attempt was told to give up after this step."""
    tx.run(
        "update step_report set pruned = :yes where step_run_id = :id and attempt = :attempt and step = :step",
        yes=True, id=step_run_id, attempt=attempt, step=step,
    )  # fmt: skip


def pruned_at(tx: Read, step_run_id: str, attempt: int) -> int | None:
    """The step after which the attempt was told to give up."""
    found: int | None = tx.scalar(
        "select min(step) from step_report where step_run_id = :id and attempt = :attempt and pruned = :yes",
        id=step_run_id, attempt=attempt, yes=True,
    )  # fmt: skip
    return found


def reported(tx: Read, step_run_id: str, attempt: int) -> dict[str, list[tuple[int, float | None]]]:
    """What a try reported, by name, in the order of its steps."""
    rows = tx.tuples(
        "select step, metrics from step_report where step_run_id = :id and attempt = :attempt order by step",
        id=step_run_id, attempt=attempt,
    )  # fmt: skip
    found: dict[str, list[tuple[int, float | None]]] = {}
    for step, body in rows:
        for name, value in msgspec.json.decode(body).items():
            found.setdefault(name, []).append((int(step), value))
    return found


def reports_of(tx: Read, attempts: Mapping[str, int], metric: str) -> dict[str, dict[int, float | None]]:
    """What the current attempts reported of a metric, by step run and step; when it has no name, of the only one they report."""
    rows = tx.tuples(
        "select step_run_id, attempt, step, metrics from step_report where step_run_id in :ids order by step",
        ids=list(attempts),
    )
    found: dict[str, dict[int, float | None]] = {}
    for step_run_id, attempt, step, body in rows:
        values: dict[str, float | None] = msgspec.json.decode(body)
        name = metric if metric or len(values) != 1 else next(iter(values))
        if attempt == attempts[step_run_id] and name in values:
            found.setdefault(step_run_id, {})[int(step)] = values[name]
    return found
