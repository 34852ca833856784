"""Graphs that are decided while they run, with real workers: maps, conditions, pipelines in pipelines, questions to people."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from noria.access.model import NewPrincipal, TokenRequest
from noria.client.api import Api, connect
from noria.kernel.errors import Invalid
from tests.pipelines.processes import ROOT, Server, ended, imported, until

pytestmark = pytest.mark.protocol


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("home"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def worker(server: Server) -> Iterator[int]:
    with server.worker(slots=4) as process:
        yield process.pid


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    with server.api() as made:
        yield made


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    with imported(Path(__file__).with_name("dynamic.py.txt"), tmp_path_factory.mktemp("code")) as module:
        yield module


def outputs(view: dict[str, Any]) -> dict[str, Any]:
    return {name: value["value"] for name, value in view["run"]["outputs"].items()}


def states(view: dict[str, Any]) -> dict[str, str]:
    return {s["step"]["name"]: s["step"]["state"] for s in view["steps"]}


def reason(view: dict[str, Any], step: str) -> str:
    return next(str(s["step"]["reason"]) for s in view["steps"] if s["step"]["name"] == step)


def test_a_step_is_spread_over_what_another_returned(api: Api, worker: int, flow: ModuleType) -> None:
    view = ended(api, flow.spread.submit(count=5, api=api)["id"])
    assert outputs(view)["best"] == {"id": 4, "score": 10.0}
    assert outputs(view)["all"] == [{"id": i, "score": (i + 1) * 2.0} for i in range(5)]
    assert states(view) == dict.fromkeys(["parts", "fit", *(f"fit[{i}]" for i in range(5)), "best"], "succeeded")
    assert ["fit", "best"] in view["dag"] and reason(view, "fit") == "It became 5 steps."


def test_an_empty_list_is_no_step_and_an_empty_list(api: Api, worker: int, flow: ModuleType) -> None:
    view = ended(api, flow.spread.submit(count=0, api=api)["id"])
    assert outputs(view) == {"best": {"score": 0}, "all": []}


def test_one_element_that_fails_fails_the_run_and_the_others_finish(api: Api, worker: int, flow: ModuleType) -> None:
    view = ended(api, flow.spread.submit(count=14, rate=1.0, api=api)["id"])
    found = states(view)
    assert view["run"]["state"] == "failed" and "1 of 14 elements did not succeed; fit[12]" in view["run"]["error"]
    assert (found["fit"], found["fit[12]"], found["best"]) == ("failed", "failed", "skipped")
    assert [found[f"fit[{i}]"] for i in range(14) if i != 12] == ["succeeded"] * 13


def test_a_map_that_keeps_going_gives_none_for_what_failed(api: Api, worker: int, flow: ModuleType) -> None:
    view = ended(api, flow.spread_on.submit(api=api)["id"])
    assert outputs(view)["result"] == {"id": 13, "score": 14.0}
    assert states(view)["fit[12]"] == "failed" and "1 of 14" in reason(view, "fit")


def test_maps_over_maps_over_parameters_and_over_two_lists(api: Api, worker: int, flow: ModuleType) -> None:
    view = ended(api, flow.chained.submit(api=api)["id"])
    assert outputs(view) == {"sizes": 6, "sums": [111, 122, 133], "twice": [0, 2, 4, 6]}
    uneven = ended(api, flow.chained.submit(values=[1], api=api)["id"])
    assert "lists of different lengths: a has 1, b has 3" in uneven["run"]["error"]
    no_list = ended(api, flow.chained.submit(values="text", api=api)["id"])
    assert "add is spread over a, which is no list but of type str" in no_list["run"]["error"]


def test_more_elements_than_a_run_may_have_are_refused(api: Api, worker: int, flow: ModuleType) -> None:
    view = ended(api, flow.spread.submit(count=999, api=api)["id"])
    assert "fit would become 999 steps; a run has at most 1000, and this one has 3 already" in view["run"]["error"]


def test_conditions_pass_steps_over_and_say_why(api: Api, worker: int, flow: ModuleType) -> None:
    view = ended(api, flow.branched.submit(rows=5, api=api)["id"])
    assert outputs(view) == {"chosen": "said good", "good": "said good", "heard": "said nothing", "used": 2, "lost": None}
    assert reason(view, "say-2") == "fit['score'] > 100 is not so: 5.0."
    assert reason(view, "say-3") == "fit['score'] <= 4 is not so: 5.0."
    assert reason(view, "say-5") == "It uses what say-3 would have returned, which was passed over."
    other = ended(api, flow.branched.submit(rows=3, api=api)["id"])
    assert outputs(other) == {
        "chosen": "said bad",
        "good": None,
        "heard": "said said bad",
        "used": 2,
        "lost": "said said bad",
    }
    assert reason(other, "say") == "fit['score'] > 4 is not so: 3.0."


def test_a_pipeline_in_a_pipeline_becomes_its_steps(api: Api, worker: int, flow: ModuleType) -> None:
    view = ended(api, flow.outer.submit(api=api)["id"])
    assert outputs(view) == {"one": 3.0, "two": 2.0}
    assert [n for n in states(view) if "[" not in n] == [
        "inner.parts", "inner-2.parts", "inner.fit", "inner-2.fit", "inner.best", "inner-2.best",
    ]  # fmt: skip


def test_people_are_asked_and_answer(api: Api, worker: int, flow: ModuleType, server: Server) -> None:
    run = flow.asked.submit(api=api)
    view = until(lambda: (v := api.get(f"/pipeline-runs/{run['id']}")) and states(v)["approve"] == "asking" and v)
    assert states(view)["say-2"] == "waiting" and states(view)["say"] == "succeeded"
    asking = next(s["step"] for s in view["steps"] if s["step"]["name"] == "approve")
    found = api.get(f"/approvals/{asking['approval_id']}")
    assert found["evidence"]["values"] == {"best['score']": 2.0, "say": "said before"} and found["comment"] == "promote?"
    env = {"PYTHONPATH": str(ROOT), "NORIA_URL": server.url, "PATH": "/usr/bin:/bin"}
    noria = [sys.executable, "-m", "noria.cli.main", "pipeline"]
    own = subprocess.run([*noria, "approve", run["id"]], env=env, capture_output=True, text=True)
    assert own.returncode and "somebody else has to answer" in own.stderr
    token = of(server, "bob", "approver")
    done = subprocess.run(
        [*noria, "approve", run["id"], "approve", "--comment", "fine"], env={**env, "NORIA_TOKEN": token}, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    view = ended(api, run["id"])
    assert outputs(view)["done"] == "said promoted"
    assert outputs(view)["answer"] == {"approved": True, "by": ["service:bob"], "comment": "fine"}
    assert reason(view, "approve") == "Approved by service:bob: fine"


def test_a_no_passes_over_what_waits_for_it(api: Api, worker: int, flow: ModuleType, server: Server) -> None:
    run = flow.asked.submit(api=api)
    view = until(lambda: (v := api.get(f"/pipeline-runs/{run['id']}")) and states(v)["approve"] == "asking" and v)
    asking = next(s["step"] for s in view["steps"] if s["step"]["name"] == "approve")
    with connect(server.url, token=of(server, "eve", "contributor")) as other, pytest.raises(Exception, match="may not do"):
        other.post(f"/approvals/{asking['approval_id']}/reject", {"comment": "no"})
    server.stop()  # the question survives
    server.start()
    with connect(server.url, token=of(server, "carol", "approver")) as carol:
        carol.post(f"/approvals/{asking['approval_id']}/reject", {"comment": "too early"})
    with server.api() as api:
        view = ended(api, run["id"])
    assert view["run"]["state"] == "succeeded" and outputs(view)["done"] is None
    assert reason(view, "say-2") == "approve was not approved. Rejected by service:carol: too early"


def test_a_step_is_replayed_here_and_writes_nothing(api: Api, worker: int, flow: ModuleType, server: Server) -> None:
    run = flow.spread.submit(count=13, rate=1.0, api=api)
    view = ended(api, run["id"])
    env = {"PYTHONPATH": str(ROOT), "NORIA_URL": server.url, "PATH": "/usr/bin:/bin"}
    noria = [sys.executable, "-m", "noria.cli.main", "pipeline", "replay", run["id"]]
    before = api.get("/events", limit=1)["items"][0]["seq"]
    fine = subprocess.run([*noria, "fit[3]"], env=env, capture_output=True, text=True)
    assert "fit[3] returned {'id': 3, 'score': 4.0}" in fine.stdout, fine.stderr
    failed = subprocess.run([*noria, "fit[12]", "--pdb"], env=env, input="p part\nc\nq\n", capture_output=True, text=True)
    assert "ValueError: thirteen rows" in failed.stderr and "'rows': 13" in failed.stdout
    assert failed.returncode
    assert api.get("/events", limit=1)["items"][0]["seq"] == before
    assert view["run"]["state"] == "failed"


def of(server: Server, name: str, role: str) -> str:
    assert server.app
    op = server.app.ops.system("test")
    server.app.access.create_principal(op, NewPrincipal(name=name, kind="service", roles=[role]))
    return server.app.access.create_token(op, TokenRequest(name=name, principal=name)).secret


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("if one() > 1:\n        one()", "noria.when"), ("if one() == 1 and one():\n        one()", "instead of and"),
        ("two(one() > 1)", "cannot be given to a step"), ("two.map(5)", "goes through lists"), ("two.map()", "missing a required argument"),
        ("two.map(x=[1])", "nothing to go through"), ("many.map([1])", "cannot be mapped"),
        ("inner.map([1])", "only a step can be mapped"), ("noria.approve('')", "asks something"),
        ("noria.choose(1)", "takes what steps return"), ("two.with_options(tries=3)(1)", "no such option"),
        ("with noria.when(one() > object()):\n        one()", "plain values"),
    ],
)  # fmt: skip
def test_what_cannot_be_decided_is_said(tmp_path: Path, body: str, message: str) -> None:
    (tmp_path / "undecided.py").write_text(
        "import noria\n@noria.step\ndef one():\n    return 1\n@noria.step\ndef two(x):\n    return x\n"
        "@noria.step\ndef many(*xs):\n    return xs\n@noria.pipeline\ndef inner(x: int = 1):\n    return two(x)\n"
        f"@noria.pipeline\ndef p():\n    {body}\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        import undecided  # type: ignore[import-not-found]

        with pytest.raises(Invalid) as refused:
            undecided.p.trace()
        assert message in refused.value.message + refused.value.hint
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("undecided", None)
