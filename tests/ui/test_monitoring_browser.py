"""A monitor in a real browser: which columns moved in a window, by every statistic, and what is muted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import noria.serving.model  # declares the facts of segments
from noria.app import App
from noria.kernel.ids import Ref
from tests.governance.test_webhooks import Receiver
from tests.monitoring.given import DAY, HOUR, inference_bytes, truth_bytes
from tests.ui.conftest import CHROMIUM, built, complaints, opened, serving, shot

assert noria.serving.model
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium here"),
]


def tell(app: App, kind: str, data: bytes, rows: int) -> None:
    digest = app.blobs.put(data).digest
    more = {"revision": "r1"} if kind == "segment.written" else {}
    with app.db.write(app.ops.system("test")) as tx:
        tx.emit(
            kind, Ref("segment", digest), endpoint="flights", rows=rows, digest=digest, segment=1, event_from_ms=0, event_to_ms=0,
            **more,
        )  # fmt: skip


def a_day(app: App, day: int, *, shift: float) -> None:
    """Answers that are wrong where it is warm, and their truth."""
    rng = np.random.default_rng(day)
    rows = [
        {"id": f"{day}-{i}", "event_at_ms": day * DAY + i, "score": 0.1, "prediction": 0.0, "in_temp": rng.normal(50 + shift, 10),
         "in_wind": rng.normal(9, 2), "in_carrier": "ZZ" if shift and i % 9 == 0 else ("UA", "AA")[i % 2]}
        for i in range(500)
    ]  # fmt: skip
    tell(app, "segment.written", inference_bytes(rows), len(rows))
    known = [{"id": r["id"], "value": float(r["in_temp"] > 60), "at_ms": day * DAY + HOUR} for r in rows]
    tell(app, "truth.written", truth_bytes(known), len(rows))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[str]:
    """A control plane with a monitor, two days as before and two warm ones."""
    app = built(tmp_path_factory.mktemp("home"), sqlite_template)
    with serving(app) as url, httpx.Client(base_url=f"{url}/api/v1", timeout=30) as http:
        body = {
            "name": "inputs", "endpoint": "flights", "metric": "psi", "limit": 0.2, "min_count": 100, "owner": "team-flights",
            "reference": f"traffic:{10 * DAY}-{11 * DAY}", "clear_limit": 0.1,
        }  # fmt: skip
        http.post("/monitors", json=body).raise_for_status()
        http.post("/monitors/inputs/mute", json={"for_s": 3600, "reason": "a heat wave"}).raise_for_status()
        for day, shift in ((10, 0), (11, 0), (12, 12), (13, 12)):
            a_day(app, day, shift=shift)
        until = time.monotonic() + 60
        while len(http.get("/monitors/inputs/windows").json()["items"]) < 3:
            assert time.monotonic() < until, "the windows were not judged"
            time.sleep(0.1)
        yield url


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.thread.join(5)
    made.server.server_close()


def test_a_window_opens_the_matrix_of_columns_and_statistics(chromium: Any, server: str) -> None:
    page = opened(chromium, server)
    page.goto(f"/monitors/inputs?window={12 * DAY}")
    matrix = page.get_by_role("region", name="Columns by statistics")
    matrix.wait_for()
    heads = matrix.locator("thead th").all_inner_texts()
    assert [h.strip() for h in heads][:8] == ["Column", "Drift", "PSI", "JS", "KS", "Wasserstein", "L∞", "q"]
    page.get_by_role("img", name="temp: 30 bins").wait_for()  # the column that moved most, now and in the reference
    table = [row.locator("th, td").all_inner_texts() for row in matrix.locator("tbody tr").all()]
    found = {cells[0]: dict(zip(heads, cells, strict=True)) for cells in table}
    assert table[0][0] == "temp"
    assert "drifted" in found["temp"]["Drift"]
    assert "as before" in found["wind"]["Drift"]
    assert float(found["temp"]["Wasserstein"]) == pytest.approx(1.2, abs=0.2)
    assert found["carrier"]["New words"].startswith("11")
    explains = {
        name: float(cells["Explains (brier)"].replace("−", "-")) for name, cells in found.items() if name in ("temp", "wind")
    }
    assert explains["temp"] > 10 * abs(explains["wind"])
    page.get_by_text("Muted until").wait_for()
    assert "a heat wave" in page.inner_text("main")
    assert "team-flights looks" in page.inner_text("main")
    shot(page, "matrix")
    assert complaints(page, "/monitors/inputs") == []
    page.context.close()


def test_the_past_is_asked_how_often_it_would_have_fired(chromium: Any, server: str) -> None:
    page = opened(chromium, server)
    page.goto("/monitors/inputs")
    ask = page.get_by_role("button", name="How often would it have fired?")
    ask.click()
    page.get_by_text("It would have fired once in 30 days").wait_for()
    assert "and would be open now: " in page.get_by_role("status").first.inner_text()
    shot(page, "backtest")
    assert complaints(page, "/monitors/inputs") == []
    page.get_by_label("Limit", exact=True).fill("9")
    ask.click()
    page.get_by_text("It would not have fired in 30 days").wait_for()
    page.context.close()


def test_predictions_are_asked_in_sql(chromium: Any, server: str) -> None:
    page = opened(chromium, server)
    page.goto("/endpoints/flights/predictions")
    field = page.get_by_role("textbox", name="SQL")
    field.fill("select in_carrier, count(*) as n, count(truth) as labelled from predictions group by 1 order by 2 desc")
    field.press("Control+Enter")
    rows = page.get_by_role("region", name="Rows").locator("tbody tr")
    rows.first.wait_for()
    assert [r.locator("th, td").all_inner_texts()[0] for r in rows.all()] == ["UA", "AA", "ZZ"]
    assert "3 rows" in page.inner_text("main")
    shot(page, "predictions")
    assert complaints(page, "/endpoints/flights/predictions") == []
    field.fill("copy predictions to '/tmp/stolen'")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("One select is needed").wait_for()
    page.context.close()


def test_models_by_what_is_watched_and_the_channels(chromium: Any, server: str, receiver: Receiver) -> None:
    with httpx.Client(base_url=f"{server}/api/v1", timeout=60) as http:
        address = receiver.url.replace("http://", "json://")
        http.put("/channels/ops", json={"url": address, "allow_private": True, "min_severity": "alert"}).raise_for_status()
    page = opened(chromium, server)
    page.goto("/monitors")
    grid = page.get_by_role("region", name="Endpoints by what is watched")
    grid.wait_for()
    cells = grid.locator("tbody tr").first.locator("th, td").all_inner_texts()
    assert cells[0] == "flights"
    assert "inputs" in cells[2]
    assert [cells[i] for i in (1, 3, 4)] == ["nobody looks"] * 3
    shot(page, "monitors")
    assert complaints(page, "/monitors") == []
    page.get_by_role("link", name="Channels").click()
    page.get_by_role("button", name="Test", exact=True).click()
    page.get_by_text("ops took it in").wait_for()
    assert receiver.got
    page.get_by_role("button", name="ops", exact=True).click()
    page.get_by_text("Nothing was sent yet.").wait_for()
    shot(page, "channels")
    assert complaints(page, "/channels") == []
    page.context.close()
