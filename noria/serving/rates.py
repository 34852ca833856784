"""How often each caller may ask: a bucket of tokens per caller, filled at the rate, never above the burst."""

from __future__ import annotations

CALLERS_MAX = 10_000


class Rates:
    """The buckets of one revision."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._rate_per_s = rate_per_s
        self._burst = float(burst or max(1, round(rate_per_s)))
        self._buckets: dict[str, tuple[float, float]] = {}  # caller: (tokens, as of)

    def take(self, caller: str, now_s: float) -> float:
        """0 when the caller may go on; else the seconds until one may."""
        tokens, as_of_s = self._buckets.get(caller, (self._burst, now_s))
        tokens = min(self._burst, tokens + (now_s - as_of_s) * self._rate_per_s)
        if tokens < 1:
            return (1 - tokens) / self._rate_per_s
        if caller not in self._buckets and len(self._buckets) >= CALLERS_MAX:
            self._forget(now_s)
        self._buckets[caller] = (tokens - 1, now_s)
        return 0.0

    def _forget(self, now_s: float) -> None:
        """Full buckets say nothing; of the others, those that were asked least lately go."""
        full_after_s = self._burst / self._rate_per_s
        kept = sorted(((c, b) for c, b in self._buckets.items() if now_s - b[1] < full_after_s), key=lambda item: item[1][1])
        self._buckets = dict(kept[-CALLERS_MAX // 2 :])
