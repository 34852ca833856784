"""`make screenshots`: the fast demo and a team's week of runs; a picture of each page, in both themes, into docs/images/.

Names after it take only those: `python scripts/screenshots.py project settings-told`.
"""

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
    report = api.get("/reports").json()["items"][0]["id"]
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
        **{f"settings-{tab}": f"/settings?tab={tab}" for tab in ("told", "tokens", "people", "projects", "roles", "sign-in", "secrets",
                                                                "webhooks")},
        "inbox": "/inbox?show=all", "reports": "/reports", "report": f"/reports/{report}",
        "projects": "/projects", "project": "/projects/airport", "channels": "/channels",
        "conversation": f"{full}?tab=conversation", "loops": "/loops", "compliance": "/compliance",
        "compliance-system": "/compliance/airport", "compliance-reviews": "/compliance?tab=reviews",
        "compliance-erasures": "/compliance?tab=erasures", "compliance-holds": "/compliance?tab=holds",
        "passports": "/passports", "pipeline": "/pipelines/flights", "predictions": "/endpoints/flights/predictions",
        "dataset-diff": "/datasets/flights/diff?a=19&b=20",
    }  # fmt: skip


README = """Predicts **which flights will be late**, an hour before they leave.

| Part | Where |
|---|---|
| Data | `dataset:flights`, from the warehouse, every week |
| Asked by | the night shift |
"""


def arrange(story: Story) -> None:
    """What the demo leaves out: a project, a channel, a secret, an AI system, a conversation."""
    with httpx.Client(base_url=URL + "/api/v1", timeout=30) as api:
        about = {"description": "Which flights will be late?"}
        api.put("/projects/airport", json=about).raise_for_status()
        things = ["model", "dataset", "pipeline", "endpoint", "loop"]
        for thing in [*(f"{kind}:flights" for kind in things), f"experiment:{story.experiment}"]:
            api.put(f"/projects/airport/things/{thing}").raise_for_status()
        api.put("/projects/airport/readme", json={"content": README}).raise_for_status()
        channel = {"url": "json://alerts.example.com/noria", "description": "the night shift"}
        api.put("/channels/night-shift", json=channel).raise_for_status()
        secret = {"value": "not a secret at all", "description": "the warehouse"}
        api.put("/secrets/WAREHOUSE_PASSWORD", params={"project": "airport"}, json=secret).raise_for_status()
        system = {
            "title": "Late flights",
            "purpose": "Warns the night shift.",
            "members": ["model:flights", "endpoint:flights"],
        }
        api.put("/systems/airport", json=system).raise_for_status()
        api.post("/compliance/airport/evaluate", json={}).raise_for_status()
        blocks = [
            {"kind": "text", "text": README},
            {"kind": "curves", "experiment": story.experiment, "metrics": ["val/loss"]},
            {"kind": "runs", "experiment": "churn", "columns": ["metrics.auc", "params.optimizer"], "limit": 5},
            {"kind": "monitor", "monitor": "flights-calibration"},
            {"kind": "endpoint", "endpoint": "flights", "span": "1h"},
            {"kind": "model", "model": "flights", "version": "2"},
            {"kind": "dataset", "dataset": "flights", "version": "latest"},
            {"kind": "dataset", "dataset": "flights", "version": "20", "against": "19"},
        ]
        api.post("/reports", json={"title": "Late flights, this week", "blocks": blocks}).raise_for_status()
        first = {"subject": f"run:{story.full}", "body": "Why does the **validation loss** rise after step 600?"}
        said = api.post("/comments", json=first | {"place": "metric:val/loss@600"}).raise_for_status().json()["comment"]
        answer = {"subject": first["subject"], "body": "The learning rate does not decay.", "thread": said["id"]}
        api.post("/comments", json=answer).raise_for_status()


def _chosen(found: dict[str, str], names: list[str]) -> dict[str, str]:
    """The pages of these names; without any, all."""
    unknown = sorted(set(names) - set(found))
    assert not unknown, f"there are no pages {unknown}; there are: {', '.join(sorted(found))}"
    return {name: path for name, path in found.items() if not names or name in names}


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
        arrange(story)
        IMAGES.mkdir(parents=True, exist_ok=True)
        browser_path = shutil.which("chromium") or shutil.which("google-chrome")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=browser_path, args=ARGS)
            for theme in ("light", "dark"):
                page = browser.new_page(color_scheme=theme, viewport={"width": 1280, "height": 800})  # type: ignore[arg-type]
                for name, path in _chosen(pages(home, story), sys.argv[1:]).items():
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
