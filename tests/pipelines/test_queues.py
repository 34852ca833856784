"""Queues: who takes what, in whose turn, and how much at once."""

from __future__ import annotations

import msgspec
import pytest

from noria.pipelines.model.queues import Queue
from noria.pipelines.turns import Share, Waiting, in_turn
from tests.conftest import Noria
from tests.pipelines.given import Worker, register, spec, states, submit, view


def waiting(*steps: tuple[str, str, str]) -> list[Waiting]:
    return [Waiting(f"{i}", "run", queue, owner, pipeline) for i, (queue, owner, pipeline) in enumerate(steps)]


def turns(found: list[Waiting]) -> str:
    return " ".join(f"{w.id}:{w.owner}/{w.pipeline}" for w in found)


def test_who_runs_the_least_comes_first() -> None:
    steps = waiting(("q", "ada", "big"), ("q", "ada", "small"), ("q", "bob", "one"))
    running = [Share("q", "ada", "big", 3), Share("q", "bob", "one", 1)]
    assert turns(in_turn(steps, running, {})) == "2:bob/one 1:ada/small 0:ada/big"
    assert turns(in_turn(steps, [], {})) == "0:ada/big 1:ada/small 2:bob/one"  # what has waited longest


def test_what_runs_in_another_queue_does_not_count() -> None:
    steps = waiting(("q", "ada", "a"), ("q", "bob", "b"))
    assert turns(in_turn(steps, [Share("other", "ada", "a", 9)], {})) == "0:ada/a 1:bob/b"


def test_a_higher_priority_comes_first_and_a_full_queue_not_at_all() -> None:
    steps = waiting(("low", "ada", "a"), ("high", "ada", "a"), ("full", "ada", "a"))
    rules = {"high": Queue(name="high", priority=5), "full": Queue(name="full", priority=9, quota=2)}
    running = [Share("full", "bob", "b", 2)]
    assert [w.queue for w in in_turn(steps, running, rules)] == ["high", "low"]


def test_a_worker_takes_steps_of_its_queues_only(noria: Noria) -> None:
    register(noria, spec(noria, steps={"a": [], "b": []}, a={"queue": "gpu"}))
    run = submit(noria)
    plain = Worker(noria, "w1")
    given = plain.claim()
    assert given is not None and given.step == "b" and plain.claim() is None
    waits = {s["step"]["name"]: s["waiting"] for s in view(noria, run["id"])["steps"]}
    assert waits["a"] == "No worker serves the queue 'gpu'; those that run serve: default."
    other = Worker(noria, "w2", queues=["gpu", "more"])
    taken = other.claim()
    assert taken is not None and taken.step == "a"
    assert noria.http.get("/api/v1/queues").json() == [
        {"name": "default", "priority": 0, "quota": None, "ready": 0, "running": 1, "workers": 1},
        {"name": "gpu", "priority": 0, "quota": None, "ready": 0, "running": 1, "workers": 1},
        {"name": "more", "priority": 0, "quota": None, "ready": 0, "running": 0, "workers": 1},
    ]


def test_a_quota_holds_over_all_workers_and_says_so(noria: Noria) -> None:
    assert noria.http.put("/api/v1/queues/default", json={"quota": 1}).json()["quota"] == 1
    register(noria, spec(noria, steps={"a": [], "b": []}))
    run = submit(noria)
    one, two = Worker(noria, "w1"), Worker(noria, "w2")
    first = one.claim()
    assert first is not None and two.claim() is None
    waits = {s["step"]["name"]: s["waiting"] for s in view(noria, run["id"])["steps"]}
    assert waits["b"] == "The queue 'default' runs as many steps as its quota allows (1)."
    one.finish(first)
    assert two.claim() is not None


def test_a_thousand_steps_of_one_pipeline_do_not_keep_another_waiting(noria: Noria) -> None:
    register(noria, spec(noria, "wide", steps={f"s{i}": [] for i in range(40)}))
    register(noria, spec(noria, "narrow", steps={"only": []}))
    submit(noria, "wide")
    noria.clock.advance(1)
    worker = Worker(noria)
    assert worker.claim() is not None
    run = submit(noria, "narrow")
    worker.claim()
    assert states(noria, run["id"])["only"] == "running"


def test_persons_share_before_their_pipelines_do(noria: Noria) -> None:
    noria.as_("root", "admin", kind="user")
    ada, bob = noria.as_("ada", "maintainer"), noria.as_("bob", "maintainer")
    for who, names in ((ada, ["a1", "a2"]), (bob, ["b1"])):
        for name in names:
            who.post("/api/v1/pipelines", content=msgspec.json.encode(spec(noria, name, steps={"x": [], "y": []})))
            assert who.post(f"/api/v1/pipelines/{name}/runs", json={}).status_code == 200
            noria.clock.advance(1)
    worker = Worker(noria)
    order = [given.pipeline for _ in range(5) if (given := worker.claim())]
    assert order == ["a1", "b1", "a2", "b1", "a1"]


def test_priorities_of_a_worker_with_two_queues(noria: Noria) -> None:
    noria.http.put("/api/v1/queues/urgent", json={"priority": 10})
    register(noria, spec(noria, steps={"a": [], "b": []}, b={"queue": "urgent"}))
    submit(noria)
    given = Worker(noria, queues=["default", "urgent"]).claim()
    assert given is not None and given.step == "b"


def test_rules_are_checked_kept_and_taken_back(noria: Noria) -> None:
    for wrong in ({"priority": 5000}, {"quota": -1}, {"weight": 1}):
        assert noria.http.put("/api/v1/queues/gpu", json=wrong).status_code == 400, wrong
    assert noria.http.put("/api/v1/queues/no%0Aname", json={}).status_code == 400
    noria.http.put("/api/v1/queues/gpu", json={"priority": 1, "quota": 0})
    assert noria.http.delete("/api/v1/queues/gpu").status_code == 204
    assert noria.http.delete("/api/v1/queues/gpu").status_code == 404
    assert [e.kind for e in noria.facts() if e.kind.startswith("queue.")] == ["queue.changed", "queue.deleted"]


def test_the_role_agent_may_work_and_nothing_else(noria: Noria) -> None:
    noria.as_("root", "admin", kind="user")
    agent, viewer = noria.as_("machine", "agent"), noria.as_("eve", "viewer")
    hello = {"worker": "w9", "name": "w9", "queues": ["gpu"]}
    assert agent.post("/api/v1/pipelines/work/hello", json=hello).status_code == 200
    assert agent.post("/api/v1/pipelines/work/claim", json={"worker": "w9"}).json() == {"assignment": None}
    assert agent.get("/api/v1/pipelines").status_code in (403, 404)
    assert agent.put("/api/v1/queues/gpu", json={}).status_code == 403
    assert viewer.post("/api/v1/pipelines/work/hello", json=hello).status_code == 403


@pytest.mark.parametrize("queues", [[], ["bad\nname"], [f"q{i}" for i in range(201)]])
def test_queues_of_a_worker_are_checked(noria: Noria, queues: list[str]) -> None:
    body = {"worker": "w", "name": "w", "queues": queues}
    answer = noria.client("internal-token-of-the-tests").post("/api/v1/pipelines/work/hello", json=body)
    assert answer.status_code == 400
