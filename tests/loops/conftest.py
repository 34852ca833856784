"""Given: a loop over a real registry and real approvals; pipelines and serving keep what they are told in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from noria.kernel.db import Database
from noria.kernel.errors import Conflict, NotFound
from noria.kernel.ids import Ref, RevisionId, new_id
from noria.kernel.op import Op
from noria.loops.model import Turn
from noria.pipelines.model.runs import PipelineRun
from noria.pipelines.model.values import Json
from noria.registry.model import Evaluation, ModelVersion
from noria.serving.model import Canary, Guard
from tests.conftest import Noria


class Crash(Exception):
    """The process dies here."""


class Fragile:
    """Dies right after its next act when told to: the act happened, nobody heard of it."""

    dies_after: str = ""

    def died(self, act: str) -> None:
        if self.dies_after == act:
            self.dies_after = ""
            raise Crash(act)


class FakePipelines(Fragile):
    def __init__(self, db: Database) -> None:
        self.db = db
        self.runs: dict[str, PipelineRun] = {}
        self.by_key: dict[str, str] = {}

    def submit(self, op: Op, pipeline: str, params: dict[str, Any], *, unique: str = "") -> PipelineRun:
        if pipeline == "missing":
            raise NotFound("There is no pipeline 'missing'.")
        if unique not in self.by_key:
            run = PipelineRun(
                id=new_id(op.at_ms), pipeline=pipeline, version=1, state="running", params=params, created_at_ms=op.at_ms
            )
            self.runs[run.id], self.by_key[unique] = run, run.id
            with self.db.write(op) as tx:
                tx.emit("pipeline_run.submitted", Ref("pipeline_run", run.id), pipeline=pipeline, version=1, params=params)
        self.died("submit")
        return self.runs[self.by_key[unique]]

    def pipeline_run(self, op: Op, run_id: str) -> PipelineRun:
        return self.runs[run_id]

    def cancel(self, op: Op, run_id: str) -> PipelineRun:
        if self.runs[run_id].state == "running":
            self.end(op, run_id, "cancelled")
        self.died("cancel")
        return self.runs[run_id]

    def end(self, op: Op, run_id: str, state: str, **outputs: Any) -> None:
        error = "it broke" if state == "failed" else ""
        made = {k: Json(value=v) for k, v in outputs.items()}
        self.runs[run_id] = replace(self.runs[run_id], state=state, error=error, outputs=made)  # type: ignore[arg-type]
        more = {"succeeded": {"outputs": outputs}, "failed": {"error": error}}.get(state, {})
        with self.db.write(op) as tx:
            tx.emit(f"pipeline_run.{state}", Ref("pipeline_run", run_id), pipeline="train", **more)


class FakeServing(Fragile):
    """The endpoint service and, as `canaries`, its canaries."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.kept: list[Canary] = []  # newest first
        self.deployed: list[str] = []
        self.canaries = self

    def latest(self, op: Op, name: str) -> list[Canary]:
        return self.kept

    def current(self, op: Op, name: str) -> Canary | None:
        return next((c for c in self.kept if c.state in ("starting", "running")), None)

    def start(self, op: Op, name: str, model: str, *, steps: list[int], guard: Guard) -> Canary:
        if self.current(op, name):
            raise Conflict("There is a canary.")
        op.gate("endpoint.deploy", Ref("endpoint", name), {"model": model})
        made = Canary(
            id=new_id(op.at_ms), endpoint=name, revision_id=RevisionId("r2"), champion_revision_id=RevisionId("r1"),
            model_version=int(model.partition("@")[2]), steps=steps, step=0, guard=guard, state="running",
            started_at_ms=op.at_ms, stepped_at_ms=op.at_ms,
        )  # fmt: skip
        self.kept.insert(0, made)
        with self.db.write(op) as tx:
            tx.emit(
                "canary.started", Ref("endpoint", name), canary=made.id, revision="r2", version=made.model_version, weight=25
            )
        self.died("start_canary")
        return made

    def end(self, op: Op, state: str, reason: str = "worse", evidence: dict[str, Any] | None = None) -> None:
        found = self.kept[0]
        self.kept[0] = replace(found, state=state, reason=reason, evidence=evidence or {})  # type: ignore[arg-type]
        more = {"reason": reason} if state == "rolled_back" else {}
        with self.db.write(op) as tx:
            tx.emit(
                f"canary.{state}", Ref("endpoint", found.endpoint), canary=found.id, revision="r2",
                version=found.model_version, evidence=evidence or {}, **more,
            )  # fmt: skip

    def rollback(self, op: Op, name: str, reason: str, evidence: dict[str, Any] | None = None) -> None:
        if not self.current(op, name):
            raise Conflict("There is nothing to go back to.")
        self.end(op, "rolled_back", reason, evidence)
        self.died("rollback")

    def deploy(self, op: Op, name: str, model: str) -> None:
        self.deployed.append(model)


