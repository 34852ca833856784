"""Facts told to others: each fact that a webhook wants becomes one delivery, sent by a job, signed and retried.

Invariant: one delivery per (webhook, fact), however often the fact is read; a delivery that fails is tried again by the job
queue, later and later, and its last error is kept. A webhook gets facts from the moment it was made on.
The secret is written and never read back.
"""

from __future__ import annotations

import logging

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from noria.access.service import Access
from noria.governance import mlflow_events, sending, webhook_store
from noria.governance.webhook_model import Delivery, NewWebhook, Webhook, check_kinds, matches_kind
from noria.kernel import signing
from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import Invalid, NotFound, TooMuch, Unavailable
from noria.kernel.events import Event, event_at, last_seq
from noria.kernel.facts import FACTS
from noria.kernel.ids import Ref, check_name, new_id
from noria.kernel.jobs import ATTEMPTS_MAX, JobContext, Jobs
from noria.kernel.op import Op, Ops
from noria.kernel.paging import Page, check_limit, decode_token, encode_token

log = logging.getLogger("noria.webhooks")

WEBHOOKS_MAX = 100
BY_NAME = "secret:"  # what follows names a secret of the workspace
JOB_KIND = "webhook.deliver"
ANSWER_KEPT = 500  # enough to see an error page; the rest is the other side's business


