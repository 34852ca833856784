"""Claims, leases and results when answers are lost and clocks are set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from noria.config import Config
from noria.kernel.clock import ManualClock
from noria.pipelines.model.work import Assignment, Claimed
from tests.conftest import Noria
from tests.pipelines.given import Worker, register, spec, states, submit, view

CHAIN: dict[str, list[str]] = {"load": [], "train": ["load"], "score": ["train"]}


def claim(worker: Worker, key: str) -> Assignment | None:
    answer = worker.post("claim", worker=worker.id, key=key)
    return msgspec.convert(answer, Claimed).assignment


def finish(worker: Worker, given: Assignment, key: str = "", **more: Any) -> Assignment | None:
    wish = {"worker": worker.id, "key": key}
    answer = worker.finish(given, next=wish, **more)
    assert answer.is_success, answer.text
    return msgspec.json.decode(answer.content, type=Claimed).assignment


def test_a_claim_asked_again_is_given_the_same_step(noria: Noria) -> None:
    register(noria, spec(noria, steps={"a": [], "b": []}))
    submit(noria)
    worker = Worker(noria)
    first, again, other = claim(worker, "k1"), claim(worker, "k1"), claim(worker, "k2")
    assert first and again and other
    assert (again.step_run_id, again.attempt) == (first.step_run_id, first.attempt) and again.token != first.token
    assert other.step_run_id != first.step_run_id
    assert worker.finish(again).is_success
    assert claim(worker, "k1") is None  # that wish was granted and is over


def test_a_step_whose_handing_over_was_never_heard_of_is_freed_after_the_lease(noria: Noria) -> None:
    """The worker lives and beats, but does not know that it holds the step: nobody would ever do it."""
    register(noria)
    run = submit(noria)
    deaf, other = Worker(noria, "deaf"), Worker(noria, "other")
    noria.app.work.reconcile()
    assert deaf.claim()  # the answer is lost
    for _ in range(5):
        noria.clock.advance(1.0)
        deaf.beat()
        noria.app.work.reconcile()
    assert other.work() == ["load", "train", "score"]
    assert states(noria, run["id"])["run"] == "succeeded"


def test_the_next_step_comes_with_the_answer_to_a_result(noria: Noria) -> None:
    register(noria, spec(noria, steps=CHAIN))
    run = submit(noria)
    worker, done, given = Worker(noria), [], None
    given = worker.claim()
    while given is not None:
        done.append(given.step)
        given = finish(worker, given, key=given.step)
    assert done == ["load", "train", "score"]
    assert states(noria, run["id"])["run"] == "succeeded"


def test_a_result_said_again_is_answered_with_the_same_next_step(noria: Noria) -> None:
    register(noria, spec(noria, steps=CHAIN))
    submit(noria)
    worker = Worker(noria)
    load = worker.claim()
    assert load is not None
    train, again = finish(worker, load, key="k1"), finish(worker, load, key="k1")
    assert (
        train and again and (train.step, train.step_run_id, train.attempt) == (again.step, again.step_run_id, again.attempt)
    )


def test_a_result_brings_the_step_of_another_run_when_that_is_older(noria: Noria) -> None:
    register(noria, spec(noria, "old", steps={"a": [], "b": []}))
    register(noria, spec(noria, "new", steps=CHAIN))
    submit(noria, "old")
    noria.clock.advance(1.0)
    submit(noria, "new")
    worker = Worker(noria)
    first = worker.claim()
    assert first is not None and first.pipeline == "old"
    assert noria.http.get("/api/v1/pipeline-runs").json()["items"]
    second = finish(worker, first)
    assert second is not None and (second.pipeline, second.step) == ("old", "b")
    third = finish(worker, second)
    assert third is not None and third.pipeline == "new"


def test_the_end_of_the_output_comes_with_the_result_and_counts_once(noria: Noria) -> None:
    register(noria, spec(noria, steps={"load": []}))
    submit(noria)
    worker = Worker(noria)
    load = worker.claim()
    assert load is not None
    assert worker.log(load, "one\n").is_success
    for _ in range(2):
        assert worker.finish(load, text="two\n", offset=4).is_success
    text = noria.http.get(f"/api/v1/step-runs/{load.step_run_id}/logs").json()["text"]
    assert text == "one\ntwo\n"


class SetClock(ManualClock):
    """A machine's clock that somebody sets: what it measures goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.set_by_s = 0.0

    def set(self, seconds: float) -> None:
        self.set_by_s += seconds
        self.advance(seconds)

    def monotonic_s(self) -> float:
        return super().monotonic_s() - self.set_by_s


@pytest.fixture
def set_noria(config: Config) -> Iterator[Noria]:
    made = Noria(config, SetClock())
    yield made
    made.close()


def clocked(noria: Noria) -> SetClock:
    """The application with such a clock."""
    assert isinstance(noria.clock, SetClock)
    return noria.clock


def test_a_clock_set_back_delays_nobody(set_noria: Noria) -> None:
    noria, clock = set_noria, clocked(set_noria)
    register(noria, spec(noria, steps=CHAIN))
    noria.app.work.reconcile()
    run = submit(noria)
    dead, alive = Worker(noria, "dead"), Worker(noria, "alive")
    assert dead.claim()
    clock.set(-3600.0)
    for _ in range(5):  # the lease is three seconds
        clock.advance(1.0)
        noria.app.work.reconcile()
    assert alive.work() == ["load", "train", "score"]
    assert states(noria, run["id"])["run"] == "succeeded"


def test_a_clock_set_forward_takes_nothing_from_a_living_worker(set_noria: Noria) -> None:
    noria, clock = set_noria, clocked(set_noria)
    register(noria, spec(noria, steps=CHAIN))
    noria.app.work.reconcile()
    run = submit(noria)
    worker = Worker(noria)
    load = worker.claim()
    assert load is not None
    clock.set(3600.0)
    noria.app.work.reconcile()
    assert worker.finish(load).is_success
    assert [a["state"] for a in view(noria, run["id"])["steps"][0]["attempts"]] == ["succeeded"]


def test_a_worker_keeps_its_step_by_beating_when_the_clock_was_set_back(set_noria: Noria) -> None:
    noria, clock = set_noria, clocked(set_noria)
    register(noria, spec(noria, steps=CHAIN))
    noria.app.work.reconcile()
    submit(noria)
    worker = Worker(noria)
    load = worker.claim()
    assert load is not None
    clock.set(-3600.0)
    for _ in range(8):
        clock.advance(1.0)
        noria.app.work.reconcile()
        assert worker.beat(load)["lost"] == []
    assert worker.finish(load).is_success
