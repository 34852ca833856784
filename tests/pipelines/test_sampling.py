"""Samplers and pruners over rows: what is drawn lies in its space, a study made anew goes on, a grid is gone through once."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.kernel.errors import Invalid
from noria.pipelines.sampling import grid, propose, should_prune
from noria.pipelines.space import Choice, Floats, Ints, SweepSpec, Trial, best, check_sweep, is_enough

numbers = st.floats(1e-3, 1e3)
dimensions = st.one_of(
    st.tuples(numbers, numbers, st.booleans()).map(lambda t: Floats(min(t[:2]), max(t[:2]), t[2])),
    st.tuples(st.integers(1, 50), st.integers(1, 50), st.booleans()).map(lambda t: Ints(min(t[:2]), max(t[:2]), t[2])),
    st.lists(st.one_of(st.text(max_size=5), st.integers(0, 9), st.booleans()), min_size=1, max_size=5, unique_by=repr).map(
        Choice
    ),
)


def complete(number: int, params: dict[str, Any], value: float, reports: dict[int, float | None] | None = None) -> Trial:
    return Trial(number=number, state="complete", params=params, value=value, reports=reports or {})


@settings(max_examples=30)
@given(
    st.dictionaries(st.sampled_from("abc"), dimensions, min_size=1), st.sampled_from(["tpe", "random"]), st.integers(0, 12)
)
def test_what_is_drawn_lies_in_the_space(space: dict[str, Any], sampler: Any, known: int) -> None:
    sweep = SweepSpec(space=space, sampler=sampler, trials=20, seed=3)
    check_sweep(sweep, set(), "sweep")
    trials: list[Trial] = []
    for number in range(known):
        trials.append(complete(number, propose(sweep, trials, 1)[0], float(number)))
    drawn = propose(sweep, trials, 3)
    assert drawn == propose(sweep, trials, 3), "the same trials and seed draw the same"
    for params in drawn:
        assert set(params) == set(space)
        for name, value in params.items():
            dimension = space[name]
            if isinstance(dimension, Choice):
                assert any(value == option and type(value) is type(option) for option in dimension.options)
            else:
                assert dimension.low <= value <= dimension.high


def test_the_sampler_learns_from_rows() -> None:
    sweep = SweepSpec(space={"x": Floats(-10, 10)}, trials=60, seed=1)
    trials: list[Trial] = []
    for number in range(60):
        x = propose(sweep, trials, 1)[0]["x"]
        trials.append(complete(number, {"x": x}, (x - 3) ** 2))
    early, late = ([abs(t.params["x"] - 3) for t in part] for part in (trials[:15], trials[-15:]))
    assert sum(late) < sum(early) / 2
    assert abs((best(sweep, trials) or trials[0]).params["x"] - 3) < 0.5


def test_trials_under_way_are_not_drawn_again() -> None:
    sweep = SweepSpec(space={"x": Floats(0, 1)}, trials=30, seed=1)
    done = [complete(n, {"x": n / 12}, (n / 12 - 0.5) ** 2) for n in range(12)]
    running = [Trial(number=12, state="running", params=propose(sweep, done, 1)[0])]
    assert propose(sweep, [*done, *running], 1)[0] != running[0].params


def test_a_grid_is_gone_through_once_and_in_order() -> None:
    sweep = SweepSpec(
        space={"a": Ints(1, 3), "b": Choice(["x", None]), "c": Floats(0, 0.3, step=0.1)}, sampler="grid", trials=100
    )
    points = grid(sweep)
    assert len(points) == 3 * 2 * 4 and points[0] == {"a": 1, "b": "x", "c": 0.0} and points[-1]["c"] == pytest.approx(0.3)
    trials: list[Trial] = []
    while drawn := propose(sweep, trials, 5):
        trials += [complete(len(trials) + i, params, 0.0) for i, params in enumerate(drawn)]
    assert [t.params for t in trials] == points


def test_a_grid_that_is_too_fine_is_refused() -> None:
    with pytest.raises(Invalid, match="more than"):
        grid(SweepSpec(space={"a": Ints(1, 1000), "b": Ints(1, 1000)}, sampler="grid"))


@pytest.mark.parametrize(("direction", "is_pruned"), [("minimize", True), ("maximize", False)])
def test_the_median_gives_up_what_is_worse(direction: Any, is_pruned: bool) -> None:
    sweep = SweepSpec(space={"x": Floats(0, 1)}, pruner="median", direction=direction)
    done = [complete(n, {"x": 0.5}, 1.0, {0: 1.0, 1: 1.0}) for n in range(6)]
    bad = Trial(number=6, state="running", params={"x": 0.1}, reports={0: 9.0, 1: 9.0})
    assert should_prune(sweep, [*done, bad], 6) is is_pruned
    lost = Trial(number=6, state="running", params={"x": 0.1}, reports={0: None})  # NaN
    assert should_prune(sweep, [*done, lost], 6)
    assert not should_prune(sweep, [bad], 6), "nothing to compare with"


def test_enough_is_enough() -> None:
    sweep = SweepSpec(space={"x": Ints(0, 9)}, trials=9, patience=3)
    trials = [complete(n, {"x": n}, v) for n, v in enumerate([5.0, 1.0, 2.0, math.pi])]
    assert not is_enough(sweep, trials) and is_enough(sweep, [*trials, complete(4, {"x": 4}, 1.0)])
