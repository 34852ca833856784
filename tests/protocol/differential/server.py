"""MLflow's own server in a process of its own: SQLite, one worker, a free port of loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx

from scripts import mlflow_clients

START_S = 180  # it imports and makes its tables, for a minute on a loaded machine


class MlflowServer:
    """A `mlflow server` of the version whose API Noria speaks."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "PYTHON"))}
        self._log = home / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    str(mlflow_clients.python_of("server")), "-m", "mlflow", "server", "--port", str(port), "--workers", "1",
                    "--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}", "--artifacts-destination", str(home / "files"),
                ],
                env={**plain, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                cwd=home, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + START_S
        while not self._is_up():
            assert self._process.poll() is None, self._log.read_text()[-3000:]
            assert time.monotonic() < until, f"MLflow's server does not start: {self._log.read_text()[-3000:]}"
            time.sleep(0.3)

    def _is_up(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait(30)
