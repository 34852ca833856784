"""What people do to runs, and how many go on at once: on both databases, with a worker that lives in the test."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from noria.pipelines.model.conditions import Compare, Truth
from noria.pipelines.model.sources import FromFirst, FromList, FromParam, FromStep, FromValue
from noria.pipelines.model.spec import ParamSpec, PipelineSpec, Question, StepSpec
from noria.pipelines.model.values import Json
from tests.conftest import Noria
from tests.pipelines.given import Worker, register, spec, states, submit, view


@pytest.fixture
def worker(noria: Noria) -> Worker:
    return Worker(noria)


def post(noria: Noria, path: str, status: int = 200, **body: Any) -> dict[str, Any]:
    answer = noria.http.post(f"/api/v1/{path}", json=body)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def step_of(noria: Noria, run: str, name: str) -> dict[str, Any]:
    return next(dict(s["step"]) for s in view(noria, run)["steps"] if s["step"]["name"] == name)


def mapped(noria: Noria, **more: Any) -> PipelineSpec:
    """list → each (a map) → sum."""
    found = spec(noria, "mapped", steps={"list": []})
    steps = [
        *found.steps,
        StepSpec(name="each", kind="map", function="m:each", inputs={"x": FromStep("list")}, each=["x"], **more),
        StepSpec(name="sum", function="m:sum", inputs={"xs": FromStep("each")}),
    ]
    return msgspec.structs.replace(found, steps=steps, outputs={"result": FromStep("sum")})


def start_map(noria: Noria, worker: Worker, items: Any, **more: Any) -> str:
    """A mapped run whose list is there."""
    register(noria, mapped(noria, **more))
    run = str(submit(noria, "mapped")["id"])
    given = worker.claim()
    assert given and given.step == "list"
    assert worker.finish(given, outputs=Json(items)).is_success
    return run


# --- maps -----------------------------------------------------------------------------------------------------------------


def test_the_elements_are_there_with_the_end_of_the_step_that_made_the_list(noria: Noria, worker: Worker) -> None:
    run = start_map(noria, worker, ["a", "b"])
    assert states(noria, run) == {
        "run": "running", "list": "succeeded", "each": "running", "each[0]": "ready", "each[1]": "ready", "sum": "waiting",
    }  # fmt: skip
    seqs = {f.kind: f for f in noria.facts("step_run.expanded", "step_run.succeeded")}
    assert seqs["step_run.expanded"].op_id == seqs["step_run.succeeded"].op_id
    first, second = worker.claim(), worker.claim()
    assert first and second and (first.inputs, second.inputs) == ({"x": Json("a")}, {"x": Json("b")})
    worker.finish(second, outputs=Json(2))
    worker.finish(first, outputs=Json(1))
    last = worker.claim()
    assert last and last.step == "sum" and last.inputs == {"xs": Json([1, 2])}


def test_an_element_is_retried_and_resumed_alone(noria: Noria, worker: Worker) -> None:
    run = start_map(noria, worker, [1, 2, 3], retries=1, retry_delay_s=0.0)
    for _ in range(4):  # the second element fails for good
        given = worker.claim()
        assert given
        worker.finish(given, "failed" if given.step == "each[1]" else "succeeded", error="no")
    assert states(noria, run)["run"] == "failed" and states(noria, run)["sum"] == "skipped"
    assert "1 of 3 elements did not succeed; each[1]: no" in view(noria, run)["run"]["error"]
    post(noria, f"pipeline-runs/{run}/resume")
    assert states(noria, run)["each"] == "running"
    assert worker.work() == ["each[1]", "sum"]
    assert states(noria, run)["run"] == "succeeded"


def test_a_run_goes_on_from_a_step_also_with_another_list(noria: Noria, worker: Worker) -> None:
    run = start_map(noria, worker, [1, 2, 3])
    assert worker.work() == ["each[0]", "each[1]", "each[2]", "sum"]
    post(noria, f"pipeline-runs/{run}/resume", 409)
    post(noria, f"pipeline-runs/{run}/resume", 400, start="nothing")
    post(noria, f"pipeline-runs/{run}/resume", start="each[1]")
    assert worker.work() == ["each[1]", "sum"]
    old = step_of(noria, run, "each[0]")
    post(noria, f"pipeline-runs/{run}/resume", start="list")
    given = worker.claim()
    assert given and given.step == "list" and given.attempt == 2
    worker.finish(given, outputs=Json([7, 8]))
    assert step_of(noria, run, "each[0]")["id"] == old["id"]  # its earlier tries stay with it
    assert "each[2]" not in states(noria, run)
    assert worker.work() == ["each[0]", "each[1]", "sum"]
    assert states(noria, run)["run"] == "succeeded" and view(noria, run)["run"]["remaining"] == 0


def test_too_many_elements_are_an_error_of_the_step(noria: Noria, worker: Worker) -> None:
    run = start_map(noria, worker, list(range(998)))
    assert "would become 998 steps; a run has at most 1000, and this one has 3 already" in view(noria, run)["run"]["error"]
    assert len(view(noria, run)["steps"]) == 3


def test_a_map_is_cached_by_its_elements(noria: Noria, worker: Worker) -> None:
    start_map(noria, worker, [1, 2], cache_s=0.0, code_digest="c")
    assert worker.work() == ["each[0]", "each[1]", "sum"]
    run = submit(noria, "mapped")["id"]
    given = worker.claim()
    assert given
    worker.finish(given, outputs=Json([1, 2, 3]))
    assert states(noria, run)["each[1]"] == "succeeded" and "From the cache" in step_of(noria, run, "each[1]")["reason"]
    assert worker.work() == ["each[2]", "sum"]


def test_a_parameter_and_a_list_of_outputs_are_spread_too(noria: Noria, worker: Worker) -> None:
    found = spec(noria, "wide", steps={"a": [], "b": []})
    steps = [
        *found.steps,
        StepSpec(
            name="m", kind="map", function="m:m", each=["x", "y"],
            inputs={"x": FromParam("xs"), "y": FromList([FromStep("a"), FromStep("b")])},
        ),
    ]  # fmt: skip
    params = {"xs": ParamSpec(default=["p", "q"])}
    register(noria, msgspec.structs.replace(found, steps=steps, params=params, outputs={"r": FromStep("m")}))
    run = submit(noria, "wide")["id"]
    assert worker.work() == ["a", "b", "m[0]", "m[1]"]
    assert view(noria, run)["run"]["outputs"]["r"]["value"] == ["result of m[0]", "result of m[1]"]


# --- conditions -----------------------------------------------------------------------------------------------------------


def branched(noria: Noria) -> PipelineSpec:
    """score → (good | bad) → joined; and what waits after `bad` without using it."""
    found = spec(noria, "branched", steps={"score": []})
    high = Compare(FromStep("score", ["auc"]), ">", FromValue(0.9))
    low = Compare(FromStep("score", ["auc"]), "<=", FromValue(0.9))
    steps = [
        *found.steps,
        StepSpec(name="good", function="m:good", when=[high]), StepSpec(name="bad", function="m:bad", when=[low]),
        StepSpec(name="uses", function="m:uses", inputs={"x": FromStep("bad")}),
        StepSpec(name="joined", function="m:j", inputs={"x": FromFirst([FromStep("bad"), FromStep("good")])}),
        StepSpec(name="after", function="m:after", after=["uses"]),
    ]  # fmt: skip
    return msgspec.structs.replace(found, steps=steps, outputs={"bad": FromStep("bad", ["x"]), "joined": FromStep("joined")})


def test_a_branch_that_is_not_taken_is_passed_over(noria: Noria, worker: Worker) -> None:
    register(noria, branched(noria))
    run = submit(noria, "branched")["id"]
    given = worker.claim()
    assert given
    worker.finish(given, outputs=Json({"auc": 0.95}))
    assert states(noria, run)["bad"] == "skipped" and states(noria, run)["uses"] == "skipped"
    assert step_of(noria, run, "bad")["reason"] == "score['auc'] <= 0.9 is not so: 0.95."
    assert sorted(worker.work()) == ["after", "good", "joined"]
    assert view(noria, run)["run"]["state"] == "succeeded"
    assert view(noria, run)["run"]["outputs"]["bad"]["value"] is None
    assert [f.data["step"] for f in noria.facts("step_run.skipped")] == ["bad", "uses"]
    shown = next(s for s in view(noria, run)["steps"] if s["step"]["name"] == "good")
    assert shown["when"] == ["score['auc'] > 0.9"] and shown["depends_on"] == ["score"]


@pytest.mark.parametrize(
    ("result", "message"), [(Json({"auc": "high"}), "'high' > 0.9 means nothing"), (Json(1), "has no part 'auc'")]
)
def test_a_condition_that_cannot_be_judged_fails_its_step(noria: Noria, worker: Worker, result: Json, message: str) -> None:
    register(noria, branched(noria))
    run = submit(noria, "branched")["id"]
    given = worker.claim()
    assert given
    worker.finish(given, outputs=result)
    assert states(noria, run)["good"] == "failed" and message in view(noria, run)["run"]["error"]
    assert states(noria, run)["run"] == "failed"


# --- questions ------------------------------------------------------------------------------------------------------------


def asking(noria: Noria, worker: Worker, **more: Any) -> str:
    """A run that asks; its approval's id is in the step."""
    found = spec(noria, "asking", steps={"score": []})
    steps = [
        *found.steps,
        StepSpec(
            name="ask", kind="approve", question=Question(prompt="go?", **more), timeout_s=3600.0,
            inputs={"score": FromStep("score")},
        ),
        StepSpec(name="go", function="m:go", when=[Truth(FromStep("ask", ["approved"]))]),
    ]  # fmt: skip
    register(noria, msgspec.structs.replace(found, steps=steps, outputs={"answer": FromStep("ask")}))
    run = str(submit(noria, "asking")["id"])
    assert worker.work() == ["score"]
    return run


