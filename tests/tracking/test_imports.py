"""Imports: what comes from elsewhere comes whole, once, and as it was, whatever breaks on the way."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from noria.client.api import Api
from noria.client.moving.model import (
    Experiment,
    File,
    Input,
    Model,
    ModelNumber,
    Number,
    Registered,
    Run,
    Source,
    Trace,
    Use,
    Version,
)
from noria.client.moving.mover import Mover
from noria.client.moving.verify import verify_all
from noria.kernel.errors import NotFound, Unavailable
from noria.kernel.ids import new_id
from tests.conftest import Noria

FIRST, SECOND, GONE, MODEL = "run-a", "f" * 32, "run-gone", "m-" + "0" * 32
MLMODEL = b"artifact_path: model\nflavors:\n  python_function:\n    loader_module: x\n    env: conda.yaml\n"


class Memory:
    """A source in memory."""

    label = "memory://elsewhere"

    def __init__(self, *, stage: str = "active") -> None:
        self.stage = stage
        self.run_status = "FINISHED"
        self.odd = [Number("odd/x", v, 9, i) for i, v in enumerate((math.nan, math.inf, -math.inf, 0.0, -0.0))]
        self.points = [Number("loss", 1 / (i + 1), 5 + i, i) for i in range(2_500)]
        self.contents = {
            FIRST: {"notes/ä b.txt": b"hello", "deep/er/%41.bin": b"\x00" * 70_000, "empty": b""},
            MODEL: {"MLmodel": MLMODEL, "data/model.bin": b"weights"},
        }
        self.params = {"lr": "0.1", **{f"p{i}": str(i) for i in range(1_500)}}

    def experiments(self) -> Iterator[Experiment]:
        yield Experiment(id="0", name="Default", created_at_ms=0, updated_at_ms=0)
        yield Experiment(id="7", name="flights", created_at_ms=100, updated_at_ms=200, stage=self.stage, tags={"team": "a"})

    def runs(self, experiment: Experiment) -> Iterator[Run]:
        if experiment.id == "0":
            return
        yield Run(
            id=FIRST, experiment_id="7", name="first", user="ada", status=self.run_status, started_at_ms=1_000,
            ended_at_ms=2_000, params=self.params, tags={"a": "b", "mlflow.runName": "first", "noria.import.at": "before"},
            keys=["loss", "odd/x"], inputs=[Input(name="d", digest="1", tags={"mlflow.data.context": "train"})],
            models=[Use(model_id=MODEL, direction="output", step=3), Use(model_id="m-gone", direction="input")],
        )  # fmt: skip
        yield Run(
            id=SECOND, experiment_id="7", name="", user="", status="KILLED", started_at_ms=1_001, ended_at_ms=1_002,
            tags={"noria.dataset_version": "9" * 32},
        )  # fmt: skip
        yield Run(
            id=GONE, experiment_id="7", name="gone", user="bob", status="FAILED", started_at_ms=1, ended_at_ms=2,
            stage="deleted", deleted_at_ms=3,
        )  # fmt: skip

    def numbers(self, run: Run) -> Iterator[Number]:
        if run.id == FIRST:
            yield from self.points
            yield from self.odd
            yield from self.odd  # a file of MLflow's may hold a line twice

    def logged_models(self, experiment: Experiment) -> Iterator[Model]:
        if experiment.id == "7":
            yield Model(
                id=MODEL, experiment_id="7", name="model", status="LOGGED_MODEL_READY", created_at_ms=1_100,
                updated_at_ms=1_200, model_type="x", source_run_id=FIRST, tags={"k": "v"}, params={"p": "1"},
                points=[ModelNumber(run_id=FIRST, key="acc", value=math.nan, at_ms=7, step=2, dataset_name="d", dataset_digest="1")],
            )  # fmt: skip

    def registered(self) -> Iterator[Registered]:
        yield Registered(
            name="flights", created_at_ms=5, updated_at_ms=6, description="d", tags={"t": "1"}, aliases={"champion": 4}
        )
        yield Registered(name="words", created_at_ms=5, updated_at_ms=6, tags={"mlflow.prompt.is_prompt": "true"})

    def versions(self) -> Iterator[Version]:
        yield Version(
            model="flights", number=4, source=f"mlflow-artifacts:/7/models/{MODEL}/artifacts", created_at_ms=10, updated_at_ms=11,
            run_id=FIRST, description="four", tags={"v": "4"},
        )  # fmt: skip
        yield Version(model="flights", number=6, source="models:/flights/4", created_at_ms=12, updated_at_ms=13)
        yield Version(
            model="words", number=2, source="prompt-template", created_at_ms=13, updated_at_ms=14, description="a commit",
            tags={"mlflow.prompt.is_prompt": "true", "mlflow.prompt.text": "Hello {{name}}!"},
        )  # fmt: skip
        yield Version(model="flights", number=7, source="s3://elsewhere/model", created_at_ms=14, updated_at_ms=15)

    def files(self, owner: Run | Model) -> Iterator[File]:
        for path, data in self.contents.get(owner.id, {}).items():
            yield File(path, len(data))

    def read(self, owner: Run | Model, path: str) -> Iterator[bytes]:
        data = self.contents[owner.id][path]
        for at in range(0, len(data), 50_000):
            yield data[at : at + 50_000]

    def log(self, run: Run) -> Iterator[str]:
        yield from ["one\n", "zwei ü\n"] if run.id == FIRST else []

    def traces(self, experiment: Experiment) -> Iterator[Trace]:
        return iter(())

    def close(self) -> None:
        return None


@pytest.fixture
def api(noria: Noria) -> Api:
    return Api(noria.http, url=noria.config.control_url)


def test_a_source_in_memory_is_a_source() -> None:
    source: Source = Memory()
    assert source.label


def check_whole(noria: Noria, source: Memory) -> None:
    op, tracking = noria.op(), noria.app.tracking
    flights = tracking.experiment_by_name(op, "flights")
    assert (flights.created_at_ms, flights.tags["team"]) == (100, "a")
    run = tracking.run(op, FIRST)
    assert (run.name, run.user, run.status, run.started_at_ms, run.ended_at_ms) == ("first", "ada", "FINISHED", 1_000, 2_000)
    assert run.params == source.params and run.tags["a"] == "b" and run.tags["noria.import.source"] == source.label
    assert run.tags["noria.import.at"] != "before", "the mark of another import is not believed"
    assert [(i.name, i.digest, i.tags) for i in run.inputs] == [("d", "1", {"mlflow.data.context": "train"})]
    assert [(m.model_id, m.direction, m.step) for m in run.models] == [(MODEL, "output", 3)]
    assert [p.value for p in tracking.history(op, FIRST, "loss", limit=5_000).items] == [p.value for p in source.points]
    odd = {p.step: p.value for p in tracking.history(op, FIRST, "odd/x", limit=100).items}
    assert math.isnan(odd[0]) and odd == {0: odd[0], 1: math.inf, 2: -math.inf, 3: 0.0, 4: 0.0}
    assert {f.path: f.size_bytes for f in tracking.files(op, FIRST, with_models=False)} == {
        path: len(data) for path, data in source.contents[FIRST].items()
    }
    assert b"".join(tracking.open_artifact(op, FIRST, "deep/er/%41.bin")) == source.contents[FIRST]["deep/er/%41.bin"]
    assert tracking.log_page(op, FIRST).text == "one\nzwei ü\n"
    assert tracking.run(op, SECOND).status == "KILLED" and tracking.run(op, GONE).stage == "deleted"
    model = tracking.models.get(op, MODEL)
    assert (model.created_at_ms, model.updated_at_ms, model.status, model.source_run_id) == (
        1_100,
        1_200,
        "LOGGED_MODEL_READY",
        FIRST,
    )
    assert [(p.key, p.run_id, p.step, p.dataset_name) for p in model.points] == [("acc", FIRST, 2, "d")]
    assert "acc" not in run.metrics, "what was measured on the model is no point of the run"
    versions = {v.number: v for v in noria.app.registry.versions(op, "flights").items}
    assert sorted(versions) == [4, 6] and versions[4].digest == versions[6].digest
    assert (versions[4].created_at_ms, versions[4].updated_at_ms, versions[4].description) == (10, 11, "four")
    assert versions[4].aliases == ["champion"] and versions[4].run_id == FIRST and versions[4].logged_model == MODEL
    assert len(noria.facts("run.imported")) == 3 and len(noria.facts("model_version.imported")) == 3
    assert not noria.facts("run.created", "run.started", "run.finished", "model_version.created"), "nothing happens now"


def test_everything_comes_as_it_was_and_says_what_does_not(noria: Noria, api: Api) -> None:
    source = Memory()
    report = Mover(api, source).move()
    check_whole(noria, source)
    why = {left["name"]: left["why"] for left in report.left_out}
    assert "cannot be the source" in why["flights@7"]
    prompt = noria.app.registry.version(noria.op(), "words@2")
    assert (prompt.description, prompt.tags["mlflow.prompt.text"]) == ("a commit", "Hello {{name}}!")
    assert [f.path for f in noria.app.registry.files(noria.op(), prompt)] == ["prompt.txt"]
    assert {left["why"] for left in report.left_out if left["name"] == FIRST} == {"its logged model m-gone is not here"}
    assert "is not here, so it is kept as a name only" in why[SECOND]
    verify_all(api, source, report, only=None)
    assert report.differences == [] and report.verified == {"runs": 3, "points": 2_510, "files": 3}

    made = noria.app.registry.create_version(noria.op(), "flights", source=f"models:/{MODEL}")
    assert made.number == 7, "numbers go on after the highest that came"


def test_a_second_import_changes_nothing(noria: Noria, api: Api) -> None:
    source = Memory()
    Mover(api, source).move()
    facts = len(noria.facts())
    again = Mover(api, source).move()
    assert {kind: n["new"] + n["resumed"] for kind, n in again.counts.items()} == dict.fromkeys(again.counts, 0)
    assert len(noria.facts()) == facts
    noria.app.tracking.set_tag(noria.op(), FIRST, "a", "changed here")
    noria.app.tracking.restore_run(noria.op(), GONE)
    Mover(api, source).move()
    assert noria.app.tracking.run(noria.op(), FIRST).tags["a"] == "changed here"
    assert noria.app.tracking.run(noria.op(), GONE).stage == "active", "what people did here stays"


class Flaky:
    """An api whose n-th request reaches the server or not, and whose answer never comes."""

    def __init__(self, api: Api, at: int, *, arrives: bool) -> None:
        self._api, self._left, self._arrives = api, at, arrives
        self.url = api.url

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._api, name)

        def call(*args: Any, **options: Any) -> Any:
            self._left -= 1
            if self._left == -1:
                if self._arrives:
                    real(*args, **options)
                raise Unavailable("The connection broke.")
            return real(*args, **options)

        return call


@pytest.mark.parametrize("arrives", [True, False])
def test_broken_off_at_any_request_it_completes_the_next_time(
    noria: Noria, api: Api, arrives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noria.client.moving.mover.WORKERS", 1)
    source, broken = Memory(), 0
    for at in range(200):
        try:
            Mover(Flaky(api, at, arrives=arrives), source).move()  # type: ignore[arg-type]
            break
        except Unavailable:
            broken += 1
    assert broken > 15
    check_whole(noria, source)


def test_an_experiment_that_was_put_away_is_put_away_with_its_runs(noria: Noria, api: Api) -> None:
    source = Memory(stage="deleted")
    Mover(api, source).move()
    op, tracking = noria.op(), noria.app.tracking
    flights = tracking.experiment_by_name(op, "flights")
    assert flights.stage == "deleted" and tracking.run(op, FIRST).stage == "deleted"
    again = Mover(api, source).move()
    assert again.counts["runs"] == {"found": 3, "new": 0, "resumed": 0, "already": 3, "left_out": 0}
    tracking.restore_experiment(op, flights.id)
    assert tracking.run(op, FIRST).stage == "active", "it comes back with its experiment"


def test_a_run_that_goes_on_is_gone_on_with(noria: Noria, api: Api) -> None:
    source = Memory()
    source.run_status, whole = "RUNNING", source.points
    source.points = whole[:1_200]
    report = Mover(api, source).move()
    assert report.unfinished == [FIRST] and noria.app.tracking.run(noria.op(), FIRST).status == "RUNNING"
    source.run_status, source.points = "FINISHED", whole
    assert Mover(api, source).move().counts["runs"]["resumed"] == 1
    check_whole(noria, source)


def test_what_is_not_whole_is_not_sealed(noria: Noria, api: Api) -> None:
    run = {"id": "r1", "experiment_id": "0", "source": "x", "started_at_ms": 1, "params": {"a": "1"}}
    assert noria.http.post("/api/v1/imports/runs", json=run).json()["is_new"] is True
    for expect in ({"params": 1, "points": 1, "tags": 1}, {"params": 2, "tags": 1}, {"params": 1, "tags": 1, "files": 1}):
        answer = noria.http.post("/api/v1/imports/runs/r1/seal", json={"status": "FINISHED", "expect": expect})
        assert answer.status_code == 409 and "is not whole" in answer.json()["error"]["message"]
    assert noria.app.tracking.run(noria.op(), "r1").status == "RUNNING"
    done = noria.http.post("/api/v1/imports/runs/r1/seal", json={"status": "FINISHED", "expect": {"params": 1, "tags": 1}})
    assert done.status_code == 200
    assert noria.app.tracking.run(noria.op(), "r1").ended_at_ms == 1, "an end that nobody kept is the start"


def test_runs_and_models_of_others_are_not_touched(noria: Noria) -> None:
    op, tracking = noria.op(), noria.app.tracking
    tracking.create_run(op, "0", run_id="mine", started_at_ms=1)
    model = tracking.models.create(op, "0", name="mine")
    imported = {"experiment_id": "0", "source": "x"}
    taken = noria.http.post("/api/v1/imports/runs", json={**imported, "id": "mine", "started_at_ms": 1})
    assert taken.status_code == 409 and "another one" in taken.json()["error"]["message"]
    times = {"created_at_ms": 1, "updated_at_ms": 1}
    taken = noria.http.post("/api/v1/imports/logged-models", json={**imported, **times, "id": model.id})
    assert taken.status_code == 409
    sealed = noria.http.post("/api/v1/imports/runs/mine/seal", json={"status": "FINISHED", "expect": {"tags": 1}})
    assert sealed.status_code == 400
    assert tracking.run(op, "mine").status == "RUNNING"


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "a/b"}, {"id": "m-1"}, {"started_at_ms": -1}, {"source": ""}, {"params": {"a\nb": "1"}}, {"tags": {"": "1"}},
        {"experiment_id": "nothing"}, {"inputs": [{"name": "", "digest": "1"}]}, {"unknown": 1},
    ],
)  # fmt: skip
def test_a_run_that_cannot_be_is_refused(noria: Noria, wrong: dict[str, Any]) -> None:
    run = {"id": "r1", "experiment_id": "0", "source": "x", "started_at_ms": 1}
    assert noria.http.post("/api/v1/imports/runs", json=run | wrong).status_code in (400, 404)
    assert not noria.facts("run.imported")


def test_importing_is_for_maintainers(noria: Noria) -> None:
    run = {"id": "r1", "experiment_id": "0", "source": "x", "started_at_ms": 1}
    assert noria.as_("carl", "contributor").post("/api/v1/imports/runs", json=run).status_code == 403
    version = {"number": 1, "source": "models:/m-1", "imported_from": "x", "created_at_ms": 1, "updated_at_ms": 1}
    assert noria.as_("cora", "contributor").post("/api/v1/imports/models/x/versions", json=version).status_code == 403
    assert noria.as_("mia", "maintainer").post("/api/v1/imports/runs", json=run).status_code == 200


def test_a_version_keeps_its_number_and_another_cannot_take_it(noria: Noria, api: Api) -> None:
    source = Memory()
    Mover(api, source).move()
    run_id = new_id()
    noria.app.tracking.create_run(noria.op(), "0", run_id=run_id)
    noria.app.tracking.put_artifact(noria.op(), run_id, "model/MLmodel", MLMODEL + b"# other\n")
    other = {"source": f"runs:/{run_id}/model", "imported_from": "x", "created_at_ms": 1, "updated_at_ms": 1}
    taken = noria.http.post("/api/v1/imports/models/flights/versions", json={**other, "number": 4})
    assert taken.status_code == 409 and "another one" in taken.json()["error"]["message"]
    for number in (0, -1, 10**9):
        assert (
            noria.http.post("/api/v1/imports/models/flights/versions", json={**other, "number": number}).status_code == 400
        )
    missing = noria.http.post("/api/v1/imports/models/nothing/versions", json={**other, "number": 1})
    assert missing.status_code == 404


def test_a_file_of_any_size_is_never_held_in_memory(noria: Noria, api: Api) -> None:
    class Large(Memory):
        def files(self, owner: Run | Model) -> Iterator[File]:
            yield from [File("large.bin", 200 << 20)] if owner.id == SECOND else super().files(owner)

        def read(self, owner: Run | Model, path: str) -> Iterator[bytes]:
            if path != "large.bin":
                yield from super().read(owner, path)
                return
            for i in range(200):
                yield bytes([i]) * (1 << 20)

    tracemalloc.start()
    try:
        report = Mover(api, Large()).move()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert noria.app.tracking.artifact(noria.op(), SECOND, "large.bin").size_bytes == 200 << 20
    assert report.counts["runs"]["new"] == 3 and peak < 60 << 20, peak


def test_a_file_that_goes_while_it_is_read_is_named_and_the_rest_comes(noria: Noria, api: Api) -> None:
    class Vanishing(Memory):
        def read(self, owner: Run | Model, path: str) -> Iterator[bytes]:
            if path == "empty":
                raise NotFound("It is gone.")
            yield from super().read(owner, path)
            if path.startswith("deep"):
                raise NotFound("It broke off.")

    report = Mover(api, Vanishing()).move()
    assert {left["why"] for left in report.left_out if left["name"] == FIRST} >= {
        "deep/er/%41.bin: It broke off.",
        "empty: It is gone.",
    }
    assert report.counts["runs"]["new"] == 3
    assert [f.path for f in noria.app.tracking.files(noria.op(), FIRST, with_models=False)] == ["notes/ä b.txt"]
