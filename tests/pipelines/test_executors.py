"""Which executors there are, and what an agent says when one cannot be used."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from noria.kernel.errors import Invalid
from noria.pipelines.model.work import Claim
from noria.pipelines.worker.attempt import Attempt, Attempts
from noria.pipelines.worker.executors import Setup, make, names
from noria.pipelines.worker.server import Broken
from noria.pipelines.worker.slurm import state_of
from tests.pipelines.processes import ROOT, free_port


def setup(**settings: str) -> Setup:
    nothing: Any = SimpleNamespace()
    return Setup(server=nothing, home=nothing, url="http://127.0.0.1:1", settings=settings)


def test_noria_s_own_are_there() -> None:
    assert names()[:4] == ["local", "ray", "kubernetes", "slurm"]


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("fargate", {}, "There is no executor 'fargate'"),
        ("ray", {"NORIA_RAY_ADDRESS": "ray://head:10001"}, "it is the dashboard's address"),
        ("ray", {"NORIA_RAY_RUNTIME_ENV": "{"}, "NORIA_RAY_RUNTIME_ENV is not JSON"),
        ("ray", {"NORIA_RAY_RUNTIME_ENV": "[]"}, "NORIA_RAY_RUNTIME_ENV is an object"),
    ],
)
def test_settings_that_cannot_be_are_refused(name: str, settings: dict[str, str], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        make(name, setup(**settings))


def test_without_lightkube_kubernetes_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightkube", None)
    with pytest.raises(Invalid) as raised:
        make("kubernetes", setup())
    assert "pip install 'noria[kubernetes]'" in raised.value.hint


@pytest.mark.protocol
@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("ray", {"NORIA_RAY_ADDRESS": "http://127.0.0.1:{port}"}, "cannot be reached (ConnectError). NORIA_RAY_ADDRESS is"),
        ("kubernetes", {"KUBECONFIG": "{folder}/none"}, "No cluster is configured here"),
        ("slurm", {"PATH": "{folder}"}, "There is no sbatch on this machine. Run the agent on a login node"),
    ],
)
def test_an_agent_whose_cluster_is_not_there_says_so_and_ends(
    name: str, settings: dict[str, str], said: str, tmp_path: Path
) -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("NORIA_", "MLFLOW_"))}
    filled = {key: value.format(port=free_port(), folder=tmp_path) for key, value in settings.items()}
    args = [
        sys.executable,
        "-m",
        "noria.cli.main",
        "agent",
        "--executor",
        name,
        "--url",
        "http://127.0.0.1:9",
        "--home",
        str(tmp_path),
    ]
    done = subprocess.run(
        args, env={**env, "PYTHONPATH": str(ROOT), **filled}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1 and said in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("word", "phase", "out_of_memory"),
    [
        ("PENDING", "waiting", False), ("RUNNING", "running", False), ("COMPLETING", "running", False),
        ("OUT_OF_MEMORY", "ended", True), ("NODE_FAIL", "ended", False), ("SOMETHING_NEW", "ended", False),
    ],
)  # fmt: skip
def test_what_slurm_says_is_understood(word: str, phase: str, out_of_memory: bool) -> None:
    state = state_of(word, "Resources")
    assert (state.phase, state.out_of_memory) == (phase, out_of_memory)
    assert word != "PENDING" or "Resources" in state.why


def test_the_gpus_of_a_try_are_free_before_the_server_hears_of_its_end() -> None:
    """Or it would give the room to a step that finds none, and sees every GPU of the machine."""
    heard: list[str] = []

    class Telling:
        async def post(self, what: str, body: Any, **_: Any) -> bytes:
            heard.append(f"{what} {body.outcome}")
            return b"{}"

    class Refusing:
        async def start(self, attempt: Attempt) -> None:
            raise Broken("no")

    class Quiet:
        redactor = SimpleNamespace(mask=lambda text: text)

        def write(self, text: str) -> None:
            """Nobody reads it."""

        async def close(self) -> tuple[int, str]:
            return 0, ""

    async def play() -> None:
        given: Any = SimpleNamespace(step_run_id="s", attempt=1, timeout_s=None)
        attempt = Attempt(given, Path("nowhere"), Quiet(), worker="w", gpus=["0"])  # type: ignore[arg-type]
        attempt.let_go = lambda: heard.append("free")
        await Attempts(Telling(), Refusing(), worker="w").do(attempt, Claim(worker="w"))  # type: ignore[arg-type]

    asyncio.run(play())
    assert heard == ["free", "finish failed"]
