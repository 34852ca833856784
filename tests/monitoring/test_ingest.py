"""Segments become rows, once, in whatever order they come."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from noria.kernel.errors import Invalid
from noria.monitoring.answers_store import TruthRow
from noria.monitoring.ingest import choose
from noria.monitoring.segments import canonical, read_inferences, read_row, read_truths
from tests.conftest import Noria
from tests.monitoring.given import DAY, HOUR, answers, inference_bytes, rows_of, truth_bytes, truths, written

ONE = [{"id": "p1", "key": "a", "event_at_ms": DAY, "score": 0.25, "prediction": 0.0, "in_temp": 40.5, "in_origin": "EWR"}]


def test_a_prediction_can_be_read_with_its_inputs_and_later_its_truth(noria: Noria) -> None:
    answers(noria, ONE)
    found = noria.http.get("/api/v1/inferences/p1").json()
    assert (found["inputs"], found["score"], found["prediction"]) == ({"temp": 40.5, "origin": "EWR"}, 0.25, "0")
    assert (found["model_version"], found["revision_id"], found["truth"]) == ("flights@1", "r1", None)
    truths(noria, [{"id": "p1", "value": 1.0, "at_ms": DAY + HOUR}])
    found = noria.http.get("/api/v1/inferences/p1").json()
    assert (found["truth"], found["truth_at_ms"]) == ("1", DAY + HOUR)


def test_an_unknown_prediction_is_not_found(noria: Noria) -> None:
    assert noria.http.get("/api/v1/inferences/nope").status_code == 404


def test_the_same_segment_twice_changes_nothing(noria: Noria) -> None:
    for _ in range(2):
        answers(noria, ONE)
        truths(noria, [{"key": "a", "value": 1.0, "at_ms": 2 * DAY}])
    assert rows_of(noria, "select predictions, labels, label_seq from watermark") == [
        {"predictions": 1, "labels": 1, "label_seq": 1}
    ]
    assert [r["rows"] for r in rows_of(noria, "select rows from ingested_segment order by id")] == [1, 1]
    assert len(rows_of(noria, "select * from sketch")) == 1


def test_an_answer_recorded_twice_in_different_segments_counts_once(noria: Noria) -> None:
    answers(noria, ONE)
    answers(noria, [*ONE, {"event_at_ms": DAY + 1, "id": "p2", "score": 0.5}])
    assert rows_of(noria, "select predictions from watermark") == [{"predictions": 2}]
    assert [r["skipped"] for r in rows_of(noria, "select skipped from ingested_segment order by id")] == [0, 1]


@pytest.mark.parametrize("named", ["id", "key"])
def test_truth_may_come_before_its_answer(noria: Noria, named: str) -> None:
    truths(noria, [{named: {"id": "p1", "key": "a"}[named], "value": 1.0, "at_ms": 2 * DAY}])
    answers(noria, ONE)
    assert noria.http.get("/api/v1/inferences/p1").json()["truth"] == "1"


def test_labels_are_numbered_in_the_order_they_came(noria: Noria) -> None:
    answers(noria, [{"id": f"p{i}", "event_at_ms": DAY + i} for i in range(3)])
    truths(noria, [{"id": "p2", "value": 1.0, "at_ms": DAY}])
    truths(noria, [{"id": "p0", "value": 0.0, "at_ms": DAY}, {"id": "p1", "value": 0.0, "at_ms": DAY}])
    truths(noria, [{"id": "p2", "value": 0.0, "at_ms": DAY + 1}])  # a correction is no new label
    found = rows_of(noria, "select prediction_id, label_seq, truth from inference order by label_seq")
    assert [(r["prediction_id"], r["label_seq"], r["truth"]) for r in found] == [
        ("p2", 1, "0"), ("p0", 2, "0"), ("p1", 3, "0"),
    ]  # fmt: skip


def _by_key(at_ms: int, value: str = "1") -> TruthRow:
    return TruthRow(named_by="key", name="a", at_ms=at_ms, value=value)


def test_a_reused_key_gives_each_answer_the_next_truth() -> None:
    known = [_by_key(10, "first"), _by_key(20, "second")]
    assert choose([], known, 5) == known[0]
    assert choose([], known, 10) == known[0]
    assert choose([], known, 11) == known[1]
    assert choose([], known, 21) is None


def test_truth_by_id_beats_truth_by_key() -> None:
    by_id = [TruthRow(named_by="id", name="p", at_ms=1, value="0"), TruthRow(named_by="id", name="p", at_ms=2, value="2")]
    assert choose(by_id, [_by_key(5)], 5) == by_id[1]


def test_the_order_of_segments_does_not_matter(noria: Noria) -> None:
    """Every order of four segments ends in the same labels; one endpoint per order, since a digest is taken once."""
    seen = set()
    for number, order in enumerate(itertools.permutations(range(4))):
        endpoint = f"e{number}"
        first = {**ONE[0], "id": f"{endpoint}-1"}
        second = {**ONE[0], "id": f"{endpoint}-2", "event_at_ms": 3 * DAY}
        late = [{"key": "a", "value": 99.0, "at_ms": 4 * DAY}, {"id": f"{endpoint}-1", "value": 7.0, "at_ms": 1}]
        segments: list[tuple[str, bytes]] = [
            ("segment.written", inference_bytes([first])),
            ("segment.written", inference_bytes([second])),
            ("truth.written", truth_bytes([{"key": "a", "value": float(number), "at_ms": 2 * DAY}])),
            ("truth.written", truth_bytes(late)),
        ]
        for i in order:
            kind, data = segments[i]
            written(noria, kind, data, endpoint=endpoint)
        noria.app.pump.drain()
        found = rows_of(
            noria,
            """select i.prediction_id, i.truth from inference i join inference_stream s on s.id = i.stream_id
                where s.endpoint = :e order by i.prediction_id""",
            e=endpoint,
        )
        seen.add(tuple(r["truth"] for r in found))
    assert seen == {("7", "99")}


def test_a_shadow_is_kept_apart(noria: Noria) -> None:
    answers(noria, ONE)
    answers(noria, [{**ONE[0], "role": "shadow", "score": 0.9}], revision="r2", version=2)
    truths(noria, [{"id": "p1", "value": 1.0, "at_ms": DAY}])
    assert noria.http.get("/api/v1/inferences/p1").json()["revision_id"] == "r1"
    assert rows_of(noria, "select predictions, labels from watermark") == [{"predictions": 1, "labels": 1}]
    page = noria.http.get("/api/v1/endpoints/flights/performance?metric=brier&by=revision").json()["items"]
    assert [(w["group"], round(w["value"], 4)) for w in page] == [("r1", 0.5625), ("r2/shadow", 0.01)]
    whole = noria.http.get("/api/v1/endpoints/flights/performance?metric=brier").json()["items"]
    assert [(w["group"], w["predictions"]) for w in whole] == [("", 1)]


def test_a_finer_monitor_sketches_history_again(noria: Noria) -> None:
    rows: list[dict[str, Any]] = [{"event_at_ms": DAY + i * 60_000, "score": 0.5, "in_temp": float(i)} for i in range(30)]
    answers(noria, rows)
    assert len(rows_of(noria, "select * from sketch")) == 1
    made = noria.http.post("/api/v1/monitors", json={
        "name": "nulls", "endpoint": "flights", "metric": "null_share", "limit": 0.1, "window_s": 600, "min_count": 5,
    })  # fmt: skip
    assert made.status_code == 201, made.text
    assert len(rows_of(noria, "select * from sketch")) == 3
    answers(noria, [{"event_at_ms": DAY + HOUR, "in_temp": 1.0}])
    windows = noria.http.get("/api/v1/monitors/nulls/windows").json()["items"]
    assert [(w["count"], w["findings"][0]["column"], w["verdict"]) for w in windows] == [(10, "temp", "within")] * 3


@pytest.mark.parametrize(
    ("value", "word"),
    [(1, "1"), (1.0, "1"), (True, "1"), (False, "0"), (0.5, "0.5"), ("late", "late"), (float("nan"), None)],
)
def test_one_truth_has_one_word(value: object, word: str | None) -> None:
    assert canonical(value) == word


def test_what_is_no_segment_is_refused() -> None:
    with pytest.raises(Invalid, match="not an Arrow file"):
        read_inferences(b"nonsense")
    with pytest.raises(Invalid, match="no column"):
        read_inferences(truth_bytes([{"key": "a", "value": 1.0, "at_ms": 1}]))
    with pytest.raises(Invalid, match="no row 7"):
        read_row(truth_bytes([{"key": "a", "value": 1.0, "at_ms": 1}]), 7)


def test_a_truth_without_a_value_says_nothing() -> None:
    found = read_truths(truth_bytes([{"key": "a", "at_ms": 1}, {"key": "b", "label": "cat", "at_ms": 2}]))
    assert (found.keys, found.values) == (["b"], ["cat"])


def test_ingesting_keeps_up(noria: Noria) -> None:
    """Ten thousand rows in seconds on two shared cores; the demo brings a few hundred a second."""
    import time

    rows = [
        {"event_at_ms": DAY + i * 40_000, "score": (i % 97) / 97, "prediction": 0.0, "key": f"k{i}", "id": f"p{i}",
         **{f"in_f{j}": float((i * j) % 31) for j in range(7)}}
        for i in range(10_000)
    ]  # fmt: skip
    start = time.perf_counter()
    answers(noria, rows)
    truths(noria, [{"key": f"k{i}", "value": float(i % 2), "at_ms": 400 * DAY} for i in range(10_000)])
    assert time.perf_counter() - start < 20
    assert rows_of(noria, "select labels from watermark") == [{"labels": 10_000}]
