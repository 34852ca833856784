"""Performance that is estimated before the labels arrive."""

from __future__ import annotations

from noria.monitoring.estimates import ESTIMATED, NUMBERS, Estimator
from noria.monitoring.metrics.base import Estimate, metric
from noria.monitoring.rows import Rows


def _declare(name: str) -> None:
    better = "low" if name in NUMBERS else "high"
    source = (
        "DLE of NannyML" if name in NUMBERS else "CBPE of NannyML; Garg et al., ICLR 2022, for what it can and cannot see"
    )

    @metric(f"estimated_{name}", kind="estimate", better=better, source=source)
    def estimated(estimator: Estimator, rows: Rows) -> Estimate:
        """A performance metric without truth, from what the labelled answers of the reference taught."""
        return estimator.estimate(name, rows)


for _name in ESTIMATED:
    _declare(_name)
