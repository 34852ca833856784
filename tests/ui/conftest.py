"""A real server on its own home, and a real browser."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from noria.app import App, build
from noria.config import load_config
from noria.http.asgi import asgi
from tests.ui.big import big_project

CHROMIUM = next((p for p in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if os.path.exists(p)), "")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip
AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
# A colour on its way to another has no contrast of its own; what turns for ever is left to turn.
SETTLED = """() => Promise.allSettled(document.getAnimations()
    .filter(a => a.effect && a.effect.getComputedTiming().iterations !== Infinity).map(a => a.finished))"""
# What the policy refuses, and what a page says when a part of it breaks: the rest stands, and nothing is thrown.
BROKEN = re.compile(r"Content Security Policy|^\w*Error: ")
COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]


@contextmanager
def serving(app: App) -> Iterator[str]:
    """A control plane in a thread; gives its address."""
    runner = uvicorn.Server(uvicorn.Config(asgi(app), host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=runner.run, daemon=True)
    thread.start()
    while not runner.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.05)
    yield f"http://127.0.0.1:{runner.servers[0].sockets[0].getsockname()[1]}"
    runner.should_exit = True
    thread.join(timeout=20)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def built(home: Path, template: Path, **settings: str) -> App:
    """A control plane on a home of its own, whose database has its tables already."""
    shutil.copy(template, home / "noria.db")
    return build(load_config({}, home=str(home), database=f"sqlite:///{home / 'noria.db'}", port=0, **settings))


class Big:
    """A server with ten thousand runs, one run of a million points, one of a thousand metrics."""

    def __init__(self, url: str, ids: dict[str, str], app: App) -> None:
        self.url, self.ids, self.app = url, ids, app


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Big]:
    app = built(tmp_path_factory.mktemp("big"), sqlite_template)
    ids = big_project(app)
    with serving(app) as url:
        yield Big(url, ids, app)


def opened(chromium: Any, url: str, scheme: str = "light") -> Any:
    """A page of a fresh browser context that keeps what goes wrong in it and how large each answer was on the wire."""
    context = chromium.new_context(base_url=url, color_scheme=scheme, viewport={"width": 1280, "height": 800})
    context.set_default_timeout(90_000)
    page = context.new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda m: page.problems.append(m.text) if BROKEN.search(m.text) else None)
    return page


def complaints(page: Any, place: str = "") -> list[str]:
    """What went wrong on the page, and what axe says of it in both themes: in the dark one of its colours, all that differs."""
    found = [f"{place}: {problem}" for problem in page.problems]
    page.evaluate(AXE)
    for theme, rules in (("light", RULES), ("dark", COLOURS)):
        page.emulate_media(color_scheme=theme)
        page.evaluate(SETTLED)
        answer = page.evaluate("rules => axe.run(document, {runOnly: rules})", rules)
        found += [f"{place}, {theme}: {v['id']}: {v['nodes'][0]['html'][:200]}" for v in answer["violations"]]
    page.emulate_media(color_scheme="light")
    page.problems.clear()  # axe sets styles of its own, which the policy refuses
    return found


def shot(page: Any, name: str) -> None:
    """Pictures in both themes, for people, when NORIA_SHOTS names a folder."""
    folder = os.environ.get("NORIA_SHOTS")
    for theme in ("dark", "light") if folder else ():
        page.emulate_media(color_scheme=theme)
        page.wait_for_timeout(600)  # colours change slowly
        page.screenshot(path=f"{folder}/{name}-{theme}.png", full_page=True)
