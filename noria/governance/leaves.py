"""Facts as leaves of the sealed tree: canonical JSON of the row, and what was sealed of each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from noria.governance import audit_store
from noria.kernel.db import Database
from noria.kernel.personal import shown_rows

FACTS_PER_BATCH = 1_000


def leaf_bytes(row: dict[str, Any]) -> bytes:
    """The leaf of a fact: see the module. `row` holds the nine columns, `data` as text."""
    return json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def leaves(db: Database, size: int) -> Iterator[bytes]:
    """Leaves of the facts there are, up to number `size`; a missing number is skipped, as a reader would see it."""
    return (leaf_bytes(row) for row in rows(db, size))


def rows(db: Database, size: int) -> Iterator[dict[str, Any]]:
    at = 0
    while at < size:
        with db.read() as tx:
            rows = audit_store.raw_events(tx, at, upto=size, limit=FACTS_PER_BATCH)
        if not rows:
            return
        yield from rows
        at = rows[-1]["seq"]


def rows_shown(db: Database, size: int) -> Iterator[dict[str, Any]]:
    """The same rows with the personal values that are still there."""
    at = 0
    while at < size:
        with db.read() as tx:
            found = audit_store.raw_events(tx, at, upto=size, limit=FACTS_PER_BATCH)
            shown = shown_rows(tx, found)
        if not found:
            return
        yield from shown
        at = found[-1]["seq"]


def personal(db: Database, size: int) -> Iterator[dict[str, Any]]:
    """The personal values that are still there beside the first `size` facts, in order."""
    after = (0, "")
    while True:
        with db.read() as tx:
            found = audit_store.personal(tx, after, upto=size, limit=FACTS_PER_BATCH)
        if not found:
            return
        yield from found
        after = (int(found[-1]["seq"]), str(found[-1]["field"]))


def sealed_hashes(db: Database, size: int) -> Iterator[list[bytes]]:
    at = 0
    while at < size:
        with db.read() as tx:
            found = audit_store.leaves(tx, at, limit=min(FACTS_PER_BATCH, size - at))
        if not found:
            return
        yield [h for _, h in found]
        at = found[-1][0] + 1
