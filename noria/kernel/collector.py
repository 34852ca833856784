"""The collector of unused blobs: a blob that lost an owner is condemned, and removed a grace time later unless somebody uses it.

    owner's row goes ──same transaction──▶ condemned ──grace──▶ nobody uses it? ──▶ going ──▶ bytes removed ──▶ row removed
                                               ▲ put() of the same bytes takes the row away: reprieved

Only what an owner gave up is ever looked at, so bytes that no row ever named, or that other slices put, are not touched. Whether
somebody else uses a blob, each slice answers for itself (`BlobUser`). Invariants: bytes are removed only in the state `going`,
which a blob enters only from `condemned`; `put` leaves no row behind, so a blob that was just stored is never removed; `has`
answers no for a condemned blob, so whoever relies on it stores it again. A crash leaves a row that the next turn finishes.
"""

from __future__ import annotations

import builtins
import logging
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from noria.kernel.blobs import BlobInfo, BlobStore, Damaged, Named, Source, Spool
from noria.kernel.crash import crash_here
from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import NotFound, Unavailable
from noria.kernel.facts import Fact, fact
from noria.kernel.ids import Ref
from noria.kernel.op import Ops

log = logging.getLogger("noria.collector")

GRACE_S = 24 * 3600.0  # between losing the last owner and going: longer than any upload lasts
GRACE_S_MIN, GRACE_S_MAX = 60.0, 366 * 86_400.0
BATCH = 500
LOOK_EVERY_S = 1.0  # how long "nothing is condemned" may be believed; far below the shortest grace
GOING_WAIT_S = 10.0
_DIGEST = re.compile(r"[0-9a-f]{64}")


class BlobUser(Protocol):
    """A slice that names blobs."""

    def digests_in_use(self, tx: Read, digests: list[str]) -> set[str]:
        """Those of `digests` that some row of the slice, or a blob of its own, needs."""
        ...


class Collected(Struct, frozen=True, kw_only=True):
    """What one turn did."""

    removed: int = 0
    freed_bytes: int = 0
    kept: int = 0


def condemn(tx: Write, blobs: Iterable[tuple[str, int]], at_ms: int) -> None:
    """Note blobs (digest, size) that lost an owner in this transaction. They go a grace time later, if nobody uses them."""
    tx.many(
        """insert into blob_condemned (digest, size_bytes, at_ms, state) values (:digest, :size_bytes, :at_ms, 'condemned')
           on conflict (digest) do update set at_ms = excluded.at_ms where blob_condemned.state = 'condemned'""",
        [{"digest": digest, "size_bytes": size, "at_ms": at_ms} for digest, size in sorted(set(blobs))],
    )  # fmt: skip


def mentioned(tx: Read, sql: str, digests: Iterable[str], /, **params: Any) -> set[str]:
    """Those of `digests` that the text columns of a query contain, wherever in them: for rows that hold JSON."""
    wanted, found = set(digests), set[str]()
    for row in tx.tuples(sql, **params):
        for value in row:
            if isinstance(value, str):
                found |= wanted.intersection(_DIGEST.findall(value))
    return found


class Collector:
    """Removes condemned blobs. A reconciler; `turn` may be called at any time too."""

    name = "blobs.collector"
    every_s = 600.0
    wake_on: frozenset[str] = frozenset()

    def __init__(self, db: Database, blobs: BlobStore) -> None:
        self._db, self._blobs = db, blobs
        self.users: list[BlobUser] = []  # every slice that names blobs; filled by app.py

    def reconcile(self) -> None:
        while (done := self.turn()).removed + done.kept >= BATCH:
            pass

    def turn(self, *, grace_s: float = GRACE_S) -> Collected:
        """Remove one batch of blobs that were condemned `grace_s` ago and that nobody uses."""
        freed = self._finish()  # what a crash left half done
        due = self._db.clock.now_ms() - int(grace_s * 1000)
        with self._db.read() as tx:
            digests = tx.column(
                """select digest from blob_condemned where state = 'condemned' and at_ms <= :due
                    order by at_ms, digest limit :limit""",
                due=due, limit=BATCH,
            )  # fmt: skip
            used = self.in_use(tx, digests)
        unused = [digest for digest in digests if digest not in used]
        if digests:
            with self._db.system_write() as tx:
                # Only rows that are still as old as when they were read: a new owner may have come and gone meanwhile.
                tx.run(
                    "delete from blob_condemned where digest in :used and state = 'condemned' and at_ms <= :due",
                    used=used,
                    due=due,
                )
                tx.run(
                    """update blob_condemned set state = 'going'
                        where digest in :unused and state = 'condemned' and at_ms <= :due""",
                    unused=unused, due=due,
                )  # fmt: skip
            crash_here("blobs.going")
        more = self._finish()
        return Collected(
            removed=freed.removed + more.removed, freed_bytes=freed.freed_bytes + more.freed_bytes, kept=len(used)
        )

    def in_use(self, tx: Read, digests: list[str], *, but: BlobUser | None = None) -> set[str]:
        """Those of `digests` that some slice needs (leaving out `but`)."""
        if not digests:
            return set()
        refs = {str(Ref("blob", digest)): digest for digest in digests}
        found = {refs[ref] for ref in tx.column("select dst from edge where dst in :refs and protects", refs=list(refs))}
        for user in self.users:
            left = [digest for digest in digests if digest not in found]
            if user is not but and left:
                found |= user.digests_in_use(tx, left)
        return found

    def waiting(self, tx: Read) -> tuple[int, int]:
        """How many blobs are condemned, and their bytes."""
        rows = tx.rows("select count(*) as n, coalesce(sum(size_bytes), 0) as size from blob_condemned")
        return int(rows[0]["n"]), int(rows[0]["size"])

    def _finish(self) -> Collected:
        with self._db.read() as tx:
            rows = tx.rows("select digest, size_bytes from blob_condemned where state = 'going' order by digest")
        for row in rows:
            self._blobs.delete(row["digest"])
            crash_here("blobs.removed")
        if rows:
            with self._db.system_write() as tx:
                tx.run(
                    "delete from blob_condemned where state = 'going' and digest in :gone", gone=[r["digest"] for r in rows]
                )
        return Collected(removed=len(rows), freed_bytes=sum(r["size_bytes"] for r in rows))


