"""How much of the truth is known, and how late it comes."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from noria.kernel.db import Read
from noria.monitoring import answers_store


class LabelWindow(Struct, frozen=True, kw_only=True):
    """Answers of one window, how many have their truth, and how long after the answer's event time that is dated."""

    group: str
    model_version: str
    start_ms: int
    end_ms: int
    predictions: int
    labels: int
    coverage: float
    delay_s_p50: float | None
    delay_s_p90: float | None
    delay_s_p99: float | None
    delay_s_max: float | None


class Labels(Struct, frozen=True, kw_only=True):
    """Windows of event time, the latest first."""

    items: list[LabelWindow]
    next: str | None = None
    watermark_ms: int | None = None
    predictions: int = 0
    labels: int = 0


def label_window(tx: Read, streams: list[int], name: str, version: str, start_ms: int, end_ms: int) -> LabelWindow | None:
    """One window; None without answers."""
    found = [row for s in streams for row in answers_store.label_delays(tx, s, start_ms, end_ms)]
    if not found:
        return None
    delays = np.asarray([(truth - event) / 1000 for event, truth in found if truth is not None])
    p50, p90, p99, last = np.quantile(delays, [0.5, 0.9, 0.99, 1]).tolist() if len(delays) else (None,) * 4
    return LabelWindow(
        group=name, model_version=version, start_ms=start_ms, end_ms=end_ms, predictions=len(found), labels=len(delays),
        coverage=len(delays) / len(found), delay_s_p50=p50, delay_s_p90=p90, delay_s_p99=p99, delay_s_max=last,
    )  # fmt: skip
