"""The interface as one instrument, in a real browser: what is not one's own to do says so, projects have pages, a deed is taken back,
home says what needs one, charts become files, and everything works from the keyboard, on a phone and on paper."""

from __future__ import annotations

import csv
import io
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest

from noria.access.model import Grant, NewPrincipal
from noria.app import App
from tests.ui.conftest import CHROMIUM, built, complaints, opened, serving, shot

PASSWORD = "correct horse battery"
SAID = ("Ada asked.", "**Late** flights.")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium here"),
]


class Team:
    """A server with accounts: ada administers, vic may look. There is a model of two versions, a project, and runs of three kinds."""

    def __init__(self, app: App, url: str) -> None:
        self.app, self.url = app, url
        self.http = httpx.Client(base_url=url, timeout=30)
        op = app.ops.system("test")
        for name, role in (("ada", "admin"), ("vic", "viewer")):
            app.access.create_principal(op, NewPrincipal(name=name, kind="user", roles=[role], password=PASSWORD))
        self.http.post("/api/v1/sessions", json={"name": "ada", "password": PASSWORD}).raise_for_status()
        mlflow = "/api/2.0/mlflow"
        made = self.http.post(f"{mlflow}/experiments/create", json={"name": "late-flights"})
        self.experiment = made.json()["experiment_id"]
        self.runs = [self._run(mlflow, name, status) for name, status in (("good", "FINISHED"), ("bad", "FAILED"))]
        self.http.post(f"{mlflow}/registered-models/create", json={"name": "late"}).raise_for_status()
        put = self.http.put(
            f"/api/v1/runs/{self.runs[0]}/artifacts/content", params={"path": "model/MLmodel"}, content=b"flavors: {}\n"
        )
        put.raise_for_status()
        for _ in range(2):
            version = {"name": "late", "source": f"runs:/{self.runs[0]}/model", "run_id": self.runs[0]}
            made = self.http.post(f"{mlflow}/model-versions/create", json=version)
            assert made.status_code == 200, made.text
        self.http.put("/api/v1/models/late/aliases/champion", json={"version": 1, "expect": 0}).raise_for_status()
        self.http.put("/api/v1/projects/airport", json={"description": "Which flights will be late?"}).raise_for_status()
        for thing in ("model:late", f"experiment:{self.experiment}"):
            self.http.put(f"/api/v1/projects/airport/things/{thing}").raise_for_status()

    def _run(self, mlflow: str, name: str, status: str) -> str:
        now = self.app.clock.now_ms()
        started = {"experiment_id": self.experiment, "run_name": name, "start_time": now - 3_600_000}
        run: str = self.http.post(f"{mlflow}/runs/create", json=started).json()["run"]["info"]["run_id"]
        points: list[dict[str, Any]] = [
            {"key": "loss", "value": 1 / (1 + s), "timestamp": now + s, "step": s} for s in range(30)
        ]
        points[7]["value"], points[9]["value"] = "NaN", "Infinity"
        self.http.post(f"{mlflow}/runs/log-batch", json={"run_id": run, "metrics": points}).raise_for_status()
        self.http.post(f"{mlflow}/runs/update", json={"run_id": run, "status": status, "end_time": now}).raise_for_status()
        return run


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Team]:
    app = built(tmp_path_factory.mktemp("home"), sqlite_template)
    with serving(app) as url:
        yield Team(app, url)


def signed_in(chromium: Any, team: Team, name: str) -> Any:
    page = opened(chromium, team.url)
    page.set_default_timeout(30_000)
    answer = page.request.post("/api/v1/sessions", data={"name": name, "password": PASSWORD})
    assert answer.ok, answer.text()
    return page


@pytest.fixture
def ada(chromium: Any, team: Team) -> Iterator[Any]:
    page = signed_in(chromium, team, "ada")
    yield page
    assert not page.problems
    page.context.close()


@pytest.fixture
def vic(chromium: Any, team: Team) -> Iterator[Any]:
    page = signed_in(chromium, team, "vic")
    yield page
    page.context.close()


