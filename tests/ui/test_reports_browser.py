"""Reports in a real browser: read, written by two, brought back, shared by a link that reads nothing else, and printed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from noria.client.api import Api
from noria.client.datasets import dataset
from tests.ui.conftest import CHROMIUM, built, complaints, opened, serving

SHOTS = os.environ.get("NORIA_SHOTS", "")
WORDS = """## What happened

The delays of January are **longer** than those of the summer, and the deeper trees follow them better.

- the *baseline* forgets the weather
- `deeper` does not

| airport | minutes |
| --- | --- |
| EWR | 15 |
| JFK | 12 |
"""

# Whether the first chart is drawn in the light theme's first colour: now, and once the browser says that it is about to print.
LIGHT_INK = """() => {
    const canvas = document.querySelector('.report .uplot canvas');
    const bytes = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    for (let i = 0; i < bytes.length; i += 4) if (bytes[i] === 0x61 && bytes[i + 1] === 0x8b && bytes[i + 2] === 0xf9) return true;
    return false;
}"""
LIGHT_INK_AT_PRINT = f"""async () => {{
    dispatchEvent(new Event('beforeprint'));
    for (let i = 0; i < 50; i += 1) await null;  // what has not happened without waiting is not on the paper
    const found = ({LIGHT_INK})();
    dispatchEvent(new Event('afterprint'));
    return found;
}}"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium here"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[tuple[str, str]]:
    """A server that allows public reports, and a report with panels on it: its address, and the report's id."""
    app = built(tmp_path_factory.mktemp("home"), sqlite_template, public_reports="yes")
    app.start()
    with serving(app) as url, httpx.Client(base_url=url, timeout=30) as http:
        for i, name in enumerate(("baseline", "deeper", "widest")):
            run = http.post("/api/v1/runs", json={"experiment": "flights", "name": name}).json()["id"]
            curves = {"loss": lambda s, i=i: 1 / (1 + s / (3 + i)), "auc": lambda s: 1 - 1 / (2 + s)}
            points = [
                {"key": key, "value": curve(s), "timestamp": 1_700_000_000_000 + s, "step": s}
                for s in range(60)
                for key, curve in curves.items()
            ]
            params = [{"key": "depth", "value": str(3 * i + 3)}]
            body = {"run_id": run, "metrics": points, "params": params}
            http.post("/api/2.0/mlflow/runs/log-batch", json=body).raise_for_status()
        data = dataset("flights", api=Api(httpx.Client(base_url=url), url=url))
        rows = [f"{'EWR' if i % 3 else 'JFK'},{i % 40},{i * 7 % 90}" for i in range(200)]
        for more in (150, 200):
            data.commit({"january.csv": "\n".join(["origin,wind,delay", *rows[:more]]).encode()})
        blocks = [
            {"kind": "text", "text": WORDS},
            {"kind": "curves", "experiment": "flights", "metrics": ["loss", "auc"]},
            {"kind": "text", "text": "The same runs, best first:"},
            {"kind": "runs", "experiment": "flights", "columns": [f"metrics.{k}" for k in curves], "order_by": "metrics.loss"},
            {"kind": "dataset", "dataset": "flights"},
            {"kind": "dataset", "dataset": "flights", "version": "2", "against": "1"},
            {"kind": "model", "model": "nothing"},
        ]  # fmt: skip
        report = http.post("/api/v1/reports", json={"title": "The delays of January", "blocks": blocks})
        assert report.status_code == 201, report.text
        yield url, report.json()["id"]
    app.stop()


def test_a_report_is_read_and_found(made: tuple[str, str], chromium: Any) -> None:
    url, report = made
    page = opened(chromium, url)
    page.goto("/reports")
    page.wait_for_selector("text=The delays of January")
    found = in_both_themes(page, "reports")
    page.keyboard.press("Control+k")
    page.keyboard.type("delays of jan")
    page.wait_for_selector(".palette [role=option] >> text=The delays of January")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/reports/{report}")
    drawn(page)
    assert page.locator(".report .uplot canvas").count() == 2 and page.locator(".report .prose table td").count() == 4
    assert page.locator(".report-panel.model .notice").inner_text().startswith("There is no model named"), "the others stand"
    found += in_both_themes(page, "report", whole=True)
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(200)
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390, f"it is {wide} px wide on a telephone"
    shot(page, "report-390", whole=True)
    assert not found
    page.context.close()


