"""Windows of event time: which are due, and what one of them says. Nothing here looks at the wall clock.

A window is due when the endpoint's watermark has passed its end by the lateness that the monitor allows for truth to arrive.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from noria.kernel.blobs import BlobStore
from noria.kernel.db import Read
from noria.monitoring import answers_store, sketches_store
from noria.monitoring.baselines import Reference
from noria.monitoring.comparison import OUTPUTS, compare, known
from noria.monitoring.fairness import rates
from noria.monitoring.losses import loss_of
from noria.monitoring.metrics import UNDEFINED, Metric, metric_of
from noria.monitoring.model import LOSS, REALISED, SCORE, Finding, Monitor, MonitorSpec, Slice, Window, WindowVerdict
from noria.monitoring.realised import realised
from noria.monitoring.reconstruction import SAMPLE_MAX
from noria.monitoring.rows import ROWS_MAX, Rows, read_rows
from noria.monitoring.sketches import merge_profiles
from noria.monitoring.slices import mask

Floats = NDArray[np.float64]
STREAM_BEFORE = 7  # windows that a detector reads before the one it speaks of
STREAM_ROWS_MAX = 50_000
POINT_ROWS_MAX = 5_000


class Answers(Struct, frozen=True, kw_only=True):
    """The answers of a span, by column; NaN where nothing is known. `hit` is 1 where the prediction equals the truth."""

    stream: NDArray[np.int64]
    event_at_ms: NDArray[np.int64]
    score: Floats
    truth: Floats
    hit: Floats
    request: Floats  # answers of one request have one number; NaN where it was not asked for

    def take(self, rows: NDArray[np.bool_]) -> Answers:
        return Answers(
            stream=self.stream[rows], event_at_ms=self.event_at_ms[rows], score=self.score[rows], truth=self.truth[rows],
            hit=self.hit[rows], request=self.request[rows],
        )  # fmt: skip

    @property
    def labels(self) -> int:
        return int(np.isfinite(self.hit).sum())


def window_start(spec: MonitorSpec, at_ms: int) -> int:
    """The start of the window in which `at_ms` lies."""
    width = spec.window_s * 1000
    return (at_ms - spec.origin_ms) // width * width + spec.origin_ms


def is_due(spec: MonitorSpec, start_ms: int, watermark_ms: int) -> bool:
    """Has the watermark passed the end of this window by the lateness?"""
    return start_ms + (spec.window_s + spec.lateness_s) * 1000 <= watermark_ms


def next_due(tx: Read, monitor: Monitor, streams: list[int], watermark_ms: int) -> int | None:
    """The start of the next window to judge, or None. Windows without any answer are passed over."""
    first = answers_store.first_event_at(tx, streams, monitor.judged_until_ms)
    if first is None:
        return None
    start = window_start(monitor.spec, first)
    return start if is_due(monitor.spec, start, watermark_ms) else None


def look(
    tx: Read,
    blobs: BlobStore,
    monitor: Monitor,
    streams: list[int],
    reference: Reference,
    start_ms: int,
    *,
    at_ms: int,
    seq: int,
) -> Window:
    """Judge the window that starts at `start_ms` from the rows as they are now."""
    spec, metric = monitor.spec, metric_of(monitor.spec.metric)
    end_ms = start_ms + spec.window_s * 1000
    if metric.kind == "performance" and spec.slices:
        rows = read_rows(tx, blobs, streams, start_ms, end_ms)
        findings = [_slice(metric, rows, part, spec) for part in spec.slices]
        predictions, labels, count = rows.of, int(np.isfinite(rows.hit).sum()), max(f.count for f in findings)
    elif metric.kind == "performance":
        answers = read_answers(tx, streams, start_ms, end_ms, with_requests="request" in metric.takes)
        findings, predictions, labels = [performance(metric, answers, spec.limit)], len(answers.score), answers.labels
        count = findings[0].count
    elif metric.kind == "stream":
        rows = read_rows(tx, blobs, streams, start_ms - STREAM_BEFORE * spec.window_s * 1000, end_ms, limit=STREAM_ROWS_MAX)
        findings = [_stream(metric, rows, name, start_ms, spec) for name in spec.columns or [LOSS]]
        mine = rows.take(rows.event_at_ms >= start_ms)
        predictions, labels, count = len(mine), int(np.isfinite(mine.hit).sum()), max(f.count for f in findings)
    elif metric.kind == "embedding":
        rows = read_rows(tx, blobs, streams, start_ms, end_ms, limit=POINT_ROWS_MAX)
        findings = [_embedding(metric, rows, reference, spec)]
        predictions, labels, count = rows.of, int(np.isfinite(rows.hit).sum()), findings[0].count
    elif metric.kind in ("together", "estimate", "fairness"):
        rows = read_rows(tx, blobs, streams, start_ms, end_ms, limit=SAMPLE_MAX if metric.kind == "together" else ROWS_MAX)
        findings = _OF_ROWS[metric.kind](metric, rows, reference, spec)
        predictions, labels, count = rows.of, int(np.isfinite(rows.hit).sum()), len(rows)
    else:
        profile = merge_profiles(sketches_store.sketches(tx, streams, start_ms, end_ms))
        findings = compare(metric, profile, reference, spec)
        predictions = count = profile.rows
        labels = 0
    verdict, why = conclude(metric, findings, count=count, spec=spec)
    worst = worst_of(metric, findings)
    return Window(
        monitor_id=monitor.id, start_ms=start_ms, end_ms=end_ms, verdict=verdict, value=worst.value if worst else None,
        low=worst.low if worst else None, high=worst.high if worst else None, limit=spec.limit, count=count,
        predictions=predictions, coverage=labels / predictions if predictions else 0.0, findings=findings, why=why,
        judged_at_ms=at_ms, seq=seq,
    )  # fmt: skip


def _slice(metric: Metric, rows: Rows, part: Slice, spec: MonitorSpec) -> Finding:
    """A performance metric of one part of the traffic; not judged with fewer than `min_count` labelled answers."""
    mine = rows.take(mask(rows, part))
    found = performance(metric, answers_of(mine), spec.limit)
    if found.count < spec.min_count:
        found = msgspec.structs.replace(found, value=None, low=None, high=None, is_over=False)
    return msgspec.structs.replace(found, column=part.name)


def _embedding(metric: Metric, rows: Rows, reference: Reference, spec: MonitorSpec) -> Finding:
    """The points of the window beside the reference's."""
    mine = reference.vectors
    value, p_value, count = (math.nan, 1.0, 0) if mine is None else metric.call(mine, rows.inputs, spec.columns)
    return Finding(
        column=", ".join(spec.columns), value=known(value), limit=spec.limit, count=count,
        reference_count=0 if mine is None else mine.rows, p_value=p_value, q_value=p_value,
        is_over=metric.is_over(value, spec.limit) and p_value <= spec.alpha,
    )  # fmt: skip


