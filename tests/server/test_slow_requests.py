"""Clients that are slow, stop half-way or send too much, on real sockets: they get an answer or an end, and hold up nobody else."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.server.control import Control

pytestmark = [pytest.mark.protocol]
SLOW_S = 1.0


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    made = Control(
        tmp_path_factory.mktemp("slow") / "home", NORIA_SLOW_REQUEST_S=str(SLOW_S), NORIA_BODY_LIMIT_MB="16"
    ).start()
    yield made
    made.kill()


@pytest.fixture
def http(control: Control) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=control.url, timeout=60) as client:
        yield client
    assert control.is_alive() and "a bug on" not in control.log.read_text()


def dial(control: Control, sent: bytes = b"") -> socket.socket:
    made = socket.create_connection((str(urlsplit(control.url).hostname), urlsplit(control.url).port), timeout=30)
    made.sendall(sent)
    return made


def head(control: Control, path: str, length: int | str, method: str = "POST") -> bytes:
    size = f"content-length: {length}" if isinstance(length, int) else f"transfer-encoding: {length}"
    kind = "content-type: application/json"
    return f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{control.config.port}\r\n{kind}\r\n{size}\r\n\r\n".encode()


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """Status and the rest of what is sent until the other side closes; 0 for nothing."""
    found = b""
    try:
        while chunk := connection.recv(65_536):
            found += chunk
    except ConnectionResetError:
        pass
    connection.close()
    return (int(found.split()[1]), found) if found else (0, b"")


def new_run(http: httpx.Client) -> str:
    return str(http.post("/api/v1/runs", json={"experiment": "slow", "name": "r"}).raise_for_status().json()["id"])


def test_half_a_head_is_not_waited_for(control: Control, http: httpx.Client) -> None:
    began = time.monotonic()
    slow = [dial(control, sent) for sent in (b"", b"GET /health HTT", b"POST /api/v1/runs HTTP/1.1\r\nhost: x\r\nx-a: ")]
    assert [answer(connection)[0] for connection in slow] == [408, 408, 408]
    assert time.monotonic() - began < 20 * SLOW_S
    # One byte at a time does not help: the whole head has one deadline, on a kept connection too.
    kept = dial(control, b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    assert kept.recv(65_536).startswith(b"HTTP/1.1 200")
    last = b""
    for byte in b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: " + b"a" * 200:
        try:
            kept.sendall(bytes([byte]))
            time.sleep(0.02)
        except OSError:
            break
    else:
        last = kept.recv(65_536)
    kept.close()
    assert last in (b"",) or last.startswith(b"HTTP/1.1 408")


def test_a_head_without_end_is_refused(control: Control, http: httpx.Client) -> None:
    endless = dial(control, b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n")
    try:
        for i in range(200):
            endless.sendall(f"x-{i}: {'a' * 4_000}\r\n".encode())
    except OSError:
        pass  # closed on us, as it should be
    assert answer(endless)[0] in (0, 400)
    assert http.get("/health").status_code == 200


def test_a_body_that_stops_coming_changes_nothing(control: Control, http: httpx.Client) -> None:
    run = new_run(http)
    whole = json.dumps({"run_id": run, "metrics": [{"key": "m", "value": 1.0, "timestamp": 1, "step": 0}]}).encode()
    batch, content = "/api/2.0/mlflow/runs/log-batch", f"/api/v1/runs/{run}/artifacts/content?path=half.bin"
    proxy = f"/api/2.0/mlflow-artifacts/artifacts/{http.get(f'/api/v1/runs/{run}').json()['experiment_id']}/{run}/artifacts/half.bin"
    for path, method, body in (
        (batch, "POST", whole), ("/api/v1/runs", "POST", b'{"experiment": "slow", "name": "half"}'), (content, "PUT", b"x" * 4000),
        (proxy, "PUT", b"x" * 4000),
    ):  # fmt: skip
        half = len(body) // 2
        for length in (len(body), "chunked"):
            part = body[:half] if length != "chunked" else f"{half:x}\r\n".encode() + body[:half] + b"\r\n"
            # It waits: an answer that says so, and an end.
            status, said = answer(dial(control, head(control, path, length, method) + part))
            assert status == 400 and b"Nothing of the body came" in said and b"connection: close" in said.lower(), (
                path,
                length,
                said,
            )
            # It goes away: nothing is left of it.
            gone = dial(control, head(control, path, length, method) + part)
            gone.close()
    time.sleep(0.5)
    read = http.get(f"/api/v1/runs/{run}").json()
    assert read["metrics"] == {} and http.get(f"/api/v1/runs/{run}/artifacts").json()["items"] == []
    names = http.get("/api/v1/runs", params={"experiment": "slow", "columns": "name"}).json()["columns"]["name"]
    assert "half" not in names
    answered = http.post(batch, content=whole, headers={"content-type": "application/json"})
    assert answered.status_code == 200, "the same, whole, is taken"


def test_two_hundred_slow_clients_hold_up_nobody(control: Control, http: httpx.Client) -> None:
    run = new_run(http)
    path = "/api/2.0/mlflow/runs/log-batch"
    slow = [dial(control, head(control, path, 5_000) + b"{") for _ in range(200)]
    for step in range(20):
        point = {"key": "m", "value": 1.0, "timestamp": 1, "step": step}
        http.post(path, json={"run_id": run, "metrics": [point]}, timeout=10).raise_for_status()
    assert {answer(connection)[0] for connection in slow} == {400}


# Eight who ask for as much as is allowed, all the time, until their input ends.
FLOOD = """
import sys, threading, httpx
url, run, is_over = sys.argv[1], sys.argv[2], threading.Event()
def flood(number):
    with httpx.Client(base_url=url, timeout=60) as http:
        while not is_over.is_set():
            points = [{"key": f"m{number}", "value": i / 7, "timestamp": 1, "step": i} for i in range(1000)]
            http.post("/api/2.0/mlflow/runs/log-batch", json={"run_id": run, "metrics": points})
            http.get("/api/v1/runs", params={"limit": 1000})
            print(number, flush=True)
