"""Systems, what checks find of them, waivers, technical files, data sheets.

The reconciler holds every registered system against every check four times a day, and soon after a system or a waiver changes.
A finding keeps the values it rests on and their digest; a change of state is a fact. Invariant: a finding
comes from a measurement of what is on record, never from what somebody says of the check itself; the one way past it is a waiver,
which names who, why and until when.
"""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

import msgspec
from blake3 import blake3
from msgspec.structs import replace

from noria.access.service import Access
from noria.compliance import store
from noria.compliance.catalogue import applies, catalogue, check
from noria.compliance.erasures import Erasures
from noria.compliance.file import SECTIONS, technical_file
from noria.compliance.holds import Holds
from noria.compliance.incidents import Incident, Incidents, NewIncident
from noria.compliance.look import Look, Proofs
from noria.compliance.measures import MEASURES, Measured
from noria.compliance.model import (
    DAY_MS,
    INSTALLATION,
    ITEMS_KEPT,
    REASON_LENGTH_MAX,
    SECTION_LENGTH_MAX,
    WAIVER_DAYS_MAX,
    Check,
    CheckFinding,
    DataSheet,
    DataSheetSpec,
    EvidenceReport,
    Matrix,
    NewReport,
    NewWaiver,
    Section,
    SectionEdit,
    State,
    System,
    SystemAssessment,
    SystemRow,
    SystemSpec,
    TechnicalFile,
    Waiver,
    check_reason,
    check_report,
    check_spec,
)
from noria.compliance.reviews import Reviews
from noria.compliance.sheets import check_sheet, missing_in
from noria.datasets.service import Datasets
from noria.kernel.db import Database, Read
from noria.kernel.errors import Conflict, Forbidden, Invalid, NotFound
from noria.kernel.ids import DEFAULT_WORKSPACE, Ref, check_name, new_id
from noria.kernel.naming import Noun, findable
from noria.kernel.op import Op, Ops
from noria.kernel.things import things

log = logging.getLogger("noria.compliance")

EVERY_MS = 6 * 3_600_000
LET_GO_EVERY_MS = 3_600_000
ERROR_REASON = "the measurement failed; the server's log says why"

things("system", "select name from ai_system where workspace = :workspace")
findable(
    Noun(
        kind="system", action="compliance.read",
        check=lambda op, row: _sees_all(op, msgspec.json.decode(row["spec"], type=SystemSpec).members),
        query="""select 'system:' || name as scope, 'system:' || name as ref, name as label, '' as detail, updated_at_ms as at_ms,
                        spec
                   from ai_system where workspace = :workspace and not is_retired""",
    )
)  # fmt: skip
assert {c.id for c in catalogue().checks} == set(MEASURES), "every check of the catalogue is measured, and nothing else is"


