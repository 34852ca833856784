"""Durable work: done once, resumed after a crash, fenced against a late runner."""

from __future__ import annotations

import pytest

from noria.kernel.errors import Conflict, Invalid
from noria.kernel.jobs import ATTEMPTS_MAX, LEASE_S, JobContext, Jobs
from tests.conftest import Noria


def submit(noria: Noria, kind: str, unique: str = "") -> str | None:
    with noria.app.db.write(noria.op()) as tx:
        return noria.app.jobs.submit(tx, kind, {"n": 1}, unique=unique)


def state(noria: Noria, job_id: str | None) -> str:
    with noria.app.db.read() as tx:
        return str(tx.scalar("select state from job where id = :id", id=job_id))


def test_a_job_is_done_once(noria: Noria) -> None:
    done: list[int] = []
    noria.app.jobs.register("add", lambda job: done.append(job.args["n"]))
    job_id = submit(noria, "add")
    assert noria.app.jobs.run_due() == 1
    assert noria.app.jobs.run_due() == 0
    assert done == [1] and state(noria, job_id) == "succeeded"


def test_a_unique_job_is_submitted_once(noria: Noria) -> None:
    assert submit(noria, "add", unique="cause 7")
    assert submit(noria, "add", unique="cause 7") is None


def test_a_job_goes_on_after_its_last_recorded_step(noria: Noria) -> None:
    ran: list[str] = []

    def work(job: JobContext) -> None:
        job.step("first", lambda: ran.append("first"))
        value = job.step("second", lambda: ran.append("second") or 42)
        assert value == 42
        if ran.count("third") == 0:
            ran.append("third")
            raise RuntimeError("the machine is on fire")

    noria.app.jobs.register("work", work)
    job_id = submit(noria, "work")
    noria.app.jobs.run_due()
    assert state(noria, job_id) == "queued"
    noria.clock.advance(60)
    noria.app.jobs.run_due()
    assert ran == ["first", "second", "third"] and state(noria, job_id) == "succeeded"


def test_a_job_of_a_dead_runner_is_taken_over_and_the_dead_one_is_fenced(noria: Noria) -> None:
    job_id = submit(noria, "work")
    dead = Jobs(noria.app.db, noria.app.ops)
    dead.register("work", lambda job: None)
    held = dead._claim()
    assert held is not None
    noria.app.jobs.register("work", lambda job: None)
    assert noria.app.jobs.run_due() == 0, "the lease still holds"
    noria.clock.advance(LEASE_S + 1)
    assert noria.app.jobs.run_due() == 1
    with pytest.raises(Conflict):
        dead.record_step(held, "late", "1")
    assert state(noria, job_id) == "succeeded"


def test_a_job_that_keeps_failing_is_given_up_and_says_why(noria: Noria) -> None:
    def fail(job: JobContext) -> None:
        raise RuntimeError("no luck")

    noria.app.jobs.register("fail", fail)
    job_id = submit(noria, "fail")
    for _ in range(ATTEMPTS_MAX):
        noria.app.jobs.run_due()
        noria.clock.advance(3600)
    assert state(noria, job_id) == "failed"
    assert [e.data["error"] for e in noria.facts("job.failed")] == ["RuntimeError: no luck"]


def test_a_job_with_wrong_input_is_not_tried_again(noria: Noria) -> None:
    def fail(job: JobContext) -> None:
        raise Invalid("That file is no table.")

    noria.app.jobs.register("fail", fail)
    job_id = submit(noria, "fail")
    noria.app.jobs.run_due()
    assert state(noria, job_id) == "failed"
