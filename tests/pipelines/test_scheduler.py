"""Runs: order, failure, retry, cancel, resume, lost workers, cache."""

from __future__ import annotations

import pytest

from noria.pipelines.model.values import Json, Many, Named, Pickle
from noria.pipelines.model.work import Beat, Held
from tests.conftest import Noria
from tests.pipelines.given import Worker, register, spec, states, submit, view


def test_a_run_ends_well_and_its_record_says_how(noria: Noria) -> None:
    register(noria)
    run = submit(noria, params={"rows": 5})
    assert run["state"] == "queued" and run["owner"] == "local"
    assert Worker(noria).work() == ["load", "train", "score"]
    found = view(noria, run["id"])
    assert found["run"]["state"] == "succeeded"
    assert found["run"]["outputs"] == {"result": {"as": "json", "value": "result of score"}}
    assert found["dag"] == [["load", "train"], ["train", "score"]]
    kinds = [e.kind for e in noria.facts() if e.kind.startswith(("pipeline", "step"))]
    assert kinds == [
        "pipeline.registered", "pipeline_run.submitted",
        "step_run.started", "step_run.succeeded", "step_run.started", "step_run.succeeded", "step_run.started",
        "step_run.succeeded", "pipeline_run.succeeded",
    ]  # fmt: skip
    submitted, ended = noria.facts("pipeline_run.submitted")[0], noria.facts("pipeline_run.succeeded")[0]
    assert ended.cause == submitted.seq
    assert ended.data["outputs"] == {"result": "result of score"}


def test_a_step_gets_what_its_parents_returned(noria: Noria) -> None:
    register(noria)
    submit(noria)
    worker = Worker(noria)
    load = worker.claim()
    assert load is not None and worker.claim() is None
    table = Pickle("ab" * 32, 7, "DataFrame")
    worker.finish(load, outputs=Many([table, Json(3)], "tuple"))
    train = worker.claim()
    assert train is not None and train.inputs == {"load": Many([table, Json(3)], "tuple")}


def test_the_same_spec_again_is_the_same_version(noria: Noria) -> None:
    register(noria)
    register(noria)
    assert noria.http.get("/api/v1/pipelines/churn").json()["version"] == 1
    register(noria, spec(noria, steps={"load": []}))
    assert noria.http.get("/api/v1/pipelines/churn").json()["version"] == 2
    assert [v["number"] for v in noria.http.get("/api/v1/pipelines/churn/versions").json()["items"]] == [2, 1]


def test_a_unique_key_gives_one_run(noria: Noria) -> None:
    register(noria)
    assert submit(noria, unique="monday")["id"] == submit(noria, unique="monday")["id"]


def test_a_failed_step_fails_the_run_and_skips_what_needs_it(noria: Noria) -> None:
    register(noria, spec(noria, steps={"load": [], "train": ["load"], "report": [], "score": ["train", "report"]}))
    run = submit(noria)
    worker = Worker(noria)
    load = worker.claim()
    assert load is not None and load.step == "load"
    worker.finish(load, "failed", error="ValueError: no rows")
    assert states(noria, run["id"]) == {
        "run": "running", "load": "failed", "train": "skipped", "report": "ready", "score": "skipped",
    }  # fmt: skip
    worker.work()
    found = view(noria, run["id"])
    assert found["run"]["state"] == "failed" and found["run"]["error"] == "Step load failed: ValueError: no rows"
    assert noria.facts("step_run.failed")[0].data["will_retry"] is False


def test_a_retry_waits_longer_each_time(noria: Noria) -> None:
    register(noria, spec(noria, steps={"load": []}, load={"retries": 2, "retry_delay_s": 10.0}))
    run = submit(noria)
    worker = Worker(noria)
    for delay_s in (10, 20):
        given = worker.claim()
        assert given is not None
        worker.finish(given, "failed", error="OSError: not yet")
        assert worker.claim() is None
        noria.clock.advance(delay_s - 1)
        assert worker.claim() is None
        noria.clock.advance(1)
    assert worker.work() == ["load"]
    found = view(noria, run["id"])
    assert found["run"]["state"] == "succeeded"
    assert [a["state"] for a in found["steps"][0]["attempts"]] == ["failed", "failed", "succeeded"]


def test_a_silent_worker_loses_its_step_and_its_late_result_is_refused(noria: Noria) -> None:
    register(noria, spec(noria, steps={"load": [], "train": ["load"]}))
    run = submit(noria)
    slow, other = Worker(noria, "slow"), Worker(noria, "other")
    slow_claim = slow.claim()
    assert slow_claim is not None
    noria.settle()  # the first look after a start forgives
    noria.clock.advance(4)
    noria.settle()
    taken = other.claim()
    assert taken is not None and (taken.step, taken.attempt) == ("load", 2)
    assert slow.finish(slow_claim).status_code == 409
    assert slow.log(slow_claim, "still here").status_code == 409
    assert slow.beat(slow_claim)["lost"] == [{"step_run_id": slow_claim.step_run_id, "attempt": 1}]
    other.finish(taken)
    assert other.work() == ["train"]
    assert states(noria, run["id"])["run"] == "succeeded"
    assert len(noria.facts("step_run.succeeded")) == 2


