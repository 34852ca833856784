"""What lies between groups."""

from __future__ import annotations

from noria.monitoring.fairness import Gap, Rates
from noria.monitoring.metrics.base import metric


@metric("parity_gap", kind="fairness", better="low", source="Dwork et al., ITCS 2012; interval: Newcombe (1998)")
def parity_gap(found: Rates) -> Gap:
    """Demographic parity: the highest group's share of positive answers less the lowest's."""
    return found.parity_gap


@metric("parity_ratio", kind="fairness", better="high", source="the four-fifths rule, 29 CFR 1607.4; interval: Katz (1978)")
def parity_ratio(found: Rates) -> Gap:
    """The lowest group's share of positive answers by the highest's."""
    return found.parity_ratio


@metric(
    "opportunity_gap", kind="fairness", better="low", source="Hardt, Price & Srebro, NIPS 2016; interval: Newcombe (1998)"
)
def opportunity_gap(found: Rates) -> Gap:
    """Equal opportunity: of those whose truth is positive, the highest group's share of positive answers less the lowest's."""
    return found.opportunity_gap
