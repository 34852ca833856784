"""Given: real models saved by MLflow, a registry in dictionaries, and a whole data plane of real processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn

from noria.app import App, build
from noria.config import Config, load_config
from noria.http.asgi import asgi
from noria.kernel.blobs import BlobStore
from noria.kernel.errors import NotFound
from noria.kernel.ids import ModelVersionId, new_id, parse_handle
from noria.kernel.op import Op
from noria.registry.model import Evaluation, ModelFile, ModelVersion, digest_of
from noria.serving.service import Serving
from tests.conftest import Noria, furnish

COLUMNS = ["hour", "distance", "backlog", "temp", "wind_speed", "precip", "visib"]


class FakeRegistry:
    """The registry's contract, in dictionaries: `add` registers a model directory."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._versions: dict[str, list[ModelVersion]] = {}
        self._files: dict[str, list[ModelFile]] = {}

    def add(self, model: str, folder: Path, *, evaluations: list[Evaluation] | None = None) -> ModelVersion:
        number = len(self._versions.get(model, [])) + 1
        files = []
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            info = self._blobs.put(path)
            files.append(ModelFile(path=str(path.relative_to(folder)), size_bytes=info.size_bytes, digest=info.digest))
        digest = digest_of(files)
        made = ModelVersion(
            id=ModelVersionId(new_id()), model=model, number=number, run_id="", source="", digest=digest,
            size_bytes=0, files_count=len(files), flavors={}, signature=None, input_example=None, environment_digest="",
            packages=[], logged_model="", run_link="", created_at_ms=1, updated_at_ms=1, actor="user:ada", status="READY",
            description="", evaluations=evaluations or [],
        )  # fmt: skip
        self._versions.setdefault(model, []).append(made)
        self._files[made.id] = files
        return made

    def version(self, op: Op, handle: str) -> ModelVersion:
        parsed = parse_handle(handle, kind="model")
        found = self._versions.get(parsed.name, [])
        if not parsed.selector.isdigit() or not 0 < int(parsed.selector) <= len(found):
            raise NotFound(f"There is no model version {handle}.")
        return found[int(parsed.selector) - 1]

    def files(self, op: Op, version: ModelVersion) -> list[ModelFile]:
        return self._files[version.id]


def with_registry(app: App) -> FakeRegistry:
    """Give the application's serving a registry that needs no runs."""
    fake = FakeRegistry(app.blobs)
    app.serving.revisions._registry = fake  # type: ignore[assignment]
    return fake


@pytest.fixture
def registry(noria: Noria) -> FakeRegistry:
    return with_registry(noria.app)


def features(n: int, seed: int = 7) -> Any:
    """n rows of the seven features."""
    import pandas as pd

    return pd.DataFrame(np.random.default_rng(seed).normal(size=(n, 7)), columns=COLUMNS)


def fitted(seed: int = 0) -> Any:
    """A small classifier."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    given = features(400, seed)
    target = (given.sum(axis=1) + np.random.default_rng(seed).normal(size=400) > 0.5).astype(int)
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(given, target)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model directories as MLflow saves them: two classifiers, one slow, one that cannot be loaded, one of text columns."""
    folder = tmp_path_factory.mktemp("models")
    warnings.simplefilter("ignore")
    made = {name: folder / name for name in ("one", "two", "slow", "broken", "mixed", "python")}
    _save(fitted(0), made["one"], features(2))
    _save(fitted(1), made["two"], features(2))
    _save(_slow(), made["slow"], features(2))
    _save(fitted(0), made["broken"], features(2))
    (made["broken"] / "model.pkl").write_bytes(b"this is no pickle")
    _save_mixed(made["mixed"])
    _save_python(made["python"])
    return made


def _save(model: Any, path: Path, example: Any) -> None:
    import mlflow.sklearn
    from mlflow.models import infer_signature

    mlflow.sklearn.save_model(
        model, str(path), signature=infer_signature(example, model.predict(example)), input_example=example,
        pip_requirements=["scikit-learn"], serialization_format="cloudpickle",
    )  # fmt: skip


def _slow() -> Any:
    """A classifier that takes 0.3 s per call; defined here so that its code travels in the pickle."""
    from sklearn.base import BaseEstimator

    class Slow(BaseEstimator):  # type: ignore[misc]
        def predict(self, given: Any) -> Any:
            import time

            import numpy

            time.sleep(0.3)
            return numpy.zeros(len(given))

    return Slow()


def _save_mixed(path: Path) -> None:
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    given = pd.DataFrame({"origin": ["EWR", "JFK", "LGA"] * 20, "hour": list(range(60)), "late": [True, False] * 30})
    encoder = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["origin"]), remainder="passthrough")
    model = make_pipeline(encoder, LogisticRegression()).fit(given, ["late" if h % 3 else "on time" for h in given["hour"]])
    _save(model, path, given.head(3))