class Compliance:
    """See the module. Also the reconciler."""

    name = "compliance"
    every_s = 60.0
    wake_on = frozenset({"system.saved", "system.retired", "waiver.granted", "waiver.revoked"})

    def __init__(self, db: Database, ops: Ops, access: Access, datasets: Datasets, proofs: Proofs) -> None:
        self._db, self._ops, self._proofs = db, ops, proofs
        self.reviews, self.holds = Reviews(db, access), Holds(db, ops)
        self.erasures, self.incidents = Erasures(db, datasets), Incidents(db)
        self._lock = threading.Lock()  # one evaluation at a time in a process
        self._let_go_ms = 0  # when evidence of retired systems was last looked through

    # --- systems ------------------------------------------------------------------------------------------------------

    def systems(self, op: Op) -> list[System]:
        """Those whose every member the caller may read, by name."""
        with self._db.read() as tx:
            found = store.systems(tx, op.workspace)
        return [s for s in found if self._is_visible(op, s)]

    def system(self, op: Op, name: str) -> System:
        """Raises NotFound, also for one with a member that is hidden from the caller."""
        op.can("compliance.read", Ref("system", name))
        with self._db.read() as tx:
            found = store.system(tx, op.workspace, name)
        if found is None or not self._is_visible(op, found):
            raise _no_system(name)
        return found

    @staticmethod
    def _is_visible(op: Op, system: System) -> bool:
        return op.can("compliance.read", system.ref) and _sees_all(op, system.spec.members)

    def save_system(self, op: Op, name: str, spec: SystemSpec) -> System:
        """Register a system or describe it anew. Raises Invalid, Forbidden, NotFound (a member, or it is hidden)."""
        op.require("compliance.write", Ref("system", name))
        check_spec(name, spec)
        spec = replace(spec, members=sorted(set(spec.members)))
        for ref in map(Ref.parse, spec.members):
            if not op.can(f"{ref.kind}.read", ref):
                raise NotFound(f"There is no {ref}.", where="members")
        with self._db.write(op) as tx:
            for ref in map(Ref.parse, spec.members):
                table = {"model": "model", "endpoint": "endpoint"}[ref.kind]
                if not tx.scalar(f"select 1 from {table} where name = :name", name=ref.id):
                    raise NotFound(
                        f"There is no {ref}.", where="members", hint="Register a system once its models are there."
                    )
            before = store.system(tx, op.workspace, name)
            if before is not None and not self._is_visible(op, before):
                raise _no_system(name)
            if before is not None and before.spec == spec and not before.is_retired:
                return before
            made = System(
                name=name, spec=spec, edit=before.edit + 1 if before else 1, actor=op.actor.label,
                created_at_ms=before.created_at_ms if before else op.at_ms, updated_at_ms=op.at_ms,
            )  # fmt: skip
            store.save_system(tx, op.workspace, made)
            tx.emit("system.saved", made.ref, edit=made.edit, spec=msgspec.to_builtins(spec))
        return made

    def retire_system(self, op: Op, name: str, reason: str) -> System:
        """No longer use a system; everything on record of it stays. Raises NotFound, Invalid, Forbidden, Conflict."""
        op.require("compliance.write", Ref("system", name))
        reason = check_reason(reason)
        found = self.system(op, name)
        if found.is_retired:
            raise Conflict(f"{name} is retired already.", ref=found.ref)
        with self._db.write(op) as tx:
            made = replace(found, is_retired=True, edit=found.edit + 1, updated_at_ms=op.at_ms, actor=op.actor.label)
            store.save_system(tx, op.workspace, made)
            tx.emit("system.retired", made.ref, reason=reason)
        return made

    # --- findings -----------------------------------------------------------------------------------------------------

    def matrix(self, op: Op) -> Matrix:
        """Systems × checks; the installation first, for whoever may see all of it."""
        systems = self.systems(op)
        with self._db.read() as tx:
            rows = store.states(tx)
        found: dict[str, list[store.StateRow]] = {}
        for row in rows:
            found.setdefault(row.system, []).append(row)
        made = [_row(s.name, s, found.get(s.name, [])) for s in systems if not s.is_retired]
        if self._sees_all(op):
            made.insert(0, _row(INSTALLATION, None, found.get(INSTALLATION, [])))
        return Matrix(rows=made, catalogue=catalogue().version)

    @staticmethod
    def _sees_all(op: Op) -> bool:
        return op.can("compliance.read") and op.can("model.read") and op.can("endpoint.read")

    def assessment(self, op: Op, name: str) -> SystemAssessment:
        """What was found of a system, with its evidence. Raises NotFound, Forbidden."""
        system = self._named(op, name)
        with self._db.read() as tx:
            findings, waivers = store.findings(tx, name), store.waivers(tx, name)
        order = {c.id: i for i, c in enumerate(catalogue().checks)}
        findings = sorted((f for f in findings if f.check in order), key=lambda f: order[f.check])
        return SystemAssessment(
            name=name, system=system, findings=findings, waivers=[w for w in waivers if _counts(w, op.at_ms)]
        )

    def _named(self, op: Op, name: str) -> System | None:
        """The system, or None for the installation. Raises NotFound, Forbidden."""
        if name != INSTALLATION:
            return self.system(op, name)
        op.require("compliance.read")
        if not self._sees_all(op):
            raise Forbidden("What was found of the whole installation names things that are hidden from you.")
        return None

    def evaluate(self, op: Op, name: str) -> SystemAssessment:
        """Measure now. Raises NotFound, Forbidden, Conflict (retired)."""
        system = self._named(op, name)
        op.require("compliance.write", system.ref if system else None)
        if system is not None and system.is_retired:
            raise Conflict(f"{name} is retired.", ref=system.ref)
        self._evaluate(system)
        return self.assessment(op, name)

    def reconcile(self) -> None:
        """Measure what is due. Nothing is measured unasked before the first system is registered."""
        with self._db.read() as tx:
            known = store.systems(tx, DEFAULT_WORKSPACE)
            systems = [s for s in known if not s.is_retired]
            rows = store.states(tx) if systems else []
            waivers = store.waivers(tx) if systems else []
        now = self._ops.clock.now_ms()
        self._let_go([s for s in known if s.is_retired], now)
        if not systems:
            return
        for system in [None, *systems]:
            if _is_due(INSTALLATION if system is None else system.name, system, rows, waivers, now):
                self._evaluate(system)

    def _let_go(self, retired: list[System], now_ms: int) -> None:
        """Let go of what was kept for systems that are retired, once it was kept for long enough."""
        if not retired or now_ms - self._let_go_ms < LET_GO_EVERY_MS:
            return
        self._let_go_ms = now_ms
        with self._db.read() as tx:
            keeping = set(tx.column("select distinct system from kept_evidence order by system limit 10000"))
        for system in (s for s in retired if s.name in keeping):
            with self._db.write(self._ops.system("compliance")) as write:
                self.holds.keep(write, system, set(), now_ms)

    def _evaluate(self, system: System | None) -> None:
        """Measure one system with every check, and keep what was found."""
        op = self._ops.system("compliance")
        name = INSTALLATION if system is None else system.name
        kind = "installation" if system is None else "system"
        with self._lock:
            with self._db.read() as tx:
                shared: dict[str, Any] = {}
                keep = Look(tx, check("DOC-4"), system, now_ms=op.at_ms, proofs=self._proofs, shared=shared)
                kept = self.holds.evidence(keep)
                measured = [
                    (c, self._measure(tx, c, system, op.at_ms, shared)) for c in catalogue().checks if kind in c.scope
                ]
            with self._db.write(op) as write:
                self.holds.keep(write, system, kept, op.at_ms)
                before = {f.check: f for f in store.findings(write, name)}
                in_force = {w.check: w for w in store.waivers(write, name) if _counts(w, op.at_ms)}
                made = [_finding(name, c, m, before.get(c.id), in_force.get(c.id), op.at_ms) for c, m in measured]
                store.save_findings(write, made)
                store.forget_findings(write, name, [f.check for f in made])
                for finding in made:
                    was = before[finding.check].state if finding.check in before else ""
                    if was != finding.state:
                        write.emit(
                            "compliance.changed", Ref("system", name), check=finding.check, was=was, now=finding.state,
                            reason=finding.reason, inputs_digest=finding.inputs_digest, catalogue=finding.catalogue,
                        )  # fmt: skip

    def _measure(self, tx: Read, of: Check, system: System | None, now_ms: int, shared: dict[str, Any]) -> Measured:
        if system is not None and not applies(of, system.spec):
            return Measured(state="not_applicable", reason="it is not for systems of this profile")
        try:
            return MEASURES[of.id](Look(tx, of, system, now_ms=now_ms, proofs=self._proofs, shared=shared))
        except Exception:
            # One check that breaks leaves the others measured; it is said to be open, never to have passed.
            log.exception("the check %s of %s failed", of.id, system.name if system else INSTALLATION)
            return Measured(state="unmeasurable", reason=ERROR_REASON)

    # --- waivers ------------------------------------------------------------------------------------------------------

    def waivers(self, op: Op, name: str) -> list[Waiver]:
        """Every waiver a system ever had, newest first. Raises NotFound, Forbidden."""
        self._named(op, name)
        with self._db.read() as tx:
            return store.waivers(tx, name)

    def waive(self, op: Op, name: str, new: NewWaiver) -> Waiver:
        """Let a system miss a check, until a time. Raises NotFound, Invalid, Forbidden, Conflict (one is in force)."""
        system = self._named(op, name)
        op.require("compliance.waive", system.ref if system else None)
        of, reason = check(new.check), check_reason(new.reason)
        if ("installation" if system is None else "system") not in of.scope:
            raise Invalid(f"{of.id} is not measured of {name}.", where="check")
        if not 1 <= new.days <= WAIVER_DAYS_MAX:
            raise Invalid(f"days is between 1 and {WAIVER_DAYS_MAX}: a waiver always ends.", where="days")
        made = Waiver(
            id=new_id(op.at_ms), system=name, check=of.id, reason=reason, actor=op.actor.label, created_at_ms=op.at_ms,
            expires_at_ms=op.at_ms + new.days * DAY_MS,
        )  # fmt: skip
        with self._db.write(op) as tx:
            if any(w.check == of.id and _counts(w, op.at_ms) for w in store.waivers(tx, name)):
                raise Conflict(f"{of.id} of {name} is waived already.", hint="Revoke that waiver first.")
            store.add_waiver(tx, made)
            tx.emit(
                "waiver.granted", Ref("waiver", made.id), system=name, check=of.id, reason=reason,
                expires_at_ms=made.expires_at_ms,
            )  # fmt: skip
        self._evaluate(system)
        return made

    def revoke_waiver(self, op: Op, waiver_id: str) -> Waiver:
        """End a waiver. Raises NotFound, Forbidden, Conflict (it was ended already)."""
        op.can("compliance.waive")
        with self._db.read() as tx:
            found = store.waiver(tx, waiver_id)
        if found is None:
            op.require("compliance.waive")
            raise NotFound(f"There is no waiver {waiver_id[:64]}.")
        system = self._named(op, found.system)
        op.require("compliance.waive", system.ref if system else None)
        with self._db.write(op) as tx:
            if not store.revoke_waiver(tx, waiver_id, by=op.actor.label, at_ms=op.at_ms):
                raise Conflict("This waiver was revoked already.", ref=f"waiver:{waiver_id}")
            tx.emit("waiver.revoked", Ref("waiver", waiver_id), system=found.system, check=found.check)
        self._evaluate(system)
        return replace(found, revoked_at_ms=op.at_ms, revoked_by=op.actor.label)

    # --- technical files ----------------------------------------------------------------------------------------------

    def technical_file(self, op: Op, name: str) -> TechnicalFile:
        """The technical file of a system, as it is now. Raises NotFound."""
        system = self.system(op, name)
        with self._db.read() as tx:
            look = Look(tx, check("DOC-1"), system, now_ms=op.at_ms, proofs=self._proofs, shared={})
            return technical_file(look, store.findings(tx, name))

    def write_section(self, op: Op, name: str, number: int, edit: SectionEdit) -> Section:
        """Write a section anew; the texts before it are kept. Raises NotFound, Invalid, Conflict (somebody else wrote), Forbidden."""
        op.require("compliance.write", Ref("system", name))
        system = self.system(op, name)
        title, question = _section_named(number)
        if len(edit.content) > SECTION_LENGTH_MAX:
            raise Invalid(f"A section has at most {SECTION_LENGTH_MAX} characters.", where="content")
        with self._db.write(op) as tx:
            tx.run("update ai_system set edit = edit where name = :name", name=name)  # two writers come one after the other
            last = store.sections(tx, name).get(number)
            if edit.expect is not None and edit.expect != (last.edit if last else 0):
                raise Conflict(
                    f"Section {number} of {name} was written since you read it.", ref=system.ref,
                    hint=f"It is now at edit {last.edit if last else 0}; read it again.",
                )  # fmt: skip
            row = store.SectionRow(
                section=number,
                edit=(last.edit if last else 0) + 1,
                content=edit.content,
                actor=op.actor.label,
                at_ms=op.at_ms,
            )
            store.add_section(tx, name, row)
            tx.emit("system.section_written", system.ref, section=number, edit=row.edit)
        return Section(
            number=number,
            title=title,
            question=question,
            content=row.content,
            edit=row.edit,
            actor=row.actor,
            at_ms=row.at_ms,
        )

    def section_history(self, op: Op, name: str, number: int) -> list[Section]:
        """Every text a section ever had, newest first. Raises NotFound, Invalid."""
        self.system(op, name)
        title, question = _section_named(number)
        with self._db.read() as tx:
            rows = store.section_edits(tx, name, number)
        return [
            Section(
                number=number, title=title, question=question, content=r.content, edit=r.edit, actor=r.actor, at_ms=r.at_ms
            )
            for r in rows
        ]

    # --- evidence from elsewhere --------------------------------------------------------------------------------------

    def reports(self, op: Op, name: str) -> list[EvidenceReport]:
        """Documents attached to a system, by their date, newest first. Raises NotFound."""
        self.system(op, name)
        with self._db.read() as tx:
            return store.reports(tx, name)

    def attach(self, op: Op, name: str, new: NewReport) -> EvidenceReport:
        """Attach a document as evidence. It is never changed or removed. Raises NotFound, Invalid, Forbidden."""
        op.require("compliance.write", Ref("system", name))
        system = self.system(op, name)
        check_report(new)
        new = replace(new, dated_at_ms=op.at_ms if new.dated_at_ms is None else new.dated_at_ms)
        if (new.dated_at_ms or 0) > op.at_ms + DAY_MS:
            raise Invalid("A report is not dated in the future.", where="dated_at_ms")
        made = EvidenceReport(
            id=new_id(op.at_ms), system=name, actor=op.actor.label, at_ms=op.at_ms, **msgspec.structs.asdict(new)
        )
        with self._db.write(op) as tx:
            store.add_report(tx, made)
            tx.emit(
                "system.report_attached", system.ref, report=made.id, report_kind=made.kind, title=made.title, uri=made.uri,
                digest=made.digest, dated_at_ms=made.dated_at_ms,
            )  # fmt: skip
        return made

    # --- incidents ----------------------------------------------------------------------------------------------------

    def incidents_of(self, op: Op, name: str) -> list[Incident]:
        """The incidents of a system, newest first. Raises NotFound."""
        self.system(op, name)
        return self.incidents.incidents(op, name)

    def open_incident(self, op: Op, name: str, new: NewIncident) -> Incident:
        """Note an incident of a system. Raises NotFound, Invalid, Forbidden."""
        self.system(op, name)
        return self.incidents.open(op, name, new)

    # --- data sheets --------------------------------------------------------------------------------------------------

    def sheet(self, op: Op, dataset: str) -> DataSheet:
        """What people say of a dataset; an empty one when nobody wrote anything. Raises NotFound, Forbidden."""
        op.require("dataset.read", Ref("dataset", dataset))
        with self._db.read() as tx:
            if not tx.scalar("select 1 from dataset where workspace = :w and name = :name", w=op.workspace, name=dataset):
                raise NotFound(f"There is no dataset {dataset[:200]!r}.")
            return _sheet(dataset, store.sheet(tx, dataset))

    def save_sheet(self, op: Op, dataset: str, spec: DataSheetSpec) -> DataSheet:
        """Write the data sheet of a dataset anew; each text is in the audit log. Raises NotFound, Invalid, Forbidden."""
        op.require("dataset.commit", Ref("dataset", dataset))
        check_name(dataset, what="dataset")
        check_sheet(spec)
        before = self.sheet(op, dataset)
        if before.edit and before.spec == spec:
            return before
        with self._db.write(op) as tx:
            last = store.sheet(tx, dataset)
            row = store.SheetRow(
                dataset=dataset, spec=spec, edit=(last.edit if last else 0) + 1, actor=op.actor.label, updated_at_ms=op.at_ms
            )
            store.save_sheet(tx, row)
            tx.emit("data_sheet.saved", Ref("dataset", dataset), edit=row.edit, spec=msgspec.to_builtins(spec))
        return _sheet(dataset, row)