def _stream(metric: Metric, rows: Rows, name: str, start_ms: int, spec: MonitorSpec) -> Finding:
    """One stream of numbers, from the windows before this one on, as far as changes in this one go."""
    values = loss_of(rows)[1] if name == LOSS else rows.score if name == SCORE else rows.inputs.get(name, np.empty(0))
    if values.dtype == object or len(values) != len(rows):  # words, or a column that nobody sent
        return Finding(column=name, value=None, limit=spec.limit, is_over=False)
    some = np.isfinite(values)
    at, stream = rows.event_at_ms[some], values[some]
    order = np.argsort(at, kind="stable")
    first = int(np.searchsorted(at[order], start_ms))
    value = known(metric.call(stream[order], first, spec.limit, spec.alpha))
    return Finding(
        column=name, value=value, limit=spec.limit, is_over=value is not None and metric.is_over(value, spec.limit),
        count=len(stream) - first, reference_count=first,
    )  # fmt: skip


def answers_of(rows: Rows) -> Answers:
    """The columns that performance metrics take."""
    return Answers(
        stream=np.zeros(len(rows), dtype=np.int64), event_at_ms=rows.event_at_ms, score=rows.score, truth=rows.truth,
        hit=rows.hit, request=np.full(len(rows), math.nan),
    )  # fmt: skip


def _together(metric: Metric, rows: Rows, reference: Reference, spec: MonitorSpec) -> list[Finding]:
    shape = reference.shape
    value, p_value = (math.nan, 1.0) if shape is None else metric.call(shape, rows.inputs)
    return [
        Finding(
            column="", value=known(value), limit=spec.limit, count=len(rows), reference_count=0 if shape is None else shape.rows,
            p_value=p_value, q_value=p_value, is_over=metric.is_over(value, spec.limit) and p_value <= spec.alpha,
        )
    ]  # fmt: skip


def _estimate(metric: Metric, rows: Rows, reference: Reference, spec: MonitorSpec) -> list[Finding]:
    """The estimated metric, and after it what the truth says by now."""
    estimator = reference.estimator
    found = UNDEFINED if estimator is None else metric.call(estimator, rows)
    truth = realised(metric.name.removeprefix("estimated_"), rows)
    value = known(found.value)
    estimated = Finding(
        column="", value=value, low=known(found.low), high=known(found.high), limit=spec.limit, count=len(rows),
        reference_count=0 if estimator is None else estimator.labels,
        is_over=value is not None and metric.is_over(value, spec.limit),
    )  # fmt: skip
    labels = int(np.isfinite(rows.hit).sum())
    return [estimated, Finding(
        column=REALISED, value=known(truth.value), low=known(truth.low), high=known(truth.high), limit=spec.limit, count=labels,
        is_over=False,
    )]  # fmt: skip


