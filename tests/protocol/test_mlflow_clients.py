"""Several versions of MLflow's client against one server: the installed one, the last of 2.x, an early 3.x, the newest in full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts import mlflow_clients
from tests.protocol.test_mlflow_tracking import Server

LIMIT_S = 540  # a client imports for a minute on a loaded machine
CALLS = Path(__file__).parent / "client_calls.py"
pytestmark = [pytest.mark.protocol, pytest.mark.slow, pytest.mark.timeout(LIMIT_S + 60)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("home"))
    yield made
    made.stop()


def saw(python: Path, url: str, name: str) -> tuple[str, dict[str, Any]]:
    """The version of the client of this interpreter, and what it saw."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "PYTHON"))}
    done = subprocess.run(
        [str(python), "-W", "ignore", str(CALLS), url, name],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env=plain,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.strip().splitlines()[-1])
    return said["version"], said["saw"]


EXPECTED_RUNS = {
    "params": {"lr": "0.1", "depth": "3", "p": "q"}, "status": "FINISHED", "name": "first",
    "metrics": {"acc": "0.9", "bad": "nan", "big": "inf", "loss": "0.5", "many": "999.0"},
    "tags": {"k": "v", "t": "u"}, "history": [1000, 999], "search": ["second", "first"], "pages": [1, 1, True],
    "deleted": ["second"], "files": ["d.json", "notes"], "inside": ["notes/a.txt"], "text": "hello", "dict": {"a": 1},
}  # fmt: skip
EXPECTED_ERRORS = {
    "no run": "RESOURCE_DOES_NOT_EXIST", "no experiment": "RESOURCE_DOES_NOT_EXIST", "twice": "RESOURCE_ALREADY_EXISTS",
    "filter": "INVALID_PARAMETER_VALUE", "no model": "RESOURCE_DOES_NOT_EXIST", "no version": "RESOURCE_DOES_NOT_EXIST",
}  # fmt: skip


@pytest.mark.parametrize("client", ["installed", *mlflow_clients.versions()])
def test_the_same_calls_see_the_same(server: Server, client: str) -> None:
    python = Path(sys.executable) if client == "installed" else mlflow_clients.python_of(client)
    version, seen = saw(python, server.url, client)
    assert version.startswith(client) or client in ("installed", "server")
    assert {k: seen["runs"][k] for k in EXPECTED_RUNS} == EXPECTED_RUNS
    assert seen["runs"]["experiment"] == [client, {"team": "a", "stage": "x"}] and seen["runs"]["experiments"] == [client]
    assert seen["errors"] == EXPECTED_ERRORS
    assert seen["registry"] == {
        "model": [client, "about", {"team": "a"}, {"champion": 1}],
        "one": [1, "Archived", "READY", {"ok": "yes"}, ["champion"], True],
        "search": [1, 2], "tagged": [2], "models": [client], "predict": [[1.0]], "source": True, "left": [],
    }  # fmt: skip
    assert seen["prompts"] == {"live": "Hello Ada!", "second": "Bye {{who}}.", "version": 1}
    assert seen["parts"] == {"same": True}
