"""Models, versions, and the run that built them, in a real browser: what one sees is what was recorded, what one does is refused when
somebody was faster, and no file does anything."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from noria.app import App
from scripts.story import Story, tell
from tests.ui.conftest import CHROMIUM, built, complaints, opened, serving, shot

DAY = 86_400_000
EVIL = b"<h1>hello</h1><script>window.pwned = 1</script><img src=x onerror='window.pwned=1'>"

SHOTS = os.environ.get("NORIA_SHOTS", "")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium here"),
]


class Told:
    """A server in which the story happened, its moves of aliases ten days apart."""

    def __init__(self, app: App, url: str, story: Story) -> None:
        self.app, self.url, self.story = app, url, story
        self.http = httpx.Client(base_url=url, timeout=30)

    def moves(self, alias: str) -> list[dict[str, Any]]:
        """Oldest first."""
        items = self.http.get("/api/v1/models/churn/timeline").json()["items"]
        return [m for m in reversed(items) if m["alias"] == alias]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Told]:
    app = built(tmp_path_factory.mktemp("home"), sqlite_template)
    with serving(app) as url:
        story = tell(url)
        with app.db.system_write() as tx:
            tx.raw.execute(
                "update alias_move set at_ms = at_ms - 10 * ? * (select count(*) from alias_move n where n.at_ms >= alias_move.at_ms)",
                (DAY,),
            )
        yield Told(app, url, story)


@pytest.fixture
def page(chromium: Any, told: Told) -> Iterator[Any]:
    page = opened(chromium, told.url)
    yield page
    assert not page.problems
    page.context.close()


def rows(page: Any, label: str) -> list[list[str]]:
    """The cells of a table, row by row."""
    found = page.get_by_role("table", name=label, exact=True).locator("tbody tr")
    return [[cell.inner_text() for cell in row.locator("th, td").all()] for row in found.all()]


def test_a_model_shows_versions_aliases_and_who_was_champion_when(page: Any, told: Told) -> None:
    page.goto("/models/churn")
    page.wait_for_selector("table[aria-label=Versions] tbody tr >> text=odd wren")
    assert [row[0] for row in rows(page, "Versions")] == ["@3", "@2", "@1"]
    assert [row[:2] for row in rows(page, "Aliases")] == [["champion", "@2"], ["challenger", "@3"]]
    assert page.locator(".gantt a.span.named").count() == 4
    first, second = told.moves("champion")
    field = page.get_by_label("Who was who on")
    for at_ms, said in (
        (first["at_ms"] - DAY, "No alias named a version then."), (first["at_ms"] + DAY, "champion was @1"),
        (second["at_ms"] + DAY, "champion was @2"),
    ):  # fmt: skip
        local = page.evaluate(
            "ms => new Date(ms - new Date(ms).getTimezoneOffset() * 60000).toISOString().slice(0, 16)", at_ms
        )
        field.fill(local)
        page.wait_for_selector(f".champion-at >> text={said}")
    shared = page.url
    page.goto("/models")
    page.goto(shared)  # the moment is in the address
    page.wait_for_selector(".champion-at >> text=Won for two weeks.")
    page.get_by_text("Every move").click()
    assert len(rows(page, "Moves of aliases")) == 4


def test_an_alias_that_moved_meanwhile_is_not_moved_again(page: Any, told: Told) -> None:
    told.http.put("/api/v1/models/churn/aliases/raced", json={"version": 1, "expect": 0}).raise_for_status()
    page.goto("/models/churn")
    page.get_by_role("button", name="Move raced", exact=True).click()
    page.locator("dialog select[name=version]").select_option("2")
    page.locator("dialog textarea").fill("looks better")
    told.http.put("/api/v1/models/churn/aliases/raced", json={"version": 3, "expect": 1}).raise_for_status()
    page.wait_for_selector(
        "table[aria-label=Aliases] tr:has-text('raced') >> text=@3"
    )  # the page heard of it; the dialog asks as it was opened
    page.get_by_role("button", name="Move raced from @1 to @2").click()
    page.wait_for_selector("dialog [role=alert] >> text=moved since")
    page.get_by_role("button", name="Leave as it is").click()
    page.get_by_role("button", name="Move raced", exact=True).click()
    page.locator("dialog select[name=version]").select_option("2")
    page.get_by_role("button", name="Move raced from @3 to @2").click()
    page.wait_for_selector("table[aria-label=Aliases] tr:has-text('raced') >> text=@2")
    page.get_by_role("button", name="Remove raced", exact=True).first.click()
    page.get_by_role("button", name="Remove raced", exact=True).last.click()
    page.wait_for_selector("table[aria-label=Aliases] tr:has-text('raced')", state="detached")
    assert [m["version"] for m in told.moves("raced")] == [1, 3, 2, None]


def test_a_version_says_where_it_comes_from_and_what_changed(page: Any, told: Told) -> None:
    page.goto("/models/churn/3")
    page.wait_for_selector(
        "table[aria-label='Metrics on test'] tbody tr:first-child td:nth-child(4)"
    )  # once the champion is known
    assert rows(page, "Metrics on test") == [
        ["auc", "0.903", "0.889", "+0.014"], ["log_loss", "0.311", "0.331", "\u22120.02"], ["recall", "0.725", "0.73", "\u22120.005"],
    ]  # fmt: skip
    assert page.locator(".delta.worse").count() == 1, "less recall is worse"
    page.get_by_role("tab", name="Signature").click()
    assert [row[:2] for row in rows(page, "Inputs")] == [
        ["tenure", "long"], ["monthly_charge", "double"], ["contract", "string"], ["paperless", "boolean"],
    ]  # fmt: skip
    assert rows(page, "Example of an input")[0] == ["3", "71.35", "monthly", "true"]
    page.get_by_role("tab", name="Against @2").click()
    page.wait_for_selector("table[aria-label='Settings that differ'] >> text=optimizer")
    page.get_by_role("tab", name="Lineage").click()
    page.wait_for_selector(".kv >> text=7f1c2ad8e0")
    assert "python train.py --depth 3" in page.inner_text(".kv >> nth=0")
    page.wait_for_selector("[role=tabpanel] .graph >> text=churn@3")
    page.get_by_role("tab", name="Environment").click()
    page.wait_for_selector("pre >> text=scikit-learn==1.7.2")
    page.goto("/models/churn/1?tab=against")
    page.wait_for_selector("text=1 package")
    page.wait_for_selector("table[aria-label='Fields that differ'] >> text=paperless")


def test_files_of_a_version_are_looked_at_and_do_nothing(page: Any, told: Told) -> None:
    page.goto("/models/churn/3?tab=files")
    page.get_by_role("button", name="README.md").click()
    page.wait_for_selector(".file-view .prose strong >> text=better on every slice")
    page.get_by_role("button", name="MLmodel").click()
    page.wait_for_selector(".file-view pre >> text=python_function")
    page.get_by_role("button", name="model.skops").click()
    page.wait_for_selector(".file-view >> text=neither text")
    run = told.http.post("/api/v1/runs", json={"experiment": "evil", "name": "evil"}).json()["id"]
    for name in ("MLmodel", "index.html", "notes.md"):
        content = b"flavors: {}\n" if name == "MLmodel" else EVIL
        told.http.put(f"/api/v1/runs/{run}/artifacts/content", params={"path": f"model/{name}"}, content=content)
    told.http.post("/api/v1/models", json={"name": "evil"}).raise_for_status()
    made = told.http.post("/api/v1/models/evil/versions", json={"source": f"runs:/{run}/model"})
    made.raise_for_status()
    for name, seen in (("index.html", "pre >> text=onerror"), ("notes.md", ".prose >> text=hello")):
        page.goto(f"/models/evil/1?tab=files&file={name}")
        page.wait_for_selector(f".file-view {seen}")
        assert page.evaluate("() => window.pwned") is None, name
    assert told.http.get("/api/v1/models/evil/versions/1/preview", params={"path": "../../secret"}).status_code == 404


def test_a_card_and_a_note_are_written(page: Any, told: Told) -> None:
    page.goto("/models/churn/3?tab=card")
    page.wait_for_selector(".prose strong >> text=nothing")
    page.locator("li", has_text="Intended use").get_by_role("button", name="Write").click()
    page.get_by_label("What is it for").fill("For *retention* offers only.")
    page.get_by_role("button", name="Save the section").click()
    page.wait_for_selector(".prose em >> text=retention")
    page.goto(f"/runs/{told.story.full}?tab=card")
    page.wait_for_selector(".prose em >> text=retention")  # the card of the version it built
    page.get_by_role("button", name="Edit", exact=True).first.click()
    page.get_by_role("textbox", name="Note").fill("Now **final**. <script>window.pwned = 1</script>")
    page.get_by_role("button", name="Save the note").click()
    page.wait_for_selector(".prose strong >> text=final")
    assert page.evaluate("() => window.pwned") is None
    tags = told.http.get(f"/api/v1/runs/{told.story.full}").json()["tags"]
    assert tags["mlflow.note.content"].startswith("Now **final**.")


def test_the_system_tab_draws_against_the_clock(page: Any, told: Told) -> None:
    page.goto(f"/runs/{told.story.full}?tab=system")
    page.wait_for_selector(".uplot canvas")
    assert page.get_by_role("button", name="Elapsed").get_attribute("aria-pressed") == "true"
    assert page.locator(".chart-head h3").first.inner_text() == "system/cpu_utilization_percentage"
    page.get_by_label("Find a metric").fill("gpu")
    page.wait_for_function("() => document.querySelectorAll('.chart').length === 2")
    page.goto(f"/runs/{told.story.runs[0]}?tab=system")
    page.wait_for_selector("text=No system metrics.")


def test_what_diverged_is_shown_sorted_and_found_as_such(page: Any, told: Told) -> None:
    page.goto(
        f"/runs?experiment={told.story.experiment}&sel=none&sort=metrics.val/loss:desc&cols=name,metrics.val/loss,metrics.auc"
    )
    page.wait_for_selector(".runs-table >> text=late heron")
    lines = [row.locator("td").all_inner_texts() for row in page.locator(".runs-table tr[data-row]").all()]
    shown = {row[1]: row[2:4] for row in lines}
    assert shown["late heron"][0] == "NaN" and shown["pale moth"][0] == "+∞" and shown["stern ibis"][0] == "\u2212∞"
    assert shown["calm newt"][1] == "\u2013", "a metric that was never logged"
    assert (lines[0][1], lines[-1][1]) == ("pale moth", "late heron"), "NaN is after the numbers"
    page.get_by_label("Find among these runs").fill("loss = NaN")
    page.wait_for_function("() => document.querySelectorAll('.runs-table tr[data-row]').length === 1")
    page.goto(f"/runs/{told.story.diverged}")
    page.wait_for_selector(".facts >> text=NaN")
    page.wait_for_selector(".legend >> text=54 NaN")


def test_a_run_did_not_read_what_its_version_was_measured_on(page: Any, told: Told) -> None:
    page.goto(f"/runs/{told.story.full}")
    page.wait_for_selector(".story >> text=It gave churn@3.")
    assert "It read" not in page.inner_text(".story")
    page.goto("/lineage/model:churn")
    page.wait_for_selector(".graph >> text=churn@2")
    page.wait_for_selector(".graph >> text=churn@champion")


def test_the_map_is_opened_further_and_says_what_would_feel_a_change(page: Any, told: Told) -> None:
    version = told.http.get("/api/v1/models/churn/versions/3").json()["version"]
    told.http.post("/api/v1/reports", json={"title": "Who leaves?", "blocks": [{"kind": "model", "model": "churn"}]})
    page.goto(f"/lineage/run:{version['run_id']}?depth=1")
    page.wait_for_selector(".graph >> text=churn@3")
    before = page.locator(".graph .node").count()
    page.locator(".graph .node .more").first.click()
    page.wait_for_function("n => document.querySelectorAll('.graph .node').length > n", arg=before)
    assert "open=" in page.url, "what is open is in the address"
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/lineage-map.png")
    page.get_by_role("button", name="Impact").click()
    page.wait_for_selector(".story >> text=would be felt by")
    page.wait_for_selector("table >> text=Who leaves?")
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/lineage-impact.png")
        page.emulate_media(color_scheme="dark")
        page.screenshot(path=f"{SHOTS}/lineage-impact-dark.png")
    assert page.get_by_role("link", name="OpenLineage").get_attribute("href").startswith("/api/v1/lineage/run%3A")


def test_a_saved_view_opens_by_its_link_for_somebody_else(page: Any, chromium: Any, told: Told) -> None:
    page.goto(f"/runs?experiment={told.story.experiment}&sel=none")
    page.get_by_role("button", name="Saved views").click()
    page.get_by_role("button", name="least loss", exact=True).click()
    page.wait_for_function("() => location.search.includes('saved=')")
    page.wait_for_selector("th[data-column='metrics.val/loss'][aria-sort=ascending]")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="View least loss").click()
    page.get_by_role("button", name="Copy the link of least loss").click()
    page.wait_for_selector("text=Link copied")
    link = page.evaluate("() => navigator.clipboard.readText()")
    assert link == f"{told.url}/views/{told.story.view}"
    other = opened(chromium, told.url)
    other.goto(link)
    other.wait_for_selector("th[data-column='metrics.val/loss'][aria-sort=ascending]")
    assert other.locator("th[data-column]").nth(1).get_attribute("data-column") == "metrics.val/loss", "it is pinned"
    other.context.close()


def test_models_and_versions_pass_axe(chromium: Any, told: Told) -> None:
    page = opened(chromium, told.url)
    found, full = [], told.story.full
    for place, ready in (
        ("/models/churn", ".gantt"), ("/models/churn/3", "table"), ("/models/churn/3?tab=against", "table"),
        ("/models/churn/3?tab=card", ".prose"), ("/models/churn/3?tab=signature", "table"), ("/models/churn/3?tab=origin", ".graph"),
        ("/models/churn/3?tab=files&file=README.md", ".prose"), (f"/runs/{full}?tab=system", ".uplot canvas"),
        (f"/runs/{full}?tab=card", ".prose"), (f"/runs/{full}?tab=files&file=predictions.csv", "table.data"),
        (f"/traces/{told.story.trace}", ".gantt"), ("/lineage/model:churn", ".graph"),
        ("/lineage/model:churn?view=impact", ".graph"),
    ):  # fmt: skip
        page.goto(place)
        page.wait_for_selector(ready)
        page.wait_for_selector("[role=progressbar]", state="detached")
        found += complaints(page, place)
    page.context.close()
    assert not found


def test_an_approval_is_looked_at_with_its_evidence_and_an_override_is_told_to_everybody(page: Any, told: Told) -> None:
    version = told.http.get("/api/v1/models/churn/versions/3").json()["version"]
    evidence = {
        "model": "churn", "version": 3, "champion": 2, "evaluation": {"split": "test", "metrics": {"auc": 0.91, "log_loss": 0.31}},
        "champion_evaluation": {"split": "test", "metrics": {"auc": 0.88, "log_loss": 0.35}},
    }  # fmt: skip
    asked = {"subject": f"model_version:{version['id']}", "action": "model.promote", "digest": version["digest"],
             "evidence": evidence, "comment": "holds on every airport"}  # fmt: skip
    made = told.http.post("/api/v1/approvals", json=asked).json()
    page.goto("/approvals")
    page.get_by_role("button", name="Look at it…").click()
    page.wait_for_selector("table[aria-label=Numbers] tbody tr >> text=log_loss")
    assert [row[:3] for row in rows(page, "Numbers")] == [["auc", "0.91", "0.88"], ["log_loss", "0.31", "0.35"]]
    page.wait_for_selector("text=Against the champion @2")
    page.wait_for_selector("text=“holds on every airport” >> nth=0", state="attached")
    shot(page, "approval")
    assert not complaints(page, "approval")

    override = told.http.post(f"/api/v1/approvals/{made['id']}/override", json={"comment": "INC-42: scoring is down"})
    assert override.status_code == 200
    page.goto("/models/churn")
    page.wait_for_selector(".banner >> text=went past the approval of model.promote")
    shot(page, "banner")
    page.get_by_role("link", name="Look at it").click()
    page.wait_for_selector("text=Somebody else has to look at it")
    shot(page, "override")
    assert not complaints(page, "override")
    told.http.post(f"/api/v1/approvals/{made['id']}/review", json={"finding": "x"})


def test_a_fact_is_proved_in_the_browser_and_the_log_is_narrowed(page: Any, told: Told) -> None:
    told.app.audit.seal()
    page.goto("/audit?kinds=model_version.created")
    page.wait_for_selector("table[aria-label=Facts] tbody tr")
    assert {row[2] for row in rows(page, "Facts")} == {"model_version.created"}
    page.locator("table[aria-label=Facts] tbody tr button.mono").first.click()
    page.get_by_role("button", name="Prove that it is in the signed log").click()
    page.wait_for_selector("text=Worked out in this browser")
    shot(page, "proof")
    assert not complaints(page, "proof")
    page.goto("/audit?to=2001-01-01")
    page.wait_for_selector("text=Nothing in the record matches.")
    page.goto("/models/churn/3")
    page.wait_for_selector("text=Bill of materials")
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Bill of materials").click()
    assert json.loads(downloading.value.path().read_text())["bomFormat"] == "CycloneDX"
    shot(page, "version")
