"""The page of a pipeline run in a real browser, with a real worker: trials of a sweep, a question answered, run again, run from here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from noria.access.model import NewPrincipal, TokenRequest
from noria.client.api import Api, connect
from tests.pipelines.given import INTERNAL
from tests.pipelines.processes import Server, ended, imported, until
from tests.ui.conftest import CHROMIUM, complaints, opened, shot

FLOW = Path(__file__).parents[1] / "pipelines" / "sweeps.py.txt"
ASKED = """

@noria.pipeline
def asked(x: int = 4):
    noria.approve("Go on?", evidence=[noria.sweep(sometimes, space={"x": [2, 4]}, trials=2, sampler="grid")], name="may-we")
    return {"x": use(fit.map([x, 3])[0])}

@noria.step(queue="cluster")
def far() -> int:
    return 1

@noria.pipeline
def elsewhere():
    return {"n": far()}

@noria.step
def written():
    import pandas
    from pathlib import Path
    Path("plots").mkdir()
    Path("plots", "roc.svg").write_text("<svg/>")
    return {"frame": pandas.DataFrame({"x": [1, 2]}), "plots": Path("plots"), "odd": {1, 2}, "n": 3}

@noria.pipeline
def filed():
    return {"all": written()}
"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.protocol,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium here"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("home"))
    with made.worker(slots=4):
        yield made
    made.stop()


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    with server.api() as made:
        yield made


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    folder = tmp_path_factory.mktemp("code")
    (folder / "looked_at.py.txt").write_text(FLOW.read_text() + ASKED)
    with imported(folder / "looked_at.py.txt", folder) as module:
        yield module


def token_of(server: Server, name: str, role: str) -> str:
    assert server.app
    op = server.app.ops.system("test")
    server.app.access.create_principal(op, NewPrincipal(name=name, kind="service", roles=[role]))
    return server.app.access.create_token(op, TokenRequest(name=name, principal=name)).secret


def test_a_sweep_shows_its_trials(chromium: Any, server: Server, api: Api, flow: ModuleType) -> None:
    view = ended(api, flow.searched.submit(trials=16, api=api)["id"])
    step = next(s["step"] for s in view["steps"] if s["step"]["kind"] == "sweep")
    page = opened(chromium, server.url)
    page.goto(f"/pipeline-runs/{view['run']['id']}?step={step['id']}")
    page.get_by_text("is the best so far").wait_for()
    page.get_by_role("img", name="Best loss so far").wait_for()
    page.get_by_role("img", name="Parallel coordinates of 16 trials").wait_for()
    assert page.get_by_role("table", name="Trials").get_by_role("row").count() == 17
    assert page.get_by_role("list", name="Parameters by what goes along with loss").get_by_role("listitem").count() == 2
    assert complaints(page) == []
    shot(page, "sweep")
    page.get_by_role("table", name="Trials").get_by_role("link").first.click()
    page.get_by_role("heading", name="Step loss[").wait_for()
    page.get_by_role("button", name="loss (16)").click()
    page.get_by_role("button", name="loss[15], succeeded").wait_for()
    page.goto(f"/pipeline-runs/{view['run']['id']}?shape=graph")
    page.get_by_text("16 trials").wait_for()
    assert complaints(page) == []
    shot(page, "sweep-graph")
    page.context.close()