def decide(noria: Noria, client: Any, run: str, verb: str, comment: str = "") -> Any:
    approval = step_of(noria, run, "ask")["approval_id"]
    answer = client.post(f"/api/v1/approvals/{approval}/{verb}", json={"comment": comment})
    noria.settle()
    return answer


def test_a_question_is_answered_by_somebody_else(noria: Noria, worker: Worker) -> None:
    run = asking(noria, worker, role="approver")
    approval = noria.http.get(f"/api/v1/approvals/{step_of(noria, run, 'ask')['approval_id']}").json()
    assert approval["subject"] == "pipeline:asking" and approval["evidence"]["values"] == {"score": "result of score"}
    assert decide(noria, noria.http, run, "approve").status_code == 403  # whoever started it
    assert decide(noria, noria.as_("dan", "deployer"), run, "approve").status_code == 403
    assert decide(noria, noria.as_("ann", "admin"), run, "approve").status_code == 403  # another role
    assert decide(noria, noria.as_("bob", "approver"), run, "approve", "ok").status_code == 200
    assert worker.work() == ["go"]
    answer = view(noria, run)["run"]["outputs"]["answer"]["value"]
    assert answer == {"approved": True, "by": ["service:bob"], "comment": "ok"}


def test_two_have_to_agree_when_two_are_asked_for(noria: Noria, worker: Worker) -> None:
    run = asking(noria, worker, required=2)
    decide(noria, noria.as_("bob", "approver"), run, "approve")
    assert states(noria, run)["ask"] == "asking"
    decide(noria, noria.as_("carol", "approver"), run, "approve")
    assert states(noria, run)["go"] == "ready"