def test_a_button_that_is_not_ones_own_says_why_and_whom_to_ask(vic: Any, team: Team) -> None:
    asked: list[str] = []
    vic.on("request", lambda request: asked.append(request.url) if "/me/actions" in request.url else None)
    vic.goto("/models/late")
    refused = vic.get_by_role("button", name="Promote…").first
    vic.wait_for_selector("button[aria-disabled=true] >> text=Promote")
    assert refused.get_attribute("title") == (
        "You may not do this: it takes a role such as admin, deployer or maintainer on model:late. Ask ada."
    )
    refused.focus()
    vic.keyboard.press("Enter")
    vic.wait_for_selector(".toast >> text=Ask ada.")
    assert vic.locator("dialog[open]").count() == 0
    assert len(asked) == 1, "one question for the page, not one for each button"
    assert vic.locator("button[aria-disabled=true]").count() > 3
    assert not complaints(vic, "refused")
    shot(vic, "refused")
    op = team.app.ops.system("test")
    team.app.access.grant(op, Grant(principal="vic", role="deployer", scope="model:late"))
    vic.wait_for_selector("button[aria-disabled=true] >> text=Promote", state="detached", timeout=5000)
    team.app.access.revoke_grant(op, "vic", "deployer", "model:late")


def test_a_role_on_one_experiment_opens_the_buttons_there(vic: Any, team: Team) -> None:
    op, here = team.app.ops.system("test"), f"experiment:{team.experiment}"
    vic.goto("/reports")
    vic.wait_for_selector("button[aria-disabled=true] >> text=New report")
    vic.goto(f"/runs?experiment={team.experiment}&sel={team.runs[0]}")
    vic.wait_for_selector(".batch button[aria-disabled=true] >> text=Tag")
    team.app.access.grant(op, Grant(principal="vic", role="contributor", scope=here))
    vic.wait_for_selector(".batch button[aria-disabled=true] >> text=Tag", state="detached", timeout=5000)
    vic.get_by_role("button", name="Tag…").click()
    vic.get_by_label("Tag", exact=True).fill("reviewed")
    vic.get_by_label("Value").fill("yes")
    vic.get_by_role("button", name="Set the tag").click()
    vic.wait_for_selector(".toast >> text=1 run tagged")
    team.app.access.revoke_grant(op, "vic", "contributor", here)
    assert not vic.problems


def test_a_project_has_a_page_that_says_what_it_is(ada: Any, vic: Any) -> None:
    ada.goto("/projects")
    ada.get_by_role("link", name="airport").click()
    ada.wait_for_selector("text=Which flights will be late?")
    ada.get_by_role("button", name=re.compile("^(Write|Edit)$")).click()
    ada.locator("dialog textarea").fill("\n\n".join(SAID))
    ada.keyboard.press("Tab")
    ada.get_by_role("button", name="Save the readme").click()
    ada.wait_for_selector(".prose strong >> text=Late")
    ada.wait_for_selector("text=hours in 2 runs")
    assert ada.get_by_role("table", name="By who and experiment").locator("tbody tr").count() == 1
    ada.wait_for_selector("ol[aria-label='Latest facts of the project'] li, [aria-label='Latest facts of the project'] li")
    vic.goto("/projects/airport")
    vic.wait_for_selector(".prose strong >> text=Late")
    vic.wait_for_selector("button[title*='Ask ada'] >> text=Edit")
    assert not complaints(vic, "/projects/airport")
    shot(vic, "project")
    vic.goto("/projects")
    vic.wait_for_selector("table[aria-label=Projects] tbody tr")
    assert not complaints(vic, "/projects")
    shot(vic, "projects")


