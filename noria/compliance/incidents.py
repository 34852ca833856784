"""Serious incidents: when somebody became aware, until when the authority has to be told, and when it was.

Deadlines after Article 73 of the EU AI Act: 15 days; 2 for one that is widespread or breaks critical infrastructure; 10 after a death.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from noria.compliance.model import DAY_MS, TEXT_LENGTH_MAX, check_reason
from noria.kernel.db import Database
from noria.kernel.errors import Conflict, Invalid, NotFound
from noria.kernel.facts import Fact, fact
from noria.kernel.ids import Ref, new_id
from noria.kernel.op import Op

Severity = Literal["serious", "widespread", "death", "other"]
DEADLINE_DAYS: dict[str, int | None] = {"serious": 15, "widespread": 2, "death": 10, "other": None}
NO_DEADLINE_MS = 253_402_300_799_000  # the end of the year 9999


class Incident(Struct, frozen=True, kw_only=True):
    """Something that went wrong with a system. `due_at_ms` null: it need not be reported."""

    id: str
    system: str
    severity: Severity
    title: str
    description: str
    aware_at_ms: int
    due_at_ms: int | None
    reported_at_ms: int | None = None
    reported_to: str = ""
    closed_at_ms: int | None = None
    resolution: str = ""
    actor: str = ""
    created_at_ms: int = 0


class NewIncident(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happened; `aware_at_ms` null: just now."""

    title: str
    severity: Severity = "serious"
    description: str = ""
    aware_at_ms: int | None = None


class IncidentReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who was told; `at_ms` null: just now."""

    to: str
    at_ms: int | None = None


class IncidentEnd(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was done about it."""

    resolution: str


@fact("incident.opened")
class IncidentOpened(Fact):
    """Something went wrong with a system."""

    system: str
    severity: str
    title: str
    aware_at_ms: int
    due_at_ms: int | None


@fact("incident.reported")
class IncidentReported(Fact):
    """An authority was told."""

    to: str
    reported_at_ms: int
    was_late: bool


@fact("incident.closed")
class IncidentClosed(Fact):
    """An incident is done with."""

    resolution: str


_INCIDENT = """id, system, severity, title, description, aware_at_ms, nullif(due_at_ms, 253402300799000) as due_at_ms,
               reported_at_ms, reported_to, closed_at_ms, resolution, actor, created_at_ms"""


class Incidents:
    """See the module. Whether the caller may see the system is asked by whoever calls."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def incidents(self, op: Op, system: str) -> list[Incident]:
        """Of a system, newest first."""
        op.require("compliance.read", Ref("system", system))
        with self._db.read() as tx:
            return tx.all(
                Incident,
                f"select {_INCIDENT} from incident where system = :system order by id desc limit 1000",
                system=system,
            )

    def incident(self, op: Op, incident_id: str) -> Incident:
        """Raises NotFound."""
        op.can("compliance.read")
        with self._db.read() as tx:
            found = tx.one(Incident, f"select {_INCIDENT} from incident where id = :id", id=incident_id)
        if found is None or not op.can("compliance.read", Ref("system", found.system)):
            op.require("compliance.read")
            raise NotFound(f"There is no incident {incident_id[:64]}.")
        return found

    def open(self, op: Op, system: str, new: NewIncident) -> Incident:
        """Note an incident. Raises Invalid, Forbidden."""
        op.require("compliance.write", Ref("system", system))
        title = new.title.strip()
        if not 1 <= len(title) <= 500 or len(new.description) > TEXT_LENGTH_MAX:
            raise Invalid(
                f"An incident has a title (500 characters) and a description (up to {TEXT_LENGTH_MAX}).", where="title"
            )
        aware = op.at_ms if new.aware_at_ms is None else new.aware_at_ms
        if not 0 <= aware <= op.at_ms:
            raise Invalid("One becomes aware of an incident in the past.", where="aware_at_ms")
        days = DEADLINE_DAYS[new.severity]
        due = None if days is None else aware + days * DAY_MS
        made = Incident(
            id=new_id(op.at_ms), system=system, severity=new.severity, title=title, description=new.description, aware_at_ms=aware,
            due_at_ms=due, actor=op.actor.label, created_at_ms=op.at_ms,
        )  # fmt: skip
        with self._db.write(op) as tx:
            tx.run(
                """insert into incident (id, system, severity, title, description, aware_at_ms, due_at_ms, actor, created_at_ms)
                   values (:id, :system, :severity, :title, :description, :aware, :due, :actor, :at_ms)""",
                id=made.id, system=system, severity=made.severity, title=title, description=made.description, aware=aware,
                due=NO_DEADLINE_MS if due is None else due, actor=made.actor, at_ms=op.at_ms,
            )  # fmt: skip
            tx.emit(
                "incident.opened", Ref("incident", made.id), system=system, severity=made.severity, title=title, aware_at_ms=aware,
                due_at_ms=due,
            )  # fmt: skip
        return made

    def report(self, op: Op, incident_id: str, report: IncidentReport) -> Incident:
        """Say that an authority was told. Raises NotFound, Invalid, Conflict (told already), Forbidden."""
        found = self.incident(op, incident_id)
        op.require("compliance.write", Ref("system", found.system))
        to, at_ms = report.to.strip(), op.at_ms if report.at_ms is None else report.at_ms
        if not 1 <= len(to) <= 500:
            raise Invalid("Say who was told, in at most 500 characters.", where="to")
        if not found.aware_at_ms <= at_ms <= op.at_ms:
            raise Invalid("It was reported after one became aware of it, and not in the future.", where="at_ms")
        with self._db.write(op) as tx:
            if not tx.run(
                "update incident set reported_at_ms = :at_ms, reported_to = :to where id = :id and reported_at_ms is null",
                id=incident_id, at_ms=at_ms, to=to,
            ):  # fmt: skip
                raise Conflict("This incident was reported already.", ref=f"incident:{incident_id}")
            late = found.due_at_ms is not None and at_ms > found.due_at_ms
            tx.emit("incident.reported", Ref("incident", incident_id), to=to, reported_at_ms=at_ms, was_late=late)
        return self.incident(op, incident_id)

    def close(self, op: Op, incident_id: str, end: IncidentEnd) -> Incident:
        """Say what was done about it. Raises NotFound, Invalid, Conflict (closed, or due and not reported), Forbidden."""
        found = self.incident(op, incident_id)
        op.require("compliance.write", Ref("system", found.system))
        resolution = check_reason(end.resolution)
        if found.due_at_ms is not None and found.reported_at_ms is None:
            raise Conflict(
                "This incident has to be reported before it is closed.", ref=f"incident:{incident_id}",
                hint="Say who was told and when.",
            )  # fmt: skip
        with self._db.write(op) as tx:
            if not tx.run(
                "update incident set closed_at_ms = :at_ms, resolution = :resolution where id = :id and closed_at_ms is null",
                id=incident_id, at_ms=op.at_ms, resolution=resolution,
            ):  # fmt: skip
                raise Conflict("This incident is closed already.", ref=f"incident:{incident_id}")
            tx.emit("incident.closed", Ref("incident", incident_id), resolution=resolution)
        return self.incident(op, incident_id)
