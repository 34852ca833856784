"""Always-valid tests of one question: is the canary's loss worse than the champion's? NumPy only, constant memory.

A fixed-horizon test that is looked at every day finds a difference sooner or later, even between two equal arms. These may be looked
at after every label: the chance that a harmless canary is EVER called worse is at most alpha.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
GRID = np.geomspace(0.05, 0.95, 12)  # bets, as shares of the largest that is allowed
_PSI = -np.log1p(-GRID) - GRID
SEEN_MIN = 30  # of fewer, nothing is said of how it goes on
FURTHER_MAX = 1000  # times as many as there were: beyond that nobody waits for it
_BOUND_MAX = 1.0  # losses lie in [0, 1], so a difference lies in [-1, 1]


class EvidenceAbove(Struct, kw_only=True):
    """Evidence that the running mean of x is above `margin`; may be looked at after every x.

    For x - m ≥ -b with m the mean of what came before, exp(l·(x - mean) - psi(l)·(x - m)²) with psi(l) = (-log(1 - l·b) - l·b)/b² has
    an expectation of at most 1 for 0 < l < 1/b. So the product over all x is a supermartingale while the mean is not above the margin,
    and so is the average over a grid of l; by Ville's inequality the chance that it ever reaches 1/alpha is at most alpha. With
    l = f/b for a fixed share f, b may change from one x to the next as long as it is known before x, as the split of a canary is.

    Source: Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics
    49(2), 2021: the empirical-Bernstein bound (Theorem 4) and discrete mixtures. It is about the (weighted) running mean of conditional
    means, so the traffic may drift.
    """

    margin: float = 0.0
    n: int = 0
    total: float = 0.0  # Σ x, for the mean of what came before
    s: float = 0.0  # Σ x / b
    w: float = 0.0  # Σ 1 / b
    v: float = 0.0  # Σ ((x - m) / b)²
    peak: float = -math.inf  # the largest log-evidence so far; a bet that was won stays won

    def add(self, x: float, b: float) -> None:
        """Take one x ≥ m - b."""
        mean = self.total / self.n if self.n else 0.0
        self.v += ((x - min(max(mean, -1.0), 1.0)) / b) ** 2
        self.total += x
        self.s += x / b
        self.w += 1 / b
        self.n += 1
        self.peak = max(self.peak, self.log_evidence(self.margin))

    def log_evidence(self, margin: float) -> float:
        """The log of the evidence, now, that the mean is above `margin`."""
        e = GRID * (self.s - self.w * margin) - _PSI * self.v
        top = float(e.max())
        return top + math.log(float(np.mean(np.exp(e - top))))

    def is_found(self, alpha: float) -> bool:
        return self.peak >= -math.log(alpha)

    def more_needed(self, alpha: float) -> int | None:
        """How many more x until it is found, when they come as those so far did; 0 when it is, None when that may never be.

        A plan, not a test: nothing is decided by it. Sums grow with the number of x, so the log of each bet grows in proportion.
        """
        if self.is_found(alpha):
            return 0
        bets, enough = GRID * (self.s - self.w * self.margin) - _PSI * self.v, -math.log(alpha)

        def suffices(times: float) -> bool:
            e = times * bets
            top = float(e.max())
            return top + math.log(float(np.mean(np.exp(e - top)))) >= enough

        if self.n < SEEN_MIN or not suffices(FURTHER_MAX):
            return None
        low, high = 1.0, float(FURTHER_MAX)
        for _ in range(40):
            middle = math.sqrt(low * high)
            low, high = (low, middle) if suffices(middle) else (middle, high)
        return max(1, math.ceil(self.n * (high - 1)))

    def lower_bound(self, alpha: float) -> float:
        """The mean of x is above this, at every time at once, with probability 1 - alpha. -1 when nothing is known."""
        low, high = -_BOUND_MAX, _BOUND_MAX
        if not self.n or self.log_evidence(low) < -math.log(alpha):
            return low
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if self.log_evidence(middle) >= -math.log(alpha) else (low, middle)
        return low


class ArmDifference(Struct, kw_only=True):
    """Turns one label of a random split into x with mean loss(canary) - loss(champion). Losses lie in [0, 1].

    x = (loss - c) / share in the canary arm and -(loss - c) / (1 - share) in the champion's (inverse propensity weights); c, the mean
    loss of both arms over EARLIER labels with the same outcome, only takes variance away. Needs an arm drawn afresh for each label: a
    hash of a key that is used once, such as flight and date, not flight.
    """

    seen: dict[str, tuple[float, int]] = {}

    def x(self, *, is_canary: bool, share: float, loss: float, outcome: str) -> float:
        total, count = self.seen.get(outcome, (0.0, 0))
        self.seen[outcome] = (total + loss, count + 1)
        centre = total / count if count else 0.25
        return (1 / share if is_canary else -1 / (1 - share)) * (loss - centre)


class CanaryTest(Struct, kw_only=True):
    """Both questions about one canary: is it worse by more than `margin`, and is it proven not to be?"""

    margin: float
    worse: EvidenceAbove
    not_worse: EvidenceAbove
    arms: ArmDifference

    @classmethod
    def start(cls, margin: float) -> CanaryTest:
        return cls(
            margin=margin, worse=EvidenceAbove(margin=margin), not_worse=EvidenceAbove(margin=-margin),
            arms=ArmDifference(seen={}),
        )  # fmt: skip

    def add(self, *, is_canary: bool, share: float, loss: float, outcome: str) -> None:
        """Take one label. `share` is the canary's share of the traffic when the answer was given, in (0, 1)."""
        b = 1 / min(share, 1 - share) + 1
        x = self.arms.x(is_canary=is_canary, share=share, loss=min(max(loss, 0.0), 1.0), outcome=outcome)
        self.worse.add(x, b)
        self.not_worse.add(-x, b)

    def is_worse(self, alpha: float) -> bool:
        return self.worse.is_found(alpha)

    def is_not_worse(self, alpha: float) -> bool:
        return self.not_worse.is_found(alpha)

    def labels_needed(self, alpha: float) -> int | None:
        """About how many more labels until one of both questions is answered; None when that may never be."""
        found = [n for n in (self.worse.more_needed(alpha), self.not_worse.more_needed(alpha)) if n is not None]
        return min(found, default=None)

    def bounds(self, alpha: float) -> tuple[float, float]:
        """loss(canary) - loss(champion) lies between these, each bound at every time at once with probability 1 - alpha."""
        return self.worse.lower_bound(alpha), -self.not_worse.lower_bound(alpha)

    def as_dict(self) -> dict[str, Any]:
        import msgspec

        found: dict[str, Any] = msgspec.to_builtins(self)
        for side in ("worse", "not_worse"):  # JSON knows no infinity
            found[side]["peak"] = found[side]["peak"] if math.isfinite(found[side]["peak"]) else None
        return found

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> CanaryTest:
        import msgspec

        for side in ("worse", "not_worse"):
            if value[side]["peak"] is None:
                value[side]["peak"] = -math.inf
        return msgspec.convert(value, cls)
