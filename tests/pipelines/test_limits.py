"""Limits, and steps that do not behave: only they fail, nothing of them is left, and the queue goes on."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from noria.client.api import Api
from noria.kernel.errors import Invalid
from noria.pipelines.worker import cgroups
from tests.pipelines.processes import Server, ended, imported, logs, until

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("home"))
    yield made
    made.stop()


@pytest.fixture(scope="module", params=["cgroups", "watched"])
def worker(server: Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """With control groups where this machine lets us, and without."""
    if request.param == "cgroups" and (found := cgroups.find()) is None:
        pytest.skip("no control group can be made here")
    elif request.param == "cgroups":
        assert found is not None
        found.close()
    more = [] if request.param == "cgroups" else ["--no-cgroups"]
    settings = {"CUDA_VISIBLE_DEVICES": "3,GPU-5b"}  # those that this worker itself was given
    with server.worker(slots=3, more=["--cpus", "2", *more], settings=settings):
        yield request.param


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    with server.api() as made:
        yield made


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    with imported(HERE / "limits.py.txt", tmp_path_factory.mktemp("code")) as module:
        yield module


def tried(view: dict[str, Any]) -> dict[str, Any]:
    (attempt,) = view["steps"][0]["attempts"]
    return dict(attempt)


@pytest.mark.protocol
def test_a_step_beyond_its_memory_is_told_apart(api: Api, worker: str, steps: ModuleType) -> None:
    view = ended(api, steps.memory.submit(megabytes=400, api=api)["id"])
    attempt = tried(view)
    assert attempt["state"] == "out_of_memory", attempt
    told = re.search(r"its limit is 150 MB \(memory=\), and it had used (\d+) MB", attempt["error"])
    assert told and 100 <= int(told[1]) <= 450, attempt["error"]  # what is watched has used more before somebody looks
    assert attempt["memory_peak_bytes"] > 100e6
    assert view["run"]["state"] == "failed" and "ran out of memory" in view["run"]["error"]
    assert logs(api, view, "greedy") == "taking 400\n"


@pytest.mark.protocol
def test_a_step_within_its_memory_succeeds_and_its_peak_is_known(api: Api, worker: str, steps: ModuleType) -> None:
    view = ended(api, steps.memory.submit(megabytes=60, api=api)["id"])
    assert view["run"]["outputs"]["result"]["value"] == 60
    assert 60e6 < tried(view)["memory_peak_bytes"] < 150e6


@pytest.mark.protocol
def test_memory_is_that_of_all_its_processes(api: Api, worker: str, steps: ModuleType) -> None:
    view = ended(api, steps.memory_of_children.submit(megabytes=80, api=api)["id"])
    assert tried(view)["state"] == "out_of_memory", tried(view)


@pytest.mark.protocol
def test_a_step_that_ignores_signals_is_ended_with_its_children(
    api: Api, worker: str, steps: ModuleType, tmp_path: Path
) -> None:
    view = ended(api, steps.ignores_signals.submit(folder=str(tmp_path), api=api)["id"])
    assert tried(view)["state"] == "timed_out"
    group = int((tmp_path / "stubborn").read_text())
    assert [p.pid for p in psutil.process_iter() if _group(p) == group] == []


def _group(process: psutil.Process) -> int:
    import os

    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return 0


@pytest.mark.protocol
def test_a_daemon_does_not_outlive_its_step(api: Api, worker: str, steps: ModuleType, tmp_path: Path) -> None:
    view = ended(api, steps.leaves_a_daemon.submit(folder=str(tmp_path), api=api)["id"])
    assert view["run"]["outputs"]["result"]["value"] == "left"
    assert not psutil.pid_exists(int((tmp_path / "daemon").read_text()))


@pytest.mark.protocol
def test_output_beyond_the_limit_is_dropped_and_said(api: Api, worker: str, steps: ModuleType) -> None:
    run = steps.prints.submit(megabytes=100, api=api)
    view = ended(api, run["id"])
    assert view["run"]["outputs"]["result"]["value"] == 100
    size = view["steps"][0]["step"]["log_bytes"]
    assert 8 << 20 <= size < (8 << 20) + 200
    end = api.get(f"/step-runs/{view['steps'][0]['step']['id']}/logs", offset=size - 60)["text"]
    assert "more than 8 MiB; the rest is dropped" in end


@pytest.mark.protocol
def test_a_step_that_fills_its_scratch_folder_fails(api: Api, worker: str, steps: ModuleType, tmp_path: Path) -> None:
    view = ended(api, steps.fills_the_disk.submit(folder=str(tmp_path), api=api)["id"])
    assert tried(view)["state"] == "failed"
    assert "It filled its scratch folder" in view["run"]["error"] and "5 MB" in view["run"]["error"]
    scratch = Path((tmp_path / "scratch").read_text())
    until(lambda: not scratch.exists(), patience_s=5)
    assert not psutil.pid_exists(int((tmp_path / "hoarder").read_text()))


@pytest.mark.protocol
def test_a_step_that_fits_leaves_no_scratch(api: Api, worker: str, steps: ModuleType, tmp_path: Path) -> None:
    view = ended(api, steps.fills_the_disk.submit(folder=str(tmp_path), megabytes=2, api=api)["id"])
    assert view["run"]["outputs"]["result"]["value"] == "fits"
    until(lambda: not Path((tmp_path / "scratch").read_text()).parent.exists(), patience_s=5)


@pytest.mark.protocol
def test_two_steps_that_need_both_processors_take_turns(api: Api, worker: str, steps: ModuleType, tmp_path: Path) -> None:
    view = ended(api, steps.threads.submit(folder=str(tmp_path), api=api)["id"])
    assert view["run"]["outputs"]["result"]["value"] == ["2", "2"]
    first, second = sorted([float(x) for x in line.split()] for line in (tmp_path / "spans").read_text().splitlines())
    assert first[1] <= second[0]


@pytest.mark.protocol
def test_each_step_gets_a_gpu_of_its_own(api: Api, worker: str, steps: ModuleType) -> None:
    view = ended(api, steps.gpus.submit(items=list(range(40)), api=api)["id"])
    assert set(view["run"]["outputs"]["result"]["value"]) == {"3", "GPU-5b"}


@pytest.mark.protocol
def test_a_step_for_which_no_worker_is_large_enough_says_so(api: Api, worker: str, steps: ModuleType) -> None:
    run = steps.too_wide.submit(api=api)
    time.sleep(0.5)
    view = api.get(f"/pipeline-runs/{run['id']}")
    assert view["steps"][0]["step"]["state"] == "ready"
    assert view["steps"][0]["waiting"] == "It asks for 64 cpus; the largest worker has 2."
    assert ended(api, api.post(f"/pipeline-runs/{run['id']}/cancel")["id"])["run"]["state"] == "cancelled"


@pytest.mark.protocol
def test_steps_that_cannot_be_forked_run_in_new_processes(
    api: Api, worker: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with imported(HERE / "threaded.py.txt", tmp_path) as module:
        view = ended(api, module.threaded.submit(n=4, api=api)["id"])
        assert view["run"]["outputs"]["result"]["value"] == 8
        assert logs(api, view, "double") == "doubling 4\n"
        view = ended(api, module.threaded_failure.submit(api=api)["id"])
        assert "on purpose" in view["run"]["error"]


@pytest.mark.parametrize(("text", "bytes_"), [("4GB", 4 * 10**9), ("4GiB", 4 << 30), ("500 mb", 5 * 10**8), (7, 7)])
def test_sizes_are_read(text: str | int, bytes_: int) -> None:
    from noria.client.sizes import size_bytes

    assert size_bytes(text) == bytes_


@pytest.mark.parametrize("wrong", ["4 giraffes", "GB", True, "-1GB"])
def test_what_is_no_size_is_refused(wrong: Any) -> None:
    from noria.client.sizes import size_bytes

    with pytest.raises(Invalid, match="not a size"):
        size_bytes(wrong)


def test_version_2_groups_are_made_below_the_workers_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of version 2, on a folder that stands in for the kernel: this machine may have version 1 only."""
    mount = tmp_path / "cgroup"
    own = mount / "user.slice"
    own.mkdir(parents=True)
    (own / "cgroup.controllers").write_text("cpu memory pids\n")
    mounts = f"cgroup2 {mount} cgroup2 rw 0 0\n"
    found = cgroups.find(mounts=mounts, own="0::/user.slice\n")
    assert found is not None and found.version == 2
    group = found.make()
    group.limit(1 << 20)
    folder = group.procs.parent
    assert (folder / "memory.max").read_text() == str(1 << 20) and (folder / "memory.swap.max").read_text() == "0"
    (folder / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    (folder / "memory.peak").write_text("777\n")
    assert (group.kills_count, group.peak_bytes) == (2, 777)
    assert (own / "cgroup.subtree_control").read_text() == "+memory"


def test_without_the_memory_controller_there_are_no_groups(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.mkdir()
    (own / "cgroup.controllers").write_text("cpu\n")
    assert cgroups.find(mounts=f"cgroup2 {own} cgroup2 rw 0 0\n", own="0::/\n") is None
    assert cgroups.find(mounts="proc /proc proc rw 0 0\n", own="0::/\n") is None
