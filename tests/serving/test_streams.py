"""Models that answer bit by bit, and explanations: through the gateway, with real workers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from noria.kernel.clock import SystemClock
from noria.kernel.errors import Unauthenticated
from noria.serving.gateway import Doorkeeper
from noria.serving.model import RevisionConfig
from tests.serving.conftest import COLUMNS, Plane, _save, features, v2

pytestmark = pytest.mark.protocol


def save_talker(path: Path) -> None:
    """A pyfunc model that says a text word by word; '!' raises, 'for ever' does not end and tells a file that it was stopped;
    'too late' does not either, and is slow to begin; '-' takes its time."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    class Talker(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            return [t.upper() for t in model_input["text"]]

        def predict_stream(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            import os
            import pathlib
            import time

            text = str(model_input["text"].iloc[0]) if hasattr(model_input, "columns") else model_input["text"]
            count = 0
            try:
                time.sleep(1 if text == "too late" else 0)
                while text in ("for ever", "too late"):
                    count += 1
                    yield "x" * 50_000
                for word in text.split():
                    if word == "!":
                        raise ValueError("no such word")
                    time.sleep(0.4 if word == "-" else 0)
                    yield word.upper() + (params or {}).get("after", " ")
            finally:
                (pathlib.Path(os.environ["TMPDIR"]) / "stopped").write_text(str(count))

    signature = ModelSignature(
        Schema([ColSpec(DataType.string, "text")]), Schema([ColSpec(DataType.string)]),
        ParamSchema([ParamSpec("after", DataType.string, " ")]),
    )  # fmt: skip
    mlflow.pyfunc.save_model(str(path), python_model=Talker(), signature=signature, pip_requirements=["mlflow"])


@pytest.fixture(scope="module")
def talker(plane: Plane, tmp_path_factory: pytest.TempPathFactory) -> str:
    save_talker(tmp_path_factory.mktemp("talker") / "model")
    plane.registry.add("talker", tmp_path_factory.getbasetemp() / "talker0" / "model")
    plane.deploy("talker", "talker@1", config=RevisionConfig(timeout_ms=5000))
    return "talker"


def events(answer: httpx.Response) -> list[Any]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"dataframe_records": [{"text": text}], "stream": True, **more}


def test_mlflows_form_streams_and_is_recorded(plane: Plane, talker: str) -> None:
    answer = plane.http.post("/endpoints/talker/invocations", json=said("to be or not"))
    assert events(answer) == ["TO ", "BE ", "OR ", "NOT ", "[DONE]"]
    whole = plane.http.post("/endpoints/talker/invocations", json={"dataframe_records": [{"text": "whole"}]})
    assert whole.json() == {"predictions": ["WHOLE"]}
    ids = {answer.headers["x-noria-prediction-id"]: "TO BE OR NOT ", whole.headers["x-noria-prediction-id"]: "WHOLE"}
    rows = plane.until(lambda: [r for r in plane.rows("talker") if r["prediction_id"] in ids], "the record")
    plane.until(lambda: len([r for r in plane.rows("talker") if r["prediction_id"] in ids]) == 2, "both records")
    rows = [r for r in plane.rows("talker") if r["prediction_id"] in ids]
    assert {r["prediction_id"]: r["prediction"] for r in rows} == ids
    assert {r["status"] for r in rows} == {200} and {r["in_text"] for r in rows} == {"to be or not", "whole"}


def test_the_generate_extension_streams(plane: Plane, talker: str) -> None:
    body = {"text_input": "a b", "parameters": {"after": "."}}
    found = events(plane.http.post("/v2/models/talker/generate_stream", json=body))
    named = {"model_name": "talker", "model_version": "1"}
    assert found == [{**named, "text_output": "A."}, {**named, "text_output": "B."}]
    refused = plane.http.post("/v2/models/talker/generate_stream", json={"parameters": {}})
    assert refused.status_code == 400 and "text_input" in refused.json()["error"]


def test_an_error_in_the_middle_is_told_and_before_the_first_part_is_a_status(plane: Plane, talker: str) -> None:
    *parts, last = events(plane.http.post("/endpoints/talker/invocations", json=said("one !")))
    assert parts == ["ONE "] and last == {"error": "The model raised ValueError: no such word"}
    answer = plane.http.post("/endpoints/talker/invocations", json=said("!"))
    assert answer.status_code == 500 and "no such word" in answer.json()["message"]