def test_a_no_and_no_answer_pass_over_what_waits(noria: Noria, worker: Worker) -> None:
    run = asking(noria, worker)
    decide(noria, noria.as_("bob", "approver"), run, "reject", "not yet")
    assert states(noria, run) == {"run": "succeeded", "score": "succeeded", "ask": "succeeded", "go": "skipped"}
    assert step_of(noria, run, "go")["reason"] == "ask was not approved. Rejected by service:bob: not yet"
    late = str(submit(noria, "asking")["id"])
    assert worker.work() == ["score"]
    noria.clock.advance(3601)
    noria.settle()
    assert states(noria, late)["go"] == "skipped"
    assert step_of(noria, late, "ask")["reason"] == "Nobody answered in time, which counts as no."


def test_a_question_of_a_run_that_is_cancelled_is_taken_back(noria: Noria, worker: Worker) -> None:
    run = asking(noria, worker)
    approval = step_of(noria, run, "ask")["approval_id"]
    post(noria, f"pipeline-runs/{run}/cancel")
    assert states(noria, run)["run"] == "cancelled"
    assert noria.http.get(f"/api/v1/approvals/{approval}").json()["state"] == "withdrawn"
    post(noria, f"pipeline-runs/{run}/resume")  # asked anew
    assert step_of(noria, run, "ask")["approval_id"] not in ("", approval)


def test_a_role_that_there_is_not_fails_the_step(noria: Noria, worker: Worker) -> None:
    run = asking(noria, worker, role="king")
    assert "There is no role 'king' that could answer" in view(noria, run)["run"]["error"]


