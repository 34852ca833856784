"""Steps as Slurm's batch jobs: against a stand-in of its commands, or with NORIA_SLURM=real against a cluster of one node."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from noria.testing.executor_contract import ExecutorContract, Played, play
from tests.pipelines import slurm_node, slurm_standin

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
