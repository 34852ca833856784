"""A small HTTP client that costs little: what is timed should be the server. And several of them at once."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

CHUNK = 1 << 20


class Wire:
    """One connection, kept open; opened anew when the server closed it because nothing was asked."""

    def __init__(self, port: int, timeout_s: float = 300.0) -> None:
        self.port, self.timeout_s = port, timeout_s
        self._open()

    def _open(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port), self.timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb", CHUNK)

    def send(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> None:
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        if select.select([self.socket], [], [], 0)[0]:  # between two requests only an end can be read
            self.close()
            self._open()
        self.socket.sendall(head + body if len(body) < CHUNK else head)
        if len(body) >= CHUNK:
            self.socket.sendall(body)

    def read(self, into: Callable[[bytes], Any] | None = None) -> bytes:
        """The body of the answer; in pieces to `into` if given. An answer that is no success is an error."""
        status = int(self.file.readline().split()[1])
        length, is_chunked = 0, False
        while (line := self.file.readline().lower()) not in (b"\r\n", b""):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
            is_chunked |= line.startswith(b"transfer-encoding:") and b"chunked" in line
        out: list[bytes] = []
        take = into or out.append
        if is_chunked:
            while size := int(self.file.readline(), 16):
                self._take(size, take)
                self.file.readline()
            self.file.readline()
        else:
            self._take(length, take)
        if status >= 300:
            raise RuntimeError(f"status {status}: {b''.join(out)[:500]!r}")
        return b"".join(out)

    def _take(self, size: int, take: Callable[[bytes], Any]) -> None:
        while size:
            part = self.file.read(min(size, CHUNK))
            if not part:
                raise RuntimeError("the connection ended")
            size -= len(part)
            take(part)

    def ask(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
        self.send(method, path, body, kind)
        return self.read()

    def post(self, path: str, asked: Any) -> Any:
        return json.loads(self.ask("POST", "/api/2.0/mlflow" + path, json.dumps(asked).encode()))

    def get(self, path: str) -> Any:
        return json.loads(self.ask("GET", path))

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def for_seconds(seconds: float, port: int, connections: int, work: Callable[[Wire, int, int], Any]) -> list[float]:
    """`work(wire, connection, number)` again and again on each connection; how long each call took, all together."""
    took: list[list[float]] = [[] for _ in range(connections)]
    failed: list[BaseException] = []

    def loop(me: int) -> None:
        try:
            wire = Wire(port)
            while time.perf_counter() < until:
                began = time.perf_counter()
                work(wire, me, len(took[me]))
                took[me].append(time.perf_counter() - began)
            wire.close()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=loop, args=(i,)) for i in range(connections)]
    until = time.perf_counter() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return [t for mine in took for t in mine]


def each(things: list[Any], port: int, connections: int, work: Callable[[Wire, Any], Any]) -> float:
    """`work(wire, thing)` for every thing, shared out over connections; the seconds it took."""
    failed: list[BaseException] = []

    def share(me: int) -> None:
        try:
            wire = Wire(port)
            for thing in things[me::connections]:
                work(wire, thing)
            wire.close()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=share, args=(i,)) for i in range(connections)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return time.perf_counter() - began


def quantile(values: list[float], q: float) -> float:
    found = sorted(values)
    return found[min(len(found) - 1, int(len(found) * q))]
