"""The executor of this machine does what every executor must."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from noria.testing.executor_contract import ExecutorContract, Played, play

pytestmark = pytest.mark.protocol


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    options = ("--cpus", "4", "--gpus", "2")
    with play("local", tmp_path_factory.mktemp("local"), options=options, gpus=("0", "1"), adopts=False) as played:
        yield played


class TestLocal(ExecutorContract):
    """The contract."""