def test_a_slow_reader_slows_the_model_and_one_who_leaves_stops_it(plane: Plane, talker: str) -> None:
    before = plane.http.post("/endpoints/talker/invocations", json=said("x")).headers["x-noria-revision"]
    (scratch,) = (plane.config.home / "serving" / "scratch").glob(f"*/{before}.*")
    (scratch / "stopped").unlink()
    with plane.http.stream("POST", "/endpoints/talker/invocations", json=said("for ever")) as answer:
        parts = answer.iter_raw(1 << 16)
        for _ in range(40):
            next(parts)
        # It waits now for this reader, and answers others meanwhile.
        began_s = time.monotonic()
        whole = plane.http.post("/endpoints/talker/invocations", json={"dataframe_records": [{"text": "b"}]})
        assert whole.json() == {"predictions": ["B"]} and time.monotonic() - began_s < 2
        assert not (scratch / "stopped").exists()
        prediction = answer.headers["x-noria-prediction-id"]
    made = int(plane.until(lambda: (scratch / "stopped").exists() and (scratch / "stopped").read_text(), "the end"))
    assert made < 1000  # 50 MB; the sockets and the credit hold a few
    row = plane.until(
        lambda: next((r for r in plane.rows("talker") if r["prediction_id"] == prediction), None), "its record"
    )
    assert row["status"] == 499 and row["prediction"].startswith("xxx") and len(row["prediction"]) <= 65_536


def test_a_stream_that_nobody_waited_for_any_longer_is_stopped(plane: Plane, talker: str) -> None:
    made = plane.deploy("late", "talker@1", config=RevisionConfig(timeout_ms=300))
    answer = plane.http.post("/endpoints/late/invocations", json=said("too late"))
    assert answer.status_code == 504
    (scratch,) = (plane.config.home / "serving" / "scratch").glob(f"*/{made.id}.*")
    plane.until(lambda: (scratch / "stopped").exists(), "the end", 20)


def test_a_shadow_says_all_that_is_recorded_of_it_and_no_more(plane: Plane, talker: str) -> None:
    plane.serving.set_shadow(plane.op(), "talker", "talker@1")
    shadow = next(r for r in plane.serving.endpoint(plane.op(), "talker").routes if r.role == "shadow")
    plane.until(lambda: plane.serving.revision(plane.op(), shadow.revision_id).state == "ready", "the shadow")
    short = {"x-noria-timeout-ms": "1000"}  # until the first part, and not for all of them
    slow = plane.http.post("/endpoints/talker/invocations", json=said("a - - - - b"), headers=short)
    assert events(slow)[-2:] == ["B ", "[DONE]"]

    def recorded(prediction: str) -> dict[str, Any]:
        mine = [r for r in plane.rows("talker") if (r["prediction_id"], r["role"]) == (prediction, "shadow")]
        return mine[0] if mine else {}

    row = plane.until(lambda: recorded(slow.headers["x-noria-prediction-id"]), "its record")
    assert (row["prediction"], row["status"]) == ("A - - - - B ", 200)
    with plane.http.stream("POST", "/endpoints/talker/invocations", json=said("for ever")) as answer:
        next(answer.iter_raw(1 << 16))
    row = plane.until(lambda: recorded(answer.headers["x-noria-prediction-id"]), "the end of what does not end")
    assert (len(row["prediction"]), row["status"]) == (65_536, 200)
    plane.serving.set_shadow(plane.op(), "talker", "")


def test_a_stream_of_a_killed_worker_ends_with_the_reason(plane: Plane, talker: str) -> None:
    import os
    import signal

    with plane.http.stream("POST", "/endpoints/talker/invocations", json=said("for ever")) as answer:
        parts = answer.iter_raw(1 << 16)
        next(parts)
        os.kill(plane.worker_pid("talker"), signal.SIGKILL)
        rest = b"".join(parts)
    assert rest.rstrip().endswith(b'{"error":"The worker of talker stopped in the middle of its answer. Ask again."}')
    patient = {"x-noria-timeout-ms": "60000"}  # the next worker imports MLflow first
    again = plane.http.post("/endpoints/talker/invocations", json=said("again"), headers=patient)
    assert events(again) == ["AGAIN ", "[DONE]"]


def test_a_model_that_does_not_stream_says_so(plane: Plane, models: dict[str, Path]) -> None:
    plane.registry.add("flights", models["one"])
    plane.deploy("flights", "flights@1")
    body = {"dataframe_records": features(1).to_dict("records"), "stream": True}
    answer = plane.http.post("/endpoints/flights/invocations", json=body)
    assert answer.status_code == 400 and "does not answer bit by bit" in answer.json()["message"]


