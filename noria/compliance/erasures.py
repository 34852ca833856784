"""Requests for erasure: received, due within 30 days, carried out dataset by dataset, closed with what came of it.

Who it is about is not kept: a request holds a salted hash of the column and the value, and whoever carries it out gives the value
again. The salt goes when the request is closed, and then nothing leads back to the value. What was erased, which versions still hold
rows and why, and which models and endpoints rest on them is its outcome.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Any, Literal

from blake3 import blake3
from msgspec import Struct
from msgspec.structs import replace

from noria.compliance.model import DAY_MS, check_reason
from noria.datasets.model import SubjectRequest
from noria.datasets.service import Datasets
from noria.kernel.db import Database, js
from noria.kernel.errors import Conflict, Invalid, NotFound
from noria.kernel.facts import Fact, fact
from noria.kernel.ids import Ref, check_name, new_id
from noria.kernel.op import Op

DUE_DAYS = 30  # Article 12(3) of the GDPR: one month
DATASETS_MAX = 200
REFERENCE_LENGTH_MAX = 200


class ErasedIn(Struct, frozen=True, kw_only=True):
    """What came of a request in one dataset, however often it was carried out there.

    `rows`: the most that were found at once. `kept`: versions that still hold rows, with what needs them.
    """

    dataset: str
    rows: int
    made: list[int]
    deleted: list[int]
    kept: list[dict[str, Any]]
    affected: list[str]  # runs, models, endpoints that rest on versions that held rows
    at_ms: int
    actor: str


class Erasure(Struct, frozen=True, kw_only=True):
    """A request. `mark` names the subject without saying who it is."""

    id: str
    reference: str
    mark: str
    column_name: str
    datasets: list[str]
    received_at_ms: int
    due_at_ms: int
    state: Literal["open", "closed"]
    outcome: list[ErasedIn] = []
    closed_at_ms: int | None = None
    note: str = ""
    actor: str = ""
    created_at_ms: int = 0


class NewErasure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is to be forgotten, and where. `reference`: the number of the request elsewhere, never a name."""

    reference: str
    column: str
    value: str
    datasets: list[str]
    received_at_ms: int | None = None


