"""`make screenshots`: runs the fast demo and takes a picture of each page, in both themes, into docs/images/."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parent.parent / "docs" / "images"
PORT, GATEWAY = 5071, 5072
URL = f"http://127.0.0.1:{PORT}"
ARGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync"]  # fmt: skip


def pages(home: Path) -> dict[str, str]:
    """Name and address of each page that is worth a picture."""
    api = httpx.Client(base_url=URL + "/api/v1")
    run = api.get("/pipeline-runs").json()["items"][0]["id"]
    alert = api.get("/alerts").json()["items"][0]["id"]
    prediction = json.loads((home / "demo.json").read_text())["prediction"]
    runs = api.get("/runs", params={"columns": "name", "limit": 3}).json()["ids"]
    return {
        "home": "/", "runs": "/runs", "run": f"/runs/{runs[0]}", "run-files": f"/runs/{runs[0]}?tab=files",
        "compare": f"/compare?runs={','.join(runs)}", "traces": "/traces?experiment=0", "datasets": "/datasets",
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
        IMAGES.mkdir(parents=True, exist_ok=True)
        browser_path = shutil.which("chromium") or shutil.which("google-chrome")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=browser_path, args=ARGS)
            for theme in ("light", "dark"):
                page = browser.new_page(color_scheme=theme, viewport={"width": 1280, "height": 800})  # type: ignore[arg-type]
                for name, path in pages(home).items():
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
