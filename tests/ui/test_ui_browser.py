"""The interface in a real browser, on a real server: every page opens without an error, in both themes, and passes axe."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from noria.app import build
from noria.config import load_config
from noria.http.asgi import asgi

CHROMIUM = next((p for p in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if os.path.exists(p)), "")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip
AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]
RUNS = 130
PLACES = [
    "/", "/runs", "/runs?sel=none", "/datasets", "/models", "/pipelines", "/endpoints", "/monitors", "/loops", "/audit",
    "/approvals", "/passports", "/settings", "/settings?tab=tokens", "/settings?tab=people", "/nowhere",
]  # fmt: skip

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium here"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A control plane on its own home, with some runs in it; yields its address."""
    config = load_config({}, home=str(tmp_path_factory.mktemp("home")), port=0)
    runner = uvicorn.Server(uvicorn.Config(asgi(build(config)), host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=runner.run, daemon=True)
    thread.start()
    while not runner.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.05)
    url = f"http://127.0.0.1:{runner.servers[0].sockets[0].getsockname()[1]}"
    seed(url)
    yield url
    runner.should_exit = True
    thread.join(timeout=20)


def seed(url: str) -> None:
    with httpx.Client(base_url=f"{url}/api/2.0/mlflow", timeout=30) as http:
        experiment = http.post("/experiments/create", json={"name": "seeded"}).json()["experiment_id"]
        for i in range(RUNS):
            started = {"experiment_id": experiment, "run_name": f"run-{i}", "start_time": 1_700_000_000_000 + i}
            run = http.post("/runs/create", json=started).json()["run"]["info"]["run_id"]
            at = 1_700_000_000_000
            points = [{"key": "loss", "value": 1 / (1 + s + i), "timestamp": at + s, "step": s} for s in range(40)]
            if i == RUNS - 1:
                points[7]["value"] = "NaN"
            params = [{"key": "lr", "value": str(i / 1000)}]
            http.post("/runs/log-batch", json={"run_id": run, "metrics": points, "params": params}).raise_for_status()
            http.post("/runs/update", json={"run_id": run, "status": "FAILED" if i % 9 == 0 else "FINISHED"})


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, chromium: Any, server: str) -> Iterator[Any]:
    context = chromium.new_context(base_url=server, color_scheme=request.param, viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda m: page.problems.append(m.text) if "Content Security Policy" in m.text else None)
    yield page
    context.close()


def test_every_page_opens_and_passes_axe(page: Any) -> None:
    complaints = []
    for place in PLACES:
        page.goto(place)
        page.wait_for_selector(".page > .content")
        page.wait_for_selector("[role=progressbar]", state="detached")
        page.wait_for_timeout(150)
        complaints += [f"{place}: {problem}" for problem in page.problems]
        page.evaluate(AXE)
        found = page.evaluate("rules => axe.run(document, {runOnly: rules})", RULES)
        complaints += [f"{place}: {v['id']}: {v['nodes'][0]['html'][:160]}" for v in found["violations"]]
        page.problems.clear()  # axe sets styles of its own, which the policy refuses
    assert not complaints


def test_runs_are_walked_drawn_and_compared_by_keyboard(page: Any) -> None:
    page.goto("/runs?sel=none")
    page.wait_for_selector(".runs-table tbody tr[data-row]")
    assert page.locator(".runs-table tbody tr").count() <= 60, "more rows than anybody sees"
    assert page.locator(".runs-table").get_attribute("aria-rowcount") == str(RUNS + 1)
    page.locator(".runs-table tbody tr[data-row='0']").focus()
    for key in ("x", "j", "x"):
        page.keyboard.press(key)
    page.wait_for_selector(".uplot canvas")
    assert page.locator(".runs-table tr[aria-selected=true]").count() == 2
    assert page.locator(".legend .off").first.inner_text() == "1 NaN", "a divergence is said, never a gap"
    page.keyboard.press("c")
    page.wait_for_url("**/compare?runs=*")
    assert not page.problems


def test_a_filter_keeps_what_it_says(page: Any) -> None:
    page.goto("/runs?sel=none")
    page.wait_for_selector(".runs-table tbody tr[data-row]")
    page.keyboard.press("/")
    page.keyboard.type("status:failed lr < 0.05")
    page.wait_for_selector(".runs .bar >> text= of ")
    words = page.locator(".runs-table tbody .state .word").all_inner_texts()
    assert set(words) == {"failed"} and len(words) == 6
    assert "q=status" in page.url, "the filter is in the address"


def test_the_palette_goes_anywhere(page: Any) -> None:
    page.goto("/")
    page.wait_for_selector(".page > .content")
    page.keyboard.press("Control+k")
    page.keyboard.type("monit")
    page.wait_for_selector(".palette [role=option]")
    page.keyboard.press("Enter")
    page.wait_for_url("**/monitors")
    page.keyboard.press("g")
    page.keyboard.press("d")
    page.wait_for_url("**/datasets")


def test_an_open_page_hears_of_a_new_run(page: Any, server: str) -> None:
    page.goto("/")
    page.wait_for_selector(".table")
    name = f"fresh-{int(time.time() * 1000)}"
    with httpx.Client(base_url=f"{server}/api/2.0/mlflow") as http:
        started = {"experiment_id": "0", "run_name": name, "start_time": int(time.time() * 1000)}
        http.post("/runs/create", json=started).raise_for_status()
    page.wait_for_selector(f"text={name}", timeout=5000)
