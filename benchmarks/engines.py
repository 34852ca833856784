"""The engines that are compared on the same flows: Noria, and peers in virtual environments of their own, built once by uv.

An engine runs a flow of no-op steps from a client process of its own; each step adds the time as one line to a file, so all
engines are timed by the same lines. What the flow computes (the number of its steps) is checked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.servers import ROOT, Noria, Server, environment, free_port, version

FLOWS = Path(__file__).parent / "flows"
SERVER, WORKER = "server", "idle worker"
LIMIT_S = 280.0  # of one client process

METAFLOW_HEAD = """
import os, time
from metaflow import FlowSpec, step
PATH, LENGTH = os.environ["BENCH_PATH"], int(os.environ["BENCH_LENGTH"])

def line(path):
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{time.time()}\\n".encode())
    os.close(file)

class Bench(FlowSpec):
"""
METAFLOW_CHAIN_STEP = """
    @step
    def s{i}(self):
        line(PATH)
        self.done += 1
        self.next(self.{then})
"""
METAFLOW_FAN = """
    @step
    def start(self):
        self.parts = list(range(LENGTH))
        self.next(self.note, foreach="parts")

    @step
    def note(self):
        line(PATH)
        self.done = 1
        self.next(self.join)

    @step
    def join(self, inputs):
        self.done = sum(each.done for each in inputs)
        self.next(self.end)
"""
METAFLOW_END = """
    @step
    def end(self):
        if os.environ.get("BENCH_FAIL"):
            raise SystemExit("stopped, to be resumed")
        print("result", self.done)

if __name__ == "__main__":
    Bench()
"""


def metaflow_source(what: str, length: int) -> str:
    """Metaflow reads the file of its flow, so a chain is written out."""
    if what == "fan":
        return METAFLOW_HEAD + METAFLOW_FAN + METAFLOW_END
    start = "\n    @step\n    def start(self):\n        self.done = 0\n        self.next(self.s0)\n"
    steps = [METAFLOW_CHAIN_STEP.format(i=i, then=f"s{i + 1}" if i + 1 < length else "end") for i in range(length)]
    return METAFLOW_HEAD + start + "".join(steps) + METAFLOW_END


class Ran:
    """One run of a flow: when its client started and ended, and when each step wrote its line."""

    def __init__(self, began: float, ended: float, lines: list[float]) -> None:
        self.began, self.ended, self.lines = began, ended, sorted(lines)

    def ms_a_step(self) -> float:
        return (self.lines[-1] - self.lines[0]) / (len(self.lines) - 1) * 1000

    @property
    def start_s(self) -> float:
        return self.lines[0] - self.began

    @property
    def total_s(self) -> float:
        return self.ended - self.began


class Engine:
    """A way to run the flows."""

    name = ""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lines = (
            folder / self.name,
            folder / f"{self.name}-lines",
        )  # code is captured with what lies beside it
        self.folder.mkdir(parents=True)
        self.lines.mkdir()
        self._count = 0
        self.script = self.folder / "bench_flow.py"
        if (source := FLOWS / f"{self.name}.py.txt").exists():
            shutil.copy(source, self.script)

    @property
    def python(self) -> str:
        raise NotImplementedError

    def version(self) -> str:
        return version(Path(self.python), self.name)

    def settings(self) -> dict[str, str]:
        """Of its client process; nothing of the machine's own settings of an engine."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("NORIA_", "PREFECT_", "METAFLOW_", "PYTHONPATH"))}
        return {**kept, "BENCH_DB": str(self.folder / "dbos.db")}

    def start(self) -> None:
        """Start the server, if there is one."""

    def stop(self) -> None:
        """Stop it."""

    def resident(self) -> dict[str, int]:
        """Bytes of what goes on running: the server, the idle local worker; empty when there is neither."""
        return {}

    def path(self) -> Path:
        self._count += 1
        return self.lines / f"{self._count}.txt"

    def run(self, what: str, length: int, *, path: Path | None = None) -> Ran:
        """Run a flow to its end in a new client process; `path` again makes the inputs those of before."""
        path = path or self.path()
        began = time.time()
        printed = self.client([what, str(path), str(length)])
        ended = time.time()
        if f"result {length}" not in printed:
            raise RuntimeError(f"{self.name} {what} did not end well:\n{printed[-3000:]}")
        return Ran(began, ended, read_lines(path))

    def client(self, args: list[str], **more: str) -> str:
        done = subprocess.run(
            [self.python, str(self.script), *args], cwd=self.folder, env={**self.settings(), **more}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_S, check=False,
        )  # fmt: skip
        return done.stdout

    def triggered(self, times: int) -> list[float] | None:
        """Seconds from asking for a run of one step to its line, everything warm; None where there is no such thing."""
        printed = self.client(["trigger", str(self.path()), str(times)])
        found = [float(text.split()[1]) for text in printed.splitlines() if text.startswith("took ")]
        if len(found) != times:
            raise RuntimeError(f"{self.name} was not triggered:\n{printed[-3000:]}")
        return found

    def cached(self, length: int) -> tuple[Ran, float | None]:
        """A chain whose results are all kept: (its client's run, seconds in the server alone if that can be told)."""
        path = self.path()
        self.run("cached", length, path=path)
        before = len(read_lines(path))
        again = self.run("cached", length, path=path)
        if len(again.lines) != before:
            raise RuntimeError(f"{self.name} ran steps again that should have been kept.")
        return again, None


