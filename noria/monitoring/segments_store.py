"""The rows of segments that were taken, and of how far each endpoint's event time has come."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from noria.kernel.db import Read, Write


class Watermark(Struct, frozen=True, kw_only=True):
    """How far an endpoint's event time has come, and the fact that moved it there."""

    endpoint: str
    event_at_ms: int
    bucket_ms: int
    seq: int
    label_seq: int = 0
    predictions: int = 0
    labels: int = 0


_SEGMENT = (
    "s.id, s.digest, s.endpoint, s.kind, s.rows, s.skipped, s.seq, s.at_ms, f.digest as file, "
    'coalesce(s.file_offset, 0) as "offset"'
)
_FROM = "from ingested_segment s left join log_file f on f.id = s.file_id"


class SegmentRow(Struct, frozen=True, kw_only=True):
    """A segment that was taken."""

    id: int
    digest: str
    endpoint: str
    kind: str
    rows: int
    skipped: int
    seq: int
    at_ms: int
    file: str | None = None  # the digest of the file that its rows lie in since; None: its own
    offset: int = 0  # at which row of it they begin


def take_segment(tx: Write, digest: str, endpoint: str, kind: str, rows: int, seq: int) -> int | None:
    """Note a segment; its number, or None when it was taken before."""
    number = int(tx.scalar("select coalesce(max(id), 0) from ingested_segment")) + 1
    taken = tx.run(
        """insert into ingested_segment (id, digest, endpoint, kind, rows, seq, at_ms)
           values (:id, :digest, :endpoint, :kind, :rows, :seq, :at_ms)
           on conflict (digest) do nothing""",
        id=number, digest=digest, endpoint=endpoint, kind=kind, rows=rows, seq=seq, at_ms=tx.op.at_ms if tx.op else 0,
    )  # fmt: skip
    return number if taken else None


def is_taken(tx: Read, digest: str) -> bool:
    return tx.scalar("select 1 from ingested_segment where digest = :digest", digest=digest) is not None


def rows_taken(tx: Read, segment_id: int, stream_id: int) -> list[int]:
    """Which rows of a segment became answers of a stream."""
    return tx.column(
        "select row_index from inference where segment_id = :segment and stream_id = :stream order by row_index",
        segment=segment_id, stream=stream_id,
    )  # fmt: skip


def note_skipped(tx: Write, segment_id: int, skipped: int) -> None:
    tx.run("update ingested_segment set skipped = :skipped where id = :id", id=segment_id, skipped=skipped)


def segment_at(tx: Read, segment_id: int) -> SegmentRow | None:
    return tx.one(
        SegmentRow,
        f"select {_SEGMENT} {_FROM} where s.id = :id",
        id=segment_id,
    )


def inference_segments(tx: Read, endpoint: str, after_id: int, *, limit: int = 200) -> list[SegmentRow]:
    return tx.all(
        SegmentRow,
        f"""select {_SEGMENT} {_FROM}
             where s.endpoint = :endpoint and s.kind = 'inference' and s.id > :after order by s.id limit :limit""",
        endpoint=endpoint, after=after_id, limit=limit,
    )  # fmt: skip


def lock_watermark(tx: Write, endpoint: str, *, bucket_ms: int, event_at_ms: int) -> Watermark:
    """The endpoint's watermark, made when it is new; the row is locked until the transaction ends."""
    found = tx.one(
        Watermark,
        """insert into watermark (endpoint, event_at_ms, bucket_ms, seq) values (:endpoint, :at_ms, :bucket, 0)
           on conflict (endpoint) do update set endpoint = excluded.endpoint
           returning endpoint, event_at_ms, bucket_ms, seq, label_seq, predictions, labels""",
        endpoint=endpoint, at_ms=event_at_ms, bucket=bucket_ms,
    )  # fmt: skip
    assert found is not None
    return found


def move_watermark(tx: Write, mark: Watermark) -> None:
    tx.run(
        """update watermark set event_at_ms = :event_at_ms, bucket_ms = :bucket_ms, seq = :seq, label_seq = :label_seq,
                  predictions = :predictions, labels = :labels
            where endpoint = :endpoint""",
        **msgspec.structs.asdict(mark),
    )  # fmt: skip


def watermark(tx: Read, endpoint: str) -> Watermark | None:
    return tx.one(
        Watermark,
        "select endpoint, event_at_ms, bucket_ms, seq, label_seq, predictions, labels from watermark where endpoint = :e",
        e=endpoint,
    )
