"""Batch scoring with a real server, a real worker and real models: `noria.score()`, `noria endpoint score`."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import noria
from noria.cli.main import main
from noria.client.api import Api
from noria.config import Config
from noria.kernel.errors import Forbidden, Invalid, NotFound
from noria.serving.model import Replica, ReplicaReport
from tests.conftest import ManualClock, Noria
from tests.pipelines.processes import Server, ended, until
from tests.serving.conftest import COLUMNS, features

ROWS = 1_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path]) -> Iterator[Server]:
    """A server whose registry holds the models of serving's tests."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    made = Server(tmp_path_factory.mktemp("server") / "home", lease_s=2.0)
    with made.api() as api:
        for name in ("one", "mixed", "python"):
            register(api, name, models[name])
        noria.dataset("flights", api=api).commit(frame(), key="id")
        noria.dataset("files", api=api).commit({"a.parquet": frame(), "b.parquet": frame(start=ROWS)})
    yield made
    made.stop()
    patch.undo()


@pytest.fixture(scope="module")
def worker(server: Server) -> Iterator[None]:
    with server.worker("scorer", slots=2):
        yield


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    with server.api() as found:
        yield found


def frame(start: int = 0, rows: int = ROWS) -> Any:
    """Rows with an id, the seven features and something that no model knows."""
    found = features(rows, seed=start + 1)
    found.insert(0, "id", range(start, start + rows))
    found["note"] = [f"row {i}" for i in range(start, start + rows)]
    return found


def register(api: Api, name: str, folder: Path) -> None:
    """The folder as a version of the model `name`: files of a run, as MLflow logs them."""
    experiment = api.request("POST", "/api/2.0/mlflow/experiments/create", json={"name": f"e-{name}"}).json()[
        "experiment_id"
    ]
    run = api.request("POST", "/api/2.0/mlflow/runs/create", json={"experiment_id": experiment}).json()["run"]["info"]
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        path = f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run['run_id']}/artifacts/model/{file.relative_to(folder)}"
        api.request("PUT", path, content=file.read_bytes())
    api.post(f"/models/{name}/versions", {"source": f"runs:/{run['run_id']}/model", "run_id": run["run_id"]})


def live(folder: Path, table: Any) -> Any:
    """What the model says when it is asked itself."""
    import pickle

    with (folder / "model.pkl").open("rb") as file:
        return pickle.load(file).predict(table[COLUMNS])


def test_a_killed_worker_costs_the_chunk_it_held(server: Server, api: Api, models: dict[str, Path]) -> None:
    register(api, "slow", models["slow"])
    api.post("/models/slow/versions/latest/scan/accept", {"reason": "the tests wrote it themselves"})
    noria.dataset("long", api=api).commit({f"{i}.parquet": frame(start=i * 10, rows=10) for i in range(4)})
    with server.worker("mortal", slots=1) as first:
        run = noria.score("slow@latest", "long", output="slowly", api=api, wait=False)
        done = until(lambda: finished(api, run["id"]))
        os.kill(first.pid, signal.SIGKILL)
    with server.worker("heir", slots=2):
        view = ended(api, run["id"])
    assert view["run"]["state"] == "succeeded"
    attempts = {item["step"]["name"]: [a["state"] for a in item["attempts"]] for item in view["steps"]}
    assert all(attempts[name] == ["succeeded"] for name in done)
    assert noria.dataset("slowly", api=api).version().to_pandas()["id"].tolist() == list(range(40))


def finished(api: Api, run_id: str) -> list[str]:
    """The chunks that are done, once there are two."""
    steps = [item["step"] for item in api.get(f"/pipeline-runs/{run_id}")["steps"]]
    done = [s["name"] for s in steps if s["name"].startswith("predict[") and s["state"] == "succeeded"]
    return done if len(done) >= 2 else []


def test_a_table_is_scored_row_by_row_and_its_lineage_kept(
    server: Server, worker: None, api: Api, models: dict[str, Path]
) -> None:
    version = noria.score("one@latest", "flights@latest", output="scored", chunk_rows=300, api=api, show=False)
    found = version.to_pandas().sort_values("id")
    assert list(found.columns) == [
        "id",
        "prediction",
        "score",
        "probability",
    ]  # the key, and no column that nobody asked for
    assert found["id"].tolist() == list(range(ROWS))
    assert found["prediction"].tolist() == live(models["one"], frame()).tolist()
    assert version.files_count == 4 and version.rows_count == ROWS
    edges = {(e["kind"], e["dst"].partition(":")[0]) for e in api.get(f"/lineage/dataset_version:{version.id}")["edges"]}
    assert {("scored_by", "model_version"), ("read", "dataset_version"), ("made_by", "pipeline_run")} <= edges


