"""`make screenshots`: the fast demo and a team's week of runs; a picture of each page, in both themes, into docs/images/."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
from playwright.sync_api import sync_playwright

if __package__ in (None, ""):  # `python scripts/screenshots.py`, as the Makefile runs it
    sys.path.insert(0, str(Path(__file__).parent.parent))

from scripts.story import Story, tell

IMAGES = Path(__file__).parent.parent / "docs" / "images"
PORT, GATEWAY = 5071, 5072
URL = f"http://127.0.0.1:{PORT}"
FILES = ("plots/confusion.png", "predictions.csv", "report.md", "report.json", "model.svg", "weights.bin")
ARGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync"]  # fmt: skip


def pages(home: Path, story: Story) -> dict[str, str]:
    """Name and address of each page that is worth a picture."""
    api = httpx.Client(base_url=URL + "/api/v1")
    run = api.get("/pipeline-runs").json()["items"][0]["id"]
    alert = api.get("/alerts").json()["items"][0]["id"]
    prediction = json.loads((home / "demo.json").read_text())["prediction"]
    table, full, version = f"/runs?experiment={story.experiment}", f"/runs/{story.full}", "/models/churn/3"
    some, two = ",".join(story.runs[6:]), f"{story.full},{story.runs[4]}"
    tabs = {
        f"run-{tab}": f"{full}?tab={tab}"
        for tab in ("system", "console", "params", "metrics", "code", "environment", "data")
    }
    tabs |= {f"run-{tab}": f"{full}?tab={tab}" for tab in ("files", "card", "lineage")}
    tabs |= {f"run-{name.rsplit('.')[-1]}": f"{full}?tab=files&file={name}" for name in FILES}
    tabs |= {
        f"empty-{tab}": f"/runs/{story.runs[0]}?tab={tab}" for tab in ("system", "console", "environment", "data", "files")
    }
    tabs |= {
        f"churn-{tab}": f"{version}?tab={tab}" for tab in ("against", "card", "signature", "files", "origin", "environment")
    }
    tabs |= {f"compare-{tab}": f"/compare?runs={some}&tab={tab}" for tab in ("curves", "importance", "parallel", "scatter")}
    return {
        **tabs, "home": "/", "runs": table, "runs-groups": f"{table}&group=params.optimizer&sel=none", "view": f"/views/{story.view}",
        "runs-parallel": f"{table}&draw=parallel", "run": full, "run-diverged": f"/runs/{story.diverged}",
        "run-running": f"/runs/{story.running}", "compare": f"/compare?runs={some}", "compare-code": f"/compare?runs={two}&tab=code",
        "churn": "/models/churn", "churn-version": version, "churn-file": f"{version}?tab=files&file=README.md",
        "churn-lineage": "/lineage/model:churn", "traces": f"/traces?experiment={story.experiment}", "trace": f"/traces/{story.trace}",
        "datasets": "/datasets",
        "models": "/models", "pipelines": "/pipelines", "endpoints": "/endpoints", "monitors": "/monitors",
        "dataset": "/datasets/flights", "model": "/models/flights", "version": "/models/flights/2",
        "pipeline-run": f"/pipeline-runs/{run}", "endpoint": "/endpoints/flights", "monitor": "/monitors/flights-calibration",
        "alert": f"/alerts/{alert}", "loop": "/loops/flights", "audit": "/audit", "approvals": "/approvals",
        "passport": f"/passports/{prediction}", "lineage": "/lineage/model:flights", "settings": "/settings",
    }  # fmt: skip


def main() -> None:
    home = Path(tempfile.mkdtemp(prefix="noria-pictures-"))
    command = [sys.executable, "-m", "noria.cli.main", "demo", "--fast", "--home", str(home), "--port", str(PORT)]
    demo = subprocess.Popen([*command, "--gateway-port", str(GATEWAY)], stdout=subprocess.PIPE, text=True)
    try:
        assert demo.stdout
        for line in demo.stdout:
            print(line, end="")
            if "keeps running" in line:
                break
        story = tell(URL)
        IMAGES.mkdir(parents=True, exist_ok=True)
        browser_path = shutil.which("chromium") or shutil.which("google-chrome")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=browser_path, args=ARGS)
            for theme in ("light", "dark"):
                page = browser.new_page(color_scheme=theme, viewport={"width": 1280, "height": 800})  # type: ignore[arg-type]
                for name, path in pages(home, story).items():
                    page.goto(URL + path)
                    page.wait_for_timeout(1500)
                    page.screenshot(path=IMAGES / f"{name}-{theme}.png")
            browser.close()
    finally:
        demo.terminate()
        demo.wait(30)
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
