"""A control plane in a process of its own, that can be killed and started again on the same home."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

from noria.config import Config, load_config
from tests.conftest import furnish
from tests.protocol.test_demo import ROOT, free_port

WAIT_S = 120.0


class Control:
    """`python -m noria.control` on a home; `env` is what its environment has besides."""

    def __init__(self, home: Path, database: str = "", *, log: Path | None = None, **env: str) -> None:
        self.config: Config = load_config(
            {}, home=str(home if database else furnish(home)), database=database, port=free_port()
        )
        self._env = {**os.environ, **self.config.environment(), "PYTHONPATH": str(ROOT), "NORIA_TOKEN": "", **env}
        self.log = log or home.parent / f"{home.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.config.control_url

    @property
    def api(self) -> str:
        return f"{self.url}/api/2.0/mlflow"

    def start(self) -> Control:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "noria.control"], cwd=ROOT, env=self._env, stdout=log, stderr=subprocess.STDOUT
            )
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                if httpx.get(f"{self.url}/health", timeout=5).status_code == 200:
                    return self
            except httpx.HTTPError:
                time.sleep(0.05)
        raise AssertionError(f"the control plane was never ready\n{self.log.read_text()[-3000:]}")

    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """`kill -9`; nothing when it is gone already."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
