"""A decision that somebody else's system makes: asked last, by a signed POST with a deadline; without a clear yes in time, no.

A gate is judged in the middle of a transaction, which waits for no network. So the question is written down and asked by a job, and
the act is refused with "try again in a moment"; when it is tried again, the answer is there. A question is about exactly this evidence
(its digest), this policy in this version and this act: an answer opens nothing else. A yes holds for five minutes.

Asked is the webhook of that name: its address, secret and guard. It answers 200 with `{"allowed": true, "reason": "…"}`.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import msgspec
from msgspec import Struct

from noria.governance import sending, webhook_store
from noria.governance.sending import Resolve
from noria.governance.webhooks import Webhooks
from noria.kernel import signing
from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import NoriaError
from noria.kernel.ids import DEFAULT_WORKSPACE
from noria.kernel.jobs import JobContext, Jobs

log = logging.getLogger("noria.policies")

JOB_KIND = "policy.ask"
DEADLINE_S = 3.0
YES_MS = 300_000
NO_MS = 10_000  # how long a no, or a hook that is down, stands before it is asked again
LOST_MS = 15_000  # a question that nobody answered by then: its job died
KEPT_MS = 86_400_000
REASON_LENGTH_MAX = 500


class Question(Struct, frozen=True, kw_only=True):
    """A question and its answer so far."""

    key: str
    state: str  # asked, allowed, refused, failed
    reason: str
    asked_at_ms: int
    answered_at_ms: int | None


class HookAnswer(Struct, frozen=True):
    """What a hook says."""

    allowed: bool
    reason: str = ""


def key_of(*parts: object) -> str:
    """Names a question by everything that it is about."""
    return hashlib.sha256(msgspec.json.encode([str(p) for p in parts])).hexdigest()[:32]


def standing(tx: Read, key: str, now_ms: int) -> Question | None:
    """The answer that holds now, or the question while it is being asked; None: it has to be asked."""
    found = tx.one(
        Question, "select key, state, reason, asked_at_ms, answered_at_ms from hook_question where key = :key", key=key
    )
    if found is None:
        return None
    since = now_ms - (found.asked_at_ms if found.answered_at_ms is None else found.answered_at_ms)
    return found if since < {"asked": LOST_MS, "allowed": YES_MS}.get(found.state, NO_MS) else None


def ask(tx: Write, key: str, webhook: str, question: dict[str, Any], now_ms: int) -> None:
    """Write the question down, and have it asked. Those of days ago are forgotten; what was decided is in the verdicts."""
    tx.run("delete from hook_question where asked_at_ms < :before", before=now_ms - KEPT_MS)
    tx.run(
        """insert into hook_question (key, webhook, question, state, reason, asked_at_ms) values (:key, :webhook, :question,
                                      'asked', '', :at_ms)
           on conflict (key) do update set state = 'asked', reason = '', asked_at_ms = excluded.asked_at_ms,
                                           answered_at_ms = null""",
        key=key, webhook=webhook, question=msgspec.json.encode(question).decode(), at_ms=now_ms,
    )  # fmt: skip
    Jobs.submit(tx, JOB_KIND, {"key": key}, unique=f"{key}-{now_ms}")


class Hooks:
    """Asks. What it is told goes into the row of the question."""

    def __init__(self, db: Database, webhooks: Webhooks, *, resolve: Resolve = sending.resolve) -> None:
        self._db, self._webhooks, self._resolve = db, webhooks, resolve

    def run(self, job: JobContext) -> None:
        """The job of one question. It is not tried again by itself: whoever wants the act tries again."""
        key = str(job.args["key"])
        with self._db.read() as tx:
            rows = tx.rows("select webhook, question from hook_question where key = :key and state = 'asked'", key=key)
        if not rows:
            return
        state, reason = self._asked(str(rows[0]["webhook"]), key, str(rows[0]["question"]).encode())
        with self._db.system_write() as tx:
            tx.run(
                "update hook_question set state = :state, reason = :reason, answered_at_ms = :at_ms where key = :key",
                key=key, state=state, reason=reason[:REASON_LENGTH_MAX], at_ms=self._db.clock.now_ms(),
            )  # fmt: skip

    def _asked(self, name: str, key: str, body: bytes) -> tuple[str, str]:
        with self._db.read() as tx:
            hook = webhook_store.webhook(tx, DEFAULT_WORKSPACE, name)
            if hook is None:
                return "failed", f"there is no webhook {name}"
        at_s = self._db.clock.now_ms() // 1000
        try:
            with self._db.read() as tx:
                secret = self._webhooks.secret_of(tx, name)
            headers = {
                "content-type": "application/json", "user-agent": "noria-policy/1", "webhook-id": f"policy-{key}",
                "webhook-timestamp": str(at_s), "webhook-signature": signing.sign(secret, f"policy-{key}", at_s, body),
            }  # fmt: skip
            answer = sending.send(
                hook.url, body, headers, allow_private=hook.allow_private, clock=self._db.clock, resolve=self._resolve,
                timeout_s=DEADLINE_S,
            )  # fmt: skip
            if answer.status != 200:
                return "failed", f"{name} answered {answer.status}"
            said = msgspec.json.decode(answer.body, type=HookAnswer)
        except NoriaError as error:
            log.warning("the policy hook %s is not to be reached: %s", name, error.message)
            return "failed", error.message
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return "failed", f"{name} did not answer with allowed and a reason"
        return ("allowed" if said.allowed is True else "refused"), said.reason.replace("\x00", "")