def _no_system(name: str) -> NotFound:
    """Also for one that is hidden: both read the same."""
    return NotFound(f"There is no system {name[:200]!r}.", hint="noria system list")


def _sheet(dataset: str, row: store.SheetRow | None) -> DataSheet:
    if row is None:
        return DataSheet(dataset=dataset, spec=DataSheetSpec(), missing=missing_in(DataSheetSpec()))
    return DataSheet(
        dataset=dataset, spec=row.spec, edit=row.edit, actor=row.actor, updated_at_ms=row.updated_at_ms,
        missing=missing_in(row.spec),
    )  # fmt: skip


def _section_named(number: int) -> tuple[str, str]:
    if number not in SECTIONS:
        raise Invalid(f"A technical file has no section {number}.", where="section", hint="Sections 1 to 9, after Annex IV.")
    return SECTIONS[number]


def _counts(waiver: Waiver, at_ms: int) -> bool:
    return waiver.revoked_at_ms is None and waiver.expires_at_ms > at_ms


def _is_due(name: str, system: System | None, rows: list[store.StateRow], waivers: list[Waiver], now_ms: int) -> bool:
    """Is it long ago, did the system change since, or did a waiver end?"""
    mine = [r.at_ms for r in rows if r.system == name]
    if not mine or now_ms - min(mine) >= EVERY_MS or (system is not None and system.updated_at_ms > min(mine)):
        return True
    return any(w.system == name and w.revoked_at_ms is None and min(mine) < w.expires_at_ms <= now_ms for w in waivers)


