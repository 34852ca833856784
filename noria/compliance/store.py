"""The rows of compliance itself. What checks read of other slices is in `look.py`."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from noria.compliance.model import (
    CheckFinding,
    DataSheetSpec,
    EvidenceReport,
    State,
    System,
    Waiver,
)
from noria.kernel.db import Read, Write, js

SYSTEMS_MAX = 1_000

# --- systems ----------------------------------------------------------------------------------------------------------

_SYSTEM = "name, spec, edit, created_at_ms, updated_at_ms, actor, is_retired"


def systems(tx: Read, workspace: str) -> list[System]:
    """By name, retired ones too."""
    return tx.all(
        System, f"select {_SYSTEM} from ai_system where workspace = :workspace order by name limit :limit",
        workspace=workspace, limit=SYSTEMS_MAX,
    )  # fmt: skip


def system(tx: Read, workspace: str, name: str) -> System | None:
    return tx.one(
        System,
        f"select {_SYSTEM} from ai_system where workspace = :workspace and name = :name",
        workspace=workspace,
        name=name,
    )


def save_system(tx: Write, workspace: str, made: System) -> None:
    tx.run(
        f"""insert into ai_system ({_SYSTEM}, workspace)
            values (:name, :spec, :edit, :created, :updated, :actor, :is_retired, :workspace)
            on conflict (name) do update set
                spec = excluded.spec, edit = excluded.edit, updated_at_ms = excluded.updated_at_ms, actor = excluded.actor,
                is_retired = excluded.is_retired""",
        name=made.name, spec=js(made.spec), edit=made.edit, created=made.created_at_ms, updated=made.updated_at_ms,
        actor=made.actor, is_retired=made.is_retired, workspace=workspace,
    )  # fmt: skip


# --- findings ---------------------------------------------------------------------------------------------------------


class _FindingRow(Struct, frozen=True, kw_only=True):
    system: str
    check_id: str
    state: State
    measured: State
    reason: str
    items: list[dict[str, Any]]
    items_count: int
    inputs_digest: str
    catalogue: str
    at_ms: int
    since_ms: int
    waiver: str


_FINDING = (
    """system, check_id, state, measured, reason, items, items_count, inputs_digest, catalogue, at_ms, since_ms, waiver"""
)


class StateRow(Struct, frozen=True, kw_only=True):
    """Where one check of one system stands."""

    system: str
    check_id: str
    state: State
    since_ms: int
    at_ms: int


def states(tx: Read) -> list[StateRow]:
    """Every check of every system, without its evidence."""
    return tx.all(
        StateRow,
        "select system, check_id, state, since_ms, at_ms from compliance_finding order by system, check_id limit 100000",
    )


def findings(tx: Read, system_name: str) -> list[CheckFinding]:
    import msgspec

    rows = tx.all(
        _FindingRow, f"select {_FINDING} from compliance_finding where system = :system order by check_id limit 1000",
        system=system_name,
    )  # fmt: skip
    return [msgspec.convert({**msgspec.to_builtins(r), "check": r.check_id}, CheckFinding) for r in rows]


def save_findings(tx: Write, made: list[CheckFinding]) -> None:
    tx.many(
        f"""insert into compliance_finding ({_FINDING})
            values (:system, :check_id, :state, :measured, :reason, :items, :items_count, :inputs_digest, :catalogue, :at_ms,
                    :since_ms, :waiver)
            on conflict (system, check_id) do update set
                state = excluded.state, measured = excluded.measured, reason = excluded.reason, items = excluded.items,
                items_count = excluded.items_count, inputs_digest = excluded.inputs_digest, catalogue = excluded.catalogue,
                at_ms = excluded.at_ms, since_ms = excluded.since_ms, waiver = excluded.waiver""",
        [
            {
                "system": f.system, "check_id": f.check, "state": f.state, "measured": f.measured, "reason": f.reason,
                "items": js(f.items), "items_count": f.items_count, "inputs_digest": f.inputs_digest, "catalogue": f.catalogue,
                "at_ms": f.at_ms, "since_ms": f.since_ms, "waiver": f.waiver,
            }
            for f in made
        ],
    )  # fmt: skip


def forget_findings(tx: Write, system_name: str, kept: list[str]) -> None:
    """Remove what checks found that are in the catalogue no longer."""
    for row in tx.column("select check_id from compliance_finding where system = :system", system=system_name):
        if row not in kept:
            tx.run("delete from compliance_finding where system = :system and check_id = :id", system=system_name, id=row)


# --- waivers ----------------------------------------------------------------------------------------------------------


class _WaiverRow(Struct, frozen=True, kw_only=True):
    id: str
    system: str
    check_id: str
    reason: str
    actor: str
    created_at_ms: int
    expires_at_ms: int
    revoked_at_ms: int | None
    revoked_by: str


_WAIVER = "id, system, check_id, reason, actor, created_at_ms, expires_at_ms, revoked_at_ms, revoked_by"


def waivers(tx: Read, system_name: str | None = None) -> list[Waiver]:
    """Newest first, those that no longer count too."""
    where = "where system = :system" if system_name is not None else ""
    args = {"system": system_name} if system_name is not None else {}
    rows = tx.all(_WaiverRow, f"select {_WAIVER} from compliance_waiver {where} order by id desc limit 1000", **args)
    return [_waiver(r) for r in rows]


def waiver(tx: Read, waiver_id: str) -> Waiver | None:
    row = tx.one(_WaiverRow, f"select {_WAIVER} from compliance_waiver where id = :id", id=waiver_id)
    return _waiver(row) if row else None


def _waiver(row: _WaiverRow) -> Waiver:
    return Waiver(
        id=row.id, system=row.system, check=row.check_id, reason=row.reason, actor=row.actor,
        created_at_ms=row.created_at_ms, expires_at_ms=row.expires_at_ms, revoked_at_ms=row.revoked_at_ms,
        revoked_by=row.revoked_by,
    )  # fmt: skip


def add_waiver(tx: Write, made: Waiver) -> None:
    tx.run(
        f"""insert into compliance_waiver ({_WAIVER})
            values (:id, :system, :check_id, :reason, :actor, :created, :expires, null, '')""",
        id=made.id, system=made.system, check_id=made.check, reason=made.reason, actor=made.actor,
        created=made.created_at_ms, expires=made.expires_at_ms,
    )  # fmt: skip


def revoke_waiver(tx: Write, waiver_id: str, *, by: str, at_ms: int) -> bool:
    """False when it was revoked already."""
    return bool(
        tx.run(
            "update compliance_waiver set revoked_at_ms = :at_ms, revoked_by = :by where id = :id and revoked_at_ms is null",
            id=waiver_id, by=by, at_ms=at_ms,
        )
    )  # fmt: skip


# --- sections, reports, sheets ----------------------------------------------------------------------------------------


class SectionRow(Struct, frozen=True, kw_only=True):
    """One text of one section of a technical file."""

    section: int
    edit: int
    content: str
    actor: str
    at_ms: int


def sections(tx: Read, system_name: str) -> dict[int, SectionRow]:
    """The latest text of each section."""
    rows = tx.all(
        SectionRow,
        """select section, edit, content, actor, at_ms from system_section s
            where system = :system
              and edit = (select max(edit) from system_section n where n.system = s.system and n.section = s.section)
            order by section limit 100""",
        system=system_name,
    )
    return {r.section: r for r in rows}


def section_edits(tx: Read, system_name: str, section: int) -> list[SectionRow]:
    return tx.all(
        SectionRow,
        """select section, edit, content, actor, at_ms from system_section
            where system = :system and section = :section order by edit desc limit 500""",
        system=system_name, section=section,
    )  # fmt: skip


def add_section(tx: Write, system_name: str, row: SectionRow) -> None:
    tx.run(
        """insert into system_section (system, section, edit, content, actor, at_ms)
           values (:system, :section, :edit, :content, :actor, :at_ms)""",
        system=system_name, section=row.section, edit=row.edit, content=row.content, actor=row.actor, at_ms=row.at_ms,
    )  # fmt: skip


_REPORT = "id, system, kind, title, uri, digest, dated_at_ms, numbers, subject, actor, at_ms"


def reports(tx: Read, system_name: str) -> list[EvidenceReport]:
    """The latest of each kind first, by their own date."""
    return tx.all(
        EvidenceReport, f"select {_REPORT} from system_report where system = :system order by dated_at_ms desc, id desc limit 1000",
        system=system_name,
    )  # fmt: skip


def add_report(tx: Write, made: EvidenceReport) -> None:
    tx.run(
        f"""insert into system_report ({_REPORT})
            values (:id, :system, :kind, :title, :uri, :digest, :dated_at_ms, :numbers, :subject, :actor, :at_ms)""",
        id=made.id, system=made.system, kind=made.kind, title=made.title, uri=made.uri, digest=made.digest,
        dated_at_ms=made.dated_at_ms, numbers=js(made.numbers), subject=made.subject, actor=made.actor, at_ms=made.at_ms,
    )  # fmt: skip


class SheetRow(Struct, frozen=True, kw_only=True):
    """A data sheet as it is kept."""

    dataset: str
    spec: DataSheetSpec
    edit: int
    actor: str
    updated_at_ms: int


_SHEET = "dataset, spec, edit, actor, updated_at_ms"


def sheet(tx: Read, dataset: str) -> SheetRow | None:
    return tx.one(SheetRow, f"select {_SHEET} from data_sheet where dataset = :dataset", dataset=dataset)


def sheets(tx: Read, names: list[str] | None = None) -> dict[str, SheetRow]:
    where = "where dataset in :names" if names is not None else ""
    args: dict[str, Any] = {"names": names} if names is not None else {}
    rows = tx.all(SheetRow, f"select {_SHEET} from data_sheet {where} order by dataset limit 10000", **args)
    return {r.dataset: r for r in rows}


def save_sheet(tx: Write, row: SheetRow) -> None:
    tx.run(
        f"""insert into data_sheet ({_SHEET}) values (:dataset, :spec, :edit, :actor, :at_ms)
            on conflict (dataset) do update set
                spec = excluded.spec, edit = excluded.edit, actor = excluded.actor, updated_at_ms = excluded.updated_at_ms""",
        dataset=row.dataset, spec=js(row.spec), edit=row.edit, actor=row.actor, at_ms=row.updated_at_ms,
    )  # fmt: skip


def spec_of(row: SheetRow | None) -> DataSheetSpec:
    return row.spec if row else DataSheetSpec()
