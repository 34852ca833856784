"""The rows of the sealed log."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.governance.audit_model import Checkpoint
from noria.kernel.db import Read, Write
from noria.kernel.events import Event

NODES_PER_READ = 500  # below the bound-parameter limit of either database


_EVENT = "seq, at_ms, kind, subject, actor, op_id, cause, workspace, data"


def raw_events(tx: Read, after: int, *, upto: int | None = None, limit: int) -> list[dict[str, Any]]:
    """Facts as they are stored: `data` is the text in the row, which is what the leaf commits to."""
    bound = "and seq <= :upto" if upto is not None else ""
    args = {"upto": upto} if upto is not None else {}
    return tx.rows(f"select {_EVENT} from event where seq > :after {bound} order by seq limit :limit",
                   after=after, limit=limit, **args)  # fmt: skip


def personal(tx: Read, after: tuple[int, str], *, upto: int, limit: int) -> list[dict[str, Any]]:
    """Personal values beside the facts up to number `upto`, in order."""
    return tx.rows(
        """select seq, field, salt, value from event_personal
            where seq <= :upto and (seq > :seq or (seq = :seq and field > :field)) order by seq, field limit :limit""",
        upto=upto, seq=after[0], field=after[1], limit=limit,
    )  # fmt: skip


def facts_count(tx: Read) -> tuple[int, int]:
    """How many facts there are and the number of the last: the same, unless something was removed."""
    row = tx.rows("select count(*) as n, coalesce(max(seq), 0) as last from event")[0]
    return int(row["n"]), int(row["last"])


def facts(
    tx: Read, *, before: int | None, limit: int, kinds: list[str], prefixes: list[str], subject: str, actor: str,
    from_ms: int | None, to_ms: int | None,
) -> list[Event]:  # fmt: skip
    """Facts, newest first, narrowed."""
    where, args = ["1 = 1"], dict[str, Any]()
    kind_clauses = ["kind in :kinds"] if kinds else []
    for i, prefix in enumerate(prefixes):  # a range, not `like`: the index serves it and nothing needs escaping
        kind_clauses.append(f"(kind >= :low{i} and kind < :high{i})")
        args |= {f"low{i}": prefix, f"high{i}": prefix + "\U0010ffff"}
    if kind_clauses:
        where.append("(" + " or ".join(kind_clauses) + ")")
    for clause, name, value in (
        ("kind in :kinds", "kinds", kinds), ("seq < :before", "before", before), ("subject = :subject", "subject", subject),
        ("actor = :actor", "actor", actor), ("at_ms >= :from_ms", "from_ms", from_ms), ("at_ms < :to_ms", "to_ms", to_ms),
    ):  # fmt: skip
        if value is not None and value not in ("", []):
            args[name] = value
            if name != "kinds":
                where.append(clause)
    return tx.all(
        Event, f"select {_EVENT} from event where {' and '.join(where)} order by seq desc limit :limit", limit=limit, **args
    )


def tree_size(tx: Read) -> int:
    return int(tx.scalar("select size from audit_tree where id = 1") or 0)


def set_tree_size(tx: Write, was: int, now: int) -> bool:
    """Compare and set; False when another sealer was faster."""
    if was == 0:
        return tx.run("insert into audit_tree (id, size) values (1, :now) on conflict (id) do nothing", now=now) == 1
    return tx.run("update audit_tree set size = :now where id = 1 and size = :was", now=now, was=was) == 1


def nodes(tx: Read, positions: list[int]) -> dict[int, bytes]:
    """The hashes at these positions."""
    found: dict[int, bytes] = {}
    for at in range(0, len(positions), NODES_PER_READ):
        rows = tx.rows("select pos, hash from audit_node where pos in :positions",
                       positions=positions[at : at + NODES_PER_READ])  # fmt: skip
        found |= {int(r["pos"]): bytes.fromhex(r["hash"]) for r in rows}
    return found


def leaves(tx: Read, first: int, *, limit: int) -> list[tuple[int, bytes]]:
    """(index, hash) of sealed leaves from index `first` on: the even positions."""
    rows = tx.rows(
        "select pos, hash from audit_node where pos >= :first and pos % 2 = 0 order by pos limit :limit",
        first=2 * first, limit=limit,
    )  # fmt: skip
    return [(int(r["pos"]) // 2, bytes.fromhex(r["hash"])) for r in rows]


def add_nodes(tx: Write, made: list[dict[str, Any]]) -> None:
    tx.many("insert into audit_node (pos, hash) values (:pos, :hash)", made)


def stopped(tx: Read) -> str:
    """Why sealing stands still, as the log itself says; empty while it goes on."""
    rows = tx.rows(
        """select kind, data from event where kind in ('audit.sealing_stopped', 'audit.sealing_resumed')
            order by seq desc limit 1"""
    )
    if not rows or rows[0]["kind"] == "audit.sealing_resumed":
        return ""
    return str(msgspec.json.decode(rows[0]["data"])["reason"])


def is_announced(tx: Read, name: str, new: str) -> bool:
    """Does the log say that the key `new` takes over?"""
    rows = tx.rows(
        "select data from event where kind = 'key.rotated' and subject = :subject order by seq desc limit 1",
        subject=f"key:{name}",
    )
    return bool(rows) and msgspec.json.decode(rows[0]["data"])["new"] == new


_CHECKPOINT = "size, root, at_ms, origin, note"


def add_checkpoint(tx: Write, checkpoint: Checkpoint, *, replace: bool = False) -> None:
    """Keep it; with `replace`, in the place of one for the same size, which another key signed."""
    otherwise = "update set note = excluded.note" if replace else "nothing"
    tx.run(
        f"""insert into checkpoint ({_CHECKPOINT}) values (:size, :root, :at_ms, :origin, :note)
            on conflict (size) do {otherwise}""",
        size=checkpoint.size, root=checkpoint.root, at_ms=checkpoint.at_ms, origin=checkpoint.origin, note=checkpoint.note,
    )  # fmt: skip


def checkpoints(tx: Read, *, before: int | None = None, limit: int) -> list[Checkpoint]:
    """Newest first."""
    where = "where size < :before" if before is not None else ""
    args = {"before": before} if before is not None else {}
    return tx.all(
        Checkpoint, f"select {_CHECKPOINT} from checkpoint {where} order by size desc limit :limit", limit=limit, **args
    )


def anchored(tx: Write, size: int, at_ms: int) -> None:
    """A place elsewhere took this checkpoint."""
    tx.run("update checkpoint set anchored_at_ms = :at_ms where size = :size", size=size, at_ms=at_ms)


def last_anchored(tx: Read) -> tuple[int, int] | None:
    """Size and time of the last checkpoint that a place elsewhere took."""
    rows = tx.rows("select size, anchored_at_ms from checkpoint where anchored_at_ms is not null order by size desc limit 1")
    return (int(rows[0]["size"]), int(rows[0]["anchored_at_ms"])) if rows else None


def checkpoints_from(tx: Read, size: int, *, limit: int) -> list[Checkpoint]:
    """The smallest checkpoints that cover `size` facts."""
    return tx.all(
        Checkpoint,
        f"select {_CHECKPOINT} from checkpoint where size >= :size order by size limit :limit",
        size=size, limit=limit,
    )  # fmt: skip


def rotations(tx: Read, *, upto: int) -> list[int]:
    """The facts among the first `upto` that say that another key signs the log, oldest first."""
    return [
        int(seq)
        for seq in tx.column(
            "select seq from event where kind = 'key.rotated' and subject = 'key:audit' and seq <= :upto order by seq limit 1000",
            upto=upto,
        )
    ]
