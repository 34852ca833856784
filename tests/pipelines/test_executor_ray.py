"""Steps as jobs of a Ray cluster: a real one, of one node, in an environment of its own (.venv/clients/ray)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from noria.testing.executor_contract import ExecutorContract, Played, play
from scripts.mlflow_clients import python_of
from tests.pipelines.processes import ROOT, Server, ended, free_port, imported, logs, until

# A worker for each processor that it believes it has, before anybody asks: on two real ones they cost half a minute.
NO_IDLE_WORKERS = {"RAY_enable_worker_prestart": "0", "RAY_prestart_worker_first_driver": "0"}
TOKEN = "token-of-the-tests-of-ray-0123456789abcdef"

IS_ALL = os.environ.get("NORIA_RAY") == "all"
pytestmark = [pytest.mark.protocol, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The dashboard of a head that this module starts and ends."""
    python = python_of("ray-train" if IS_ALL else "ray")
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # a short path: Ray's sockets lie in it, and a socket's has 107 bytes
    port = free_port()
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("NORIA_", "MLFLOW_", "RAY_"))}
    env = {
        **plain, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN,
        "PATH": f"{python.parent}:{os.environ['PATH']}", **NO_IDLE_WORKERS,
    }  # fmt: skip
    args = [
        str(python),
        "-m",
        "ray.scripts.scripts",
        "start",
        "--head",
        "--block",
        "--node-ip-address=127.0.0.1",
        f"--port={free_port()}",
    ]
    args += ["--dashboard-host=127.0.0.1", f"--dashboard-port={port}", "--num-cpus=16", "--num-gpus=2"]
    args += [
        f"--ray-client-server-port={free_port()}",
        f"--dashboard-agent-listen-port={free_port()}",
        f"--temp-dir={folder}",
    ]
    args += ["--object-store-memory=100000000", "--disable-usage-stats"]
    with (folder / "head.log").open("wb") as output:
        head = subprocess.Popen(args, env=env, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"

    def is_up() -> bool:
        assert head.poll() is None, (folder / "head.log").read_text()[-3000:]
        try:
            return httpx.get(f"{url}/api/jobs/", headers={"authorization": f"Bearer {TOKEN}"}, timeout=5.0).is_success
        except httpx.HTTPError:
            return False

    try:
        until(is_up, patience_s=120.0)
        yield url
    finally:
        started = []
        with suppress(psutil.NoSuchProcess):  # it did not come up: the reason is above
            started = [psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)]
        head.terminate()  # it would drain for half a minute what nobody needs
        _, left = psutil.wait_procs(started, timeout=5.0)
        for each in left:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def settings_of(address: str) -> dict[str, str]:
    runtime_env = {"env_vars": {"PYTHONPATH": str(ROOT)}}
    return {"NORIA_RAY_ADDRESS": address, "NORIA_RAY_TOKEN": TOKEN, "NORIA_RAY_RUNTIME_ENV": json.dumps(runtime_env)}


@pytest.fixture(scope="module")
def played(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    settings = settings_of(address)
    with play("ray", tmp_path_factory.mktemp("played"), settings=settings, gpus=("0", "1")) as played:
        yield played


class TestRay(ExecutorContract):
    """The contract."""


def test_a_try_says_on_which_cluster_it_ran(played: Played, address: str) -> None:
    place = played.attempts("use")[0]["place"]
    assert place["details"] == {"address": address} and place["job"].startswith("noria-")


@pytest.mark.skipif(not IS_ALL, reason="a minute of Ray's own work: make test-ray")
def test_pytorch_is_trained_on_two_workers_of_the_cluster(address: str, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    shutil.copy(ROOT / "examples" / "ray_train.py", tmp_path / "ray_train.py.txt")
    server = Server(tmp_path / "home")
    more = ["--executor", "ray"]
    try:
        with server.worker(more=more, settings=settings_of(address)), server.api() as api:
            with imported(tmp_path / "ray_train.py.txt", tmp_path / "code") as module:
                run = module.ray_train.submit(workers=2, epochs=20, storage=str(tmp_path / "results"), api=api)
            view = ended(api, run["id"], patience_s=150.0)
            assert view["run"]["state"] == "succeeded", logs(api, view, "fit")
            metrics = view["run"]["outputs"]["metrics"]["value"]
            assert metrics["workers"] == 2 and metrics["loss"] < 0.1
            assert metrics["weights"] == pytest.approx([1.0, -2.0, 3.0, 0.5], abs=0.1)
    finally:
        server.stop()
