"""What monitoring asks of the log of facts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from noria.kernel.db import Read
from noria.kernel.events import Event

_EVENT = "seq, at_ms, kind, subject, actor, op_id, cause, workspace, data"


def caused_by(tx: Read, seqs: Iterable[int], *, limit: int) -> list[Event]:
    """The facts that the given facts led to directly, oldest first."""
    return tx.all(
        Event, f"select {_EVENT} from event where cause in :seqs order by seq limit :limit", seqs=sorted(seqs), limit=limit
    )


def facts_about(tx: Read, kinds: Sequence[str], subjects: Sequence[str], *, limit: int = 200) -> list[Event]:
    """Facts about these subjects, of these kinds (none: of all), oldest first."""
    if not subjects:
        return []
    where, args = ("and kind in :kinds", {"kinds": list(kinds)}) if kinds else ("", {})
    return tx.all(
        Event,
        f"select {_EVENT} from event where subject in :subjects {where} order by seq limit :limit",
        subjects=sorted(subjects), limit=limit, **args,
    )  # fmt: skip


def facts_of_kinds(tx: Read, kinds: Sequence[str], *, before_ms: int, limit: int) -> list[Event]:
    """The latest facts of some kinds up to a time, oldest first."""
    found = tx.all(
        Event,
        f"select {_EVENT} from event where kind in :kinds and at_ms <= :before_ms order by seq desc limit :limit",
        kinds=list(kinds),
        before_ms=before_ms,
        limit=limit,
    )
    return found[::-1]