threads = [threading.Thread(target=flood, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
sys.stdin.read()
is_over.set()
"""


def test_one_who_floods_holds_up_nobody_for_long(control: Control, http: httpx.Client) -> None:
    mine, took = new_run(http), []
    flood = subprocess.Popen(
        [sys.executable, "-c", FLOOD, control.url, new_run(http)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert flood.stdin is not None and flood.stdout is not None
    try:
        for _ in range(8):
            assert flood.stdout.readline(), "it is under way"
        for step in range(50):
            began = time.monotonic()
            point = {"key": "m", "value": 1.0, "timestamp": 1, "step": step}
            http.post("/api/2.0/mlflow/runs/log-batch", json={"run_id": mine, "metrics": [point]}).raise_for_status()
            took.append(time.monotonic() - began)
    finally:
        flood.stdin.close()
        went_on = len(flood.stdout.read().splitlines())
        flood.wait(60)
    assert went_on > 8 and max(took) < 5, (went_on, sorted(took)[-5:])


def test_a_slow_body_that_goes_on_is_taken(control: Control, http: httpx.Client) -> None:
    run = new_run(http)
    data = b"0123456789" * 8
    upload = dial(control, head(control, f"/api/v1/runs/{run}/artifacts/content?path=slow.bin", len(data), "PUT"))
    for i in range(0, len(data), 10):  # longer than the deadline altogether, never in one pause
        upload.sendall(data[i : i + 10])
        time.sleep(SLOW_S / 4)
    assert upload.recv(65_536).startswith(b"HTTP/1.1 200")
    upload.close()
    assert http.get(f"/api/v1/runs/{run}/artifacts/content", params={"path": "slow.bin"}).content == data


def test_a_body_of_twenty_megabytes_is_a_file_or_too_much(control: Control, http: httpx.Client) -> None:
    run, large = new_run(http), b"x" * (20 << 20)
    for path in ("/api/2.0/mlflow/runs/log-batch", "/api/v1/runs", "/v1/traces"):
        status, said = 0, b""
        for length in (len(large), "chunked"):
            connection = dial(control, head(control, path, length))
            try:
                if length == "chunked":
                    for i in range(0, len(large), 1 << 20):
                        connection.sendall(b"100000\r\n" + large[i : i + (1 << 20)] + b"\r\n")
                connection.settimeout(30)
                said = connection.recv(65_536)
                status = int(said.split()[1])
            except ConnectionError:
                status = 413 if length == "chunked" else 0  # closed while we were still sending
            connection.close()
            assert status == 413, (path, length, said[:200])
    http.put(f"/api/v1/runs/{run}/artifacts/content", params={"path": "large.bin"}, content=large).raise_for_status()
    files = http.get(f"/api/v1/runs/{run}/artifacts").json()["items"]
    assert [(f["path"], f["size_bytes"]) for f in files] == [("large.bin", 20 << 20)]
