"""Tries that a worker hands to a job elsewhere: tickets, tokens bound to a try, and jobs that come twice or late."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest
from blake3 import blake3

from tests.conftest import Noria
from tests.pipelines.given import Worker, register, spec, states, submit, view

PLACE = {"executor": "ray", "job": "noria-x-1", "details": {"address": "http://ray:8265"}}


class Job:
    """Speaks to the server as the job of one try."""

    def __init__(self, noria: Noria, worker: Worker, given: Any, key: str = "k1") -> None:
        self.noria, self.key, self.id, self.number = noria, key, given.step_run_id, given.attempt
        body = {"worker": worker.id, "step_run_id": self.id, "attempt": self.number, "place": PLACE}
        self.ticket = worker.post("hand-on", **body)["ticket"]
        self.token = ""

    def post(self, what: str, token: str = "", **body: Any) -> httpx.Response:
        http = self.noria.client(token or self.token or self.ticket)
        return http.post(f"/api/v1/attempts/{self.id}/{self.number}/{what}", content=msgspec.json.encode(body))

    def begin(self, key: str = "") -> httpx.Response:
        answer = self.post("begin", self.ticket, key=key or self.key, node="node-7", python="3.11.2")
        if answer.is_success:
            self.token = answer.json()["assignment"]["token"]
        return answer

    def log(self, text: str, offset: int = 0) -> httpx.Response:
        return self.post("logs", worker="", step_run_id="", attempt=0, offset=offset, text=text)

    def finish(self, outcome: str = "succeeded", **more: Any) -> httpx.Response:
        value = {"as": "json", "value": 7} if outcome == "succeeded" else None
        return self.post("finish", worker="", step_run_id="", attempt=0, outcome=outcome, outputs=value, **more)

    def blob(self, verb: str, digest: str, body: bytes = b"") -> httpx.Response:
        http = self.noria.client(self.token)
        return http.request(verb, f"/api/v1/attempts/blobs/{self.id}/{self.number}/{digest}", content=body)


@pytest.fixture
def run(noria: Noria) -> dict[str, Any]:
    register(noria, spec(noria, steps={"load": [], "train": ["load"]}))
    return submit(noria)


def told(worker: Worker, job: Job, note: str = "") -> dict[str, Any]:
    held = {"step_run_id": job.id, "attempt": job.number}
    return dict(worker.post("told", worker=worker.id, held=held, note=note))


def test_a_job_does_a_try_and_the_run_goes_on(noria: Noria, run: dict[str, Any]) -> None:
    worker = Worker(noria)
    job = Job(noria, worker, worker.claim())
    assert told(worker, job, note="── ray: job x ──\n") == {
        "state": "running", "has_begun": False, "is_held": True, "log_bytes": len("── ray: job x ──\n".encode())
    }  # fmt: skip
    begun = job.begin().json()
    assert begun["assignment"]["function"] == "churn:load" and begun["worker"] == worker.id
    assert job.log("from the job\n", offset=begun["log_bytes"]).is_success
    assert told(worker, job, note="too late")["has_begun"]  # the log is the job's by now
    assert job.finish().is_success and job.finish().is_success  # said again: the answer was lost
    assert told(worker, job)["state"] == "succeeded"
    step = view(noria, run["id"])["steps"][0]
    assert step["attempts"][0]["place"] == {**PLACE, "node": "node-7", "python": "3.11.2", "image": ""}
    assert noria.http.get(f"/api/v1/step-runs/{job.id}/logs").json()["text"] == "── ray: job x ──\nfrom the job\n"
    following = worker.claim()
    assert following is not None and following.step == "train" and following.inputs["load"].value == 7  # type: ignore[union-attr]


@pytest.mark.parametrize("end", ["finished", "lost"])
def test_the_token_of_a_job_does_nothing_once_its_try_is_over(noria: Noria, run: dict[str, Any], end: str) -> None:
    worker = Worker(noria)
    noria.app.work.reconcile()
    job = Job(noria, worker, worker.claim())
    assert job.begin().is_success
    step = noria.client(job.token)
    assert step.post("/api/v1/runs", json={"experiment": "churn"}).is_success
    if end == "finished":
        assert job.finish().is_success
    else:
        noria.clock.advance(4)
        noria.app.work.reconcile()
    assert step.post("/api/v1/runs", json={"experiment": "churn"}).status_code == 403
    assert job.post("beat").is_success  # it is told that its try is over


def test_of_one_try_one_job_begins(noria: Noria, run: dict[str, Any]) -> None:
    worker = Worker(noria)
    job = Job(noria, worker, worker.claim())
    first, again = job.begin("k1"), job.begin("k1")
    assert first.is_success and again.is_success and first.json()["log_bytes"] == again.json()["log_bytes"]
    twice = job.begin("k2")
    assert twice.status_code == 409 and "Another job has begun" in twice.text
    assert job.finish().is_success


def test_a_try_cannot_be_handed_on_again_once_a_job_has_it(noria: Noria, run: dict[str, Any]) -> None:
    worker = Worker(noria)
    given = worker.claim()
    old, job = Job(noria, worker, given), Job(noria, worker, given)
    assert old.begin().status_code == 403  # only the newest ticket counts
    assert job.begin().is_success
    with pytest.raises(AssertionError, match="begun with this try already"):
        Job(noria, worker, given)


def test_a_job_that_comes_back_after_its_lease_changes_nothing(noria: Noria, run: dict[str, Any]) -> None:
    dead, other = Worker(noria, "dead"), Worker(noria, "other")
    noria.app.work.reconcile()
    job = Job(noria, dead, dead.claim())
    late = Job(noria, dead, view_assignment(job))
    assert late.begin().is_success
    noria.clock.advance(4)
    noria.app.work.reconcile()
    given = other.claim()
    assert given is not None and (given.step, given.attempt) == ("load", 2)
    assert late.post("beat").json()["lost"] == [{"step_run_id": late.id, "attempt": 1}]
    body = b"a result"
    for answer in (late.log("late"), late.finish(), late.blob("PUT", blake3(body).hexdigest(), body), late.begin("k9")):
        assert answer.status_code == 409, answer.text
    assert told(dead, late)["is_held"] is False
    assert other.finish(given).is_success
    assert view(noria, run["id"])["steps"][0]["step"]["outputs"]["value"] == "result of load"


def agent(noria: Noria, worker: str, **more: Any) -> Worker:
    """A process of the agent that submits to Ray."""
    return Worker(noria, worker, **{"name": "agent", "adopts": "ray", **more})


def submitted(noria: Noria, former: Worker) -> Job:
    noria.app.work.reconcile()
    return Job(noria, former, former.claim())


@pytest.mark.parametrize("has_begun", [True, False])
def test_an_agent_that_comes_back_holds_again_what_a_job_goes_on_with(
    noria: Noria, run: dict[str, Any], has_begun: bool
) -> None:
    former = agent(noria, "agent-1")
    job = submitted(noria, former)
    if has_begun:
        assert job.begin().is_success
    noria.clock.advance(2)
    back = agent(noria, "agent-2")
    (adopted,) = back.welcome["adopted"]
    assert (adopted["step_run_id"], adopted["attempt"], adopted["step"]) == (job.id, 1, "load")
    assert not adopted["token"] and not adopted.get("inputs") and not adopted.get("secrets")
    assert back.welcome["orphans"] == []
    (fact,) = noria.facts("step_run.adopted")
    assert (fact.data["worker"], fact.data["former"], fact.data["attempt"]) == ("agent-2", "agent-1", 1)
    noria.clock.advance(2)  # past the lease that the process before had
    noria.app.work.reconcile()
    if not has_begun:
        assert job.begin().is_success
    assert job.post("beat").json() == {"cancel": [], "lost": []}
    assert told(back, job)["is_held"] and back.claim() is None
    offset = job.begin().json()["log_bytes"]
    assert job.log("from the job\n", offset=offset).is_success and job.finish().is_success
    (found,) = view(noria, run["id"])["steps"][0]["attempts"]
    assert (found["number"], found["worker"], found["state"]) == (1, "agent-2", "succeeded")
    assert view(noria, run["id"])["steps"][0]["step"]["losses"] == 0
    logs = noria.http.get(f"/api/v1/step-runs/{job.id}/logs").json()["text"]
    assert logs == "── the agent agent is back; the job noria-x-1 goes on ──\nfrom the job\n"


def test_of_two_processes_of_an_agent_one_holds_a_try(noria: Noria, run: dict[str, Any]) -> None:
    former = agent(noria, "agent-1")
    given = former.claim()
    job = Job(noria, former, given)
    assert job.begin().is_success and given is not None
    back = agent(noria, "agent-2")
    held = {"step_run_id": job.id, "attempt": 1}
    assert former.beat(given)["lost"] == [held]
    with pytest.raises(AssertionError, match="Another worker has this try"):  # so it leaves the job alone
        told(former, job)
    assert former.finish(given, "lost").status_code == 409
    former.post("goodbye", worker=former.id, held=[held])
    assert back.beat(given) == {"cancel": [], "lost": []}
    assert agent(noria, "agent-2").welcome["adopted"] == back.welcome["adopted"]  # asked again: the answer was lost
    third = agent(noria, "agent-3")
    assert back.beat(given)["lost"] == [held] and third.beat(given)["lost"] == []
    assert job.finish().is_success
    assert [a["worker"] for a in view(noria, run["id"])["steps"][0]["attempts"]] == ["agent-3"]


def test_what_an_agent_has_adopted_is_not_taken_for_an_answer_that_was_lost(noria: Noria, run: dict[str, Any]) -> None:
    former = agent(noria, "agent-1")
    given = former.claim()
    assert given is not None
    job = Job(noria, former, given)
    for _ in range(8):
        noria.clock.advance(2)
        former.beat(given)
    back = agent(noria, "agent-2")
    assert back.beat()["lost"] == []  # on its way while the server said hello
    assert told(back, job)["is_held"]
    assert back.beat(given)["lost"] == []


@pytest.mark.parametrize(
    "who",
    [
        {"adopts": ""}, {"adopts": "slurm"}, {"queues": ["gpu"]}, {"token": "of gpu-1"}, {"name": "another"},
    ],
    ids=["no executor that can", "another executor", "another queue", "another principal", "another name"],
)  # fmt: skip
def test_another_agent_adopts_nothing(noria: Noria, run: dict[str, Any], who: dict[str, Any]) -> None:
    former = agent(noria, "agent-1")
    job = submitted(noria, former)
    assert job.begin().is_success
    if "token" in who:
        body = {"name": "gpu-1", "kind": "service", "roles": ["agent"], "password": ""}
        assert noria.http.post("/api/v1/principals", json=body).is_success
        body = {"name": "gpu-1", "principal": "gpu-1", "expires_in_days": 1, "actions": []}
        who = {"token": noria.http.post("/api/v1/tokens", json=body).json()["secret"]}
    other = agent(noria, "agent-2", **who)
    assert other.welcome["adopted"] == [] and noria.facts("step_run.adopted") == []
    is_former = "name" not in who
    assert told(former, job)["is_held"] is not is_former  # another name waits for the lease, as ever
    assert (job.post("beat").json()["lost"] != []) is is_former
    # A job of our own that is not wanted any more is to end; of others' jobs an agent hears nothing.
    assert (other.welcome["orphans"] != []) is ("queues" in who)


def test_a_try_that_was_not_handed_on_is_free_when_its_agent_comes_back(noria: Noria, run: dict[str, Any]) -> None:
    agent(noria, "agent-1").claim()
    back = agent(noria, "agent-2")
    assert back.welcome["adopted"] == back.welcome["orphans"] == []
    given = back.claim()
    assert given is not None and given.attempt == 2


def test_an_agent_that_comes_back_too_late_is_told_what_to_end(noria: Noria, run: dict[str, Any]) -> None:
    former, other = agent(noria, "agent-1"), Worker(noria, "other")
    job = submitted(noria, former)
    assert job.begin().is_success
    noria.clock.advance(4)
    noria.app.work.reconcile()
    given = other.claim()
    assert given is not None and given.attempt == 2
    back = agent(noria, "agent-2")
    assert back.welcome["adopted"] == [] and back.welcome["orphans"] == [{"step_run_id": job.id, "attempt": 1}]
    assert told(former, job)["state"] == "lost" and job.finish().status_code == 409
    assert other.beat(given)["lost"] == [] and other.finish(given).is_success
    noria.clock.advance(86_401)
    assert agent(noria, "agent-3").welcome["orphans"] == []


def test_a_run_that_was_cancelled_meanwhile_is_cancelled_by_the_agent_that_comes_back(
    noria: Noria, run: dict[str, Any]
) -> None:
    former = agent(noria, "agent-1")
    given = former.claim()
    job = Job(noria, former, given)
    assert job.begin().is_success and given is not None
    noria.http.post(f"/api/v1/pipeline-runs/{run['id']}/cancel")
    back = agent(noria, "agent-2")
    assert len(back.welcome["adopted"]) == 1
    assert back.beat(given)["cancel"] == job.post("beat").json()["cancel"] == [{"step_run_id": job.id, "attempt": 1}]
    assert job.finish("cancelled").is_success
    assert states(noria, run["id"])["run"] == "cancelled"


def view_assignment(job: Job) -> Any:
    """What the worker knows of the try that it hands on once more."""
    return type("Given", (), {"step_run_id": job.id, "attempt": job.number})


def test_a_cancelled_try_is_ended_by_its_job(noria: Noria, run: dict[str, Any]) -> None:
    worker = Worker(noria)
    job = Job(noria, worker, worker.claim())
    job.begin()
    assert job.post("beat").json() == {"cancel": [], "lost": []}
    noria.http.post(f"/api/v1/pipeline-runs/{run['id']}/cancel")
    assert job.post("beat").json()["cancel"] == [{"step_run_id": job.id, "attempt": 1}]
    assert job.finish("cancelled").is_success
    assert states(noria, run["id"])["run"] == "cancelled"


def test_a_job_that_its_cluster_ended_costs_no_retry(noria: Noria, run: dict[str, Any]) -> None:
    worker = Worker(noria)
    job = Job(noria, worker, worker.claim())
    job.begin()
    assert job.finish("cancelled", error="Its job was told to stop by ray, before the step ended.").is_success
    again = worker.claim()
    assert again is not None and (again.step, again.attempt) == ("load", 2)
    step = view(noria, run["id"])["steps"][0]["step"]
    assert (step["losses"], step["failures"]) == (1, 0)


def test_the_token_of_a_try_is_good_for_that_try_alone(noria: Noria) -> None:
    register(noria, spec(noria, steps={"a": [], "b": []}))
    submit(noria)
    worker = Worker(noria)
    one, two = (Job(noria, worker, worker.claim()) for _ in range(2))
    one.begin(), two.begin()
    for what in ("beat", "begin"):
        assert two.post(what, one.token, key="k1").status_code == 403
    assert two.post("finish", one.ticket, worker="", step_run_id="", attempt=0, outcome="failed").status_code == 403
    assert two.post("beat").is_success
    anybody = noria.client()  # with every right there is, but without the token
    assert anybody.post(f"/api/v1/attempts/{two.id}/{two.number}/beat").status_code == 403
    assert anybody.post(f"/api/v1/attempts/{two.id}/9/beat").status_code == 404
    assert anybody.post("/api/v1/attempts/none/1/beat").status_code == 404


def test_a_job_reads_what_its_step_was_given_and_nothing_else(noria: Noria, run: dict[str, Any]) -> None:
    worker = Worker(noria)
    job = Job(noria, worker, worker.claim())
    archive = job.begin().json()["assignment"]["code"]["archive_digest"]
    secret = noria.app.blobs.put(b"of somebody else")
    assert job.blob("GET", archive).content == b"the files of the pipeline"
    assert job.blob("GET", secret.digest).status_code == 403
    body = b"what it returns"
    assert job.blob("PUT", blake3(body).hexdigest(), body).status_code == 201
    assert job.blob("PUT", "0" * 64, body).status_code == 400
    assert noria.app.blobs.get(blake3(body).hexdigest()) == body


def test_a_run_sends_its_steps_where_it_is_told(noria: Noria) -> None:
    register(noria, spec(noria, steps={"load": [], "train": ["load"], "score": ["load"]}, score={"queue": "gpu"}))
    run = submit(noria, queues={"*": "kubernetes", "train": "ray"})
    queues = {s["step"]["name"]: s["step"]["queue"] for s in view(noria, run["id"])["steps"]}
    assert queues == {"load": "kubernetes", "train": "ray", "score": "gpu"}
    assert view(noria, run["id"])["run"]["queues"] == {"*": "kubernetes", "train": "ray"}
    again = noria.http.post(f"/api/v1/pipeline-runs/{run['id']}/rerun", json={}).json()
    assert again["queues"] == run["queues"]
    for wrong in ({"nobody": "gpu"}, {"*": "bad\nname"}):
        answer = noria.http.post("/api/v1/pipelines/churn/runs", json={"queues": wrong})
        assert answer.status_code == 400, answer.text
    answer = noria.http.post("/api/v1/pipelines/churn/runs", json={"queues": {"nobody": "gpu"}})
    assert "Its steps: load, train, score" in answer.text


def test_an_image_is_checked_handed_on_and_part_of_the_cache_key(noria: Noria) -> None:
    options = {"load": {"image": "ghcr.io/acme/a:1", "cache_s": 0.0}}
    register(noria, spec(noria, steps={"load": []}, **options))
    first = submit(noria)
    worker = Worker(noria)
    given = worker.claim()
    assert given is not None and given.image == "ghcr.io/acme/a:1"
    worker.finish(given)
    register(noria, spec(noria, steps={"load": []}, load={"image": "ghcr.io/acme/a:2", "cache_s": 0.0}))
    second = submit(noria)
    keys = [view(noria, run["id"])["steps"][0]["step"]["cache_key"] for run in (first, second)]
    assert keys[0] and keys[0] != keys[1]
    wrong = spec(noria, steps={"load": []}, load={"image": "two words"})
    assert noria.http.post("/api/v1/pipelines", content=msgspec.json.encode(wrong)).status_code == 400
