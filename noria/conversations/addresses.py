"""Persons told elsewhere of what is in their inbox: by mail, in a chat. Each has addresses of their own and chooses what goes there.

Invariant: one message per (address, notification). At most WAITING_MAX wait for an address; what comes beyond is noted as dropped. The
address is kept sealed and never read back. What was read meanwhile, and what the person may not see any more, is not sent. Messages go out
as those of channels do: in a process of its own that reaches no private address, unless NORIA_PERSONS_PRIVATE says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from noria.access.service import Access
from noria.conversations import address_store, store
from noria.conversations.model import Address, AddressMessage, AddressTest, NewAddress, Reason, excerpt
from noria.conversations.service import Conversations, owner_id
from noria.kernel.db import Database, Write
from noria.kernel.errors import Forbidden, Invalid, NotFound, TooMuch, Unavailable
from noria.kernel.events import event_at
from noria.kernel.ids import Ref, check_name, new_id
from noria.kernel.jobs import ATTEMPTS_MAX, JobContext, Jobs
from noria.kernel.op import Op, Ops
from noria.kernel.paging import check_limit

ADDRESSES_MAX = 10  # of one person
WAITING_MAX = 100
URL_LENGTH_MAX = 2_000
JOB_KIND = "person.tell"
GUIDE = "docs/guides/conversations.md has examples."


class Outcome(Protocol):
    """What became of a message, or what an address is. `refused`: trying again is useless."""

    ok: bool
    refused: bool
    error: str
    service: str
    shown: str


# Says (title, body) at an address, and without a title only looks at it; the last: may it be a private one? Raises Unavailable.
Say = Callable[[str, str, str, bool], Outcome]


class Addresses:
    """Where persons are told, and the job that tells them."""

    def __init__(
        self, db: Database, ops: Ops, access: Access, conversations: Conversations, say: Say, *, url: str = "",
        allow_private: bool = False,
    ) -> None:  # fmt: skip
        self._db, self._ops, self._vault, self._conversations, self._say = db, ops, access.vault, conversations, say
        self._url, self._allow_private = url.rstrip("/"), allow_private
        access.vault.columns.append(("person_address", "id", "url"))

    # --- one's own addresses ------------------------------------------------------------------------------------------

    def addresses(self, op: Op) -> list[Address]:
        _require_self(op)
        with self._db.read() as tx:
            return address_store.addresses(tx, owner_id(op))

    def save(self, op: Op, name: str, new: NewAddress) -> Address:
        """Make an address or change it. Raises Invalid, TooMuch, Forbidden (who is no person has no addresses)."""
        _require_self(op)
        if op.actor.kind != "user" or op.actor.on_behalf_of:
            raise Forbidden(
                "Only persons have addresses of their own.", hint="For a service, an administrator makes a channel."
            )
        check_name(name, what="address")
        if not new.reasons:
            raise Invalid("Choose at least one reason to be told.", where="reasons", hint="Or turn the address off.")
        if len(new.url) > URL_LENGTH_MAX:
            raise Invalid(f"An address has at most {URL_LENGTH_MAX} characters.", where="url")
        seen = self._looked_at(new.url) if new.url else None
        with self._db.write(op) as tx:
            found = address_store.address(tx, owner_id(op), name)
            if found is None and not new.url:
                raise Invalid("A new address needs a url.", where="url", hint="Such as mailtos://… or slack://…; " + GUIDE)
            if found is None and len(address_store.addresses(tx, owner_id(op))) >= ADDRESSES_MAX:
                raise TooMuch(f"You have {ADDRESSES_MAX} addresses already.", hint="Delete one first.")
            made = Address(
                id=found.id if found else new_id(op.at_ms), name=name,
                service=seen.service if seen else found.service if found else "",
                shown=seen.shown if seen else found.shown if found else "",
                reasons=list(dict.fromkeys(new.reasons)), enabled=new.enabled,
                created_at_ms=found.created_at_ms if found else op.at_ms, updated_at_ms=op.at_ms,
            )  # fmt: skip
            kept = self._vault.seal(new.url, "person_address", made.id) if new.url else address_store.url(tx, made.id)
            address_store.save(tx, owner_id(op), op.workspace, made, kept)
            tx.emit(
                "address.saved", Ref("address", made.id), name=name, service=made.service, reasons=list(made.reasons),
                enabled=made.enabled,
            )  # fmt: skip
        return made

    def delete(self, op: Op, name: str) -> None:
        """Be told there no more; what waited is not sent. Raises NotFound."""
        found = self._mine(op, name)
        with self._db.write(op) as tx:
            address_store.delete(tx, found.id)
            tx.emit("address.deleted", Ref("address", found.id), name=name)

    def test(self, op: Op, name: str) -> AddressTest:
        """Say something there, now. Raises NotFound."""
        found = self._mine(op, name)
        with self._db.read() as tx:
            url = self._vault.unseal(address_store.url(tx, found.id), "person_address", found.id)
        try:
            told = self._say(
                url, "A test from Noria", f"You are told here as {op.actor.name}. It works.", self._allow_private
            )
        except Unavailable as error:
            return AddressTest(delivered=False, error=error.message)
        return AddressTest(delivered=told.ok, error=told.error)

    def messages(self, op: Op, name: str, *, limit: int | None = None) -> list[AddressMessage]:
        """What was sent there, newest first; the last address_store.KEPT are kept. Raises NotFound."""
        found = self._mine(op, name)
        with self._db.read() as tx:
            return address_store.messages(tx, found.id, limit=check_limit(limit))

    def _mine(self, op: Op, name: str) -> Address:
        _require_self(op)
        with self._db.read() as tx:
            found = address_store.address(tx, owner_id(op), name)
        if found is None:
            raise NotFound(f"You have no address named {name[:200]!r}.", hint="GET /api/v1/me/addresses lists them.")
        return found

    def _looked_at(self, url: str) -> Outcome:
        """What Apprise makes of an address. Raises Invalid."""
        seen = self._say(url, "", "", self._allow_private)
        if not seen.ok:
            hint = "pip install 'noria[alerts]'" if "not installed" in seen.error else GUIDE
            raise Invalid(seen.error, where="url", hint=hint)
        return seen

    # --- telling ------------------------------------------------------------------------------------------------------

    def queue(self, tx: Write, principal_id: str, notification_id: str, reason: Reason, at_ms: int) -> None:
        """Let a notification go to each address of a person that wants it; in the transaction that makes the notification."""
        for to in address_store.addresses(tx, principal_id):
            if not to.enabled or reason not in to.reasons:
                continue
            is_full = address_store.waiting_count(tx, to.id) >= WAITING_MAX
            made = AddressMessage(
                id=new_id(at_ms), notification_id=notification_id, state="dropped" if is_full else "queued", attempts=0,
                error=f"{WAITING_MAX} messages were waiting." if is_full else "", created_at_ms=at_ms,
                done_at_ms=at_ms if is_full else None,
            )  # fmt: skip
            if address_store.add_message(tx, made, to.id) and not is_full:
                Jobs.submit(tx, JOB_KIND, {"message": made.id}, subject=Ref("address", to.id))

    def tell(self, job: JobContext) -> None:
        """The job: one message. Raises Unavailable to be called again later, Invalid when that is hopeless."""
        with self._db.read() as tx:
            due = address_store.waiting(tx, job.args["message"])
            event = event_at(tx, due.seq) if due else None
            comment = store.comment(tx, due.comment_id, job.op.workspace) if due and due.comment_id else None
        if due is None or due.state != "queued":
            return
        eyes = self._conversations.eyes_of(due.principal_id)
        subject = self._conversations.may_see(eyes, due.subject)
        is_gone = bool(due.comment_id) and (comment is None or comment.removed_at_ms is not None)
        if not due.enabled or due.read_at_ms or event is None or subject is None or is_gone:
            self._note(due, "skipped", "It was read, taken back, or is not theirs to see.")
            return
        who = event.actor.partition(":")[2] or event.actor
        title = (
            f"{who} on {subject.title}" if comment else f"{event.kind.replace('.', ' ').replace('_', ' ')}: {subject.title}"
        )
        body = f"{excerpt(comment.body, 600) if comment else f'by {who}'}\n{self._url}/inbox".strip()
        is_last = job.job.attempts >= ATTEMPTS_MAX
        try:
            told = self._say(self._vault.unseal(due.url, "person_address", due.address_id), title, body, self._allow_private)
        except Unavailable as error:
            self._note(due, "failed" if is_last else "queued", error.message)
            raise
        if told.ok:
            self._note(due, "delivered", "")
            return
        self._note(due, "failed" if told.refused or is_last else "queued", told.error)
        raise (Invalid if told.refused else Unavailable)(f"{due.name}: {told.error}")

    def _note(self, due: address_store.Waiting, state: str, error: str) -> None:
        done = None if state == "queued" else self._ops.clock.now_ms()
        with self._db.system_write() as tx:
            address_store.note(tx, due.id, state=state, error=error.replace("\x00", ""), done_at_ms=done)


def _require_self(op: Op) -> None:
    """Whoever is signed in says where they are told; that they have a role on one thing only does not matter."""
    if not op.can("address.own") and op.actor.kind == "nobody":
        op.require("address.own")
