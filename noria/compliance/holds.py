"""What must not be removed: legal holds, and the evidence of systems of high risk.

Both are protecting edges, so that every way to delete something asks the same table and names what keeps it. A hold stays until somebody
releases it with a reason; on an endpoint it keeps what was recorded there, and lets the endpoint be stopped. Evidence – versions that
were in production in a system of high risk, their runs and their training data – is kept for the days of the rule after it was last
seen in production.
"""

from __future__ import annotations

from msgspec import Struct

from noria.compliance.look import Look
from noria.compliance.model import DAY_MS, System, check_reason
from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import Conflict, Invalid, NotFound
from noria.kernel.facts import Fact, fact
from noria.kernel.ids import Ref, new_id
from noria.kernel.op import Op, Ops

EVIDENCE_DAYS = 3_650  # Article 18 of the EU AI Act: ten years
TABLES = {"model": ("model", "name"), "model_version": ("model_version", "id"), "dataset_version": ("dataset_version", "id"),
          "run": ("run", "id"), "logged_model": ("logged_model", "id"), "endpoint": ("endpoint", "name")}  # fmt: skip


class Hold(Struct, frozen=True, kw_only=True):
    """A thing that must not be removed, until the hold is released."""

    id: str
    subject: str
    reason: str
    actor: str
    created_at_ms: int
    released_at_ms: int | None = None
    released_by: str = ""
    release_reason: str = ""


