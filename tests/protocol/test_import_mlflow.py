"""`noria import mlflow` as a user has it: from a real MLflow server and from its database, into a real Noria; kill -9 in between."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from noria.tracking.model import DatasetInput, Point
from scripts import mlflow_clients
from tests.protocol.test_mlflow_tracking import Server

MLMODEL = b"artifact_path: m\nflavors:\n  python_function:\n    loader_module: x\n"
ROOT = Path(__file__).parents[2]
LIMIT_S = 300
pytestmark = [pytest.mark.protocol, pytest.mark.slow, pytest.mark.timeout(600)]


def plain_environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "PYTHON", "NORIA"))}


def fill(python: Path | str, store: str, folder: Path, **more: str) -> dict[str, Any]:
    """Put one of everything into an MLflow; returns what was made."""
    done = subprocess.run(
        [str(python), "-W", "ignore", str(Path(__file__).parent / "mlflow_contents.py"), store],
        capture_output=True, text=True, timeout=LIMIT_S, env=plain_environment() | more, cwd=folder, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    made: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return made


class Mlflow:
    """A real MLflow server with one of everything in it; `runs`: a folder of runs that has it already."""

    def __init__(self, folder: Path, runs: Path | None = None, made: dict[str, Any] | None = None) -> None:
        self.folder, self.database, self.artifacts = folder, f"sqlite:///{folder}/mlflow.db", folder / "artifacts"
        python = mlflow_clients.python_of("server")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [
            str(python.parent / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
            "--backend-store-uri", str(runs or self.database), "--artifacts-destination", str(self.artifacts),
            "--default-artifact-root", "mlflow-artifacts:/",
        ]  # fmt: skip
        # No processes for jobs beside it: each of them loads the whole of MLflow.
        settings = plain_environment() | {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (folder / "server.log").open("w") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=settings, start_new_session=True, cwd=folder
            )
        until = time.monotonic() + LIMIT_S
        while not self._answers():
            assert time.monotonic() < until and self._process.poll() is None, (folder / "server.log").read_text()[-3000:]
            time.sleep(0.2)
        self.made = made or fill(python, self.url, folder)

    def _answers(self) -> bool:
        try:
            return httpx.get(self.url + "/health", timeout=2).is_success
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)  # the group that was made for it; nothing of it is needed
        self._process.wait(30)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    made = Mlflow(tmp_path_factory.mktemp("mlflow"))
    yield made
    made.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "home")
    yield made
    made.stop()


def environment(server: Server) -> dict[str, str]:
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "NORIA"))}
    return plain | {"NORIA_URL": server.url, "PYTHONPATH": str(ROOT)}


def noria(server: Server, *args: str, code: int = 0) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "noria.cli.main", *args, "--json"], capture_output=True, text=True, timeout=LIMIT_S,
        env=environment(server), check=False,
    )  # fmt: skip
    assert done.returncode == code, (done.returncode, done.stdout[-2000:], done.stderr[-3000:])
    return json.loads(done.stdout if code in (0, 1) else done.stderr)


def test_everything_comes_from_a_server_with_its_ids_and_a_second_time_nothing(theirs: Mlflow, server: Server) -> None:
    looked = noria(server, "import", "mlflow", theirs.url, "--dry-run")
    assert looked["counts"]["runs"] == {"found": 6, "new": 6, "resumed": 0, "already": 0, "left_out": 0}
    assert not server.app.tracking.search_runs(server.app.ops.system("test"), stages=["active", "deleted"]).items

    came = noria(server, "import", "mlflow", theirs.url, "--verify")
    assert {kind: n["new"] for kind, n in came["counts"].items()} == {
        "experiments": 2, "runs": 6, "logged models": 1, "registered models": 3, "versions": 5, "aliases": 3, "traces": 1
    }  # fmt: skip
    assert came["unfinished"] == [theirs.made["running"]] and came["left_out"] == []
    assert came["verified"] == {"runs": 5, "points": 3_014, "files": 3} and came["differences"] == []
    check_equal(theirs, server, came)

    facts = count_rows(server)
    again = noria(server, "import", "mlflow", theirs.url)
    assert all(n["new"] == 0 for n in again["counts"].values()) and again["counts"]["runs"]["already"] == 5
    assert count_rows(server) == facts, "a second import adds nothing"


def test_the_same_comes_from_the_database_without_a_server(theirs: Mlflow, server: Server) -> None:
    came = noria(server, "import", "mlflow", theirs.database, "--artifacts", str(theirs.artifacts), "--verify", code=1)
    assert [left["kind"] for left in came["left_out"]] == ["traces"], "they are left out, and it says so"
    assert came["differences"] == [] and came["verified"]["points"] == 3_014
    check_equal(theirs, server, came)


def test_a_postgresql_database_is_read_too(postgres: str, server: Server, tmp_path: Path) -> None:
    admin = sa.create_engine(postgres.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text("create database theirs"))
    admin.dispose()
    url = sa.make_url(postgres).set(database="theirs", drivername="postgresql+psycopg").render_as_string(hide_password=False)
    fill(sys.executable, url, tmp_path)  # MLflow's own store, in this environment, which has the driver
    plain_url = url.replace("+psycopg", "")
    came = noria(server, "import", "mlflow", plain_url, "--artifacts", str(tmp_path / "mlruns"), "--verify", code=1)
    assert [left["kind"] for left in came["left_out"]] == ["traces"] and came["differences"] == []
    assert came["verified"] == {"runs": 5, "points": 3_014, "files": 3} and came["counts"]["versions"]["new"] == 5


def test_a_folder_of_runs_is_read_too(server: Server, tmp_path: Path) -> None:
    runs = tmp_path / "mlruns"
    made = fill(mlflow_clients.python_of("server"), f"file://{runs}", tmp_path, MLFLOW_ALLOW_FILE_STORE="true")
    came = noria(server, "import", "mlflow", str(runs), "--verify", code=1)
    assert [left["kind"] for left in came["left_out"]] == ["traces"] and came["differences"] == []
    theirs = Mlflow(tmp_path, runs, made)
    try:
        check_equal(theirs, server, came, loses_steps=True)
    finally:
        theirs.stop()
    (next(runs.glob(f"*/{made['first']}/metrics")) / "loss").write_text("1 nonsense 2\n")
    (next(runs.glob(f"*/{made['child']}")) / "meta.yaml").write_text("{")
    (next(runs.glob(f"*/{made['failed']}")) / "params" / "x").symlink_to("/etc/hostname")
    other = Server(tmp_path / "other")
    try:
        came = noria(other, "import", "mlflow", f"file://{runs}", code=1)
        why = {left["name"]: left["why"] for left in came["left_out"]}
        assert "line 1 of the metric 'loss' holds no number" in why[made["first"]] and "meta.yaml" in why[made["child"]]
        assert came["counts"]["runs"]["new"] == 4
        assert "x" not in other.app.tracking.run(other.app.ops.system("test"), made["failed"]).params
    finally:
        other.stop()


def test_one_experiment_comes_alone(theirs: Mlflow, server: Server) -> None:
    came = noria(server, "import", "mlflow", theirs.url, "-e", "put away")
    assert {kind: n["found"] for kind, n in came["counts"].items() if n["found"]} == {"experiments": 1, "runs": 1}
    missing = noria(server, "import", "mlflow", theirs.url, "-e", "nothing", code=6)
    assert "no experiment named 'nothing'" in missing["error"]["message"]


def test_killed_at_any_moment_it_completes_the_next_time(theirs: Mlflow, server: Server) -> None:
    command = ["import", "mlflow", theirs.database, "--artifacts", str(theirs.artifacts)]
    killed = 0
    for more in (1, 40, 2_000):
        seen = sum(count_rows(server).values())
        process = subprocess.Popen(
            [sys.executable, "-m", "noria.cli.main", *command], env=environment(server), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while process.poll() is None and sum(count_rows(server).values()) < seen + more:
            time.sleep(0.001)
        process.kill()
        killed += process.wait(30) == -signal.SIGKILL
    assert killed, "it was done before it could be killed"
    came = noria(server, *command, "--verify", code=1)
    assert [left["kind"] for left in came["left_out"]] == ["traces"] and came["differences"] == []
    check_equal(theirs, server, came)


def test_a_model_that_came_predicts_as_it_did(theirs: Mlflow, server: Server) -> None:
    noria(server, "import", "mlflow", theirs.url)
    script = """
