"""The web UI in a real browser, against MLflow's (latest version, `mlflow server`, its default command), on the same data, in turns.

    make bench T=ui                      10,000 runs × (20 params, 10 metrics, 5 tags), one series of 1,000,000 points; about 5 minutes
    python -m benchmarks.ui --fast       1,000 runs, 100,000 points, fewer loads

Each load is cold: a fresh browser context without a cache, at an address that names the experiment or the run. A moment is the page's own
clock, from the start of the navigation to the frame after the one in which the thing was first in the document. Medians over the loads.
What Noria draws is compared with the series itself: the lowest and highest of every bucket, as it is read, and as it is zoomed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

if __package__ in (None, ""):  # `python benchmarks/ui.py`, as the Makefile runs it
    sys.path.insert(0, str(Path(__file__).parent.parent))

from playwright.sync_api import Browser, Page, Response, sync_playwright

from benchmarks.servers import ROOT, Mlflow, Noria, Server, environment
from benchmarks.tracking import Bench, Side, Sizes, fill_mlflow, fill_noria, fill_series, machine, table, value

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
# Notes the moment of the frame after the one in which `SEEN` first held.
WATCH = """
  (() => {
    const seen = () => { try { return Boolean(SEEN); } catch { return false; } };
    const look = () => (seen() ? requestAnimationFrame(() => { window.seenAt = performance.now(); }) : requestAnimationFrame(look));
    requestAnimationFrame(look);
  })()"""
SCRIPTS = """() => performance.getEntriesByType('resource').filter((e) => /[.]m?js([?]|$)/.test(e.name))
                     .reduce((sum, e) => sum + e.encodedBodySize, 0)"""
DRAWN = {
    "noria": "document.querySelector('.uplot canvas') && document.querySelector('.legend .v')",
    "mlflow": "document.querySelector('.js-plotly-plot .scatterlayer path.js-line')",
}
# Of a zoom: the frame after the one in which the answer for the narrower range was there.
ZOOMED = """() => new Promise((done) => {
    const began = window.upAt, look = () => {
      const read = performance.getEntriesByType('resource').find((e) => /[/]series[?].*from=/.test(e.name) && e.responseEnd > 0);
      if (read) requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - began))); else requestAnimationFrame(look);
    };
    look();
  })"""


class Visitor:
    """A browser that comes to each page for the first time."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    @contextmanager
    def at(self, url: str, seen: str, series: list[dict[str, Any]] | None = None) -> Iterator[tuple[Page, float]]:
        """The page at `url` and the milliseconds until `seen` held; answers with series are put into `series`."""
        context = self._browser.new_context(viewport={"width": 1280, "height": 800})
        context.set_default_timeout(180_000)
        context.add_init_script(WATCH.replace("SEEN", seen))
        page = context.new_page()
        if series is not None:
            page.on("response", lambda answer: keep(answer, series))
        page.goto(url, wait_until="commit")
        page.wait_for_function("() => window.seenAt")
        yield page, float(page.evaluate("() => window.seenAt"))
        context.close()


def keep(answer: Response, into: list[dict[str, Any]]) -> None:
    if "/series?" in answer.url and answer.ok:
        into.append({"query": parse_qs(urlsplit(answer.url).query), **answer.json()["series"]["loss"]})


def check(curve: dict[str, Any], count: int) -> None:
    """Every bucket of an answer has exactly the lowest and the highest of its points."""
    first, last = (int(curve["query"].get(k, [d])[0]) for k, d in (("from", 0), ("to", count - 1)))
    first, last = max(0, first), min(count - 1, last)
    starts = [*curve["step"], last + 1]
    if curve["count"] != last - first + 1:
        raise SystemExit(f"{curve['count']} points between {first} and {last}")
    for i, (low, high) in enumerate(zip(curve["min"], curve["max"], strict=True)):
        values = [value(s) for s in range(starts[i], starts[i + 1])]
        if (low, high) != (min(values), max(values)):
            raise SystemExit(f"Bucket {i} from step {starts[i]}: {low}, {high} are not {min(values)}, {max(values)}")


def runs_page(bench: Bench, visitor: Visitor, loads: int) -> None:
    """The table of all runs: the first rows, all of them, and what came over the wire for it."""
    name = f"run-{bench.sizes.runs - 1:05d}"
    seen = f"document.body.textContent.includes('{name}')"

    def first(side: Side) -> tuple[float, float]:
        base = f"http://127.0.0.1:{side.port}"
        url = (
            f"{base}/runs?experiment={side.experiment}"
            if side.name == "noria"
            else f"{base}/#/experiments/{side.experiment}/runs"
        )
        with visitor.at(url, seen) as (page, ms):
            page.wait_for_timeout(500)
            return ms / 1000, page.evaluate(SCRIPTS) / 1000

    found = bench.turns(first, loads)
    bench.add("runs table, cold: first rows", "s", {n: [r[0] for r in rs] for n, rs in found.items()}, "≤ 1 s")
    bench.add("JavaScript of that page, as sent", "kB", {n: [r[1] for r in rs] for n, rs in found.items()}, "≤ 150 kB")
    whole = f"document.querySelector('.runs-table')?.getAttribute('aria-rowcount') === '{bench.sizes.runs + 1}'"
    took = []
    for _ in range(loads):
        with visitor.at(f"http://127.0.0.1:{bench.noria.port}/runs?experiment={bench.noria.experiment}&sel=none", whole) as (
            _,
            ms,
        ):
            took.append(ms / 1000)
    bench.add(f"runs table, cold: all {bench.sizes.runs:,} rows", "s", {"noria": took}, "–")
    floor = []
    for _ in range(loads):  # what the browser and the machine take for a page without a program
        with visitor.at(f"http://127.0.0.1:{bench.noria.port}/login", "document.querySelector('form')") as (_, ms):
            floor.append(ms / 1000)
    bench.add("floor: a form without a program, cold", "s", {"noria": floor}, "–")


