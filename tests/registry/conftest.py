"""Given: a registry whose runs and files come from a small tracking that keeps them in dictionaries."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from noria.kernel.blobs import BlobStore
from noria.kernel.errors import NotFound
from noria.kernel.ids import new_id
from noria.registry.model import ModelVersion
from tests.conftest import Noria

MLMODEL = """
artifact_path: model
flavors:
  python_function: {loader_module: mlflow.sklearn, model_path: model.pkl}
  sklearn: {sklearn_version: 1.7.0, pickled_model: model.pkl}
saved_input_example_info: {artifact_path: input_example.json, type: dataframe, serving_input_path: serving.json}
signature:
  inputs: '[{"type": "double", "name": "hour", "required": true}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}]'
  params: null
"""
FILES = {
    "MLmodel": MLMODEL.encode(),
    "model.pkl": b"\x80\x04\x8c\x0anot opened\x94.",
    "requirements.txt": b"scikit-learn==1.7.0  # pinned\n-r other.txt\n\nnumpy>=2\n",
    "python_env.yaml": b"python: 3.12\n",
    "serving.json": b'{"dataframe_split": {"columns": ["hour"], "data": [[7.5]]}}',
    "deep/er/note.txt": b"hello",
}


class Node(msgspec.Struct):
    path: str
    size_bytes: int = 0
    digest: str = ""


class FakeRun(msgspec.Struct):
    id: str
    experiment_id: str = "e1"
    name: str = "brave-otter"
    status: str = "FINISHED"
    user: str = "ada"
    started_at_ms: int = 1
    ended_at_ms: int | None = 2
    source_commit: str = "c0ffee"
    source_dirty: bool = True
    source_diff_digest: str = ""
    argv: str = "train.py --depth 3"
    params: dict[str, str] = msgspec.field(default_factory=lambda: {"depth": "3"})


class FakeExperiment(msgspec.Struct):
    name: str


class FakeLogged(msgspec.Struct):
    id: str
    source_run_id: str


class FakeTracking:
    """Runs and their files, in memory: the methods of Tracking that the registry uses."""

    def __init__(self, blobs: BlobStore) -> None:
        self.blobs = blobs
        self.mounts: dict[str, object] = {}
        self.runs: dict[str, FakeRun] = {}
        self.logged: dict[str, FakeLogged] = {}
        self.kept: dict[str, dict[str, Node]] = {}

    def run(self, op: object, run_id: str) -> FakeRun:
        if run_id not in self.runs:
            raise NotFound("no such run")
        return self.runs[run_id]

    def experiment(self, op: object, experiment_id: str) -> FakeExperiment:
        return FakeExperiment("flights")

    @property
    def models(self) -> FakeTracking:
        return self

    def get(self, op: object, model_id: str) -> FakeLogged:
        if model_id not in self.logged:
            raise NotFound("no such model")
        return self.logged[model_id]

    def put(self, owner: str, path: str, data: bytes) -> None:
        info = self.blobs.put(data)
        self.kept.setdefault(owner, {})[path] = Node(path, info.size_bytes, info.digest)

    def files_at(self, op: object, uri: str) -> list[Node]:
        parts = uri.partition(":/")[2].split("/")
        if uri.startswith("mlflow-artifacts:"):
            owner, below = (parts[2], parts[4:]) if parts[1] == "models" else (parts[1], parts[3:])
        else:
            owner, below = parts[0], parts[1:]
        prefix = "".join(f"{part}/" for part in below)
        kept = self.kept.get(owner, {}).values()
        return [Node(n.path[len(prefix) :], n.size_bytes, n.digest) for n in kept if n.path.startswith(prefix)]


@pytest.fixture
def tracking(noria: Noria) -> FakeTracking:
    made = FakeTracking(noria.app.blobs)
    noria.app.registry._tracking = made  # type: ignore[assignment]
    return made


@pytest.fixture
def given_run(noria: Noria, tracking: FakeTracking) -> Callable[..., str]:
    """A run with a model directory at `model/`; further files replace or add to it."""

    def make(**files: bytes) -> str:
        run_id = new_id(noria.clock.now_ms())
        tracking.runs[run_id] = FakeRun(run_id)
        for path, data in {**FILES, **files}.items():
            tracking.put(run_id, f"model/{path}", data)
        return run_id

    return make


@pytest.fixture
def given_version(noria: Noria, given_run: Callable[..., str]) -> Callable[..., ModelVersion]:
    def make(model: str = "flights", **files: bytes) -> ModelVersion:
        return noria.app.registry.create_version(noria.op(), model, source=f"runs:/{given_run(**files)}/model")

    return make
