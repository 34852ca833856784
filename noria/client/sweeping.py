"""A sweep: one step tried with many parameters, in parallel, and the best of what it gave.

best = noria.sweep(train, table, space={"lr": noria.floats(1e-4, 1e-1, log=True), "depth": noria.ints(2, 8)},
                   metric="loss", trials=30, parallel=4, pruner="median")
score(best, test), register(best, best.params)
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal

from noria.client.tracing import Output, tracing
from noria.kernel.errors import Invalid
from noria.pipelines.space import Choice, Dimension, Floats, Ints, SweepSpec, check_sweep


def floats(low: float, high: float, *, log: bool = False, step: float | None = None) -> Floats:
    """Numbers from `low` to `high`, both included. `log`: each order of magnitude is as likely as the next."""
    return Floats(float(low), float(high), log, None if step is None else float(step))


def ints(low: int, high: int, *, log: bool = False, step: int = 1) -> Ints:
    """Whole numbers from `low` to `high`, both included."""
    return Ints(int(low), int(high), log, int(step))


def choice(options: list[Any] | tuple[Any, ...]) -> Choice:
    """One of some plain values. Raises Invalid for others."""
    for option in options:
        if option is not None and not isinstance(option, str | int | float | bool):
            raise Invalid(
                f"A {type(option).__name__} is no option of a sweep.",
                hint="Use texts and numbers, and look the thing up in the step.",
            )
    return Choice(list(options))


class Best(Output):
    """What the best trial of a sweep returns; `params`, `value` and `trial` (its number) are outputs too."""

    @property
    def params(self) -> Output:
        return Output(self._step, ("params",))

    @property
    def value(self) -> Output:
        return Output(self._step, ("value",))

    @property
    def trial(self) -> Output:
        return Output(self._step, ("trial",))


def sweep(
    step: Any, /, *args: Any, space: Mapping[str, Dimension | list[Any]], metric: str = "",
    direction: Literal["minimize", "maximize"] = "minimize", trials: int = 20, parallel: int = 2,
    sampler: Literal["tpe", "random", "grid"] = "tpe", pruner: Literal["none", "median", "hyperband"] = "none",
    patience: int | None = None, seed: int = 0, **kwargs: Any,
) -> Best:  # fmt: skip
    """Try `step` with parameters out of `space`; the other arguments are given as in a call, and are the same for all trials.

    `metric`: the part of what the step returns that is to be small (or large, with `direction="maximize"`), or the name under which
    it reports it (`noria.report`); empty when it returns the number itself. `trials`: how many, at most. `parallel`: how many at once.
    `pruner`: gives trials up that report worse numbers than others did. `patience`: end when so many trials in a row brought nothing.
    A trial that fails is no reason for the sweep to fail; one that no trial succeeds in is.
    """
    trace = tracing("noria.sweep")
    found = {name: choice(d) if isinstance(d, list | tuple) else d for name, d in space.items()}
    for name, dimension in found.items():
        if not isinstance(dimension, Floats | Ints | Choice):
            raise Invalid(
                f"The space of {name} is a {type(dimension).__name__}.",
                hint="Use noria.floats(low, high), noria.ints(low, high) or a list of options.",
            )
    known = inspect.signature(step.function).parameters
    for name in found:
        if name not in known:
            raise Invalid(f"{step.function.__name__} has no parameter {name!r} to search for.")
    # As plain values: what a parameter of the pipeline says here is part of the graph.
    spec = SweepSpec(
        space=found, metric=str(metric), direction=str(direction), trials=int(trials), parallel=int(parallel),  # type: ignore[arg-type]
        sampler=str(sampler), pruner=str(pruner), patience=None if patience is None else int(patience), seed=int(seed),  # type: ignore[arg-type]
    )  # fmt: skip
    check_sweep(spec, set(), "sweep")
    return Best(trace.sweep(step, args, kwargs, spec), ("best",))
