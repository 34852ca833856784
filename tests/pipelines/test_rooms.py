"""Which worker gets which step, by what it asks for."""

from __future__ import annotations

import msgspec

from noria.pipelines.model.spec import PipelineSpec
from tests.conftest import Noria
from tests.pipelines.given import Worker, register, spec, submit, view


def asking(noria: Noria, **asked: dict[str, float]) -> PipelineSpec:
    return spec(noria, steps={name: [] for name in asked}, **asked)


def test_a_step_waits_for_a_worker_with_as_many_processors_to_spare(noria: Noria) -> None:
    register(noria, asking(noria, a={"cpu": 2.0}, b={"cpu": 2.0}, c={}))
    submit(noria)
    worker = Worker(noria, cpus=3.0)
    first, second = worker.claim(), worker.claim()
    assert first is not None and second is not None
    assert (first.step, second.step) == ("a", "c") and first.cpu == 2.0
    assert worker.claim() is None
    worker.finish(first)
    third = worker.claim()
    assert third is not None and third.step == "b"


def test_memory_and_gpus_are_promised_too(noria: Noria) -> None:
    register(noria, asking(noria, a={"memory_bytes": 6 << 30}, b={"memory_bytes": 6 << 30}, c={"gpu": 1}))
    submit(noria)
    worker = Worker(noria, cpus=4.0, memory_bytes=8 << 30, gpus=1)
    assert [given.step for given in (worker.claim(), worker.claim()) if given] == ["a", "c"]
    assert worker.claim() is None


def test_a_worker_that_does_not_say_takes_any_step(noria: Noria) -> None:
    register(noria, asking(noria, a={"cpu": 64.0, "gpu": 8}))
    submit(noria)
    assert Worker(noria).claim() is not None


def test_room_is_kept_for_a_large_step_that_has_waited_long(noria: Noria) -> None:
    register(noria, asking(noria, a={"cpu": 1.0}, big={"cpu": 2.0}))
    submit(noria)
    worker = Worker(noria, cpus=2.0)
    small = worker.claim()
    assert small is not None and small.step == "a"
    register(noria, spec(noria, "late", steps={"x": [], "y": []}, x={"cpu": 1.0}))
    noria.clock.advance(20)
    submit(noria, "late")
    noria.clock.advance(11)
    younger = worker.claim()  # takes no processor: only a slot
    assert younger is not None and younger.step == "y"
    assert worker.claim() is None  # x would fit beside `a`, and would keep `big` waiting
    worker.finish(small)
    found = worker.claim()
    assert found is not None and found.step == "big"


def test_what_no_worker_can_do_is_said(noria: Noria) -> None:
    register(noria, asking(noria, a={"gpu": 2}, b={"memory_bytes": 900 << 30}))
    run = submit(noria)
    assert {s["waiting"] for s in view(noria, run["id"])["steps"]} == {"No worker is running."}
    Worker(noria, cpus=2.0, memory_bytes=8 << 30)
    assert [s["waiting"] for s in view(noria, run["id"])["steps"]] == [
        "It asks for 2 GPUs; the largest worker has 0.", "It asks for 966.368 GB of memory; the largest worker has 8.59.",
    ]  # fmt: skip


def test_negative_limits_are_refused(noria: Noria) -> None:
    answer = noria.http.post("/api/v1/pipelines", content=msgspec.json.encode(asking(noria, a={"cpu": -1.0})))
    assert answer.status_code == 400 and "must not be negative" in answer.text