def test_home_says_what_needs_one_and_how_to_begin(ada: Any, team: Team) -> None:
    mention = {"subject": f"run:{team.runs[0]}", "body": "@ada is this right?"}
    with httpx.Client(base_url=team.url) as vic:
        vic.post("/api/v1/sessions", json={"name": "vic", "password": PASSWORD}).raise_for_status()
        vic.post("/api/v1/comments", json=mention).raise_for_status()
    ada.goto(f"/runs/{team.runs[0]}")
    ada.wait_for_selector(".page h1 >> text=good")
    ada.goto("/")
    ada.wait_for_selector(".list-link >> text=run failed")
    ada.wait_for_selector(".list-link >> text=is this right?")
    assert ada.locator(".list-link >> text=bad").count() == 1 and ada.locator(".list-link >> text=mention").count() == 1
    assert ada.get_by_role("link", name="good", exact=True).first.get_attribute("href") == f"/runs/{team.runs[0]}"
    ada.get_by_role("button", name="Noria", exact=True).click()
    ada.wait_for_selector(".command >> text=<your token>")
    ada.get_by_role("button", name="Put a token of mine in").click()
    ada.wait_for_selector("text=The token is shown this once")
    code = ada.locator(".command code").first.inner_text()
    token = next(line for line in code.splitlines() if "NORIA_TOKEN" in line).partition("=")[2]
    assert f"NORIA_URL={team.url}" in code
    me = httpx.get(f"{team.url}/api/v1/me", headers={"authorization": f"Bearer {token}"})
    assert me.json()["name"] == "ada", "the lines work as they are"
    assert not complaints(ada, "/")
    shot(ada, "home-needs")


def test_a_deed_is_taken_back(ada: Any, team: Team) -> None:
    run = team.runs[1]
    ada.goto(f"/runs/{run}")
    ada.get_by_role("button", name="Delete").click()
    ada.get_by_role("button", name="Delete the run").click()
    ada.wait_for_selector(".toast >> text=Undo")
    assert team.http.get(f"/api/v1/runs/{run}").json()["stage"] == "deleted"
    assert not complaints(ada, "undo")
    shot(ada, "undo")
    ada.get_by_role("button", name="Undo").click()
    ada.wait_for_selector("text=Taken back.")
    assert team.http.get(f"/api/v1/runs/{run}").json()["stage"] == "active"
    ada.goto("/models/late")
    ada.get_by_role("button", name="Move champion", exact=True).click()
    ada.get_by_role("button", name="Move champion from @1 to @2").click()
    ada.wait_for_selector(".toast >> text=Undo")
    ada.get_by_role("button", name="Undo").click()
    ada.wait_for_selector("text=Taken back.")
    champion = team.http.get("/api/v1/models/late").json()["model"]["aliases"][0]
    assert champion["version"] == 1 and champion["generation"] == 3, "a move back is a move, on the record"
    ada.get_by_role("button", name="Move champion", exact=True).click()
    ada.get_by_role("button", name="Move champion from @1 to @2").click()
    ada.wait_for_selector(".toast >> text=Undo")
    team.http.put("/api/v1/models/late/aliases/champion", json={"version": 1, "expect": 4}).raise_for_status()
    ada.get_by_role("button", name="Undo").last.click()
    ada.wait_for_selector(".toast >> text=moved since")
    ada.goto(f"/runs?experiment={team.experiment}&sel={team.runs[1]}")
    ada.get_by_role("button", name="Delete…").click()
    ada.get_by_role("button", name="Delete 1 run", exact=True).click()
    ada.get_by_role("button", name="Undo").click()
    ada.wait_for_selector("text=Taken back.")
    assert team.http.get(f"/api/v1/runs/{run}").json()["stage"] == "active"


def test_one_says_where_one_is_told(ada: Any) -> None:
    ada.goto("/settings?tab=told")
    ada.get_by_role("button", name="New address…").click()
    ada.get_by_label("Name").fill("chat")
    ada.get_by_label("Address").fill("json://192.0.2.7/hear?token=s3cret")
    ada.get_by_label("something happens to what I follow").uncheck()
    ada.get_by_role("button", name="Save the address").click()
    row = ada.get_by_role("table", name="My addresses").locator("tbody tr").first
    row.wait_for()
    assert "s3cret" not in ada.content() and "follow" not in row.inner_text()
    ada.get_by_role("button", name="Test").click()
    ada.wait_for_selector(".toast >> text=where channels do not go")
    assert not complaints(ada, "/settings?tab=told")
    shot(ada, "told")
    ada.get_by_role("button", name="Delete chat").click()
    ada.wait_for_selector("text=You are told in the inbox only.")


