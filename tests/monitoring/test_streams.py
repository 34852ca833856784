"""Detectors of change in streams: beside river, and by simulation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from noria.monitoring.streams import Adwin, Floats, PageHinkley, adwin_changes
from tests.conftest import Noria
from tests.monitoring.given import DAY, answers, truths


def _steps(*means: float, n: int = 2000, sd: float = 0.1, seed: int = 7) -> Floats:
    random = np.random.default_rng(seed)
    return np.concatenate([np.clip(random.normal(m, sd, n), 0, 1) for m in means])


def _bits(*shares: float, n: int = 2000, seed: int = 3) -> Floats:
    random = np.random.default_rng(seed)
    return np.concatenate([(random.random(n) < p).astype(float) for p in shares])


STREAMS: dict[str, Callable[[], Floats]] = {
    "still": lambda: _steps(0.5, 0.5),
    "step": lambda: _steps(0.3, 0.5),
    "steps": lambda: _steps(0.2, 0.4, 0.4, 0.3),
    "errors": lambda: _bits(0.1, 0.25),
    "slow": lambda: np.clip(np.linspace(0.2, 0.8, 5000) + np.random.default_rng(1).normal(0, 0.1, 5000), 0, 1),
}  # fmt: skip
PEER = (
    json.loads((Path(__file__).parent / "peers" / "river.json").read_text())["changes"]
    if (Path(__file__).parent / "peers" / "river.json").exists()
    else {}
)


def _changes(detector: Adwin | PageHinkley, values: Floats) -> list[int]:
    return [i for i, x in enumerate(values.tolist()) if detector.add(x) is not None]


@pytest.mark.parametrize("name", STREAMS)
def test_page_hinkley_sees_what_river_sees(name: str) -> None:
    assert _changes(PageHinkley(10.0), STREAMS[name]()) == PEER[f"{name}/page_hinkley"]


@pytest.mark.parametrize("name", STREAMS)
def test_adwin_first_sees_a_change_where_river_does(name: str) -> None:
    """river throws its window away after a change, the paper keeps the younger part: after the first change they may differ."""
    found, theirs = _changes(Adwin(), STREAMS[name]()), PEER[f"{name}/adwin"]
    assert bool(found) == bool(theirs)
    assert found[:1] == theirs[:1]


def test_adwin_keeps_what_came_after_the_change() -> None:
    detector = Adwin()
    _changes(detector, _steps(0.2, 0.6, n=3000))
    assert abs(detector.mean - 0.6) < 0.02
    assert 2000 < detector.width <= 3000 + 64
    changes = adwin_changes(_steps(0.2, 0.6, n=3000) * 40 + 100)
    assert 3000 <= changes[0].at < 3100
    assert abs(changes[0].before - (0.2 * 40 + 100)) < 1
    assert abs(changes[-1].after - (0.6 * 40 + 100)) < 4


def test_adwin_seldom_cries_without_a_change() -> None:
    random = np.random.default_rng(11)
    alarms = sum(bool(_changes(Adwin(0.002), random.random(3000))) for _ in range(60))
    assert alarms <= 2


def test_an_empty_and_a_constant_stream_change_nothing() -> None:
    assert adwin_changes([]) == []
    assert adwin_changes(np.full(500, 3.0)) == []
    assert _changes(PageHinkley(1.0), np.full(500, 3.0)) == []


def test_a_monitor_of_the_loss_opens_in_the_window_where_it_changed(noria: Noria) -> None:
    for metric, limit in (("adwin", 0.05), ("page_hinkley", 5.0)):
        made = {
            "name": metric, "endpoint": "flights", "metric": metric, "limit": limit, "alpha": 0.002, "window_s": 86_400,
            "min_count": 50,
        }  # fmt: skip
        assert noria.http.post("/api/v1/monitors", json=made).status_code == 201
    made = {**made, "name": "temp", "metric": "adwin", "columns": ["temp"], "limit": 1.0}
    assert noria.http.post("/api/v1/monitors", json=made).status_code == 201
    random = np.random.default_rng(5)
    for day in range(6):
        rows = [
            {"id": f"{day}-{i}", "event_at_ms": (10 + day) * DAY + i * 1000, "score": 0.9 if day < 4 else 0.4,
             "in_temp": float(random.normal(20, 3))}
            for i in range(300)
        ]  # fmt: skip
        answers(noria, rows)
        truths(
            noria, [{"id": r["id"], "value": float(i % 10 != 0), "at_ms": r["event_at_ms"] + 1} for i, r in enumerate(rows)]
        )
    answers(noria, [{"event_at_ms": 17 * DAY, "score": 0.5}])
    for metric in ("adwin", "page_hinkley"):
        windows = noria.http.get(f"/api/v1/monitors/{metric}/windows").json()["items"]
        said = {w["start_ms"] // DAY: w["verdict"] for w in windows}
        assert said[14] == "over", windows
        assert [said[d] for d in (10, 11, 12, 13)] == ["within"] * 4
        assert windows[0]["findings"][0]["column"] == "@loss"
    still = noria.http.get("/api/v1/monitors/temp/windows").json()["items"]
    assert {w["verdict"] for w in still[1:]} == {"within"}
