"""The examples of the README, typed as they stand there, against a real server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.protocol.test_demo import ROOT
from tests.server.test_server import Server

pytestmark = [pytest.mark.protocol]
README = (ROOT / "README.md").read_text()
LINES_MAX = 10


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server") / "home")
    made.wait_ready()
    yield made
    made.stop()


def blocks(title: str) -> dict[str, str]:
    """The code below a bold title of the README, by language."""
    part = README.split(f"**{title}", 1)[1].split("\n**", 1)[0].split("\n## ", 1)[0]
    return dict(re.findall(r"```(\w+)\n(.*?)```", part, re.DOTALL))


def type_in(commands: str, folder: Path, server: Server) -> str:
    """What a shell prints that is given the commands; it stops at the first that fails."""
    given = commands.replace("http://127.0.0.1:5000", server.url)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NORIA_", "MLFLOW_"))} | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "NORIA_URL": server.url,
        "NORIA_GATEWAY_URL": f"http://127.0.0.1:{server.gateway}",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", given], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{given}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_three_examples_run_one_after_the_other(server: Server, tmp_path: Path) -> None:
    track = blocks("Track a script you already have.")
    (tmp_path / "train.py").write_text(track["python"])
    assert "FINISHED" in type_in(track["console"], tmp_path, server)

    versions = type_in(blocks("Version a data set.")["console"], tmp_path, server)
    assert "178 → 177 rows" in versions and "1 removed" in versions and "178 rows" in versions

    watched = type_in(blocks("Deploy a model and watch it.")["console"], tmp_path, server)
    assert "wine serves wine@1 now." in watched and "alcohol" in watched
    assert re.search(r"^\d\.?\d*$", watched, re.MULTILINE), watched  # the answer


def test_an_example_is_short() -> None:
    for title in ("Track a script you already have.", "Version a data set.", "Deploy a model and watch it."):
        for language, text in blocks(title).items():
            assert len(text.strip().splitlines()) <= LINES_MAX, (title, language)
