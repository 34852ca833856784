"""The matrix of drift, through the door; columns together; which column explains the loss; the peers' numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from noria.datasets.model import FileEntry
from noria.kernel.ids import Ref
from noria.monitoring.comparison import distance
from noria.monitoring.metrics import METRICS
from noria.monitoring.reconstruction import Sample, reconstruct, shape_of
from noria.monitoring.significance import chi2_test
from noria.monitoring.sketches import align, sketch_column
from noria.registry.model import ModelVersion
from tests.conftest import Noria
from tests.monitoring.given import DAY, HOUR, answers, spec, truths
from tests.monitoring.peers.cases import table
from tests.registry.conftest import given_run, given_version, tracking

__all__ = ["given_run", "given_version", "tracking"]
NANNYML = json.loads((Path(__file__).parent / "peers" / "nannyml.json").read_text())
N = 600


def a_day(noria: Noria, day: int, *, is_drifted: bool = False, of: int = N, version: int = 1) -> list[dict[str, Any]]:
    """A day of answers; drifted: warmer, a carrier nobody knew, a delay out of range, a word where a number was."""
    rng = np.random.default_rng(day)
    rows = []
    for i in range(of):
        temp = rng.normal(50, 8) + (12 if is_drifted else 0)
        rows.append({
            "id": f"v{version}d{day}-{i}", "event_at_ms": day * DAY + i * 60_000, "in_temp": temp, "in_hour": float(i % 24),
            "in_carrier": "ZZ" if is_drifted and i % 10 == 0 else ("UA", "AA", "DL")[i % 3],
            "in_seats": "many" if is_drifted and i % 5 == 0 else "150", "in_delay": 500.0 if is_drifted and i % 20 == 0 else float(i % 60),
            "score": 0.5, "prediction": float(i % 2),
        })  # fmt: skip
    answers(noria, rows, revision=f"r{version}", version=version)
    return rows


def drift(noria: Noria, **query: Any) -> list[dict[str, Any]]:
    found = noria.http.get("/api/v1/endpoints/flights/drift", params=query)
    assert found.status_code == 200, found.text
    items: list[dict[str, Any]] = found.json()["items"]
    return items


def test_the_matrix_names_the_columns_that_drifted_and_what_is_wrong_with_them(noria: Noria) -> None:
    a_day(noria, 10)
    a_day(noria, 11)
    a_day(noria, 12, is_drifted=True)
    [now, before] = drift(noria, reference=f"traffic:{10 * DAY}-{11 * DAY}", windows=2)
    assert (before["drifted"], now["start_ms"], before["start_ms"]) == ([], 12 * DAY, 11 * DAY)
    assert sorted(now["drifted"]) == ["carrier", "seats", "temp"]  # 30 large delays move no share
    columns = {c["column"]: c for c in now["columns"]}
    assert columns["carrier"]["new_categories"] == pytest.approx(0.1)
    assert columns["carrier"]["l_infinity"] == pytest.approx(0.1)
    assert columns["delay"]["out_of_range"] == pytest.approx(0.05)
    assert columns["temp"]["reference_mean"] == pytest.approx(50, abs=1)
    assert columns["temp"]["mean"] == pytest.approx(62, abs=1)
    assert columns["temp"]["wasserstein"] == pytest.approx(1.5, abs=0.15)
    assert columns["hour"]["is_drifted"] is False
    assert "@score" in columns
    assert "@prediction" in columns
    assert now["reference_count"] == N


def test_each_version_is_compared_with_what_it_was_trained_on(
    noria: Noria, given_version: Callable[..., ModelVersion]
) -> None:
    """Training/serving skew: the default reference is the data of the version that answers."""
    versions = [given_version(), given_version(**{"model.pkl": b"another"})]
    for version, shift in zip(versions, (0, 20), strict=True):
        rng = np.random.default_rng(5)
        text = "temp,hour\n" + "".join(f"{rng.normal(50 + shift, 8)},{h % 24}\n" for h in range(2000))
        info = noria.app.blobs.put(text.encode())
        entry = FileEntry(path="flights.csv", size_bytes=info.size_bytes, digest=info.digest)
        dataset = noria.app.datasets.commit(noria.op(), f"data{shift}", [entry])
        with noria.app.db.write(noria.op()) as tx:
            tx.link(version.ref, "trained_on", Ref("dataset_version", dataset.id))
    a_day(noria, 10)
    a_day(noria, 10, version=2)
    found = {w["model_version"]: w for w in drift(noria, by="version")}
    assert found["flights@1"]["drifted"] == []
    assert found["flights@2"]["drifted"] == ["temp"]
    assert found["flights@2"]["reference"].startswith("dataset_version:")
    assert found["flights@2"]["together"]["rows"] == N
    assert [w["drifted"] for w in drift(noria, by="version", reference="dataset:data0@1")] == [[], []]


def test_a_reference_that_is_not_there_is_said(noria: Noria) -> None:
    assert drift(noria) == []
    a_day(noria, 10)
    for query, where in (
        ("", "reference"), ("reference=moon", "reference"), ("reference=traffic:0-5", "reference"), ("by=moon", "by"),
        ("window_s=61", "window_s"), ("windows=61", "windows"), ("alpha=0", "alpha"), ("reference=traffic:5-1", "reference"),
        (f"window_s=1800&reference=traffic:{10 * DAY}-{11 * DAY}", "window_s"),
    ):  # fmt: skip
        refused = noria.http.get(f"/api/v1/endpoints/flights/drift?{query}")
        assert (refused.status_code, refused.json()["error"].get("where")) == (400, where), query
    assert noria.http.get("/api/v1/endpoints/flights/drift?reference=dataset:nope@1").status_code == 404
    assert noria.as_("eve").get("/api/v1/endpoints/flights/drift").status_code in (403, 404)


def test_the_column_that_carries_the_loss_is_named(noria: Noria) -> None:
    """Both columns move alike, but answers are wrong only where it is warm: temp explains the loss, wind does not."""

    def day(number: int, shift: float) -> list[dict[str, Any]]:
        rng = np.random.default_rng(number)
        rows = [
            {"id": f"{number}-{i}", "event_at_ms": number * DAY + i, "in_temp": rng.normal(50 + shift, 10),
             "in_wind": rng.normal(50 + shift, 10), "score": 0.0}
            for i in range(2000)
        ]  # fmt: skip
        answers(noria, rows)
        truths(noria, [{"id": r["id"], "value": float(r["in_temp"] > 60), "at_ms": number * DAY + HOUR} for r in rows])
        return rows

    then, now = day(10, 0), day(11, 10)
    [window] = drift(noria, reference=f"traffic:{10 * DAY}-{11 * DAY}")
    columns = {c["column"]: c for c in window["columns"]}
    assert window["loss"] == "brier"
    really = np.mean([r["in_temp"] > 60 for r in now]) - np.mean([r["in_temp"] > 60 for r in then])
    assert columns["temp"]["explains"] == pytest.approx(really, abs=0.05)
    assert abs(columns["wind"]["explains"]) < 0.03
    assert {"temp", "wind"} <= set(window["drifted"])


def test_monitors_watch_quality_predictions_and_columns_together(noria: Noria) -> None:
    reference = f"traffic:{10 * DAY}-{11 * DAY}"
    for name, fields in {
        "range": {"metric": "out_of_range", "limit": 0.01}, "words": {"metric": "new_categories", "limit": 0.01},
        "classes": {"metric": "prediction_psi", "limit": 0.1}, "relation": {"metric": "reconstruction", "limit": 0.1},
        "moved": {"metric": "wasserstein", "limit": 0.2, "columns": ["temp"]},
    }.items():  # fmt: skip
        body = msgspec.to_builtins(spec(name, **fields, reference=reference))  # type: ignore[arg-type]
        assert noria.http.post("/api/v1/monitors", json=body).status_code == 201
    a_day(noria, 10)
    a_day(noria, 11)
    a_day(noria, 12, is_drifted=True)
    a_day(noria, 13, of=1)
    found = {
        n: noria.http.get(f"/api/v1/monitors/{n}/windows").json()["items"]
        for n in ("range", "words", "classes", "relation", "moved")
    }
    verdicts = {n: [w["verdict"] for w in windows[::-1]] for n, windows in found.items()}
    assert verdicts == {
        "range": ["within", "within", "over"], "words": ["within", "within", "over"], "classes": ["within"] * 3,
        "relation": ["within", "within", "over"], "moved": ["within", "within", "over"],
    }  # fmt: skip
    outside = {f["column"]: f["value"] for f in found["range"][0]["findings"]}
    assert outside["delay"] == pytest.approx(0.05)
    assert outside["hour"] == 0.0
    assert outside["carrier"] is None
    assert found["moved"][0]["findings"][0]["q_value"] < 0.01
    assert "which chance explains" not in found["moved"][0]["why"]
    refused = noria.http.post("/api/v1/monitors", json=msgspec.to_builtins(spec("x", metric="out_of_range")))
    assert (refused.status_code, refused.json()["error"]["where"]) == (400, "reference")


# --- against the peers ------------------------------------------------------------------------------------------------


def test_distances_are_nannymls() -> None:
    """KS exactly what NannyML's is up to the sketch; Wasserstein is ours times the spread; JS has other bins (theirs: doane)."""
    reference, current = table(1, is_drifted=False), table(2, is_drifted=True)
    for name, theirs in NANNYML["univariate"].items():
        a, b = sketch_column(reference[name]), sketch_column(current[name])
        coarse, fine = align(a, b), align(a, b, bins=None)
        if "chi2" in theirs:
            if len(a.labels) > 2:  # for two words NannyML takes Yates's correction
                assert chi2_test(coarse.reference, coarse.current)[0] == pytest.approx(theirs["chi2"], rel=1e-9)
            assert distance(METRICS["l_infinity"], coarse) == pytest.approx(theirs["l_infinity"], abs=1e-12)
            assert distance(METRICS["js"], coarse) == pytest.approx(theirs["jensen_shannon"], abs=1e-9)
        else:
            assert distance(METRICS["ks"], fine) == pytest.approx(theirs["kolmogorov_smirnov"], abs=0.01)
            spread = reference[name].std()
            assert distance(METRICS["wasserstein"], fine) == pytest.approx(theirs["wasserstein"] / spread, abs=0.01)


