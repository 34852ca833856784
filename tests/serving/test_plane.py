"""The data plane with real processes and real models: what callers get, whatever dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from noria.kernel.errors import Invalid
from noria.serving.model import RevisionConfig
from tests.serving.conftest import COLUMNS, Plane, features, fitted, v2

pytestmark = [pytest.mark.protocol, pytest.mark.usefixtures("passing")]


@pytest.fixture(scope="module", autouse=True)
def flights(plane: Plane, models: dict[str, Path]) -> None:
    for name in ("one", "two", "slow", "broken"):
        plane.registry.add("flights", models[name])
    plane.registry.add("mixed", models["mixed"])
    plane.registry.add("python", models["python"])
    plane.deploy("flights", "flights@1")


class Load:
    """Callers who ask without pause until the block ends; keeps every status."""

    def __init__(self, plane: Plane, path: str, callers: int = 4) -> None:
        self._plane = plane
        self._path = path
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(callers)]
        self.statuses: Counter[Any] = Counter()
        self.models: Counter[str] = Counter()
        self.answered: list[str] = []  # prediction ids

    def _ask(self) -> None:
        body = v2(features(1).iloc[0])
        with httpx.Client(base_url=self._plane.config.gateway_url, timeout=120.0) as http:
            while not self._stop.is_set():
                try:
                    answer = http.post(self._path, json=body)
                    self.statuses[answer.status_code] += 1
                    self.models[answer.headers.get("x-noria-model", "")] += 1
                    if answer.status_code == 200:
                        self.answered.append(answer.headers["x-noria-prediction-id"])
                except httpx.HTTPError as error:
                    self.statuses[type(error).__name__] += 1

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


def test_v2_answers_what_the_model_says(plane: Plane) -> None:
    given, model = features(20), fitted(0)
    for i in range(len(given)):
        answer = plane.http.post("/v2/models/flights/infer", json={**v2(given.iloc[i]), "id": f"call-{i}"})
        assert answer.status_code == 200
        outputs = {o["name"]: o for o in answer.json()["outputs"]}
        assert outputs["predict"]["data"] == model.predict(given.iloc[[i]]).tolist()
        assert outputs["probability"]["data"] == pytest.approx(model.predict_proba(given.iloc[[i]])[0].tolist(), rel=1e-12)
        assert answer.json()["id"] == f"call-{i}"
        assert answer.headers["x-noria-model"] == "flights@1"
        assert answer.json()["parameters"]["prediction_ids"] == [answer.headers["x-noria-prediction-id"]]


def test_v2_takes_one_tensor_and_columns_of_columns(plane: Plane) -> None:
    given, model = features(6), fitted(0)
    flat = {"inputs": [{"name": "x", "shape": [6, 7], "datatype": "FP32", "data": given.to_numpy().ravel().tolist()}]}
    nested = {"inputs": [{"name": "x", "shape": [6, 7], "datatype": "FP64", "data": given.to_numpy().tolist()}]}
    columns = {
        "inputs": [
            {"name": c, "shape": [6, 1], "datatype": "FP64", "data": [[v] for v in given[c]]} for c in reversed(COLUMNS)
        ]
    }
    for body in (flat, nested, columns):
        answer = plane.http.post("/v2/models/flights/versions/1/infer", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["outputs"][0]["data"] == model.predict(given).tolist()
        assert answer.json()["outputs"][1]["shape"] == [6, 2]
        assert len(set(answer.json()["parameters"]["prediction_ids"])) == 6


def test_invocations_take_every_form_of_mlflow(plane: Plane) -> None:
    given, model = features(5), fitted(0)
    forms: list[dict[str, Any]] = [
        {"dataframe_split": given.to_dict("split")}, {"dataframe_records": given.to_dict("records")},
        {"inputs": given.to_numpy().tolist()}, {"inputs": given.to_dict("list")}, {"instances": given.to_dict("records")},
    ]  # fmt: skip
    for body in forms:
        answer = plane.http.post("/endpoints/flights/invocations", json=body)
        assert answer.json() == {"predictions": model.predict(given).tolist()}
    csv = plane.http.post(
        "/endpoints/flights/invocations", content=given.to_csv(index=False), headers={"content-type": "text/csv"}
    )
    assert csv.json() == {"predictions": model.predict(given).tolist()}


def test_a_model_of_text_and_flags_answers(plane: Plane) -> None:
    plane.deploy("mixed", "mixed@1")
    row = {"origin": "JFK", "hour": 7, "late": True}
    answer = plane.http.post("/endpoints/mixed/invocations", json={"dataframe_records": [row, row]})
    assert answer.status_code == 200, answer.text
    assert set(answer.json()["predictions"]) <= {"late", "on time"}
    wrong = plane.http.post("/endpoints/mixed/invocations", json={"dataframe_records": [{**row, "hour": "seven"}]})
    assert (wrong.status_code, "'hour'" in wrong.json()["message"]) == (400, True)
    recorded = plane.until(lambda: plane.rows("mixed"), "the record")
    assert (recorded[0]["in_origin"], recorded[0]["in_hour"], recorded[0]["in_late"]) == ("JFK", 7, True)
    assert isinstance(recorded[0]["prediction"], str)


def test_any_flavour_answers_through_pyfunc(plane: Plane) -> None:
    plane.deploy("python", "python@1")
    given = features(3)
    answer = plane.http.post("/endpoints/python/invocations", json={"dataframe_split": given.to_dict("split")})
    assert answer.status_code == 200, answer.text
    assert [p["0"] for p in answer.json()["predictions"]] == pytest.approx((given.sum(axis=1) * 2).tolist())


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda b: b["inputs"].pop(3), "'temp' is missing"),
        (lambda b: b["inputs"][0].update(data=["x"]), "'hour' is a number"),
        (lambda b: b["inputs"][0].update(data=[1.0, 2.0]), "'hour' has 2 values"),
        (lambda b: b["inputs"][0].update(shape=[2], data=[1.0, 2.0]), "'distance' has 1 values"),
        (lambda b: b["inputs"][0].update(shape=[1, 2, 3]), "'hour' has the shape"),
        (lambda b: b["inputs"][0].update(datatype="FP99"), "'hour' has the datatype"),
        (lambda b: b["inputs"][0].update(data=[True]), "'hour' is a number"),
        (lambda b: b.update(inputs=[]), "no inputs"),
        (lambda b: b.update(inputs="x"), "cannot be read"),
        (lambda b: b.update(outputs=[{"name": "nope"}]), "no output 'nope'"),
    ],
)
def test_a_bad_body_is_refused_by_name(plane: Plane, change: Any, names: str) -> None:
    body = v2(features(1).iloc[0])
    change(body)
    answer = plane.http.post("/v2/models/flights/infer", json=body)
    assert answer.status_code == 400
    assert names in answer.json()["error"]


def test_what_is_no_json_is_refused(plane: Plane) -> None:
    for content in (b"", b"{", b"\xff\xfe", b"[1]", b"null"):
        answer = plane.http.post("/v2/models/flights/infer", content=content)
        assert answer.status_code == 400, content
    many = plane.http.post("/endpoints/flights/invocations", json={"inputs": [[1]], "instances": [[1]]})
    assert "exactly one" in many.json()["message"]


def test_addresses_hosts_and_origins(plane: Plane) -> None:
    http = plane.http
    assert http.post("/v2/models/nope/infer", json={}).status_code == 404
    assert http.get("/v2/models/flights/versions/99").status_code == 404
    assert http.get("/nothing").status_code == 404
    assert http.get("/v2/models/flights/infer").status_code == 405
    assert http.get("/health", headers={"host": "evil.example"}).status_code == 403
    crossed = http.post("/v2/models/flights/infer", json={}, headers={"origin": "http://evil.example"})
    assert crossed.status_code == 403
    assert http.get("/v2").json()["name"] == "noria"
    assert http.get("/v2/health/live").json() == {"live": True}
    described = http.get("/v2/models/flights").json()
    assert [i["name"] for i in described["inputs"]] == COLUMNS
    assert http.get("/v2/models/flights/ready").status_code == 200
    assert 'noria_requests_total{endpoint="flights"' in http.get("/metrics").text
    for header in ("x-noria-timeout-ms", "x-noria-event-at-ms"):
        assert http.post("/v2/models/flights/infer", json={}, headers={header: "soon"}).status_code == 400
    assert http.post("/v2/models/flights/infer", json={}, headers={"x-noria-key": "k" * 600}).status_code == 400


def test_what_is_answered_is_recorded(plane: Plane) -> None:
    given = features(3, seed=11)
    plane.deploy("recorded", "flights@1")
    headers = {"x-noria-key": "2013-01-01/EWR/UA1545", "x-noria-event-at-ms": "1357034400000"}
    answer = plane.http.post("/endpoints/recorded/invocations", json={"inputs": given.to_numpy().tolist()}, headers=headers)
    first = answer.headers["x-noria-prediction-id"]
    rows = plane.until(lambda: plane.rows("recorded"), "the record")
    assert [r["prediction_id"] for r in rows] == [first, f"{first}.1", f"{first}.2"]
    assert [r["in_backlog"] for r in rows] == given["backlog"].tolist()
    assert [r["prediction"] for r in rows] == answer.json()["predictions"]
    assert np.allclose([r["score"] for r in rows], fitted(0).predict_proba(given)[:, 1])
    assert {(r["key"], r["event_at_ms"], r["role"], r["model_version"]) for r in rows} == {
        ("2013-01-01/EWR/UA1545", 1357034400000, "champion", 1)
    }
    segment = plane.serving.segments.after(plane.op(), "recorded")[0]
    assert (segment.event_from_ms, segment.event_to_ms, segment.rows) == (1357034400000, 1357034400000, 3)


def test_truth_survives_the_death_of_the_recorder(plane: Plane) -> None:
    sent = []
    for i in range(30):
        if i == 10:
            plane.kill("recorder")
            threading.Timer(0.5, plane.start_process, ["recorder"]).start()
        key = f"truth-{i}"
        items = [{"key": key, "value": i % 2, "at_ms": 1000 + i}]
        taken = plane.http.post("/endpoints/flights/truth", json={"items": items}, headers={"x-noria-timeout-ms": "100000"})
        assert taken.status_code == 202
        sent.append(key)

    def kept() -> list[Any]:
        found = [r["key"] for r in plane.rows("flights", "truth") if r["key"].startswith("truth-")]
        return found if len(found) >= len(sent) else []

    assert sorted(plane.until(kept, "the truth")) == sorted(sent)


def test_truth_that_says_nothing_is_refused(plane: Plane) -> None:
    for items in (
        [],
        [{"value": 1}],
        [{"key": "a", "prediction_id": "b", "value": 1}],
        [{"key": "a"}],
        [{"key": "a", "value": []}],
    ):
        refused = plane.http.post("/endpoints/flights/truth", json={"items": items})
        assert refused.status_code == 400, items
    assert plane.http.post("/endpoints/nope/truth", json={"items": [{"key": "a", "value": 1}]}).status_code == 404


def test_a_killed_worker_loses_no_request(plane: Plane) -> None:
    plane.deploy("killed", "flights@1")
    with Load(plane, "/v2/models/killed/infer") as load:
        for _ in range(4):
            time.sleep(0.3)
            pid = plane.worker_pid("killed")
            os.kill(pid, signal.SIGKILL)
            plane.until(lambda was=pid: plane.worker_pid("killed") != was, "a new worker")
        time.sleep(0.3)
    assert set(load.statuses) == {200}
    assert load.statuses[200] > 50
    plane.until(
        lambda: set(load.answered) <= {r["prediction_id"] for r in plane.rows("killed")},
        "the record of every answer", timeout_s=20.0,
    )  # fmt: skip


def test_a_hot_swap_loses_no_request(plane: Plane) -> None:
    plane.deploy("swapped", "flights@1")
    with Load(plane, "/v2/models/swapped/infer") as load:
        time.sleep(0.3)
        plane.deploy("swapped", "flights@2")
        plane.until(lambda: load.models["flights@2"] > 10, "the new version")
        before = load.models["flights@1"]
        plane.serving.canaries.rollback(plane.op(), "swapped", "back again", to_previous=True)
        plane.until(lambda: load.models["flights@1"] > before + 10, "the old version")
    assert set(load.statuses) == {200}
    assert load.models["flights@1"] > 10 and load.models["flights@2"] > 10


def test_a_broken_model_keeps_the_old_route(plane: Plane) -> None:
    plane.deploy("careful", "flights@1")
    with pytest.raises(Invalid, match=r"flights@4 cannot be loaded: .*UnpicklingError") as failed:
        plane.deploy("careful", "flights@4")
    assert "Traceback" in failed.value.hint
    answer = plane.http.post("/v2/models/careful/infer", json=v2(features(1).iloc[0]))
    assert (answer.status_code, answer.headers["x-noria-model"]) == (200, "flights@1")


def test_a_canary_gets_its_share_and_keys_stay(plane: Plane) -> None:
    plane.deploy("tried", "flights@1")
    plane.serving.canaries.start(plane.op(), "tried", "flights@2", steps=[25, 50])
    plane.until(lambda: len(plane.serving.endpoint(plane.op(), "tried").routes) == 2, "the canary")
    body = v2(features(1).iloc[0])

    def ask(key: str) -> str:
        return str(
            plane.http.post("/v2/models/tried/infer", json=body, headers={"x-noria-key": key}).headers["x-noria-model"]
        )

    plane.until(lambda: "flights@2" in {ask(f"warm-{i}") for i in range(20)}, "the split")
    first = {f"key-{i}": ask(f"key-{i}") for i in range(400)}
    assert 60 <= Counter(first.values())["flights@2"] <= 140  # 100 expected; 4.6 sd
    assert all(ask(key) == model for key, model in list(first.items())[:50])
    plane.serving.canaries.advance(plane.op(), "tried")
    in_canary = [k for k, m in first.items() if m == "flights@2"]
    outside = [k for k, m in first.items() if m == "flights@1"][:40]
    plane.until(lambda: "flights@2" in {ask(k) for k in outside}, "the next step")
    assert {ask(k) for k in in_canary} == {"flights@2"}
    plane.serving.canaries.rollback(plane.op(), "tried", "enough")
    plane.until(lambda: {ask(k) for k in in_canary[:10]} == {"flights@1"}, "the way back")
    plane.until(lambda: {r["role"] for r in plane.rows("tried")} == {"champion", "canary"}, "the record")


def test_a_shadow_is_recorded_and_answers_nobody(plane: Plane) -> None:
    plane.deploy("shadowed", "flights@1")
    plane.serving.set_shadow(plane.op(), "shadowed", "flights@2")
    shadow = next(r for r in plane.serving.endpoint(plane.op(), "shadowed").routes if r.role == "shadow")
    plane.until(lambda: plane.serving.revision(plane.op(), shadow.revision_id).state == "ready", "the shadow")
    answers = [plane.http.post("/v2/models/shadowed/infer", json=v2(features(1).iloc[0])) for _ in range(10)]
    assert {a.headers["x-noria-model"] for a in answers} == {"flights@1"}
    asked = {a.headers["x-noria-prediction-id"] for a in answers}

    def shadows() -> set[str]:
        return {r["prediction_id"] for r in plane.rows("shadowed") if r["role"] == "shadow" and r["model_version"] == 2}

    plane.until(lambda: shadows() == asked, "the shadow's record")


def test_a_full_queue_says_so_and_a_deadline_holds(plane: Plane) -> None:
    plane.deploy("slow", "flights@3", config=RevisionConfig(max_in_flight=3, max_batch_rows=1))
    late = plane.http.post("/v2/models/slow/infer", json=v2(features(1).iloc[0]), headers={"x-noria-timeout-ms": "50"})
    assert late.status_code == 504 and "0.05 s" in late.json()["error"]
    with Load(plane, "/v2/models/slow/infer", callers=8) as load:
        time.sleep(1.0)
    assert set(load.statuses) == {200, 429}
    refused = None
    with Load(plane, "/v2/models/slow/infer", callers=4):
        time.sleep(0.2)
        for _ in range(20):
            refused = plane.http.post("/v2/models/slow/infer", json=v2(features(1).iloc[0]))
            if refused.status_code == 429:
                break
    assert refused is not None and refused.status_code == 429 and refused.headers["retry-after"] == "1"
    assert 'noria_requests_rejected_total{endpoint="slow"' in plane.http.get("/metrics").text


def test_it_serves_without_the_control_plane_even_after_a_restart(plane: Plane) -> None:
    plane.deploy("lonely", "flights@1")
    body = v2(features(1).iloc[0])
    plane.stop_control()
    try:
        assert plane.http.post("/v2/models/lonely/infer", json=body).status_code == 200
        plane.kill("node")
        plane.start_process("node")
        plane.until(lambda: plane._answers("/v2/health/ready"), "the gateway")
        answer = plane.http.post("/v2/models/lonely/infer", json=body, headers={"x-noria-timeout-ms": "100000"})
        assert answer.status_code == 200
    finally:
        plane.start_control()
    first = answer.headers["x-noria-prediction-id"]
    plane.until(lambda: first in {r["prediction_id"] for r in plane.rows("lonely")}, "the record")
    detail = plane.until(
        lambda: list(plane.serving.traffic.series(
            plane.op(), "lonely", from_ms=0, to_ms=1 << 42, step_s=1 << 30).by_revision.values()), "the traffic"
    )  # fmt: skip
    assert sum(detail[0].count) >= 1  # what was counted before the kill -9 is gone; it is no fact


def test_with_accounts_a_token_is_needed(plane: Plane) -> None:
    from noria.access.model import Grant, NewPrincipal, TokenRequest

    access, op = plane.app.access, plane.op()
    access.create_principal(op, NewPrincipal(name="root", kind="user", roles=["admin"], password="correct horse battery"))
    access.create_principal(op, NewPrincipal(name="robot", kind="service", roles=[]))
    access.grant(op, Grant(principal="robot", role="predictor", scope="endpoint:flights"))
    secret = access.create_token(op, TokenRequest(name="t", principal="robot")).secret
    body = v2(features(1).iloc[0])

    def ask(name: str = "flights", **headers: str) -> int:
        return plane.http.post(f"/v2/models/{name}/infer", json=body, headers=headers).status_code

    plane.until(lambda: ask() == 401, "the lock")
    signed = {"authorization": f"Bearer {secret}"}
    plane.until(lambda: ask(**signed) == 200, "the key")
    assert ask("killed", **signed) == 403
    assert ask(authorization="Bearer nrk_nonsense") == 401
    truth = plane.http.post("/endpoints/flights/truth", json={"items": [{"key": "a", "value": 1}]}, headers=signed)
    assert truth.status_code == 202
    access.disable_principal(op, "robot")
    plane.until(lambda: ask(**signed) == 401, "the new lock")
