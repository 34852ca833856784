"""How the signed things stand, for whoever checks them over and over: the sealed log, the provenance of a version."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noria.governance import audit_store
from noria.governance.anchors import Anchor
from noria.governance.keys import MODEL_KEY, load_public
from noria.governance.live import verify_database
from noria.governance.verify import Unreadable, parse_keys
from noria.governance.verify_model import read_statement
from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database

STANDING_S = 3 * 3_600.0  # verifying reads the whole log: 25 µs a fact


class Standing:
    """See the module."""

    def __init__(self, db: Database, blobs: BlobStore, home: Path, anchors: Sequence[Anchor]) -> None:
        self._db, self._blobs, self._home, self._anchors = db, blobs, home, list(anchors)
        self._last: tuple[float, bool, str] | None = None  # when the log was verified whole, and what came of it

    def audit(self) -> tuple[bool, str, int | None]:
        """Is the log intact, what is wrong, and until when did a place elsewhere know all of it? Verified every few hours only."""
        now_s = self._db.clock.monotonic_s()
        if self._last is None or now_s - self._last[0] >= STANDING_S:
            report = verify_database(self._db, self._blobs, load_public(self._home), self._anchors)
            self._last = (now_s, report.is_intact, report.faults[0].message if report.faults else "")
        with self._db.read() as tx:
            told, newest = audit_store.last_anchored(tx), audit_store.checkpoints(tx, limit=1)
        at_ms = None if told is None else self._db.clock.now_ms() if newest and newest[0].size == told[0] else told[1]
        return self._last[1], self._last[2], at_ms

    def provenance(self, version_id: str) -> tuple[dict[str, Any] | None, str]:
        """The statement that is signed about a version, and what is wrong with it; '' when the signature verifies."""
        with self._db.read() as tx:
            text = tx.scalar("select envelope from attestation where version_id = :id", id=version_id)
        if text is None:
            return None, "is not signed"
        public = load_public(self._home, MODEL_KEY)
        if not public:
            return None, "cannot be verified: the public key is missing"
        try:
            return read_statement(json.loads(str(text)), parse_keys(public)), ""  # what an older key signed stands
        except (Unreadable, ValueError) as error:
            return None, f"does not verify: {error}"
