"""Changes in a stream, noticed value by value."""

from __future__ import annotations

import math

import numpy as np

from noria.monitoring.metrics.base import Floats, metric
from noria.monitoring.streams import adwin_changes, page_hinkley_peaks


@metric("adwin", kind="stream", better="low", source="Bifet & Gavaldà, SDM 2007")
def adwin(values: Floats, first: int, limit: float, alpha: float) -> float:
    """By how much the mean changed, at the changes that ADWIN notices from value `first` on; 0 when it notices none there.

    `alpha` is ADWIN's delta: how often, at most, it notices what is not there. nan without values from `first` on.
    """
    if first >= len(values):
        return math.nan
    changes = [c for c in adwin_changes(values, alpha) if c.at >= first]
    return abs(changes[-1].after - changes[0].before) if changes else 0.0


@metric("page_hinkley", kind="stream", better="low", source="Page, Biometrika 41 (1954); Hinkley, Biometrika 58 (1971)")
def page_hinkley(values: Floats, first: int, limit: float, alpha: float) -> float:
    """How far the sum of deviations from the mean so far left its extreme, at most, from value `first` on; the limit is the
    threshold of the test. nan without values from `first` on."""
    if first >= len(values):
        return math.nan
    peaks = page_hinkley_peaks(values, limit)[1]
    return float(np.max(peaks[first:]))
