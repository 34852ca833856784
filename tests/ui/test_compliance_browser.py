"""Compliance and the settings of access in a real browser: what is missing is seen, filled and waived there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.access.model import NewPrincipal
from noria.config import load_config
from noria.kernel.clock import ManualClock
from tests.compliance.conftest import World, in_production
from tests.conftest import Noria
from tests.ui.conftest import CHROMIUM, complaints, opened, serving, shot

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium here"),
]
PASSWORD = "a long enough password"  # of a server that lives as long as the test


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[str]:
    """A system in production, an administrator with a password, and a little of everything that is looked at."""
    import shutil

    home = tmp_path_factory.mktemp("home")
    shutil.copy(sqlite_template, home / "noria.db")
    noria = Noria(load_config({}, home=str(home), port=0), ManualClock(time.time_ns() // 1_000_000))
    world = World(noria)
    in_production(world)
    noria.app.access.create_principal(
        noria.system(), NewPrincipal(name="gil", kind="user", roles=["admin"], password=PASSWORD)
    )
    for at, body in (
        ("/api/v1/systems/delays/technical-file/1", {"content": "It tells passengers of delays."}),
        ("/api/v1/projects/churn", {"description": "Who leaves, and why"}),
        ("/api/v1/projects/churn/things/model:flights", {}),
        ("/api/v1/labels/pii", {"description": "Personal data", "is_restricting": False}),
        (
            "/api/v1/roles/risk-officer",
            {"actions": ["compliance.read", "compliance.waive"], "description": "Carries the risk"},
        ),
        ("/api/v1/secrets/DB_PASSWORD?project=churn", {"value": "canary-of-the-browser", "description": "reads the lake"}),
    ):
        world.ok(world.ada.put(at, json=body))
    world.ok(world.ada.post("/api/v1/access-reviews", json={"title": "first quarter"}))
    new = {"reference": "DSR-17", "column": "e_mail", "value": "a@example.org", "datasets": ["flights"]}
    world.ok(world.ada.post("/api/v1/erasures", json=new))
    world.ok(world.ada.post("/api/v1/systems/delays/incidents", json={"title": "the wrong day"}))
    world.found()
    world.found("installation")
    with serving(noria.app) as url:
        yield url
    noria.close()


def signed_in(chromium: Any, url: str) -> Any:
    page = opened(chromium, url)
    answer = page.request.post("/api/v1/sessions", data={"name": "gil", "password": PASSWORD}, headers={"origin": url})
    assert answer.ok, answer.text()
    return page


PLACES = {
    "matrix": ("/compliance", "delays"),
    "checks": ("/compliance?tab=checks", "PRV-1"),
    "reviews": ("/compliance?tab=reviews", "first quarter"),
    "erasures": ("/compliance?tab=erasures", "DSR-17"),
    "holds": ("/compliance?tab=holds", "3,650 days"),
    "system": ("/compliance/delays?check=DEP-1", "was approved by"),
    "file": ("/compliance/delays?tab=file", "General description"),
    "incidents": ("/compliance/delays?tab=incidents", "the wrong day"),
    "reports": ("/compliance/delays?tab=reports", "Nothing is attached"),
    "installation": ("/compliance/installation", "forgotten accounts"),
    "settings-projects": ("/settings?tab=projects", "Who leaves, and why"),
    "settings-roles": ("/settings?tab=roles", "risk-officer"),
    "settings-sign-in": ("/settings?tab=sign-in", "No issuer is trusted"),
    "settings-secrets": ("/settings?tab=secrets", "DB_PASSWORD"),
    "settings-people": ("/settings?tab=people", "gil"),
    "settings-tokens": ("/settings?tab=tokens", "Browsers that are signed in"),
}


def test_the_pages_are_whole_in_both_themes(chromium: Any, server: str) -> None:
    page = signed_in(chromium, server)
    found = list[str]()
    for name, (at, text) in PLACES.items():
        page.goto(at)
        page.get_by_text(text).first.wait_for()
        shot(page, name)
        found += complaints(page, name)
    assert not found, "\n".join(found)
    page.context.close()


def test_a_gap_is_waived_and_a_section_written(chromium: Any, server: str) -> None:
    page = signed_in(chromium, server)
    page.goto("/compliance")
    page.get_by_role("link", name="VAL-4 of delays: fail").click()
    page.get_by_role("button", name="Waive…").click()
    page.get_by_label("Why, and where that was decided").fill("the report is due in May, RISK-17")
    page.get_by_role("button", name="Waive it").click()
    page.get_by_text("Waived by gil").wait_for()
    page.get_by_role("button", name="End the waiver").click()
    page.get_by_role("button", name="Waive…").wait_for()
    page.get_by_role("tab", name="Technical file").click()
    page.get_by_role("button", name="Write section 5").click()
    page.get_by_label("Which risks were found").fill("Delays that are wrong at night.")
    page.get_by_role("button", name="Save the section").click()
    page.get_by_role("button", name="Edit section 5").wait_for()
    page.context.close()


def test_access_is_reviewed_and_a_secret_is_never_shown(chromium: Any, server: str) -> None:
    page = signed_in(chromium, server)
    page.goto("/compliance?tab=reviews")
    page.get_by_role("link", name="first quarter").click()
    page.get_by_role("button", name="Keep admin of ada").click()
    page.get_by_text("kept").first.wait_for()
    page.goto("/settings?tab=secrets")
    page.get_by_role("button", name="Set a secret…").click()
    page.get_by_label("Name").fill("API_KEY")
    page.get_by_label("Value").fill("another-canary-value")
    page.get_by_role("button", name="Keep it").click()
    page.get_by_text("API_KEY").wait_for()
    assert "canary" not in page.content()
    page.context.close()