def test_a_question_is_answered_on_the_page_and_the_run_is_run_again(
    chromium: Any, server: Server, api: Api, flow: ModuleType
) -> None:
    with connect(server.url, token=token_of(server, "dana", "contributor")) as dana:  # whoever asked cannot answer
        run = flow.asked.submit(api=dana)
    until(lambda: any(s["step"]["state"] == "asking" for s in api.get(f"/pipeline-runs/{run['id']}")["steps"]))
    page = opened(chromium, server.url)
    page.goto(f"/pipeline-runs/{run['id']}")
    page.get_by_role("button", name="Answer").click()
    page.get_by_role("button", name="Approve…").click()
    assert complaints(page) == []
    page.get_by_role("button", name="Approve", exact=True).click()
    view = ended(api, run["id"])
    assert view["run"]["outputs"]["x"]["value"] == 4
    page.get_by_role("button", name="Run again…").click()
    page.get_by_label("x", exact=True).fill("7")
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url(lambda url: run["id"] not in url)
    page.get_by_text("Go on?").first.wait_for()
    again = page.url.rsplit("/", 1)[-1].split("?")[0]
    assert api.get(f"/pipeline-runs/{again}")["run"]["params"] == {"x": 7}
    page.get_by_role("button", name="Pause", exact=True).click()
    until(lambda: api.get(f"/pipeline-runs/{again}")["run"]["is_paused"])
    page.get_by_role("button", name="Cancel", exact=True).click()
    assert ended(api, again)["run"]["state"] == "cancelled"
    shot(page, "question")
    page.goto(f"/pipeline-runs/{run['id']}")
    page.get_by_role("button", name="fit, succeeded").click()
    page.get_by_role("button", name="Run from here…").click()
    page.get_by_role("button", name="Run from here", exact=True).click()
    until(lambda: api.get(f"/pipeline-runs/{run['id']}")["steps"][-1]["step"]["attempt"] == 2)
    view = ended(api, run["id"])
    assert view["run"]["state"] == "succeeded"
    fitted = next(s["step"]["id"] for s in view["steps"] if s["step"]["name"] == "fit[0]")
    page.goto(f"/pipeline-runs/{run['id']}?step={fitted}")
    page.get_by_role("table", name="What it reported").get_by_role("row", name="loss").wait_for()
    assert complaints(page) == []
    shot(page, "reported")
    page.context.close()


def test_what_starts_a_pipeline_is_made_and_switched_on_its_page(
    chromium: Any, server: Server, api: Api, flow: ModuleType
) -> None:
    flow.searched.submit(api=api)
    page = opened(chromium, server.url)
    page.goto("/pipelines/searched")
    page.get_by_role("button", name="At a time…").click()
    page.get_by_label("rows").fill("5")
    page.get_by_role("button", name="Make the schedule").click()
    page.get_by_role("button", name="searched-nightly is on; turn it off").click()
    page.get_by_role("button", name="searched-nightly is off; turn it on").wait_for()
    page.get_by_role("button", name="When something happens…").click()
    page.get_by_label("Only if").fill("data.number >= 10")
    api.request("PATCH", "/api/v1/schedules/searched-nightly", json={"is_enabled": True})
    page.locator("[aria-label='searched-nightly is on; turn it off']").wait_for(
        state="attached"
    )  # rendered again: what was typed stays
    api.request("PATCH", "/api/v1/schedules/searched-nightly", json={"is_enabled": False})
    page.get_by_role("button", name="Make the trigger").click()
    page.get_by_text("dataset_version.committed where data.number >= 10").wait_for()
    page.get_by_role("button", name="For many dates…").click()
    page.get_by_label("First").fill("2026-03-01")
    page.get_by_label("Last").fill("2026-03-02")
    page.get_by_role("button", name="Begin").click()
    page.get_by_text("2026-03-01 to 2026-03-02, each day, as rows").wait_for()
    assert complaints(page) == []
    shot(page, "pipeline")
    schedule = api.get("/schedules")["items"][0]
    assert (schedule["cron"], schedule["params"], schedule["is_enabled"]) == ("0 3 * * *", {"rows": 5}, False)
    page.get_by_role("button", name="Change searched-nightly").click()
    page.get_by_label("Cron").fill("30 4 * * 1")
    page.get_by_label("rows").fill("7")
    page.get_by_role("button", name="Change it").click()
    page.get_by_text("30 4 * * 1").wait_for()
    changed = api.get("/schedules")["items"][0]
    assert (changed["cron"], changed["params"], changed["is_enabled"]) == ("30 4 * * 1", {"rows": 7}, False)
    page.get_by_role("button", name="Remove searched-nightly").click()
    page.get_by_role("button", name="Remove", exact=True).click()
    until(lambda: not api.get("/schedules")["items"])
    page.get_by_role("button", name="Let nothing start it").click()
    until(lambda: api.get("/pipelines/searched")["is_paused"])
    page.context.close()


