"""The rows of reports, their versions and links."""

from __future__ import annotations

from msgspec import Struct

from noria.kernel.db import Read, Write, js
from noria.kernel.lineage import Station, station
from noria.kernel.naming import Noun, findable
from noria.kernel.things import things
from noria.reports.model import AnyBlock, Link, ReportSummary, ReportVersion

things("report", "select id from report where workspace = :workspace")
station(
    Station(
        kind="report", action="report.read",
        query="""select 'report:' || id as ref, 'report:' || id as scope, title as label, '' as state, updated_at_ms as at_ms
                   from report where id in :ids""",
    )
)  # fmt: skip
findable(
    Noun(
        kind="report", action="report.read",
        query="""select 'report:' || id as scope, 'report:' || id as ref, title as label, 'version ' || latest as detail,
                        updated_at_ms as at_ms from report where workspace = :workspace""",
    )
)  # fmt: skip

_SUMMARY = "id, title, latest, created_at_ms, created_by, updated_at_ms, updated_by"
_LINK = "id, report, version, name, audience, sharer, sharer_id, token_id, created_at_ms, expires_at_ms, used_at_ms"


class Saved(Struct, frozen=True, kw_only=True):
    """A version as it was saved."""

    number: int
    title: str
    blocks: list[AnyBlock]
    message: str
    saved_at_ms: int
    saved_by: str
    restored_from: int | None


class LinkRow(Struct, frozen=True, kw_only=True):
    """A link with the digest of its secret."""

    secret_sha256: str
    workspace: str


# --- reports ---------------------------------------------------------------------------------------------------------


def add(tx: Write, report: ReportSummary, workspace: str) -> None:
    tx.run(
        f"""insert into report ({_SUMMARY}, workspace)
            values (:id, :title, :latest, :created, :created_by, :updated, :updated_by, :workspace)""",
        id=report.id, title=report.title, latest=report.latest, created=report.created_at_ms, created_by=report.created_by,
        updated=report.updated_at_ms, updated_by=report.updated_by, workspace=workspace,
    )  # fmt: skip


def report(tx: Read, report_id: str, workspace: str) -> ReportSummary | None:
    return tx.one(
        ReportSummary,
        f"select {_SUMMARY} from report where id = :id and workspace = :workspace",
        id=report_id, workspace=workspace,
    )  # fmt: skip


def reports(
    tx: Read, workspace: str, *, ids: list[str] | None, find: str, before: tuple[int, str] | None, limit: int
) -> list[ReportSummary]:
    """Those of `ids` (None: all) whose title has `find` in it, the last changed first."""
    clauses = ["workspace = :workspace"]
    if ids is not None:
        among = (
            "select value from json_each(:ids)"
            if tx.dialect == "sqlite"
            else "select json_array_elements_text(cast(:ids as json))"
        )
        clauses.append(f"id in ({among})")
    if find:
        clauses.append("lower(title) like :find escape '!'")
    if before:
        clauses.append("(updated_at_ms < :at or (updated_at_ms = :at and id < :id))")
    text = find.lower().replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return tx.all(
        ReportSummary,
        f"select {_SUMMARY} from report where {' and '.join(clauses)} order by updated_at_ms desc, id desc limit :limit",
        workspace=workspace, limit=limit, **({} if ids is None else {"ids": js(ids)}), **({"find": f"%{text}%"} if find else {}),
        **({"at": before[0], "id": before[1]} if before else {}),
    )  # fmt: skip


def move(tx: Write, report_id: str, *, was: int, title: str, at_ms: int, by: str) -> bool:
    """To the version after `was`; False when another writer was faster."""
    moved = tx.run(
        """update report set latest = :was + 1, title = :title, updated_at_ms = :at, updated_by = :by
            where id = :id and latest = :was""",
        id=report_id, was=was, title=title, at=at_ms, by=by,
    )  # fmt: skip
    return moved == 1


def remove(tx: Write, report_id: str) -> None:
    for sql in (
        "delete from report_link where report = :id",
        "delete from report_version where report = :id",
        "delete from report where id = :id",
    ):
        tx.run(sql, id=report_id)


# --- versions --------------------------------------------------------------------------------------------------------


def save(tx: Write, report_id: str, saved: Saved) -> None:
    tx.run(
        """insert into report_version (report, number, title, blocks, blocks_count, message, saved_at_ms, saved_by, restored_from)
           values (:report, :number, :title, :blocks, :count, :message, :at, :by, :restored_from)""",
        report=report_id, number=saved.number, title=saved.title, blocks=js(saved.blocks), count=len(saved.blocks),
        message=saved.message, at=saved.saved_at_ms, by=saved.saved_by, restored_from=saved.restored_from,
    )  # fmt: skip


def version(tx: Read, report_id: str, number: int) -> Saved | None:
    return tx.one(
        Saved,
        """select number, title, blocks, message, saved_at_ms, saved_by, restored_from from report_version
            where report = :report and number = :number""",
        report=report_id, number=number,
    )  # fmt: skip


def versions(tx: Read, report_id: str, *, before: int | None, limit: int) -> list[ReportVersion]:
    """Newest first."""
    return tx.all(
        ReportVersion,
        f"""select number, title, message, saved_at_ms, saved_by, blocks_count, restored_from from report_version
             where report = :report {"and number < :before" if before else ""} order by number desc limit :limit""",
        report=report_id, limit=limit, **({"before": before} if before else {}),
    )  # fmt: skip


# --- links -----------------------------------------------------------------------------------------------------------


def add_link(tx: Write, link: Link, secret_sha256: str, workspace: str) -> None:
    tx.run(
        f"""insert into report_link ({_LINK}, secret_sha256, workspace)
            values (:id, :report, :version, :name, :audience, :sharer, :sharer_id, :token_id, :created, :expires, null, :sha256,
                    :workspace)""",
        id=link.id, report=link.report, version=link.version, name=link.name, audience=link.audience, sharer=link.sharer,
        sharer_id=link.sharer_id, token_id=link.token_id, created=link.created_at_ms, expires=link.expires_at_ms,
        sha256=secret_sha256, workspace=workspace,
    )  # fmt: skip


def link(tx: Read, link_id: str) -> Link | None:
    return tx.one(Link, f"select {_LINK} from report_link where id = :id", id=link_id)


def link_row(tx: Read, link_id: str) -> LinkRow | None:
    return tx.one(LinkRow, "select secret_sha256, workspace from report_link where id = :id", id=link_id)


def links(tx: Read, report_id: str, *, now_ms: int, limit: int) -> list[Link]:
    """Those that have not expired, newest first."""
    return tx.all(
        Link,
        f"select {_LINK} from report_link where report = :report and expires_at_ms > :now order by id desc limit :limit",
        report=report_id, now=now_ms, limit=limit,
    )  # fmt: skip


def move_link(tx: Write, link_id: str, version: int) -> None:
    tx.run("update report_link set version = :version where id = :id", id=link_id, version=version)


def touch_link(tx: Write, link_id: str, at_ms: int) -> None:
    tx.run("update report_link set used_at_ms = :at where id = :id", id=link_id, at=at_ms)


def remove_link(tx: Write, link_id: str) -> None:
    tx.run("delete from report_link where id = :id", id=link_id)


def forget_expired(tx: Write, report_id: str, now_ms: int) -> None:
    tx.run("delete from report_link where report = :report and expires_at_ms <= :now", report=report_id, now=now_ms)