def test_the_reconstruction_error_is_nannymls() -> None:
    sample = Sample()
    reference = table(1, is_drifted=False)
    sample.add(reference, len(reference["still"]))
    shape = shape_of(sample.columns)
    assert shape is not None
    found = reconstruct(shape, table(2, is_drifted=True))
    assert found is not None
    assert found.reference == pytest.approx(NANNYML["reconstruction"]["reference"], abs=0.01)
    assert found.value == pytest.approx(NANNYML["reconstruction"]["current"], abs=0.01)
    assert found.p_value < 1e-9


def test_columns_together_do_not_fire_by_chance() -> None:
    rng = np.random.default_rng(0)

    def draw(n: int) -> dict[str, Any]:
        a = rng.normal(0, 1, n)
        return {
            "a": a,
            "b": a + rng.normal(0, 0.3, n),
            "c": rng.random(n),
            "d": rng.choice(np.array(["x", "y"], dtype=object), n),
        }

    fired = 0
    for _ in range(100):
        shape = shape_of(draw(2000))
        assert shape is not None
        found = reconstruct(shape, draw(500))
        assert found is not None
        fired += found.p_value <= 0.05
    assert fired <= 12


def test_a_sample_is_drawn_from_all_batches_alike() -> None:
    sample = Sample(size=1000)
    for i in range(20):
        sample.add({"batch": np.full(500, float(i))}, 500)
    counts = np.bincount(sample.columns["batch"].astype(int), minlength=20)
    assert counts.sum() == 1000
    assert counts.min() > 20