def test_a_queue_has_rules(chromium: Any, server: Server, api: Api, flow: ModuleType) -> None:
    ended(api, flow.searched.submit(trials=2, api=api)["id"])
    page = opened(chromium, server.url)
    page.goto("/pipelines")
    page.get_by_role("table", name="Queues").get_by_role("button", name="Rules…").first.click()
    page.get_by_label("Priority").fill("5")
    page.get_by_label("Steps at once").fill("3")
    page.get_by_role("button", name="Set", exact=True).click()
    until(lambda: [(q["priority"], q["quota"]) for q in api.get("/queues") if q["name"] == "default"] == [(5, 3)])
    assert complaints(page) == []
    shot(page, "pipelines")
    page.context.close()


def test_a_step_says_where_it_ran(chromium: Any, server: Server, api: Api, flow: ModuleType) -> None:
    """The agent and its jobs are played here, in their own words: the first job is evicted, the second succeeds."""
    run = flow.elsewhere.submit(api=api)
    agent = httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {INTERNAL}"})
    place = {"executor": "kubernetes", "image": "ghcr.io/acme/steps:3", "details": {"namespace": "ml"}}

    def say(path: str, token: str = INTERNAL, **body: Any) -> dict[str, Any]:
        answer = agent.post(f"/api/v1/{path}", json=body, headers={"authorization": f"Bearer {token}"})
        assert answer.is_success, answer.text
        return dict(answer.json())

    worker = "far"
    say("pipelines/work/hello", worker=worker, name=worker, queues=["cluster"])
    for number, outcome in ((1, "cancelled"), (2, "succeeded")):
        given = until(lambda: say("pipelines/work/claim", worker=worker)["assignment"])
        at = {"worker": worker, "step_run_id": given["step_run_id"], "attempt": number}
        job = f"noria-{given['step_run_id']}-{number}"
        ticket = say("pipelines/work/hand-on", **at, place={**place, "job": job})["ticket"]
        begun = say(
            f"attempts/{given['step_run_id']}/{number}/begin", ticket, key="k", node=f"node-{number}", python="3.12.4"
        )
        done = {"outputs": {"as": "json", "value": 1}} if outcome == "succeeded" else {"error": "its pod ended with Evicted"}
        say(f"attempts/{given['step_run_id']}/{number}/finish", begun["assignment"]["token"], **at, outcome=outcome, **done)
    agent.close()
    view = ended(api, run["id"])
    page = opened(chromium, server.url)
    page.goto(f"/pipeline-runs/{run['id']}?step={view['steps'][0]['step']['id']}")
    page.get_by_text("on node-2, as the Kubernetes job").wait_for()
    page.get_by_text("ghcr.io/acme/steps:3").wait_for()
    tries = page.get_by_role("table", name="Attempts")
    assert tries.get_by_role("row").count() == 3 and tries.get_by_text(job).is_visible()
    assert complaints(page) == []
    shot(page, "elsewhere")
    page.context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_values_in_files_are_listed_and_downloaded(
    chromium: Any, server: Server, api: Api, flow: ModuleType, theme: str
) -> None:
    view = ended(api, flow.filed.submit(api=api)["id"])
    page = opened(chromium, server.url, theme)
    page.goto(f"/pipeline-runs/{view['run']['id']}")
    table = page.get_by_role("table", name="Values in files").last
    table.wait_for()
    for said in ("all.frame", "noria.pandas 1", "all.plots", "noria.files 1", "all.odd", "pickle"):
        assert table.get_by_text(said, exact=True).count() == 1, said
    with page.expect_download() as came:
        table.get_by_role("link", name="Download all.frame").click()
    assert came.value.suggested_filename == "frame.arrow"
    assert Path(came.value.path()).read_bytes().startswith(b"ARROW1")
    assert complaints(page) == []
    shot(page, f"values-{theme}")
    page.context.close()