class NoriaEngine(Engine):
    """`noria server` from this checkout, with its local worker of two steps at once: the defaults."""

    name = "noria"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.server: Server = Noria(self.lines / "server")

    @property
    def python(self) -> str:
        return sys.executable

    def settings(self) -> dict[str, str]:
        return {**super().settings(), "NORIA_URL": self.url, "PYTHONPATH": str(ROOT)}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def start(self) -> None:
        self.server.start()
        self.run("chain", 2)

    def stop(self) -> None:
        self.server.stop()

    def resident(self) -> dict[str, int]:
        """The worker with its warm processes, and the control plane; the inference gateway is another part."""
        parts = {SERVER: ("noria.control",), WORKER: ("noria.pipelines.worker", "noria.client.zygote")}
        found = dict.fromkeys(parts, 0)
        for process in self.server.family():
            words = " ".join(process.cmdline())
            for part, names in parts.items():
                if any(name in words for name in names):
                    found[part] += process.memory_full_info().pss
        return found

    def triggered(self, times: int) -> list[float]:
        import importlib.util

        spec = importlib.util.spec_from_file_location("bench_flow", self.script)
        assert spec and spec.loader
        sys.modules["bench_flow"] = flow = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(flow)
        from noria.client.api import connect

        took = []
        with connect(self.url) as api, httpx.Client(base_url=self.url) as http:
            flow.one.register(api)
            for i in range(times + 1):
                path = self.path()
                asked = time.time()
                http.post("/api/v1/pipelines/one/runs", json={"params": {"path": str(path)}}).raise_for_status()
                wait_for(path)
                if i:
                    took.append(read_lines(path)[0] - asked)
                time.sleep(0.3)
        return took

    def cached(self, length: int) -> tuple[Ran, float | None]:
        path = self.path()
        self.run("cached", length, path=path)
        again = self.run("cached", length, path=path)
        assert len(again.lines) == length, "steps ran again"
        with httpx.Client(base_url=self.url, timeout=60) as http:
            began = time.perf_counter()
            answer = http.post("/api/v1/pipelines/cached/runs", json={"params": {"path": str(path), "length": length}})
            took = time.perf_counter() - began
            assert answer.json()["state"] == "succeeded", answer.text
        return again, took


class Dbos(Engine):
    """A library in the client's own process: steps run in its threads, SQLite is its default."""

    name = "dbos"

    @property
    def python(self) -> str:
        return str(environment("dbos", "dbos"))


