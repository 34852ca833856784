"""Taking personal values away that lie beside the audit log: the log holds hashes only, stays as it is and still verifies.

Looked for is a word: 4711 is not in INC-47110. What people wrote beside facts goes too: comments and reviews of approvals, and why a
scan was accepted. Invariant: none of these texts and no value of a personal field of a fact holds the value, and no verdict quotes one of
them. Nothing else is looked through: names, descriptions, conversations, what a policy hook answered, the reasons that rows of grants,
aliases, monitors and compliance keep.
"""

from __future__ import annotations

import re
from typing import Any

from msgspec import Struct

from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import Invalid
from noria.kernel.facts import Fact, fact
from noria.kernel.ids import Ref
from noria.kernel.op import Op
from noria.kernel.personal import ERASED

VALUE_LENGTH_MIN, REASON_LENGTH_MAX = 2, 2_000
CANDIDATES_PER_READ = 1_000


class Forget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to forget. `look`: only say how much there is. The reason is kept: it names a request, not a person."""

    value: str
    reason: str = ""
    look: bool = False


class Forgotten(Struct, frozen=True, kw_only=True):
    """How many values beside facts hold it, or held it; and how many comments: those and reviews of approvals, reasons of scans."""

    values: int
    comments: int


@fact("audit.forgot")
class AuditForgot(Fact):
    """Personal values beside the log were taken away; what they were is in no record."""

    values: int
    comments: int
    reason: str


class Forgetting:
    """See the module."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def forget(self, op: Op, asked: Forget) -> Forgotten:
        """Raises Invalid, Forbidden."""
        op.require("system.admin")
        if len(asked.value.strip()) < VALUE_LENGTH_MIN:
            raise Invalid(f"A value has at least {VALUE_LENGTH_MIN} characters.", where="value")
        if len(asked.reason) > REASON_LENGTH_MAX or says(asked.reason, asked.value):
            raise Invalid("The reason is kept: it is short, and does not hold the value.", where="reason")
        if asked.look:
            with self._db.read() as tx:
                return Forgotten(values=len(_values_with(tx, asked.value)), comments=len(_comments_with(tx, asked.value)))
        with self._db.write(op) as write:
            found = Forgotten(values=_forget(write, asked.value), comments=_forget_comments(write, asked.value))
            write.emit(
                "audit.forgot", Ref("audit", "log"), values=found.values, comments=found.comments, reason=asked.reason
            )
        return found


def says(text: str, value: str) -> bool:
    """Does `text` hold `value` as a word of its own? 4711 is not in INC-47110."""
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text, re.IGNORECASE) is not None


def _values_with(tx: Read, value: str) -> list[tuple[int, str]]:
    """(fact, field) of the personal values that say `value`."""
    found, after = list[tuple[int, str]](), (0, "")
    while True:
        rows = tx.rows(
            """select seq, field, value from event_personal
                where seq > :seq or (seq = :seq and field > :field) order by seq, field limit :limit""",
            seq=after[0], field=after[1], limit=CANDIDATES_PER_READ,
        )  # fmt: skip
        found += [(int(r["seq"]), str(r["field"])) for r in rows if says(r["value"], value)]
        if len(rows) < CANDIDATES_PER_READ:
            return found
        after = (int(rows[-1]["seq"]), str(rows[-1]["field"]))


def _forget(tx: Write, value: str) -> int:
    """Take value and salt away, so that the hash in the log says nothing any more; how many."""
    found = _values_with(tx, value)
    tx.many(
        "delete from event_personal where seq = :seq and field = :field",
        [{"seq": seq, "field": field} for seq, field in found],
    )
    return len(found)


class _Text(Struct, frozen=True):
    """Where people write of what they did: its table, its key, its column."""

    table: str
    key: tuple[str, ...]
    column: str


TEXTS = (
    _Text("approval", ("id",), "comment"),
    _Text("approval", ("id",), "review"),
    _Text("approval_vote", ("approval_id", "principal_id"), "comment"),
    _Text("model_scan", ("digest",), "accepted_reason"),
)


def _comments_with(tx: Read, value: str) -> list[tuple[_Text, dict[str, Any]]]:
    """The texts that say `value`, by the keys of their rows."""
    found = list[tuple[_Text, dict[str, Any]]]()
    for text in TEXTS:
        keys = ", ".join(text.key)
        rows = tx.rows(f"select {keys}, {text.column} as said from {text.table} where {text.column} <> '' order by {keys}")
        found += [(text, {k: r[k] for k in text.key}) for r in rows if says(r["said"], value)]
    return found


def _forget_comments(tx: Write, value: str) -> int:
    found = _comments_with(tx, value)
    for text, row in found:
        where = " and ".join(f"{key} = :{key}" for key in text.key)
        tx.run(f"update {text.table} set {text.column} = :erased where {where}", erased=ERASED, **row)
    return len(found)
