"""How good orders are: the rows of one request are what was to be put in order, by falling score.

A request counts once some of its rows has its truth; rows without one then count as not relevant, since nobody reports what was not
clicked. Truth is relevance: 0 or 1, or a grade. Equal scores stand in the order in which they were asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from noria.monitoring.metrics.base import UNDEFINED, Estimate, Floats, mean_interval, metric

DEPTHS = (1, 3, 5, 10, 20)


def orders(request: Floats, score: Floats, truth: Floats) -> Iterator[Floats]:
    """The relevances of each request that has a truth, in the order of the scores."""
    known = np.isfinite(request) & np.isfinite(score)
    request, score, truth = request[known], score[known], truth[known]
    by = np.lexsort((-score, request))
    request, truth = request[by], truth[by]
    for part in np.split(truth, np.flatnonzero(np.diff(request)) + 1):
        if np.isfinite(part).any():
            yield np.where(np.isfinite(part), part, 0.0)


def _mean(each: Callable[[Floats], float], request: Floats, score: Floats, truth: Floats) -> Estimate:
    values = np.asarray([v for part in orders(request, score, truth) if (v := each(part)) == v])
    return mean_interval(values) if len(values) else UNDEFINED


def _gain(relevance: Floats, k: int) -> float:
    top = relevance[:k]
    return float(np.sum(top / np.log2(np.arange(2, len(top) + 2))))


def ndcg_of(relevance: Floats, k: int) -> float:
    """Discounted gain of the first k by that of the best order; nan when nothing is relevant."""
    best = _gain(-np.sort(-relevance), k)
    return _gain(relevance, k) / best if best > 0 else float("nan")


def average_precision_of(relevance: Floats, k: int) -> float:
    """Mean, over what is relevant (at most k of it), of the precision at its place; nan when nothing is."""
    is_hit = relevance > 0
    if not is_hit.any():
        return float("nan")
    top = is_hit[:k]
    precision = np.cumsum(top) / np.arange(1, len(top) + 1)
    return float(np.sum(precision * top) / min(k, int(is_hit.sum())))


def _declare(k: int) -> None:
    @metric(
        f"ndcg_at_{k}", kind="performance", better="high", takes=TAKES, source="Järvelin & Kekäläinen, ACM TOIS 20 (2002)"
    )
    def ndcg(request: Floats, score: Floats, truth: Floats) -> Estimate:
        """Normalised discounted cumulative gain of the first k, with gains as they are, mean over requests."""
        return _mean(lambda part: ndcg_of(part, k), request, score, truth)

    @metric(f"map_at_{k}", kind="performance", better="high", takes=TAKES, source="Manning et al., IR (2008), chapter 8")
    def mean_average_precision(request: Floats, score: Floats, truth: Floats) -> Estimate:
        """Mean average precision of the first k."""
        return _mean(lambda part: average_precision_of(part, k), request, score, truth)

    @metric(
        f"hit_rate_at_{k}", kind="performance", better="high", takes=TAKES, source="Deshpande & Karypis, ACM TOIS 22 (2004)"
    )
    def hit_rate(request: Floats, score: Floats, truth: Floats) -> Estimate:
        """Share of requests with something relevant among the first k."""
        return _mean(lambda part: float((part[:k] > 0).any()), request, score, truth)


TAKES = ("request", "score", "truth")
for _k in DEPTHS:
    _declare(_k)


@metric("mrr", kind="performance", better="high", takes=TAKES, source="Voorhees, TREC-8 (1999)")
def mrr(request: Floats, score: Floats, truth: Floats) -> Estimate:
    """Mean reciprocal rank of the first that is relevant; 0 for a request without any."""
    return _mean(lambda part: 1 / (1 + int(np.argmax(part > 0))) if (part > 0).any() else 0.0, request, score, truth)