class NewHold(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to hold, and why."""

    subject: str
    reason: str


class HoldRelease(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why it may be removed again."""

    reason: str


class Retention(Struct, frozen=True, kw_only=True):
    """For how many days evidence is kept after it was last in production."""

    evidence_days: int
    reason: str = ""
    actor: str = ""
    updated_at_ms: int | None = None
    kept: int = 0  # how many things are kept by it now


class RetentionWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The days, and why."""

    evidence_days: int
    reason: str


@fact("legal_hold.placed")
class LegalHoldPlaced(Fact):
    """Something must not be removed."""

    held: str
    reason: str


@fact("legal_hold.released")
class LegalHoldReleased(Fact):
    """Something may be removed again."""

    held: str
    reason: str


@fact("retention.changed")
class RetentionChanged(Fact):
    """For how long evidence is kept was changed."""

    evidence_days: int
    was: int
    reason: str


_HOLD = "id, subject, reason, actor, created_at_ms, released_at_ms, released_by, release_reason"


class Holds:
    """See the module."""

    def __init__(self, db: Database, ops: Ops) -> None:
        self._db, self._ops = db, ops

    def holds(self, op: Op) -> list[Hold]:
        """Newest first, released ones too."""
        op.require("compliance.read")
        with self._db.read() as tx:
            return tx.all(Hold, f"select {_HOLD} from legal_hold order by id desc limit 1000")

    def place(self, op: Op, new: NewHold) -> Hold:
        """Forbid the removal of something. Raises NotFound, Invalid, Forbidden, Conflict (held already)."""
        op.require("compliance.waive")
        subject, reason = Ref.parse(new.subject), check_reason(new.reason)
        if subject.kind not in TABLES:
            raise Invalid(f"A {subject.kind[:40]} cannot be held.", where="subject", hint=f"One of {', '.join(TABLES)}.")
        made = Hold(id=new_id(op.at_ms), subject=str(subject), reason=reason, actor=op.actor.label, created_at_ms=op.at_ms)
        table, column = TABLES[subject.kind]
        with self._db.write(op) as tx:
            if not tx.scalar(f"select 1 from {table} where {column} = :id", id=subject.id):
                raise NotFound(f"There is no {subject}.", where="subject")
            if tx.scalar("select 1 from legal_hold where subject = :s and released_at_ms is null", s=made.subject):
                raise Conflict(f"{subject} is held already.", ref=subject)
            tx.run(
                f"insert into legal_hold ({_HOLD}) values (:id, :subject, :reason, :actor, :at_ms, null, '', '')",
                id=made.id, subject=made.subject, reason=reason, actor=made.actor, at_ms=op.at_ms,
            )  # fmt: skip
            tx.link(Ref("legal_hold", made.id), "holds", subject, protects=True)
            tx.emit("legal_hold.placed", Ref("legal_hold", made.id), held=made.subject, reason=reason)
        return made

    def release(self, op: Op, hold_id: str, release: HoldRelease) -> Hold:
        """Allow the removal again. Raises NotFound, Invalid, Forbidden, Conflict (released already)."""
        op.require("compliance.waive")
        reason = check_reason(release.reason)
        with self._db.write(op) as tx:
            found = tx.one(Hold, f"select {_HOLD} from legal_hold where id = :id", id=hold_id)
            if found is None:
                raise NotFound(f"There is no legal hold {hold_id[:64]}.")
            changed = tx.run(
                """update legal_hold set released_at_ms = :at_ms, released_by = :by, release_reason = :reason
                    where id = :id and released_at_ms is null""",
                id=hold_id, at_ms=op.at_ms, by=op.actor.label, reason=reason,
            )  # fmt: skip
            if not changed:
                raise Conflict("This hold was released already.", ref=f"legal_hold:{hold_id}")
            tx.unlink(Ref("legal_hold", hold_id), "holds", Ref.parse(found.subject))
            tx.emit("legal_hold.released", Ref("legal_hold", hold_id), held=found.subject, reason=reason)
            return tx.one(Hold, f"select {_HOLD} from legal_hold where id = :id", id=hold_id) or found

    # --- evidence -----------------------------------------------------------------------------------------------------

    def retention(self, op: Op) -> Retention:
        """The rule in force."""
        op.require("compliance.read")
        with self._db.read() as tx:
            return rule(tx)

    def set_retention(self, op: Op, wish: RetentionWish) -> Retention:
        """Keep evidence for other days. Raises Invalid, Forbidden."""
        op.require("compliance.waive")
        if not 0 <= wish.evidence_days <= 36_600:
            raise Invalid("evidence_days is between 0 and 36600.", where="evidence_days")
        reason = check_reason(wish.reason)
        with self._db.write(op) as tx:
            was = rule(tx).evidence_days
            tx.run(
                """insert into retention (id, evidence_days, reason, actor, updated_at_ms) values (1, :days, :reason, :actor, :at_ms)
                   on conflict (id) do update set evidence_days = excluded.evidence_days, reason = excluded.reason,
                       actor = excluded.actor, updated_at_ms = excluded.updated_at_ms""",
                days=wish.evidence_days, reason=reason, actor=op.actor.label, at_ms=op.at_ms,
            )  # fmt: skip
            tx.emit(
                "retention.changed", Ref("retention", "evidence"), evidence_days=wish.evidence_days, was=was, reason=reason
            )
        with self._db.read() as read:
            return rule(read)

    @staticmethod
    def evidence(look: Look) -> set[str]:
        """What is evidence now: versions in production of a system of high risk, their runs, their training data."""
        if look.system is None or look.spec.risk != "high" or look.system.is_retired:
            return set()
        runs = {f"run:{v.run_id}" for v in look.versions if v.run_id}
        return {v.ref for v in look.versions} | runs | {d.ref for d in look.data if d.dataset and d.deleted_at_ms is None}

    @staticmethod
    def keep(tx: Write, system: System | None, refs: set[str], now_ms: int) -> None:
        """Note what is evidence now, and let go of what has not been in production for long enough."""
        if system is None:
            return
        days, source = rule(tx).evidence_days, Ref("system", system.name)
        known = set(tx.column("select ref from kept_evidence where system = :system", system=system.name))
        for ref in sorted(refs):
            tx.run(
                """insert into kept_evidence (ref, system, live_at_ms) values (:ref, :system, :at_ms)
                   on conflict (ref, system) do update set live_at_ms = excluded.live_at_ms""",
                ref=ref, system=system.name, at_ms=now_ms,
            )  # fmt: skip
            if ref not in known:
                tx.link(source, "keeps", Ref.parse(ref), protects=True)
        over = tx.column(
            "select ref from kept_evidence where system = :system and live_at_ms < :before order by ref limit 1000",
            system=system.name, before=now_ms - days * DAY_MS,
        )  # fmt: skip
        for ref in map(str, over):
            tx.unlink(source, "keeps", Ref.parse(ref))
            tx.run("delete from kept_evidence where system = :system and ref = :ref", system=system.name, ref=ref)


def rule(tx: Read) -> Retention:
    """The rule of retention; what the law asks of systems of high risk, when nobody said otherwise."""
    kept = int(tx.scalar("select count(*) from kept_evidence"))
    rows = tx.rows("select evidence_days, reason, actor, updated_at_ms from retention where id = 1")
    return Retention(**rows[0], kept=kept) if rows else Retention(evidence_days=EVIDENCE_DAYS, kept=kept)
