"""Keeps the prediction log: many small Arrow segments become few Parquet files, and what was kept long enough is deleted.

    segments of a past hour ─▶ Parquet file (noted as being made) ─▶ stored ─▶ one transaction: segments point into it, their own
                                                                              bytes are given up ─▶ older than the policy: deleted

Nothing else changes when a file is made: an answer names its segment and its row there, and the segment says where its rows begin.
Invariant: a segment lies in exactly one place. A crash leaves a file that is noted as being made; the next turn gives it up and
makes it again. Deleting is a fact, and never happens under a hold.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from noria.kernel.blobs import BlobInfo, BlobStore
from noria.kernel.collector import condemn
from noria.kernel.crash import crash_here
from noria.kernel.db import Database, Read
from noria.kernel.edges import protectors, require_unprotected
from noria.kernel.errors import Conflict, Invalid, NoriaError, NotFound
from noria.kernel.ids import Ref, new_id
from noria.kernel.op import Ops
from noria.monitoring import answers_store, log_store
from noria.monitoring.log_store import LOST, Loose
from noria.monitoring.model import HOUR_MS, LogFile
from noria.monitoring.segments import read_table
from noria.serving.model import Recording
from noria.serving.service import Serving

log = logging.getLogger("noria.monitoring")

CROWD = 256  # segments of an endpoint that are not left until their hour is over
SEGMENTS_PER_TURN = 512
FILE_ROWS_MAX = 500_000
GROUP_ROWS = 65_536
UNFINISHED_MS = 600_000  # a file is made in seconds; one that took ten minutes has lost its maker
FILES_PER_TURN = 100


class Made(Struct, kw_only=True):
    """A Parquet file on this machine, and which segments lie where in it."""

    path: Path
    schema: Any
    revision_id: str
    writer: Any
    places: list[tuple[int, int]]
    rows: int = 0
    event_from_ms: int = 1 << 62
    event_to_ms: int = 0
    from_ms: int = 1 << 62
    to_ms: int = 0


class LogKeeper:
    """Reconciler: compacts, then deletes."""

    name = "monitoring.log"
    wake_on: frozenset[str] = frozenset({"recording.changed"})

    def __init__(self, db: Database, ops: Ops, blobs: BlobStore, serving: Serving, *, every_s: float = 60.0) -> None:
        self._db, self._ops, self._blobs, self._serving, self.every_s = db, ops, blobs, serving, every_s

    def digests_in_use(self, tx: Read, digests: list[str]) -> set[str]:
        """Those of `digests` that are files of the log; for the collector of unused blobs."""
        return log_store.digests_in_use(tx, digests)

    def reconcile(self) -> None:
        try:
            self._give_up_unfinished()
            while self.compact():
                pass
            self.delete_old()
        except Conflict as lost:
            log.info("%s", lost.message)

    # --- compaction -------------------------------------------------------------------------------------------------

    def compact(self, *, everything: bool = False) -> int:
        """Make files of the segments of hours that are over, or (`everything`) of all; returns how many segments moved."""
        now = self._db.clock.now_ms()
        before = 1 << 62 if everything else now // HOUR_MS * HOUR_MS
        with self._db.read() as tx:
            places = log_store.loose_places(tx, before, CROWD)
        return sum(self._compact(endpoint, kind) for endpoint, kind in places)

    def _compact(self, endpoint: str, kind: str) -> int:
        with self._db.read() as tx:
            segments = log_store.loose_segments(tx, endpoint, kind, limit=SEGMENTS_PER_TURN)
        if not segments:
            return 0
        hour = segments[0].at_ms // HOUR_MS  # files of one hour each, so that days can be deleted
        segments = [s for s in segments if s.at_ms // HOUR_MS == hour]
        lost: list[Loose] = []
        with tempfile.TemporaryDirectory(prefix="noria-log-") as folder:
            made = self._write(Path(folder), kind, segments, lost)
            files = [self._store(endpoint, kind, m) for m in made]
        self._place(endpoint, kind, files, made, segments, lost)
        return len(segments)

    def _write(self, folder: Path, kind: str, segments: list[Loose], lost: list[Loose]) -> list[Made]:
        """Parquet files of the segments' rows, one per revision and schema."""
        made = list[Made]()
        for segment, table in self._tables(segments, lost):
            meta = table.schema.metadata or {}
            revision_id = meta.get(b"revision_id", b"").decode()
            into = next(
                (m for m in made if m.revision_id == revision_id and m.schema.equals(table.schema, check_metadata=True)
                 and m.rows < FILE_ROWS_MAX), None,
            )  # fmt: skip
            if into is None:
                into = _open(folder / f"{len(made)}.parquet", table.schema, revision_id)
                made.append(into)
            into.places.append((segment.id, into.rows))
            into.writer.write_table(table, row_group_size=GROUP_ROWS)
            times = table.column("event_at_ms" if kind == "inference" else "at_ms").to_numpy()
            into.rows += table.num_rows
            into.event_from_ms = min(into.event_from_ms, int(times.min()))
            into.event_to_ms = max(into.event_to_ms, int(times.max()))
            into.from_ms, into.to_ms = min(into.from_ms, segment.at_ms), max(into.to_ms, segment.at_ms)
        for file in made:
            file.writer.close()
        return made

    def _tables(self, segments: list[Loose], lost: list[Loose]) -> Iterator[tuple[Loose, Any]]:
        for segment in segments:
            try:
                table = read_table(self._blobs.get(segment.digest))
            except (NotFound, Invalid) as error:
                log.error("segment %s is left out of the log's files: %s", segment.digest[:12], error.message)
                lost.append(segment)
                continue
            if table.num_rows != segment.rows or not table.num_rows:
                log.error("segment %s has %d rows, not %d", segment.digest[:12], table.num_rows, segment.rows)
                lost.append(segment)
                continue
            yield segment, table

    def _store(self, endpoint: str, kind: str, made: Made) -> LogFile:
        """Note the file, then store its bytes: a crash between the two leaves a note."""
        info = _info(made.path)
        op = self._ops.system(self.name)
        file = LogFile(
            id=new_id(op.at_ms), endpoint=endpoint, kind=kind, revision_id=made.revision_id, digest=info.digest,  # type: ignore[arg-type]
            rows=made.rows, size_bytes=info.size_bytes, event_from_ms=made.event_from_ms, event_to_ms=made.event_to_ms,
            from_ms=made.from_ms, to_ms=made.to_ms, made_at_ms=op.at_ms,
        )  # fmt: skip
        with self._db.system_write() as tx:
            log_store.add_file(tx, file, at_ms=op.at_ms)
        crash_here("log.noted")
        self._blobs.put(made.path)
        crash_here("log.stored")
        return file

    def _place(
        self, endpoint: str, kind: str, files: list[LogFile], made: list[Made], segments: list[Loose], lost: list[Loose]
    ) -> None:
        """Let the segments point into their files. Raises Conflict when another keeper was faster."""
        gone = {s.id for s in lost}
        digests = [s.digest for s in segments if s.id not in gone]
        with self._db.write(self._ops.system(self.name)) as tx:
            for file, places in zip(files, (m.places for m in made), strict=True):
                if not log_store.keep_file(tx, file.id) or log_store.place_segments(tx, file.id, places) != len(places):
                    raise Conflict(f"Another keeper made the files of {endpoint}.", ref=Ref("endpoint", endpoint))
                tx.link(Ref("endpoint", endpoint), "recorded", Ref("blob", file.digest), protects=True)
            log_store.place_segments(tx, LOST, [(s.id, 0) for s in lost])
            self._serving.segments.give_up(tx, endpoint, digests)
            if files:
                rows = sum(f.rows for f in files)
                tx.emit(
                    "log.compacted", Ref("endpoint", endpoint), endpoint=endpoint, segments=len(digests), files=len(files),
                    rows=rows,
                )  # fmt: skip

    def _give_up_unfinished(self) -> None:
        with self._db.read() as tx:
            left = log_store.unfinished_files(tx, self._db.clock.now_ms() - UNFINISHED_MS)
        if not left:
            return
        with self._db.system_write() as tx:
            condemn(tx, [(f.digest, f.size_bytes) for f in left], self._db.clock.now_ms())
            for file in left:
                log_store.forget_file(tx, file.id)

    # --- retention --------------------------------------------------------------------------------------------------

    def delete_old(self) -> int:
        """Delete the files that the policies let go, those that arrived longest ago first; returns how many."""
        with self._db.read() as tx:
            policies = {
                e: p for e, p in self._serving.recordings.all(tx).items()
                if not p.hold and not protectors(tx, Ref("endpoint", e))
            }  # fmt: skip
        deleted = 0
        for endpoint, policy in policies.items():
            if policy.keep_days is None and policy.keep_rows is None:
                continue
            try:
                while done := self._delete_some(endpoint, policy):
                    deleted += done
            except NoriaError as error:
                log.warning("the log of %s could not be shortened: %s", endpoint, error.message, exc_info=error)
        return deleted

    def _delete_some(self, endpoint: str, policy: Recording) -> int:
        with self._db.read() as tx:
            answers = log_store.files(tx, endpoint, kind="inference", limit=FILES_PER_TURN)
            truths = log_store.files(tx, endpoint, kind="truth", limit=FILES_PER_TURN)
            rows = log_store.rows_kept(tx, endpoint)
        doomed = due(answers, truths, policy, now_ms=self._db.clock.now_ms(), rows=rows)
        for file, reason in doomed:
            self._delete(file, reason)
        return len(doomed)

    def _delete(self, file: LogFile, reason: str) -> None:
        with self._db.write(self._ops.system(self.name)) as tx:
            # The row that a hold would change is read here, in the transaction that deletes.
            if self._serving.recordings.all(tx).get(file.endpoint, Recording()).hold:
                raise Conflict(f"The log of {file.endpoint} is on hold.", ref=Ref("endpoint", file.endpoint))
            require_unprotected(tx, Ref("endpoint", file.endpoint))  # a legal hold
            if file.kind == "inference":
                streams = [s.id for s in answers_store.streams(tx, file.endpoint, shadows=True)]
                log_store.delete_answers(tx, streams, log_store.segments_in(tx, file.id), file)
            log_store.give_up_places(tx, file.id)
            log_store.forget_file(tx, file.id)
            tx.unlink(Ref("endpoint", file.endpoint), "recorded", Ref("blob", file.digest))
            condemn(tx, [(file.digest, file.size_bytes)], tx.op.at_ms if tx.op else 0)
            tx.emit(
                "log.deleted", Ref("endpoint", file.endpoint), endpoint=file.endpoint, log=file.kind, rows=file.rows,
                digest=file.digest, from_ms=file.from_ms, to_ms=file.to_ms, reason=reason,
            )  # fmt: skip


