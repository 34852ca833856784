"""Taking personal values away that lie beside the audit log: the log holds hashes only, stays as it is and still verifies.

Looked for is a word: 4711 is not in INC-47110. Comments of approvals that hold it go too. Invariant: the value is in no row and no fact.
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
    """How many values beside facts, and comments of approvals, hold it, or held it."""

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


def _comments_with(tx: Read, value: str) -> list[dict[str, Any]]:
    """The comments of approvals and votes that say `value`."""
    votes = tx.rows("select approval_id, principal_id, comment from approval_vote where comment <> '' order by approval_id")
    asked = tx.rows("select id as approval_id, '' as principal_id, comment from approval where comment <> '' order by id")
    return [r for r in [*votes, *asked] if says(r["comment"], value)]


def _forget_comments(tx: Write, value: str) -> int:
    found = _comments_with(tx, value)
    for row in found:
        if row["principal_id"]:
            tx.run(
                "update approval_vote set comment = :text where approval_id = :id and principal_id = :who",
                text=ERASED, id=row["approval_id"], who=row["principal_id"],
            )  # fmt: skip
        else:
            tx.run("update approval set comment = :text where id = :id", text=ERASED, id=row["approval_id"])
    return len(found)