SPEC: dict[str, Any] = {
    "name": "flights", "model": "flights", "endpoint": "flights", "pipeline": "train", "monitor": "flights-calibration",
    "params": {"dataset": "flights@latest", "since": "${data.event_at_ms}", "note": "turn of ${loop} after ${champion}"},
    "gate": {"metric": "log_loss", "direction": "lower"},
    "canary": {"steps": [25], "guard": {"metric": "brier", "min_labels": 100}},
    "cooldown_s": 3600, "budget": {"turns_per_day": 3},
}  # fmt: skip


class Given:
    """The world around a loop: `team` made it, the local admin agrees or not."""

    def __init__(self, noria: Noria) -> None:
        self.noria = noria
        self.loops = noria.app.loops
        self.pipelines = FakePipelines(noria.app.db)
        self.serving = FakeServing(noria.app.db)
        self.loops._pipelines, self.loops._serving = self.pipelines, self.serving  # type: ignore[assignment]
        self.team: httpx.Client = noria.as_("team", "maintainer")
        self.versions = 0
        self.version(0.55)
        noria.app.registry.promote(noria.op(), "flights@1", "champion")

    def version(self, loss: float | None, *, dataset: str = "d2", **more: float) -> ModelVersion:
        """A version of flights, evaluated as told."""
        app, op = self.noria.app, self.noria.system()
        self.versions += 1
        run = app.tracking.create_run(op, "0", f"train {self.versions}")
        app.tracking.put_artifact(op, run.id, "model/MLmodel", f"flavors: {{sklearn: {{n: {self.versions}}}}}".encode())
        made = app.registry.create_version(op, "flights", source=f"runs:/{run.id}/model")
        if loss is not None:
            metrics = {"log_loss": loss, **more}
            app.registry.set_evaluation(op, made, Evaluation(dataset_version=dataset, split="test", metrics=metrics))
        return made

    def declare(self, **changes: Any) -> None:
        answer = self.team.post("/api/v1/loops", json={**SPEC, **changes})
        assert answer.status_code == 201, answer.text

    def alert(self, monitor: str = "flights-calibration") -> int:
        op = self.noria.system()
        with self.noria.app.db.write(op) as tx:
            tx.emit(
                "alert.opened", Ref("alert", new_id(op.at_ms)), alert="a", monitor=monitor, metric="calibration", value=0.14,
                limit=0.1, endpoint="flights", severity="alert", event_at_ms=123,
            )  # fmt: skip
        return int(self.noria.facts("alert.opened")[-1].seq)

    def train(self, loss: float | None = 0.50, **more: float) -> ModelVersion:
        """The pipeline run of the turn succeeds with a new version, evaluated beside the champion."""
        made = self.version(loss, **more)
        self.pipelines.end(self.noria.system(), self.turn.pipeline_run_id, "succeeded", version=made.number)
        self.noria.settle()
        return made

    def approve(self, decision: str = "approve") -> None:
        answer = self.noria.http.post(f"/api/v1/approvals/{self.turn.approval_id}/{decision}", json={"comment": "seen"})
        assert answer.status_code == 200, answer.text
        self.noria.settle()

    @property
    def turn(self) -> Turn:
        """The latest turn."""
        found = self.loops.turns(self.noria.op(), "flights").items
        return found[0]

    @property
    def states(self) -> list[str]:
        return [step.state for step in self.turn.steps]


@pytest.fixture
def given(noria: Noria) -> Given:
    return Given(noria)


@pytest.fixture
def settle(noria: Noria) -> Callable[[], None]:
    return noria.settle
