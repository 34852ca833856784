"""As many workers as the requests need, down to none, and a rate for each caller."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.kernel.errors import Invalid
from noria.serving.model import RevisionConfig
from noria.serving.rates import CALLERS_MAX, Rates
from tests.serving.conftest import Plane, features, v2
from tests.serving.test_plane import Load

BODY = v2(features(1).iloc[0])


@pytest.fixture(scope="module")
def flights(plane: Plane, models: dict[str, Path]) -> Plane:
    for name in ("one", "slow"):
        plane.registry.add("flights", models[name])
    return plane


def workers(plane: Plane, endpoint: str) -> list[Any]:
    return [r for r in plane.serving.detail(plane.op(), endpoint).replicas if r.state == "ready"]


@pytest.mark.protocol
def test_waiting_requests_start_workers_and_rest_ends_them(flights: Plane) -> None:
    config = RevisionConfig(max_replicas=3, target_in_flight=2, max_batch_rows=1, idle_s=1)
    flights.deploy("busy", "flights@2", config=config)
    assert len(workers(flights, "busy")) == 1
    with Load(flights, "/v2/models/busy/infer", callers=8) as load:
        flights.until(lambda: len(workers(flights, "busy")) == 3, "three workers", timeout_s=60)
        os.kill(workers(flights, "busy")[1].pid, signal.SIGKILL)  # what it had goes to the others
        time.sleep(1.5)
    assert set(load.statuses) == {200}
    flights.until(lambda: len(workers(flights, "busy")) == 1, "rest", timeout_s=30)
    assert flights.http.post("/v2/models/busy/infer", json=BODY).status_code == 200


@pytest.mark.protocol
def test_an_endpoint_sleeps_and_a_request_wakes_it(flights: Plane) -> None:
    flights.deploy("drowsy", "flights@1", config=RevisionConfig(min_replicas=0, idle_s=1))
    asleep = lambda: [r.state for r in flights.serving.detail(flights.op(), "drowsy").replicas] == ["stopped"]  # noqa: E731
    flights.until(asleep, "sleep", timeout_s=30)
    assert flights.http.get("/v2/models/drowsy/ready").status_code == 200  # it will answer
    late = flights.http.post("/v2/models/drowsy/infer", json=BODY, headers={"x-noria-timeout-ms": "50"})
    assert late.status_code == 504
    flights.until(lambda: workers(flights, "drowsy"), "a worker, though the caller has gone")
    flights.until(asleep, "sleep", timeout_s=30)
    held = flights.http.post("/v2/models/drowsy/infer", json=BODY)
    assert (held.status_code, held.headers["x-noria-model"]) == (200, "flights@1")
    assert flights.http.post("/v2/models/drowsy/infer", json=BODY).status_code == 200


@pytest.mark.protocol
def test_a_caller_who_asks_too_often_is_told_how_long_to_wait(flights: Plane) -> None:
    flights.deploy("rated", "flights@1", config=RevisionConfig(rate_per_s=0.5, burst=3))
    answers = [flights.http.post("/v2/models/rated/infer", json=BODY) for _ in range(5)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429, 429]
    assert answers[3].headers["retry-after"] == "2" and "0.5 times a second" in answers[3].json()["error"]
    time.sleep(2.0)
    assert flights.http.post("/v2/models/rated/infer", json=BODY).status_code == 200


@pytest.mark.parametrize(
    ("config", "where"),
    [
        (RevisionConfig(min_replicas=2), "min_replicas"),
        (RevisionConfig(max_replicas=0, min_replicas=0), "max_replicas"),
        (RevisionConfig(idle_s=0), "idle_s"),
        (RevisionConfig(rate_per_s=-1), "rate_per_s"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(flights: Plane, config: RevisionConfig, where: str) -> None:
    with pytest.raises(Invalid, match=where):
        flights.serving.deploy(flights.op(), "nonsense", "flights@1", config=config)


@given(
    rate=st.floats(0.1, 1000), burst=st.integers(1, 50),
    pauses=st.lists(st.floats(0, 5), min_size=1, max_size=60),
)  # fmt: skip
def test_no_caller_gets_more_than_burst_and_rate_allow(rate: float, burst: int, pauses: list[float]) -> None:
    rates, now_s, taken = Rates(rate, burst), 100.0, 0
    for pause in pauses:
        now_s += pause
        wait_s = rates.take("me", now_s)
        if wait_s == 0:
            taken += 1
        else:
            assert rates.take("me", now_s + wait_s + 1e-6) == 0  # who waits as told is taken
            taken, now_s = taken + 1, now_s + wait_s + 1e-6
        assert taken <= burst + rate * (now_s - 100.0) + 1e-3
    assert rates.take("another", now_s) == 0  # each has a bucket of its own


def test_buckets_of_many_callers_stay_few() -> None:
    rates = Rates(1.0, 5)
    for i in range(3 * CALLERS_MAX):
        assert rates.take(f"caller-{i}", i / 1000) == 0
    assert len(rates._buckets) <= CALLERS_MAX
    for _ in range(4):
        rates.take(f"caller-{3 * CALLERS_MAX - 1}", 30.0)
    assert rates.take(f"caller-{3 * CALLERS_MAX - 1}", 30.0) > 0  # the latest is remembered
