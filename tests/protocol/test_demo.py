"""The demo as a user runs it, with a server, a pipeline worker and a model worker killed in the middle of it."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

ROOT = Path(__file__).parents[2]
LIMIT_S = 280


def free_port() -> int:
    for port in random.sample(range(20_000, 30_000), 500):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


class Demo:
    """`noria demo --fast` in a process, and what it has said."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port, self.gateway = free_port(), free_port()
        self.said: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "noria.cli.main", "demo", "--fast", "--home", str(home), "--port", str(self.port),
             "--gateway-port", str(self.gateway)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))

    def wait_for(self, text: str, timeout_s: float = LIMIT_S) -> str:
        """The first line that contains `text`."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            for line in list(self.said):
                if re.search(text, line):
                    return line
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"the demo did not say {text!r}:\n" + "\n".join(self.said[-60:]))

    def kill(self, part: str) -> int:
        """kill -9 of a part of the server, or of the worker that runs a model."""
        if part == "model":
            node = psutil.Process(json.loads((self.home / "processes.json").read_text())["node"])
            victims = [c for c in node.children(recursive=True) if "noria.serving.worker" in " ".join(c.cmdline())]
            assert victims, "no model worker runs"
            pid = victims[0].pid
        else:
            pid = int(json.loads((self.home / "processes.json").read_text())[part])
        os.kill(pid, signal.SIGKILL)
        return pid

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(5)


@pytest.mark.protocol
@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 120)
def test_the_wheel_turns_though_its_parts_are_killed(tmp_path: Path) -> None:
    demo = Demo(tmp_path / "home")
    try:
        demo.wait_for("The gateway serves it")
        demo.wait_for("a loop waits for its alert")
        time.sleep(3)  # in the middle of the traffic
        demo.kill("model")
        demo.wait_for("the loop begins to turn")
        demo.kill("worker")  # in the middle of training
        demo.wait_for("It gets a quarter of the traffic")
        demo.kill("control")  # in the middle of the canary
        demo.wait_for("The canary held")
        demo.wait_for("It was rolled back by itself")
        told = demo.wait_for(r"requests were sent")
        assert " and 0 were lost" in told, told
        demo.wait_for("The audit log verifies")
        passport = demo.wait_for("noria model passport").split("passport ")[1].split()[0]
        demo.wait_for("The wheel has turned")
        check_what_is_left(demo, passport)
    finally:
        demo.stop()
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])]


def check_what_is_left(demo: Demo, prediction_id: str) -> None:
    """Nothing that was acknowledged is lost, and one prediction tells its whole story."""
    api = httpx.Client(base_url=demo.url + "/api/v1", timeout=30)
    turns = api.get("/loops/flights").json()["turns"]
    assert sorted(t["state"] for t in turns) == ["promoted", "rolled_back"]
    sent = int(re.sub(r"\D", "", demo.wait_for("requests were sent").split("]")[1].split(" requests")[0]))
    recorded = sum(s["rows"] for s in segments(api, "inference"))
    assert recorded >= sent, f"{sent} answers were acknowledged, {recorded} recorded"
    story = json.dumps(api.get(f"/passports/{prediction_id}").raise_for_status().json())
    for part in ("flights", "dataset_version", "environment", "approv", "revision", "run"):
        assert part in story, f"the passport does not tell of {part}"
    runs = api.get("/pipeline-runs").json()["items"]
    assert {r["state"] for r in runs} == {"succeeded"}


def segments(api: httpx.Client, kind: str) -> list[dict[str, int]]:
    found: list[dict[str, int]] = []
    while True:
        after = found[-1]["seq"] if found else 0
        more = api.get("/endpoints/flights/segments", params={"after": after, "kind": kind}).json()["items"]
        if not more:
            return found
        found += more
