"""One command, several processes: the control plane, the gateway's node, the recorder, the pipeline worker.

Each is restarted when it dies, later and later while it keeps dying. They share a token made at each start, and die with the
supervisor. One home has one server: a lock on `home/lock` refuses a second.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from msgspec import Struct

from noria.config import Config
from noria.kernel.clock import Clock, SystemClock
from noria.kernel.errors import AlreadyExists, Unavailable
from noria.repository.objects import check_reachable

log = logging.getLogger("noria.supervisor")

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
RESTART_WAIT_MAX_S = 30.0
DEATHS_AT_START = 3  # then something is wrong that another try will not mend
STEADY_S = 30.0  # a process that lived this long starts again at once


class Part(Struct, frozen=True):
    """One supervised process."""

    name: str
    module: str
    args: tuple[str, ...] = ()


PARTS = (
    Part("control", "noria.control"),
    Part("recorder", "noria.serving.recorder"),
    Part("node", "noria.serving.node"),
    Part("worker", "noria.pipelines.worker"),
)


class Supervisor:
    """Starts the parts, keeps them alive, stops them."""

    def __init__(self, config: Config, *, parts: tuple[Part, ...] = PARTS, clock: Clock | None = None) -> None:
        self._config = config
        self._parts = parts
        self._clock = clock or SystemClock()
        self._token = secrets.token_urlsafe(32)
        self._stop = threading.Event()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._deaths: dict[str, int] = {}
        self._noting = threading.Lock()
        self._threads: list[threading.Thread] = []

    @property
    def internal_token(self) -> str:
        return self._token

    def start(self) -> None:
        """Start every part and wait until the control plane and the gateway answer. Raises Unavailable."""
        for part in self._parts:
            thread = threading.Thread(target=self._keep, args=(part,), name=f"keep-{part.name}", daemon=True)
            thread.start()
            self._threads.append(thread)
        self._wait_ready(f"{self._config.control_url}/health", "control")
        if any(p.name == "node" for p in self._parts):
            self._wait_ready(f"{self._config.gateway_url}/v2/health/live", "node")

    def wait(self) -> None:
        """Until somebody says stop."""
        while not self._stop.wait(0.5):
            pass

    def ask_to_stop(self, *_: object) -> None:
        self._stop.set()

    def stop(self) -> None:
        """Stop the parts: politely, and after STOP_TIMEOUT_S by force."""
        self._stop.set()
        for process in list(self._processes.values()):
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        until_s = self._clock.monotonic_s() + STOP_TIMEOUT_S
        for process in list(self._processes.values()):
            try:
                process.wait(max(0.1, until_s - self._clock.monotonic_s()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for thread in self._threads:
            thread.join(2.0)

    def pids(self) -> dict[str, int]:
        """The process ids of the parts that run."""
        return {name: p.pid for name, p in self._processes.items() if p.poll() is None}

    def _keep(self, part: Part) -> None:
        wait_s = 0.2
        while not self._stop.is_set():
            began_s = self._clock.monotonic_s()
            process = subprocess.Popen(
                [sys.executable, "-m", part.module, *part.args], env=self._environment(), stdin=subprocess.DEVNULL
            )
            self._processes[part.name] = process
            self._write_pids()
            code = process.wait()
            self._deaths[part.name] = self._deaths.get(part.name, 0) + 1
            if self._stop.is_set():
                return
            lived_s = self._clock.monotonic_s() - began_s
            wait_s = 0.2 if lived_s > STEADY_S else min(RESTART_WAIT_MAX_S, wait_s * 2)
            log.warning(
                "the %s stopped with code %d after %.0f s; it starts again in %.1f s", part.name, code, lived_s, wait_s
            )
            self._stop.wait(wait_s)

    def _write_pids(self) -> None:
        path = self._config.home / "processes.json"
        with self._noting:  # the parts start in threads of their own; a reader sees a whole file or the one before
            new = path.with_suffix(".new")
            new.write_text(json.dumps({"supervisor": os.getpid(), **self.pids()}))
            new.replace(path)

    def _environment(self) -> dict[str, str]:
        config = self._config
        told = {"NORIA_URL": config.control_url, "NORIA_TOKEN": "", "NORIA_INTERNAL_TOKEN": self._token}
        return {**os.environ, **config.environment(), **told}

    def _wait_ready(self, url: str, name: str) -> None:
        until_s = self._clock.monotonic_s() + READY_TIMEOUT_S
        while self._clock.monotonic_s() < until_s and not self._stop.is_set():
            # Not httpx: this process only waits, and that library is half of its memory and of its start.
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2.0) as answer:  # noqa: S310
                if answer.status == 200:
                    return
            if self._deaths.get(name, 0) >= DEATHS_AT_START:
                raise Unavailable(
                    f"The {name} process cannot start: it died {DEATHS_AT_START} times.", hint="Its log is above."
                )
            self._stop.wait(0.05)
        if not self._stop.is_set():
            raise Unavailable(f"The {name} process was not ready in {READY_TIMEOUT_S:.0f} s.", hint="Its log is above.")


def setup_link(url: str, internal_token: str) -> str | None:
    """The address where the first administrator is made; None when there are accounts. Raises OSError."""
    asked = urllib.request.Request(  # noqa: S310
        f"{url}/api/v1/setup-link", method="POST", data=b"", headers={"authorization": f"Bearer {internal_token}"}
    )
    with urllib.request.urlopen(asked, timeout=30.0) as answer:  # noqa: S310
        found: str | None = json.loads(answer.read())["url"]
    return found


@contextmanager
def running(config: Config, *, parts: tuple[Part, ...] = PARTS) -> Iterator[Supervisor]:
    """A server on `config.home` for the length of the block. Raises AlreadyExists when the home or a port is in use."""
    config.home.mkdir(parents=True, exist_ok=True)
    with _lock(config.home), _signals() as stop_on:
        ports = [(config.port, "--port"), (config.gateway_port, "--gateway-port"), (config.grpc_port, "--grpc-port")]
        for port, what in ports:
            if port or what != "--grpc-port":  # gRPC may be switched off
                check_port(config.host, port, what)
        check_reachable(config.blobs_url)
        supervisor = Supervisor(config, parts=parts)
        stop_on(supervisor.ask_to_stop)
        note = config.home / "server.json"
        try:
            supervisor.start()
            written = {
                "url": config.control_url,
                "gateway": config.gateway_url,
                "grpc": config.grpc_address,
                "pid": os.getpid(),
            }
            note.write_text(json.dumps(written))
            yield supervisor
        finally:
            note.unlink(missing_ok=True)
            supervisor.stop()


@contextmanager
def _signals() -> Iterator[Callable[[Callable[..., None]], None]]:
    """SIGINT and SIGTERM call what is given, for the length of the block; only the main thread can be told."""
    kept: dict[signal.Signals, object] = {}

    def stop_on(call: Callable[..., None]) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            kept[number] = signal.signal(number, call)

    try:
        yield stop_on
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)  # type: ignore[arg-type]


@contextmanager
def _lock(home: Path) -> Iterator[IO[str]]:
    """Hold the home; the operating system lets go when this process ends, however it ends."""
    with (home / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as cause:
            file.seek(0)
            raise AlreadyExists(
                f"A Noria server (process {file.read().strip() or 'unknown'}) already runs on {home}.",
                hint="Use that one, stop it, or give this one another --home.",
            ) from cause
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield file


def check_port(host: str, port: int, flag: str) -> None:
    """Raises AlreadyExists when something else listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as cause:
            raise AlreadyExists(
                f"Port {port} on {host} is in use.",
                where=flag,
                hint=f"Choose another with {flag}, or stop what listens there.",
            ) from cause
