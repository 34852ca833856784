"""How fast endpoints answer: Noria beside MLflow, MLServer, BentoML and mosec, one model, on loopback, in one run.

    make bench T=serving                              about five minutes
    python -m benchmarks.serving --fast               half a minute of asking: short bursts, one round
    python -m benchmarks.serving --only noria,mosec

StandardScaler + HistGradientBoosting (100 trees) on 30 numbers, asked for the chance of a class in JSON: one row with 1 and with 64
connections, 1,000 rows with 4. All servers are up together and are asked in turn, several rounds of short bursts, so that what else the
machine does meets all; figures are medians of the rounds. Before that each must say what the model says. Noria's record, split, deadline
and check of a token are on; the peers have none of them. Client and servers share the machine's cores. Peers are in environments of their
own (`serving_peers.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

if __package__ in (None, ""):  # `python benchmarks/serving.py`, as the Makefile runs it
    sys.path.insert(0, str(Path(__file__).parent.parent))

import httpx
import numpy as np
import psutil

from benchmarks.serving_peers import peers, tensor
from noria.access.model import NewPrincipal, TokenRequest
from noria.serving.model import RevisionConfig, SegmentInfo
from tests.serving.conftest import Plane, _save

ROOT = Path(__file__).parent.parent
NAMES = ("noria", "mlflow", "mlserver", "bentoml", "mosec")
WIDTH = 30
LOADS = {"one row, 1": (1, 1), "one row, 64": (1, 64), "1,000 rows, 4": (1000, 4)}  # rows of a request, connections
WARM_S = 0.5
CLIENT_TIMEOUT_S = 60.0
RECORD_WAIT_S = 60.0


# --- asking ---------------------------------------------------------------------------------------------------------


async def one(port: int, request: bytes, until: float, took: list[float]) -> None:
    """One connection that asks without pause."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    while time.perf_counter() < until:
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        took.append(time.perf_counter() - began)
    writer.close()


async def ask(port: int, request: bytes, connections: int, seconds: float) -> dict[str, float]:
    """Answers a second, and the times of one in milliseconds."""
    warm = time.perf_counter() + WARM_S
    await asyncio.gather(*(one(port, request, warm, []) for _ in range(connections)))
    took: list[float] = []
    began = time.perf_counter()
    await asyncio.gather(*(one(port, request, began + seconds, took) for _ in range(connections)))
    passed = time.perf_counter() - began
    took.sort()
    return {
        "per_s": len(took) / passed, "p50_ms": took[len(took) // 2] * 1000,
        "p99_ms": took[int(len(took) * 0.99)] * 1000,
    }  # fmt: skip


def client(port: int, request: Path, connections: int, seconds: float) -> None:
    """What runs in a process of its own."""
    import uvloop

    sys.stdout.write(json.dumps(uvloop.run(ask(port, request.read_bytes(), connections, seconds))))


# --- what is asked --------------------------------------------------------------------------------------------------


class Asked(Protocol):
    """A server that is up."""

    port: int
    path: str

    @property
    def title(self) -> str: ...
    def form(self, rows: list[list[float]]) -> Any: ...
    def chances(self, answer: Any) -> list[float]: ...
    def memory(self) -> tuple[int, int]: ...


class Noria:
    """A control plane in this process; a node, a recorder and a worker in theirs."""

    def __init__(self, plane: Plane, endpoint: str, title: str, secret: str) -> None:
        self.plane, self.endpoint, self.title, self.secret = plane, endpoint, title, secret
        self.port, self.path = plane.config.gateway_port, f"/v2/models/{endpoint}/infer"

    def form(self, rows: list[list[float]]) -> Any:
        return {"inputs": tensor(rows)["inputs"]}

    def chances(self, answer: Any) -> list[float]:
        found = {o["name"]: o for o in answer["outputs"]}
        return [float(v) for v in found["probability"]["data"][1::2]]

    def memory(self) -> tuple[int, int]:
        """Of gateway, recorder and this revision's workers, PSS."""
        detail = self.plane.serving.detail(self.plane.op(), self.endpoint)
        pids = [p.pid for p in self.plane.processes.values()] + [r.pid for r in detail.replicas if r.pid]
        return sum(psutil.Process(pid).memory_full_info().pss for pid in pids), len(pids)


def made_model(folder: Path) -> tuple[Path, Any]:
    """The model as MLflow saves it, with its scikit-learn object as a file beside; and that object."""
    import joblib
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    given = rng.normal(size=(5_000, WIDTH))
    truth = (given[:, :5].sum(axis=1) + rng.normal(size=5_000) > 0).astype(int)
    model = make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=100)).fit(given, truth)
    _save(model, folder, given[:2])
    joblib.dump(model, folder / "model.joblib")
    return folder, model


