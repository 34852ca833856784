"""What a sweep searches: the space of its parameters, how it picks from it, when it gives a trial up. Nouns, and their checks."""

from __future__ import annotations

import math
from typing import Any, Literal

from msgspec import Struct

from noria.kernel.errors import Invalid

TRIALS_MAX = 900  # they are steps of a run, which has at most a thousand
PARALLEL_MAX = 100
DIMENSIONS_MAX = 50
OPTIONS_MAX = 200
REPORTS_MAX = 10_000  # of one attempt


class Floats(Struct, frozen=True, tag="floats", tag_field="of"):
    """Numbers from `low` to `high`; with `log`, each order of magnitude as often; with `step`, only low, low + step, …"""

    low: float
    high: float
    log: bool = False
    step: float | None = None


class Ints(Struct, frozen=True, tag="ints", tag_field="of"):
    """Whole numbers from `low` to `high`, both included."""

    low: int
    high: int
    log: bool = False
    step: int = 1


class Choice(Struct, frozen=True, tag="choice", tag_field="of"):
    """One of some plain values."""

    options: list[str | int | float | bool | None]


Dimension = Floats | Ints | Choice
TrialState = Literal["running", "complete", "pruned", "failed"]


class SweepSpec(Struct, frozen=True, kw_only=True):
    """A step tried with many parameters. Its result is that of the best trial."""

    space: dict[str, Dimension]
    metric: str = ""  # the part of what a trial returns, or what it reports; empty: it returns the number itself
    direction: Literal["minimize", "maximize"] = "minimize"
    trials: int = 20
    parallel: int = 2
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    pruner: Literal["none", "median", "hyperband"] = "none"
    patience: int | None = None  # end early when so many trials in a row brought nothing better
    seed: int = 0


class Trial(Struct, frozen=True, kw_only=True):
    """One trial as the sampler sees it. `reports` are values of the metric by step; NaN is None."""

    number: int
    state: TrialState
    params: dict[str, Any]
    value: float | None = None
    reports: dict[int, float | None] = {}


def check_sweep(sweep: SweepSpec, taken: set[str], where: str) -> None:
    """Raises Invalid for a space that is empty or impossible, and for numbers out of range."""
    if not 1 <= len(sweep.space) <= DIMENSIONS_MAX:
        raise Invalid(f"A sweep searches between 1 and {DIMENSIONS_MAX} parameters.", where=where)
    if not 1 <= sweep.trials <= TRIALS_MAX:
        raise Invalid(f"A sweep makes between 1 and {TRIALS_MAX} trials.", where=where)
    if not 1 <= sweep.parallel <= PARALLEL_MAX:
        raise Invalid(f"A sweep runs between 1 and {PARALLEL_MAX} trials at once.", where=where)
    if sweep.patience is not None and sweep.patience < 1:
        raise Invalid("patience is a number of trials, at least 1.", where=where)
    for name, dimension in sweep.space.items():
        if name in taken:
            raise Invalid(f"{name} is given and searched for at once.", where=where, hint="Leave it out of one of the two.")
        _check_dimension(name, dimension, where)
    if sweep.sampler == "grid":
        for name, dimension in sweep.space.items():
            if isinstance(dimension, Floats) and dimension.step is None:
                raise Invalid(
                    f"A grid has no points along {name}.", where=where, hint="Give it a step, or use noria.choice([...])."
                )


def _check_dimension(name: str, dimension: Dimension, where: str) -> None:
    if isinstance(dimension, Choice):
        if not 1 <= len(dimension.options) <= OPTIONS_MAX:
            raise Invalid(f"{name} has between 1 and {OPTIONS_MAX} options.", where=where)
        return
    low, high, step = dimension.low, dimension.high, dimension.step
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise Invalid(f"{name} goes from {low} to {high}; the lower end comes first.", where=where)
    if step is not None and not 0 < step < math.inf:
        raise Invalid(f"The step of {name} is greater than 0.", where=where)
    if dimension.log and (low <= 0 or (isinstance(dimension, Floats) and step is not None) or step not in (None, 1)):
        raise Invalid(f"{name} is searched by orders of magnitude, so it starts above 0 and has no step.", where=where)


def best(sweep: SweepSpec, trials: list[Trial]) -> Trial | None:
    """The complete trial with the best value, the earlier of two equal ones; None when there is none."""
    sign = 1.0 if sweep.direction == "minimize" else -1.0
    done = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    return min(done, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)


def is_enough(sweep: SweepSpec, trials: list[Trial]) -> bool:
    """Were as many trials begun as were asked for, or did the last ones bring nothing better?"""
    if len(trials) >= sweep.trials:
        return True
    if sweep.patience is None:
        return False
    ended = [trial for trial in trials if trial.state != "running"]
    found = best(sweep, ended)
    return found is not None and sum(trial.number > found.number for trial in ended) >= sweep.patience
