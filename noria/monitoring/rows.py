"""Answers with what went in, read from the segments they came in: for slices, groups, multivariate drift and causes of loss.

Bounded: of a span with more than ROWS_MAX answers some segments are read, spread evenly over the span, and `of` says of how many.
A segment that retention deleted is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from noria.kernel.blobs import BlobStore
from noria.kernel.db import Read
from noria.kernel.errors import NotFound
from noria.monitoring import answers_store, segments_store
from noria.monitoring.archive import Archive
from noria.monitoring.segments import Inferences

Floats = NDArray[np.float64]
ROWS_MAX = 200_000


class Rows(Struct, frozen=True, kw_only=True):
    """Answers as columns. `hit` is 1 where prediction equals truth, NaN without truth; words are objects, None where missing."""

    of: int  # answers in the span, of which these are some or all
    event_at_ms: NDArray[np.int64]
    score: Floats
    truth: Floats
    hit: Floats
    predicted: NDArray[np.object_]
    actual: NDArray[np.object_]
    key: NDArray[np.object_]  # '' where none came with it
    inputs: dict[str, Any]
    classes: list[str]
    probability: Floats | None  # one column per class

    def __len__(self) -> int:
        return len(self.score)

    def take(self, keep: Any) -> Rows:
        """Some of these rows: a mask or indices."""
        return Rows(
            of=self.of, event_at_ms=self.event_at_ms[keep], score=self.score[keep], truth=self.truth[keep], hit=self.hit[keep],
            key=self.key[keep], predicted=self.predicted[keep], actual=self.actual[keep], classes=self.classes,
            inputs={name: values[keep] for name, values in self.inputs.items()},
            probability=None if self.probability is None else self.probability[keep],
        )  # fmt: skip


def read_rows(
    tx: Read, blobs: BlobStore, streams: Sequence[int], start_ms: int, end_ms: int, *, limit: int = ROWS_MAX
) -> Rows:
    """The answers of [start, end) with their inputs; at most about `limit`."""
    counted = answers_store.segments_between(tx, streams, start_ms, end_ms)
    chosen = _spread(counted, limit)
    parts, archive = [], Archive(blobs)
    for segment_id, rows in answers_store.answers_in(tx, streams, sorted(chosen), start_ms, end_ms).items():
        segment = segments_store.segment_at(tx, segment_id)
        assert segment is not None
        try:
            parts.append(_part(archive.inferences(segment), rows))
        except NotFound:
            continue
    return _joined(parts, of=sum(counted.values()))


def _spread(counted: dict[int, int], limit: int) -> list[int]:
    """Segments with at most `limit` answers together (but at least one), evenly spread over their order."""
    ids, total = sorted(counted), sum(counted.values())
    if total <= limit:
        return ids
    wanted = max(1, int(len(ids) * limit / total))
    return [ids[int(i)] for i in np.linspace(0, len(ids) - 1, wanted)]


def _part(segment: Inferences, rows: list[tuple[Any, ...]]) -> Rows:
    at = np.asarray([row[0] for row in rows], dtype=np.int64)
    numbers = np.array([row[1:5] for row in rows], dtype=np.float64)
    return Rows(
        of=len(rows), event_at_ms=numbers[:, 0].astype(np.int64), score=numbers[:, 1], truth=numbers[:, 2], hit=numbers[:, 3],
        predicted=np.asarray([row[5] for row in rows], dtype=object), actual=np.asarray([row[6] for row in rows], dtype=object),
        key=np.asarray([row[7] or "" for row in rows], dtype=object),
        inputs={name: values[at] for name, values in segment.inputs.items()}, classes=segment.classes,
        probability=None if segment.probability is None else segment.probability[at],
    )  # fmt: skip


def _joined(parts: list[Rows], *, of: int) -> Rows:
    """All parts as one; a column that some part lacks is missing there, one that is words anywhere is words everywhere."""
    names = list(dict.fromkeys(name for part in parts for name in part.inputs))
    classes = parts[-1].classes if parts else []
    has_probability = bool(classes) and all(
        p.probability is not None and p.classes == classes and p.probability.shape[1] == len(classes) for p in parts
    )

    def one(name: str, empty: Any) -> Any:
        return np.concatenate([empty, *(getattr(p, name) for p in parts)])

    none = np.empty(0)
    words = np.empty(0, dtype=object)
    return Rows(
        of=of, event_at_ms=one("event_at_ms", np.empty(0, dtype=np.int64)), score=one("score", none), truth=one("truth", none),
        hit=one("hit", none), predicted=one("predicted", words), actual=one("actual", words), key=one("key", words), classes=classes,
        inputs={name: _column([p.inputs.get(name) for p in parts], [len(p) for p in parts]) for name in names},
        probability=np.concatenate([p.probability for p in parts if p.probability is not None]) if has_probability else None,
    )  # fmt: skip


def _column(parts: list[Any], lengths: list[int]) -> Any:
    if any(p is not None and p.dtype == object for p in parts):
        return np.concatenate([
            np.full(n, None, dtype=object) if p is None else p if p.dtype == object else _as_words(p)
            for p, n in zip(parts, lengths, strict=True)
        ])  # fmt: skip
    return np.concatenate([np.full(n, np.nan) if p is None else p for p, n in zip(parts, lengths, strict=True)])


def _as_words(values: Floats) -> Any:
    return np.asarray([None if v != v else str(v) for v in values.tolist()], dtype=object)
