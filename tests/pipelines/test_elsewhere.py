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