@contextmanager
def noria(folder: Path, model: Path) -> Iterator[list[Noria]]:
    """The model as it was saved, and converted to ONNX; with a token that may ask, and nobody who may without."""
    plane = Plane(folder)
    try:
        op = plane.op()
        plane.app.access.create_principal(op, NewPrincipal(name="asks", kind="service", roles=["predictor"]))
        secret = plane.app.access.create_token(op, TokenRequest(name="asks", principal="asks")).secret
        plane.start()
        plane.registry.add("flights", model)
        plane.deploy("flights", "flights@1")
        plane.deploy("flights-onnx", "flights@1", config=RevisionConfig(engine="onnx"))
        yield [Noria(plane, "flights", "noria", secret), Noria(plane, "flights-onnx", "noria, ONNX", secret)]
        for endpoint in ("flights", "flights-onnx"):
            _say_recorded(plane, endpoint)
    finally:
        plane.close()


def _say_recorded(plane: Plane, endpoint: str) -> None:
    """How many requests were answered, and how many rows of theirs are on record."""
    until, rows = time.monotonic() + RECORD_WAIT_S, -1
    while time.monotonic() < until:
        time.sleep(3)  # a segment comes every two
        now = sum(s.rows for s in _segments(plane, endpoint))
        if now == rows:
            break
        rows = now
    series = plane.serving.traffic.series(plane.op(), endpoint, from_ms=0, to_ms=1 << 42, step_s=1 << 30).by_revision
    sys.stdout.write(f"{endpoint}: {sum(sum(s.count) for s in series.values()):,} requests, {rows:,} rows on record\n")


def _segments(plane: Plane, endpoint: str) -> Iterator[SegmentInfo]:
    after = 0
    while found := plane.serving.segments.after(plane.op(), endpoint, after):
        yield from found
        after = found[-1].seq


# --- one run --------------------------------------------------------------------------------------------------------


def request_to(server: Asked, rows: Any) -> bytes:
    """A whole HTTP request."""
    body = json.dumps(server.form(rows.tolist())).encode()
    secret = getattr(server, "secret", "")
    heads = [
        f"POST {server.path} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json", f"content-length: {len(body)}",
        *([f"authorization: Bearer {secret}"] if secret else []),
    ]  # fmt: skip
    return "\r\n".join([*heads, "", ""]).encode() + body


def require_right(server: Asked, rows: Any, model: Any) -> None:
    """Raises AssertionError when it says something else than the model, in one process."""
    secret = getattr(server, "secret", "")
    answer = httpx.post(
        f"http://127.0.0.1:{server.port}{server.path}", json=server.form(rows.tolist()), timeout=CLIENT_TIMEOUT_S,
        headers={"authorization": f"Bearer {secret}"} if secret else {},
    )  # fmt: skip
    assert answer.status_code == 200, f"{server.title}: {answer.text[:500]}"
    said, wanted = np.array(server.chances(answer.json())), model.predict_proba(rows)[:, 1]
    if set(said) <= {0.0, 1.0}:  # MLflow says the class alone
        wanted = wanted >= 0.5
    assert np.allclose(said, wanted, atol=1e-5), server.title


