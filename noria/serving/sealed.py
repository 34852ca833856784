"""The files of inferences and truths that recorders sealed, in the order in which they were registered."""

from __future__ import annotations

from typing import Any, Literal

from noria.kernel.blobs import BlobStore, check_digest
from noria.kernel.collector import condemn
from noria.kernel.db import Database, Write
from noria.kernel.errors import Invalid
from noria.kernel.ids import Ref
from noria.kernel.op import Op
from noria.serving import store
from noria.serving.model import SegmentInfo
from noria.serving.revisions import endpoint_ref

SEGMENTS_PER_PAGE = 1_000


class Sealed:
    """See the module."""

    def __init__(self, db: Database, blobs: BlobStore) -> None:
        self._db, self._blobs = db, blobs

    def add(self, op: Op, info: SegmentInfo) -> SegmentInfo | None:
        """Register a sealed file whose bytes are stored; None when it was registered before. Raises Invalid, Forbidden."""
        op.require("endpoint.serve")
        return self.keep(op, info)

    def keep(self, op: Op, info: SegmentInfo) -> SegmentInfo | None:
        """The same, for a caller whose rights were looked at."""
        check_digest(info.digest)
        if info.rows < 1 or info.event_from_ms > info.event_to_ms:
            raise Invalid("A segment has at least one row, and its times are in order.", where="rows")
        if not self._blobs.has(info.digest):
            raise Invalid(
                f"The bytes of segment {info.digest[:12]} are not stored.", where="digest", hint="PUT the blob first."
            )
        with self._db.write(op) as tx:
            made = store.add_segment(tx, info)
            if made is None:
                return None
            tx.link(endpoint_ref(made.endpoint), "recorded", Ref("blob", made.digest), protects=True)
            data: dict[str, Any] = {
                "endpoint": made.endpoint, "rows": made.rows, "digest": made.digest, "segment": made.seq,
                "event_from_ms": made.event_from_ms, "event_to_ms": made.event_to_ms,
            }  # fmt: skip
            if made.kind == "inference":
                tx.emit("segment.written", endpoint_ref(made.endpoint), revision=made.revision_id, **data)
            else:
                tx.emit("truth.written", endpoint_ref(made.endpoint), **data)
        return made

    def give_up(self, tx: Write, endpoint: str, digests: list[str]) -> None:
        """The rows of these segments lie in another file now: their bytes go, unless somebody else needs them."""
        given = store.give_up_segments(tx, digests)
        for digest, _ in given:
            tx.unlink(endpoint_ref(endpoint), "recorded", Ref("blob", digest))
        condemn(tx, given, tx.op.at_ms if tx.op else 0)

    def after(
        self, op: Op, endpoint: str, after_seq: int = 0, *, kind: Literal["", "inference", "truth"] = "",
        limit: int = SEGMENTS_PER_PAGE,
    ) -> list[SegmentInfo]:  # fmt: skip
        """Registered files of an endpoint after `after_seq`, oldest first. Raises Forbidden."""
        op.require("inference.read", endpoint_ref(endpoint))
        with self._db.read() as tx:
            return store.segments(tx, endpoint, after_seq=after_seq, kind=kind, limit=min(limit, SEGMENTS_PER_PAGE))
