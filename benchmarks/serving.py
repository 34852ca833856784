"""How fast the data plane answers: one row of seven numbers, StandardScaler + LogisticRegression, on loopback.

    python -m benchmarks.serving [seconds]

Starts a control plane, a recorder and a node on a scratch home, deploys one model, and asks over V2 with 1 and 64 connections
from a second process. Recording and the checks at the door are on. Client and servers share the machine's cores.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from tests.serving.conftest import Plane, _save, features, fitted, v2


async def one(port: int, request: bytes, until: float, took: list[float]) -> None:
    """One connection that asks without pause."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        took.append(time.perf_counter() - began)
    writer.close()


async def ask(port: int, connections: int, seconds: float, body: bytes) -> None:
    request = (
        b"POST /v2/models/flights/infer HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n" % len(body)
    ) + body
    took: list[float] = []
    await asyncio.gather(*(one(port, request, time.perf_counter() + 1.0, []) for _ in range(connections)))  # warm
    until = time.perf_counter() + seconds
    await asyncio.gather(*(one(port, request, until, took) for _ in range(connections)))
    took.sort()
    print(
        f"{connections:>3} connections: {len(took) / seconds:>8.0f} req/s   p50 {took[len(took) // 2] * 1000:6.2f} ms"
        f"   p99 {took[int(len(took) * 0.99)] * 1000:6.2f} ms",
        flush=True,
    )


def client(port: int, seconds: float) -> None:
    import uvloop

    body = json.dumps(v2(features(1).iloc[0])).encode()
    for connections in (1, 64):
        uvloop.run(ask(port, connections, seconds, body))


def main() -> None:
    if sys.argv[1:2] == ["client"]:
        client(int(sys.argv[2]), float(sys.argv[3]))
        return
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        _save(fitted(0), model, features(2))
        plane = Plane(Path(folder) / "home")
        try:
            plane.start()
            plane.registry.add("flights", model)
            plane.deploy("flights", "flights@1")
            subprocess.run(
                [sys.executable, "-m", "benchmarks.serving", "client", str(plane.config.gateway_port), str(seconds)],
                check=True,
            )
            plane.until(lambda: plane.serving.segments.after(plane.op(), "flights"), "the record")
            time.sleep(4)
            rows = sum(s.rows for s in plane.serving.segments.after(plane.op(), "flights"))
            counts = plane.serving.traffic.series(
                plane.op(), "flights", from_ms=0, to_ms=1 << 42, step_s=1 << 30
            ).by_revision.values()
            print(f"answered {sum(sum(c.count) for c in counts)}, recorded {rows}")
        finally:
            plane.close()


if __name__ == "__main__":
    main()