def _save_python(path: Path) -> None:
    import mlflow.pyfunc
    from mlflow.models import infer_signature

    class Doubles(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            return model_input.sum(axis=1) * 2

    example = features(2)
    mlflow.pyfunc.save_model(
        str(path),
        python_model=Doubles(),
        signature=infer_signature(example, np.array([1.0, 2.0])),
        pip_requirements=["mlflow"],
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Plane:
    """A control plane in this process (on a real port), and a node and a recorder in processes of their own."""

    def __init__(self, home: Path) -> None:
        self.config: Config = load_config(
            {"NORIA_INTERNAL_TOKEN": "of-the-test"}, home=str(furnish(home)), port=free_port(), gateway_port=free_port(),
            grpc_port=free_port(),
        )  # fmt: skip
        self.app: App = build(self.config)
        self.registry = with_registry(self.app)
        self.serving: Serving = self.app.serving
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._rows: dict[str, list[dict[str, Any]]] = {}  # of segments by digest
        self.http = httpx.Client(base_url=self.config.gateway_url, timeout=120.0)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self.start_control()
        self.start_process("recorder")
        self.start_process("node")
        self.until(lambda: self._answers("/v2/health/ready"), "the gateway")

    def start_control(self) -> None:
        settings = uvicorn.Config(asgi(self.app), port=self.config.port, log_level="critical", lifespan="off")
        server = self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=server.run, daemon=True)
        self._thread.start()
        self.until(lambda: server.started, "the control plane")

    def stop_control(self) -> None:
        assert self._server and self._thread
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)

    def start_process(self, name: str) -> None:
        config = self.config
        environment = {
            **os.environ, "NORIA_HOME": str(config.home), "NORIA_URL": config.control_url,
            "NORIA_GATEWAY_PORT": str(config.gateway_port), "NORIA_GRPC_PORT": str(config.grpc_port),
            "NORIA_INTERNAL_TOKEN": "of-the-test",
            "NORIA_PORT": str(config.port),
        }  # fmt: skip
        self.processes[name] = subprocess.Popen([sys.executable, "-m", f"noria.serving.{name}"], env=environment)

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def op(self) -> Op:
        return self.app.ops.system("test")

    def deploy(self, name: str, handle: str, **options: Any) -> Any:
        return self.serving.deploy(self.op(), name, handle, wait=True, **options)

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 120.0) -> Any:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            found = condition()
            if found:
                return found
            time.sleep(0.02)
        raise AssertionError(f"{what} did not happen within {timeout_s} s")

    def _answers(self, path: str) -> bool:
        try:
            return self.http.get(path).status_code == 200
        except httpx.HTTPError:
            return False

    def rows(self, endpoint: str, kind: str = "inference") -> list[dict[str, Any]]:
        """Every recorded row there is."""
        import pyarrow.ipc

        found: list[dict[str, Any]] = []
        for segment in self.serving.segments.after(self.op(), endpoint, kind=kind):  # type: ignore[arg-type]
            if segment.digest not in self._rows:  # asked again and again until the last row is there
                self._rows[segment.digest] = pyarrow.ipc.open_file(self.app.blobs.get(segment.digest)).read_all().to_pylist()
            found.extend(self._rows[segment.digest])
        return found

    def worker_pid(self, endpoint: str) -> int:
        """The process that answers for the champion, once it does."""

        def ready() -> int:
            detail = self.serving.detail(self.op(), endpoint)
            champion = next(r.revision_id for r in detail.endpoint.routes if r.role == "champion")
            return next((r.pid for r in detail.replicas if r.revision_id == champion and r.state == "ready"), 0)

        return int(self.until(ready, "a worker"))

    def close(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.http.close()
        if self._thread and self._thread.is_alive():
            self.stop_control()
        self.app.db.close()


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """One data plane for the tests of a module; each test uses an endpoint of its own."""
    made = Plane(tmp_path_factory.mktemp("home"))
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def passing(plane: Plane) -> Iterator[None]:
    """The endpoints that a test makes go with it: their workers take no processor from the next, nor a start from a new node."""

    def names() -> set[str]:
        return {endpoint.name for endpoint in plane.serving.endpoints(plane.op(), limit=100).items}

    before = names()
    yield
    for name in names() - before:
        plane.serving.delete(plane.op(), name)


def v2(row: Any) -> dict[str, Any]:
    """One row as a V2 request of named columns."""
    return {"inputs": [{"name": c, "shape": [1], "datatype": "FP64", "data": [float(row[c])]} for c in COLUMNS]}
