"""Talk on a run's page, in a real browser: said, answered, seen by the other page within two seconds, and found in the inbox."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from noria.access.model import NewPrincipal
from noria.app import App
from noria.conversations.model import NewComment
from noria.kernel.op import Actor
from tests.ui.conftest import CHROMIUM, built, complaints, opened, serving, shot

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium here"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[tuple[str, App, str]]:
    """A server with background work, and a run on it."""
    app = built(tmp_path_factory.mktemp("home"), sqlite_template)
    app.start()
    with serving(app) as url:
        run = httpx.post(f"{url}/api/v1/runs", json={"experiment": "flights", "name": "baseline"}).json()["id"]
        yield url, app, run
    app.stop()


def test_people_talk_about_a_run(made: tuple[str, App, str], chromium: Any) -> None:
    url, _, run = made
    page, other = opened(chromium, url), opened(chromium, url)
    for one in (page, other):
        one.goto(f"/runs/{run}?tab=conversation")
        one.wait_for_selector(".talk .write textarea")
    page.get_by_placeholder("Say something").fill("The **loss** jumps. @nobody, why?")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".toast >> text=Not told: nobody")
    said = ".thread:has-text('jumps')"
    other.wait_for_selector(f"{said} strong >> text=loss", timeout=10_000)  # nobody reloaded
    other.locator(said).get_by_role("button", name="Answer").click()
    other.keyboard.type("A bad batch.")
    other.locator(said).get_by_role("button", name="Answer").last.click()
    page.wait_for_selector(f"{said} .answers >> text=A bad batch.", timeout=10_000)
    page.locator(f"{said} > .said").get_by_role("button", name="React").click()
    page.locator(f"{said} > .said").get_by_role("button", name="rocket, 0").click()
    page.wait_for_selector(f"{said} .reactions .chip[aria-pressed=true]")
    page.get_by_role("button", name="Following").wait_for()
    shot(page, "conversation")
    assert not complaints(page, "conversation")
    page.locator(f"{said} > .said").hover()
    page.locator(f"{said} > .said").get_by_role("button", name="Remove").click()
    page.get_by_role("button", name="Remove the comment").click()
    page.wait_for_selector(".said.gone")
    for one in (page, other):
        one.context.close()


def test_the_inbox_counts_and_is_read(made: tuple[str, App, str], chromium: Any) -> None:
    url, app, run = made
    service = app.ops.system("test")
    app.access.create_principal(service, NewPrincipal(name="robot", kind="service", roles=["contributor"]))
    (robot,) = app.access.people(["robot"])
    op = app.ops.mint(Actor(kind="service", id=robot.id, name="robot"))
    app.conversations.say(op, NewComment(subject=f"run:{run}", body="Look at the recall, it fell."))
    page = opened(chromium, url)
    page.goto("/")
    page.wait_for_selector(".rail a[href='/inbox'] .count", timeout=10_000)
    page.keyboard.press("g")
    page.keyboard.press("i")
    page.wait_for_selector(".inbox >> text=it fell")
    shot(page, "inbox")
    assert not complaints(page, "inbox")
    page.get_by_role("button", name="Mark all as read").click()
    page.wait_for_selector(".rail a[href='/inbox'] .count", state="detached")
    page.wait_for_selector("text=Nothing waits for you.")
    page.context.close()
