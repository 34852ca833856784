"""Durable background work: rows with steps, leases with a fencing number.

A runner claims a job for LEASE_S and renews it while it works. A job whose runner died is claimed again when the lease has
run out, and continues after its last recorded step. Invariant: a step's result is recorded only by the holder of the current
fencing number, so a runner that wakes up late changes nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from noria.kernel.db import Database, Write, js
from noria.kernel.errors import Conflict, NoriaError
from noria.kernel.facts import Fact, fact
from noria.kernel.ids import JobId, Ref, new_id
from noria.kernel.op import Op, Ops

log = logging.getLogger("noria.jobs")

LEASE_S = 30.0
POLL_S = 1.0
ATTEMPTS_MAX = 5
T = TypeVar("T")


@fact("job.submitted")
class JobSubmitted(Fact):
    """Background work was asked for."""

    job_kind: str


@fact("job.succeeded")
class JobSucceeded(Fact):
    """Background work is done."""

    job_kind: str


@fact("job.failed")
class JobFailed(Fact):
    """Background work failed for good."""

    job_kind: str
    error: str


class Job(Struct, frozen=True, kw_only=True):
    """One piece of background work."""

    id: JobId
    kind: str
    subject: str
    args: dict[str, Any]
    state: Literal["queued", "running", "succeeded", "failed"]
    attempts: int
    fence: int
    created_at_ms: int
    due_at_ms: int
    error: str = ""


class JobContext:
    """What a handler gets: its arguments, an operation, and steps that are not repeated after a crash."""

    def __init__(self, job: Job, op: Op, jobs: Jobs) -> None:
        self.job = job
        self.args = job.args
        self.op = op
        self._jobs = jobs

    def step(self, name: str, do: Callable[[], T]) -> T:
        """`do()` once: its result (plain JSON values) is recorded, and given back if the job runs again."""
        found = self._jobs.step_result(self.job.id, name)
        if found is not None:
            result: T = msgspec.json.decode(found)
            return result
        value = do()
        self._jobs.record_step(self.job, name, js(value))
        return value


_DUE = """
    select id from job
     where kind in :kinds and due_at_ms <= :now and (state = 'queued' or (state = 'running' and lease_until_ms < :now))
     order by due_at_ms"""


class Jobs:
    """The queue of every slice's background work."""

    def __init__(self, db: Database, ops: Ops) -> None:
        self._db = db
        self._ops = ops
        self._handlers: dict[str, Callable[[JobContext], None]] = {}
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def register(self, kind: str, handler: Callable[[JobContext], None]) -> None:
        """Say who does jobs of `kind`; called by app.py."""
        assert kind not in self._handlers, f"two handlers for {kind}"
        self._handlers[kind] = handler

    @staticmethod
    def submit(
        tx: Write,
        kind: str,
        args: dict[str, Any],
        *,
        unique: str = "",
        subject: Ref | None = None,
        due_at_ms: int | None = None,
    ) -> JobId | None:
        """Queue a job in the caller's transaction. With `unique`, at most one job ever has that key: else None is returned."""
        assert tx.op is not None
        job_id = JobId(new_id(tx.op.at_ms))
        added = tx.run(
            """insert into job (id, kind, subject, args, state, attempts, fence, created_at_ms, due_at_ms, unique_key, error)
               values (:id, :kind, :subject, :args, 'queued', 0, 0, :at_ms, :due, :unique_key, '')
               on conflict (unique_key) do nothing""",
            id=job_id, kind=kind, subject=str(subject or ""), args=js(args), at_ms=tx.op.at_ms,
            due=tx.op.at_ms if due_at_ms is None else due_at_ms, unique_key=unique or job_id,
        )  # fmt: skip
        if not added:
            return None
        tx.emit("job.submitted", Ref("job", job_id), job_kind=kind)
        return job_id

    def start(self, workers: int = 2) -> None:
        for i in range(workers):
            thread = threading.Thread(target=self._loop, name=f"jobs-{i}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, timeout_s: float = 10.0) -> None:
        self._stop.set()
        self._db.wakeups.signal()
        for thread in self._threads:
            thread.join(timeout_s)
        self._threads.clear()

    def run_due(self) -> int:
        """For tests: do everything that is due, in this thread; returns how many jobs ran."""
        ran = 0
        while self._run_one():
            ran += 1
        return ran

    def _loop(self) -> None:
        seen = -1
        while not self._stop.is_set():
            try:
                while not self._stop.is_set() and self._run_one():
                    pass
            except Exception:
                log.exception("the job runner failed; it tries again in a second")
            seen = self._db.wakeups.wait(seen, POLL_S, frozenset({"job.submitted"}))

    def _run_one(self) -> bool:
        job = self._claim()
        if job is None:
            return False
        stop = threading.Event()
        beat = threading.Thread(target=self._renew, args=(job, stop), name=f"lease-{job.id[:8]}", daemon=True)
        beat.start()
        try:
            self._handlers[job.kind](JobContext(job, self._ops.system(f"job-{job.kind}"), self))
        except Conflict as lost:
            log.warning("job %s (%s): %s", job.id, job.kind, lost.message)
        except Exception as error:
            log.exception("job %s (%s) failed in attempt %d", job.id, job.kind, job.attempts)
            self._fail(job, error)
        else:
            self._finish(job)
        finally:
            stop.set()
        return True

    def _claim(self) -> Job | None:
        now = self._db.clock.now_ms()
        kinds = sorted(self._handlers)
        if not kinds:
            return None
        with self._db.read() as look:  # nearly always there is nothing, and looking does not wait for writers
            if look.scalar(f"{_DUE} limit 1", kinds=kinds, now=now) is None:
                return None
        with self._db.system_write() as tx:
            skip = "for update skip locked" if tx.dialect == "postgresql" else ""
            found = tx.scalar(f"{_DUE} limit 1 {skip}", kinds=kinds, now=now)
            if found is None:
                return None
            return tx.one(
                Job,
                """update job set state = 'running', fence = fence + 1, attempts = attempts + 1, lease_until_ms = :until
                    where id = :id
                returning id, kind, subject, args, state, attempts, fence, created_at_ms, due_at_ms, error""",
                id=found, until=now + int(LEASE_S * 1000),
            )  # fmt: skip

    def _renew(self, job: Job, stop: threading.Event) -> None:
        while not stop.wait(LEASE_S / 3):
            try:
                with self._db.system_write() as tx:
                    tx.run(
                        "update job set lease_until_ms = :until where id = :id and fence = :fence",
                        id=job.id, fence=job.fence, until=self._db.clock.now_ms() + int(LEASE_S * 1000),
                    )  # fmt: skip
            except NoriaError as error:
                log.warning("the lease of job %s could not be renewed: %s", job.id, error.message)

    def step_result(self, job_id: JobId, name: str) -> str | None:
        with self._db.read() as tx:
            found = tx.scalar("select result from job_step where job_id = :id and name = :name", id=job_id, name=name)
        return None if found is None else str(found)

    def record_step(self, job: Job, name: str, result: str) -> None:
        """Keep a step's result. Raises Conflict when another runner holds the job by now."""
        with self._db.system_write() as tx:
            self._hold(tx, job)
            tx.run(
                """insert into job_step (job_id, name, result) values (:id, :name, :result)
                   on conflict (job_id, name) do nothing""",
                id=job.id, name=name, result=result,
            )  # fmt: skip

    def _hold(self, tx: Write, job: Job) -> None:
        if not tx.run("update job set fence = fence where id = :id and fence = :fence", id=job.id, fence=job.fence):
            raise Conflict(f"Job {job.id} was taken over by another runner.", ref=Ref("job", job.id))

    def _finish(self, job: Job) -> None:
        with self._db.write(self._ops.system("jobs")) as tx:
            self._hold(tx, job)
            tx.run("update job set state = 'succeeded', error = '' where id = :id", id=job.id)
            tx.emit("job.succeeded", Ref("job", job.id), job_kind=job.kind)

    def _fail(self, job: Job, error: Exception) -> None:
        """Try again later, twice as late each time; give up after ATTEMPTS_MAX or at once when the input is at fault."""
        text = error.message if isinstance(error, NoriaError) else f"{type(error).__name__}: {error}"
        hopeless = isinstance(error, NoriaError) and error.status < 429
        with self._db.write(self._ops.system("jobs")) as tx:
            self._hold(tx, job)
            if hopeless or job.attempts >= ATTEMPTS_MAX:
                tx.run("update job set state = 'failed', error = :text where id = :id", id=job.id, text=text[:4000])
                tx.emit("job.failed", Ref("job", job.id), job_kind=job.kind, error=text[:500])
            else:
                due = tx.op.at_ms + 1000 * 2**job.attempts if tx.op else 0
                tx.run(
                    "update job set state = 'queued', error = :text, due_at_ms = :due where id = :id",
                    id=job.id, text=text[:4000], due=due,
                )  # fmt: skip