# --- explanations -----------------------------------------------------------------------------------------------------------


def explained(plane: Plane, name: str, given: Any) -> dict[str, Any]:
    body = {
        "inputs": [{"name": "x", "shape": list(given.shape), "datatype": "FP64", "data": given.to_numpy().ravel().tolist()}]
    }
    answer = plane.http.post(f"/v2/models/{name}/explain", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    found["arrays"] = {o["name"]: np.array(o["data"]).reshape(o["shape"]) for o in found["outputs"]}
    return found  # type: ignore[no-any-return]


def test_contributions_sum_to_what_the_model_says(plane: Plane, tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    given = features(200)
    number = given.sum(axis=1)
    three = np.digitize(number, [-1.0, 1.0])
    made = {
        "two": make_pipeline(StandardScaler(), LogisticRegression()).fit(given, number > 0),
        "three": LogisticRegression().fit(given, three), "ridge": Ridge().fit(given, number),
    }  # fmt: skip
    for name, model in made.items():
        _save(model, tmp_path / name, features(2))
        plane.registry.add(f"explain-{name}", tmp_path / name)
        plane.deploy(f"explain-{name}", f"explain-{name}@1")
        found = explained(plane, f"explain-{name}", given[:5])
        arrays = found["arrays"]
        expected = model.predict(given[:5]) if name == "ridge" else model.decision_function(given[:5])
        np.testing.assert_allclose(arrays["contributions"].sum(axis=-1) + arrays["base"], expected, rtol=1e-9)
        assert found["parameters"]["features"] == COLUMNS
    assert found["parameters"]["space"] == "the prediction"
    records = {"instances": given[:2].to_dict("records")}
    v1 = plane.http.post("/v1/models/explain-two:explain", json=records).json()
    one = v1["explanations"][0]
    assert v1["space"] == "decision of True" and list(one["contributions"]) == COLUMNS
    assert sum(one["contributions"].values()) + one["base"] == pytest.approx(one["total"])


def test_a_model_that_cannot_be_explained_says_why(plane: Plane, talker: str, models: dict[str, Path]) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    refused = plane.http.post(
        "/v2/models/talker/explain", json={"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["x"]}]}
    )
    assert refused.status_code == 400 and "Only models of numbers" in refused.json()["error"]
    folder = models["one"].parent / "near"
    _save(KNeighborsClassifier(3).fit(features(50), [0, 1] * 25), folder, features(2))
    plane.registry.add("near", folder)
    plane.deploy("near", "near@1")
    refused = plane.http.post("/v2/models/near/explain", json=v2(features(1).iloc[0]))
    assert refused.status_code == 400 and "KNeighborsClassifier cannot be explained exactly" in refused.json()["error"]


def test_the_page_asks_through_the_control_plane(plane: Plane, models: dict[str, Path]) -> None:
    plane.registry.add("tried", models["one"])
    plane.deploy("tried", "tried@1")
    control = httpx.Client(base_url=f"{plane.config.control_url}/api/v1/endpoints", timeout=30)
    body = {"rows": features(2).to_dict("records"), "explain": True}
    said = control.post("/tried/try", json=body).json()
    asked = plane.http.post("/endpoints/tried/invocations", json={"dataframe_records": body["rows"]})
    assert said["predictions"] == asked.json()["predictions"] and said["model"] == "tried@1" and not said["refusal"]
    one = said["explanations"][0]
    assert one["base"] + sum(one["contributions"].values()) == pytest.approx(one["total"])
    refused = control.post("/tried/try", json={"rows": [{"hour": "x"}]})
    assert refused.status_code == 400 and "hour" in refused.json()["error"]["message"]
    assert control.post("/nowhere/try", json=body).status_code == 404
    assert control.post("/tried/try", json={"rows": []}).status_code == 400
    control.close()


def test_the_gateway_knows_the_control_plane_by_the_token_of_the_server() -> None:
    door = Doorkeeper(SystemClock(), "of-the-server")
    assert door.check(b"Bearer of-the-server", "flights", "infer") == "noria"
    for wrong in (b"Bearer of-the", b"Bearer ", b"of-the-server"):
        with pytest.raises(Unauthenticated):
            door.check(wrong, "flights", "infer")
    with pytest.raises(Unauthenticated):
        Doorkeeper(SystemClock()).check(b"Bearer ", "flights", "infer")