# --- control --------------------------------------------------------------------------------------------------------------


def test_a_paused_run_begins_nothing_more(noria: Noria, worker: Worker) -> None:
    register(noria, spec(noria, steps={"a": [], "b": ["a"], "c": []}, a={"retries": 1, "retry_delay_s": 0.0}))
    run = submit(noria)["id"]
    given = worker.claim()
    assert given and given.step == "a"
    assert post(noria, f"pipeline-runs/{run}/pause")["is_paused"]
    assert worker.claim() is None and states(noria, run)["c"] == "waiting"
    assert view(noria, run)["waiting"] == "The run is paused."
    worker.finish(given, "failed", error="again")
    assert worker.claim() is None
    post(noria, f"pipeline-runs/{run}/unpause")
    assert sorted(worker.work()) == ["a", "b", "c"]
    assert not view(noria, run)["run"]["is_paused"]
    post(noria, f"pipeline-runs/{run}/pause", 409)


def test_what_ends_while_a_run_is_paused_lets_its_children_begin_later(noria: Noria, worker: Worker) -> None:
    run = start_map(noria, worker, [1])
    given = worker.claim()
    assert given
    post(noria, f"pipeline-runs/{run}/pause")
    worker.finish(given)
    assert states(noria, run)["each"] == "succeeded" and states(noria, run)["sum"] == "waiting"
    post(noria, f"pipeline-runs/{run}/unpause")
    assert worker.work() == ["sum"]


def test_a_paused_run_can_be_cancelled(noria: Noria, worker: Worker) -> None:
    register(noria)
    run = submit(noria)["id"]
    post(noria, f"pipeline-runs/{run}/pause")
    assert post(noria, f"pipeline-runs/{run}/cancel")["state"] == "cancelled"


def test_one_step_is_cancelled_and_the_rest_goes_on(noria: Noria, worker: Worker) -> None:
    register(noria, spec(noria, steps={"a": [], "b": ["a"], "c": [], "d": []}))
    run = submit(noria)["id"]
    given = worker.claim()
    assert given and given.step == "a"
    post(noria, f"step-runs/{given.step_run_id}/cancel")
    assert states(noria, run)["a"] == "running"
    orders = worker.beat(given)
    assert [h["step_run_id"] for h in orders["cancel"]] == [given.step_run_id]
    worker.finish(given, "cancelled")
    post(noria, f"step-runs/{step_of(noria, run, 'd')['id']}/cancel")
    post(noria, f"step-runs/{step_of(noria, run, 'd')['id']}/cancel", 409)
    assert worker.work() == ["c"]
    assert states(noria, run) == {"run": "failed", "a": "cancelled", "b": "skipped", "c": "succeeded", "d": "cancelled"}
    assert "Step a was cancelled by user:local admin" in view(noria, run)["run"]["error"]
    assert step_of(noria, run, "b")["reason"].startswith("a was cancelled by")
    post(noria, f"pipeline-runs/{run}/resume")
    assert sorted(worker.work()) == ["a", "b", "d"]


def test_a_map_is_cancelled_with_its_elements(noria: Noria, worker: Worker) -> None:
    run = start_map(noria, worker, [1, 2, 3])
    given = worker.claim()
    assert given
    post(noria, f"step-runs/{step_of(noria, run, 'each')['id']}/cancel")
    assert worker.claim() is None
    worker.finish(given, "cancelled")
    found = states(noria, run)
    assert found == {
        "run": "failed", "list": "succeeded", "each": "cancelled", "each[0]": "cancelled", "each[1]": "cancelled",
        "each[2]": "cancelled", "sum": "skipped",
    }  # fmt: skip


def test_a_run_is_cancelled_with_its_map(noria: Noria, worker: Worker) -> None:
    run = start_map(noria, worker, [1, 2])
    given = worker.claim()
    assert given
    post(noria, f"pipeline-runs/{run}/cancel")
    assert states(noria, run)["run"] == "cancelling"
    worker.finish(given, "cancelled")
    assert set(states(noria, run).values()) == {"succeeded", "cancelled"}
    assert states(noria, run)["run"] == states(noria, run)["each"] == "cancelled"