def test_what_was_scored_once_is_not_scored_again(server: Server, worker: None, api: Api) -> None:
    """The next version of the data has a file more: only that is work. The same request again is none at all."""
    first = noria.score("one@1", "files@1", output="files-scored", keep=["id"], api=api, wait=False)
    assert kinds(ended(api, first["id"])) == {"predict[0]": "ran", "predict[1]": "ran"}
    noria.dataset("files", api=api).commit(
        {"a.parquet": frame(), "b.parquet": frame(start=ROWS), "c.parquet": frame(start=2 * ROWS)}
    )
    more = noria.score("one@1", "files@2", output="files-scored", keep=["id"], api=api, wait=False)
    assert kinds(ended(api, more["id"])) == {"predict[0]": "cached", "predict[1]": "cached", "predict[2]": "ran"}
    again = noria.score("one@1", "files@2", output="files-scored", keep=["id"], api=api, wait=False)
    view = ended(api, again["id"])
    assert set(kinds(view).values()) == {"cached"}
    assert [v.number for v in noria.dataset("files-scored", api=api).versions()] == [
        2,
        1,
    ]  # the same rows are the same version
    found = noria.dataset("files-scored", api=api).version("latest").to_pandas()
    assert found["id"].tolist() == list(range(3 * ROWS))


def kinds(view: dict[str, Any]) -> dict[str, str]:
    """Of each chunk: did it run, or was it known?"""
    steps = [item["step"] for item in view["steps"] if item["step"]["name"].startswith("predict[")]
    return {s["name"]: "cached" if s["cached_from"] else "ran" for s in steps}


def test_csv_and_text_columns_and_all_of_the_columns(server: Server, worker: None, api: Api, tmp_path: Path) -> None:
    (tmp_path / "trips.csv").write_text(
        "trip,origin,hour,late\n"
        + "".join(f"{i},{('EWR', 'JFK')[i % 2]},{i % 24},{'true' if i % 3 else 'false'}\n" for i in range(200))
    )
    noria.dataset("trips", api=api).commit(tmp_path / "trips.csv")
    version = noria.score("mixed@latest", "trips", chunk_rows=90, api=api, show=False)
    found = version.to_pandas()
    assert version.handle == "trips-scored@1" and list(found.columns)[:5] == ["trip", "origin", "hour", "late", "prediction"]
    assert found["trip"].tolist() == list(range(200)) and set(found["prediction"]) <= {"late", "on time"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop(columns="distance"), "no column 'distance'"),
        (lambda f: f.assign(distance=f["distance"].astype(str)), "a number in the column 'distance'; the data has"),
    ],
)
def test_a_column_that_does_not_fit_is_named_before_anything_runs(server: Server, api: Api, change: Any, words: str) -> None:
    """There is no worker here."""
    noria.dataset("wrong", api=api).commit({"a.parquet": change(frame())})
    before = len(list(api.items("/pipeline-runs")))
    with pytest.raises(Invalid, match=words):
        noria.score("one@latest", "wrong", api=api)
    assert len(list(api.items("/pipeline-runs"))) == before


def test_what_cannot_be_meant_is_said(server: Server, api: Api) -> None:
    with pytest.raises(NotFound, match="no endpoint 'one'") as none:
        noria.score("one", "flights", api=api)
    assert "one@champion" in none.value.hint
    with pytest.raises(Invalid, match="Only what an endpoint serves"):
        noria.score("one@latest", "flights", record=True, api=api)
    with pytest.raises(Invalid, match="no column 'ID'"):
        noria.score("one@latest", "flights", keep=["ID"], api=api)
    noria.dataset("empty", api=api).commit(frame(rows=0))
    with pytest.raises(Invalid, match="empty@1 has no rows"):
        noria.score("one@latest", "empty", api=api)
    with pytest.raises(Invalid, match="between 1 and"):
        noria.score("one@latest", "flights", chunk_rows=0, api=api)


