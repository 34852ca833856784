"""The manual as a site: it builds without a warning, holds every page, needs nothing from elsewhere, and the server shows it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from noria.app import build
from noria.config import load_config
from noria.http.manual import SITE, Manual
from tests.conftest import Noria
from tests.ui.conftest import CHROMIUM, FLAGS, opened, serving

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def site() -> Manual:
    """Built as `make docs` builds it: a link that leads nowhere ends the build."""
    command = [sys.executable, "-m", "zensical", "build", "--strict", "-f", "zensical.toml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return Manual(SITE)


def pages_of(nav: list[Any]) -> list[str]:
    found = []
    for item in nav:
        for value in item.values() if isinstance(item, dict) else [item]:
            found += [value] if isinstance(value, str) else pages_of(value)
    return found


def test_the_table_of_contents_holds_every_page() -> None:
    nav = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    there = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    assert sorted(pages_of(nav)) == sorted(there), "add the page to nav in zensical.toml"


def test_nothing_is_fetched_from_elsewhere(site: Manual) -> None:
    for name, content in site.files.items():
        if name.endswith(".html"):
            for tag in re.findall(r"<(?:script|link|img|iframe)[^>]*>", content.decode()):
                assert not re.search(r'(?:src|href)="(?:https?:)?//', tag), f"{name}: {tag}"


def test_the_server_shows_it(site: Manual, noria: Noria) -> None:
    front = noria.http.get("/docs", follow_redirects=False)
    assert (front.status_code, front.headers["location"]) == (308, "/docs/")
    front = noria.http.get("/docs/")
    assert front.status_code == 200 and front.headers["content-type"].startswith("text/html")
    assert "What do you want to do?" in front.text
    guide = noria.http.get("/docs/guides/data/")
    assert "Keep versions of data" in guide.text
    policy = guide.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self' 'sha256-" in policy
    assert "'unsafe-inline'" not in re.findall(r"script-src [^;]*", policy)[0]
    for asset in re.findall(r'(?:src|href)="((?:\.\./)+assets/[^"?]+)', guide.text):
        found = noria.http.get(f"/docs/{asset.replace('../', '')}")
        assert found.status_code == 200 and len(found.content) > 100, asset


@pytest.mark.parametrize("path", ["nowhere", "%2e%2e/%2e%2e/pyproject.toml", "..%2f..%2fapp.py", "/etc/passwd"])
def test_it_shows_nothing_else(site: Manual, noria: Noria, path: str) -> None:
    answer = noria.http.get(f"/docs/{path}")
    assert answer.status_code in (400, 404)
    assert "build-system" not in answer.text


def test_a_manual_that_was_not_built_says_so_until_it_is(tmp_path: Path) -> None:
    from noria.kernel.errors import NotFound

    manual = Manual(tmp_path)
    with pytest.raises(NotFound, match="not built"):
        manual.find("")
    (tmp_path / "index.html").write_text("What do you want to do?")
    assert manual.find("") == ("index.html", b"What do you want to do?")


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="there is no chromium here")
def test_it_is_read_and_searched_in_a_browser(site: Manual, tmp_path: Path) -> None:
    """Under its own policy nothing is refused, and what is searched for is found."""
    from playwright.sync_api import sync_playwright

    config = load_config({}, home=str(tmp_path / "home"), port=0)
    with serving(build(config)) as url, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = opened(chromium, url)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto("/docs/")
        page.get_by_role("link", name="Keep versions of data").first.click()
        page.wait_for_url("**/docs/guides/data/")
        page.keyboard.press("/")
        page.keyboard.type("expectations", delay=20)
        page.wait_for_selector("text=/expectation/i >> visible=true")
        if shots := os.environ.get("NORIA_SHOTS"):
            page.screenshot(path=f"{shots}/manual-search.png")
            page.goto("/docs/")
            page.screenshot(path=f"{shots}/manual.png")
        assert page.problems == []
        assert all(address.startswith((url, "data:", "blob:")) for address in asked), asked
        chromium.close()
