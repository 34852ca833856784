"""kill -9 of servers and workers in a loop, under load, with real processes: nothing is done twice, nothing is left undone.

NORIA_KILLS=200 kills longer. On PostgreSQL two servers share the database, with a worker at each.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from noria.client.api import Api, connect
from noria.kernel.db import Database
from tests.pipelines.given import INTERNAL
from tests.pipelines.processes import ROOT, Server, ended, free_port, imported, until

pytestmark = pytest.mark.protocol
KILLS = int(os.environ.get("NORIA_KILLS") or 6)
LEASE_S = 3.0


class Part:
    """A process that can be killed and started again."""

    def __init__(self, folder: Path, name: str, args: list[str], **settings: str) -> None:
        self.name, self.command, self._log = name, [sys.executable, "-m", *args], folder / f"{name}.log"
        kept = {k: v for k, v in os.environ.items() if not k.startswith("NORIA_")}
        self._env = {
            **kept, "PYTHONPATH": str(ROOT), "NORIA_INTERNAL_TOKEN": INTERNAL, "NORIA_LOG_LEVEL": "warning", **settings,
        }  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self.command, env=self._env, stdout=log, stderr=log)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()


class Place:
    """Servers on one database, and workers."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder, self.database = folder, database
        count = 2 if database.startswith("postgresql") else 1
        self.ports = [free_port() for _ in range(count)]
        blobs = folder / "blobs"
        self.servers = [
            Part(
                folder, f"server{i}", ["noria.control"], NORIA_HOME=str(folder / f"home{i}"), NORIA_DATABASE=database,
                NORIA_PORT=str(port), NORIA_LEASE_S=str(LEASE_S), NORIA_BLOBS=str(blobs),
            )
            for i, port in enumerate(self.ports)
        ]  # fmt: skip
        self.workers = [
            Part(
                folder, f"worker{i}", ["noria.pipelines.worker", "--name", f"worker{i}"], NORIA_HOME=str(folder / f"work{i}"),
                NORIA_URL=self.url(i % count),
            )
            for i in range(2)
        ]  # fmt: skip

    def url(self, i: int) -> str:
        return f"http://127.0.0.1:{self.ports[i]}"

    def start(self) -> None:
        for i, server in enumerate(self.servers):
            server.start()
            self.wait_for(i)
        for worker in self.workers:
            worker.start()

    def wait_for(self, i: int) -> None:
        def answers() -> bool:
            try:
                return httpx.get(self.url(i) + "/health", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        until(answers)

    def stop(self) -> None:
        for part in (*self.workers, *self.servers):
            part.stop()

    def submit(self, pipeline: str, unique: str, **params: Any) -> str:
        """A run; asked for again until a server answers."""

        def ask() -> str | None:
            for i in range(len(self.ports)):
                try:
                    answer = httpx.post(
                        f"{self.url(i)}/api/v1/pipelines/{pipeline}/runs",
                        json={"params": params, "unique": unique},
                        timeout=10,
                    )
                except httpx.TransportError:
                    continue
                if answer.status_code == 200:
                    return str(answer.json()["id"])
            return None

        found: str = until(ask)
        return found


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[ModuleType]:
    folder = tmp_path / "code"
    folder.mkdir()
    with imported(Path(__file__).with_name("crashes.py.txt"), folder) as module:
        yield module


@pytest.fixture
def place(tmp_path: Path, database_url: str) -> Iterator[Place]:
    made = Place(tmp_path, database_url)
    made.start()
    yield made
    made.stop()


@pytest.mark.timeout(120 + 6 * KILLS)
def test_whatever_is_killed_every_run_ends_and_each_step_counts_once(place: Place, flow: ModuleType, tmp_path: Path) -> None:
    rng = random.Random(int(os.environ.get("NORIA_SEED") or 1))
    with connect(place.url(0)) as api:
        for pipeline in (flow.chain, flow.wide):
            pipeline.register(api)
    lines, runs = tmp_path / "lines", list[str]()
    lines.mkdir()
    starts: list[int] = []
    for kill in range(KILLS):
        while len(open_runs(place, runs)) < 2:
            kind = ("chain", "wide")[len(runs) % 2]
            runs.append(place.submit(kind, f"{kind}-{len(runs)}", folder=str(lines), seconds=rng.choice([0.0, 0.1, 0.3])))
        time.sleep(rng.uniform(0.1, 1.2))
        part = rng.choice([*place.servers, *place.workers])
        part.kill()
        if rng.random() < 0.3:
            time.sleep(rng.uniform(0.0, LEASE_S))
        part.start()
        if part in place.servers:
            place.wait_for(place.servers.index(part))
            starts.append(time.time_ns() // 1_000_000)
        if kill % 20 == 19:
            print(f"{kill + 1} kills, {len(runs)} runs", flush=True)
    until(lambda: not open_runs(place, runs), patience_s=60)
    check(place, runs, lines / "lines.txt")
    print(f"{KILLS} kills, {len(runs)} runs; work went on after a server's start within (ms): {resumed(place, starts)}")


def open_runs(place: Place, runs: list[str]) -> list[str]:
    db = Database(place.database)
    try:
        with db.read() as tx:
            return tx.column(
                "select id from pipeline_run where id in :ids and state in ('queued', 'running', 'cancelling')", ids=runs
            )
    finally:
        db.close()


def check(place: Place, runs: list[str], lines: Path) -> None:
    """What the rows say, what the facts say, and what the steps themselves wrote."""
    db = Database(place.database)
    with db.read() as tx:
        states = tx.rows("select id, state, error from pipeline_run where id in :ids order by id", ids=runs)
        steps = tx.rows("select id, name, state, attempt, outputs from step_run where run_id in :ids", ids=runs)
        tries = tx.rows(
            """select a.step_run_id, a.number, a.state from attempt a join step_run s on s.id = a.step_run_id
                where s.run_id in :ids order by a.number""",
            ids=runs,
        )  # fmt: skip
        facts = tx.rows("select kind, subject from event where kind like 'step_run.%' or kind like 'pipeline_run.%'")
    db.close()
    assert [s for s in states if s["state"] != "succeeded"] == []
    told: dict[tuple[str, str], int] = {}
    for fact in facts:
        told[fact["kind"], fact["subject"]] = told.get((fact["kind"], fact["subject"]), 0) + 1
    for run in states:
        assert told["pipeline_run.succeeded", f"pipeline_run:{run['id']}"] == 1
    written = read_lines(lines)
    for step in steps:
        assert step["state"] == "succeeded", step
        assert told["step_run.succeeded", f"step_run:{step['id']}"] == 1, step
        mine = [t["state"] for t in tries if t["step_run_id"] == step["id"]]
        assert mine == ["lost"] * (len(mine) - 1) + ["succeeded"], (step, mine)
        if not step["name"].startswith("total"):
            check_lines(step, written[step["id"]])


def read_lines(path: Path) -> dict[str, list[tuple[str, int, float]]]:
    """(what, attempt, when) by step, in the order they were written."""
    found: dict[str, list[tuple[str, int, float]]] = {}
    for text in path.read_text().splitlines():
        what, step, attempt, at_s, _ = text.split()
        found.setdefault(step, []).append((what, int(attempt), float(at_s)))
    return found


def check_lines(step: dict[str, Any], written: list[tuple[str, int, float]]) -> None:
    """One process for each try, none beside another, and the one that counts ran to its end."""
    said = [(what, attempt) for what, attempt, _ in written]
    assert len(set(said)) == len(said), f"a try ran twice: {step} {written}"
    assert said[-2:] == [("begin", step["attempt"]), ("end", step["attempt"])], (step, written)
    assert [a for _, a in said] == sorted(a for _, a in said), f"an orphan ran beside the repeat: {step} {written}"


def resumed(place: Place, starts: list[int]) -> list[int]:
    """For each start of a server: how long until the next step began or ended."""
    db = Database(place.database)
    with db.read() as tx:
        at_ms = sorted(tx.column("select at_ms from event where kind in ('step_run.started', 'step_run.succeeded')"))
    db.close()
    return [next((at - start for at in at_ms if at >= start), -1) for start in starts]


def test_a_worker_stopped_past_its_lease_changes_nothing_when_it_goes_on(flow: ModuleType, tmp_path: Path) -> None:
    server = Server(tmp_path / "home", lease_s=2.0)
    try:
        with server.api() as api, server.worker(slots=1) as stopped:
            run = flow.one.submit(folder=str(tmp_path), seconds=0.5, api=api)
            until(lambda: (tmp_path / "lines.txt").exists())
            stopped.send_signal(signal.SIGSTOP)
            with server.worker(slots=1):
                view = ended(api, run["id"])
                stopped.send_signal(signal.SIGCONT)
                again = [flow.one.submit(folder=str(tmp_path), api=api)["id"] for _ in range(4)]
                assert [ended(api, each)["run"]["state"] for each in again] == ["succeeded"] * 4
            last = flow.one.submit(folder=str(tmp_path), api=api)["id"]  # only the one that was stopped is left
            assert ended(api, last)["run"]["state"] == "succeeded"
        assert view["run"]["state"] == "succeeded"
        step = view["steps"][0]
        assert [a["state"] for a in step["attempts"]] == ["lost", "succeeded"]
        written = read_lines(tmp_path / "lines.txt")[step["step"]["id"]]
        assert {(what, attempt) for what, attempt, _ in written} >= {("begin", 1), ("begin", 2), ("end", 2)}
        with connect(server.url) as again_api:
            facts = again_api.get("/events", kinds="step_run.succeeded", limit=100)["items"]
        assert len([f for f in facts if f["subject"] == f"step_run:{step['step']['id']}"]) == 1
    finally:
        server.stop()


def test_a_full_disk_at_the_worker_costs_time_and_nothing_else(flow: ModuleType, tmp_path: Path) -> None:
    """The worker's home is a file system of its own, which fills up and is emptied again."""
    home = tmp_path / "disk"
    home.mkdir()
    mounted = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size=4m tmpfs {home} && exec "$@"', "sh"]
    if subprocess.run([*mounted, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not allowed here")
    server = Server(tmp_path / "home")
    part = Part(tmp_path, "worker", [], NORIA_URL=server.url, NORIA_HOME=str(home))
    part.command = [*mounted, sys.executable, "-m", "noria.pipelines.worker", "--name", "full"]
    part.start()
    try:
        with server.api() as api:
            first = flow.one.submit(folder=str(tmp_path), api=api)
            assert ended(api, first["id"])["run"]["state"] == "succeeded"
            assert part.process is not None
            ballast = Path(f"/proc/{part.process.pid}/root{home}/ballast")
            with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
                while True:
                    file.write(bytes(1 << 10))
            run = flow.one.submit(folder=str(tmp_path), api=api)
            text = until(lambda: said(api, run["id"]))
            assert "No space left on device" in text
            ballast.unlink()
            view = ended(api, run["id"])
        assert view["run"]["state"] == "succeeded"
        assert [a["state"] for a in view["steps"][0]["attempts"]][-1] == "succeeded"
    finally:
        part.stop()
        server.stop()


def said(api: Api, run_id: str) -> str:
    """What the scheduler noted in the output of a run's only step, once there is something."""
    step = api.get(f"/pipeline-runs/{run_id}")["steps"][0]["step"]
    return str(api.get(f"/step-runs/{step['id']}/logs")["text"])
