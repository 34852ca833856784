"""The rows of the prediction log's files, and which of their rows are whose."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from noria.kernel.db import Read, Write
from noria.monitoring.model import LogFile

_FILE = "id, endpoint, kind, revision_id, digest, rows, size_bytes, event_from_ms, event_to_ms, from_ms, to_ms, made_at_ms"
LOST = "lost"  # in place of a file: the bytes of the segment are gone
DELETED = "deleted"  # in place of a file: retention deleted it


class Loose(Struct, frozen=True, kw_only=True):
    """A segment that lies in no file yet."""

    id: int
    digest: str
    rows: int
    at_ms: int


def loose_places(tx: Read, before_ms: int, crowd: int) -> list[tuple[str, str]]:
    """(endpoint, kind) with segments taken before `before_ms`, or with at least `crowd` of them, that lie in no file yet."""
    rows = tx.rows(
        """select endpoint, kind from ingested_segment where file_id is null
            group by endpoint, kind having min(at_ms) < :before or count(*) >= :crowd order by endpoint, kind""",
        before=before_ms, crowd=crowd,
    )  # fmt: skip
    return [(r["endpoint"], r["kind"]) for r in rows]


def loose_segments(tx: Read, endpoint: str, kind: str, *, limit: int) -> list[Loose]:
    """Oldest first."""
    return tx.all(
        Loose,
        """select id, digest, rows, at_ms from ingested_segment
            where endpoint = :endpoint and kind = :kind and file_id is null order by at_ms, id limit :limit""",
        endpoint=endpoint, kind=kind, limit=limit,
    )  # fmt: skip


def add_file(tx: Write, file: LogFile, *, at_ms: int) -> None:
    """Note a file whose bytes are about to be stored."""
    tx.run(
        """insert into log_file (id, endpoint, kind, revision_id, digest, rows, size_bytes, event_from_ms, event_to_ms, from_ms,
                                 to_ms, state, made_at_ms)
           values (:id, :endpoint, :kind, :revision_id, :digest, :rows, :size_bytes, :event_from_ms, :event_to_ms, :from_ms,
                   :to_ms, 'making', :made_at_ms)""",
        id=file.id, endpoint=file.endpoint, kind=file.kind, revision_id=file.revision_id, digest=file.digest, rows=file.rows,
        size_bytes=file.size_bytes, event_from_ms=file.event_from_ms, event_to_ms=file.event_to_ms, from_ms=file.from_ms,
        to_ms=file.to_ms, made_at_ms=at_ms,
    )  # fmt: skip


def keep_file(tx: Write, file_id: str) -> bool:
    """The bytes are stored and its segments point to it; False when somebody gave it up meanwhile."""
    return bool(tx.run("update log_file set state = 'kept' where id = :id and state = 'making'", id=file_id))


def place_segments(tx: Write, file_id: str, places: Sequence[tuple[int, int]]) -> int:
    """Segments (id, offset) lie in a file now; returns how many did not lie in another one."""
    return sum(
        tx.run(
            "update ingested_segment set file_id = :file, file_offset = :offset where id = :id and file_id is null",
            file=file_id, offset=offset, id=segment_id,
        )
        for segment_id, offset in places
    )  # fmt: skip


def unfinished_files(tx: Read, before_ms: int) -> list[LogFile]:
    """Files that were being made when their maker died."""
    return tx.all(
        LogFile,
        f"select {_FILE} from log_file where state = 'making' and made_at_ms < :before order by id",
        before=before_ms,
    )


def forget_file(tx: Write, file_id: str) -> None:
    tx.run("delete from log_file where id = :id", id=file_id)


def files(tx: Read, endpoint: str, *, kind: str = "", after: tuple[int, str] = (0, ""), limit: int = 1000) -> list[LogFile]:
    """The files of an endpoint, or those of a kind, which arrived longest ago first."""
    return tx.all(
        LogFile,
        f"""select {_FILE} from log_file
             where endpoint = :endpoint and state = 'kept'{" and kind = :kind" if kind else ""}
               and (to_ms > :at or (to_ms = :at and id > :id))
             order by to_ms, id limit :limit""",
        endpoint=endpoint, at=after[0], id=after[1], limit=limit, **({"kind": kind} if kind else {}),
    )  # fmt: skip


def rows_kept(tx: Read, endpoint: str) -> int:
    """How many answers of an endpoint lie in files."""
    found = tx.scalar(
        "select coalesce(sum(rows), 0) from log_file where endpoint = :e and kind = 'inference' and state = 'kept'",
        e=endpoint,
    )
    return int(found)


def digests_in_use(tx: Read, digests: list[str]) -> set[str]:
    """Those of `digests` that are files of the log."""
    return set(tx.column("select digest from log_file where digest in :digests", digests=digests))


def segments_in(tx: Read, file_id: str) -> list[int]:
    return [int(i) for i in tx.column("select id from ingested_segment where file_id = :file order by id", file=file_id)]


def delete_answers(tx: Write, streams: Sequence[int], segment_ids: Sequence[int], file: LogFile) -> int:
    """Delete the answers of a file's segments and the truth that speaks of nothing else; returns how many answers."""
    args = {
        "streams": list(streams), "segments": list(segment_ids), "from": file.event_from_ms, "to": file.event_to_ms,
        "endpoint": file.endpoint,
    }  # fmt: skip
    doomed = """from inference i
            where i.stream_id in :streams and i.event_at_ms >= :from and i.event_at_ms <= :to and i.segment_id in :segments"""
    tx.run(
        f"""delete from truth where endpoint = :endpoint and named_by = 'id' and name in (select i.prediction_id {doomed})""",
        **args,
    )
    tx.run(
        f"""delete from truth where endpoint = :endpoint and named_by = 'key' and name in (select i.key {doomed})
             and not exists (select 1 from inference o
                              where o.key = truth.name and o.stream_id in :streams and not (o.segment_id in :segments))""",
        **args,
    )
    return tx.run(
        """delete from inference
            where stream_id in :streams and event_at_ms >= :from and event_at_ms <= :to and segment_id in :segments""",
        **{k: v for k, v in args.items() if k != "endpoint"},
    )


def give_up_places(tx: Write, file_id: str) -> None:
    """The segments of a file lie nowhere any more; that they were taken is remembered."""
    tx.run("update ingested_segment set file_id = :gone where file_id = :file", gone=DELETED, file=file_id)