import sys, mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
for uri in sys.argv[2:]:
    print(mlflow.pyfunc.load_model(uri).predict(pd.DataFrame({"x": [1, 2]}))["x"].tolist())
"""
    uris = [f"models:/{theirs.made['model']}", "models:/echo@champion", "models:/echo/3", "models:/copy/1"]
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "PYTHON"))}
    done = subprocess.run(
        [str(mlflow_clients.python_of("server")), "-W", "ignore", "-c", script, server.url, *uris],
        capture_output=True, text=True, timeout=LIMIT_S, env=plain, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split("\n")[:4] == ["[1, 2]"] * 4


def test_what_is_no_mlflow_is_said_so(theirs: Mlflow, server: Server, tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "empty.db").write_bytes(b"")
    for source, code, says in (
        ("http://127.0.0.1:9", 10, "No MLflow answers"),
        (server.url, 3, "would be imported into"),
        (str(tmp_path / "mlruns"), 3, "no experiment is in it"),
        ("nonsense", 3, "is no source"),
        ("mysql://x@y/z", 3, "not a database that is read directly"),
        (f"sqlite:///{tmp_path}/missing.db", 6, "There is no file"),
        (f"sqlite:///{tmp_path}/empty.db", 3, "is no database of MLflow"),
    ):
        error = noria(server, "import", "mlflow", source, code=code)["error"]
        assert says in error["message"] + error["hint"], error


def test_a_noria_that_is_not_there_is_said_so_at_once(theirs: Mlflow, server: Server) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "noria.cli.main", "import", "mlflow", theirs.url], capture_output=True, text=True, timeout=LIMIT_S,
        env=environment(server) | {"NORIA_URL": "http://127.0.0.1:9"}, check=False,
    )  # fmt: skip
    assert done.returncode == 10 and "No Noria answers" in done.stderr and "goes on where it was" in done.stderr
    assert time.monotonic() - began < 50, "the patience is for a server that was there"


def test_an_mlflow_schema_that_is_not_known_is_refused(theirs: Mlflow, server: Server, tmp_path: Path) -> None:
    import shutil
    import sqlite3
    from contextlib import closing

    from noria.client.moving.mlflow_database import REVISIONS

    shutil.copy(theirs.folder / "mlflow.db", tmp_path / "later.db")
    with closing(sqlite3.connect(tmp_path / "later.db")) as db:
        assert db.execute("select version_num from alembic_version").fetchone()[0] in REVISIONS
        db.execute("update alembic_version set version_num = 'fffffffffff0'")
        db.commit()
    error = noria(server, "import", "mlflow", f"sqlite:///{tmp_path}/later.db", code=3)["error"]
    assert "fffffffffff0" in error["message"] and "Start an MLflow server" in error["hint"]


def test_everything_goes_back_into_mlflow_with_its_own_client(theirs: Mlflow, server: Server) -> None:
    """The way that docs/guides/import-export.md shows. Last in this file: it writes into MLflow."""
    op, tracking, registry = server.app.ops.system("test"), server.app.tracking, server.app.registry
    experiment = tracking.create_experiment(op, "back", {"team": "b"})
    run = tracking.create_run(op, experiment.id, "home", {"k": "v"}, started_at_ms=1_700_000_000_000)
    points = [Point(key="loss", value=1 / (i + 1), at_ms=1_700_000_000_000 + i, step=i) for i in range(1_000)]
    tracking.log_batch(op, run.id, points)
    tracking.log_batch(op, run.id, [Point(key="loss", value=9.0, at_ms=1, step=5_000)], {"lr": "0.1"})
    tracking.put_artifact(op, run.id, "notes/a.txt", b"hello")
    tracking.log_inputs(
        op,
        run.id,
        [DatasetInput(name="d", digest="1", source_type="x", source="{}", schema="{}", profile="{}", tags={"a": "b"})],
    )
    model = tracking.models.create(op, experiment.id, name="m", run_id=run.id, params={"p": "1"})
    tracking.put_at(op, tracking.place(op, f"models:/{model.id}/MLmodel"), MLMODEL)
    tracking.models.finalize(op, model.id, "LOGGED_MODEL_READY")
    tracking.finish_run(op, run.id, "FAILED", 1_700_000_009_000)
    registry.create_version(op, "back", source=f"models:/{model.id}", description="one", tags={"v": "1"})
    registry.create_version(op, "back", source="models:/back/1")
    registry.promote(op, "back@2", "champion")
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "PYTHON"))}
    for _ in range(2):  # the second time nothing is copied again
        done = subprocess.run(
            [str(mlflow_clients.python_of("server")), "-W", "ignore", str(ROOT / "examples" / "to_mlflow.py"), server.url, theirs.url],
            capture_output=True, text=True, timeout=LIMIT_S, env=plain, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    with httpx.Client(base_url=theirs.url) as there, httpx.Client(base_url=server.url) as here:
        name = {"experiment_name": "back"}
        found = there.get("/api/2.0/mlflow/experiments/get-by-name", params=name).json()["experiment"]
        asked = {"experiment_ids": [found["experiment_id"]], "max_results": 10}
        runs = there.post("/api/2.0/mlflow/runs/search", json=asked).json()["runs"]
        assert len(runs) == 1
        copy = run_of(there, runs[0]["info"]["run_id"])
        assert copy["tags"].pop("noria.run_id") == run.id
        ours = run_of(here, run.id)
        for name_ in ("tags", "params", "metrics", "inputs"):
            assert copy[name_] == ours[name_]
        kept = ("run_name", "status", "start_time", "end_time")
        assert [copy["info"][k] for k in kept] == [ours["info"][k] for k in kept]
        copied_id = runs[0]["info"]["run_id"]
        assert history(there, copied_id, "loss") == history(here, run.id, "loss")
        assert files(there, copied_id) == {"notes/a.txt": 5}
        back = [
            v for v in there.get("/api/2.0/mlflow/model-versions/search").json()["model_versions"] if v["name"] == "back"
        ]
        assert [(v["version"], v["run_id"]) for v in sorted(back, key=lambda v: v["version"])] == [
            ("1", copied_id),
            ("2", copied_id),
        ]
        models = there.get("/api/2.0/mlflow/registered-models/search").json()["registered_models"]
        assert [m["aliases"] for m in models if m["name"] == "back"] == [[{"alias": "champion", "version": "2"}]]


# --- both sides, as MLflow's protocol shows them ------------------------------------------------------------------------


def check_equal(theirs: Mlflow, server: Server, came: dict[str, Any], *, loses_steps: bool = False) -> None:
    """Runs, models, versions and aliases read the same from both servers.

    `loses_steps`: of points that name a dataset, MLflow reads step 0 from its files, whatever is written there.
    """
    to = {e["from"]: e["to"] for e in came["experiments"]}
    with httpx.Client(base_url=theirs.url) as there, httpx.Client(base_url=server.url) as here:
        for run_id in theirs.made["runs"]:
            one, other = run_of(there, run_id), run_of(here, run_id)
            one["info"]["experiment_id"] = to[one["info"]["experiment_id"]]
            if run_id == theirs.made["with_experiment"]:
                assert other["info"]["lifecycle_stage"] == "deleted"
            if loses_steps and "score" in one["metrics"]:
                assert one["metrics"].pop("score")[1] == 0 and other["metrics"].pop("score")[1] == 2
            assert one == other, run_id
        for key in ("loss", "odd/values", "twice", "acc", *(() if loses_steps else ("score",))):
            assert history(there, theirs.made["first"], key) == history(here, theirs.made["first"], key)
        assert files(there, theirs.made["first"]) == files(here, theirs.made["first"])
        big = {"run_id": theirs.made["first"], "path": "big file.bin"}
        assert there.get("/get-artifact", params=big).content == here.get("/get-artifact", params=big).content
        assert model_of(there, theirs.made["model"], to) == model_of(here, theirs.made["model"], {})
        for asked in ("", "tags.`mlflow.prompt.is_prompt` = 'true'"):
            assert versions(there, asked) == versions(here, asked) != []
            assert registered(there, asked) == registered(here, asked) != []


def run_of(client: httpx.Client, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/api/2.0/mlflow/runs/get", params={"run_id": run_id}).json()["run"]
    info = {k: v for k, v in found["info"].items() if k not in ("artifact_uri", "run_uuid")}
    tags = {t["key"]: t["value"] for t in found["data"].get("tags", []) if not t["key"].startswith("noria.import.")}
    info["user_id"] = info.get("user_id") or ""
    inputs = found.get("inputs") or {}
    return {
        "info": info, "tags": tags, "params": {p["key"]: p["value"] for p in found["data"].get("params", [])},
        "metrics": {m["key"]: (m["value"], m["step"], m["timestamp"]) for m in found["data"].get("metrics", [])},
        "inputs": [(i["dataset"], sorted((t["key"], t["value"]) for t in i["tags"])) for i in inputs.get("dataset_inputs", [])],
        "models": sorted(m["model_id"] for m in (found.get("outputs") or {}).get("model_outputs", [])),
    }  # fmt: skip


def history(client: httpx.Client, run_id: str, key: str) -> list[tuple[Any, ...]]:
    found = client.get("/api/2.0/mlflow/metrics/get-history", params={"run_id": run_id, "metric_key": key}).json()
    words = {1.7976931348623157e308: "Infinity", -1.7976931348623157e308: "-Infinity"}  # as MLflow's database keeps them
    # A folder of MLflow's may hold a point twice; here it is one.
    return sorted({(m["step"], m["timestamp"], str(words.get(m["value"], m["value"]))) for m in found["metrics"]})


def files(client: httpx.Client, run_id: str, path: str = "") -> dict[str, int]:
    asked = {"run_id": run_id} | ({"path": path} if path else {})
    found: dict[str, int] = {}
    for item in client.get("/api/2.0/mlflow/artifacts/list", params=asked).json().get("files", []):
        if item["is_dir"]:
            found |= files(client, run_id, item["path"])
        else:
            found[item["path"]] = item["file_size"]
    return found


def model_of(client: httpx.Client, model_id: str, to: dict[str, str]) -> Any:
    found = client.get(f"/api/2.0/mlflow/logged-models/{model_id}").json()["model"]
    info = {k: v for k, v in found["info"].items() if k not in ("artifact_uri", "tags", "experiment_id") and v != ""}
    tags = {t["key"]: t["value"] for t in found["info"]["tags"] if not t["key"].startswith("noria.import.")}
    experiment = found["info"]["experiment_id"]
    points = sorted(
        (m["key"], m["value"], m["step"], m["timestamp"], m["run_id"], m.get("dataset_name") or "")
        for m in found["data"]["metrics"]
    )
    return (
        info,
        tags,
        to.get(experiment, experiment),
        points,
        sorted((p["key"], p["value"]) for p in found["data"]["params"]),
    )


def versions(client: httpx.Client, asked: str) -> list[Any]:
    found = client.get("/api/2.0/mlflow/model-versions/search", params={"filter": asked}).json()["model_versions"]
    names = (
        "name",
        "version",
        "source",
        "run_id",
        "status",
        "current_stage",
        "creation_timestamp",
        "last_updated_timestamp",
    )
    return sorted(
        [*(v.get(n, "") for n in names), v.get("description", ""), sorted(map(str, v.get("tags", [])))] for v in found
    )


def registered(client: httpx.Client, asked: str) -> list[Any]:
    found = client.get("/api/2.0/mlflow/registered-models/search", params={"filter": asked}).json()["registered_models"]
    return sorted(
        [
            m["name"],
            m["creation_timestamp"],
            m.get("description", ""),
            sorted(map(str, m.get("tags", []))),
            sorted(map(str, m.get("aliases", []))),
        ]
        for m in found
    )


def count_rows(server: Server) -> dict[str, int]:
    with server.app.db.read() as tx:
        tables = (
            "event",
            "experiment",
            "run",
            "series",
            "point",
            "param",
            "tag",
            "artifact",
            "logged_model",
            "model_version",
        )
        return {name: int(tx.scalar(f"select count(*) from {name}")) for name in tables}
