"""Backfills: a run for each date, a few at a time, each date once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given as given_
from hypothesis import strategies as st

from noria.kernel.errors import Invalid
from noria.pipelines.backfills import dates
from noria.pipelines.model.backfills import NewBackfill
from tests.conftest import Noria
from tests.pipelines.given import Worker, register, spec, view


def start(noria: Noria, status: int = 200, **body: Any) -> dict[str, Any]:
    wanted = {"param": "rows", "first": "2026-03-01", "last": "2026-03-05", "parallel": 2, **body}
    answer = noria.http.post("/api/v1/pipelines/churn/backfills", json=wanted)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def parts(noria: Noria, backfill: dict[str, Any]) -> list[dict[str, Any]]:
    return list(noria.http.get(f"/api/v1/backfills/{backfill['id']}/parts").json()["items"])


def read(noria: Noria, backfill: dict[str, Any]) -> dict[str, Any]:
    return dict(noria.http.get(f"/api/v1/backfills/{backfill['id']}").json())


@pytest.fixture
def worker(noria: Noria) -> Worker:
    register(noria, spec(noria, steps={"a": []}))
    return Worker(noria)


def test_every_date_runs_once_and_never_more_than_so_many_at_a_time(noria: Noria, worker: Worker) -> None:
    made = start(noria)
    assert made["counts"] == {"waiting": 5} and made["state"] == "running"
    seen = []
    for _ in range(5):
        noria.settle()
        noria.settle()
        assert read(noria, made)["counts"].get("running", 0) <= 2
        given = worker.claim()
        assert given
        seen.append(view(noria, given.run_id)["run"]["params"]["rows"])
        worker.finish(given)
    noria.settle()
    assert sorted(seen) == [f"2026-03-0{day}" for day in range(1, 6)]
    ended = read(noria, made)
    assert ended["state"] == "succeeded" and ended["counts"] == {"succeeded": 5} and ended["ended_at_ms"]
    assert [f.kind for f in noria.facts("backfill.started", "backfill.ended")] == ["backfill.started", "backfill.ended"]
    assert {r["actor"] for r in noria.http.get("/api/v1/pipeline-runs").json()["items"]} == {
        "trigger:backfill of churn for local"
    }


def test_a_date_that_was_done_is_not_done_again_unless_asked_for(noria: Noria, worker: Worker) -> None:
    first = start(noria, last="2026-03-02")
    noria.settle()
    worker.work()
    noria.settle()
    overlapping = start(noria, first="2026-03-02", last="2026-03-03")
    assert [p["state"] for p in parts(noria, overlapping)] == ["skipped", "waiting"]
    assert parts(noria, overlapping)[0]["reason"] == f"Done already by the run {parts(noria, first)[1]['run_id']}."
    noria.settle()
    twice = start(noria, first="2026-03-03", last="2026-03-03")
    assert parts(noria, twice)[0]["reason"] == f"The backfill {overlapping['id']} does it."
    noria.settle()
    assert read(noria, twice)["state"] == "succeeded"
    assert start(noria, last="2026-03-02", again=True)["counts"] == {"waiting": 2}


def test_a_date_that_fails_leaves_the_others_and_is_done_next_time(noria: Noria, worker: Worker) -> None:
    made = start(noria, last="2026-03-02")
    noria.settle()
    while given := worker.claim():
        is_first = view(noria, given.run_id)["run"]["params"]["rows"] == "2026-03-01"
        worker.finish(given, "failed" if is_first else "succeeded", error="no rows")
    noria.settle()
    assert read(noria, made)["state"] == "failed"
    failed = parts(noria, made)[0]
    assert failed["state"] == "failed" and "no rows" in failed["reason"]
    assert [p["state"] for p in parts(noria, start(noria, last="2026-03-02"))] == ["waiting", "skipped"]


def test_a_backfill_is_cancelled_with_its_runs(noria: Noria, worker: Worker) -> None:
    made = start(noria)
    noria.settle()
    given = worker.claim()
    assert given
    assert noria.http.post(f"/api/v1/backfills/{made['id']}/cancel").json()["state"] == "cancelled"
    noria.settle()
    assert read(noria, made)["counts"] == {"cancelled": 5}
    assert worker.claim() is None and len(worker.beat(given)["cancel"]) == 1
    assert noria.http.post(f"/api/v1/backfills/{made['id']}/cancel").status_code == 409


def test_one_whose_owner_lost_the_right_ends_and_says_why(noria: Noria, worker: Worker) -> None:
    bob = noria.as_("bob", "contributor")
    body = {"param": "rows", "first": "2026-03-01", "last": "2026-03-02"}
    made = bob.post("/api/v1/pipelines/churn/backfills", json=body).json()
    assert made["owner"] != "local"
    noria.http.delete("/api/v1/principals/bob")
    noria.settle()
    ended = read(noria, made)
    assert ended["state"] == "failed" and ended["error"] and ended["counts"] == {"cancelled": 2}


def test_a_backfill_waits_for_room_like_everybody(noria: Noria) -> None:
    register(noria, msgspec.structs.replace(spec(noria, steps={"a": []}), concurrency=1))
    worker, made = Worker(noria), start(noria, last="2026-03-03", parallel=3)
    for _ in range(3):
        noria.settle()
        assert worker.work() == ["a"]
    noria.settle()
    assert read(noria, made)["counts"] == {"succeeded": 3}


@pytest.mark.parametrize(
    "body",
    [
        {"param": "lines"}, {"first": "yesterday"}, {"last": "2026-02-01"}, {"parallel": 0}, {"parallel": 101},
        {"params": {"rows": 1}}, {"step": "hour", "first": "2020-01-01"}, {"step": "minute"},
    ],
)  # fmt: skip
def test_what_cannot_be_filled_is_refused(noria: Noria, worker: Worker, body: dict[str, Any]) -> None:
    start(noria, 400, **body)


STEPS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}


@given_(st.datetimes(max_value=datetime(9000, 1, 1)), st.integers(0, 400), st.sampled_from(sorted(STEPS)))
def test_dates_are_in_order_each_once_and_within(first: datetime, count: int, step: Any) -> None:
    last = first + count * STEPS[step]
    found = dates(NewBackfill(param="p", first=first.isoformat(), last=last.isoformat(), step=step))
    assert len(found) == count + 1 and found == sorted(set(found))


def test_an_hour_is_an_hour() -> None:
    hours = NewBackfill(param="p", first="2026-03-01T22:00", last="2026-03-02T00:30", step="hour")
    assert dates(hours) == ["2026-03-01T22:00:00", "2026-03-01T23:00:00", "2026-03-02T00:00:00"]
    with pytest.raises(Invalid):
        dates(NewBackfill(param="p", first="2026-03-02", last="2026-03-01"))