def test_a_run_is_started_again_with_other_parameters(noria: Noria, worker: Worker) -> None:
    register(noria)
    first = submit(noria, params={"rows": 3})["id"]
    again = post(noria, f"pipeline-runs/{first}/rerun", params={"rows": 4})
    assert again["params"] == {"rows": 4} and again["origin_run_id"] == first and again["id"] != first
    assert post(noria, f"pipeline-runs/{first}/rerun")["params"] == {"rows": 3}
    post(noria, f"pipeline-runs/{first}/rerun", 400, params={"lines": 4})
    post(noria, "pipeline-runs/nothing/rerun", 404)


def test_who_may_not_run_a_pipeline_may_not_control_it(noria: Noria, worker: Worker) -> None:
    register(noria)
    run = submit(noria)["id"]
    step = step_of(noria, run, "load")["id"]
    viewer = noria.as_("vera", "viewer")
    for path in ("pause", "unpause", "rerun", "resume", "cancel"):
        assert viewer.post(f"/api/v1/pipeline-runs/{run}/{path}", json={}).status_code == 403, path
    assert viewer.post(f"/api/v1/step-runs/{step}/cancel", json={}).status_code == 403
    assert viewer.post("/api/v1/pipelines/churn/pause", json={}).status_code == 403


# --- concurrency ----------------------------------------------------------------------------------------------------------


def limited(noria: Noria, **terms: Any) -> None:
    register(noria, msgspec.structs.replace(spec(noria, steps={"a": []}), concurrency=1, **terms))


def test_one_run_at_a_time_and_the_next_begins_when_it_ends(noria: Noria, worker: Worker) -> None:
    limited(noria)
    first = submit(noria)["id"]
    second, third = sorted(submit(noria)["id"] for _ in range(2))  # within a millisecond, the ids decide
    assert [states(noria, r)["run"] for r in (first, second, third)] == ["queued", "waiting", "waiting"]
    why = view(noria, second)["waiting"]
    assert why == f"It waits for its turn: 1 of at most 1 runs of churn go on, first {first}."
    assert worker.work() == ["a"]
    assert worker.claim() is None
    noria.settle()
    assert states(noria, second)["run"] == "queued"
    post(noria, f"pipeline-runs/{second}/cancel")
    noria.settle()
    assert states(noria, third)["run"] == "queued" and worker.work() == ["a"]


def test_a_run_that_finds_no_room_is_passed_over_and_says_why(noria: Noria, worker: Worker) -> None:
    limited(noria, on_busy="skip")
    first = submit(noria)
    passed = submit(noria)
    assert passed["state"] == "cancelled"
    assert passed["error"] == f"Passed over: 1 of at most 1 runs of churn go on already ({first['id']})."
    assert states(noria, passed["id"])["a"] == "cancelled"


def test_the_oldest_run_makes_room(noria: Noria, worker: Worker) -> None:
    limited(noria, on_busy="cancel_oldest")
    first = submit(noria)["id"]
    given = worker.claim()
    assert given
    second = submit(noria)["id"]
    assert states(noria, first)["run"] == "cancelling" and states(noria, second)["run"] == "waiting"
    worker.finish(given, "cancelled")
    noria.settle()
    assert states(noria, second)["run"] == "queued"


def test_each_key_has_room_of_its_own(noria: Noria, worker: Worker) -> None:
    limited(noria, concurrency_key="${rows}")
    runs = [submit(noria, params={"rows": rows})["id"] for rows in (1, 2, 1)]
    assert [states(noria, r)["run"] for r in runs] == ["queued", "queued", "waiting"]


def test_a_resumed_run_waits_for_room_too(noria: Noria, worker: Worker) -> None:
    limited(noria)
    first = submit(noria)["id"]
    post(noria, f"pipeline-runs/{first}/cancel")
    second = submit(noria)["id"]
    assert post(noria, f"pipeline-runs/{first}/resume")["state"] == "waiting"
    post(noria, f"pipeline-runs/{second}/cancel")
    noria.settle()
    assert states(noria, first)["run"] == "queued" and worker.work() == ["a"]


@pytest.mark.parametrize(
    "terms", [{"concurrency": 0}, {"concurrency": None, "on_busy": "skip"}, {"concurrency": 1, "concurrency_key": "${no}"}]
)
def test_terms_that_say_nothing_are_refused(noria: Noria, terms: dict[str, Any]) -> None:
    found = msgspec.structs.replace(spec(noria), **terms)
    assert noria.http.post("/api/v1/pipelines", content=msgspec.json.encode(found)).status_code == 400
