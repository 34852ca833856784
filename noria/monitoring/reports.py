"""What one can ask of an endpoint without having made a monitor: drift, labels, estimates, slices, fairness; per window and version."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database, Read
from noria.kernel.errors import Forbidden, Invalid, NotFound
from noria.kernel.ids import Ref
from noria.kernel.op import Op
from noria.monitoring import answers_store, segments_store, sketches_store
from noria.monitoring.answers_store import Stream
from noria.monitoring.baselines import Reference, parse_traffic
from noria.monitoring.comparison import known
from noria.monitoring.drift import PSI_MIN, ColumnDrift, Drift, DriftWindow, explained, matrix, together
from noria.monitoring.estimates import ESTIMATED, LABELS_MIN, Estimator, learn
from noria.monitoring.fairness import GROUP_ROWS_MIN, Rates, rates
from noria.monitoring.labels import Labels, label_window
from noria.monitoring.metrics import UNDEFINED, Metric, metric_of
from noria.monitoring.model import MINUTE_MS, WINDOW_S_MAX, WINDOW_S_MIN, Slice
from noria.monitoring.realised import realised
from noria.monitoring.reconstruction import SAMPLE_MAX
from noria.monitoring.references import LEARNT_MAX, References, traffic
from noria.monitoring.rows import Rows, read_rows
from noria.monitoring.segments_store import Watermark
from noria.monitoring.shapes import ColumnShape, shape_of_column
from noria.monitoring.sketches import merge_profiles
from noria.monitoring.skew import Skew, skew_of
from noria.monitoring.slices import mask, slices_of
from noria.monitoring.windows import answers_of, performance

WINDOWS_MAX = 60
SKEW_ROWS_MAX = 50_000
GROUPS_MAX = 20


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Streams that are looked at together."""

    name: str
    model_version: str
    streams: list[int]


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Which windows a report covers: `count` of `window_s`, the last one ending with the watermark or holding `to_ms`."""

    window_s: int = 86_400
    to_ms: int | None = None
    count: int = 1
    origin_ms: int = 0

    def starts(self, watermark_ms: int) -> list[int]:
        """The starts of the windows, latest first."""
        width = self.window_s * 1000
        last = ((watermark_ms if self.to_ms is None else self.to_ms - 1) - self.origin_ms) // width * width + self.origin_ms
        return [last - i * width for i in range(self.count)]


class EstimateWindow(msgspec.Struct, frozen=True, kw_only=True):
    """One window: what is expected without truth, and what the truth says of the `labels` answers that have one."""

    group: str
    model_version: str
    start_ms: int
    end_ms: int
    metric: str
    estimated: float | None
    low: float | None
    high: float | None
    realised: float | None
    realised_low: float | None
    realised_high: float | None
    count: int
    labels: int
    learnt_from: int  # labelled answers
    note: str = ""


class Estimates(msgspec.Struct, frozen=True, kw_only=True):
    """Windows of event time, the latest first."""

    items: list[EstimateWindow]
    next: str | None = None
    watermark_ms: int | None = None


class SliceWindow(msgspec.Struct, frozen=True, kw_only=True):
    """A performance metric of one part of the traffic in one window."""

    group: str
    model_version: str
    start_ms: int
    end_ms: int
    slice: str
    value: float | None
    low: float | None
    high: float | None
    count: int
    predictions: int
    coverage: float


class Slices(msgspec.Struct, frozen=True, kw_only=True):
    """Windows of event time, the latest first; in each the most frequent part first."""

    items: list[SliceWindow]
    next: str | None = None
    watermark_ms: int | None = None


class FairnessWindow(msgspec.Struct, frozen=True, kw_only=True):
    """How groups were treated in one window."""

    group: str
    model_version: str
    start_ms: int
    end_ms: int
    count: int
    rates: Rates


class Fairness(msgspec.Struct, frozen=True, kw_only=True):
    """Windows of event time, the latest first."""

    items: list[FairnessWindow]
    next: str | None = None
    watermark_ms: int | None = None


class Reports:
    """Read-only views of what monitoring has taken in."""

    def __init__(self, db: Database, blobs: BlobStore, references: References) -> None:
        self._db, self._blobs, self._references = db, blobs, references

    def drift(
        self, op: Op, endpoint: str, *, span: Span, reference: str = "", by: str = "", alpha: float = 0.01,
        psi_min: float = PSI_MIN,
    ) -> Drift:  # fmt: skip
        """Columns × statistics per window. The reference is what the model was trained on, unless it is named.

        Raises Invalid, NotFound (the reference).
        """
        mark, groups = self._groups(op, endpoint, span, by)
        if not 0 < alpha <= 1 or not (math.isfinite(psi_min) and psi_min >= 0):
            raise Invalid("alpha is above 0 and at most 1, psi_min not negative.", where="alpha")
        if mark is None or not groups:
            return Drift(items=[])
        against = {g.name: self._reference(op, endpoint, g, reference) for g in groups}
        found = []
        for start_ms in span.starts(mark.event_at_ms):
            for group in groups:
                with self._db.read() as tx:
                    window = self._drift(
                        tx, group, against[group.name], start_ms, span.window_s, alpha, psi_min, mark.bucket_ms
                    )
                found += [] if window is None else [window]
        return Drift(items=found, watermark_ms=mark.event_at_ms)

    def column(
        self, op: Op, endpoint: str, column: str, *, span: Span, reference: str = "", version: str = ""
    ) -> ColumnShape:
        """One column of the latest window (or of that which holds `to_ms`) beside the reference. Raises Invalid, NotFound."""
        mark, groups = self._groups(op, endpoint, span, "version" if version else "")
        group = next((g for g in groups if not version or version in (g.name, g.model_version)), None)
        if mark is None or group is None:
            raise NotFound("There are no answers to look at.", ref=Ref("endpoint", endpoint))
        against = self._reference(op, endpoint, group, reference)
        (start_ms,) = span.starts(mark.event_at_ms)
        end_ms = start_ms + span.window_s * 1000
        with self._db.read() as tx:
            profile = merge_profiles(sketches_store.sketches(tx, group.streams, start_ms, end_ms))
        mine, then = profile.columns.get(column), against.sketches.get(column)
        if mine is None or then is None:
            raise NotFound(
                f"{'The window' if mine is None else 'The reference'} has no column {column!r}.",
                hint="Columns: " + ", ".join(sorted(set(profile.columns) & set(against.sketches))[:20]) + ".",
            )  # fmt: skip
        return shape_of_column(column, then, mine, version=group.model_version, start_ms=start_ms, end_ms=end_ms)

    def skew(self, op: Op, endpoint: str, key: str, *, span: Span, reference: str = "") -> Skew:
        """The answers of a window beside the rows of the dataset with the same keys. The dataset is what the model was trained on,
        unless it is named; `key` is its column of what callers send as `x-noria-key`. Raises Invalid, NotFound, Forbidden."""
        op.require("inference.read", on=Ref("endpoint", endpoint))
        mark, groups = self._groups(op, endpoint, span, "")
        if reference and not reference.startswith(("dataset:", "model:")):
            raise Invalid(f"{reference!r} is no dataset.", where="reference", hint="Give dataset:NAME@VERSION.")
        if mark is None or not groups:
            return Skew(items=[], reference=reference, answers=0, matched=0)
        (start_ms,) = span.starts(mark.event_at_ms)
        with self._db.read() as tx:
            rows = read_rows(
                tx, self._blobs, groups[0].streams, start_ms, start_ms + span.window_s * 1000, limit=SKEW_ROWS_MAX
            )
        keys = {k for k in rows.key.tolist() if k}
        source, trained = self._references.rows_of(op, reference or f"model:{groups[0].model_version}", key, keys)
        matched = sum(k in trained for k in rows.key.tolist())
        return Skew(items=skew_of(rows, trained), reference=source, answers=len(rows), matched=matched)

    def labels(self, op: Op, endpoint: str, *, span: Span, by: str = "") -> Labels:
        """How many answers of each window have their truth, and how late it came."""
        mark, groups = self._groups(op, endpoint, span, by)
        if mark is None:
            return Labels(items=[])
        with self._db.read() as tx:
            found = [
                label_window(tx, g.streams, g.name, g.model_version, start_ms, start_ms + span.window_s * 1000)
                for start_ms in span.starts(mark.event_at_ms) for g in groups
            ]  # fmt: skip
        return Labels(
            items=[w for w in found if w], watermark_ms=mark.event_at_ms, predictions=mark.predictions, labels=mark.labels
        )

    def estimates(self, op: Op, endpoint: str, metric: str, *, span: Span, by: str = "", reference: str = "") -> Estimates:
        """A performance metric estimated without truth, beside the one the truth says by now.

        Learnt from the labelled answers of `reference` (`traffic:<from_ms>-<to_ms>`), or of all time before the first window shown.
        """
        if metric not in ESTIMATED:
            raise Invalid(
                f"{metric!r} cannot be estimated.", where="metric", hint="Use one of " + ", ".join(ESTIMATED) + "."
            )
        mark, groups = self._groups(op, endpoint, span, by)
        if mark is None:
            return Estimates(items=[])
        starts = span.starts(mark.event_at_ms)
        from_ms, to_ms = parse_traffic(reference) if reference else (0, starts[-1])
        found = []
        for group in groups:
            with self._db.read() as tx:
                estimator = learn(read_rows(tx, self._blobs, group.streams, from_ms, to_ms, limit=LEARNT_MAX))
                for start_ms in starts:
                    end_ms = start_ms + span.window_s * 1000
                    rows = read_rows(tx, self._blobs, group.streams, start_ms, end_ms)
                    found += [_estimate_window(metric, estimator, rows, group, start_ms, end_ms)] if len(rows) else []
        return Estimates(items=found, watermark_ms=mark.event_at_ms)

    def slices(self, op: Op, endpoint: str, metric: str, column: str, *, span: Span, by: str = "") -> Slices:
        """A performance metric of each part of the traffic: per frequent value of a column, or per range of it."""
        chosen = metric_of(metric)
        if chosen.kind != "performance" or "request" in chosen.takes:
            raise Invalid(
                f"{metric} does not compare answers with the truth.", where="metric", hint="Use auc or mae, for example."
            )
        mark, groups = self._groups(op, endpoint, span, by)
        if mark is None:
            return Slices(items=[])
        found = []
        for start_ms in span.starts(mark.event_at_ms):
            end_ms = start_ms + span.window_s * 1000
            for group in groups:
                with self._db.read() as tx:
                    rows = read_rows(tx, self._blobs, group.streams, start_ms, end_ms)
                if len(rows):
                    found += [_slice_window(chosen, rows, part, group, start_ms, end_ms) for part in _cut(rows, column)]
        return Slices(items=found, watermark_ms=mark.event_at_ms)

    def fairness(
        self, op: Op, endpoint: str, column: str, *, span: Span, by: str = "", min_group: int = GROUP_ROWS_MIN
    ) -> Fairness:
        """How groups are treated: positive answers and opportunity per group, and what lies between them, per window."""
        if min_group < 2:
            raise Invalid("min_group must be at least 2.", where="min_group")
        mark, groups = self._groups(op, endpoint, span, by)
        if mark is None:
            return Fairness(items=[])
        found = []
        for start_ms in span.starts(mark.event_at_ms):
            end_ms = start_ms + span.window_s * 1000
            for group in groups:
                with self._db.read() as tx:
                    rows = read_rows(tx, self._blobs, group.streams, start_ms, end_ms)
                if len(rows):
                    found.append(
                        FairnessWindow(
                            group=group.name, model_version=group.model_version, start_ms=start_ms, end_ms=end_ms,
                            count=len(rows), rates=rates(rows, _known_column(rows, column), min_count=min_group),
                        )
                    )  # fmt: skip
        return Fairness(items=found, watermark_ms=mark.event_at_ms)

    def _groups(self, op: Op, endpoint: str, span: Span, by: str) -> tuple[Watermark | None, list[Group]]:
        op.require("endpoint.read", on=Ref("endpoint", endpoint))
        _check(span, by)
        with self._db.read() as tx:
            return segments_store.watermark(tx, endpoint), groups_of(answers_store.streams(tx, endpoint), by)

    def _reference(self, op: Op, endpoint: str, group: Group, wanted: str) -> Reference:
        if wanted.startswith("traffic:"):
            parse_traffic(wanted)
            with self._db.read() as tx:
                streams = [s.id for s in answers_store.streams(tx, endpoint)]
                found = traffic(tx, self._blobs, streams, wanted)
            if not found.rows:
                raise Invalid("There are no answers in that span.", where="reference")
            return found
        if wanted and not wanted.startswith(("dataset:", "model:")):
            raise Invalid(
                f"{wanted!r} is no reference.", where="reference",
                hint="Give dataset:NAME@VERSION, model:NAME@VERSION or traffic:<from_ms>-<to_ms>.",
            )  # fmt: skip
        try:
            return self._references.of_dataset(op, wanted or f"model:{group.model_version}")
        except (NotFound, Forbidden, Invalid) as cause:
            if wanted:
                raise
            raise Invalid(
                f"What {group.model_version} was trained on cannot be read: {cause.message}", where="reference",
                hint="Give reference=dataset:NAME@VERSION or reference=traffic:<from_ms>-<to_ms>.",
            ) from cause  # fmt: skip

    def _drift(
        self, tx: Read, group: Group, reference: Reference, start_ms: int, window_s: int, alpha: float, psi_min: float,
        bucket_ms: int,
    ) -> DriftWindow | None:  # fmt: skip
        end_ms = start_ms + window_s * 1000
        if window_s * 1000 % bucket_ms or start_ms % bucket_ms:
            raise Invalid(
                f"This endpoint's sketches are kept per {bucket_ms // MINUTE_MS} minutes.", where="window_s",
                hint="Ask for a multiple of that, or make a monitor with this window_s, which keeps finer ones.",
            )  # fmt: skip
        profile = merge_profiles(sketches_store.sketches(tx, group.streams, start_ms, end_ms))
        if not profile.rows:
            return None
        rows = read_rows(tx, self._blobs, group.streams, start_ms, end_ms, limit=SAMPLE_MAX)
        columns = matrix(profile, reference, alpha=alpha, psi_min=psi_min)
        loss, columns = explained(columns, rows, profile, reference)
        return DriftWindow(
            group=group.name, model_version=group.model_version, reference=reference.source, start_ms=start_ms, end_ms=end_ms,
            count=profile.rows, reference_count=reference.rows, drifted=[c.column for c in columns if c.is_drifted],
            columns=columns, together=together(reference, rows), loss=loss, note=_note(rows, columns),
        )  # fmt: skip


def groups_of(streams: list[Stream], by: str) -> list[Group]:
    """All streams as one group (with the latest version's name), or one per revision or model version, latest first."""
    if not streams:
        return []
    if not by:
        return [Group(name="", model_version=streams[-1].model_version, streams=[s.id for s in streams])]
    found: dict[str, list[Stream]] = {}
    for stream in reversed(streams):
        found.setdefault(stream.model_version if by == "version" else stream.revision_id, []).append(stream)
    return [
        Group(name=name, model_version=members[0].model_version, streams=[s.id for s in members])
        for name, members in list(found.items())[:GROUPS_MAX]
    ]


def _estimate_window(
    metric: str, estimator: Estimator | None, rows: Rows, group: Group, start_ms: int, end_ms: int
) -> EstimateWindow:
    found = UNDEFINED if estimator is None else estimator.estimate(metric, rows)
    truth = realised(metric, rows)
    note = f"Fewer than {LABELS_MIN} labelled answers, or of one kind only, to learn from." if estimator is None else ""
    return EstimateWindow(
        group=group.name, model_version=group.model_version, start_ms=start_ms, end_ms=end_ms, metric=metric,
        estimated=known(found.value), low=known(found.low), high=known(found.high), realised=known(truth.value),
        realised_low=known(truth.low), realised_high=known(truth.high), count=len(rows),
        labels=int(np.isfinite(rows.hit).sum()), learnt_from=0 if estimator is None else estimator.labels, note=note,
    )  # fmt: skip


def _slice_window(metric: Metric, rows: Rows, part: Slice, group: Group, start_ms: int, end_ms: int) -> SliceWindow:
    mine = answers_of(rows.take(mask(rows, part)))
    found = performance(metric, mine, 0.0)
    predictions = len(mine.score)
    return SliceWindow(
        group=group.name, model_version=group.model_version, start_ms=start_ms, end_ms=end_ms, slice=part.name,
        value=found.value, low=found.low, high=found.high, count=found.count, predictions=predictions,
        coverage=mine.labels / predictions if predictions else 0.0,
    )  # fmt: skip


def _cut(rows: Rows, column: str) -> list[Slice]:
    return slices_of(column, rows.inputs[_known_column(rows, column)])


def _known_column(rows: Rows, column: str) -> str:
    if column not in rows.inputs:
        raise Invalid(
            f"No input is called {column!r}.", where="column", hint="Inputs: " + ", ".join(list(rows.inputs)[:20]) + "."
        )
    return column


def _note(rows: Rows, columns: list[ColumnDrift]) -> str:
    if not columns:
        return "No column of the reference was sent."
    return "" if len(rows) >= rows.of else f"Columns together and losses are from {len(rows)} of {rows.of} answers."


def _check(span: Span, by: str) -> None:
    if not WINDOW_S_MIN <= span.window_s <= WINDOW_S_MAX or span.window_s * 1000 % MINUTE_MS:
        raise Invalid("window_s must be whole minutes, from one minute to a year.", where="window_s")
    if span.origin_ms % MINUTE_MS:
        raise Invalid("origin_ms must be a whole minute.", where="origin_ms")
    if not 1 <= span.count <= WINDOWS_MAX:
        raise Invalid(f"windows must be between 1 and {WINDOWS_MAX}.", where="windows")
    if by not in ("", "version", "revision"):
        raise Invalid(f"{by!r} is no grouping.", where="by", hint="Use version or revision, or leave it out.")