def curve_page(bench: Bench, visitor: Visitor, loads: int) -> None:
    """The curve of the long series: cold, and zoomed."""
    ids = {side.name: side.run(name="long") for side in bench.sides}
    for side in bench.sides:
        fill_series(side, ids[side.name], bench.sizes.points)
    answers: list[dict[str, Any]] = []
    zooms: list[float] = []

    def drawn(side: Side) -> float:
        base, run = f"http://127.0.0.1:{side.port}", ids[side.name]
        url = (
            f"{base}/runs/{run}"
            if side.name == "noria"
            else f"{base}/#/experiments/{side.experiment}/runs/{run}/model-metrics"
        )
        with visitor.at(url, DRAWN[side.name], answers if side.name == "noria" else None) as (page, ms):
            if side.name == "noria":
                zooms.append(zoomed(page))
            return ms / 1000

    found = bench.turns(drawn, loads)
    for curve in answers:
        check(curve, bench.sizes.points)
    assert len(answers) >= 2 * loads, "the curve and its zoom were not both read"
    bench.add(f"run page, cold: {bench.sizes.points:,} points drawn", "s", found, "–")
    bench.add("zoom to a fifth, until drawn", "s", {"noria": zooms}, "≤ 0.5 s")
    bench.add(
        f"{bench.sizes.points:,} points, from a click in the table", "s", {"noria": opened(bench, visitor, loads)}, "≤ 0.5 s"
    )


def opened(bench: Bench, visitor: Visitor, loads: int) -> list[float]:
    """Seconds from the click on the long run in the table until its curve is drawn; the program is there already, the curve is not."""
    took = []
    url = f"http://127.0.0.1:{bench.noria.port}/runs?experiment={bench.noria.experiment}&sel=none&filter=attributes.run_name = 'long'"
    for _ in range(loads):
        with visitor.at(url, "document.querySelector('.runs-table td.name a')") as (page, _):
            page.wait_for_timeout(1500)
            page.evaluate(
                "() => addEventListener('click', () => { window.clickAt = performance.now(); }, { capture: true, once: true })"
            )
            page.evaluate("() => { window.seenAt = 0; }")
            page.evaluate(WATCH.replace("SEEN", DRAWN["noria"]))
            page.locator(".runs-table td.name a", has_text="long").first.click()
            page.wait_for_function("() => window.seenAt")
            took.append(float(page.evaluate("() => window.seenAt - window.clickAt")) / 1000)
    return took


def zoomed(page: Page) -> float:
    """Seconds from the end of a drag across a fifth of the plot until the narrower curve is drawn."""
    page.evaluate(
        "() => addEventListener('mouseup', () => { window.upAt = performance.now(); }, { capture: true, once: true })"
    )
    box = page.locator(".uplot .u-over").first.bounding_box()
    assert box
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.4, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, y)
    page.mouse.move(box["x"] + box["width"] * 0.6, y)
    page.mouse.up()
    return float(page.evaluate(ZOOMED)) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="fewer runs, points and loads")
    parser.add_argument("--workers", type=int, help="MLflow's workers; its default when not given")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "ui.json")
    chosen = parser.parse_args()
    sizes, loads = Sizes(chosen.fast, None), 3 if chosen.fast else 7
    with tempfile.TemporaryDirectory(prefix="noria-bench-", ignore_cleanup_errors=True) as folder:
        servers: list[Server] = [Noria(Path(folder) / "noria"), Mlflow(Path(folder) / "mlflow", chosen.workers)]
        about = machine(environment("server", "mlflow"))
        try:
            bench = Bench(Side(servers[0]), Side(servers[1]), sizes)
            fill_noria(bench.noria, bench.noria.experiment, sizes.runs)
            fill_mlflow(bench.mlflow, bench.mlflow.experiment, sizes.runs)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
                about["chromium"] = browser.version
                print(json.dumps(about), flush=True)
                for work in (runs_page, curve_page):
                    began = time.perf_counter()
                    work(bench, Visitor(browser), loads)
                    print(f"({work.__name__}: {time.perf_counter() - began:.0f} s)", flush=True)
                browser.close()
        finally:
            for server in servers:
                server.stop()
    print("\n" + table(bench.rows))
    rows = [
        {"name": r.name, "unit": r.unit, "noria": r.noria, "mlflow": r.mlflow, "ratio": r.ratio, "target": r.target}
        for r in bench.rows
    ]
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(
        json.dumps({"machine": about, "fast": chosen.fast, "loads": loads, "rows": rows}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