def test_a_model_that_the_scan_refuses_is_never_read(server: Server, worker: None, api: Api, tmp_path: Path) -> None:
    """Not by the request, and not by a worker that is asked past the request."""
    with pytest.raises(Forbidden, match="its files would run code"):
        noria.score("python@latest", "flights", api=api)
    from noria.client.scoring.request import scoring_pipeline

    params = {"model": "python@latest", "dataset": "flights", "output": "never"}
    view = ended(api, scoring_pipeline().submit(params, api=api)["id"])
    assert view["run"]["state"] == "failed" and "its files would run code" in view["run"]["error"]
    cache = Path(os.environ["XDG_CACHE_HOME"]) / "noria" / "models"
    digest = api.get("/models/python/versions/latest")["version"]["digest"]
    assert not (cache / digest).exists()  # not even fetched
    api.post("/models/python/versions/latest/scan/accept", {"reason": "our own code, read by two of us"})
    version = noria.score("python@latest", "flights", output="doubled", api=api, show=False)
    found = version.to_pandas().sort_values("id")
    assert found["prediction"].tolist() == pytest.approx((frame()[COLUMNS].sum(axis=1) * 2).tolist())


def test_an_endpoint_scores_with_what_it_serves_and_records_if_asked(
    server: Server, worker: None, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the command line. A chunk is recorded once, in the form of live predictions, under the keys of the table."""
    serve(server, api, "scores", "one@1")
    first = command(
        monkeypatch, server, "scores", "flights@latest", "--output", "by-endpoint", "--chunk-rows", "600", "--json"
    )
    assert first["version"] == "by-endpoint@1" and first["rows"] == ROWS
    assert api.get("/endpoints/scores/segments")["items"] == []  # nobody asked
    for _ in range(2):
        command(
            monkeypatch, server, "scores", "flights", "--output", "by-endpoint", "--chunk-rows", "600", "--record", "--json"
        )
    segments = api.get("/endpoints/scores/segments")["items"]
    assert sorted(s["rows"] for s in segments) == [400, 600]
    import pyarrow as pa

    recorded = pa.concat_tables(
        pa.ipc.open_file(b"".join(api.get_bytes(f"/blobs/{s['digest']}"))).read_all() for s in segments
    ).to_pandas()
    recorded = recorded.assign(id=recorded["key"].astype(int)).sort_values("id")
    version = noria.dataset("by-endpoint", api=api).version().to_pandas().sort_values("id")
    assert recorded["id"].tolist() == version["id"].tolist() == list(range(ROWS)) and recorded["prediction_id"].is_unique
    assert recorded["prediction"].tolist() == version["prediction"].tolist()
    assert set(recorded["status"]) == {200} and recorded["in_distance"].notna().all()


def serve(server: Server, api: Api, endpoint: str, model: str) -> None:
    """An endpoint that a node says it serves."""
    assert server.app
    api.post(f"/endpoints/{endpoint}/deploy", {"model": model})
    op = server.app.ops.system("test")
    wanted = server.app.serving.nodes.desired(op)
    replicas = [Replica(node="n1", revision_id=r.id, state="ready") for r in wanted.revisions]
    server.app.serving.nodes.report(op, ReplicaReport(node="n1", generation=wanted.generation, replicas=replicas))


def command(monkeypatch: pytest.MonkeyPatch, server: Server, *args: str) -> Any:
    """`noria endpoint score`, as JSON."""
    monkeypatch.setenv("NORIA_URL", server.url)
    done = CliRunner().invoke(main, ["endpoint", "score", *args])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_reader_of_the_data_who_may_not_use_the_model_is_refused(app: Noria, models: dict[str, Path]) -> None:
    """And the other way round. What is asked for is exactly: the model's use, and the data's reading."""
    url = app.config.control_url
    everything = Api(app.client(), url=url)
    register(everything, "one", models["one"])
    noria.dataset("flights", api=everything).commit(frame(rows=20))
    admin = app.as_("root", "admin")
    asked = {"model": "one@latest", "dataset": "flights@latest"}
    roles = {"contributor": 200, "viewer": 403, "predictor": 403, "approver": 403}
    found = {role: app.as_(role, role).post("/api/v1/scoring/check", json=asked).status_code for role in roles}
    assert found == roles
    assert admin.post("/api/v1/scoring/check", json={**asked, "dataset": "nothing"}).status_code == 404
    policy = {"action": "model.score", "conditions": [{"type": "scan", "status": ["clean"], "safe_formats": True}]}
    assert admin.put("/api/v1/policies/only-tensors", json=policy).status_code == 200
    refused = admin.post("/api/v1/scoring/check", json=asked)
    assert refused.status_code == 403 and "only-tensors" in refused.json()["error"]["message"]


@pytest.fixture
def app(config: Config, clock: ManualClock) -> Iterator[Noria]:
    """The application without a server; its name is taken by the client here."""
    made = Noria(config, clock)
    yield made
    made.close()
