"""The servers that are compared: `noria server`, and a peer in a virtual environment of its own, built once by uv."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil

from benchmarks.databases import PostgresDatabase, SqliteFile, Store

ROOT = Path(__file__).parent.parent
CLIENTS = (ROOT / ".venv").resolve() / "clients"  # shared with the protocol tests
START_TIMEOUT_S = 300.0


def environment(name: str, *packages: str) -> Path:
    """The Python of `.venv/clients/<name>`, which holds `packages`; made when it is missing."""
    folder = CLIENTS / name
    python = folder / "bin" / "python"
    if not (folder / "made").exists():
        uv = str((ROOT / ".venv").resolve() / "bin" / "uv")
        if not python.exists():
            subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), *packages], check=True)
        (folder / "made").touch()
    return python


def version(python: Path, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def install_size(python: Path) -> tuple[int, int]:
    """Bytes of files and number of packages of an environment."""
    site = next((python.parent.parent / "lib").glob("python*/site-packages"))
    files = [p for p in site.rglob("*") if p.is_file() and not p.is_symlink() and p.suffix != ".pyc"]
    return sum(p.stat().st_size for p in files), len(list(site.glob("*.dist-info")))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server process with all that it starts."""

    name = ""
    pages = ""  # the SQLite file
    ready = "/health"

    def __init__(self, folder: Path, store: PostgresDatabase | None = None) -> None:
        self.folder = folder
        self.store: Store = store or SqliteFile(folder / self.pages)
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> float:
        """Start; returns the seconds until it was ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = {k: v for k, v in os.environ.items() if not k.startswith(("NORIA_", "MLFLOW_"))}
        settings["PYTHONPATH"] = str(ROOT) if self.name == "noria" else ""
        began = time.perf_counter()
        self.process = subprocess.Popen(
            self.command(), cwd=self.folder, env=settings, start_new_session=True,
            stdout=(self.folder / "out.log").open("ab"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        while time.perf_counter() - began < START_TIMEOUT_S:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{self.ready}", timeout=5) as answer:
                    if answer.status == 200:
                        return time.perf_counter() - began
            except OSError:
                time.sleep(0.02)
            if self.process.poll() is not None:
                break
        raise RuntimeError(f"{self.name} does not start:\n" + (self.folder / "out.log").read_text()[-3000:])

    def family(self) -> list[psutil.Process]:
        assert self.process is not None
        head = psutil.Process(self.process.pid)
        return [head, *head.children(recursive=True)]

    def memory(self) -> tuple[int, int]:
        """Bytes of all processes together, shared pages counted once (PSS), and how many processes."""
        total, count = 0, 0
        for process in self.family():
            try:
                total += process.memory_full_info().pss
                count += 1
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return total, count

    def resident(self) -> int:
        return sum(p.memory_info().rss for p in self.family() if p.is_running())

    def stop(self) -> None:
        if self.process is None:
            return
        family = self.family() if self.process.poll() is None else []
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        _, alive = psutil.wait_procs(family, timeout=5)
        for left in alive:
            left.kill()
        self.process = None


class Noria(Server):
    """`noria server`, from this checkout."""

    name, pages = "noria", "home/noria.db"

    def command(self) -> list[str]:
        return [
            sys.executable, "-m", "noria.cli.main", "server", "--home", str(self.folder / "home"), "--port", str(self.port),
            "--gateway-port", str(free_port()), *(["--database", self.store.address] if self.store.address else []),
        ]  # fmt: skip


class Mlflow(Server):
    """`mlflow server`, its default command, latest version."""

    name, pages = "mlflow", "mlflow.db"

    def __init__(self, folder: Path, workers: int | None = None, store: PostgresDatabase | None = None) -> None:
        super().__init__(folder, store)
        self.workers = workers
        self.python = environment("postgres", "mlflow", "psycopg[binary]") if store else environment("server", "mlflow")

    def command(self) -> list[str]:
        fewer = ["--workers", str(self.workers)] if self.workers else []
        where = ["--backend-store-uri", self.store.address] if self.store.address else []
        return [str(self.python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), *fewer, *where]


def forget(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
