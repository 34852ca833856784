"""Given: a system whose model was trained by a run on a committed dataset, evaluated, and put into production – through the door."""

from __future__ import annotations

import pickle
from typing import Any

import httpx
import numpy as np
import pytest

from noria.serving.model import Replica, ReplicaReport
from tests.conftest import Noria

MLMODEL = (
    b"flavors:\n  python_function: {loader_module: mlflow.sklearn, model_path: model.pkl}\nsignature:\n  inputs: '[]'\n"
)
ROWS = b"hour,delay,e_mail\n7,1,a@example.org\n8,0,b@example.org\n"


class World:
    """One administrator, and steps that leave facts."""

    def __init__(self, noria: Noria) -> None:
        self.noria = noria
        self.ada = noria.as_("ada", "admin", kind="user")
        self.bea = noria.as_("bea", "admin", kind="user")

    def later(self, days: float) -> None:
        """Let time pass; tokens end after ninety days, so ada gets a new one."""
        from noria.access.model import TokenRequest

        self.noria.clock.advance(days * 86_400)
        made = self.noria.app.access.create_token(
            self.noria.system(), TokenRequest(name=f"after {days} days", principal="ada")
        )
        self.ada = self.noria.client(made.secret)

    def ok(self, answer: httpx.Response) -> Any:
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def dataset(self, data: bytes = ROWS, name: str = "flights") -> str:
        """Commit a version; gives its id."""
        from noria.client.api import Api
        from noria.client.datasets import Dataset

        return str(Dataset(name, Api(self.ada, url="http://127.0.0.1:5000")).commit({"rows.csv": data}).id)

    def run(self, dataset: str = "", **tags: str) -> str:
        """A finished run that logged a model and what it read."""
        mlflow = "/api/2.0/mlflow"
        found = self.ada.get(f"{mlflow}/experiments/get-by-name", params={"experiment_name": "flights"})
        experiment = found.json()["experiment"]["experiment_id"] if found.is_success else self.ok(
            self.ada.post(f"{mlflow}/experiments/create", json={"name": "flights"}))["experiment_id"]  # fmt: skip
        body = {"experiment_id": experiment, "start_time": self.noria.clock.now_ms(),
                "tags": [{"key": k, "value": v} for k, v in {"mlflow.user": "ada", **tags}.items()]}  # fmt: skip
        run_id = str(self.ok(self.ada.post(f"{mlflow}/runs/create", json=body))["run"]["info"]["run_id"])
        if dataset:
            read = {"dataset": {"name": "flights", "digest": "d", "source_type": "noria", "source": "{}"},
                    "tags": [{"key": "noria.dataset_version", "value": dataset}]}  # fmt: skip
            self.ok(self.ada.post(f"{mlflow}/runs/log-inputs", json={"run_id": run_id, "datasets": [read]}))
        self.ok(
            self.ada.post(
                f"{mlflow}/runs/log-metric", json={"run_id": run_id, "key": "auc", "value": 0.9, "timestamp": 1, "step": 0}
            )
        )
        for path, content in {"MLmodel": MLMODEL, "model.pkl": pickle.dumps({"w": np.zeros(3)})}.items():
            self.ok(
                self.ada.put(f"/api/v1/runs/{run_id}/artifacts/content", params={"path": f"model/{path}"}, content=content)
            )
        end = {"run_id": run_id, "status": "FINISHED", "end_time": self.noria.clock.now_ms()}
        self.ok(self.ada.post(f"{mlflow}/runs/update", json=end))
        return run_id

    def version(self, run_id: str, **tags: str) -> dict[str, Any]:
        made = self.ok(
            self.ada.post(
                "/api/v1/models/flights/versions", json={"source": f"runs:/{run_id}/model", "run_id": run_id, "tags": tags}
            )
        )
        self.noria.app.provenances.reconcile()
        self.noria.app.scans.reconcile()
        return dict(made.get("version", made))

    def evaluate(
        self, number: int, dataset: str, split: str = "test", slices: dict[str, Any] | None = None, **metrics: float
    ) -> None:
        body = {"dataset_version": dataset, "split": split, "metrics": metrics, "slices": slices or {}}
        self.ok(self.ada.post(f"/api/v1/models/flights/versions/{number}/evaluations", json=body))

    def approve(self, version: dict[str, Any]) -> None:
        asked = self.ok(self.ada.post("/api/v1/approvals", json={
            "subject": f"model_version:{version['id']}", "action": "endpoint.deploy", "digest": version["digest"]}))  # fmt: skip
        self.ok(self.bea.post(f"/api/v1/approvals/{asked['id']}/approve", json={"comment": "holds"}))

    def deploy(self, number: int) -> None:
        """Deploy, and have a node report what it loaded."""
        self.ok(self.ada.post("/api/v1/endpoints/flights/deploy", json={"model": f"flights@{number}"}))
        desired = self.noria.app.serving.nodes.desired(self.noria.system())
        replicas = [Replica(node="n1", revision_id=r.id, state="ready", pid=7, digest=r.digest) for r in desired.revisions]
        self.noria.app.serving.nodes.report(
            self.noria.system(), ReplicaReport(node="n1", generation=desired.generation, replicas=replicas)
        )

    def system(self, **fields: Any) -> None:
        spec = {"owner": "ada", "purpose": "tells passengers of delays", "risk": "high", "personal_data": "yes", "health_data": "no",
                "sector": "transport", "members": ["model:flights", "endpoint:flights"]} | fields  # fmt: skip
        self.ok(self.ada.put("/api/v1/systems/delays", json=spec))

    def found(self, name: str = "delays") -> dict[str, dict[str, Any]]:
        """Measure now; findings by check."""
        return {f["check"]: f for f in self.ok(self.ada.post(f"/api/v1/compliance/{name}/evaluate"))["findings"]}


@pytest.fixture
def world(noria: Noria) -> World:
    return World(noria)


def in_production(world: World) -> None:
    """Version 1 of flights in production, with everything on record that a careful team leaves."""
    train, held_out = world.dataset(), world.dataset(ROWS + b"9,1,c@example.org\n", name="held_out")
    run = world.run(train, **{"mlflow.source.git.commit": "c0ffee" * 6 + "c0ff"})
    version = world.version(run, base_model="none")
    world.evaluate(1, held_out, slices={"hour=7": {"auc": 0.82}, "hour=8": {"auc": 0.84}}, auc=0.83)
    world.noria.clock.advance(1)
    world.approve(version)
    world.noria.clock.advance(1)
    world.deploy(1)
    world.system()


@pytest.fixture
def running(world: World) -> World:
    in_production(world)
    return world
