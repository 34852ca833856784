"""scikit-learn models served as ONNX, when and only when the answers are the same."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from noria.serving.model import RevisionConfig
from tests.serving.conftest import COLUMNS, Plane, _save, _slow, features, fitted

pytestmark = [pytest.mark.protocol, pytest.mark.slow, pytest.mark.usefixtures("passing")]
ONNX = RevisionConfig(engine="onnx")


def saved(folder: Path) -> dict[str, tuple[Path, Any]]:
    """Models by name, with where they are saved."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression, Ridge

    given, chance = features(400), np.random.default_rng(1)
    number = given.sum(axis=1) + chance.normal(size=400)
    three = np.array(["early", "on time", "late"])[np.digitize(number, [-1.0, 1.0])]
    models = {
        "linear": fitted(0),
        "forest": RandomForestClassifier(20, random_state=0).fit(given, three),
        "boosted": HistGradientBoostingClassifier(max_iter=20).fit(given, number > 0),
        "regression": HistGradientBoostingRegressor(max_iter=20).fit(given, number),
        "ridge": Ridge().fit(given, number),
        "words": LogisticRegression().fit(given, three),
        "slow": _slow(),
    }
    for name, model in models.items():
        _save(model, folder / name, features(2))
    return {name: (folder / name, model) for name, model in models.items()}


@pytest.fixture(scope="module")
def models_of(plane: Plane, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    made = saved(tmp_path_factory.mktemp("onnx"))
    for name, (folder, _) in made.items():
        plane.registry.add(name, folder)
    return {name: model for name, (_, model) in made.items()}


def engine_of(plane: Plane, endpoint: str) -> str:
    return str(plane.serving.detail(plane.op(), endpoint).replicas[0].engine)


@pytest.mark.parametrize("name", ["linear", "forest", "boosted", "regression", "ridge", "words"])
def test_the_answers_are_those_of_the_model(plane: Plane, models_of: dict[str, Any], name: str) -> None:
    plane.deploy(name, f"{name}@1", config=ONNX)
    assert engine_of(plane, name).startswith("ONNX: answers equal to") and "faster for one row" in engine_of(plane, name)
    given, model = features(300, seed=9), models_of[name]
    body = {"inputs": [{"name": "x", "shape": [300, 7], "datatype": "FP64", "data": given.to_numpy().ravel().tolist()}]}
    said = plane.http.post(f"/v2/models/{name}/infer", json=body).json()
    outputs = {o["name"]: np.array(o["data"]) for o in said["outputs"]}
    if hasattr(model, "predict_proba"):
        assert outputs["predict"].tolist() == model.predict(given).tolist()
        assert np.abs(outputs["probability"] - model.predict_proba(given).ravel()).max() < 1e-5
    else:
        assert np.allclose(outputs["predict"], model.predict(given), rtol=1e-5, atol=1e-5)
    assert [i["name"] for i in plane.http.get(f"/v2/models/{name}").json()["inputs"]] == COLUMNS
    recorded = plane.until(lambda: plane.rows(name), "the record")
    assert {r["status"] for r in recorded} == {200}


def test_a_value_that_the_model_refuses_is_refused_as_onnx_too(plane: Plane, models_of: dict[str, Any]) -> None:
    row = dict.fromkeys(COLUMNS, 1.0) | {"temp": None}
    for name, status in (("linear", 500), ("boosted", 200)):  # a boosted tree has a way for missing values
        plane.deploy(name, f"{name}@1", config=ONNX)
        answer = plane.http.post(f"/endpoints/{name}/invocations", json={"dataframe_records": [row]})
        assert answer.status_code == status, answer.text
        assert status == 200 or "NaN" in answer.json()["message"]


def test_a_model_that_cannot_be_converted_is_served_as_it_is(plane: Plane, models_of: dict[str, Any]) -> None:
    plane.deploy("slow", "slow@1", config=ONNX)
    assert engine_of(plane, "slow").startswith("as it was saved: ")
    row = dict.fromkeys(COLUMNS, 1.0)
    assert plane.http.post("/endpoints/slow/invocations", json={"dataframe_records": [row]}).json() == {"predictions": [0.0]}


def test_what_it_was_made_into_is_signed_and_a_changed_copy_is_fetched_anew(plane: Plane, models_of: dict[str, Any]) -> None:
    from noria.governance.keys import MODEL_KEY, load_public
    from noria.governance.verify import parse_keys
    from noria.governance.verify_model import compare, hashes, read_statement

    plane.deploy("linear", "linear@1", config=ONNX)
    version = plane.registry.version(plane.op(), "linear@1")
    plane.app.provenances.reconcile()
    with plane.app.db.read() as tx:
        (row,) = tx.rows("select made_digest, envelope from conversion where digest = :digest", digest=version.digest)
    folder = plane.config.home / "serving" / "onnx" / row["made_digest"]
    statement = read_statement(msgspec.json.decode(row["envelope"]), parse_keys(load_public(plane.config.home, MODEL_KEY)))
    assert compare(statement, hashes(folder)) == []
    build = statement["predicate"]["buildDefinition"]
    assert build["resolvedDependencies"] == [{"name": "model", "digest": {"blake3": version.digest}}]
    assert {s["name"] for s in statement["subject"]} == {"model.onnx", "verdict.json"}
    before = plane.http.post("/endpoints/linear/invocations", json={"inputs": features(20).to_numpy().tolist()}).json()
    (folder / "model.onnx").write_bytes(b"something else")
    assert compare(statement, hashes(folder)) != []
    os.kill(plane.worker_pid("linear"), signal.SIGKILL)
    after = plane.http.post("/endpoints/linear/invocations", json={"inputs": features(20).to_numpy().tolist()}).json()
    assert after == before and compare(statement, hashes(folder)) == []