@fact("blob.damaged")
class BlobDamaged(Fact):
    """Stored bytes no longer matched their name when they were read; they were put aside."""


class KeptBlobs:
    """A blob store whose `put` reprieves, whose `has` does not count on the condemned, and that puts damaged bytes aside when they are
    read. Everything else is the store's own."""

    def __init__(self, store: BlobStore, db: Database) -> None:
        self._store, self._db = store, db
        self._empty_until_s = 0.0
        self.ops: Ops | None = None  # what mints operations, for facts; filled by app.py, since it needs the database too

    def put(self, data: Source) -> BlobInfo:
        """See BlobStore. Raises Unavailable when the same bytes have been going for too long."""
        if isinstance(data, bytes | bytearray | memoryview | Path | Spool):
            return self._put(data)
        with tempfile.NamedTemporaryFile(prefix="noria-put-") as spool:  # it may have to be stored twice
            for chunk in data:
                spool.write(chunk)
            spool.flush()
            return self._put(Path(spool.name))

    def has(self, digest: str) -> bool:
        return self._store.has(digest) and not self._state(digest)

    def _put(self, data: Any) -> BlobInfo:
        until_s = self._db.clock.monotonic_s() + GOING_WAIT_S
        while True:
            info = self._store.put(data)
            if not self._state(info.digest):
                return info
            with self._db.system_write() as tx:
                tx.run("delete from blob_condemned where digest = :digest and state = 'condemned'", digest=info.digest)
            if not self._state(info.digest):
                return info
            if self._db.clock.monotonic_s() > until_s:
                raise Unavailable(
                    "These bytes are being removed just now.", retry_after_s=5, hint="Send them again in a moment."
                )
            self._db.clock.sleep(0.05)

    def _state(self, digest: str) -> str:
        """`condemned`, `going` or ''. One cheap look a second while nothing is condemned at all."""
        now_s = self._db.clock.monotonic_s()
        if now_s < self._empty_until_s:
            return ""
        with self._db.read() as tx:
            found = tx.scalar("select state from blob_condemned where digest = :digest", digest=digest)
            if found is None and tx.scalar("select digest from blob_condemned limit 1") is None:
                self._empty_until_s = now_s + LOOK_EVERY_S
        return str(found or "")

    def get(self, digest: str) -> bytes:
        """See BlobStore. Damaged bytes are put aside, which is a fact."""
        with self._noting_damage(digest):
            return self._store.get(digest)

    def open(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See BlobStore and `get`."""
        with self._noting_damage(digest):
            chunks = self._store.open(digest, start, end)
        return self._watched(digest, chunks)

    def size(self, digest: str) -> int:
        with self._noting_damage(digest):
            return self._store.size(digest)

    def quarantine(self, digest: str) -> None:
        self._store.quarantine(digest)

    def is_quarantined(self, digest: str) -> bool:
        return self._store.is_quarantined(digest)

    def _watched(self, digest: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        with self._noting_damage(digest):
            yield from chunks

    @contextmanager
    def _noting_damage(self, digest: str) -> Iterator[None]:
        try:
            yield
        except NotFound as cause:
            if self._store.is_quarantined(digest):
                raise Damaged(digest) from cause
            raise
        except Damaged:
            self._note_damage(digest)
            raise

    def _note_damage(self, digest: str) -> None:
        try:
            self._store.get(digest)  # once more: what was torn on its way is not damaged where it lies
        except NotFound:
            return  # put aside already
        except Damaged:
            log.error("the blob %s is damaged; it is put aside under quarantine/", digest)
        else:
            log.warning("the blob %s was damaged on its way, and is whole where it lies", digest)
            return
        self._store.quarantine(digest)
        if self.ops is not None and self._db.writing() is None:
            with self._db.write(self.ops.system("blobs")) as tx:
                tx.emit("blob.damaged", Ref("blob", digest))

    def delete(self, digest: str) -> None:
        self._store.delete(digest)

    def list(self) -> Iterator[BlobInfo]:
        return self._store.list()

    def put_at(self, key: str, data: bytes | Path) -> None:
        self._store.put_at(key, data)

    def get_at(self, key: str) -> bytes:
        return self._store.get_at(key)

    def open_at(self, key: str) -> Iterator[bytes]:
        return self._store.open_at(key)

    def delete_at(self, key: str) -> None:
        self._store.delete_at(key)

    def keys(self, prefix: str) -> Iterator[str]:
        return self._store.keys(prefix)

    def named(self, prefix: str) -> builtins.list[Named]:
        return self._store.named(prefix)

    def link_to_put(self, key: str, for_s: float) -> str:
        return self._store.link_to_put(key, for_s)

    def link_to_get(self, digest: str, for_s: float) -> str:
        return self._store.link_to_get(digest, for_s)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)  # what one kind of store can do besides
