"""Links that show one version of a report to whoever has them.

A link sees with the eyes of whoever made it, judged anew at each look: what they may no longer read, it no longer shows, and when they
may no longer share the report, or their account or the token they made it with has ended, it leads nowhere. It shows the version that
they chose, so that nobody else puts a panel into it. It never shows what carries a restricting label, nor single values of data
(noria/access/onlooker.py). Its secret stands behind the # of the address, which browsers send to no server; requests carry it in a
header, so it is in no log of addresses. Of the secret only a digest is kept.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

from noria.access.service import Access
from noria.kernel.db import Database
from noria.kernel.errors import Forbidden, Invalid, NotFound, TooMuch, Unauthenticated
from noria.kernel.ids import Ref, new_id
from noria.kernel.op import Actor, Op, Ops
from noria.reports import store
from noria.reports.model import (
    LINK_DAYS_MAX,
    LINKS_PER_REPORT,
    TITLE_LENGTH_MAX,
    Link,
    LinkChange,
    LinkMade,
    Links,
    NewLink,
    Panel,
    ReportSummary,
    SharedReport,
)
from noria.reports.pace import Pace
from noria.reports.panels import Panels, require_panel
from noria.reports.service import Reports, html_of

DAY_MS = 86_400_000
USED_EVERY_MS = 60_000  # how exactly it is noted when a link was last used
WRONG_PER_MINUTE = 20  # wrong links from one address before it waits
LOOKS_PER_MINUTE = 600  # through one link, panels and all
_FORM = re.compile(r"nrs_([0-9a-f]{32})_([A-Za-z0-9_\-]{43})\Z")
_NOWHERE = "This link leads nowhere."


class Sharing:
    """The service of links. `onlookers` mints the operations of those who look through one."""

    def __init__(
        self, db: Database, ops: Ops, onlookers: Ops, access: Access, reports: Reports, panels: Panels, *, url: str,
        is_public_allowed: bool,
    ) -> None:  # fmt: skip
        self._db, self._ops, self._onlookers, self._access = db, ops, onlookers, access
        self._reports, self._panels, self._url, self._is_public_allowed = reports, panels, url, is_public_allowed
        self._wrong, self._looks = Pace(ops.clock, WRONG_PER_MINUTE), Pace(ops.clock, LOOKS_PER_MINUTE)

    # --- making them -------------------------------------------------------------------------------------------------

    def share(self, op: Op, report_id: str, new: NewLink) -> LinkMade:
        """Make a link. Raises NotFound, Forbidden (also: nothing is public here), Invalid, TooMuch."""
        report = self._shareable(op, report_id)
        if new.audience == "public" and not self._is_public_allowed:
            raise Forbidden(
                "No report is public on this server.", ref=report.ref,
                hint="Share it with those who are signed in, or ask an administrator to set NORIA_PUBLIC_REPORTS=yes.",
            )  # fmt: skip
        if not 0 < new.days <= LINK_DAYS_MAX:
            raise Invalid(f"A link lasts more than 0 and at most {LINK_DAYS_MAX} days.", where="days")
        if len(new.name) > TITLE_LENGTH_MAX:
            raise Invalid(f"The name of a link has at most {TITLE_LENGTH_MAX} characters.", where="name")
        self._require_version(op, report_id, new.version)
        link_id, secret = new_id(op.at_ms), secrets.token_urlsafe(32)
        link = Link(
            id=link_id, report=report.id, version=new.version or report.latest, name=new.name.strip(), audience=new.audience,
            sharer=op.actor.label, sharer_id=op.actor.on_behalf_of or op.actor.id, token_id=op.actor.token_id or "",
            created_at_ms=op.at_ms, expires_at_ms=op.at_ms + int(new.days * DAY_MS),
        )  # fmt: skip
        with self._db.write(op) as tx:
            store.forget_expired(tx, report.id, op.at_ms)
            if len(store.links(tx, report.id, now_ms=op.at_ms, limit=LINKS_PER_REPORT)) >= LINKS_PER_REPORT:
                raise TooMuch(f"The report has {LINKS_PER_REPORT} links, which is the most.", hint="Revoke some of them.")
            store.add_link(tx, link, _sha256(secret), op.workspace)
            tx.emit(
                "report.shared", report.ref, title=report.title, link=link.id, version=link.version, audience=link.audience,
                expires_at_ms=link.expires_at_ms,
            )  # fmt: skip
        return LinkMade(link=link, url=f"{self._url}/shared#nrs_{link_id}_{secret}")

    def links(self, op: Op, report_id: str) -> Links:
        """The links that lead somewhere, newest first. Raises NotFound, Forbidden."""
        report = self._shareable(op, report_id)
        with self._db.read() as tx:
            found = store.links(tx, report.id, now_ms=op.at_ms, limit=LINKS_PER_REPORT)
        return Links(items=found, public_allowed=self._is_public_allowed)

    def change(self, op: Op, report_id: str, link_id: str, change: LinkChange) -> Link:
        """Have a link show another version; only who made it may, since it sees with their eyes. Raises NotFound, Forbidden."""
        report = self._shareable(op, report_id)
        self._require_version(op, report_id, change.version)
        with self._db.write(op) as tx:
            link = self._of(store.link(tx, link_id), report.id, link_id)
            if link.sharer_id != (op.actor.on_behalf_of or op.actor.id):
                raise Forbidden(
                    f"The link is {link.sharer.partition(':')[2]}'s, and shows what they may see.", ref=report.ref,
                    hint="Make a link of your own.",
                )  # fmt: skip
            store.move_link(tx, link.id, change.version)
            tx.emit("report.link_moved", report.ref, title=report.title, link=link.id, version=change.version)
            return self._of(store.link(tx, link_id), report.id, link_id)

    def revoke(self, op: Op, report_id: str, link_id: str) -> None:
        """End a link, one's own or another's. Raises NotFound, Forbidden."""
        report = self._shareable(op, report_id)
        with self._db.write(op) as tx:
            link = self._of(store.link(tx, link_id), report.id, link_id)
            store.remove_link(tx, link.id)
            tx.emit("report.link_revoked", report.ref, title=report.title, link=link.id)

    def _shareable(self, op: Op, report_id: str) -> ReportSummary:
        op.asked.add("report.share")
        report = self._reports.summary(op, report_id)
        op.require("report.share", report.ref)
        return report

    def _require_version(self, op: Op, report_id: str, version: int | None) -> None:
        if version is not None:
            self._reports.report(op, report_id, version)

    def _of(self, link: Link | None, report_id: str, link_id: str) -> Link:
        if link is None or link.report != report_id:
            raise NotFound(f"The report has no link {link_id[:40]!r}.", hint="It was revoked, or has expired.")
        return link

    # --- looking through them ----------------------------------------------------------------------------------------

    def look(self, op: Op, secret: str, address: str) -> SharedReport:
        """The report behind a link. Raises NotFound, Unauthenticated (it is for members), TooMuch."""
        link, saved, _ = self._behind(op, secret, address)
        return SharedReport(
            title=saved.title, version=saved.number, blocks=saved.blocks, html=html_of(saved.blocks),
            saved_at_ms=saved.saved_at_ms, expires_at_ms=link.expires_at_ms,
        )  # fmt: skip

    def panel(self, op: Op, secret: str, address: str, block_id: str) -> Panel:
        """What a panel behind a link shows now. Raises as `look` does."""
        _, saved, eyes = self._behind(op, secret, address)
        return self._panels.read(eyes, require_panel(saved.blocks, block_id))

    def _behind(self, op: Op, text: str, address: str) -> tuple[Link, store.Saved, Op]:
        """The link, the version it shows, and an operation that sees what it may show."""
        found = _FORM.match(text)
        with self._db.read() as tx:
            link = store.link(tx, found[1]) if found else None
            row = store.link_row(tx, found[1]) if found else None
            saved = store.version(tx, link.report, link.version) if link else None
        kept = row.secret_sha256 if row else "0" * 64
        is_right = hmac.compare_digest(_sha256(found[2] if found else ""), kept)
        if not is_right or link is None or saved is None or row is None or row.workspace != op.workspace:
            # Only wrong ones wait: behind a proxy all come from one address, and nobody shall lock out those who have a link.
            self._wrong.check(address)
            self._wrong.count(address)
            raise _nowhere()
        self._looks.check(link.id)
        self._looks.count(link.id)
        actor = self._sharer(link)
        on = Ref("report", link.report)
        if link.expires_at_ms <= op.at_ms or actor is None or not self._ops.mint(actor).can("report.share", on):
            raise _nowhere()
        eyes = self._onlookers.mint(actor)
        if not eyes.can("report.read", on):
            raise _nowhere()
        is_public = link.audience == "public" and self._is_public_allowed
        if not is_public and op.actor.kind == "nobody":
            raise Unauthenticated("This report is for those who are signed in.", hint="Sign in, and open the link again.")
        if link.used_at_ms is None or op.at_ms - link.used_at_ms >= USED_EVERY_MS:
            with self._db.system_write() as write:
                store.touch_link(write, link.id, op.at_ms)
        return link, saved, eyes

    def _sharer(self, link: Link) -> Actor | None:
        """Who made a link, held to the token they made it with."""
        who = self._access.actor_of(link.sharer_id)
        if who is None or not link.token_id:
            return who
        return Actor(kind=who.kind, id=who.id, name=who.name, token_id=link.token_id)


def _nowhere() -> NotFound:
    return NotFound(_NOWHERE, hint="It has expired or was revoked. Ask whoever sent it for another one.")


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