class Webhooks:
    """Facts told to others. Also the subscriber that queues deliveries."""

    name = "governance.webhooks"

    def __init__(self, db: Database, ops: Ops, access: Access, *, resolve: sending.Resolve = sending.resolve) -> None:
        self._db, self._ops, self._vault, self._resolve = db, ops, access.vault, resolve
        access.vault.columns.append(("webhook", "name", "secret"))

    # --- the list ---------------------------------------------------------------------------------------------------

    def webhooks(self, op: Op) -> list[Webhook]:
        op.require("webhook.read")
        with self._db.read() as tx:
            return webhook_store.webhooks(tx, op.workspace)

    def webhook(self, op: Op, name: str) -> Webhook:
        """Raises NotFound."""
        op.require("webhook.read")
        with self._db.read() as tx:
            return self._found(tx, op, name)

    def save(self, op: Op, name: str, new: NewWebhook) -> Webhook:
        """Make a webhook or change it. A secret that is left out stays, or is made and shown this once.

        Raises Invalid, TooMuch, Forbidden (private addresses are for administrators to allow).
        """
        op.require("webhook.write")
        if new.allow_private:
            op.require("system.admin")
        check_name(name, what="webhook")
        if new.name not in ("", name):
            raise Invalid("The name in the body is not the one in the address.", where="name")
        sending.check_url(new.url)
        check_kinds(new.kinds)
        if new.secret.startswith(BY_NAME):
            op.require("secret.use")
        elif new.secret:
            signing.check_secret(new.secret)
        with self._db.write(op) as tx:
            found = next((h for h in webhook_store.webhooks(tx, op.workspace) if h.name == name), None)
            if found and found.format == "mlflow" and new.kinds != found.kinds:
                raise Invalid(
                    f"{name} gets MLflow's messages of {', '.join(found.kinds)}.", where="kinds",
                    hint="Change its events through MLflow's API, the rest here.",
                )  # fmt: skip
            if found is None and len(webhook_store.webhooks(tx, op.workspace)) >= WEBHOOKS_MAX:
                raise TooMuch(f"There are {WEBHOOKS_MAX} webhooks already.", hint="Delete one first.")
            if new.secret.startswith(BY_NAME):
                named = self._vault.find(tx, new.secret.removeprefix(BY_NAME))
                if found is None or found.format == "noria":  # MLflow signs with any text
                    signing.check_secret(named)
            secret = new.secret or (self.secret_of(tx, name, resolve=False) if found else signing.new_secret())
            # A webhook that was off hears of what happens from now on, not of all it missed.
            from_seq = found.from_seq if found and found.enabled else last_seq(tx)
            hook = Webhook(
                name=name, url=new.url, kinds=new.kinds, enabled=new.enabled, allow_private=new.allow_private,
                created_at_ms=found.created_at_ms if found else op.at_ms, updated_at_ms=op.at_ms, from_seq=from_seq,
            )  # fmt: skip
            if found:
                hook = replace(
                    hook, format=found.format, id=found.id, description=found.description, events=found.events
                )  # fmt: skip
            self.keep(tx, op, hook, secret)
            tx.emit(
                "webhook.saved", Ref("webhook", name), url=without_query(new.url), kinds=new.kinds, enabled=new.enabled,
                allow_private=new.allow_private,
            )  # fmt: skip
        return replace(hook, secret=UNSET if found or new.secret else secret)

    def keep(self, tx: Write, op: Op, hook: Webhook, secret: str) -> None:
        """Write a webhook; its secret in an envelope, or as the name of a secret of the workspace."""
        is_name = secret.startswith(BY_NAME)
        sealed = secret if is_name else self._vault.seal(secret, "webhook", hook.name)
        webhook_store.save_webhook(tx, op.workspace, hook, sealed)

    def secret_of(self, tx: Read, name: str, *, resolve: bool = True) -> str:
        """The secret that messages of a webhook are signed with; or, not resolved, its name. Raises NotFound, Unavailable."""
        kept = webhook_store.webhook_secret(tx, name)
        if kept.startswith(BY_NAME):
            return self._vault.find(tx, kept.removeprefix(BY_NAME)) if resolve else kept
        return self._vault.unseal(kept, "webhook", name)

    def delete(self, op: Op, name: str) -> None:
        """Remove a webhook; what was queued for it is not sent any more. Raises NotFound, Forbidden."""
        op.require("webhook.write")
        with self._db.write(op) as tx:
            self._found(tx, op, name)
            webhook_store.delete_webhook(tx, op.workspace, name)
            tx.emit("webhook.deleted", Ref("webhook", name))

    def deliveries(self, op: Op, name: str, *, limit: int | None = None, page: str = "") -> Page[Delivery]:
        """What was sent to a webhook, newest first."""
        op.require("webhook.read")
        size, before = check_limit(limit), decode_token(page, size=1)[0] if page else None
        with self._db.read() as tx:
            self._found(tx, op, name)
            found = webhook_store.deliveries(tx, name, before=before, limit=size)
        return Page(found, encode_token(found[-1].id) if len(found) == size else None)

    def _found(self, tx: Read, op: Op, name: str) -> Webhook:
        found = webhook_store.webhook(tx, op.workspace, name)
        if found is None:
            raise NotFound(f"There is no webhook {name}.", ref=f"webhook:{name}")
        return found

    # --- sending ----------------------------------------------------------------------------------------------------

    def interest(self, tx: Read) -> frozenset[str]:
        """What the webhooks that are on wait for; and that there is another one."""
        patterns = webhook_store.patterns_wanted(tx)
        return frozenset({kind for kind in FACTS if matches_kind(patterns, kind)} | {"webhook.saved"})

    def handle(self, event: Event) -> None:
        """Queue a delivery for each webhook that wants this fact; once, however often it is told."""
        if event.kind.startswith(("job.", "webhook.")):
            return
        with self._db.read() as tx:
            hooks = webhook_store.enabled_webhooks(tx, event.workspace, event.seq)
        wanted = [h for h in hooks if matches_kind(h.kinds, event.kind) and _concerns(h, event)]
        if not wanted:
            return
        op = self._ops.system("webhooks", cause=event.seq)
        with self._db.write(op) as write:
            for hook in wanted:
                delivery = Delivery(
                    id=new_id(op.at_ms), webhook=hook.name, seq=event.seq, state="queued", attempts=0, status=None, error="",
                    answer="", created_at_ms=op.at_ms, done_at_ms=None,
                )  # fmt: skip
                if webhook_store.add_delivery(write, delivery):
                    Jobs.submit(write, JOB_KIND, {"delivery": delivery.id}, subject=Ref("webhook", hook.name))

    def deliver(self, job: JobContext) -> None:
        """The job: one POST. Raises Unavailable to be called again later, Invalid when that is hopeless."""
        with self._db.read() as tx:
            delivery = webhook_store.delivery(tx, job.args["delivery"])
            hook = webhook_store.webhook(tx, job.op.workspace, delivery.webhook) if delivery else None
            event = event_at(tx, delivery.seq) if delivery else None
        if delivery is None or delivery.state != "queued":
            return
        if hook is None or event is None or not hook.enabled:
            self._note(delivery, "failed", None, "The webhook was removed or turned off.", "")
            return
        try:
            with self._db.read() as tx:
                secret = self.secret_of(tx, hook.name)
            answer = self._send(hook, event, secret)
        except (Invalid, NotFound) as error:
            self._note(delivery, "failed", None, error.message, "")
            raise
        except Unavailable as error:
            is_last = job.job.attempts >= ATTEMPTS_MAX
            self._note(delivery, "failed" if is_last else "queued", None, error.message, "")
            raise
        if 200 <= answer.status < 300:
            self._note(delivery, "delivered", answer.status, "", answer.body)
            return
        # 410 Gone is the standard's word for "never again"; everything else may get better.
        is_over = answer.status == 410 or job.job.attempts >= ATTEMPTS_MAX
        text = f"It answered {answer.status}."
        self._note(delivery, "failed" if is_over else "queued", answer.status, text, answer.body)
        raise (Invalid if answer.status == 410 else Unavailable)(f"{hook.name}: {text}")

    def _send(self, hook: Webhook, event: Event, secret: str) -> sending.Answer:
        if hook.format == "mlflow":
            return self._send_all(hook, event, secret)
        body = msgspec.json.encode(event)
        message_id, timestamp_s = f"{hook.name}-{event.seq}".replace(" ", "_"), self._ops.clock.now_ms() // 1000
        headers = {
            "content-type": "application/json",
            "user-agent": "noria-webhook/1",
            "webhook-id": message_id.encode("ascii", "xmlcharrefreplace").decode(),
            "webhook-timestamp": str(timestamp_s),
        }
        headers["webhook-signature"] = signing.sign(secret, headers["webhook-id"], timestamp_s, body)
        return sending.send(
            hook.url, body, headers, allow_private=hook.allow_private, clock=self._db.clock, resolve=self._resolve
        )

    def _send_all(self, hook: Webhook, event: Event, secret: str) -> sending.Answer:
        """Each message of a fact; the last answer, or the first that is no success. Tried again, they have the same ids."""
        answer = sending.Answer(204, "")
        for i, message in enumerate(mlflow_events.messages(event, hook.events)):
            answer = self.send_mlflow(hook, message, secret, delivery_id=f"{hook.id}-{event.seq}-{i}", at_ms=event.at_ms)
            if not 200 <= answer.status < 300:
                break
        return answer

    def send_mlflow(
        self, hook: Webhook, message: mlflow_events.Message, secret: str, *, delivery_id: str, at_ms: int
    ) -> sending.Answer:
        """One message in MLflow's form. Raises Invalid, Unavailable."""
        body = mlflow_events.envelope(message, at_ms)
        return sending.send(
            hook.url, body, mlflow_events.headers(body, delivery_id, self._ops.clock.now_ms() // 1000, secret),
            allow_private=hook.allow_private, clock=self._db.clock, resolve=self._resolve,
        )  # fmt: skip

    def _note(self, delivery: Delivery, state: str, status: int | None, error: str, answer: str) -> None:
        done = None if state == "queued" else self._ops.clock.now_ms()
        kept = answer.replace("\x00", "")[:ANSWER_KEPT].encode("utf-8", "replace").decode()
        with self._db.system_write() as tx:
            webhook_store.note_attempt(
                tx, delivery.id, state=state, status=status, error=error, answer=kept, done_at_ms=done
            )


def _concerns(hook: Webhook, event: Event) -> bool:
    """Does a fact of a kind that is wanted say anything that is?"""
    return hook.format == "noria" or bool(mlflow_events.messages(event, hook.events))


def without_query(url: str) -> str:
    """What the record may hold of an address: queries often carry somebody's key."""
    return url.partition("?")[0]
