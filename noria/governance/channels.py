"""People told of alerts: each fact that a channel wants becomes one message, sent by a job through Apprise, and retried.

Invariant: one message per (channel, fact), however often the fact is read. At most WAITING_MAX messages wait for a channel; what
comes beyond is noted as dropped, so that the gap is seen. The address, which holds secrets, is kept sealed, and never read back.
"""

from __future__ import annotations

import logging
import subprocess
import sys

import msgspec

from noria.access.service import Access
from noria.governance import channel_store as store
from noria.governance.channel_model import (
    UNSENDABLE,
    Channel,
    ChannelDelivery,
    ChannelTest,
    Message,
    NewChannel,
    check_patterns,
    message_of,
    wants,
)
from noria.governance.notify import SERVICES, Task, Told
from noria.governance.webhook_model import check_kinds, matches_kind
from noria.kernel.db import Database, Read
from noria.kernel.errors import Invalid, NotFound, TooMuch, Unavailable
from noria.kernel.events import Event, event_at, last_seq
from noria.kernel.facts import FACTS
from noria.kernel.ids import Ref, check_name, new_id
from noria.kernel.jobs import ATTEMPTS_MAX, JobContext, Jobs
from noria.kernel.op import Op, Ops
from noria.kernel.paging import Page, check_limit, decode_token, encode_token
from noria.kernel.processes import kept_environment

log = logging.getLogger("noria.channels")

