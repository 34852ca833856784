"""An agent: a worker elsewhere that has a token and an address, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines.processes import ROOT, Server, ended, imported, logs, until

pytestmark = pytest.mark.protocol

STEPS = """
import os
import noria

@noria.step(queue="gpu")
def there(n: int) -> dict:
    print("on the agent")
    return {"n": n, "token": bool(os.environ.get("NORIA_TOKEN")), "home": os.getcwd()}

@noria.step
def here(found: dict) -> int:
    return found["n"] + 1

@noria.pipeline
def both(n: int = 1):
    found = there(n)
    return {"there": found, "here": here(found)}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "home")
    yield made
    made.stop()


def test_an_agent_with_a_token_runs_the_steps_of_its_queue(server: Server, tmp_path: Path) -> None:
    (tmp_path / "steps.py.txt").write_text(STEPS)
    (tmp_path / "code").mkdir()
    with server.api() as api:
        api.post("/principals", {"name": "gpu-1", "kind": "service", "roles": ["agent"], "password": ""})
        secret = api.post("/tokens", {"name": "gpu-1", "principal": "gpu-1", "expires_in_days": 1, "actions": []})["secret"]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("NORIA_", "MLFLOW_"))}
    env |= {"NORIA_URL": server.url, "NORIA_TOKEN": secret, "PYTHONPATH": str(ROOT)}
    args = [sys.executable, "-m", "noria.cli.main", "agent", "--queue", "gpu", "--slots", "1"]
    args += ["--home", str(tmp_path / "elsewhere"), "--name", "gpu-1"]
    with server.worker(), server.api() as api, imported(tmp_path / "steps.py.txt", tmp_path / "code") as module:
        run = module.both.submit(n=4, api=api)

        def told() -> bool:
            waiting: str = api.get(f"/pipeline-runs/{run['id']}")["steps"][0]["waiting"]
            return "No worker serves the queue 'gpu'" in waiting

        until(told)
        agent = subprocess.Popen(args, env=env, cwd=tmp_path)
        try:
            view = ended(api, run["id"])
            assert view["run"]["outputs"]["here"]["value"] == 5, view["run"]["error"]
            found = view["run"]["outputs"]["there"]["value"]
            assert found["token"] and Path(found["home"]).is_relative_to(tmp_path / "elsewhere")
            assert logs(api, view, "there") == "on the agent\n"
            workers = {s["step"]["name"]: s["step"]["worker"] for s in view["steps"]}
            assert workers["there"].startswith("gpu-1-") and not workers["here"].startswith("gpu-1-")
        finally:
            agent.send_signal(signal.SIGTERM)
            assert agent.wait(15) == 0


def test_an_agent_whose_token_may_not_work_says_so(server: Server, tmp_path: Path) -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("NORIA_", "MLFLOW_"))}
    env |= {"NORIA_TOKEN": "nrk_wrong", "PYTHONPATH": str(ROOT)}
    args = [sys.executable, "-m", "noria.cli.main", "agent", "--url", server.url, "--home", str(tmp_path / "x")]
    done = subprocess.run(args, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "refuses this worker" in done.stderr and "--role agent" in done.stderr
    assert "Traceback" not in done.stderr
    done = subprocess.run(args[:4], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0 and "Which server?" in done.stderr