def test_a_beating_worker_keeps_its_step(noria: Noria) -> None:
    register(noria, spec(noria, steps={"load": []}))
    run = submit(noria)
    worker = Worker(noria)
    given = worker.claim()
    assert given is not None
    noria.settle()
    for _ in range(5):
        noria.clock.advance(2)
        assert worker.beat(given) == {"cancel": [], "lost": []}
        noria.settle()
    assert worker.finish(given).is_success
    assert states(noria, run["id"])["run"] == "succeeded"


def test_a_restarted_worker_gets_its_steps_back_at_once(noria: Noria) -> None:
    register(noria, spec(noria, steps={"load": []}))
    submit(noria)
    first = Worker(noria, "first", name="laptop").claim()
    assert first is not None
    again = Worker(noria, "second", name="laptop").claim()
    assert again is not None and again.attempt == 2


def test_a_step_that_loses_every_worker_fails(noria: Noria) -> None:
    register(noria, spec(noria, steps={"load": []}))
    run = submit(noria)
    for i in range(5):
        assert Worker(noria, f"w{i}", name="laptop").claim()
    Worker(noria, "last", name="laptop")
    assert "vanished 5 times" in view(noria, run["id"])["run"]["error"]


def test_a_result_said_twice_counts_once(noria: Noria) -> None:
    register(noria, spec(noria, steps={"load": [], "train": ["load"]}))
    submit(noria)
    worker = Worker(noria)
    given = worker.claim()
    assert given is not None
    assert worker.finish(given).is_success and worker.finish(given).is_success
    assert worker.work() == ["train"]


def test_cancel_stops_what_waits_now_and_what_runs_through_its_worker(noria: Noria) -> None:
    register(noria)
    run = submit(noria)
    worker = Worker(noria)
    given = worker.claim()
    assert given is not None
    noria.http.post(f"/api/v1/pipeline-runs/{run['id']}/cancel")
    assert states(noria, run["id"]) == {
        "run": "cancelling", "load": "running", "train": "cancelled", "score": "cancelled",
    }  # fmt: skip
    assert worker.beat(given)["cancel"] == [{"step_run_id": given.step_run_id, "attempt": 1}]
    worker.finish(given, "cancelled")
    assert states(noria, run["id"])["run"] == "cancelled"
    assert noria.http.post(f"/api/v1/pipeline-runs/{run['id']}/cancel").json()["state"] == "cancelled"


def test_resume_repeats_no_finished_step(noria: Noria) -> None:
    register(noria)
    run = submit(noria)
    worker = Worker(noria)
    load = worker.claim()
    assert load is not None
    worker.finish(load)
    train = worker.claim()
    assert train is not None
    worker.finish(train, "failed", error="boom")
    assert states(noria, run["id"])["run"] == "failed"
    resumed = noria.http.post(f"/api/v1/pipeline-runs/{run['id']}/resume", json={})
    assert resumed.json()["state"] == "running"
    assert worker.work() == ["train", "score"]
    assert states(noria, run["id"])["run"] == "succeeded"
    refused = noria.http.post(f"/api/v1/pipeline-runs/{run['id']}/resume", json={})
    assert refused.status_code == 409 and "succeeded" in refused.json()["error"]["message"]


def test_resume_with_repaired_code_needs_the_same_steps(noria: Noria) -> None:
    register(noria)
    run = submit(noria)
    worker = Worker(noria)
    load = worker.claim()
    assert load is not None
    worker.finish(load, "failed", error="boom")
    register(noria, spec(noria, steps={"load": []}))
    refused = noria.http.post(f"/api/v1/pipeline-runs/{run['id']}/resume", json={"version": 2})
    assert refused.status_code == 400
    repaired = spec(noria, score={"description": "repaired"})
    register(noria, repaired)
    assert noria.http.post(f"/api/v1/pipeline-runs/{run['id']}/resume", json={"version": 3}).json()["version"] == 3
    assert worker.work() == ["load", "train", "score"]


def test_a_cached_step_is_taken_and_says_why(noria: Noria) -> None:
    cached = {"load": {"cache_s": 100.0}, "train": {"cache_s": 0.0}}
    register(noria, spec(noria, **cached))
    submit(noria)
    worker = Worker(noria)
    assert worker.work() == ["load", "train", "score"]
    second = submit(noria)
    assert worker.work() == ["score"]
    steps = {s["step"]["name"]: s["step"] for s in view(noria, second["id"])["steps"]}
    assert steps["train"]["reason"].startswith("From the cache") and steps["train"]["cached_from"]
    noria.clock.advance(101)
    third = submit(noria)
    assert worker.work() == ["load", "score"]
    steps = {s["step"]["name"]: s["step"] for s in view(noria, third["id"])["steps"]}
    assert steps["load"]["reason"] == "Its last result is too old."