def test_a_shape_needs_two_columns_that_vary() -> None:
    assert shape_of({}) is None
    assert shape_of({"a": np.arange(9.0), "b": np.full(9, math.nan)}) is None
    assert shape_of({"a": np.arange(9.0), "b": np.ones(9)}) is None


def test_one_column_is_drawn_beside_its_reference(noria: Noria) -> None:
    for day, shift in ((10, 0.0), (11, 20.0)):
        answers(noria, [
            {"event_at_ms": day * DAY + i, "score": 0.5, "in_temp": float(i % 50 + shift),
             "in_carrier": "UA" if i % (2 + day % 2) else None}
            for i in range(300)
        ])  # fmt: skip
    asked = f"/api/v1/endpoints/flights/drift/temp?reference=traffic:{10 * DAY}-{11 * DAY}"
    found = noria.http.get(asked).json()
    assert (found["kind"], len(found["edges"]), sum(found["current"]), sum(found["reference"])) == ("number", 31, 300, 300)
    assert found["edges"][0] == pytest.approx(0, abs=0.5)
    assert found["edges"][-1] == pytest.approx(69, rel=0.01)
    assert found["current"][0] == 0 < found["reference"][0]
    words = noria.http.get(asked.replace("/temp?", "/carrier?")).json()
    assert (words["kind"], words["labels"], words["current_nulls"], words["reference_nulls"]) == ("word", ["UA"], 100, 150)
    missing = noria.http.get(asked.replace("/temp?", "/nope?"))
    assert missing.status_code == 404
    assert "carrier" in missing.json()["error"]["hint"]