def _finding(
    name: str, of: Check, measured: Measured, before: CheckFinding | None, waiver: Waiver | None, at_ms: int
) -> CheckFinding:  # fmt: skip
    """What is kept of a measurement."""
    state: State = "waived" if waiver and measured.state in ("fail", "unmeasurable") else measured.state
    inputs = {
        "check": of.id, "catalogue": catalogue().version, "limits": of.limits, "system": name,
        "items": [msgspec.to_builtins(i) for i in measured.items], "state": measured.state,
    }  # fmt: skip
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    shown = sorted(measured.items, key=lambda i: {False: 0, None: 1, True: 2}[i.ok])[:ITEMS_KEPT]
    return CheckFinding(
        system=name, check=of.id, state=state, measured=measured.state, reason=measured.reason[:REASON_LENGTH_MAX], items=shown,
        items_count=len(measured.items), inputs_digest=blake3(text.encode()).hexdigest(), catalogue=catalogue().version,
        at_ms=at_ms, since_ms=before.since_ms if before and before.state == state else at_ms,
        waiver=waiver.id if state == "waived" and waiver else "",
    )  # fmt: skip


def _row(name: str, system: System | None, rows: list[store.StateRow]) -> SystemRow:
    known = {c.id for c in catalogue().checks}
    states = {r.check_id: r.state for r in rows if r.check_id in known}
    counts: dict[str, int] = {}
    for state in states.values():
        counts[state] = counts.get(state, 0) + 1
    return SystemRow(
        name=name, system=system, states=states, counts=counts, at_ms=min((r.at_ms for r in rows), default=None)
    )


def _sees_all(op: Op, members: list[str]) -> bool:
    """May the caller read every member of a system?"""
    return all(op.can(f"{ref.kind}.read", ref) for ref in map(Ref.parse, members))
