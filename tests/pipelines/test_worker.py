"""Real workers: processes, output, signals, crashes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from noria.client.api import Api
from noria.client.pipeline import PipelineFailed
from tests.pipelines.processes import Server, ended, imported, logs, until

pytestmark = pytest.mark.protocol


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("home"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def worker(server: Server) -> Iterator[int]:
    with server.worker() as process:
        yield process.pid


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    with server.api() as made:
        yield made


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The user's file, imported as a script's steps would be."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "helper.py").write_text("def scaled(value, factor):\n    return value * factor\n")
    with imported(Path(__file__).with_name("flow.py.txt"), folder) as module:
        yield module
    sys.modules.pop("helper")


def notes(folder: Path) -> list[str]:
    path = folder / "notes.txt"
    return path.read_text().splitlines() if path.exists() else []


def value(view: dict[str, Any], name: str = "result") -> Any:
    return view["run"]["outputs"][name]["value"]


def test_a_pipeline_runs_and_gives_its_outputs(api: Api, worker: int, flow: ModuleType) -> None:
    run = flow.flow.run(rows=5, api=api, show=False)
    assert run["outputs"]["sum"] == {"as": "json", "value": 20.0}
    view = ended(api, run["id"])
    assert value(view, "all") == {"sum": 20.0, "count": 5}
    assert logs(api, view, "load") == "loading 5 rows\n"
    tried = view["steps"][0]["attempts"][0]
    assert tried["exit_code"] == 0 and len(tried["environment_digest"]) == 64
    assert api.get(f"/blobs/{tried['environment_digest']}")["python"]


def test_a_step_outside_a_pipeline_is_the_function(flow: ModuleType) -> None:
    assert flow.total(flow.load(3), 3) == {"sum": 6.0, "count": 3}
    assert flow.flow(4)["sum"] == 12.0


def test_a_failing_step_tells_why(api: Api, worker: int, flow: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PipelineFailed, match="no rows in the table"):
        flow.failing.run(api=api)
    shown = capsys.readouterr().err
    assert "✗ explode" in shown and 'raise ValueError("no rows in the table")' in shown
    run = api.get("/pipeline-runs", pipeline="failing")["items"][0]
    view = ended(api, run["id"])
    text = logs(api, view, "explode")
    assert text.startswith("about to fail\nTraceback") and "zygote" not in text
    assert {s["step"]["name"]: s["step"]["state"] for s in view["steps"]} == {
        "explode": "failed", "load": "skipped", "total": "skipped",
    }  # fmt: skip


def test_a_flaky_step_is_retried(api: Api, worker: int, flow: ModuleType, tmp_path: Path) -> None:
    view = ended(api, flow.unlucky.submit(folder=str(tmp_path), api=api)["id"])
    assert value(view) == 3
    assert [a["state"] for a in view["steps"][0]["attempts"]] == ["failed", "failed", "succeeded"]
    assert "attempt 1 failed; the next one starts in 0.1 s" in logs(api, view, "flaky")


def test_a_step_that_leaves_a_thread_pool_open_ends(api: Api, worker: int, flow: ModuleType) -> None:
    assert value(ended(api, flow.pool.submit(api=api)["id"])) == 7


def test_a_step_killed_from_outside_fails_with_its_signal(api: Api, worker: int, flow: ModuleType) -> None:
    view = ended(api, flow.suicide.submit(api=api)["id"])
    assert "killed by SIGKILL" in view["run"]["error"]


def test_a_timeout_kills_the_whole_group(api: Api, worker: int, flow: ModuleType, tmp_path: Path) -> None:
    view = ended(api, flow.too_long.submit(folder=str(tmp_path), api=api)["id"])
    assert "longer than its timeout of 1 s" in view["run"]["error"]
    assert not psutil.pid_exists(int(notes(tmp_path)[0].split()[1]))


def test_cancel_stops_a_running_step(api: Api, worker: int, flow: ModuleType, tmp_path: Path) -> None:
    run = flow.long.submit(folder=str(tmp_path), seconds=60, api=api)
    until(lambda: len(notes(tmp_path)) == 2)
    pid = int(notes(tmp_path)[1].split()[1])
    assert psutil.pid_exists(pid)
    api.post(f"/pipeline-runs/{run['id']}/cancel")
    view = ended(api, run["id"])
    assert view["run"]["state"] == "cancelled"
    until(lambda: not psutil.pid_exists(pid))


def test_two_steps_run_at_once(api: Api, worker: int, flow: ModuleType, tmp_path: Path) -> None:
    assert value(ended(api, flow.parallel.submit(folder=str(tmp_path), api=api)["id"])) == "a+b"


def test_a_cached_result_is_taken_until_inputs_change(api: Api, worker: int, flow: ModuleType, tmp_path: Path) -> None:
    for rows in (3, 3, 4):
        assert value(ended(api, flow.thrifty.submit(folder=str(tmp_path), rows=rows, api=api)["id"])) == rows
    assert notes(tmp_path) == ["expensive 3", "expensive 4"]


def test_a_parameter_may_shape_the_graph(api: Api, worker: int, flow: ModuleType) -> None:
    assert value(ended(api, flow.fan.submit(width=5, api=api)["id"])) == 100
    fixed = api.get("/pipelines/fan")["spec"]["fixed"]
    assert fixed == {"width": 5}


def test_a_step_knows_who_it_is_and_not_the_servers_secrets(api: Api, worker: int, flow: ModuleType, server: Server) -> None:
    run = flow.environment.submit(api=api)
    found = value(ended(api, run["id"]))
    assert found["NORIA_PIPELINE_RUN"] == run["id"] and found["NORIA_STEP"] == "look"
    assert found["MLFLOW_TRACKING_URI"] == server.url
    assert found["MLFLOW_TRACKING_TOKEN"] == found["NORIA_TOKEN"] != ""
    assert "NORIA_INTERNAL_TOKEN" not in found


def test_mlflow_runs_in_a_step_carry_its_tags(api: Api, worker: int, flow: ModuleType) -> None:
    pytest.importorskip("mlflow")
    run = flow.tagged.submit(api=api)
    found = value(ended(api, run["id"]))
    assert found["noria.pipeline_run"] == run["id"] and found["noria.step"] == "tags"
    assert found["noria.dataset_version"] == "0197c0de"
    assert len(found["noria.environment_digest"]) == 64
    edges = api.get("/lineage/dataset_version:0197c0de")["edges"]
    assert [e["src"] for e in edges if e["kind"] == "read"] == [f"pipeline_run:{run['id']}"]


def test_code_that_does_not_import_fails_with_the_traceback(api: Api, worker: int, tmp_path: Path) -> None:
    (tmp_path / "broken_here.py").write_text(
        "import os, noria\n"
        "if os.environ.get('NORIA_ZYGOTE'):\n    import not_installed_anywhere\n"
        "@noria.step\ndef a():\n    return 1\n\n@noria.pipeline\ndef broken():\n    return a()\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        import broken_here  # type: ignore[import-not-found]

        view = ended(api, broken_here.broken.submit(api=api)["id"])
    finally:
        sys.path.remove(str(tmp_path))
    assert "No module named 'not_installed_anywhere'" in view["run"]["error"]
    assert "broken_here.py" in logs(api, view, "a")


def test_a_worker_killed_in_a_step_loses_nothing(flow: ModuleType, tmp_path: Path) -> None:
    server = Server(tmp_path / "home")
    try:
        with server.api() as api, server.worker() as first:
            run = flow.long.submit(folder=str(tmp_path), seconds=1.5, api=api)
            until(lambda: len(notes(tmp_path)) == 2)
            step = int(notes(tmp_path)[1].split()[1])
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
            until(lambda: not psutil.pid_exists(step), patience_s=5)  # no orphan runs beside the repeat
            with server.worker():
                view = ended(api, run["id"])
        assert view["run"]["state"] == "succeeded"
        assert [n.split()[0] for n in notes(tmp_path)] == ["first", "slow", "slow", "slow-done"]
        assert [a["state"] for a in view["steps"][1]["attempts"]] == ["lost", "succeeded"]
    finally:
        server.stop()


def test_a_restarted_server_keeps_its_workers(flow: ModuleType, tmp_path: Path) -> None:
    server = Server(tmp_path / "home", lease_s=2.0)
    try:
        with server.worker(), server.api() as api:
            run = flow.long.submit(folder=str(tmp_path), seconds=4, api=api)
            until(lambda: len(notes(tmp_path)) == 2)
            server.stop()
            server.start()
        with server.worker(), server.api() as api:
            view = ended(api, run["id"])
        assert view["run"]["state"] == "succeeded"
        assert notes(tmp_path).count("first") == 1
    finally:
        server.stop()


def test_a_process_forked_ahead_that_was_killed_is_replaced(api: Api, worker: int, flow: ModuleType) -> None:
    ended(api, flow.flow.submit(rows=5, api=api)["id"])
    zygotes = psutil.Process(worker).children()
    spares = [spare for zygote in zygotes for spare in zygote.children()]
    assert spares
    for spare in spares:
        spare.kill()
    assert value(ended(api, flow.flow.submit(rows=5, api=api)["id"]), "sum") == 20.0


def test_a_stopped_worker_gives_its_step_back_at_once(flow: ModuleType, tmp_path: Path) -> None:
    server = Server(tmp_path / "home", lease_s=30.0)
    try:
        with server.api() as api:
            with server.worker() as first:
                run = flow.long.submit(folder=str(tmp_path), seconds=1, api=api)
                until(lambda: len(notes(tmp_path)) == 2)
                first.send_signal(signal.SIGTERM)
                assert first.wait(10) == 0
            with server.worker():
                view = ended(api, run["id"])
        assert view["run"]["state"] == "succeeded"
    finally:
        server.stop()
