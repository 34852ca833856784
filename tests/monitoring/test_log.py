"""The prediction log: small segments become files, answers are found wherever they lie, retention deletes and says so."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from pyarrow import parquet

from noria.kernel.collector import GRACE_S
from noria.kernel.crash import Crashed, arm, disarm
from noria.kernel.errors import Conflict
from noria.monitoring import log_keeper
from noria.monitoring.log_keeper import UNFINISHED_MS, LogKeeper, due
from noria.monitoring.model import LogFile
from noria.serving.model import Recording, SegmentInfo
from tests.conftest import Noria
from tests.monitoring.given import DAY, HOUR, inference_bytes, rows_of, truth_bytes

T = 100 * DAY


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    disarm()


def sealed(noria: Noria, data: bytes, rows: list[dict[str, Any]], kind: str = "inference", revision: str = "r1") -> str:
    """Register a segment as the recorder does; returns its digest."""
    digest = noria.app.blobs.put(data).digest
    times = [r["at_ms" if kind == "truth" else "event_at_ms"] for r in rows]
    noria.app.serving.segments.add(noria.system(), SegmentInfo(
        endpoint="flights", kind=kind, digest=digest, rows=len(rows), event_from_ms=min(times), event_to_ms=max(times),  # type: ignore[arg-type]
        at_ms=noria.clock.now_ms(), revision_id=revision if kind == "inference" else "", size_bytes=len(data),
    ))  # fmt: skip
    noria.settle()
    return digest


def answered(noria: Noria, start: int, n: int = 3, revision: str = "r1", **fields: Any) -> str:
    rows = [
        {"id": f"p{start + i}", "event_at_ms": T + start + i, "key": f"k{start + i}", "score": 0.5, "in_temp": float(start + i), **fields}
        for i in range(n)
    ]  # fmt: skip
    return sealed(noria, inference_bytes(rows, revision=revision), rows, revision=revision)


def keeper(noria: Noria) -> LogKeeper:
    return noria.app.monitoring.log_keeper


def files(noria: Noria) -> list[LogFile]:
    return noria.app.monitoring.queries.files(noria.system(), "flights").items


def temp_of(noria: Noria, prediction_id: str) -> Any:
    return noria.http.get(f"/api/v1/inferences/{prediction_id}").json()["inputs"]["temp"]


def test_segments_of_a_past_hour_become_one_file(noria: Noria) -> None:
    digests = [answered(noria, 0), answered(noria, 3), answered(noria, 6, revision="r2")]
    assert keeper(noria).compact() == 0, "the hour is not over"
    noria.clock.advance(3600)
    assert keeper(noria).compact() == 3
    assert sorted((f.revision_id, f.rows) for f in files(noria)) == [("r1", 6), ("r2", 3)]
    assert [temp_of(noria, f"p{i}") for i in range(9)] == [float(i) for i in range(9)]
    one = next(f for f in files(noria) if f.revision_id == "r1")
    table = parquet.read_table(io.BytesIO(noria.app.blobs.get(one.digest)))
    assert table.column("prediction_id").to_pylist() == [f"p{i}" for i in range(6)]
    assert noria.http.get("/api/v1/endpoints/flights/segments").json()["items"] == []
    assert noria.facts("log.compacted")[0].data == {"endpoint": "flights", "segments": 3, "files": 2, "rows": 9}
    noria.clock.advance(GRACE_S + 1)
    noria.app.collector.reconcile()
    assert [noria.app.blobs.has(d) for d in digests] == [False] * 3, "their own bytes are given up"
    assert temp_of(noria, "p4") == 4.0
    assert keeper(noria).compact() == 0


def test_what_reads_rows_reads_files_too(noria: Noria) -> None:
    for i in range(4):
        answered(noria, 50 * i, n=50, prediction=float(i % 2))
    truths = [{"id": f"p{i}", "value": 1.0, "at_ms": T + HOUR} for i in range(200)]
    sealed(noria, truth_bytes(truths), truths, kind="truth")
    before = noria.http.get("/api/v1/endpoints/flights/slices?column=temp&metric=accuracy").json()
    keeper(noria).compact(everything=True)
    assert {f.kind for f in files(noria)} == {"inference", "truth"}
    assert before["items"]
    assert noria.http.get("/api/v1/endpoints/flights/slices?column=temp&metric=accuracy").json() == before
    made = {
        "name": "fine", "endpoint": "flights", "metric": "null_share", "columns": ["temp"], "limit": 0.5, "window_s": 60,
        "min_count": 1,
    }  # fmt: skip
    assert noria.http.post("/api/v1/monitors", json=made).status_code == 201, "finer sketches are made from files"


@pytest.mark.parametrize("point", ["log.noted", "log.stored"])
def test_a_crash_while_a_file_is_made_loses_nothing_and_leaves_nothing(noria: Noria, point: str) -> None:
    answered(noria, 0)
    arm(point)
    with pytest.raises(Crashed):
        keeper(noria).compact(everything=True)
    answered(noria, 3)  # so that the next try makes another file
    (left,) = rows_of(noria, "select digest from log_file where state = 'making'")
    assert temp_of(noria, "p0") == 0.0
    noria.clock.advance(UNFINISHED_MS / 1000 + 1)
    keeper(noria).reconcile()
    keeper(noria).compact(everything=True)
    assert [f.rows for f in files(noria)] == [6]
    noria.clock.advance(GRACE_S + 1)
    noria.app.collector.reconcile()
    assert not noria.app.blobs.has(left["digest"])
    assert [temp_of(noria, f"p{i}") for i in range(6)] == [float(i) for i in range(6)]


def test_a_segment_whose_bytes_are_gone_does_not_hold_up_the_rest(noria: Noria) -> None:
    gone = answered(noria, 0)
    answered(noria, 3)
    noria.app.blobs.delete(gone)
    keeper(noria).compact(everything=True)
    assert [f.rows for f in files(noria)] == [3]
    assert noria.http.get("/api/v1/inferences/p0").json()["inputs"] is None
    assert keeper(noria).compact(everything=True) == 0


def test_days_are_kept_and_what_is_older_goes_with_its_truth(noria: Noria) -> None:
    answered(noria, 0)
    truths = [{"id": "p0", "value": 1.0, "at_ms": T + 9}, {"key": "k1", "value": 1.0, "at_ms": T + 9}]
    sealed(noria, truth_bytes(truths), truths, kind="truth")
    noria.clock.advance(3 * 86_400)
    answered(noria, 3)
    assert noria.http.put("/api/v1/endpoints/flights/recording", json={"keep_days": 2}).status_code == 200
    keeper(noria).compact(everything=True)
    assert keeper(noria).delete_old() == 2
    assert [f.rows for f in files(noria)] == [3]
    assert noria.http.get("/api/v1/inferences/p0").status_code == 404
    assert temp_of(noria, "p4") == 4.0
    assert rows_of(noria, "select name from truth") == []
    facts = {f.data["log"]: f.data for f in noria.facts("log.deleted")}
    assert facts["inference"]["rows"] == 3
    assert facts["inference"]["reason"] == "arrived more than 2 days ago"
    noria.clock.advance(GRACE_S + 1)
    noria.app.collector.reconcile()
    assert not noria.app.blobs.has(facts["inference"]["digest"])


def test_truth_of_a_key_that_answers_again_stays(noria: Noria) -> None:
    rows = [{"id": "old", "event_at_ms": T, "key": "k", "score": 0.5}]
    sealed(noria, inference_bytes(rows), rows)
    noria.clock.advance(3 * 86_400)
    rows = [{"id": "new", "event_at_ms": T + 5, "key": "k", "score": 0.5}]
    sealed(noria, inference_bytes(rows), rows)
    truths = [{"key": "k", "value": 1.0, "at_ms": T + 9}]
    sealed(noria, truth_bytes(truths), truths, kind="truth")
    noria.http.put("/api/v1/endpoints/flights/recording", json={"keep_days": 2})
    keeper(noria).compact(everything=True)
    keeper(noria).delete_old()
    assert [r["prediction_id"] for r in rows_of(noria, "select prediction_id from inference")] == ["new"]
    assert len(rows_of(noria, "select name from truth")) == 1


def test_only_the_latest_rows_are_kept(noria: Noria) -> None:
    for i in range(4):
        answered(noria, 3 * i)
        keeper(noria).compact(everything=True)
        noria.clock.advance(3600)
    noria.http.put("/api/v1/endpoints/flights/recording", json={"keep_rows": 5})
    keeper(noria).delete_old()
    assert sum(f.rows for f in files(noria)) == 6, "whole files: the least that is not below 5"


def test_truth_in_plenty_does_not_keep_old_answers(noria: Noria, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_keeper, "FILES_PER_TURN", 2)
    answered(noria, 0)
    for i in range(3):
        truths = [{"id": f"p{i}", "value": 1.0, "at_ms": T + 9}]
        sealed(noria, truth_bytes(truths), truths, kind="truth")
        keeper(noria).compact(everything=True)
        noria.clock.advance(3600)
    for i in range(1, 5):
        answered(noria, 3 * i)
        keeper(noria).compact(everything=True)
        noria.clock.advance(3600)
    noria.http.put("/api/v1/endpoints/flights/recording", json={"keep_rows": 6})
    keeper(noria).delete_old()
    assert [(f.kind, f.rows) for f in files(noria)] == [("inference", 3)] * 2, "truth goes with its answers"
    assert {f.data["log"] for f in noria.facts("log.deleted")} == {"inference", "truth"}


def test_a_hold_keeps_everything(noria: Noria) -> None:
    answered(noria, 0)
    keeper(noria).compact(everything=True)
    noria.clock.advance(10 * 86_400)
    held = {"keep_days": 1, "hold": "case 4711"}
    assert noria.http.put("/api/v1/endpoints/flights/recording", json=held).json()["hold"] == "case 4711"
    assert keeper(noria).delete_old() == 0
    with pytest.raises(Conflict, match="on hold"):
        keeper(noria)._delete(files(noria)[0], "a keeper that had looked before")
    noria.http.put("/api/v1/endpoints/flights/recording", json={**held, "hold": ""})
    assert keeper(noria).delete_old() == 1
    assert [f.data["hold"] for f in noria.facts("recording.changed")] == ["case 4711", ""]


def test_a_legal_hold_on_the_endpoint_keeps_everything_too(noria: Noria) -> None:
    answered(noria, 0)
    keeper(noria).compact(everything=True)
    noria.clock.advance(10 * 86_400)
    noria.http.put("/api/v1/endpoints/flights/recording", json={"keep_days": 1})
    with noria.app.db.system_write() as tx:
        tx.run(
            """insert into endpoint (name, model, generation, routes, pending_revision_id, status, created_at_ms, updated_at_ms,
                                     is_deleted) values ('flights', 'flights', 1, '[]', '', '{}', 1, 1, true)"""
        )
    held = noria.http.post("/api/v1/legal-holds", json={"subject": "endpoint:flights", "reason": "case 2026-17, the court"})
    assert held.status_code == 201, held.text
    assert keeper(noria).delete_old() == 0
    with pytest.raises(Conflict, match="legal_hold:"):
        keeper(noria)._delete(files(noria)[0], "a keeper that had looked before")
    released = noria.http.post(f"/api/v1/legal-holds/{held.json()['id']}/release", json={"reason": "the case was closed"})
    assert released.status_code < 300, released.text
    assert keeper(noria).delete_old() == 1


def test_what_deletes_needs_the_right_to_delete(noria: Noria) -> None:
    deployer = noria.as_("dee", "deployer")
    assert deployer.put("/api/v1/endpoints/flights/recording", json={"sample": 0.5}).status_code == 200
    refused = deployer.put("/api/v1/endpoints/flights/recording", json={"sample": 0.5, "keep_days": 1})
    assert refused.status_code == 403
    assert noria.http.get("/api/v1/endpoints/flights/recording").json()["keep_days"] is None


@pytest.mark.parametrize(
    "policy",
    [{"sample": 0}, {"sample": 1.1}, {"keep_days": 0.01}, {"keep_rows": 0}, {"columns": {"a": "burn"}}, {"smaple": 1}],
)
def test_a_policy_that_means_nothing_is_refused(noria: Noria, policy: dict[str, Any]) -> None:
    assert noria.http.put("/api/v1/endpoints/flights/recording", json=policy).status_code == 400


def test_which_files_may_go() -> None:
    made = [
        LogFile(
            id=str(i), endpoint="e", kind="truth" if i == 1 else "inference", revision_id="r", digest="d", rows=10, size_bytes=1,
            event_from_ms=0, event_to_ms=0, from_ms=i * DAY, to_ms=i * DAY,
        )
        for i in range(4)
    ]  # fmt: skip
    answers, truths = [f for f in made if f.kind == "inference"], [f for f in made if f.kind == "truth"]

    def gone(rows: int = 30, **policy: Any) -> list[str]:
        return [f.id for f, _ in due(answers, truths, Recording(**policy), now_ms=4 * DAY, rows=rows)]

    assert gone(keep_days=2) == ["0", "1"]
    assert gone(keep_rows=20) == ["0", "1"], "truth that came before the answers that are left"
    assert gone(keep_rows=21) == []
    answers[0] = msgspec.structs.replace(answers[0], rows=30)
    assert gone(rows=50, keep_rows=25) == [], "newer answers do not go before older ones"
