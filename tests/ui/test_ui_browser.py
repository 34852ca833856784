"""The interface in a real browser, on a real server: every page opens without an error, in both themes, and passes axe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from noria.app import build
from noria.config import load_config
from tests.ui.conftest import CHROMIUM, complaints, opened, serving

RUNS = 130
PLACES = [
    "/", "/inbox", "/inbox?show=all",
    "/runs", "/runs?sel=none", "/datasets", "/models", "/pipelines", "/endpoints", "/monitors", "/loops", "/audit",
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
    with serving(build(config)) as url:
        seed(url)
        yield url


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


@pytest.fixture
def page(chromium: Any, server: str) -> Iterator[Any]:
    page = opened(chromium, server)
    yield page
    page.context.close()


def test_every_page_opens_and_passes_axe(page: Any) -> None:
    found = []
    for place in PLACES:
        page.goto(place)
        page.wait_for_selector(".page > .content")
        page.wait_for_selector("[role=progressbar]", state="detached")
        page.wait_for_timeout(150)
        found += complaints(page, place)
    assert not found


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
    page.wait_for_selector(".runs .bar.top >> text= of ")
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


def test_the_palette_knows_every_noun_and_every_deed(page: Any, server: str) -> None:
    with httpx.Client(base_url=server) as http:
        http.post("/api/v1/models", json={"name": "palette-model", "description": "of the palette"})
        http.put("/api/v1/projects/palette-project", json={"description": ""}).raise_for_status()
        http.post("/api/v1/groups", json={"name": "palette-team", "roles": []})
    page.goto("/settings?tab=tokens")
    page.wait_for_selector("text=You have no tokens")
    page.keyboard.press("Control+k")
    page.keyboard.type("palette-")
    page.wait_for_selector(".palette [role=option] >> text=palette-team")
    said = page.locator(".palette [role=option]").all_inner_texts()
    assert {"model", "project", "team"} <= {line.split("\n")[-1] for line in said}, said
    page.locator(".palette input").fill("new token")
    page.wait_for_selector(".palette [role=option][aria-selected=true] >> text=New token")
    assert not complaints(page, "palette")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] >> text=What it is for")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    page.keyboard.type("settings: roles")
    page.keyboard.press("Enter")
    page.wait_for_url("**/settings?tab=roles")
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open] >> text=Approvals")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("v")
    page.wait_for_url("**/approvals")


def test_an_open_page_hears_of_a_new_run(page: Any, server: str) -> None:
    page.goto("/")
    page.wait_for_selector(".table")
    name = f"fresh-{int(time.time() * 1000)}"
    with httpx.Client(base_url=f"{server}/api/2.0/mlflow") as http:
        started = {"experiment_id": "0", "run_name": name, "start_time": int(time.time() * 1000)}
        http.post("/runs/create", json=started).raise_for_status()
    page.wait_for_selector(f"text={name}", timeout=5000)