def burst(server: Asked, folder: Path, load: str, rows: Any, seconds: float) -> dict[str, float]:
    """One load for some seconds, from a process of its own."""
    count, connections = LOADS[load]
    file = folder / "request"
    file.write_bytes(request_to(server, rows[:count]))
    words = [str(server.port), str(file), str(connections), str(seconds)]
    command = [sys.executable, "-m", "benchmarks.serving", "--client", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=seconds + CLIENT_TIMEOUT_S,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{server.title}, {load}: {done.stderr[-1000:]}")
    found: dict[str, float] = json.loads(done.stdout)
    found["rows_per_s"] = found.pop("per_s") * count
    return found


def run(folder: Path, names: list[str], *, rounds: int, seconds: float) -> dict[str, Any]:
    """The figures of each server by load."""
    saved, model = made_model(folder / "model")
    rows = np.random.default_rng(1).normal(size=(1_000, WIDTH))
    with ExitStack() as stack:
        up: list[Asked] = list(stack.enter_context(noria(folder / "home", saved))) if "noria" in names else []
        for peer in peers(folder / "peers", saved, names):
            stack.callback(peer.stop)
            took_s = peer.start()
            sys.stdout.write(f"{peer.title} started in {took_s:.1f} s\n")
            up.append(peer)
        for server in up:
            require_right(server, rows[:1], model)
            require_right(server, rows, model)
        found = {s.title: {load: list[dict[str, float]]() for load in LOADS} for s in up}
        for number in range(rounds):
            for load in LOADS:
                for server in up if number % 2 == 0 else up[::-1]:
                    found[server.title][load].append(burst(server, folder, load, rows, seconds))
            sys.stdout.write(f"round {number + 1} of {rounds}\n")
            sys.stdout.flush()
        memory = {s.title: s.memory() for s in up}
    return {
        title: {load: _medians(bursts) for load, bursts in loads.items()}
        | {"memory_mb": memory[title][0] / 1e6, "processes": memory[title][1]}
        for title, loads in found.items()
    }


def _medians(bursts: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(b[name] for b in bursts) for name in bursts[0]}


def tell(results: dict[str, Any]) -> None:
    """A table, and how Noria stands to each."""
    for title, found in results.items():
        loads = "".join(
            f"  {load}: {found[load]['rows_per_s']:>8,.0f} rows/s {found[load]['p50_ms']:>7.2f} / {found[load]['p99_ms']:>7.2f} ms"
            for load in LOADS
        )
        sys.stdout.write(f"{title:18}{loads}  {found['memory_mb']:>5.0f} MB ({found['processes']})\n")
    if "noria" not in results:
        return
    mine = results["noria"]
    for title, found in results.items():
        ratios = ", ".join(f"{load} ×{mine[load]['rows_per_s'] / found[load]['rows_per_s']:.2f}" for load in LOADS)
        sys.stdout.write(f"noria to {title}: {ratios}\n") if not title.startswith("noria") else None


def main() -> None:
    if sys.argv[1:2] == ["--client"]:
        port, file, connections, seconds = sys.argv[2:]
        client(int(port), Path(file), int(connections), float(seconds))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="one round of short bursts; writes no results")
    parser.add_argument("--only", default=",".join(NAMES), help="some of " + ", ".join(NAMES))
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := set(names) - set(NAMES):
        parser.error(f"There is no {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}.")
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped then, too
    with tempfile.TemporaryDirectory(prefix="noria-bench-") as made:
        results = run(Path(made), names, rounds=1 if options.fast else 3, seconds=1.0 if options.fast else 2.0)
    tell(results)
    if not options.fast and set(names) == set(NAMES):
        (ROOT / "benchmarks" / "results" / "serving.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