class ErasureSubject(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The value, once more: it is not kept."""

    value: str


class ErasureEnd(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was done, or why it is refused."""

    note: str


@fact("erasure.requested")
class ErasureRequested(Fact):
    """Somebody is to be forgotten."""

    reference: str
    mark: str
    datasets: list[str]
    due_at_ms: int


@fact("erasure.carried_out")
class ErasureCarriedOut(Fact):
    """A request was carried out in one dataset; `kept` are versions that still hold rows."""

    dataset: str
    deleted: list[int]
    kept: list[int]
    affected: list[str]


@fact("erasure.closed")
class ErasureClosed(Fact):
    """A request is done with."""

    note: str
    was_late: bool


_ERASURE = """id, reference, mark, column_name, datasets, received_at_ms, due_at_ms, state, outcome, closed_at_ms, note, actor,
              created_at_ms"""


class Erasures:
    """See the module."""

    def __init__(self, db: Database, datasets: Datasets) -> None:
        self._db, self._datasets = db, datasets

    def erasures(self, op: Op) -> list[Erasure]:
        """Open ones first, those that are due first."""
        op.require("compliance.read")
        with self._db.read() as tx:
            return tx.all(
                Erasure,
                f"""select {_ERASURE} from erasure
                     order by case when state = 'open' then 0 else 1 end, due_at_ms, id limit 1000""",
            )

    def erasure(self, op: Op, erasure_id: str) -> Erasure:
        """Raises NotFound."""
        op.require("compliance.read")
        with self._db.read() as tx:
            found = tx.one(Erasure, f"select {_ERASURE} from erasure where id = :id", id=erasure_id)
        if found is None:
            raise NotFound(f"There is no request for erasure {erasure_id[:64]}.")
        return found

    def request(self, op: Op, new: NewErasure) -> Erasure:
        """Note a request. Raises Invalid, NotFound (a dataset), Forbidden."""
        op.require("compliance.write")
        reference, names = new.reference.strip(), sorted(set(new.datasets))
        if not 1 <= len(reference) <= REFERENCE_LENGTH_MAX:
            raise Invalid(f"A request has a reference of at most {REFERENCE_LENGTH_MAX} characters.", where="reference")
        if new.value and new.value in reference:
            raise Invalid("The reference holds the value; it is kept for ever, so use a number.", where="reference")
        if not 1 <= len(names) <= DATASETS_MAX:
            raise Invalid(f"Name 1 to {DATASETS_MAX} datasets.", where="datasets")
        received = new.received_at_ms if new.received_at_ms is not None else op.at_ms
        if not 0 <= received <= op.at_ms:
            raise Invalid("A request was received in the past.", where="received_at_ms")
        for name in names:
            check_name(name, what="dataset")
            self._datasets.dataset(op, name)
        if not new.column or not new.value:
            raise Invalid("Say the column and the value that name the subject.", where="column")
        salt = secrets.token_hex(16)
        mark = _mark(salt, new.column, new.value)
        made = Erasure(
            id=new_id(op.at_ms), reference=reference, mark=mark, column_name=new.column, datasets=names, received_at_ms=received,
            due_at_ms=received + DUE_DAYS * DAY_MS, state="open", actor=op.actor.label, created_at_ms=op.at_ms,
        )  # fmt: skip
        with self._db.write(op) as tx:
            tx.run(
                f"""insert into erasure ({_ERASURE}, salt)
                    values (:id, :reference, :mark, :column_name, :datasets, :received, :due, 'open', '[]', null, '', :actor,
                            :at_ms, :salt)""",
                id=made.id, reference=reference, mark=mark, column_name=new.column, datasets=js(names), received=received,
                due=made.due_at_ms, actor=made.actor, at_ms=op.at_ms, salt=salt,
            )  # fmt: skip
            tx.emit(
                "erasure.requested", Ref("erasure", made.id), reference=reference, mark=mark, datasets=names,
                due_at_ms=made.due_at_ms,
            )  # fmt: skip
        return made

    def carry_out(self, op: Op, erasure_id: str, dataset: str, subject: ErasureSubject) -> Erasure:
        """Erase the subject's rows in one dataset, and note what came of it. Raises NotFound, Invalid (another value), Forbidden."""
        op.require("compliance.write")
        found = self.erasure(op, erasure_id)
        if found.state != "open":
            raise Conflict("This request is closed.", ref=f"erasure:{erasure_id}")
        if dataset not in found.datasets:
            raise Invalid(f"The request does not name {dataset[:200]!r}.", where="dataset")
        asked = SubjectRequest(column=found.column_name, value=subject.value)
        with self._db.read() as tx:
            salt = str(tx.scalar("select salt from erasure where id = :id", id=erasure_id))
        if not hmac.compare_digest(_mark(salt, asked.column, asked.value), found.mark):
            raise Invalid("This is not the value that the request was made for.", where="value")
        affected, after = set[str](), 0
        while True:
            part = self._datasets.subjects.find(
                op, dataset, SubjectRequest(column=asked.column, value=asked.value, after=after)
            )
            affected |= set(part.dependents)
            after = part.next
            if not after:
                break
        done = self._datasets.subjects.erase(op, dataset, asked, mark=found.mark)
        made = ErasedIn(
            dataset=dataset, rows=done.rows, made=done.made, deleted=done.deleted,
            kept=[{"number": k.number, "why": k.why} for k in done.kept], affected=sorted(affected), at_ms=op.at_ms,
            actor=op.actor.label,
        )  # fmt: skip
        with self._db.write(op) as tx:
            tx.run("update erasure set note = note where id = :id", id=erasure_id)  # two writers come one after the other
            now = tx.one(Erasure, f"select {_ERASURE} from erasure where id = :id", id=erasure_id)
            assert now is not None
            outcome = [o for o in now.outcome if o.dataset != dataset]
            outcome.append(_together(made, [o for o in now.outcome if o.dataset == dataset]))
            tx.run("update erasure set outcome = :outcome where id = :id", id=erasure_id, outcome=js(outcome))
            tx.emit(
                "erasure.carried_out", Ref("erasure", erasure_id), dataset=dataset, deleted=done.deleted,
                kept=[k.number for k in done.kept], affected=made.affected,
            )  # fmt: skip
        return self.erasure(op, erasure_id)

    def close(self, op: Op, erasure_id: str, end: ErasureEnd) -> Erasure:
        """Say that a request is done with. Raises NotFound, Invalid (no reason), Conflict (closed already), Forbidden."""
        op.require("compliance.write")
        note = check_reason(end.note)
        found = self.erasure(op, erasure_id)
        with self._db.write(op) as tx:
            if not tx.run(
                "update erasure set state = 'closed', salt = '', closed_at_ms = :at_ms, note = :note where id = :id and state = 'open'",
                id=erasure_id, at_ms=op.at_ms, note=note,
            ):  # fmt: skip
                raise Conflict("This request is closed already.", ref=f"erasure:{erasure_id}")
            tx.emit("erasure.closed", Ref("erasure", erasure_id), note=note, was_late=op.at_ms > found.due_at_ms)
        return self.erasure(op, erasure_id)


def _together(latest: ErasedIn, before: list[ErasedIn]) -> ErasedIn:
    """All that came of a request in a dataset: what was made, deleted and affected ever, and what is kept now."""
    times = [*before, latest]
    return replace(
        latest, rows=max(t.rows for t in times), made=sorted({n for t in times for n in t.made}),
        deleted=sorted({n for t in times for n in t.deleted}), affected=sorted({r for t in times for r in t.affected}),
    )  # fmt: skip


def _mark(salt: str, column: str, value: str) -> str:
    """Names a subject to whoever knows both the salt and the value."""
    return str(blake3(f"{salt}\0{column}\0{value}".encode()).hexdigest(length=16))
