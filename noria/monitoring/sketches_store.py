"""The rows of sketches."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from noria.kernel.db import Read, Write, js
from noria.monitoring.answers_store import chunks
from noria.monitoring.sketches import Profile


def sketches(tx: Read, stream_ids: Sequence[int], start_ms: int, end_ms: int) -> list[Profile]:
    """The profiles of every bucket in [start, end)."""
    if not stream_ids:
        return []
    found = tx.column(
        "select profile from sketch where stream_id in :streams and start_ms >= :start and start_ms < :end",
        streams=stream_ids, start=start_ms, end=end_ms,
    )  # fmt: skip
    return [msgspec.json.decode(text, type=Profile) for text in found]


def sketches_at(tx: Read, stream_id: int, starts: Sequence[int]) -> dict[int, Profile]:
    found: dict[int, Profile] = {}
    for part in chunks(starts):
        rows = tx.rows(
            "select start_ms, profile from sketch where stream_id = :stream and start_ms in :starts",
            stream=stream_id, starts=part,
        )  # fmt: skip
        found |= {int(r["start_ms"]): msgspec.json.decode(r["profile"], type=Profile) for r in rows}
    return found


def put_sketches(tx: Write, stream_id: int, profiles: dict[int, Profile]) -> None:
    tx.many(
        """insert into sketch (stream_id, start_ms, profile) values (:stream_id, :start_ms, :profile)
           on conflict (stream_id, start_ms) do update set profile = excluded.profile""",
        [{"stream_id": stream_id, "start_ms": start, "profile": js(p)} for start, p in profiles.items()],
    )


def forget_sketches(tx: Write, stream_ids: Sequence[int]) -> None:
    if stream_ids:
        tx.run("delete from sketch where stream_id in :streams", streams=stream_ids)