def test_a_report_is_written_saved_and_brought_back(made: tuple[str, str], chromium: Any) -> None:
    url, _ = made
    page = opened(chromium, url)
    page.goto("/reports")
    page.get_by_role("button", name="New report").click()
    page.get_by_label("Title").fill("Written by hand")
    page.get_by_role("button", name="Begin").click()
    page.wait_for_url("**/reports/*?edit=1")
    report = re.search(r"/reports/(\w+)", page.url)[1]  # type: ignore[index]
    page.get_by_role("button", name="Add a block here").click()
    page.get_by_role("button", name="Text", exact=True).click()
    page.wait_for_selector("textarea.words")
    page.keyboard.type("Hello **you**.")
    page.get_by_role("button", name="Add a block here").last.click()
    page.get_by_role("button", name="Curves", exact=True).click()
    page.get_by_label("Experiment").fill("flights")
    page.locator(".sheet .chip", has_text="loss").click()
    page.wait_for_selector(".report-block .uplot canvas")
    found = in_both_themes(page, "report-edit")
    page.get_by_role("button", name="Chosen runs").click()
    page.locator(".pick label", has_text="deeper").click()
    page.wait_for_selector(".report-block .legend li:only-child >> text=deeper")
    page.get_by_role("button", name="Done").click()
    page.get_by_role("button", name="Move up").last.click()
    page.reload()
    page.wait_for_selector(".report-block[data-block] .uplot canvas")
    assert page.locator(".report-block").first.locator(".block-tools .muted").inner_text() == "Curves", (
        "a reload loses nothing"
    )
    with httpx.Client(base_url=url) as other:  # somebody else is faster
        body = {"title": "Theirs", "blocks": [], "expect": 1}
        other.put(f"/api/v1/reports/{report}", json=body).raise_for_status()
    page.wait_for_selector("text=Somebody saved version 2")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_selector(".notice.warn >> text=since you read version 1")
    page.get_by_role("button", name="Save mine after it").click()
    page.wait_for_selector(".report >> text=Hello")
    assert page.locator(".report h2").inner_text() == "Written by hand"
    page.get_by_role("button", name="Version 3").click()
    page.wait_for_selector(".versions li:nth-child(3)")
    found += in_both_themes(page, "report-versions")
    page.locator(".versions a", has_text="Version 2").click()
    page.wait_for_selector(".notice.info >> text=This is version 2")
    page.get_by_role("button", name="Bring it back").first.click()
    page.wait_for_selector(".toast >> text=Version 4 is as version 2 was")
    assert not found
    page.context.close()


def test_a_link_shows_the_report_and_asks_for_nothing_else(made: tuple[str, str], chromium: Any) -> None:
    url, report = made
    page = opened(chromium, url)
    page.goto(f"/reports/{report}?side=share")
    page.wait_for_selector(".sheet form")
    page.get_by_label("Name").fill("for the review")
    page.locator(".sheet select[name=audience]").select_option("public")
    page.get_by_role("button", name="Make a link").click()
    link = page.locator(".sheet .command code").inner_text()
    page.wait_for_selector(".versions >> text=for the review")
    found = in_both_themes(page, "report-share")
    page.context.close()
    secret = link.partition("#")[2]
    reader = opened(chromium, url)
    asked: list[str] = []
    reader.on("request", lambda request: asked.append(request.url))
    reader.goto(f"/shared#{secret}")
    drawn(reader)
    reader.wait_for_selector(".report-panel.runs tbody tr")
    assert all(a.startswith((f"{url}/api/v1/shared", f"{url}/static/", f"{url}/shared")) for a in asked), asked
    assert not any(secret in a.partition("#")[0] for a in asked), "the secret is in no address that is sent"
    assert reader.locator(".report a[href^='/']").count() == 0, "nothing leads further"
    found += in_both_themes(reader, "shared", whole=True)
    assert not found
    reader.goto(f"/shared#{secret[:-2]}xx")
    reader.wait_for_selector("text=This link leads nowhere")
    reader.context.close()


def test_a_report_is_printed_whole_on_white(made: tuple[str, str], chromium: Any, tmp_path: Path) -> None:
    url, report = made
    page = opened(chromium, url, "dark")
    page.add_init_script("window.print = () => { window.printedWith = getComputedStyle(document.body).colorScheme; }")
    page.goto(f"/reports/{report}")
    drawn(page)
    page.get_by_role("button", name="More").click()
    page.get_by_role("button", name="Print, or save as PDF").click()
    page.wait_for_selector("html[data-printed]")
    assert page.evaluate("window.printedWith") == "light"
    page.wait_for_url(re.compile(rf"/reports/{report}$"))
    assert page.evaluate("document.documentElement.dataset.theme") is None, "and dark again afterwards"
    assert not page.evaluate(LIGHT_INK)
    assert page.evaluate(LIGHT_INK_AT_PRINT), "and so it is when the browser's own menu prints"
    page.wait_for_function(f"() => !({LIGHT_INK})()")
    assert page.evaluate("document.documentElement.dataset.theme") is None
    path = Path(SHOTS or tmp_path) / "report.pdf"
    page.pdf(path=str(path), format="A4", print_background=True)
    pdf = path.read_bytes()
    assert pdf.startswith(b"%PDF") and 2 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 5
    page.context.close()


def drawn(page: Any) -> None:
    """Wait until no panel is being read; those below the window are drawn when they come into view."""
    page.wait_for_selector(".report .report-panel")
    page.wait_for_selector(".report [aria-busy=true]", state="detached")
    page.wait_for_selector(".report .uplot canvas")


def in_both_themes(page: Any, name: str, *, whole: bool = False) -> list[str]:
    """What goes wrong on a page as it stands, and what axe says of it, in the light and in the dark."""
    for theme in ("dark", "light") if SHOTS else ():
        page.emulate_media(color_scheme=theme)
        shot(page, f"{name}-{theme}", whole=whole)
    return complaints(page, name)


def shot(page: Any, name: str, *, whole: bool = False) -> None:
    if SHOTS:
        if whole:
            size = page.viewport_size
            tall = page.evaluate("(document.querySelector('.page > .content') || document.documentElement).scrollHeight")
            page.set_viewport_size({"width": size["width"], "height": min(6000, max(800, tall + 60))})
            page.wait_for_timeout(500)
            page.screenshot(path=f"{SHOTS}/{name}.png")
            page.set_viewport_size(size)
        else:
            page.screenshot(path=f"{SHOTS}/{name}.png")