def _fairness(metric: Metric, rows: Rows, reference: Reference, spec: MonitorSpec) -> list[Finding]:
    """What lies between the groups, and after it each group's rate. Over: beyond the limit, and more than chance."""
    if spec.group not in rows.inputs:
        return [Finding(column="", value=None, limit=spec.limit, is_over=False)]
    found = rates(rows, spec.group, min_count=spec.min_group)
    gap = metric.call(found)
    whole = Finding(
        column="", value=gap.value, low=gap.low, high=gap.high, limit=spec.limit, count=len(rows), p_value=gap.p_value,
        q_value=gap.p_value,
        is_over=gap.value is not None and metric.is_over(gap.value, spec.limit) and (gap.p_value or 0.0) <= spec.alpha,
    )  # fmt: skip
    is_chance = metric.name == "opportunity_gap"
    return [whole, *(
        Finding(
            column=f"{spec.group} = {g.group}", value=g.opportunity if is_chance else g.positive,
            low=g.opportunity_low if is_chance else g.low, high=g.opportunity_high if is_chance else g.high, limit=spec.limit,
            count=g.deserving if is_chance else g.count, is_over=False,
        )
        for g in found.groups
    )]  # fmt: skip


_OF_ROWS = {"together": _together, "estimate": _estimate, "fairness": _fairness}


def read_answers(tx: Read, streams: list[int], start_ms: int, end_ms: int, *, with_requests: bool = False) -> Answers:
    """The answers of [start, end) as columns; `with_requests`: which of them were asked together."""
    parts, ids, requests = [np.empty((0, 4))], [np.empty(0, dtype=np.int64)], list[str]()
    for stream_id in streams:
        rows = answers_store.scored(tx, stream_id, start_ms, end_ms, with_ids=with_requests)
        if rows:
            parts.append(np.array([r[:4] for r in rows], dtype=np.float64))  # None becomes NaN; milliseconds fit 53 bits
            ids.append(np.full(len(rows), stream_id, dtype=np.int64))
            requests += [f"{stream_id} {r[4].partition('.')[0]}" for r in rows] if with_requests else []
    columns = np.concatenate(parts)
    numbers = np.unique(np.asarray(requests), return_inverse=True)[1].astype(np.float64) if requests else None
    return Answers(
        stream=np.concatenate(ids), event_at_ms=columns[:, 0].astype(np.int64), score=columns[:, 1], truth=columns[:, 2],
        hit=columns[:, 3], request=np.full(len(columns), math.nan) if numbers is None else numbers,
    )  # fmt: skip


def performance(metric: Metric, answers: Answers, limit: float) -> Finding:
    """A performance metric of some answers."""
    columns = {"score": answers.score, "truth": answers.truth, "hit": answers.hit, "request": answers.request}
    taken = [columns[name] for name in metric.takes]
    estimate = metric.call(*taken)
    value = known(estimate.value)
    return Finding(
        column=SCORE, value=value, low=known(estimate.low), high=known(estimate.high), limit=limit,
        is_over=value is not None and metric.is_over(value, limit),
        count=int(np.all([np.isfinite(c) for c in taken], axis=0).sum()) if len(answers.score) else 0,
    )  # fmt: skip


def conclude(metric: Metric, findings: list[Finding], *, count: int, spec: MonitorSpec) -> tuple[WindowVerdict, str]:
    """The verdict on a window and the sentence that explains it."""
    rows = "labelled answers" if metric.kind == "performance" else "answers"
    if count < spec.min_count:
        return "too_few", f"{count} {rows}; at least {spec.min_count} are needed."
    worst = worst_of(metric, findings)
    if worst is None or worst.value is None:
        return "undefined", f"{metric.name} is not defined for these {count} {rows}."
    over = [f for f in findings if f.is_over]
    side = "above" if metric.better == "low" else "below"
    where = "" if worst.column in ("", *OUTPUTS) else f" of {worst.column}"
    if not over and metric.is_over(worst.value, spec.limit):
        odds = f"p = {worst.q_value:.2g} over {len(findings)} columns" if len(findings) > 1 else f"p = {worst.q_value:.2g}"
        return "within", f"{metric.name}{where} is {worst.value:.4g}, which chance explains ({odds}), over {count} {rows}."
    if not over:
        return "within", f"{metric.name}{where} is {worst.value:.4g}, within the limit {spec.limit:g}, over {count} {rows}."
    more = f" and {len(over) - 1} more columns" if len(over) > 1 else ""
    return "over", f"{metric.name}{where} is {worst.value:.4g}{more}, {side} the limit {spec.limit:g}, over {count} {rows}."


def worst_of(metric: Metric, findings: list[Finding]) -> Finding | None:
    """The finding furthest on the wrong side, of those that are over if there are any; the first where the rest explain it."""
    if metric.kind in ("estimate", "fairness"):
        return findings[0] if findings and findings[0].value is not None else None
    some = [f for f in findings if f.is_over] or [f for f in findings if f.value is not None]
    if not some:
        return None
    pick = max if metric.better == "low" else min
    return pick(some, key=lambda f: f.value if f.value is not None else math.nan)
