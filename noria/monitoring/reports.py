"""What one can ask of an endpoint without having made a monitor: the matrix of drift, per window and per model version."""

from __future__ import annotations

import math

import msgspec

from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database, Read
from noria.kernel.errors import Forbidden, Invalid, NotFound
from noria.kernel.ids import Ref
from noria.kernel.op import Op
from noria.monitoring import store
from noria.monitoring.baselines import Reference, parse_traffic
from noria.monitoring.drift import PSI_MIN, ColumnDrift, Drift, DriftWindow, explained, matrix, together
from noria.monitoring.model import MINUTE_MS, WINDOW_S_MAX, WINDOW_S_MIN
from noria.monitoring.reconstruction import SAMPLE_MAX
from noria.monitoring.references import References, traffic
from noria.monitoring.rows import Rows, read_rows
from noria.monitoring.sketches import merge_profiles
from noria.monitoring.store import Stream

WINDOWS_MAX = 60
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

    def starts(self, watermark_ms: int) -> list[int]:
        """The starts of the windows, latest first."""
        width = self.window_s * 1000
        last = (watermark_ms if self.to_ms is None else self.to_ms - 1) // width * width
        return [last - i * width for i in range(self.count)]


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
        op.require("endpoint.read", on=Ref("endpoint", endpoint))
        _check(span, by)
        if not 0 < alpha <= 1 or not (math.isfinite(psi_min) and psi_min >= 0):
            raise Invalid("alpha is above 0 and at most 1, psi_min not negative.", where="alpha")
        with self._db.read() as tx:
            mark = store.watermark(tx, endpoint)
            groups = groups_of(store.streams(tx, endpoint), by)
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

    def _reference(self, op: Op, endpoint: str, group: Group, wanted: str) -> Reference:
        if wanted.startswith("traffic:"):
            parse_traffic(wanted)
            with self._db.read() as tx:
                streams = [s.id for s in store.streams(tx, endpoint)]
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
        if window_s * 1000 % bucket_ms:
            raise Invalid(
                f"This endpoint's sketches are kept per {bucket_ms // MINUTE_MS} minutes.", where="window_s",
                hint="Ask for a multiple of that, or make a monitor with this window_s, which keeps finer ones.",
            )  # fmt: skip
        profile = merge_profiles(store.sketches(tx, group.streams, start_ms, end_ms))
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


def _note(rows: Rows, columns: list[ColumnDrift]) -> str:
    if not columns:
        return "No column of the reference was sent."
    return "" if len(rows) >= rows.of else f"Columns together and losses are from {len(rows)} of {rows.of} answers."


def _check(span: Span, by: str) -> None:
    if not WINDOW_S_MIN <= span.window_s <= WINDOW_S_MAX or span.window_s * 1000 % MINUTE_MS:
        raise Invalid("window_s must be whole minutes, from one minute to a year.", where="window_s")
    if not 1 <= span.count <= WINDOWS_MAX:
        raise Invalid(f"windows must be between 1 and {WINDOWS_MAX}.", where="windows")
    if by not in ("", "version", "revision"):
        raise Invalid(f"{by!r} is no grouping.", where="by", hint="Use version or revision, or leave it out.")
