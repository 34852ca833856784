"""Reports: begun, saved as versions, looked at, restored. Whoever may read a report sees its words; what its panels show is read with
their own rights, so that a report tells nobody more than they may know.

Two writers: a save names the version that was read before, and is refused when another one came meanwhile.
"""

from __future__ import annotations

import secrets

from noria.access.service import Access
from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import Conflict, Invalid, NotFound
from noria.kernel.ids import Ref, new_id
from noria.kernel.op import Op
from noria.kernel.paging import Page, check_limit, decode_token, encode_token
from noria.kernel.preview import render_markdown
from noria.reports import store
from noria.reports.model import (
    AnyBlock,
    Panel,
    ReportDocument,
    ReportDraft,
    ReportEdit,
    ReportSummary,
    ReportVersion,
    Restore,
    TextBlock,
    check_block,
    check_blocks,
    check_title,
    shown_by,
)
from noria.reports.panels import Panels, require_panel, visible_refs

MESSAGE_LENGTH_MAX = 500
SHOWS = "shows"  # the edge from a report to what its panels name


class Reports:
    """The service of reports."""

    def __init__(self, db: Database, access: Access, panels: Panels) -> None:
        self._db, self._access, self._panels = db, access, panels

    # --- reading -----------------------------------------------------------------------------------------------------

    def reports(self, op: Op, *, find: str = "", limit: int | None = None, page: str = "") -> Page[ReportSummary]:
        """Those that the caller may read, the last changed first."""
        visible = op.visible("report.read")
        if visible == []:
            op.require("report.read")
        ids = None if visible is None else [v.removeprefix("report:") for v in visible if v.startswith("report:")]
        size, before = check_limit(limit), decode_token(page, size=2) if page else None
        with self._db.read() as tx:
            found = store.reports(
                tx, op.workspace, ids=ids, find=find[:200], limit=size + 1,
                before=(int(before[0]), str(before[1])) if before else None,
            )  # fmt: skip
        more = len(found) > size
        return Page(found[:size], encode_token(found[size - 1].updated_at_ms, found[size - 1].id) if more else None)

    def report(self, op: Op, report_id: str, version: int | None = None) -> ReportDocument:
        """A report at its latest version, or another. Raises NotFound."""
        with self._db.read() as tx:
            found = self._seen(tx, op, report_id)
            saved = _must(store.version(tx, found.id, version or found.latest), found, version)
        return ReportDocument(
            id=found.id, title=saved.title, version=saved.number, latest=found.latest, blocks=saved.blocks,
            html=html_of(saved.blocks), saved_at_ms=saved.saved_at_ms, saved_by=saved.saved_by,
            created_at_ms=found.created_at_ms, created_by=found.created_by, may_write=op.can("report.write", found.ref),
            may_share=op.can("report.share", found.ref), may_delete=op.can("report.delete", found.ref),
        )  # fmt: skip

    def summary(self, op: Op, report_id: str) -> ReportSummary:
        """What a report is called. Raises NotFound."""
        with self._db.read() as tx:
            return self._seen(tx, op, report_id)

    def versions(self, op: Op, report_id: str, *, limit: int | None = None, page: str = "") -> Page[ReportVersion]:
        """Every version, newest first. Raises NotFound."""
        size, before = check_limit(limit), int(decode_token(page, size=1)[0]) if page else None
        with self._db.read() as tx:
            found = store.versions(tx, self._seen(tx, op, report_id).id, before=before, limit=size + 1)
        return Page(found[:size], encode_token(found[size - 1].number) if len(found) > size else None)

    def panel(self, op: Op, report_id: str, block_id: str, version: int | None = None) -> Panel:
        """What a panel shows the caller now. Raises NotFound, Invalid."""
        with self._db.read() as tx:
            found = self._seen(tx, op, report_id)
            saved = _must(store.version(tx, found.id, version or found.latest), found, version)
        return self._panels.read(op, require_panel(saved.blocks, block_id))

    def preview(self, op: Op, block: AnyBlock) -> Panel:
        """What a block would show the caller, before it is saved. Raises Invalid, NotFound."""
        if op.visible("report.read") == []:
            op.require("report.read")
        check_block(block)
        return self._panels.read(op, block)

    # --- writing -----------------------------------------------------------------------------------------------------

    def create(self, op: Op, new: ReportDraft) -> ReportDocument:
        """Begin a report, in a project if one is named. Raises Invalid, NotFound (the project), Forbidden."""
        op.require("report.write", Ref("project", new.project) if new.project else None)
        title, blocks = check_title(new.title), check_blocks(new.blocks, _block_id)
        who = op.actor.label
        made = ReportSummary(
            id=new_id(op.at_ms), title=title, latest=1, created_at_ms=op.at_ms, created_by=who, updated_at_ms=op.at_ms,
            updated_by=who,
        )  # fmt: skip
        with self._db.write(op) as tx:
            store.add(tx, made, op.workspace)
            self._save(tx, op, made, 1, title, blocks)
            tx.emit("report.created", made.ref, title=title)
            if new.project:
                self._access.scopes.place_new(tx, op, new.project, made.ref)
        if new.project:
            self._access.forget_caches()
        return self.report(op, made.id)

    def save(self, op: Op, report_id: str, edit: ReportEdit) -> ReportDocument:
        """Save another version. Raises NotFound, Forbidden, Invalid, Conflict (somebody else saved meanwhile)."""
        title, blocks = check_title(edit.title), check_blocks(edit.blocks, _block_id)
        message = edit.message.strip()
        if len(message) > MESSAGE_LENGTH_MAX:
            raise Invalid(f"The message of a version has at most {MESSAGE_LENGTH_MAX} characters.", where="message")
        with self._db.write(op) as tx:
            found = self._writable(tx, op, report_id)
            self._advance(tx, op, found, edit.expect, title, blocks, message=message)
        return self.report(op, report_id)

    def restore(self, op: Op, report_id: str, wish: Restore) -> ReportDocument:
        """Save an old version as the newest. Raises NotFound, Forbidden, Conflict."""
        with self._db.write(op) as tx:
            found = self._writable(tx, op, report_id)
            old = _must(store.version(tx, found.id, wish.version), found, wish.version)
            self._advance(tx, op, found, wish.expect, old.title, old.blocks, restored_from=old.number)
        return self.report(op, report_id)

    def delete(self, op: Op, report_id: str) -> None:
        """Remove a report with its versions and links. Raises NotFound, Forbidden."""
        op.asked.add("report.delete")
        with self._db.write(op) as tx:
            found = self._seen(tx, op, report_id)
            op.require("report.delete", found.ref)
            last = _must(store.version(tx, found.id, found.latest), found, None)
            for ref in {ref for block in last.blocks for ref, _ in shown_by(block)}:
                tx.unlink(found.ref, SHOWS, ref)
            store.remove(tx, found.id)
            tx.emit("report.deleted", found.ref, title=found.title)

    def _advance(
        self, tx: Write, op: Op, found: ReportSummary, expect: int, title: str, blocks: list[AnyBlock], *, message: str = "",
        restored_from: int | None = None,
    ) -> None:  # fmt: skip
        if expect != found.latest or not store.move(
            tx, found.id, was=expect, title=title, at_ms=op.at_ms, by=op.actor.label
        ):
            raise Conflict(
                f"{found.updated_by.partition(':')[2]} saved version {found.latest} of {found.title!r} since you read version {expect}.",
                ref=found.ref,
                hint="Read it again; what you wrote is still with you.",
            )
        before = _must(store.version(tx, found.id, found.latest), found, None)
        for ref in {ref for block in before.blocks for ref, _ in shown_by(block)}:
            tx.unlink(found.ref, SHOWS, ref)
        self._save(tx, op, found, expect + 1, title, blocks, message=message, restored_from=restored_from)
        tx.emit("report.saved", found.ref, title=title, version=expect + 1, restored_from=restored_from)

    def _save(
        self, tx: Write, op: Op, report: ReportSummary, number: int, title: str, blocks: list[AnyBlock], *, message: str = "",
        restored_from: int | None = None,
    ) -> None:  # fmt: skip
        saved = store.Saved(
            number=number, title=title, blocks=blocks, message=message, saved_at_ms=op.at_ms, saved_by=op.actor.label,
            restored_from=restored_from,
        )  # fmt: skip
        store.save(tx, report.id, saved)
        named = list(dict.fromkeys(pair for block in blocks for pair in shown_by(block)))
        for ref in visible_refs(op, named):  # nobody draws an edge to what they may not see
            tx.link(report.ref, SHOWS, ref)

    # --- who ---------------------------------------------------------------------------------------------------------

    def _seen(self, tx: Read, op: Op, report_id: str) -> ReportSummary:
        op.asked.add("report.read")
        found = store.report(tx, report_id, op.workspace)
        if found is None or not op.can("report.read", found.ref):
            raise _absent(report_id)
        return found

    def _writable(self, tx: Read, op: Op, report_id: str) -> ReportSummary:
        op.asked.add("report.write")
        found = self._seen(tx, op, report_id)
        op.require("report.write", found.ref)
        return found


def html_of(blocks: list[AnyBlock]) -> dict[str, str]:
    """The words of text blocks as HTML that does nothing."""
    return {b.id: render_markdown(b.text) for b in blocks if isinstance(b, TextBlock)}


def _block_id() -> str:
    return secrets.token_hex(4)


def _must(saved: store.Saved | None, report: ReportSummary, version: int | None) -> store.Saved:
    if saved is None:
        raise NotFound(f"{report.title!r} has no version {version}.", ref=report.ref, hint=f"It has 1 to {report.latest}.")
    return saved


def _absent(report_id: str) -> NotFound:
    return NotFound(f"There is no report {report_id[:80]!r}.", hint="It was deleted, or you may not read it.")