def test_what_was_asked_is_compared_with_what_was_trained_on_row_by_row(noria: Noria) -> None:
    text = "flight,temp,carrier,delay\n" + "".join(f"f{i},{i}.5,{'UA' if i % 2 else ''},{i}\n" for i in range(100))
    info = noria.app.blobs.put(text.encode())
    entry = FileEntry(path="flights.csv", size_bytes=info.size_bytes, digest=info.digest)
    noria.app.datasets.commit(noria.op(), "flights", [entry])
    answers(noria, [
        {"event_at_ms": 10 * DAY + i, "key": f"f{i}", "score": 0.5, "in_temp": i + 0.5 + (10 if i % 10 == 3 else 0),
         "in_carrier": "UA" if i % 2 else ("" if i else None), "in_other": 1.0}
        for i in range(120)
    ])  # fmt: skip
    found = noria.http.get("/api/v1/endpoints/flights/skew?key=flight&reference=dataset:flights@1").json()
    assert (found["answers"], found["matched"]) == (120, 100)
    columns = {c["column"]: c for c in found["items"]}
    assert list(columns) == ["temp", "carrier"]
    assert (columns["temp"]["compared"], columns["temp"]["differ"]) == (100, 10)
    assert columns["temp"]["low"] < 0.1 < columns["temp"]["high"]
    assert columns["temp"]["examples"][0] == {"key": "f3", "served": 13.5, "trained": 3.5}
    assert columns["carrier"]["differ"] == 1, "missing is not an empty text"
    assert noria.http.get("/api/v1/endpoints/flights/skew?key=nope&reference=dataset:flights@1").status_code == 400
    assert noria.http.get("/api/v1/endpoints/flights/skew?key=flight&reference=traffic:1-2").status_code == 400


def test_skew_over_tables_with_other_columns_and_keys_that_are_numbers(noria: Noria) -> None:
    entries = []
    for path, text in (
        ("a.csv", "flight,temp\n" + "".join(f"{i}.0,{i}.5\n" for i in range(40))),
        ("b.csv", "flight,wind\n" + "".join(f"{i}.0,{i}.5\n" for i in range(20, 60))),
        ("c.csv", "flight,temp\n0.5,1.0\n"),
    ):
        info = noria.app.blobs.put(text.encode())
        entries.append(FileEntry(path=path, size_bytes=info.size_bytes, digest=info.digest))
    noria.app.datasets.commit(noria.op(), "flights", entries)
    answers(noria, [
        {"event_at_ms": 10 * DAY + i, "key": str(i), "score": 0.5, "in_temp": i + 0.5, "in_wind": i + 0.5 + (i == 30)}
        for i in range(50)
    ])  # fmt: skip
    found = noria.http.get("/api/v1/endpoints/flights/skew?key=flight&reference=dataset:flights@1").json()
    assert found["matched"] == 50
    assert {c["column"]: (c["compared"], c["differ"]) for c in found["items"]} == {"temp": (40, 0), "wind": (30, 1)}
