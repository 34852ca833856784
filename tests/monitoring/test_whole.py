"""The slices together: serving's own canary is judged, rolled back and promoted; a prediction has its passport."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from noria.datasets.model import FileEntry
from noria.kernel.ids import Ref
from noria.registry.model import ModelVersion
from noria.serving.model import Guard, Replica, ReplicaReport, SegmentInfo
from tests.conftest import Noria
from tests.monitoring.given import DAY, HOUR, inference_bytes, truth_bytes
from tests.registry.conftest import given_run, given_version, tracking

__all__ = ["given_run", "given_version", "tracking"]


def say_ready(noria: Noria) -> None:
    """A node reports every revision that it must run."""
    desired = noria.app.serving.nodes.desired(noria.system())
    replicas = [Replica(node="n1", revision_id=r.id, state="ready", pid=7) for r in desired.revisions]
    noria.app.serving.nodes.report(
        noria.system(), ReplicaReport(node="n1", generation=desired.generation, replicas=replicas)
    )


def register(noria: Noria, kind: Any, data: bytes, rows: int, revision: str = "") -> None:
    """A recorder registers a segment."""
    info = SegmentInfo(
        endpoint="flights", kind=kind, digest=noria.app.blobs.put(data).digest, rows=rows, event_from_ms=0, event_to_ms=1, at_ms=1,
        revision_id=revision,
    )  # fmt: skip
    noria.app.serving.segments.add(noria.system(), info)


def traffic(noria: Noria, rng: Any, n: int, *, day: int, is_bad: bool) -> list[str]:
    """`n` answers, split as the routes say, with their truths; returns the prediction ids."""
    routes = noria.app.serving.endpoint(noria.system(), "flights").routes
    chance = rng.beta(1.5, 3, n)
    late, draw = rng.random(n) < chance, rng.random(n) * 100
    ids, upto = [f"{day}x{i}" for i in range(n)], 0
    for route in routes:
        mine = np.flatnonzero((draw >= upto) & (draw < upto + route.weight)).tolist()
        upto += route.weight
        flips = is_bad and route.role == "canary"
        rows = [
            {"id": ids[i], "key": f"k{day}-{i}", "event_at_ms": day * DAY + i * 1000, "at_ms": noria.clock.now_ms(), "in_hour": 7.5,
             "score": float(1 - chance[i] if flips else chance[i])}
            for i in mine
        ]  # fmt: skip
        if rows:
            data = inference_bytes(rows, revision=route.revision_id, version=route.model_version)
            register(noria, "inference", data, len(rows), route.revision_id)
    known = [{"key": f"k{day}-{i}", "value": float(late[i]), "at_ms": day * DAY + HOUR + i * 1000} for i in range(n)]
    register(noria, "truth", truth_bytes(known), n)
    noria.clock.advance(60)
    noria.settle()
    return ids


@pytest.fixture
def flights(noria: Noria, given_version: Callable[..., ModelVersion]) -> list[ModelVersion]:
    """Two versions of flights; the first answers."""
    versions = [given_version(), given_version(**{"model.pkl": pickle.dumps("another")})]
    noria.app.serving.deploy(noria.op(), "flights", "flights@1")
    say_ready(noria)
    return versions


def test_a_bad_version_is_rolled_back_and_a_good_one_promoted(noria: Noria, flights: list[ModelVersion]) -> None:
    rng = np.random.default_rng(3)
    for is_bad, ending in ((True, "canary.rolled_back"), (False, "canary.promoted")):
        noria.app.serving.canaries.start(
            noria.op(), "flights", "flights@2", steps=[25, 50], guard=Guard(min_labels=60, max_worse=0.02)
        )
        say_ready(noria)
        for day in range(10 if is_bad else 30, 50):
            traffic(noria, rng, 200, day=day, is_bad=is_bad)
            if noria.app.serving.canaries.current(noria.op(), "flights") is None:
                break
        found = noria.facts(ending)
        assert len(found) == 1, [f.kind for f in noria.facts() if f.kind.startswith("canary")]
        assert found[0].data["evidence"]["words"]
        assert found[0].cause == noria.facts("truth.written")[-1].seq
        looks = noria.http.get("/api/v1/endpoints/flights/canary/evidence").json()["items"]
        assert looks[-1]["canary_id"] == found[0].data["canary"]
    routes = noria.app.serving.endpoint(noria.op(), "flights").routes
    assert [(r.model_version, r.weight) for r in routes] == [(2, 100), (1, 0)]


def test_a_prediction_has_a_passport(noria: Noria, flights: list[ModelVersion]) -> None:
    rng = np.random.default_rng(4)
    made = noria.http.post("/api/v1/monitors", json={
        "name": "calibration", "endpoint": "flights", "metric": "calibration_gap", "limit": 0.2, "min_count": 20,
    })  # fmt: skip
    assert made.status_code == 201
    subject = Ref("model_version", flights[0].id)
    asked = noria.app.approvals.request(noria.system(), subject, "endpoint.deploy", flights[0].digest)
    noria.as_("cleo", "approver").post(f"/api/v1/approvals/{asked.id}/approve", json={}).raise_for_status()
    ids = traffic(noria, rng, 40, day=10, is_bad=False)
    traffic(noria, rng, 1, day=11, is_bad=False)
    found = noria.http.get(f"/api/v1/passports/{ids[0]}")
    assert found.status_code == 200, found.text
    passport = found.json()
    assert passport["prediction"]["inputs"] == {"hour": 7.5}
    assert passport["prediction"]["truth"] in ("0", "1")
    assert passport["model_version_id"] == flights[0].id
    assert passport["model_version"]["ref"] == f"model_version:{flights[0].id}"
    assert passport["revision"]["model_version"] == 1
    assert passport["deployed_by"] == "user:ada"
    assert [(a["kind"], a["data"]["about"]) for a in passport["approvals"]] == [("approval.granted", str(subject))]
    assert next(f["kind"] for f in passport["facts"]) == "model_version.created"
    assert "revision.ready" in [f["kind"] for f in passport["facts"]]
    assert [(m["name"], m["window"]["verdict"]) for m in passport["monitors_then"]] == [("calibration", "within")]
    assert passport["alerts_then"] == []
    assert noria.http.get("/api/v1/passports/nope").status_code == 404

    # An auditor is told which model it was and who let it answer, not what was asked and said.
    audited = noria.as_("olga", "auditor").get(f"/api/v1/passports/{ids[0]}")
    assert audited.status_code == 200, audited.text
    told = audited.json()
    assert told["model_version"] == passport["model_version"] and told["facts"] == passport["facts"]
    contents = ("key", "score", "prediction", "inputs", "output", "truth", "truth_at_ms")
    assert {k: v for k, v in told["prediction"].items() if k in contents} == dict.fromkeys(contents) | {"key": ""}
    assert told["prediction"]["at_ms"] == passport["prediction"]["at_ms"]
    assert noria.as_("robot", "predictor").get(f"/api/v1/passports/{ids[0]}").status_code == 403
    assert noria.as_("gus", "auditor").get(f"/api/v1/inferences/{ids[0]}").status_code == 403


@pytest.mark.parametrize("reference", ["dataset:january@1", "model:flights@1"])
def test_drift_from_what_a_model_was_trained_on(noria: Noria, flights: list[ModelVersion], reference: str) -> None:
    info = noria.app.blobs.put(b"hour,origin\n" + b"".join(f"{h % 24},EWR\n".encode() for h in range(480)))
    entry = FileEntry(path="flights.csv", size_bytes=info.size_bytes, digest=info.digest)
    version = noria.app.datasets.commit(noria.op(), "january", [entry])
    with noria.app.db.write(noria.op()) as tx:
        tx.link(flights[0].ref, "trained_on", Ref("dataset_version", version.id))
    made = noria.http.post("/api/v1/monitors", json={
        "name": "hours", "endpoint": "flights", "metric": "psi", "limit": 0.25, "columns": ["hour"], "reference": reference,
        "min_count": 20,
    })  # fmt: skip
    assert made.status_code == 201, made.text
    traffic(noria, np.random.default_rng(4), 40, day=10, is_bad=False)  # every hour is 7.5
    traffic(noria, np.random.default_rng(4), 1, day=11, is_bad=False)
    [window] = noria.http.get("/api/v1/monitors/hours/windows").json()["items"]
    assert (window["verdict"], window["findings"][0]["reference_count"]) == ("over", 480)