class Prefect(Engine):
    """`prefect server start` on its default SQLite; tasks run in threads of the client."""

    name = "prefect"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.serving: subprocess.Popen[bytes] | None = None

    @property
    def python(self) -> str:
        # Without the limit the newest FastAPI comes along, with which its server does not import.
        return str(environment("prefect", "prefect", "fastapi<0.153"))

    def settings(self) -> dict[str, str]:
        return {
            **super().settings(), "PREFECT_HOME": str(self.folder / "home"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api", "PREFECT_LOGGING_LEVEL": "ERROR",
        }  # fmt: skip

    def start(self) -> None:
        args = [self.python, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = self._spawn(args, "server.log")
        until(lambda: _answers(f"http://127.0.0.1:{self.port}/api/health"), 120)

    def _spawn(self, args: list[str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("wb") as output:
            return subprocess.Popen(
                args, cwd=self.folder, env=self.settings(), stdout=output, stderr=output, start_new_session=True
            )

    def stop(self) -> None:
        for process in (self.serving, self.process):
            if process and process.poll() is None:
                stop_family(process.pid)
        self.process = self.serving = None

    def _serve(self) -> None:
        if self.serving is None:
            self.serving = self._spawn([self.python, str(self.script), "serve", "-", "0"], "serve.log")
            time.sleep(15)

    def triggered(self, times: int) -> list[float] | None:
        self._serve()
        return super().triggered(times)

    def resident(self) -> dict[str, int]:
        self._serve()
        return {
            part: family_bytes(process.pid) for part, process in ((SERVER, self.process), (WORKER, self.serving)) if process
        }


class Metaflow(Engine):
    """Its local mode: a process for each task, state in files. No server, so nothing to trigger."""

    name = "metaflow"

    @property
    def python(self) -> str:
        return str(environment("metaflow", "metaflow"))

    def settings(self) -> dict[str, str]:
        home = str(self.folder)
        return {**super().settings(), "METAFLOW_USER": "bench", "METAFLOW_DATASTORE_SYSROOT_LOCAL": home, "HOME": home}

    def run(self, what: str, length: int, *, path: Path | None = None) -> Ran:
        path = path or self.path()
        began = time.time()
        printed = self._flow(what, length, path, "run")
        ended = time.time()
        if f"result {length}" not in printed:
            raise RuntimeError(f"metaflow {what} did not end well:\n{printed[-3000:]}")
        return Ran(began, ended, read_lines(path))

    def _flow(self, what: str, length: int, path: Path, *words: str, **more: str) -> str:
        self.script.write_text(metaflow_source(what, length))
        more = {**more, "BENCH_PATH": str(path), "BENCH_LENGTH": str(length)}
        limits = ["--max-num-splits", "1000"] if words[0] == "run" else []
        return self.client(["--no-pylint", *words, *limits], **more)

    def triggered(self, times: int) -> None:
        return None

    def cached(self, length: int) -> tuple[Ran, float | None]:
        """It keeps no results between runs; the nearest is `resume` of a run that failed at its very end."""
        path = self.path()
        self._flow("chain", length, path, "run", BENCH_FAIL="1")
        before = len(read_lines(path))
        began = time.time()
        printed = self._flow("chain", length, path, "resume")
        ended = time.time()
        if f"result {length}" not in printed or len(read_lines(path)) != before:
            raise RuntimeError(f"metaflow resume did not end well:\n{printed[-3000:]}")
        return Ran(began, ended, read_lines(path)), None


ENGINES: dict[str, type[Engine]] = {e.name: e for e in (NoriaEngine, Dbos, Prefect, Metaflow)}


def read_lines(path: Path) -> list[float]:
    return [float(text) for text in path.read_text().split()] if path.exists() else []


def wait_for(path: Path, limit_s: float = 60.0) -> None:
    until(lambda: path.exists() and path.read_text().endswith("\n"), limit_s, every_s=0.001)


def until(done: Any, limit_s: float, *, every_s: float = 0.05) -> None:
    end = time.monotonic() + limit_s
    while not done():
        if time.monotonic() > end:
            raise RuntimeError(f"not within {limit_s} s")
        time.sleep(every_s)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def family_bytes(pid: int) -> int:
    """Memory of a process and all below it, shared pages counted once."""
    head = psutil.Process(pid)
    return sum(process.memory_full_info().pss for process in (head, *head.children(recursive=True)))


def stop_family(pid: int) -> None:
    head = psutil.Process(pid)
    family = [*head.children(recursive=True), head]
    for process in family:
        if process.is_running():
            process.terminate()
    _, alive = psutil.wait_procs(family, timeout=10)
    for process in alive:
        process.kill()
