"""The sequential test: rarely wrong however often it looks, quick when there is something to find."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.monitoring.sequential import GRID, ArmDifference, CanaryTest, EvidenceAbove


def found_at(x: Any, b: float, *, alpha: float = 0.05, margin: float = 0.0) -> int:
    """The first look at which the evidence suffices, or 0; the same formulas over a whole path at once."""
    n = len(x)
    before = np.concatenate([[0.0], np.cumsum(x)[:-1] / np.arange(1, n)])
    v = np.cumsum(((x - np.clip(before, -1, 1)) / b) ** 2)
    s, w = np.cumsum(x / b), np.arange(1, n + 1) / b
    e = np.outer(s - w * margin, GRID) - np.outer(v, -np.log1p(-GRID) - GRID)
    top = e.max(axis=1)
    over = np.flatnonzero(top + np.log(np.exp(e - top[:, None]).mean(axis=1)) >= -math.log(alpha))
    return int(over[0]) + 1 if len(over) else 0


def differences(rng: Any, n: int, share: float, *, champion: Any, canary: Any) -> Any:
    """x of `n` labels of a random split; losses of both arms are given per outcome."""
    truth = rng.integers(0, 2, n)
    is_canary = rng.random(n) < share
    loss = np.where(is_canary, canary(rng, truth), champion(rng, truth))
    centre = np.full(n, 0.25)
    for outcome in (0, 1):
        at = np.flatnonzero(truth == outcome)
        centre[at[1:]] = np.cumsum(loss[at])[:-1] / np.arange(1, len(at))
    return np.where(is_canary, 1 / share, -1 / (1 - share)) * (loss - centre)


def good(rng: Any, truth: Any) -> Any:
    return (np.clip(rng.normal(0.35 + 0.3 * truth, 0.15), 0, 1) - truth) ** 2


def bad(rng: Any, truth: Any) -> Any:
    return (rng.random(len(truth)) - truth) ** 2


def test_the_class_and_the_whole_path_agree() -> None:
    rng = np.random.default_rng(3)
    x = differences(rng, 400, 0.25, champion=good, canary=bad)
    test, first = EvidenceAbove(), 0
    for i, value in enumerate(x, start=1):
        test.add(float(value), 5.0)
        first = first or (i if test.is_found(0.05) else 0)
    assert first == found_at(x, 5.0) > 0


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_equal_arms_are_almost_never_called_worse(share: float) -> None:
    """400 runs of 3,000 labels, looked at after every one: at most alpha of them may raise an alarm. Far fewer do."""
    rng = np.random.default_rng(11)
    b = 1 / min(share, 1 - share) + 1
    alarms = sum(found_at(differences(rng, 3_000, share, champion=good, canary=good), b) > 0 for _ in range(400))
    assert alarms <= 20


def test_a_worse_arm_is_found_within_a_few_hundred_labels() -> None:
    """Brier .33 against .145: the size of the demo's bad version."""
    rng = np.random.default_rng(12)
    at = [found_at(differences(rng, 2_000, 0.25, champion=good, canary=bad), 5.0) for _ in range(100)]
    assert min(at) > 0
    assert np.median(at) < 400


def test_how_many_labels_more_are_needed_is_about_how_many_it_takes() -> None:
    """Said after the first 60 labels, over 40 canaries: in the middle within a factor of two of what it then took."""
    rng = np.random.default_rng(15)
    said, took = [], []
    for _ in range(40):
        test = EvidenceAbove()
        for i, value in enumerate(differences(rng, 3_000, 0.5, champion=good, canary=bad), start=1):
            test.add(float(value), 3.0)
            if i == 60 and not test.is_found(0.05):
                said.append(60 + (test.more_needed(0.05) or 3_000))
            if test.is_found(0.05):
                took.append(i)
                break
        assert test.more_needed(0.05) == 0
    assert len(said) > 20 and np.median(said) / 2 < np.median(took) < np.median(said) * 2


