"""Steps as Slurm's batch jobs: against a stand-in of its commands, or with NORIA_SLURM=real against a cluster of one node."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.testing.executor_contract import ExecutorContract, Played, play
from tests.pipelines import slurm_node, slurm_standin
from tests.pipelines.processes import Server, ended, imported, until

pytestmark = pytest.mark.protocol

IS_REAL = os.environ.get("NORIA_SLURM") == "real"


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables with which sbatch, squeue and scancel are found and work."""
    if not IS_REAL:
        yield slurm_standin.install(tmp_path_factory.mktemp("slurm"))
        return
    assert not slurm_node.missing(), (
        f"not installed: {slurm_node.missing()}; apt-get install slurmctld slurmd slurm-client munge"
    )
    node = slurm_node.SlurmNode(tmp_path_factory.mktemp("slurm"))
    yield node.settings
    node.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the nodes share."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def played(commands: dict[str, str], folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    settings = {**commands, "NORIA_SLURM_FOLDER": str(folder)}
    with play("slurm", tmp_path_factory.mktemp("played"), settings=settings, gpus=("0", "1")) as played:
        yield played


class TestSlurm(ExecutorContract):
    """The contract."""


def test_each_try_has_the_number_that_slurm_gave_it(played: Played) -> None:
    assert all(attempt["place"]["job"].isdigit() for step in ("use", "speak", "fail") for attempt in played.attempts(step))


def test_what_jobs_printed_themselves_is_removed_with_them(played: Played, folder: Path) -> None:
    left = [path.name for path in folder.iterdir()]
    assert len(left) == 1, left  # of the agent that was killed


ORPHAN = """
import os, pathlib, time
import noria

@noria.step
def stall(folder: str) -> int:
    attempt = int(os.environ["NORIA_ATTEMPT"])
    pathlib.Path(folder, f"began-{attempt}").touch()
    while attempt == 1:
        time.sleep(0.2)
    return attempt

@noria.pipeline
def stalls(folder: str):
    return {"attempt": stall(folder)}
"""


@pytest.mark.skipif(IS_REAL, reason="It stops the processes of a job, which the stand-in knows.")
def test_an_agent_that_comes_back_after_its_lease_ends_the_job_that_it_left(
    commands: dict[str, str], tmp_path: Path
) -> None:  # fmt: skip
    (tmp_path / "code").mkdir()
    (tmp_path / "stalls.py.txt").write_text(ORPHAN)
    settings = {**commands, "NORIA_SLURM_FOLDER": str(tmp_path / "shared")}
    more, standin = ["--executor", "slurm"], Path(commands["SLURM_STANDIN"])
    server = Server(tmp_path / "home")
    try:
        with imported(tmp_path / "stalls.py.txt", tmp_path / "code") as module, server.api() as api:
            run = module.stalls.submit(folder=str(tmp_path), api=api, queues={"*": "slurm"})

            def tries() -> list[dict[str, Any]]:
                return list(api.get(f"/pipeline-runs/{run['id']}")["steps"][0]["attempts"])

            with server.worker("one", more=more, settings=settings) as killed:
                until(lambda: (tmp_path / "began-1").exists())
                killed.kill()
                killed.wait()
            number = tries()[0]["place"]["job"]
            os.killpg(int(str(slurm_standin.jobs(standin)[number]["pid"])), signal.SIGSTOP)  # so that it cannot ask
            until(lambda: tries()[0]["state"] == "lost")
            assert slurm_standin.jobs(standin)[number]["state"] == "RUNNING"
            with server.worker("one", more=more, settings=settings):
                until(lambda: slurm_standin.jobs(standin)[number]["state"] == "CANCELLED")
                assert ended(api, run["id"])["run"]["state"] == "succeeded"
            assert [attempt["state"] for attempt in tries()] == ["lost", "succeeded"]
            assert list((tmp_path / "shared").iterdir()) == []
    finally:
        server.stop()
