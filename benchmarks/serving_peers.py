"""What else serves a scikit-learn model: MLflow, MLServer, BentoML and mosec, each as its documentation starts it.

Each in an environment of its own below `.venv/clients`, made once by uv; all of them load the same file. None of them checks a token,
splits traffic or records an answer.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.servers import Server, environment, free_port

SKLEARN = "scikit-learn==1.9.1"  # that of Noria's own environment: the file is a pickle
PACKAGES = {
    "server": ("mlflow",),
    # It dies at start with a newer uvloop.
    "mlserver": ("mlserver==1.7.1", "mlserver-sklearn==1.7.1", "uvloop<0.22", SKLEARN),
    "bentoml": ("bentoml==1.4.40", SKLEARN),
    "mosec": ("mosec==0.9.8", SKLEARN),
}
BATCH_ROWS = 64

BENTO = """
import bentoml, joblib, numpy

@bentoml.service(workers=1)
class Flights:
    def __init__(self):
        self.model = joblib.load("model.joblib")

    @bentoml.api({options})
    def predict(self, rows: numpy.ndarray) -> numpy.ndarray:
        return self.model.predict_proba(rows)[:, 1]
"""
MOSEC = """
import joblib, numpy
from mosec import Server, Worker

class Flights(Worker):
    def __init__(self):
        self.model = joblib.load("model.joblib")

    def forward(self, data):
        if {batch} == 1:
            return self.model.predict_proba(data)[:, 1].tolist()
        found = self.model.predict_proba(numpy.concatenate([numpy.asarray(d, dtype=float) for d in data]))[:, 1].tolist()
        each = iter(found)
        return [[next(each) for _ in d] for d in data]

if __name__ == "__main__":
    server = Server()
    server.append_worker(Flights, num=1, max_batch_size={batch}, max_wait_time=1)
    server.run()
"""


def inputs(rows: list[list[float]]) -> dict[str, Any]:
    """MLflow's tensor."""
    return {"inputs": rows}


def tensor(rows: list[list[float]]) -> dict[str, Any]:
    """V2's, with the chances of both classes wanted."""
    flat = [x for row in rows for x in row]
    given = {"name": "predict", "shape": [len(rows), len(rows[0])], "datatype": "FP64", "data": flat}
    return {"inputs": [given], "outputs": [{"name": "predict_proba"}]}


def named(rows: list[list[float]]) -> dict[str, Any]:
    return {"rows": rows}


def bare(rows: list[list[float]]) -> list[list[float]]:
    return rows


class Peer(Server):
    """One of them; `title` says how it is set."""

    env_name = ""
    path = ""
    form: Callable[[list[list[float]]], Any] = staticmethod(bare)

    def __init__(self, folder: Path, model: Path, *, is_batching: bool = False) -> None:
        super().__init__(folder)
        self.model, self.is_batching = model, is_batching
        self.python = environment(self.env_name, *PACKAGES[self.env_name])
        self.folder.mkdir(parents=True)
        self.prepare()

    @property
    def title(self) -> str:
        return f"{self.name}, batching" if self.is_batching else self.name

    def prepare(self) -> None:
        """Write what it is started from."""
        shutil.copy(self.model / "model.joblib", self.folder)

    def chances(self, answer: Any) -> list[float]:
        """What it said, row by row."""
        return [float(v) for v in answer]

    def script(self, name: str) -> str:
        return str(self.python.with_name(name))


class MlflowServe(Peer):
    """`mlflow models serve`; it says the class, not the chance."""

    name, env_name, path = "mlflow", "server", "/invocations"
    form = staticmethod(inputs)

    def __init__(self, folder: Path, model: Path) -> None:
        super().__init__(folder, model)

    def prepare(self) -> None:
        """It reads the saved model where it is."""

    def command(self) -> list[str]:
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        path = f"PATH={self.python.parent}:{os.environ['PATH']}"  # where it looks for uvicorn
        command = [str(self.python), "-m", "mlflow", "models", "serve", "-m", str(self.model), "--env-manager", "local"]
        return ["env", path, *command, *where]

    def chances(self, answer: Any) -> list[float]:
        return [float(v) for v in answer["predictions"]]


class MlServer(Peer):
    """MLServer with its runtime for scikit-learn and one worker process."""

    name, env_name, path, ready = "mlserver", "mlserver", "/v2/models/flights/infer", "/v2/models/flights/ready"
    form = staticmethod(tensor)

    def prepare(self) -> None:
        super().prepare()
        ports = {"http_port": self.port, "grpc_port": free_port(), "metrics_port": free_port()}
        (self.folder / "settings.json").write_text(json.dumps({"host": "127.0.0.1", **ports}))
        model: dict[str, Any] = {
            "name": "flights", "implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "./model.joblib"},
        }  # fmt: skip
        if self.is_batching:
            model |= {"max_batch_size": BATCH_ROWS, "max_batch_time": 0.002}
        (self.folder / "model-settings.json").write_text(json.dumps(model))

    def command(self) -> list[str]:
        return [self.script("mlserver"), "start", "."]

    def chances(self, answer: Any) -> list[float]:
        return [float(v) for v in answer["outputs"][0]["data"][1::2]]


class BentoMl(Peer):
    """BentoML with one worker; batching is its adaptive one."""

    name, env_name, path, ready = "bentoml", "bentoml", "/predict", "/readyz"
    form = staticmethod(named)

    def prepare(self) -> None:
        super().prepare()
        options = f"batchable=True, max_batch_size={BATCH_ROWS * 16}" if self.is_batching else ""
        (self.folder / "service.py").write_text(BENTO.format(options=options))

    def command(self) -> list[str]:
        settings = ["BENTOML_DO_NOT_TRACK=true", f"BENTOML_HOME={self.folder / 'home'}"]
        where = ["--host", "127.0.0.1", "--port", str(self.port)]
        return ["env", *settings, str(self.python), "-m", "bentoml", "serve", "service:Flights", *where]


class Mosec(Peer):
    """mosec with one worker; batches wait 1 ms at most."""

    name, env_name, path, ready = "mosec", "mosec", "/inference", "/metrics"

    def prepare(self) -> None:
        super().prepare()
        (self.folder / "serve.py").write_text(MOSEC.format(batch=BATCH_ROWS if self.is_batching else 1))

    def command(self) -> list[str]:
        where = ["--address", "127.0.0.1", "--port", str(self.port), "--path", str(self.folder / "ipc")]
        return [str(self.python), "serve.py", *where, "--timeout", "30000"]


def peers(folder: Path, model: Path, names: list[str]) -> list[Peer]:
    """Those of `names`, not started: with and without batching where they have both."""
    found: list[Peer] = [MlflowServe(folder / "mlflow", model)] if "mlflow" in names else []
    for kind in (MlServer, BentoMl, Mosec):
        if kind.name in names:
            found += [kind(folder / f"{kind.name}-{b}", model, is_batching=b) for b in (False, True)]
    return found
