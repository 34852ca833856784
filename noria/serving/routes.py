"""Who answers: a sticky hash of a key to one of 10,000 buckets, and buckets to revisions by weight.

The canary has the lowest buckets, so a key that is in it at 25 % is still in it at 50 %.
"""

from __future__ import annotations

import hashlib
import math
from typing import Generic, TypeVar

from noria.serving.model import BUCKETS, Route

L = TypeVar("L")
_WIDTH = math.log(1.12)


class Split(Generic[L]):
    """The routes of one endpoint, ready to pick from. `L` is whatever answers for a revision."""

    def __init__(self, endpoint: str, routes: list[Route], lanes: dict[str, L]) -> None:
        self._salt = hashlib.blake2b(endpoint.encode(), digest_size=8)
        ordered = sorted((r for r in routes if r.weight > 0), key=lambda r: r.role != "canary")
        self._limits: list[tuple[int, L, str]] = []
        upto = 0
        for route in ordered:
            if route.revision_id in lanes:
                upto += route.weight * (BUCKETS // 100)
                self._limits.append((upto, lanes[route.revision_id], route.role))
        self.shadows: list[L] = [lanes[r.revision_id] for r in routes if r.role == "shadow" and r.revision_id in lanes]
        self.lanes = {r.model_version: lanes[r.revision_id] for r in reversed(routes) if r.revision_id in lanes}

    @property
    def is_empty(self) -> bool:
        return not self._limits

    def pick(self, key: str) -> tuple[L, str]:
        """The revision for a key, and its role."""
        limits = self._limits
        if len(limits) > 1:
            found = bucket(self._salt, key)
            for upto, lane, role in limits:
                if found < upto:
                    return lane, role
        _, lane, role = limits[-1]
        return lane, role


def bucket(salt: hashlib.blake2b, key: str) -> int:
    """0 to 9,999, the same for the same key and endpoint for ever."""
    hasher = salt.copy()
    hasher.update(key.encode())
    return int.from_bytes(hasher.digest(), "little") % BUCKETS


def latency_bucket(ms: float) -> int:
    """A latency as one of some 120 buckets, each 12 % wider than the last; 0 is below 0.05 ms."""
    if ms <= 0.05:
        return 0
    return min(120, int(math.log(ms / 0.05) / _WIDTH) + 1)


def bucket_ms(bucket: int) -> float:
    """The middle of a latency bucket."""
    return 0.025 if bucket == 0 else float(0.05 * 1.12 ** (bucket - 0.5))


def quantile_ms(counts: dict[int, int], share: float) -> float | None:
    """The latency below which `share` of the answers lie; None without answers. Exact to 6 %."""
    total = sum(counts.values())
    if not total:
        return None
    left = share * total
    for found in sorted(counts):
        left -= counts[found]
        if left <= 0:
            return round(bucket_ms(found), 3)
    return round(bucket_ms(max(counts)), 3)
