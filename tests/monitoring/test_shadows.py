"""A shadow beside the answers that callers got."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Noria
from tests.monitoring.given import DAY, HOUR, answers, truths


def said(noria: Noria, pairs: list[tuple[float | None, float | None]], *, role: str = "champion") -> None:
    """Answers of version 1 and, under the same ids, of version 2 in the shadow."""
    for revision, version, who, side in (("r1", 1, role, 0), ("r2", 2, "shadow", 1)):
        rows = [
            {
                "id": f"p{i}",
                "event_at_ms": DAY + i * 1000,
                "prediction": pair[side],
                "score": pair[side],
                "role": who,
                "key": f"k{i}",
            }
            for i, pair in enumerate(pairs)
        ]
        answers(noria, rows, settle=False, revision=revision, version=version, classes="[]")
    noria.settle()


def read(noria: Noria, **params: Any) -> Any:
    answer = noria.http.get("/api/v1/endpoints/flights/disagreements", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_what_the_shadow_said_otherwise_and_who_was_right(noria: Noria) -> None:
    said(noria, [(0, 0)] * 90 + [(0, 1)] * 8 + [(1, 0)] * 2)
    truths(noria, [{"id": f"p{i}", "value": 1, "at_ms": DAY + HOUR} for i in range(88, 96)])
    found = read(noria)
    assert (found["compared"], found["differ"], found["share"]) == (100, 10, 0.1)
    assert 0.05 < found["low"] < 0.1 < found["high"] < 0.18
    assert (found["shadow_right"], found["answer_right"], found["model_version"]) == (6, 0, "flights@2")
    assert "something else in 10.0% of 100 answers" in found["words"] and "right in 6" in found["words"]
    newest = found["items"][0]
    assert (newest["prediction_id"], newest["key"], newest["answer"], newest["shadow"]) == ("p99", "k99", "1", "0")
    assert [i["prediction_id"] for i in read(noria, limit=3)["items"]] == ["p99", "p98", "p97"]


def test_numbers_may_be_as_far_apart_as_one_says(noria: Noria) -> None:
    said(noria, [(10.0, 10.0), (10.0, 10.4), (10.0, 12.0), (None, 3.0)])
    assert read(noria)["differ"] == 3
    found = read(noria, tolerance=0.5)
    assert found["differ"] == 2  # a missing answer is another answer, however far
    assert found["score_difference"] == pytest.approx(0.8)


def test_a_shadow_that_became_the_champion_is_no_shadow(noria: Noria) -> None:
    said(noria, [(0, 1)] * 5, role="canary")
    assert read(noria)["differ"] == 5  # a canary's answer was given, too
    assert noria.http.get("/api/v1/endpoints/flights/disagreements", params={"revision": "r1"}).status_code == 404


def test_who_may_not_read_answers_gets_the_counts_only(noria: Noria) -> None:
    said(noria, [(0, 0)] * 9 + [(0, 1)])
    path = "/api/v1/endpoints/flights/disagreements"
    found = noria.as_("aud", "auditor").get(path).json()
    assert (found["compared"], found["differ"], found["items"]) == (10, 1, [])
    assert len(noria.as_("vic", "viewer").get(path).json()["items"]) == 1


def test_refusals(noria: Noria) -> None:
    answer = noria.http.get("/api/v1/endpoints/flights/disagreements")
    assert answer.status_code == 404 and "noria endpoint shadow" in answer.json()["error"]["hint"]
    for params in ({"limit": 0}, {"limit": 201}, {"tolerance": -1}, {"tolerance": "nan"}):
        assert noria.http.get("/api/v1/endpoints/flights/disagreements", params=params).status_code == 400, params
