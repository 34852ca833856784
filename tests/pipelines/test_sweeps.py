"""Sweeps with real workers and Optuna: trials in parallel, judged by what they return or report, given up, cancelled, resumed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import noria
from noria.client.api import Api
from noria.kernel.errors import Conflict, Invalid
from noria.pipelines import sampling
from tests.pipelines.processes import ROOT, Server, ended, imported, logs, until

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
    with imported(Path(__file__).with_name("sweeps.py.txt"), tmp_path_factory.mktemp("code")) as module:
        yield module


def result(view: dict[str, Any]) -> dict[str, Any]:
    assert view["run"]["state"] == "succeeded", view["run"]["error"]
    return {name: value["value"] for name, value in view["run"]["outputs"].items()}


def sweep_of(api: Api, view: dict[str, Any]) -> dict[str, Any]:
    step = next(s["step"] for s in view["steps"] if s["step"]["kind"] == "sweep")
    return dict(api.get(f"/step-runs/{step['id']}/trials"))


def test_the_best_trial_is_what_the_sweep_gives(api: Api, worker: int, flow: ModuleType) -> None:
    view = ended(api, flow.searched.submit(api=api)["id"])
    found = result(view)["result"]
    sweep = sweep_of(api, view)
    values = {t["number"]: t["value"] for t in sweep["trials"]}
    assert len(values) == 12 and all(t["outcome"] == "complete" for t in sweep["trials"])
    assert found["trial"] == min(values, key=lambda n: values[n]) == sweep["best"]
    assert found["value"] == values[found["trial"]] == found["best"]["loss"]
    assert found["params"] == sweep["trials"][found["trial"]]["params"]
    assert found["params"]["x"] == found["best"]["x"]
    assert {t["params"]["kind"] for t in sweep["trials"]} == {"better", "worse"}
    assert f"Trial {found['trial']} was the best: loss" in sweep["step"]["reason"]


def test_the_command_line_lists_trials_the_best_first(api: Api, worker: int, flow: ModuleType, server: Server) -> None:
    view = ended(api, flow.odd.submit(api=api)["id"])
    env = {"PYTHONPATH": str(ROOT), "NORIA_URL": server.url, "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "noria.cli.main", "pipeline", "trials", view["run"]["id"]]
    lines = subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()
    assert lines[0].split()[:4] == ["TRIAL", "VALUE", "X", "OUTCOME"]
    assert [line.split()[0] for line in lines[1:] if line[:1].isdigit()] == ["4", "2", "0", "1", "3"]
    wrong = subprocess.run([*command, "nope"], env=env, capture_output=True, text=True, timeout=60)
    assert wrong.returncode != 0 and "has no sweep 'nope'" in wrong.stderr


def test_never_more_trials_at_once_than_asked_for(api: Api, worker: int, flow: ModuleType) -> None:
    view = ended(api, flow.searched.submit(trials=9, api=api)["id"])
    times = sweep_of(api, view)["trials"]
    starts = sorted([(t["started_at_ms"], 1) for t in times] + [(t["ended_at_ms"], -1) for t in times])
    running = most = 0
    for _, change in starts:
        running += change
        most = max(most, running)
    assert 1 <= most <= 3


def test_a_trial_is_judged_by_what_it_reports(api: Api, worker: int, flow: ModuleType) -> None:
    view = ended(api, flow.reported.submit(api=api)["id"])
    assert result(view) == {"x": 3, "loss": pytest.approx(1 / 6)}
    sweep = sweep_of(api, view)
    assert [t["params"]["x"] for t in sweep["trials"]] == [0, 1, 2, 3, 4, 5]
    assert [step for step, _ in sweep["trials"][0]["reports"]] == [0, 1, 2, 3, 4, 5]
    told = api.get(f"/step-runs/{sweep['trials'][3]['step_run_id']}/reports")["items"]  # by the step itself, and all it told
    assert [t["name"] for t in told] == ["loss", "other"] and told[0]["points"][-1] == [5, pytest.approx(1 / 6)]


def test_trials_that_fail_are_no_failure_and_a_grid_ends(api: Api, worker: int, flow: ModuleType) -> None:
    view = ended(api, flow.odd.submit(api=api)["id"])
    assert result(view) == {"best": 4.0, "trial": 4}
    outcomes = [t["outcome"] for t in sweep_of(api, view)["trials"]]
    assert outcomes == ["complete", "failed", "complete", "failed", "complete"]


def test_a_sweep_without_a_number_fails_and_says_so(api: Api, worker: int, flow: ModuleType) -> None:
    view = ended(api, flow.hopeless.submit(api=api)["id"])
    assert view["run"]["state"] == "failed"
    assert "No trial gave a number: 3 trials, 3 without a number." in view["run"]["error"]


def test_a_sampler_that_breaks_ends_the_sweep_with_what_there_is_and_says_so(
    api: Api, worker: int, flow: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    proper = sampling.propose

    def breaks(sweep: Any, trials: list[Any], count: int) -> Any:
        if len(trials) >= 2:
            raise Invalid("The sampler is gone.", hint="Bring it back.")
        return proper(sweep, trials, count)

    monkeypatch.setattr(sampling, "propose", breaks)
    view = ended(api, flow.odd.submit(api=api)["id"])
    assert result(view) == {"best": 0.0, "trial": 0}
    assert len(sweep_of(api, view)["trials"]) == 2
    assert "no more trials: The sampler is gone. Bring it back." in logs(api, view, "sometimes")


def test_it_ends_early_when_nothing_better_comes(api: Api, worker: int, flow: ModuleType) -> None:
    view = ended(api, flow.patient.submit(api=api)["id"])
    assert result(view) == {"best": 8.0}
    assert len(sweep_of(api, view)["trials"]) == 3


def test_a_trial_that_falls_behind_is_given_up(api: Api, worker: int, flow: ModuleType) -> None:
    view = ended(api, flow.pruned.submit(api=api)["id"])
    assert result(view) == {"best": 0.0}
    trials = sweep_of(api, view)["trials"]
    assert [t["outcome"] for t in trials] == ["complete"] * 5 + ["pruned"] * 2
    assert "Given up at step" in trials[5]["reason"]
    kinds = [e["kind"] for e in api.get("/events", kinds="step_run.pruned", limit=10)["items"]]
    assert len(kinds) == 2


def test_a_sweep_is_cancelled_with_its_trials(api: Api, worker: int, flow: ModuleType) -> None:
    run = flow.long.submit(api=api)
    until(lambda: sum(s["step"]["state"] == "running" for s in api.get(f"/pipeline-runs/{run['id']}")["steps"]) == 3)
    api.post(f"/pipeline-runs/{run['id']}/cancel")
    view = ended(api, run["id"])
    assert view["run"]["state"] == "cancelled"
    assert {s["step"]["state"] for s in view["steps"]} == {"cancelled"}


def test_a_failed_sweep_is_resumed_and_keeps_its_trials(api: Api, worker: int, flow: ModuleType) -> None:
    run = flow.long.submit(seconds=60.0, api=api)
    until(lambda: sum(s["step"]["state"] == "running" for s in api.get(f"/pipeline-runs/{run['id']}")["steps"]) == 3)
    step = next(s["step"] for s in api.get(f"/pipeline-runs/{run['id']}")["steps"] if s["step"]["kind"] == "sweep")
    api.post(f"/step-runs/{step['id']}/cancel")
    view = ended(api, run["id"])
    assert view["run"]["state"] == "failed"
    api.post(f"/pipeline-runs/{run['id']}/resume")
    view = until(
        lambda: (
            (v := api.get(f"/pipeline-runs/{run['id']}"))
            and sum(s["step"]["state"] == "running" for s in v["steps"]) == 3
            and v
        )
    )
    assert len(view["steps"]) == 3  # the same two trials again
    api.post(f"/pipeline-runs/{run['id']}/cancel")
    assert ended(api, run["id"])["run"]["state"] == "cancelled"


def test_a_report_of_a_former_attempt_is_refused(api: Api, worker: int, flow: ModuleType) -> None:
    view = ended(api, flow.odd.submit(api=api)["id"])
    trial = sweep_of(api, view)["trials"][0]
    with pytest.raises(Conflict, match="has ended"):
        api.post(f"/step-runs/{trial['step_run_id']}/reports", {"attempt": 1, "step": 9, "values": {"value": 1.0}})


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"space": {}}, "between 1 and"), ({"space": {"y": [1]}}, "no parameter 'y'"), ({"space": {"x": object()}}, "is a object"),
        ({"space": {"x": noria.ints(3, 1)}}, "lower end"), ({"space": {"x": noria.floats(0, 1, log=True)}}, "above 0"),
        ({"space": {"x": [1]}, "trials": 0}, "between 1 and"), ({"space": {"x": noria.floats(0, 1)}, "sampler": "grid"}, "no points"),
        ({"space": {"x": [1]}, "x": 3}, "searches for it"),
    ],
)  # fmt: skip
def test_an_impossible_sweep_is_refused(api: Api, flow: ModuleType, more: dict[str, Any], said: str) -> None:
    def wrong() -> Any:
        return noria.sweep(flow.sometimes, **more)

    wrong.__module__ = "sweeps"
    with pytest.raises(Invalid, match=said):
        made = noria.pipeline(name="wrong")(wrong)
        spec, _ = made.trace()
        from noria.pipelines.graph import check_spec

        check_spec(spec)


def test_outside_a_pipeline_reports_do_nothing(flow: ModuleType) -> None:
    assert flow.fit.function(3).x == 3
    with pytest.raises(Invalid, match="has a number"):
        noria.report(1)