def test_changed_code_is_no_cache_hit(noria: Noria) -> None:
    from msgspec.structs import replace

    first = spec(noria, load={"cache_s": 0.0})
    register(noria, first)
    submit(noria)
    worker = Worker(noria)
    worker.work()
    register(noria, replace(first, steps=[replace(first.steps[0], code_digest="other"), *first.steps[1:]]))
    run = submit(noria)
    assert worker.work() == ["load", "train", "score"]
    assert view(noria, run["id"])["steps"][0]["step"]["reason"] == "Its code changed since its last result."


def test_a_fully_cached_run_needs_no_worker(noria: Noria) -> None:
    chain = {f"s{i:03}": [f"s{i - 1:03}"] if i else [] for i in range(100)}
    options = {name: {"cache_s": 0.0} for name in chain}
    register(noria, spec(noria, steps=chain, **options))
    submit(noria)
    assert len(Worker(noria).work()) == 100
    assert submit(noria)["state"] == "succeeded"


def test_a_missing_part_fails_the_step_with_a_sentence(noria: Noria) -> None:
    from msgspec.structs import replace

    from noria.pipelines.model.sources import FromStep

    made = spec(noria, steps={"load": [], "train": ["load"]})
    made = replace(made, steps=[made.steps[0], replace(made.steps[1], inputs={"x": FromStep("load", ["auc"])})])
    register(noria, made)
    run = submit(noria)
    worker = Worker(noria)
    load = worker.claim()
    assert load is not None
    worker.finish(load, outputs=Named({"loss": Json(1.0)}))
    assert worker.claim() is None
    assert view(noria, run["id"])["run"]["error"] == "Step train failed: What load returned has no part 'auc'."


def test_logs_are_kept_once_and_read_from_an_offset(noria: Noria) -> None:
    register(noria, spec(noria, steps={"load": []}))
    submit(noria)
    worker = Worker(noria)
    given = worker.claim()
    assert given is not None
    text = "zeile eins ä\n"
    size = len(text.encode())
    assert worker.log(given, text).is_success
    assert worker.log(given, text).is_success
    assert worker.log(given, "line two\n", offset=size).is_success
    assert worker.log(given, "gap", offset=1000).status_code == 409
    path = f"/api/v1/step-runs/{given.step_run_id}/logs"
    found = noria.http.get(path).json()
    assert (found["text"], found["done"]) == (text + "line two\n", False)
    worker.finish(given)
    found = noria.http.get(path, params={"offset": size}).json()
    assert (found["text"], found["next"], found["done"]) == ("line two\n", size + 9, True)


def test_what_a_step_read_is_an_edge_of_its_run(noria: Noria) -> None:
    register(noria, spec(noria, steps={"load": []}))
    run = submit(noria)
    worker = Worker(noria)
    given = worker.claim()
    assert given is not None
    worker.finish(given, reads=["dataset_version:0197"])
    edges = noria.http.get("/api/v1/lineage/dataset_version:0197").json()["edges"]
    assert {"src": f"pipeline_run:{run['id']}", "kind": "read", "dst": "dataset_version:0197", "protects": False} in edges


def test_the_token_of_a_step_acts_for_the_owner_and_may_not_work(noria: Noria) -> None:
    register(noria, spec(noria, steps={"load": []}))
    submit(noria)
    given = Worker(noria).claim()
    assert given is not None
    step = noria.client(given.token)
    me = step.get("/api/v1/me").json()
    assert (me["kind"], me["name"]) == ("trigger", "churn/load")
    assert step.post("/api/v1/pipelines/work/claim", json={"worker": "x"}).status_code == 403
    assert step.post("/api/v1/pipelines/churn/runs", json={}).status_code == 403
    assert step.post("/api/v1/tokens", json={"name": "more"}).status_code == 403


def test_a_try_that_is_given_back_while_its_run_is_cancelled_leaves_its_fact(noria: Noria) -> None:
    register(noria, spec(noria, steps={"load": []}))
    run = submit(noria)
    worker = Worker(noria)
    given = worker.claim()
    assert given is not None
    noria.http.post(f"/api/v1/pipeline-runs/{run['id']}/cancel")
    worker.finish(given, outcome="lost")
    assert states(noria, run["id"]) == {"run": "cancelled", "load": "cancelled"}
    assert [e.kind for e in noria.facts("step_run.lost")] == ["step_run.lost"]


