"""Given: pipelines as specs, and a worker that lives in the test and goes through the door."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec

from noria.kernel.secrets import Secret
from noria.pipelines.model.sources import FromStep
from noria.pipelines.model.spec import CodeInfo, ParamSpec, PipelineSpec, StepSpec
from noria.pipelines.model.values import Json, Value
from noria.pipelines.model.work import Assignment, Claimed
from tests.conftest import Noria

INTERNAL = "internal-token-of-the-tests"


def spec(
    noria: Noria, name: str = "churn", *, steps: dict[str, list[str]] | None = None, **step_options: Any
) -> PipelineSpec:
    """A pipeline whose steps are named with their parents: {"load": [], "train": ["load"]}."""
    graph = steps or {"load": [], "train": ["load"], "score": ["train"]}
    archive = noria.app.blobs.put(b"the files of the pipeline")
    return PipelineSpec(
        name=name,
        entry="churn",
        params={"rows": ParamSpec(default=10)},
        steps=[
            StepSpec(
                name=step,
                function=f"churn:{step}",
                inputs={parent: FromStep(parent) for parent in parents},
                code_digest=f"code of {step}",
                **step_options.get(step, {}),
            )
            for step, parents in graph.items()
        ],
        outputs={"result": FromStep(list(graph)[-1])} if graph else {},
        code=CodeInfo(archive_digest=archive.digest),
    )


def register(noria: Noria, found: PipelineSpec | None = None) -> None:
    answer = noria.http.post("/api/v1/pipelines", content=msgspec.json.encode(found or spec(noria)))
    assert answer.status_code == 200, answer.text


def submit(noria: Noria, name: str = "churn", **body: Any) -> dict[str, Any]:
    answer = noria.http.post(f"/api/v1/pipelines/{name}/runs", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def view(noria: Noria, run_id: str) -> dict[str, Any]:
    return dict(noria.http.get(f"/api/v1/pipeline-runs/{run_id}").json())


def states(noria: Noria, run_id: str) -> dict[str, str]:
    """The run and its steps, each with its state."""
    found = view(noria, run_id)
    return {"run": found["run"]["state"], **{s["step"]["name"]: s["step"]["state"] for s in found["steps"]}}


class Worker:
    """Speaks to the work routes with the internal token."""

    def __init__(self, noria: Noria, worker: str = "w1", name: str = "", token: str = INTERNAL, **offer: Any) -> None:
        self.id = worker
        self._http: httpx.Client = noria.client(token)
        self.welcome: dict[str, Any] = self.post("hello", worker=worker, name=name or worker, **offer)

    def post(self, what: str, **body: Any) -> Any:
        answer = self._http.post(f"/api/v1/pipelines/work/{what}", content=msgspec.json.encode(body))
        assert answer.is_success, answer.text
        return answer.json()

    def claim(self) -> Assignment | None:
        answer = self._http.post("/api/v1/pipelines/work/claim", json={"worker": self.id})
        assert answer.is_success, answer.text
        return msgspec.json.decode(answer.content, type=Claimed).assignment

    def beat(self, *held: Assignment) -> dict[str, Any]:
        return dict(
            self.post("beat", worker=self.id, held=[{"step_run_id": a.step_run_id, "attempt": a.attempt} for a in held])
        )

    def log(self, given: Assignment, text: str, offset: int = 0) -> httpx.Response:
        body = {
            "worker": self.id,
            "step_run_id": given.step_run_id,
            "attempt": given.attempt,
            "offset": offset,
            "text": text,
        }
        return self._http.post("/api/v1/pipelines/work/logs", json=body)

    def finish(
        self, given: Assignment, outcome: str = "succeeded", outputs: Value | None = None, **more: Any
    ) -> httpx.Response:
        body = {
            "worker": self.id, "step_run_id": given.step_run_id, "attempt": given.attempt, "outcome": outcome,
            "outputs": outputs or (Json(f"result of {given.step}") if outcome == "succeeded" else None), **more,
        }  # fmt: skip
        return self._http.post("/api/v1/pipelines/work/finish", content=msgspec.json.encode(body))

    def work(self) -> list[str]:
        """Do everything there is; returns the steps done."""
        done = []
        while given := self.claim():
            assert self.finish(given).is_success
            done.append(given.step)
        return done


__all__ = ["INTERNAL", "Secret", "Worker", "register", "spec", "states", "submit", "view"]
