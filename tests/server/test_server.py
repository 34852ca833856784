"""`noria server` as a user runs it: what it says, what it refuses, and that it takes everything down with it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.protocol.test_demo import ROOT, free_port

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def noria(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "noria.cli.main", *args],
        capture_output=True, text=True, timeout=120, cwd=ROOT, env=ENVIRONMENT | environment,
    )  # fmt: skip


class Server:
    """A server in a process of its own, and what it printed."""

    def __init__(self, home: Path, *args: str) -> None:
        self.home, self.port, self.gateway = home, free_port(), free_port()
        self.log = home.parent / f"{home.name}.log"
        self.flags = ("--home", str(home), "--port", str(self.port), "--gateway-port", str(self.gateway))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "noria.cli.main", "server", *self.flags, *args],
            stdout=self.log.open("w"), stderr=subprocess.STDOUT, cwd=ROOT, env=ENVIRONMENT,
        )  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_ready(self) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if "Noria is ready" in self.log.read_text():
                return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def family(self) -> list[int]:
        found = json.loads((self.home / "processes.json").read_text())
        return [pid for pid in found.values() if psutil.pid_exists(pid)]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server") / "home")
    made.wait_ready()
    yield made
    made.stop()


pytestmark = [pytest.mark.protocol]


def test_it_says_where_it_is_and_who_may_use_it(server: Server) -> None:
    said = server.log.read_text()
    assert server.url in said and "local admin" in said
    assert re.search(r"/setup\?code=\S{20,}", said)
    assert httpx.get(f"{server.url}/health").json()["status"] == "ok"
    assert httpx.get(f"http://127.0.0.1:{server.gateway}/v2/health/live").status_code == 200
    for port in (server.port, server.gateway):
        assert "# HELP" in httpx.get(f"http://127.0.0.1:{port}/metrics").text


def test_a_second_server_on_the_same_home_is_refused(server: Server) -> None:
    refused = noria("server", "--home", str(server.home), "--port", str(free_port()), "--gateway-port", str(free_port()))
    assert refused.returncode == 7
    assert "already runs on" in refused.stderr and "--home" in refused.stderr


def test_a_port_in_use_is_refused_by_name(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = noria("server", "--home", str(tmp_path / "home"), "--port", str(port), "--gateway-port", str(free_port()))
    assert refused.returncode == 7
    assert f"Port {port}" in refused.stderr and "--port" in refused.stderr


def test_a_wrong_setting_is_refused_by_name(tmp_path: Path) -> None:
    refused = noria("server", "--home", str(tmp_path), NORIA_PORT="lots")
    assert refused.returncode == 3 and "NORIA_PORT" in refused.stderr
    refused = noria("server", "--home", str(tmp_path / "x"), "--database", "mysql://nope")
    assert refused.returncode != 0 and "mysql" in refused.stderr


def test_a_bucket_that_does_not_answer_is_said_at_once_and_why(tmp_path: Path) -> None:
    """In the store's own words, instead of three starts that end in a traceback."""
    keys = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    ports = ("--port", str(free_port()), "--gateway-port", str(free_port()), "--grpc-port", "0")
    began = time.monotonic()
    refused = noria(
        "server",
        "--home",
        str(tmp_path / "x"),
        "--blobs",
        "s3://noria/here",
        *ports,
        AWS_ENDPOINT_URL="http://127.0.0.1:1",
        **keys,
    )
    assert refused.returncode == 10 and "s3://noria/here cannot be used: HTTP error" in refused.stderr, refused.stderr
    assert "AWS_ENDPOINT_URL" in refused.stderr and "Traceback" not in refused.stderr
    assert time.monotonic() - began < 60


def test_commands_find_the_server_on_their_home_or_do_without(server: Server, tmp_path: Path) -> None:
    made = noria("token", "create", "laptop", "--json", NORIA_HOME=str(server.home))
    assert made.returncode == 0, made.stderr
    secret = json.loads(made.stdout)["secret"]
    assert httpx.get(f"{server.url}/api/v1/me", headers={"authorization": f"Bearer {secret}"}).status_code == 200
    alone = noria("user", "list", "--json", NORIA_HOME=str(tmp_path / "alone"))
    assert (alone.returncode, json.loads(alone.stdout)) == (0, [])
    lost = noria("user", "list", NORIA_URL="http://127.0.0.1:1")
    assert lost.returncode == 10 and "noria server" in lost.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_it(tmp_path: Path, number: signal.Signals) -> None:
    made = Server(tmp_path / "home")
    try:
        made.wait_ready()
        family = made.family()
        assert len(family) == 5
        made.process.send_signal(number)
        made.process.wait(30)
        until = time.monotonic() + 20
        while time.monotonic() < until and any(map(psutil.pid_exists, family)):
            time.sleep(0.1)
        assert not [pid for pid in family if psutil.pid_exists(pid)]
    finally:
        made.stop()


def test_a_killed_part_starts_again(server: Server) -> None:
    before = json.loads((server.home / "processes.json").read_text())
    os.kill(before["control"], signal.SIGKILL)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            now = json.loads((server.home / "processes.json").read_text())
            if now["control"] != before["control"] and httpx.get(f"{server.url}/health", timeout=2).status_code == 200:
                return
        except (httpx.HTTPError, ValueError, KeyError):
            pass
        time.sleep(0.1)
    raise AssertionError("the control plane did not come back")
