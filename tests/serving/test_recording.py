"""What of an answer is written: samples, and columns that are dropped, masked or hashed before they reach a disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from noria.kernel.clock import ManualClock
from noria.serving.frames import Block
from noria.serving.model import Recording, RecordingPolicy
from noria.serving.recording import LOOK_S, MASKED, Policies, hashed, is_kept, recorded
from noria.serving.segments import inference_table, truth_table
from tests.serving.conftest import COLUMNS, Plane, features


def block_of(n: int = 4, *, as_matrix: bool = True) -> tuple[Block, bytes]:
    names = [("temp", "number"), ("legs", "integer"), ("name", "text")]
    matrix = np.arange(2 * n, dtype=np.float64).reshape(n, 2)
    matrix[1, 0] = np.nan
    arrays: list[tuple[str, Any]] = [("prediction", np.arange(n, dtype=float)), ("probability", np.ones((n, 3)))]
    values: list[list[object]] = [matrix[:, 0].tolist(), [int(v) for v in matrix[:, 1]], ["ada", None, "bob", "ada"][:n]]
    if as_matrix:
        arrays.insert(0, ("features", matrix))
    block = Block(
        kind="inference", source="s", seq=1, endpoint="e", revision_id="r", model="m", model_version=1, rows=n,
        ids=[f"p{i}" for i in range(n)], at_ms=[1] * n, event_at_ms=[1] * n, keys=["k", None, "k", "j"][:n], roles=["champion"] * n,
        latency_ms=[1.0] * n, status=[200] * n, features=names[:2] if as_matrix else names, values=[] if as_matrix else values,
        layout=[(name, n, 1 if a.ndim == 1 else a.shape[1]) for name, a in arrays],
    )  # fmt: skip
    return block, b"".join(a.tobytes() for _, a in arrays)


def written(block: Block, body: bytes, **recording: Any) -> list[dict[str, Any]]:
    found = recorded(block, body, RecordingPolicy(endpoint="e", recording=Recording(**recording), salt="salt"))
    return [] if found is None else inference_table([found]).to_pylist()


@pytest.mark.parametrize("as_matrix", [True, False])
def test_columns_are_dropped_masked_and_hashed(as_matrix: bool) -> None:
    given = block_of(as_matrix=as_matrix)
    plain = inference_table([given]).to_pylist()
    rows = written(*given, columns={"temp": "hash", "legs": "mask"})
    assert [r["in_temp"] for r in rows] == [hashed(0.0, "salt"), None, hashed(4.0, "salt"), hashed(6, "salt")]
    assert {r["in_legs"] for r in rows} == {MASKED}
    assert [(r["prediction"], r["probability"]) for r in rows] == [(r["prediction"], r["probability"]) for r in plain]
    rows = written(*given, columns={"temp": "drop"})
    assert "in_temp" not in rows[0]
    assert [r["in_legs"] for r in rows] == [r["in_legs"] for r in plain]
    assert not [n for n in written(*given, inputs="none")[0] if n.startswith("in_")]
    if not as_matrix:
        names = [r["in_name"] for r in written(*given, columns={"name": "hash"})]
        assert names[0] == names[3] != names[2]
        assert (names[1], len(names[0])) == (None, 32)


def test_a_sample_is_the_same_share_of_everything_and_of_shadows() -> None:
    ids = [f"{i:032x}" for i in range(20_000)]
    kept = [i for i in ids if is_kept(i, 0.25)]
    assert abs(len(kept) / len(ids) - 0.25) < 0.02
    assert set(kept) <= {i for i in ids if is_kept(i, 0.5)}
    assert all(is_kept(f"{i}.7", 0.25) for i in kept), "rows of one request stay together"
    block, body = block_of()
    share = next(s / 100 for s in range(1, 100) if 0 < sum(is_kept(p, s / 100) for p in block.ids) < 4)
    wanted = [p for p in block.ids if is_kept(p, share)]
    rows = written(block, body, sample=share)
    assert [r["prediction_id"] for r in rows] == wanted
    plain = {r["prediction_id"]: r for r in inference_table([(block, body)]).to_pylist()}
    assert rows == [plain[p] for p in wanted]
    assert written(block, body, sample=1e-9) == []


def test_keys_of_answers_and_truth_are_hashed_alike() -> None:
    rows = written(*block_of(), key="hash")
    body = msgspec.json.encode({"items": [{"key": "k", "value": 1}, {"prediction_id": "p", "value": 0.5}]})
    policy = RecordingPolicy(endpoint="e", recording=Recording(key="hash"), salt="salt")
    found = recorded(Block(kind="truth", source="s", seq=1, endpoint="e", rows=2, at_ms=[5]), body, policy)
    assert found is not None
    truths = truth_table([found]).to_pylist()
    assert truths[0]["key"] == rows[0]["key"] == hashed("k", "salt") != hashed("k", "other")
    assert (rows[1]["key"], truths[1]["key"], truths[1]["value"]) == (None, None, 0.5)


def test_large_integers_have_hashes_of_their_own() -> None:
    assert hashed(2**53 + 1, "s") != hashed(2**53, "s")
    assert hashed(1, "s") == hashed(1.0, "s") == hashed(True, "s") != hashed(1.5, "s")


def test_policies_are_read_again_when_they_change_and_without_them_no_input_is_written(tmp_path: Path) -> None:
    clock, path = ManualClock(1_000_000), tmp_path / "serving" / "desired.json"
    path.parent.mkdir()
    policies = Policies(tmp_path, clock)
    unknown = policies.of("e")
    assert unknown is not None, "before the node was told anything"
    found = recorded(*block_of(), unknown)
    assert found is not None
    rows = inference_table([found]).to_pylist()
    assert not [n for n in rows[0] if n.startswith("in_")]
    assert not {r["key"] for r in rows} & {"k", "j", hashed("k", ""), hashed("k", "salt")}
    path.write_bytes(msgspec.json.encode({"recordings": [{"endpoint": "e", "recording": {"sample": 0.5}, "salt": "s"}]}))
    clock.advance(LOOK_S)
    known = policies.of("e")
    assert known is not None
    assert known.recording.sample == 0.5
    path.write_bytes(b"{ torn")
    clock.advance(LOOK_S)
    other = policies.of("other")
    assert other is not None
    assert other.recording.inputs == "none"
    assert policies.of("e") == known, "what is known stays"
    path.write_bytes(msgspec.json.encode({"recordings": []}))
    clock.advance(LOOK_S)
    assert policies.of("other") is None


def test_through_real_processes_nothing_secret_reaches_the_disk(plane: Plane, models: dict[str, Path]) -> None:
    version = plane.registry.add("secretive", models["one"])
    wanted = Recording(columns={"temp": "hash", "precip": "drop", "visib": "mask"}, key="hash")
    plane.serving.recordings.change(plane.op(), "private", wanted)
    plane.deploy("private", f"secretive@{version.number}")
    given = features(3, seed=5)
    plane.http.post(
        "/endpoints/private/invocations",
        json={"inputs": given.to_numpy().tolist()},
        headers={"x-noria-key": "ada@example.org"},
    ).raise_for_status()
    rows = plane.until(lambda: plane.rows("private"), "the record")
    assert [r["in_hour"] for r in rows] == given["hour"].tolist()
    assert "in_precip" not in rows[0]
    assert {r["in_visib"] for r in rows} == {MASKED}
    assert len({r["in_temp"] for r in rows}) == 3
    assert {len(r["key"]) for r in rows} == {32}
    assert len(COLUMNS) == 7
    records = [p for p in (plane.config.home / "serving" / "records").rglob("*") if p.is_file()]
    assert all(b"ada@example.org" not in p.read_bytes() for p in records)
