"""What was acknowledged is there after `kill -9`, in a real control process and under concurrent writers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from noria.config import Config, load_config
from noria.migrations import open_db
from tests.protocol.test_demo import ROOT, free_port

pytestmark = [pytest.mark.protocol]
WAIT_S = 120.0
WRITERS = 6
ACKNOWLEDGED = 150  # together, before the kill


def start(config: Config) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **config.environment(), "PYTHONPATH": str(ROOT), "NORIA_TOKEN": ""}
    return subprocess.Popen([sys.executable, "-m", "noria.control"], cwd=ROOT, env=environment)


def wait_ready(process: subprocess.Popen[bytes], url: str) -> None:
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        assert process.poll() is None
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise AssertionError("the control process was never ready")


def test_no_acknowledged_point_is_lost_by_kill_9(tmp_path: Path, database_url: str) -> None:
    config = load_config({}, home=str(tmp_path / "home"), database=database_url, port=free_port())
    process = start(config)
    acknowledged: set[tuple[str, int]] = set()
    enough, noting = threading.Event(), threading.Lock()
    try:
        wait_ready(process, config.control_url)
        api = f"{config.control_url}/api/2.0/mlflow"
        with httpx.Client(timeout=WAIT_S) as http:
            made = http.post(f"{api}/experiments/create", json={"name": "durable"})
            experiment = made.raise_for_status().json()["experiment_id"]
            runs = [
                http.post(f"{api}/runs/create", json={"experiment_id": experiment}).json()["run"]["info"]["run_id"]
                for _ in range(2)
            ]

        def write(number: int) -> None:
            with httpx.Client(timeout=WAIT_S) as http:
                for step in range(100_000):
                    point = {"key": f"m{number}", "value": step / 7, "timestamp": step, "step": step}
                    try:
                        sent = http.post(f"{api}/runs/log-metric", json={"run_id": runs[number % 2], **point})
                    except httpx.HTTPError:
                        return
                    if sent.status_code != 200:
                        return
                    with noting:
                        acknowledged.add((f"m{number}", step))
                        if len(acknowledged) >= ACKNOWLEDGED:
                            enough.set()

        writers = [threading.Thread(target=write, args=(i,)) for i in range(WRITERS)]
        for writer in writers:
            writer.start()
        assert enough.wait(WAIT_S)
        process.kill()
        process.wait(30)
        for writer in writers:
            writer.join(WAIT_S)
            assert not writer.is_alive()
    finally:
        process.kill()
        process.wait(30)
    db = open_db(database_url)
    with db.read() as tx:
        kept = set(tx.tuples("select s.key, p.step from point p join series s on s.id = p.series_id"))
        latest = dict(tx.tuples("select key, step from series"))
    db.close()
    assert {tuple(row) for row in kept} >= acknowledged
    for number in range(WRITERS):  # points and the latest value of a series are one transaction
        steps = [step for key, step in kept if key == f"m{number}"]
        assert latest[f"m{number}"] == max(steps)