def due(
    answers: list[LogFile], truths: list[LogFile], policy: Recording, *, now_ms: int, rows: int
) -> list[tuple[LogFile, str]]:
    """Which files, of the oldest ones given, may go and why. `rows`: of all answers that lie in files.

    None goes before an older one of its kind. With `keep_rows` truth goes that came before the oldest answer that is left.
    """
    before_ms = None if policy.keep_days is None else now_ms - policy.keep_days * 86_400_000
    found = list[tuple[LogFile, str]]()
    for file in answers:
        if before_ms is not None and file.to_ms < before_ms:
            found.append((file, f"arrived more than {policy.keep_days:g} days ago"))
        elif policy.keep_rows is not None and rows - file.rows >= policy.keep_rows:
            found.append((file, f"there are {policy.keep_rows:,} newer answers"))
        else:
            break
        rows -= file.rows
    oldest_ms = min((f.from_ms for f in answers[len(found) :]), default=0)
    for file in truths:
        if before_ms is not None and file.to_ms < before_ms:
            found.append((file, f"arrived more than {policy.keep_days:g} days ago"))
        elif policy.keep_rows is not None and file.to_ms < oldest_ms:
            found.append((file, "came before every answer that is kept"))
        else:
            break
    return found


def _open(path: Path, schema: Any, revision_id: str) -> Made:
    from pyarrow import parquet

    return Made(
        path=path, schema=schema, revision_id=revision_id, places=[],
        writer=parquet.ParquetWriter(path, schema, compression="zstd"),
    )  # fmt: skip


def _info(path: Path) -> BlobInfo:
    """Digest and size of a file, before it is stored."""
    from blake3 import blake3

    hasher = blake3()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            hasher.update(chunk)
    return BlobInfo(digest=hasher.hexdigest(), size_bytes=path.stat().st_size)