CHANNELS_MAX = 100
WAITING_MAX = 500
JOB_KIND = "channel.tell"
URL_LENGTH_MAX = 2_000
TIMEOUT_S = 40.0
DESCRIPTION_LENGTH_MAX = 500
_KEPT = ("PATH", "PYTHONPATH", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")  # no secret, no proxy


class Channels:
    """People told of alerts. Also the subscriber that queues messages."""

    name = "governance.channels"

    def __init__(self, db: Database, ops: Ops, access: Access, *, url: str = "") -> None:
        self._db, self._ops, self._vault, self._url = db, ops, access.vault, url.rstrip("/")
        access.vault.columns.append(("channel", "name", "url"))

    # --- the list ---------------------------------------------------------------------------------------------------

    def channels(self, op: Op) -> list[Channel]:
        op.require("webhook.read")
        with self._db.read() as tx:
            return store.channels(tx, op.workspace)

    def channel(self, op: Op, name: str) -> Channel:
        """Raises NotFound."""
        op.require("webhook.read")
        with self._db.read() as tx:
            return self._found(tx, op, name)

    def save(self, op: Op, name: str, new: NewChannel) -> Channel:
        """Make a channel or change it. Raises Invalid, TooMuch, Forbidden (private addresses are for administrators to allow)."""
        op.require("webhook.write")
        if new.allow_private:
            op.require("system.admin")
        check_name(name, what="channel")
        check_kinds(new.kinds, what="channel", unsendable=UNSENDABLE)
        for patterns, where in ((new.monitors, "monitors"), (new.endpoints, "endpoints")):
            check_patterns(patterns, where)
        if len(new.description) > DESCRIPTION_LENGTH_MAX or len(new.url) > URL_LENGTH_MAX:
            raise Invalid(f"An address has at most {URL_LENGTH_MAX} characters.", where="url")
        told = self._looked_at(new)
        with self._db.write(op) as tx:
            found = store.channel(tx, op.workspace, name)
            if found is None and not new.url:
                raise Invalid("A new channel needs an address.", where="url", hint="Such as slack://… or mailtos://….")
            if found is None and len(store.channels(tx, op.workspace)) >= CHANNELS_MAX:
                raise TooMuch(f"There are {CHANNELS_MAX} channels already.", hint="Delete one first.")
            made = Channel(
                name=name, service=told.service or (found.service if found else ""),
                shown=told.shown or (found.shown if found else ""), kinds=new.kinds, min_severity=new.min_severity,
                monitors=new.monitors, endpoints=new.endpoints, enabled=new.enabled, allow_private=new.allow_private,
                description=new.description, created_at_ms=found.created_at_ms if found else op.at_ms, updated_at_ms=op.at_ms,
                # One that was off hears of what happens from now on, not of all it missed.
                from_seq=found.from_seq if found and found.enabled else last_seq(tx), actor=op.actor.label,
            )  # fmt: skip
            url = new.url or self._address(tx, op, name)
            store.save_channel(tx, op.workspace, made, self._vault.seal(url, "channel", name))
            tx.emit(
                "channel.saved", Ref("channel", name), service=made.service, kinds=made.kinds, min_severity=made.min_severity,
                enabled=made.enabled, allow_private=made.allow_private,
            )  # fmt: skip
        return made

    def delete(self, op: Op, name: str) -> None:
        """Remove a channel; what waited for it is not sent any more. Raises NotFound, Forbidden."""
        op.require("webhook.write")
        with self._db.write(op) as tx:
            self._found(tx, op, name)
            store.delete_channel(tx, op.workspace, name)
            tx.emit("channel.deleted", Ref("channel", name))

    def deliveries(self, op: Op, name: str, *, limit: int | None = None, page: str = "") -> Page[ChannelDelivery]:
        """What was sent to a channel, newest first."""
        op.require("webhook.read")
        size, before = check_limit(limit), str(decode_token(page, size=1)[0]) if page else None
        with self._db.read() as tx:
            self._found(tx, op, name)
            found = store.deliveries(tx, name, before=before, limit=size)
        return Page(found, encode_token(found[-1].id) if len(found) == size else None)

    def test(self, op: Op, name: str) -> ChannelTest:
        """Say something there, now. Raises NotFound, Forbidden."""
        op.require("webhook.write")
        with self._db.read() as tx:
            channel, url = self._found(tx, op, name), self._address(tx, op, name)
        started_s = self._db.clock.monotonic_s()
        message = Message(title="A test from Noria", body=f"{op.actor.label} tried the channel {name}. It works.")
        try:
            told = say(url, message, allow_private=channel.allow_private)
        except Unavailable as error:
            told = Told(error=error.message)
        return ChannelTest(delivered=told.ok, error=told.error, took_ms=(self._db.clock.monotonic_s() - started_s) * 1000)

    def _looked_at(self, new: NewChannel) -> Told:
        """What Apprise makes of a new address. Raises Invalid."""
        if not new.url:
            return Told()
        told = run(Task(url=new.url, allow_private=new.allow_private))
        if not told.ok:
            raise Invalid(
                told.error, where="url",
                hint="pip install 'noria[alerts]'" if "not installed" in told.error else "docs/guides/channels.md has examples.",
            )  # fmt: skip
        return told

    def _found(self, tx: Read, op: Op, name: str) -> Channel:
        found = store.channel(tx, op.workspace, name)
        if found is None:
            raise NotFound(f"There is no channel {name!r}.", ref=f"channel:{name}", hint="noria channel list shows them.")
        return found

    def _address(self, tx: Read, op: Op, name: str) -> str:
        """The address with its secrets; for sending only. Raises Unavailable (the master key is missing)."""
        return self._vault.unseal(store.address(tx, op.workspace, name), "channel", name)

    # --- sending ----------------------------------------------------------------------------------------------------

    def interest(self, tx: Read) -> frozenset[str]:
        """What the channels that are on wait for; and that there is another one."""
        patterns = store.kinds_wanted(tx)
        wanted = {kind for kind in FACTS if matches_kind(patterns, kind, unsendable=UNSENDABLE)}
        return frozenset(wanted | {"channel.saved"})

    def handle(self, event: Event) -> None:
        """Queue a message for each channel that wants this fact; once, however often it is told."""
        with self._db.read() as tx:
            wanted = [c for c in store.enabled_channels(tx, event.workspace, event.seq) if wants(c, event)]
        if not wanted:
            return
        op = self._ops.system("channels", cause=event.seq)
        with self._db.write(op) as tx:
            for channel in wanted:
                is_full = store.waiting(tx, channel.name) >= WAITING_MAX
                made = ChannelDelivery(
                    id=new_id(op.at_ms), channel=channel.name, seq=event.seq, state="dropped" if is_full else "queued",
                    attempts=0, error=f"{WAITING_MAX} messages were waiting." if is_full else "", created_at_ms=op.at_ms,
                    done_at_ms=op.at_ms if is_full else None,
                )  # fmt: skip
                if is_full:
                    log.warning("channel %s: %d messages wait; one more is dropped", channel.name, WAITING_MAX)
                if store.add_delivery(tx, made) and not is_full:
                    Jobs.submit(tx, JOB_KIND, {"delivery": made.id}, subject=Ref("channel", channel.name))

    def tell(self, job: JobContext) -> None:
        """The job: one message. Raises Unavailable to be called again later, Invalid when that is hopeless."""
        with self._db.read() as tx:
            delivery = store.delivery(tx, job.args["delivery"])
            channel = store.channel(tx, job.op.workspace, delivery.channel) if delivery else None
            event = event_at(tx, delivery.seq) if delivery else None
            kept = store.address(tx, job.op.workspace, channel.name) if channel else ""
        if delivery is None or delivery.state != "queued":
            return
        if channel is None or event is None or not channel.enabled:
            self._note(delivery, "failed", "The channel was removed or turned off.")
            return
        is_last = job.job.attempts >= ATTEMPTS_MAX
        try:
            url = self._vault.unseal(kept, "channel", channel.name)
            told = say(url, message_of(event, url=self._url), allow_private=channel.allow_private)
        except Unavailable as error:
            self._note(delivery, "failed" if is_last else "queued", error.message)
            raise
        if told.ok:
            self._note(delivery, "delivered", "")
            return
        self._note(delivery, "failed" if told.refused or is_last else "queued", told.error)
        raise (Invalid if told.refused else Unavailable)(f"{channel.name}: {told.error}")

    def _note(self, delivery: ChannelDelivery, state: str, error: str) -> None:
        done = None if state == "queued" else self._ops.clock.now_ms()
        with self._db.system_write() as tx:
            store.note_attempt(tx, delivery.id, state=state, error=error.replace("\x00", ""), done_at_ms=done)


def speak(url: str, title: str, body: str, allow_private: bool) -> Told:
    """Say something at an address; without a title look at it only. Raises Unavailable."""
    return run(Task(url=url, title=title, body=body, allow_private=allow_private))


def say(url: str, message: Message, *, allow_private: bool) -> Told:
    """One message to one address. Raises Unavailable."""
    return run(Task(url=url, title=message.title, body=message.body, tone=message.tone, allow_private=allow_private))


def run(task: Task) -> Told:
    """Let a process of its own do it. Raises Unavailable when that takes too long or dies."""
    scheme = task.url.partition("://")[0].lower()
    if scheme not in SERVICES:
        return Told(refused=True, error=f"{scheme[:40]!r} is none of the services that channels speak.")
    environment = kept_environment(*_KEPT)
    command = [sys.executable, "-P", "-m", "noria.governance.notify"]
    try:
        done = subprocess.run(
            command,
            input=msgspec.json.encode(task),
            capture_output=True,
            env=environment,
            timeout=TIMEOUT_S,
            check=False,
            cwd="/",
        )
    except subprocess.TimeoutExpired as cause:
        raise Unavailable(f"There was no answer within {TIMEOUT_S:.0f} s.") from cause
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise Unavailable(f"The process that sends messages ended with {done.returncode}: {''.join(last)[:300]}")
    return msgspec.json.decode(done.stdout, type=Told)
