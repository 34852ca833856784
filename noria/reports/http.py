"""The routes of reports, and the two that a link opens."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, Response
from litestar.params import HeaderParameter

from noria.access.policy import PUBLIC
from noria.http.route import Routes, delete, get, patch, post, put
from noria.kernel.op import Op
from noria.kernel.paging import Page
from noria.reports.model import (
    AnyBlock,
    Link,
    LinkChange,
    LinkMade,
    Links,
    NewLink,
    Panel,
    ReportDocument,
    ReportDraft,
    ReportEdit,
    ReportSummary,
    ReportVersion,
    Restore,
    SharedReport,
)
from noria.reports.service import Reports
from noria.reports.sharing import Sharing

# What a link shows is for whoever has it: no search engine keeps it, nor any cache on the way.
UNLISTED = {"x-robots-tag": "noindex, nofollow, noarchive", "cache-control": "no-store"}
Secret = Annotated[str, HeaderParameter(name="x-noria-share")]


def address_of(request: Request[Any, Any, Any]) -> str:
    """Where a request comes from, as far as the connection says."""
    return request.client.host if request.client else ""


class Previewed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A block as it is being written."""

    block: AnyBlock


def routes(reports: Reports, sharing: Sharing) -> Routes:
    @get("/api/v1/reports", action="report.read")
    def find_reports(op: Op, find: str = "", limit: int | None = None, page: str = "") -> Page[ReportSummary]:
        """Reports that the caller may read, the last changed first. `find`: words of the title."""
        return reports.reports(op, find=find, limit=limit, page=page)

    @post("/api/v1/reports", action="report.write", status_code=201)
    def create_report(op: Op, data: ReportDraft) -> ReportDocument:
        """Begin a report."""
        return reports.create(op, data)

    @post("/api/v1/reports/preview", action="report.read")
    def preview_block(op: Op, data: Previewed) -> Panel:
        """What a block would show the caller, before it is saved."""
        return reports.preview(op, data.block)

    @get("/api/v1/reports/{report_id:str}", action="report.read")
    def read_report(op: Op, report_id: str, version: int | None = None) -> ReportDocument:
        """A report at its latest version, or another."""
        return reports.report(op, report_id, version)

    @put("/api/v1/reports/{report_id:str}", action="report.write")
    def save_report(op: Op, report_id: str, data: ReportEdit) -> ReportDocument:
        """Save another version; a conflict when somebody else did since `expect`."""
        return reports.save(op, report_id, data)

    @delete("/api/v1/reports/{report_id:str}", action="report.delete")
    def delete_report(op: Op, report_id: str) -> None:
        """Remove a report with its versions and links."""
        reports.delete(op, report_id)

    @get("/api/v1/reports/{report_id:str}/versions", action="report.read")
    def list_report_versions(op: Op, report_id: str, limit: int | None = None, page: str = "") -> Page[ReportVersion]:
        """Who saved what when, newest first."""
        return reports.versions(op, report_id, limit=limit, page=page)

    @post("/api/v1/reports/{report_id:str}/restore", action="report.write")
    def restore_report(op: Op, report_id: str, data: Restore) -> ReportDocument:
        """Save an old version as the newest."""
        return reports.restore(op, report_id, data)

    @get("/api/v1/reports/{report_id:str}/panels/{block_id:str}", action="report.read")
    def read_panel(op: Op, report_id: str, block_id: str, version: int | None = None) -> Panel:
        """What a panel shows the caller now."""
        return reports.panel(op, report_id, block_id, version)

    @get("/api/v1/reports/{report_id:str}/links", action="report.share")
    def list_links(op: Op, report_id: str) -> Links:
        """The links that lead somewhere."""
        return sharing.links(op, report_id)

    @post("/api/v1/reports/{report_id:str}/links", action="report.share", status_code=201)
    def share_report(op: Op, report_id: str, data: NewLink) -> LinkMade:
        """Make a link; its address is told this once."""
        return sharing.share(op, report_id, data)

    @patch("/api/v1/reports/{report_id:str}/links/{link_id:str}", action="report.share")
    def move_link(op: Op, report_id: str, link_id: str, data: LinkChange) -> Link:
        """Have a link show another version."""
        return sharing.change(op, report_id, link_id, data)

    @delete("/api/v1/reports/{report_id:str}/links/{link_id:str}", action="report.share")
    def revoke_link(op: Op, report_id: str, link_id: str) -> None:
        """End a link."""
        sharing.revoke(op, report_id, link_id)

    @get("/api/v1/shared", action=PUBLIC)
    def read_shared(op: Op, request: Request[Any, Any, Any], secret: Secret = "") -> Response[SharedReport]:
        """The report behind a link. The secret stands in the header x-noria-share, never in an address."""
        return Response(sharing.look(op, secret, address_of(request)), headers=UNLISTED)

    @get("/api/v1/shared/panels/{block_id:str}", action=PUBLIC)
    def read_shared_panel(op: Op, request: Request[Any, Any, Any], block_id: str, secret: Secret = "") -> Response[Panel]:
        """What a panel behind a link shows now."""
        return Response(sharing.panel(op, secret, address_of(request), block_id), headers=UNLISTED)

    return [
        find_reports, create_report, preview_block, read_report, save_report, delete_report, list_report_versions,
        restore_report, read_panel, list_links, share_report, move_link, revoke_link, read_shared, read_shared_panel,
    ]  # fmt: skip