def test_of_few_labels_and_of_equal_arms_no_number_is_said() -> None:
    few, alike = CanaryTest.start(0.0), CanaryTest.start(0.0)
    for i in range(4_000):
        loss, is_canary = (i // 2 % 2) / 2, bool(i % 2)
        alike.add(is_canary=is_canary, share=0.5, loss=loss, outcome="1")
        if i < 10:
            few.add(is_canary=is_canary, share=0.5, loss=float(is_canary), outcome="1")
    assert few.labels_needed(0.05) is None
    assert alike.labels_needed(0.05) is None
    assert CanaryTest.from_dict(alike.as_dict()).labels_needed(0.05) is None


def test_a_better_arm_is_never_called_worse_and_is_proven_not_to_be() -> None:
    rng = np.random.default_rng(13)
    paths = [differences(rng, 3_000, 0.25, champion=bad, canary=good) for _ in range(60)]
    assert all(found_at(x, 5.0) == 0 for x in paths)
    assert all(found_at(-x, 5.0, margin=-0.02) > 0 for x in paths)


def test_drifting_traffic_does_not_fool_it() -> None:
    """Both arms get worse together, as in a week of snow; nothing is wrong with the canary."""
    rng = np.random.default_rng(14)
    alarms = 0
    for _ in range(200):
        early = differences(rng, 1_000, 0.25, champion=good, canary=good)
        late = differences(rng, 1_000, 0.25, champion=bad, canary=bad)
        alarms += found_at(np.concatenate([early, late]), 5.0) > 0
    assert alarms <= 10


def test_the_bounds_hold_at_every_look() -> None:
    """The true difference stays inside the confidence sequence over the whole path, in at least 1 - 2 alpha of the runs."""
    rng, missed = np.random.default_rng(15), 0
    truth = float(np.mean(bad(rng, rng.integers(0, 2, 200_000))) - np.mean(good(rng, rng.integers(0, 2, 200_000))))
    for _ in range(60):
        test = CanaryTest.start(0.0)
        y = rng.integers(0, 2, 600)
        arms = rng.random(600) < 0.25
        loss = np.where(arms, bad(rng, y), good(rng, y))
        is_missed = False
        for i in range(600):
            test.add(is_canary=bool(arms[i]), share=0.25, loss=float(loss[i]), outcome=str(y[i]))
            if i % 50 == 49:
                low, high = test.bounds(0.05)
                is_missed |= not low <= truth <= high
        missed += is_missed
    assert missed <= 6


def test_shares_may_change_from_step_to_step() -> None:
    """10 % and then 50 %: no false alarm when equal, found when worse."""
    rng, alarms, finds = np.random.default_rng(16), 0, 0
    for canary in (good, bad):
        for _ in range(40):
            test = CanaryTest.start(0.0)
            for share, n in ((0.1, 300), (0.5, 300)):
                y, arms = rng.integers(0, 2, n), rng.random(n) < share
                loss = np.where(arms, canary(rng, y), good(rng, y))
                for i in range(n):
                    test.add(is_canary=bool(arms[i]), share=share, loss=float(loss[i]), outcome=str(y[i]))
            alarms += test.is_worse(0.05) and canary is good
            finds += test.is_worse(0.05) and canary is bad
    assert alarms <= 2
    assert finds >= 39


def test_literals() -> None:
    arms = ArmDifference(seen={})
    assert arms.x(is_canary=True, share=0.25, loss=0.5, outcome="1") == 4 * 0.25  # nothing is known: centre .25
    assert arms.x(is_canary=False, share=0.25, loss=0.5, outcome="1") == 0.0
    assert arms.x(is_canary=False, share=0.25, loss=0.2, outcome="1") == pytest.approx(-(0.2 - 0.5) / 0.75 * 1)
    assert arms.x(is_canary=True, share=0.25, loss=0.0, outcome="0") == -1.0  # another outcome, another centre
    test = CanaryTest.start(0.0)
    assert test.bounds(0.05) == (-1.0, 1.0)
    assert not test.is_worse(0.05)


LOSSES = st.lists(st.tuples(st.booleans(), st.floats(0, 1), st.sampled_from("01")), max_size=60)


@given(LOSSES)
@settings(deadline=None)
def test_it_can_be_put_away_and_taken_up_at_any_label(labels: list[tuple[bool, float, str]]) -> None:
    straight, kept = CanaryTest.start(0.01), CanaryTest.start(0.01)
    for is_canary, loss, outcome in labels:
        straight.add(is_canary=is_canary, share=0.25, loss=loss, outcome=outcome)
        kept = CanaryTest.from_dict(json.loads(json.dumps(kept.as_dict())))
        kept.add(is_canary=is_canary, share=0.25, loss=loss, outcome=outcome)
    assert kept == straight


@given(LOSSES)
@settings(deadline=None)
def test_evidence_never_shrinks_and_bounds_are_ordered(labels: list[tuple[bool, float, str]]) -> None:
    test, peak = CanaryTest.start(0.0), -math.inf
    for is_canary, loss, outcome in labels:
        test.add(is_canary=is_canary, share=0.5, loss=loss, outcome=outcome)
        assert test.worse.peak >= peak
        peak = test.worse.peak
        low, high = test.bounds(0.05)
        assert -1.0 <= low <= high <= 1.0
