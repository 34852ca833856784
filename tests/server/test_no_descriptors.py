"""F15: a server that can open no more files and no more connections. It says so, loses nothing, and goes on once it can."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.server.control import WAIT_S, Control

pytestmark = [
    pytest.mark.protocol,
    pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="another process is limited on Linux only"),
]


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    made = Control(tmp_path_factory.mktemp("files") / "home").start()
    yield made
    made.kill()
    assert "a bug on" not in made.log.read_text(), made.log.read_text()[-3000:]


@contextmanager
def none_left(control: Control) -> Iterator[None]:
    """The control plane may open nothing more than it has open now."""
    assert control.process is not None
    pid = control.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir())
    held = []
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1, before[1]))
    try:
        free = highest + 1 - len(list(Path(f"/proc/{pid}/fd").iterdir()))
        for _ in range(free + 2):  # numbers below that are free are taken by connections; the last ones wait at the door
            held.append(socket.create_connection((str(urlsplit(control.url).hostname), urlsplit(control.url).port or 80)))
        until = time.monotonic() + 10
        while len(list(Path(f"/proc/{pid}/fd").iterdir())) <= highest and time.monotonic() < until:
            time.sleep(0.02)
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        for connection in held:
            connection.close()


def test_without_file_descriptors_it_says_so_and_loses_nothing(control: Control) -> None:
    with httpx.Client(base_url=control.url, timeout=WAIT_S) as http:
        run = http.post("/api/v1/runs", json={"experiment": "files", "name": "r"}).json()["id"]
        content, data = f"/api/v1/runs/{run}/artifacts/content", b"0123456789" * 200_000
        http.put(content, params={"path": "kept.bin"}, content=data).raise_for_status()
        taken = 0
        with none_left(control):
            for number in range(20):
                sent = http.put(content, params={"path": f"{number}.bin"}, content=data + bytes([number]))
                assert sent.status_code == 503, (sent.status_code, sent.text)
                assert int(sent.headers["retry-after"]) > 0 and "files" in sent.text, sent.text
                point = {"key": "m", "value": 1.0, "timestamp": 1, "step": number}
                said = http.post("/api/2.0/mlflow/runs/log-batch", json={"run_id": run, "metrics": [point]})
                assert said.status_code in (200, 503), said.text
                taken += said.status_code == 200
        assert [f["path"] for f in http.get(f"/api/v1/runs/{run}/artifacts").json()["items"]] == ["kept.bin"]
        assert http.get(content, params={"path": "kept.bin"}).content == data
        curve = http.get(f"/api/v1/runs/{run}/series", params={"keys": "m"}).json()["series"].get("m", {"count": 0})
        assert curve["count"] == taken, "what was acknowledged, and nothing else"
        http.put(content, params={"path": "later.bin"}, content=data[::-1]).raise_for_status()
    assert httpx.get(f"{control.url}/health", timeout=WAIT_S).status_code == 200, "it takes connections again"
    assert control.is_alive()
