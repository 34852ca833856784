"""A run, a comparison and a model in a real browser: curves keep their extremes, a thousand metrics stay light, files stay harmless."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.ui.big import SPIKE
from tests.ui.conftest import CHROMIUM, Big, complaints, opened

SERIES_BYTES_MAX = 64_000  # of one key
START = 1_700_000_000_000
FILES = {
    "report.md": b"# Report\n\n<script>window.pwned = 1</script> [x](javascript:window.pwned=1) **bold**\n",
    "evil.svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='window.pwned=1'><script>window.pwned=1</script></svg>",
    "evil.html": b"<img src=x onerror='window.pwned=1'><script>window.pwned=1</script>",
    "lies.png": b"<svg onload='window.pwned=1'/>",
    "table.csv": b"id,word\n1,one\n2,two\n",
    "source/uncommitted.diff": b"diff --git a/train.py b/train.py\n--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-depth = 2\n+depth = 3\n",
    "environment/packages.txt": b"numpy==2.1.0\nmlflow==3.4.0\n",
}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium here"),
]


@pytest.fixture
def page(chromium: Any, big: Big) -> Iterator[Any]:
    page = opened(chromium, big.url)
    yield page
    assert not page.problems
    page.context.close()


@pytest.fixture(scope="module")
def full(big: Big) -> list[str]:
    """Two runs that have everything."""
    made = []
    with httpx.Client(base_url=big.url, timeout=60) as http:
        for k, name in enumerate(("bold fox", "quiet owl")):
            tags = {
                "mlflow.source.git.commit": "4f1c2ad8e09b77ac0c1d2e3f4a5b6c7d8e9f0a1b", "mlflow.source.git.dirty": "true",
                "noria.argv": '["python", "train.py"]', "team": "search",
            }  # fmt: skip
            run = http.post("/api/v1/runs", json={"experiment": "full", "name": name, "tags": tags}).json()["id"]
            points = [{"key": "loss", "value": 1 / (1 + s) + k, "timestamp": START + s, "step": s} for s in range(50)]
            points[9]["value"] = "NaN"
            batch = {
                "run_id": run,
                "metrics": points,
                "params": [{"key": "lr", "value": f"0.{k + 1}"}, {"key": "seed", "value": "7"}],
            }
            http.post("/api/2.0/mlflow/runs/log-batch", json=batch).raise_for_status()
            for path, data in FILES.items():
                put = http.put(f"/api/v1/runs/{run}/artifacts/content", params={"path": path}, content=data)
                put.raise_for_status()
            lines = "".join(f"{i:06} epoch {i} of {name}\n" for i in range(6000)) + "the end\n"
            http.post(f"/api/v1/runs/{run}/logs", json={"text": lines, "offset": 0}).raise_for_status()
            made.append(run)
    return made


def test_a_million_points_keep_their_spike_at_any_zoom(page: Any, big: Big) -> None:
    page.goto(f"/runs/{big.ids['long']}")
    page.wait_for_selector(".uplot canvas")
    legend = page.locator(".legend").inner_text()
    assert "1 NaN" in legend and "1 ∞" in legend, legend
    page.get_by_role("button", name="Show loss as table").click()
    sent = page.evaluate(
        "() => performance.getEntriesByType('resource').filter((e) => e.name.includes('/series?')).map((e) => e.decodedBodySize)"
    )
    assert sent and max(sent) <= SERIES_BYTES_MAX, f"a curve is {sent} bytes"
    answer = httpx.get(f"{big.url}/api/v1/runs/{big.ids['long']}/series", params={"keys": "loss", "buckets": 400}).json()
    assert max(v for v in answer["series"]["loss"]["max"] if v is not None) == SPIKE
    near = {"keys": "loss", "buckets": 400, "from": 654_000, "to": 655_000}
    zoomed = httpx.get(f"{big.url}/api/v1/runs/{big.ids['long']}/series", params=near).json()["series"]["loss"]
    assert max(v for v in zoomed["max"] if v is not None) == SPIKE and zoomed["count"] == 1001


def test_a_thousand_metrics_are_found_and_only_what_is_seen_is_drawn(page: Any, big: Big) -> None:
    page.goto(f"/runs/{big.ids['wide']}")
    page.wait_for_selector(".metric-group")
    assert page.locator(".metric-group").count() == 50
    page.wait_for_selector(".uplot canvas")
    assert page.locator(".uplot").count() <= 24, "charts out of sight were drawn"
    page.get_by_label("Find a metric").fill("layer7 weight_57")
    page.wait_for_function("() => document.querySelectorAll('.metric-group').length === 1")
    page.wait_for_selector("text=weight_57/norm")


def test_the_console_begins_at_its_end_and_is_searched(page: Any, big: Big, full: list[str]) -> None:
    page.goto(f"/runs/{full[0]}?tab=console")
    page.wait_for_selector(".console >> text=the end")
    assert page.locator(".console li").count() < 400
    page.get_by_label("Search the console").fill("epoch 12 ")
    page.wait_for_selector("text=None found in the last")
    page.get_by_role("button", name="Search all of it").click()
    page.wait_for_selector("text=1 found")
    page.get_by_label("Search the console").press("Enter")
    page.wait_for_selector(".console li.hit >> text=000012 epoch 12 of bold fox")
    page.get_by_role("button", name="Follow").click()
    httpx.post(f"{big.url}/api/v1/runs/{full[0]}/logs", json={"text": "and one more\n"}).raise_for_status()
    page.wait_for_selector(".console >> text=and one more")


def test_no_file_of_a_run_does_anything_in_our_origin(page: Any, full: list[str]) -> None:
    for path, shows in (
        ("report.md", ".prose strong >> text=bold"), ("evil.svg", "pre.code >> text=window.pwned"),
        ("evil.html", "pre.code >> text=onerror"), ("lies.png", "pre.code >> text=onload"), ("table.csv", "table.data >> text=two"),
    ):  # fmt: skip
        page.goto(f"/runs/{full[0]}?tab=files&file={path}")
        page.wait_for_selector(f".file-view {shows}")
        assert page.evaluate("() => window.pwned") is None, path
    assert page.locator(".prose script, .file-view svg[onload]").count() == 0
    # Opened by its own address a file is a download in no origin of ours.
    sent = page.request.get(f"/api/v1/runs/{full[0]}/artifacts/content?path=evil.html")
    assert (
        sent.headers["content-disposition"].startswith("attachment") and "sandbox" in sent.headers["content-security-policy"]
    )


def test_two_runs_are_compared_against_one_of_them(page: Any, full: list[str]) -> None:
    page.goto(f"/compare?runs={','.join(full)}&base={full[1]}")
    page.wait_for_selector("text=bold fox")
    assert page.locator(".compared li").first.inner_text().startswith("quiet owl")
    rows = page.get_by_role("region", name="Parameters of the runs").locator("tbody th").all_inner_texts()
    assert rows == ["lr"], "what is identical is hidden"
    page.get_by_label("Hide what is identical").uncheck()
    page.wait_for_selector("th >> text=seed")
    page.get_by_role("tab", name="Code").click()
    page.wait_for_selector("text=the two runs ran the same code")
    page.wait_for_selector(".unified .add >> text=depth = 3")


def test_run_and_comparison_pass_axe(chromium: Any, big: Big, full: list[str]) -> None:
    page = opened(chromium, big.url)
    found = []
    for place, ready in (
        (f"/runs/{full[0]}", ".uplot canvas"), (f"/runs/{full[0]}?tab=console", ".console"), (f"/runs/{full[0]}?tab=code", ".unified"),
        (f"/runs/{full[0]}?tab=environment", "text=numpy"), (f"/runs/{full[0]}?tab=files&file=report.md", ".prose"),
        (f"/compare?runs={','.join(full)}", ".compared"), (f"/compare?runs={','.join(full)}&tab=importance&over=these", ".inline"),
    ):  # fmt: skip
        page.goto(place)
        page.wait_for_selector(ready)
        found += complaints(page, place.split("?")[-1])
    page.context.close()
    assert not found