def test_a_chart_becomes_a_table_and_files(ada: Any, team: Team) -> None:
    ada.goto(f"/runs/{team.runs[0]}")
    ada.wait_for_selector(".uplot canvas")
    assert "1 NaN" in ada.locator(".legend").first.inner_text() and "1 ∞" in ada.locator(".legend").first.inner_text()

    def saved(kind: str) -> bytes:
        ada.get_by_role("button", name="Save loss as a file").click()
        with ada.expect_download() as caught:
            ada.locator(".menu-pop button", has_text=kind).click()
        assert caught.value.suggested_filename == f"loss.{kind.lower()}"
        return Path(caught.value.path()).read_bytes()

    rows = list(csv.reader(io.StringIO(saved("CSV").decode(), newline="")))
    values = {row[0]: row[1] for row in rows[1:]}
    assert rows[0][0] == "step" and values["7"] == "NaN" and values["9"] == "Infinity" and float(values["3"]) == 0.25
    drawing = ElementTree.fromstring(saved("SVG"))
    titles = [t.text for t in drawing.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["loss", "NaN at 7", "infinite at 9"]
    picture = saved("PNG")
    assert picture[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", picture[16:24])[0] > 200
    ada.get_by_role("button", name="Show loss as table").click()
    table = ada.get_by_role("region", name="loss as table")
    assert "0.25" in table.inner_text()
    assert not complaints(ada, "chart")
    shot(ada, "chart-table")


def walk(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def tab_to(page: Any, name: str, most: int = 60) -> None:
    """Go on with Tab until what is focused is called `name`, as somebody without a mouse does."""
    for _ in range(most):
        page.keyboard.press("Tab")
        label = page.evaluate(
            """() => {
                const e = document.activeElement;
                return (e.getAttribute('aria-label') || e.labels?.[0]?.innerText || e.innerText || '').trim();
            }"""
        )
        if re.fullmatch(rf"{re.escape(name)}\s*\d*", label.split("\n")[0].strip()):
            return
    raise AssertionError(f"Tab did not come to {name!r}")


def test_five_journeys_are_walked_without_a_mouse(ada: Any, team: Team) -> None:
    # 1. Find a run, read its curves, look at its parameters.
    ada.goto("/")
    ada.wait_for_selector(".page h1")
    walk(ada, "g", "r")
    ada.wait_for_selector(".runs-table tbody tr[data-row]")
    walk(ada, "/")
    ada.keyboard.type("name:good")
    ada.wait_for_function("() => document.querySelectorAll('.runs-table tbody tr[data-row]').length === 1")
    ada.locator(".runs-table").wait_for()
    tab_to(ada, "good")
    walk(ada, "Enter")
    ada.wait_for_url("**/runs/" + team.runs[0])
    ada.wait_for_selector("[role=tab]")
    tab_to(ada, "Curves")
    walk(ada, "ArrowRight")
    assert "tab=system" in ada.url
    # 2. Compare two runs.
    ada.goto(f"/runs?experiment={team.experiment}&sel=none")
    ada.wait_for_selector(".runs-table tbody tr[data-row='1']")
    ada.locator(".runs-table tbody tr[data-row='0']").focus()
    walk(ada, "x", "j", "x", "c")
    ada.wait_for_url("**/compare?runs=*")
    # 3. Promote a version, and take it back.
    walk(ada, "Control+k")
    ada.keyboard.type("model:late")
    ada.wait_for_selector(".palette [aria-selected=true] >> text=late")
    ada.wait_for_selector(".palette .hint >> text=model")
    walk(ada, "Enter")
    ada.wait_for_url("**/models/late")
    ada.wait_for_selector(".story")
    walk(ada, ".")
    ada.wait_for_selector("dialog[open]")
    tab_to(ada, "Move champion from @1 to @2")
    walk(ada, "Enter")
    ada.wait_for_selector(".toast >> text=Undo")
    tab_to(ada, "Undo", most=200)
    walk(ada, "Enter")
    ada.wait_for_selector("text=Taken back.")
    # 4. Say something about a run, where it is.
    ada.goto(f"/runs/{team.runs[1]}?tab=conversation")  # nobody has said anything there
    ada.wait_for_selector("textarea")
    ada.locator("[role=tab][aria-selected=true]").focus()
    tab_to(ada, "Say something")
    ada.keyboard.type("Walked here without a mouse.")
    ada.wait_for_selector(".talk button[type=submit]:enabled")
    tab_to(ada, "Comment")
    walk(ada, "Enter")
    ada.wait_for_selector(".talk >> text=Walked here without a mouse.")
    # 5. Make a token.
    walk(ada, "Control+k")
    ada.keyboard.type("settings: tokens")
    walk(ada, "Enter")
    ada.wait_for_url("**/settings?tab=tokens")
    ada.wait_for_selector("button >> text=New token")
    walk(ada, "Control+k")
    ada.keyboard.type("new token")
    ada.wait_for_selector(".palette [aria-selected=true] >> text=New token")
    walk(ada, "Enter")
    ada.wait_for_selector("dialog[open]")
    tab_to(ada, "What it is for")
    ada.keyboard.type("walked")
    walk(ada, "Enter")
    ada.wait_for_selector("table >> text=walked", timeout=8000)


def test_times_and_rows_are_as_one_likes_them(ada: Any, team: Team) -> None:
    ada.goto(f"/runs/{team.runs[0]}")
    ada.wait_for_selector("time")
    walk(ada, "Control+k")
    ada.keyboard.type("comfortable rows")
    walk(ada, "Enter")
    ada.wait_for_function("() => document.documentElement.dataset.density === 'comfortable'")
    ada.goto("/runs")
    ada.wait_for_selector(".runs-table tbody tr[data-row]")
    assert ada.locator(".runs-table tbody tr[data-row]").first.bounding_box()["height"] == pytest.approx(36, abs=1)
    walk(ada, "Control+k")
    ada.keyboard.type("show utc")
    walk(ada, "Enter")
    ada.wait_for_function("() => JSON.parse(localStorage.getItem('noria.zone') ?? 'null') === 'utc'")
    ada.goto("/audit")
    stamp = ada.locator("td time").first
    stamp.wait_for()
    assert "UTC" in (stamp.get_attribute("title") or "")


def test_runs_are_read_on_a_phone_and_cards_on_paper(ada: Any, team: Team) -> None:
    page = ada
    page.set_viewport_size({"width": 390, "height": 844})
    for path in (
        f"/runs/{team.runs[0]}",
        "/",
        "/monitors",
        "/models/late/1",
        "/projects/airport",
        "/lineage/model:late",
        "/audit",
    ):
        page.goto(path)
        page.wait_for_selector(".page > .content")
        page.wait_for_selector("[role=progressbar]", state="detached")
        page.wait_for_timeout(200)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 390, f"{path} is wider than a phone"
    page.set_viewport_size({"width": 1000, "height": 800})
    page.goto("/models/late/1?tab=card")
    page.wait_for_selector(".prose")
    page.emulate_media(media="print", color_scheme="dark")
    box = page.locator(".sunken.pad").first
    assert box.evaluate("e => e.scrollHeight <= e.clientHeight + 1"), "what is printed is not cut off"
    assert page.locator(".page button:visible, .rail:visible, [role=tablist]:visible").count() == 0
    assert page.evaluate("() => getComputedStyle(document.body).color").startswith("oklch(0.25 "), (
        "dark ink, whatever the screen"
    )
