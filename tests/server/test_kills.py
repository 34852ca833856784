"""F1: `kill -9` of the server at any write. What was acknowledged is there with its fact, what was not is there whole or not at all."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from blake3 import blake3

from noria.cli.doctor import examine
from tests.server.control import WAIT_S, Control

pytestmark = [pytest.mark.protocol]
BATCH = 10
KILLS = int(os.environ.get("NORIA_KILLS", "0"))  # `make test-kills`: 200 take about ten minutes


class Writers:
    """Clients that write until their server dies, and what it said that it has."""

    def __init__(self, control: Control, chance: random.Random) -> None:
        self.control, self.chance = control, chance
        self.runs: dict[str, str] = {}  # id → name
        self.batches: set[tuple[str, int]] = set()  # run, number: all its points were acknowledged
        self.tried: set[tuple[str, int]] = set()
        self.files: dict[tuple[str, str], str] = {}  # run, path → digest
        self._noting = threading.Lock()
        self._round = 0

    def until_killed(self, seconds: float) -> None:
        """Write from four threads; kill the server after so long; wait until all noticed."""
        self._round += 1
        target = self._run(httpx.Client(base_url=self.control.url, timeout=WAIT_S), "target")
        deeds: list[Callable[[httpx.Client, int], None]] = [
            lambda http, i: self._batch(http, target, i), lambda http, i: self._file(http, target, i),
            lambda http, i: self._create(http, i), lambda http, i: self._batch(http, target, 1_000_000 + i),
        ]  # fmt: skip
        threads = [threading.Thread(target=self._keep_on, args=(deed,)) for deed in deeds]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        self.control.kill()
        for thread in threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()

    def _keep_on(self, deed: Callable[[httpx.Client, int], None]) -> None:
        with httpx.Client(base_url=self.control.url, timeout=WAIT_S) as http:
            for i in range(1_000_000):
                try:
                    deed(http, i)
                except httpx.HTTPError:
                    return  # not acknowledged

    def _run(self, http: httpx.Client, name: str) -> str:
        made = http.post("/api/v1/runs", json={"experiment": "kills", "name": name, "tags": {"a": "1", "b": "2"}})
        run_id = str(made.raise_for_status().json()["id"])
        with self._noting:
            self.runs[run_id] = name
        return run_id

    def _create(self, http: httpx.Client, i: int) -> None:
        self._run(http, f"{self._round}-{i}")

    def _batch(self, http: httpx.Client, run: str, i: int) -> None:
        self.tried.add((run, i))
        points = [{"key": f"m{i}", "value": k / 7, "timestamp": k, "step": k} for k in range(BATCH)]
        body = {"run_id": run, "metrics": points, "params": [{"key": f"p{i}", "value": str(i)}]}
        http.post("/api/2.0/mlflow/runs/log-batch", json=body).raise_for_status()
        with self._noting:
            self.batches.add((run, i))

    def _file(self, http: httpx.Client, run: str, i: int) -> None:
        data, path = self.chance.randbytes(self.chance.randrange(1, 300_000)), f"f/{i % 7}/{i}.bin"
        http.put(f"/api/v1/runs/{run}/artifacts/content", params={"path": path}, content=data).raise_for_status()
        with self._noting:
            self.files[(run, path)] = blake3(data).hexdigest()

    def check(self) -> None:
        """Through the door of the server that was started again."""
        with httpx.Client(base_url=self.control.url, timeout=WAIT_S) as http:
            listed = http.get("/api/v1/runs", params={"experiment": "kills", "columns": "name", "limit": 10_000}).json()
            found = dict(zip(listed["ids"], listed["columns"]["name"], strict=True))
            assert found.items() >= self.runs.items()
            facts = self._created(http)
            assert facts == set(found), "a run without its fact, or a fact without its run"
            targets = sorted({run for run, _ in self.tried})
            for run in targets:
                read = http.get(f"/api/v1/runs/{run}").json()
                assert read["tags"]["a"] == "1" and read["tags"]["b"] == "2", "a run is there whole"
                keys = [f"m{i}" for r, i in self.tried if r == run]
                curves: dict[str, Any] = {}
                for at in range(0, len(keys), 100):
                    some = {"keys": ",".join(keys[at : at + 100]), "buckets": 1}
                    curves |= http.get(f"/api/v1/runs/{run}/series", params=some).json()["series"]
                for i in (i for r, i in self.tried if r == run):
                    count, has_param = curves.get(f"m{i}", {"count": 0})["count"], read["params"].get(f"p{i}") == str(i)
                    assert (count, has_param) in ((BATCH, True), (0, False)), f"batch {i} is torn: {count} points"
                    assert count or (run, i) not in self.batches, f"batch {i} was acknowledged and is gone"
            for (run, path), digest in self.files.items():
                sent = http.get(f"/api/v1/runs/{run}/artifacts/content", params={"path": path})
                assert sent.status_code == 200 and blake3(sent.content).hexdigest() == digest, path

    def _created(self, http: httpx.Client) -> set[str]:
        """The runs of which a fact says that they were created."""
        found: set[str] = set()
        before: dict[str, Any] = {}
        while True:
            page = http.get("/api/v1/events", params={"kinds": "run.created", "limit": 500, **before}).json()
            found |= {str(event["subject"]).removeprefix("run:") for event in page["items"]}
            if not page["next"]:
                return found
            before = {"before": page["next"]}


def kill_again_and_again(home: Path, database: str, rounds: int) -> Writers:
    chance = random.Random(rounds)
    control = Control(home, database)
    writers = Writers(control, chance)
    try:
        for _ in range(rounds):
            control.start()
            writers.until_killed(chance.uniform(0.1, 1.2))
        control.start()
        writers.check()
    finally:
        control.kill()
    broken = [check for check in examine(control.config) if check.state == "fail"]
    assert not broken, broken
    return writers


def test_what_was_acknowledged_survives_two_kills(tmp_path: Path, database_url: str) -> None:
    writers = kill_again_and_again(tmp_path / "home", database_url, rounds=2)
    assert writers.runs and writers.batches


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_was_acknowledged_survives_fifteen_kills(tmp_path: Path) -> None:
    writers = kill_again_and_again(tmp_path / "home", "", rounds=15)
    assert len(writers.runs) > 50 and len(writers.batches) > 150 and len(writers.files) > 50


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not KILLS, reason="NORIA_KILLS says how often; make test-kills")
def test_what_was_acknowledged_survives_as_many_kills_as_one_wants(tmp_path: Path, database_url: str) -> None:
    writers = kill_again_and_again(tmp_path / "home", database_url, rounds=KILLS)
    assert len(writers.runs) > KILLS and writers.batches and writers.files
    print(f"{KILLS} kills; kept: {len(writers.runs)} runs, {len(writers.batches)} batches, {len(writers.files)} files")
