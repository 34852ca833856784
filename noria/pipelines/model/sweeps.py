"""Sweeps and their trials, as a page shows them, and what trials report."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from noria.pipelines.model.steps import StepRun, StepState
from noria.pipelines.space import SweepSpec, TrialState


class Report(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Numbers that a step reports while it works. A number that is not finite is sent as null."""

    attempt: int
    step: int
    values: dict[str, float | None]


class Verdict(Struct, frozen=True, kw_only=True):
    """The answer to a report: is the trial to be given up?"""

    prune: bool = False
    reason: str = ""


class Reported(Struct, frozen=True, kw_only=True):
    """What a step reported of one number while it worked, in its current try: (step, value), thinned."""

    name: str
    points: list[tuple[int, float | None]]


class TrialView(Struct, frozen=True, kw_only=True):
    """A trial of a sweep, as a page shows it. `reports`: (step, value) of the metric, thinned."""

    number: int
    step_run_id: str
    state: StepState
    outcome: TrialState
    params: dict[str, Any]
    value: float | None = None
    reports: list[tuple[int, float | None]] = []
    reason: str = ""
    started_at_ms: int | None = None
    ended_at_ms: int | None = None


class Sweep(Struct, frozen=True, kw_only=True):
    """A sweep with its trials; `best` is the number of the best so far."""

    step: StepRun
    spec: SweepSpec
    trials: list[TrialView]
    best: int | None = None