@pytest.mark.parametrize("end", ["finish", "fail", "lose"])
def test_the_token_of_a_step_ends_with_its_try(noria: Noria, end: str) -> None:
    """At once, though it was used a moment ago; and the next try has one of its own."""
    register(noria, spec(noria, steps={"load": []}, load={"retries": 1, "retry_delay_s": 0.0}))
    submit(noria)
    worker = Worker(noria)
    given = worker.claim()
    assert given is not None
    assert noria.client(given.token).get("/api/v1/me").status_code == 200
    if end == "lose":
        noria.app.work.goodbye(noria.system(), Beat(worker=worker.id, held=[Held(step_run_id=given.step_run_id, attempt=1)]))
    else:
        worker.finish(given, outcome="succeeded" if end == "finish" else "failed")
    assert noria.client(given.token).get("/api/v1/me").status_code == 401
    with noria.app.db.read() as tx:
        assert tx.scalar("select count(*) from token where actor_kind = 'trigger'") == 0
    if end != "finish":
        again = Worker(noria, "another").claim()
        assert again is not None and noria.client(again.token).get("/api/v1/me").status_code == 200


def test_bad_specs_and_parameters_are_refused(noria: Noria) -> None:
    import msgspec
    from msgspec.structs import replace

    good = spec(noria)
    loop = replace(good, steps=[replace(good.steps[0], after=["score"]), *good.steps[1:]])
    twice = replace(good, steps=[good.steps[0], good.steps[0]])
    no_blob = replace(good, code=replace(good.code, archive_digest="0" * 64))
    named_work = replace(good, name="work")
    for bad in (loop, twice, no_blob, named_work):
        answer = noria.http.post("/api/v1/pipelines", content=msgspec.json.encode(bad))
        assert answer.status_code == 400, answer.text
    register(noria)
    unknown = noria.http.post("/api/v1/pipelines/churn/runs", json={"params": {"row": 1}})
    assert unknown.status_code == 400 and "rows" in unknown.json()["error"]["hint"]
    assert noria.http.post("/api/v1/pipelines/nope/runs", json={}).status_code == 404
    assert noria.http.get("/api/v1/pipeline-runs/nope").status_code == 404
    assert noria.http.get("/api/v1/step-runs/nope/logs").status_code == 404


def test_only_the_roles_that_may_run_do(noria: Noria) -> None:
    noria.as_("root", "admin", kind="user")
    bob, eve = noria.as_("bob", "contributor"), noria.as_("eve", "viewer")
    import msgspec

    body = msgspec.json.encode(spec(noria))
    assert eve.post("/api/v1/pipelines", content=body).status_code == 403
    assert bob.post("/api/v1/pipelines", content=body).status_code == 200
    assert eve.post("/api/v1/pipelines/churn/runs", json={}).status_code == 403
    run = bob.post("/api/v1/pipelines/churn/runs", json={}).json()
    assert eve.get(f"/api/v1/pipeline-runs/{run['id']}").status_code == 200
    assert eve.post(f"/api/v1/pipeline-runs/{run['id']}/cancel").status_code == 403
    assert bob.post(f"/api/v1/pipeline-runs/{run['id']}/cancel").json()["state"] == "cancelled"


def test_a_run_made_in_a_step_is_tied_to_the_pipeline_run_and_to_what_went_before(noria: Noria) -> None:
    register(noria, spec(noria, steps={"load": [], "train": ["load"]}))
    run = submit(noria)
    worker = Worker(noria)
    load = worker.claim()
    assert load is not None
    worker.finish(load, reads=["dataset_version:0197"])
    train = worker.claim()
    assert train is not None and train.reads == ["dataset_version:0197"]
    op = noria.app.ops.system("test")
    experiment = noria.app.tracking.experiment_by_name(op, "churn", create=True)
    tags = {"noria.pipeline_run": run["id"], "noria.step_run": train.step_run_id}
    made = noria.app.tracking.create_run(op, experiment.id, "one", tags)
    noria.settle()
    found = noria.http.get(f"/api/v1/lineage/run:{made.id}", params={"depth": 1}).json()["edges"]
    assert {(e["kind"], e["dst"]) for e in found} >= {
        ("made_by", f"pipeline_run:{run['id']}"), ("read", "dataset_version:0197"),
    }  # fmt: skip


def test_a_step_whose_hand_over_was_lost_is_given_out_again(noria: Noria) -> None:
    """The answer to a claim never arrived: the worker lives, beats, and knows nothing of the step."""
    register(noria)
    run = submit(noria)
    worker = Worker(noria)
    assert worker.claim() is not None
    noria.clock.advance(5)
    worker.beat()
    assert states(noria, run["id"])["load"] == "running"  # it may still be under way
    noria.clock.advance(6)
    worker.beat()
    again = worker.claim()
    assert again is not None and (again.step, again.attempt) == ("load", 2)
