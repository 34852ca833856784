"""Given: a server on a free port and real workers in processes of their own."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import uvicorn

from noria.app import App, build
from noria.client.api import Api, connect
from noria.config import load_config
from noria.http.asgi import asgi
from tests.conftest import furnish
from tests.pipelines.given import INTERNAL

ROOT = Path(__file__).parents[2]
PATIENCE_S = 40.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A control plane in a thread of the test, on a home and a port that outlive it."""

    def __init__(self, home: Path, *, lease_s: float = 3.0) -> None:
        self.config = load_config(
            {}, home=str(furnish(home)), port=free_port(), internal_token=INTERNAL, lease_s=lease_s, log_level="warning"
        )
        self.url = self.config.control_url
        self.app: App | None = None
        self.start()

    def start(self) -> None:
        self.app = build(self.config)
        options = uvicorn.Config(asgi(self.app), host="127.0.0.1", port=self.config.port, log_level="error")
        self._uvicorn = uvicorn.Server(options)
        self._thread = threading.Thread(target=self._uvicorn.run, daemon=True)
        self._thread.start()
        until(lambda: self._uvicorn.started)

    def stop(self) -> None:
        self._uvicorn.should_exit = True
        self._uvicorn.force_exit = True
        self._thread.join(10)

    def api(self) -> Api:
        return connect(self.url)

    @contextmanager
    def worker(
        self, name: str = "", slots: int = 2, more: Sequence[str] = (), settings: Mapping[str, str] | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A worker process for the length of the block."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("NORIA_")}
        env |= {
            "NORIA_URL": self.url, "NORIA_INTERNAL_TOKEN": INTERNAL, "NORIA_HOME": str(self.config.home),
            "PYTHONPATH": str(ROOT), **(settings or {}),
        }  # fmt: skip
        args = [sys.executable, "-m", "noria.pipelines.worker", "--slots", str(slots)]
        args += ["--name", name or f"w{time.monotonic_ns()}", *more]
        process = subprocess.Popen(args, env=env)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@contextmanager
def imported(source: Path, folder: Path) -> Iterator[ModuleType]:
    """A user's file (`limits.py.txt`), copied into `folder` and imported from there, as a script's steps would be."""
    name = source.name.removesuffix(".py.txt")
    shutil.copy(source, folder / f"{name}.py")
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop(name, None)


def until(done: Callable[[], Any], *, patience_s: float = PATIENCE_S) -> Any:
    """Wait for `done()` to be true; returns what it gave."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if found := done():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {patience_s} s")


def ended(api: Api, run_id: str, *, patience_s: float = PATIENCE_S) -> dict[str, Any]:
    """The view of a run once it ended."""

    def look() -> dict[str, Any] | None:
        view: dict[str, Any] = api.get(f"/pipeline-runs/{run_id}")
        return view if view["run"]["state"] in ("succeeded", "failed", "cancelled") else None

    found: dict[str, Any] = until(look, patience_s=patience_s)
    return found


def logs(api: Api, view: dict[str, Any], step: str) -> str:
    """All that a step printed."""
    step_id = next(s["step"]["id"] for s in view["steps"] if s["step"]["name"] == step)
    return str(api.get(f"/step-runs/{step_id}/logs")["text"])
