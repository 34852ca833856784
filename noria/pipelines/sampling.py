"""Optuna's samplers and pruners over our rows: a study is made in memory from the trials there are, asked, and forgotten.

So Optuna keeps nothing, and a restart changes nothing. Sampling is a function of the sweep's seed and the trials.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

from noria.kernel.errors import Invalid
from noria.pipelines.space import Choice, Dimension, Floats, Ints, SweepSpec, Trial

STARTUP_TRIALS = 5  # before these have ended, the median says nothing
GRID_MAX = 100_000


def require_optuna() -> Any:
    """The library. Raises Invalid when it is not installed."""
    try:
        import optuna
    except ModuleNotFoundError as missing:
        raise Invalid("Sweeps need Optuna on the server.", hint="pip install 'noria[sweep]'") from missing
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def propose(sweep: SweepSpec, trials: list[Trial], count: int) -> list[dict[str, Any]]:
    """The parameters of the next trials, at most `count`; fewer when a grid has no more points."""
    if sweep.sampler == "grid":
        return _rest_of_grid(sweep, trials)[:count]
    optuna = require_optuna()
    study = _study(optuna, sweep, trials)
    dimensions = {name: _distribution(optuna, dimension) for name, dimension in sweep.space.items()}
    return [dict(study.ask(dimensions).params) for _ in range(count)]


def should_prune(sweep: SweepSpec, trials: list[Trial], number: int) -> bool:
    """Is trial `number`, which still runs, to be given up after what it reported?"""
    if sweep.pruner == "none":
        return False
    optuna = require_optuna()
    study = _study(optuna, sweep, trials)
    found = next(t for t in study.get_trials(deepcopy=False) if t.user_attrs["number"] == number)
    return bool(found.intermediate_values) and bool(_pruner(optuna, sweep).prune(study, found))


def grid(sweep: SweepSpec) -> list[dict[str, Any]]:
    """Every point of a grid, the last parameter changing first. Raises Invalid when there are too many."""
    axes = {name: _points(dimension) for name, dimension in sweep.space.items()}
    if math.prod(len(axis) for axis in axes.values()) > GRID_MAX:
        raise Invalid(f"The grid has more than {GRID_MAX:,} points.", hint="Use fewer, or another sampler.")
    return [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]


def _rest_of_grid(sweep: SweepSpec, trials: list[Trial]) -> list[dict[str, Any]]:
    return grid(sweep)[len(trials) :]


def _points(dimension: Dimension) -> list[Any]:
    if isinstance(dimension, Choice):
        return list(dimension.options)
    if isinstance(dimension, Ints):
        return list(range(dimension.low, dimension.high + 1, dimension.step))
    assert dimension.step is not None
    count = math.floor((dimension.high - dimension.low) / dimension.step + 1e-9) + 1
    return [dimension.low + i * dimension.step for i in range(count)]


def _study(optuna: Any, sweep: SweepSpec, trials: list[Trial]) -> Any:
    study = optuna.create_study(
        study_name="sweep",
        direction=sweep.direction,
        sampler=_sampler(optuna, sweep, len(trials)),
        pruner=_pruner(optuna, sweep),
    )
    dimensions = {name: _distribution(optuna, dimension) for name, dimension in sweep.space.items()}
    states = optuna.trial.TrialState
    words = {"complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL, "running": states.RUNNING}
    for trial in trials:
        reports = {step: math.nan if value is None else value for step, value in trial.reports.items()}
        study.add_trial(
            optuna.trial.create_trial(
                state=words[trial.state], params=trial.params, distributions=dimensions, intermediate_values=reports,
                value=trial.value if trial.state == "complete" else None, user_attrs={"number": trial.number},
            )
        )  # fmt: skip
    return study


def _sampler(optuna: Any, sweep: SweepSpec, count: int) -> Any:
    seed = (sweep.seed * 1_000_003 + count) % (1 << 32)  # a study is made anew each time; it must not draw the same again
    if sweep.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, constant_liar=True, n_startup_trials=min(10, max(1, sweep.trials // 3)))


def _pruner(optuna: Any, sweep: SweepSpec) -> Any:
    if sweep.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS)
    if sweep.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource="auto", reduction_factor=3)
    return optuna.pruners.NopPruner()


def _distribution(optuna: Any, dimension: Dimension) -> Any:
    kinds = optuna.distributions
    if isinstance(dimension, Choice):
        return kinds.CategoricalDistribution(dimension.options)
    if isinstance(dimension, Floats):
        return kinds.FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)
    assert isinstance(dimension, Ints)
    return kinds.IntDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)
