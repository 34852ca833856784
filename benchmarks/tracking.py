"""The same load against `noria server` and a real `mlflow server` (latest version, its default command), in turns.

    make bench T=tracking                          every row, about 8 minutes on two quiet cores
    python -m benchmarks.tracking --fast           smaller sizes, about 90 seconds
    python -m benchmarks.tracking --only batch,single
    python -m benchmarks.tracking --postgres       both on one PostgreSQL

Each row is measured in turns (noria, mlflow, noria, …) and gives medians; what both answer is compared; a difference ends the
run. Prints a table with ratios and targets (design/TARGETS.md), and writes JSON. Client and servers share the machine's cores.
The peer's 10,000 runs and its long series are written straight into its SQLite file, since its own API would take an hour;
Noria's go through its API.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

if __package__ in (None, ""):  # `python benchmarks/tracking.py`, as the Makefile runs it
    sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.databases import PostgresDatabase, postgres
from benchmarks.servers import ROOT, Mlflow, Noria, Server, environment, install_size, version
from benchmarks.wire import Wire, each, for_seconds, quantile

RESULTS = ROOT / "benchmarks" / "results"
FILES = "/api/2.0/mlflow-artifacts/artifacts"
AT = 1_700_000_000_000
CLIENT = """
import sys, time
from mlflow import MlflowClient
client, run_id, calls, took = MlflowClient(sys.argv[1]), sys.argv[2], int(sys.argv[3]), []
for i in range(calls + 20):
    began = time.perf_counter()
    client.log_metric(run_id, "client", i / 7, timestamp=i, step=i)
    took.append(time.perf_counter() - began)
print(*took[20:])
"""


class Sizes:
    """How much of everything."""

    def __init__(self, fast: bool, seconds: float | None) -> None:
        self.fast = fast
        self.seconds = seconds or (1.5 if fast else 5.0)
        self.rounds = 1 if fast else 3
        self.runs = 1_000 if fast else 10_000
        self.points = 100_000 if fast else 1_000_000
        self.big = (64 if fast else 512) << 20
        self.files = 100 if fast else 1_000
        self.calls = 100 if fast else 500
        self.asks = 5 if fast else 20


class Side:
    """A server under load: what the rows need of it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.name = server.name
        self.starts: list[float] = [server.start()]
        self.wire = Wire(server.port)
        self.experiment = self.wire.post("/experiments/create", {"name": f"bench-{uuid.uuid4().hex[:8]}"})["experiment_id"]

    @property
    def port(self) -> int:
        return self.server.port

    def run(self, wire: Wire | None = None, name: str = "") -> str:
        asked = {"experiment_id": self.experiment, "start_time": AT, "run_name": name or uuid.uuid4().hex[:8]}
        return str((wire or self.wire).post("/runs/create", asked)["run"]["info"]["run_id"])

    def history(self, run_id: str, key: str, page: int = 25_000) -> list[tuple[int, float]]:
        """Every point of a series, paged."""
        found, token = list[tuple[int, float]](), ""
        while True:
            answer = self.wire.get(
                f"/api/2.0/mlflow/metrics/get-history?run_id={run_id}&metric_key={key}&max_results={page}&page_token={quote(token)}"
            )
            found += [(int(m.get("step", 0)), float(m["value"])) for m in answer.get("metrics", [])]
            token = answer.get("next_page_token", "")
            if not token:
                return found


class Row:
    """A line of the table."""

    def __init__(self, name: str, unit: str, noria: float, mlflow: float | None, target: str, *, more: bool = False) -> None:
        self.name, self.unit, self.noria, self.mlflow, self.target, self.more = name, unit, noria, mlflow, target, more

    @property
    def ratio(self) -> float | None:
        """How many times better Noria is."""
        if not self.mlflow or not self.noria:
            return None
        return self.noria / self.mlflow if self.more else self.mlflow / self.noria

    def cells(self) -> list[str]:
        peer = "–" if self.mlflow is None else short(self.mlflow)
        ratio = "–" if self.ratio is None else f"{self.ratio:.1f}×"
        return [self.name, self.unit, short(self.noria), peer, ratio, self.target]


def short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


class Bench:
    """Both sides, the sizes, and the rows found so far."""

    def __init__(self, noria: Side, mlflow: Side, sizes: Sizes) -> None:
        self.noria, self.mlflow, self.sizes = noria, mlflow, sizes
        self.rows: list[Row] = []

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.noria, self.mlflow

    def turns(self, work: Callable[[Side], Any], rounds: int | None = None) -> dict[str, list[Any]]:
        """`work(side)` on each side in turn, as often as there are rounds."""
        found: dict[str, list[Any]] = {side.name: [] for side in self.sides}
        for _ in range(rounds or self.sizes.rounds):
            for side in self.sides:
                found[side.name].append(work(side))
        return found

    def add(self, name: str, unit: str, found: dict[str, list[float]], target: str, *, more: bool = False) -> None:
        noria, mlflow = (statistics.median(found[n]) if found.get(n) else None for n in ("noria", "mlflow"))
        assert noria is not None
        row = Row(name, unit, noria, mlflow, target, more=more)
        self.rows.append(row)
        print("  ".join(row.cells()), flush=True)

    def same(self, what: str, noria: Any, mlflow: Any) -> None:
        if noria != mlflow:
            raise SystemExit(f"The answers differ: {what}\n  noria  {str(noria)[:500]}\n  mlflow {str(mlflow)[:500]}")


# --- writing ------------------------------------------------------------------------------------------------------------


def points(keys: int, number: int) -> list[dict[str, Any]]:
    """A batch of 1,000 points, spread over `keys`."""
    steps = 1000 // keys
    return [
        {"key": f"m{k % keys}", "value": (number * 1000 + k) / 7, "timestamp": AT + number * 1000 + k,
         "step": number * steps + k // keys}
        for k in range(1000)
    ]  # fmt: skip


def batch(bench: Bench) -> None:
    """log-batch of 1,000 metrics, one and four connections; bytes of the database for each point."""
    per_point: dict[str, list[float]] = {"noria": [], "mlflow": []}
    checked: dict[int, dict[str, Any]] = {}
    for connections in (1, 4):

        def work(side: Side, connections: int = connections) -> float:
            runs = [side.run() for _ in range(connections)]
            before = side.server.store.size()
            bodies = {
                (me, i): json.dumps({"run_id": runs[me], "metrics": points(10, i)}).encode()
                for me in range(connections)
                for i in range(60)
            }

            def send(wire: Wire, me: int, i: int) -> None:
                body = bodies.get((me, i)) or json.dumps({"run_id": runs[me], "metrics": points(10, i)}).encode()
                wire.ask("POST", "/api/2.0/mlflow/runs/log-batch", body)

            took = for_seconds(bench.sizes.seconds, side.port, connections, send)
            per_point[side.name].append((side.server.store.size() - before) / (len(took) * 1000))
            last = side.history(runs[0], "m3")[:200]
            checked.setdefault(connections, {})[side.name] = last
            return len(took) * 1000 / max(sum(took) / connections, 1e-9)

        found = bench.turns(work)
        least = min(len(answers) for answers in checked[connections].values())
        bench.same("points read back", *(checked[connections][n][:least] for n in ("noria", "mlflow")))
        bench.add(
            f"log-batch of 1,000 metrics, {connections} connection(s)", "points/s", found, "≥ 30×, ≥ 200 k/s", more=True
        )
    bench.add("database per metric point", "bytes", per_point, "≤ 40")


def single(bench: Bench) -> None:
    """One metric a request: one connection, four, and through MLflow's client."""
    quick: dict[str, list[list[float]]] = bench.turns(lambda side: one_metric(side, bench.sizes.seconds, 1))
    for q, target in ((0.5, "≤ 1.5 ms, ≥ 7×"), (0.99, "≤ 10 ms")):
        found = {name: [quantile(t, q) * 1000 for t in rounds] for name, rounds in quick.items()}
        bench.add(f"one log-metric, p{q * 100:.0f}", "ms", found, target)
    four = bench.turns(lambda side: one_metric(side, bench.sizes.seconds, 4))
    rates = {name: [len(t) / (sum(t) / 4) for t in rounds] for name, rounds in four.items()}
    bench.add("single metrics, 4 connections", "requests/s", rates, "≥ 15×", more=True)
    python = str(environment("server", "mlflow"))

    def through_client(side: Side) -> list[float]:
        asked = [python, "-c", CLIENT, f"http://127.0.0.1:{side.port}", side.run(), str(bench.sizes.calls)]
        out = subprocess.run(asked, check=True, capture_output=True, text=True, timeout=300).stdout
        return [float(t) for t in out.split()]

    client = bench.turns(through_client)
    for q in (0.5, 0.99):
        found = {name: [quantile(t, q) * 1000 for t in rounds] for name, rounds in client.items()}
        bench.add(f"one log_metric of the MLflow client, p{q * 100:.0f}", "ms", found, "–")


def one_metric(side: Side, seconds: float, connections: int) -> list[float]:
    runs = [side.run() for _ in range(connections)]

    def send(wire: Wire, me: int, i: int) -> None:
        wire.post("/runs/log-metric", {"run_id": runs[me], "key": "loss", "value": i / 7, "timestamp": AT + i, "step": i})

    took = for_seconds(seconds, side.port, connections, send)
    kept = sum(len(side.history(run_id, "loss")) for run_id in runs)
    if kept != len(took):
        raise SystemExit(f"{side.name} acknowledged {len(took)} points and has {kept}")
    return took


def whole_runs(bench: Bench) -> None:
    """Create a run, log 20 params, finish it."""

    def work(side: Side) -> float:
        def send(wire: Wire, me: int, i: int) -> None:
            run_id = side.run(wire)
            params = [{"key": f"p{j}", "value": str(i * j)} for j in range(20)]
            wire.post("/runs/log-batch", {"run_id": run_id, "params": params})
            wire.post("/runs/update", {"run_id": run_id, "status": "FINISHED", "end_time": AT + 5})

        took = for_seconds(bench.sizes.seconds, side.port, 1, send)
        return len(took) / sum(took)

    bench.add("create a run, 20 params, finish", "runs/s", bench.turns(work), "≥ 12×", more=True)


def keys(bench: Bench) -> None:
    """1,000 metric keys in one run."""

    def work(side: Side) -> float:
        run_id = side.run()
        took = for_seconds(
            bench.sizes.seconds, side.port, 1,
            lambda wire, _, i: wire.post("/runs/log-batch", {"run_id": run_id, "metrics": points(1000, i)}),
        )  # fmt: skip
        read = side.wire.get(f"/api/2.0/mlflow/runs/get?run_id={run_id}")["run"]["data"]["metrics"]
        if len(read) != 1000:
            raise SystemExit(f"{side.name} has {len(read)} of 1,000 keys")
        return len(took) * 1000 / sum(took)

    bench.add("1,000 keys in one run, log-batch", "points/s", bench.turns(work), "–", more=True)


# --- many runs ----------------------------------------------------------------------------------------------------------


def made_run(i: int) -> tuple[str, int, dict[str, str], dict[str, float], dict[str, str]]:
    """Name, start, params, metrics and tags of run `i`: the same on both sides."""
    chance = random.Random(i)
    params = {f"p{j}": str(chance.randrange(10) if j < 10 else i * j) for j in range(20)}
    metrics = {f"m{j}": chance.random() for j in range(10)}
    tags = {f"t{j}": chance.choice(("alpha", "beta", "gamma")) for j in range(5)}
    return f"run-{i:05d}", AT + i, params, metrics, tags


def fill_noria(side: Side, experiment: str, count: int) -> None:
    def add(wire: Wire, i: int) -> None:
        name, at, params, metrics, tags = made_run(i)
        asked = {"experiment_id": experiment, "start_time": at, "run_name": name, "tags": listed(tags)}
        run_id = wire.post("/runs/create", asked)["run"]["info"]["run_id"]
        sent = [{"key": k, "value": v, "timestamp": at, "step": 0} for k, v in metrics.items()]
        wire.post("/runs/log-batch", {"run_id": run_id, "params": listed(params), "metrics": sent})

    each(list(range(count)), side.port, 4, add)


def listed(pairs: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": k, "value": v} for k, v in pairs.items()]


def fill_mlflow(side: Side, experiment: str, count: int) -> None:
    runs, params, metrics, latest, tags = [], [], [], [], []
    for i in range(count):
        name, at, ps, ms, ts = made_run(i)
        run_id = uuid.UUID(int=random.Random(-i - 1).getrandbits(128)).hex
        runs.append((run_id, name, "UNKNOWN", "", "", "bench", "RUNNING", at, "", "active", experiment,
                     f"mlflow-artifacts:/{experiment}/{run_id}/artifacts"))  # fmt: skip
        params += [(k, v, run_id) for k, v in ps.items()]
        metrics += [(k, v, at, run_id, 0, False) for k, v in ms.items()]
        latest += [(k, v, at, 0, False, run_id) for k, v in ms.items()]
        tags += [(k, v, run_id) for k, v in {**ts, "mlflow.runName": name}.items()]
    store = side.server.store
    store.insert(
        "runs",
        "run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time,"
        " source_version, lifecycle_stage, experiment_id, artifact_uri",
        runs,
    )
    store.insert("params", "key, value, run_uuid", params)
    store.insert("metrics", "key, value, timestamp, run_uuid, step, is_nan", metrics)
    store.insert("latest_metrics", "key, value, timestamp, step, is_nan, run_uuid", latest)
    store.insert("tags", "key, value, run_uuid", tags)


SEARCHES = (
    ("search by metric and param, ordered, 100 rows", "≤ 15 ms, ≥ 20×",
     {"filter": "metrics.m3 > 0.5 and params.p4 = '3'", "order_by": ["metrics.m1 DESC"]}),
    ("latest 100 runs", "≤ 15 ms", {}),
    ("search LIKE with two orders", "≤ 60 ms",
     {"filter": "params.p15 LIKE '%1%' and tags.t2 LIKE '%a'", "order_by": ["metrics.m2 ASC", "params.p1 DESC"]}),
)  # fmt: skip


def search(bench: Bench) -> None:
    """A table of many runs: filters and orders, and paging through all of them."""
    count = bench.sizes.runs
    ids = {side.name: side.wire.post("/experiments/create", {"name": "table"})["experiment_id"] for side in bench.sides}
    fill_noria(bench.noria, ids["noria"], count)
    fill_mlflow(bench.mlflow, ids["mlflow"], count)
    for side in bench.sides:
        side.server.store.settle()

    def names(side: Side, asked: dict[str, Any]) -> tuple[list[str], str]:
        answer = side.wire.post("/runs/search", {"experiment_ids": [ids[side.name]], **asked})
        return [run["info"]["run_name"] for run in answer.get("runs", [])], answer.get("next_page_token", "")

    for name, target, asked in SEARCHES:
        bench.same(name, *(names(side, {**asked, "max_results": 100})[0] for side in bench.sides))

        def work(side: Side, asked: dict[str, Any] = asked) -> float:
            took = []
            for _ in range(bench.sizes.asks):
                began = time.perf_counter()
                names(side, {**asked, "max_results": 100})
                took.append((time.perf_counter() - began) * 1000)
            return statistics.median(took)

        bench.add(f"{name}, of {count:,}", "ms", bench.turns(work), target)

    def page(side: Side) -> tuple[float, list[str]]:
        began, found, token = time.perf_counter(), list[str](), ""
        while True:
            part, token = names(side, {"max_results": 1000, "page_token": token})
            found += part
            if not token:
                return time.perf_counter() - began, found

    paged = bench.turns(page, rounds=1)
    bench.same("all runs", *(paged[n][0][1] for n in ("noria", "mlflow")))
    bench.add(f"page through all {count:,} runs", "s", {n: [t for t, _ in r] for n, r in paged.items()}, "≥ 15×")


# --- a long series ------------------------------------------------------------------------------------------------------


def value(i: int) -> float:
    """The long series at step `i`: it goes up and down far more often than there are pixels."""
    return (i * 7919 % 10_007) / 7


def fill_series(side: Side, run: str, count: int) -> None:
    """One metric of `count` points; the peer's straight into its database, as its API would take an hour."""
    if side.name == "noria":
        for at in range(0, count, 1000):
            sent = [{"key": "loss", "value": value(i), "timestamp": AT + i, "step": i} for i in range(at, at + 1000)]
            side.wire.post("/runs/log-batch", {"run_id": run, "metrics": sent})
        return
    rows = (("loss", value(i), AT + i, run, i, False) for i in range(count))
    side.server.store.insert("metrics", "key, value, timestamp, run_uuid, step, is_nan", rows)
    last = count - 1
    latest = [("loss", value(last), AT + last, last, False, run)]
    side.server.store.insert("latest_metrics", "key, value, timestamp, step, is_nan, run_uuid", latest)


def history(bench: Bench) -> None:
    """One run with very many points of one metric: all of them, and thinned for a chart."""
    count = bench.sizes.points
    ids = {side.name: side.run() for side in bench.sides}
    for side in bench.sides:
        fill_series(side, ids[side.name], count)

    def read(side: Side) -> tuple[float, str]:
        began = time.perf_counter()
        found = side.history(ids[side.name], "loss")
        return time.perf_counter() - began, hashlib.sha256(repr(sorted(found)).encode()).hexdigest()

    all_of_it = bench.turns(read, rounds=1)
    bench.same("the long series", *(all_of_it[n][0][1] for n in ("noria", "mlflow")))
    bench.add(f"history of {count:,} points, all", "s", {n: [t for t, _ in r] for n, r in all_of_it.items()}, "≥ 20×")

    def chart(side: Side) -> float:
        bulk = f"/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval?run_ids={ids[side.name]}&metric_key=loss&max_results=2500"
        path = f"/api/v1/runs/{ids[side.name]}/series?keys=loss&buckets=1000" if side.name == "noria" else bulk
        side.wire.ask("GET", path)
        took = []
        for _ in range(max(3, bench.sizes.asks // 4)):
            began = time.perf_counter()
            side.wire.ask("GET", path)
            took.append((time.perf_counter() - began) * 1000)
        return statistics.median(took)

    bench.add(f"chart of {count:,} points, warm", "ms", bench.turns(chart, rounds=1), "≤ 50 ms, ≥ 60×")


# --- files --------------------------------------------------------------------------------------------------------------


def artifacts(bench: Bench) -> None:
    """A large file and many small ones, up and down; how much memory the large one takes."""
    big = random.Random(1).randbytes(1 << 20) * (bench.sizes.big >> 20)
    digest = hashlib.sha256(big).hexdigest()
    grown: dict[str, list[float]] = {"noria": [], "mlflow": []}
    speeds: dict[str, dict[str, list[float]]] = {"up": {"noria": [], "mlflow": []}, "down": {"noria": [], "mlflow": []}}

    def large(side: Side) -> None:
        path = f"{FILES}/{side.experiment}/{side.run()}/artifacts/big.bin"
        data = os.urandom(16) + big[16:]  # bytes that no store has seen
        before, highest, stop = side.server.resident(), [0], threading.Event()

        def watch() -> None:
            while not stop.wait(0.05):
                highest[0] = max(highest[0], side.server.resident())

        watcher = threading.Thread(target=watch)
        watcher.start()
        wire, hasher = Wire(side.port), hashlib.sha256()
        began = time.perf_counter()
        wire.ask("PUT", path, data, "application/octet-stream")
        sent = time.perf_counter()
        wire.send("GET", path)
        size = [0]
        wire.read(lambda part: (hasher.update(part), size.__setitem__(0, size[0] + len(part))))
        read = time.perf_counter()
        stop.set()
        watcher.join()
        wire.close()
        if hasher.digest() != hashlib.sha256(data).digest() or digest == hasher.hexdigest():
            raise SystemExit(f"{side.name} gave other bytes back")
        speeds["up"][side.name].append(len(data) / (sent - began) / 1e6)
        speeds["down"][side.name].append(len(data) / (read - sent) / 1e6)
        grown[side.name].append(max(0.1, (highest[0] - before) / 1e6))

    bench.turns(large)
    size = f"{bench.sizes.big >> 20} MB"
    bench.add(f"artifact of {size}, up", "MB/s", speeds["up"], "≥ 3×", more=True)
    bench.add(f"artifact of {size}, down (hashed by the client)", "MB/s", speeds["down"], "≥ 3×", more=True)
    bench.add(f"artifact of {size}: memory grows by", "MB", grown, "flat")
    for connections in (1, 4):
        rates: dict[str, dict[str, list[float]]] = {"up": {"noria": [], "mlflow": []}, "down": {"noria": [], "mlflow": []}}

        def small(side: Side, connections: int = connections, rates: dict[str, dict[str, list[float]]] = rates) -> None:
            folder = f"{FILES}/{side.experiment}/{side.run()}/artifacts"
            data = {i: os.urandom(10_240) for i in range(bench.sizes.files)}
            up = each(
                list(data), side.port, connections, lambda w, i: w.ask("PUT", f"{folder}/f{i}", data[i], "application/x")
            )
            rates["up"][side.name].append(len(data) / up)

            def read(wire: Wire, i: int) -> None:
                if wire.ask("GET", f"{folder}/f{i}") != data[i]:
                    raise SystemExit(f"{side.name} gave other bytes back")

            rates["down"][side.name].append(len(data) / each(list(data), side.port, connections, read))

        bench.turns(small, rounds=1 if bench.sizes.fast else 2)
        for way in ("up", "down"):
            name = f"{bench.sizes.files:,} files of 10 KB {way}, {connections} connection(s)"
            bench.add(name, "files/s", rates[way], "≥ 3×", more=True)


# --- the server itself --------------------------------------------------------------------------------------------------


def idle(bench: Bench) -> None:
    """Memory and processes of a server that was just started, its start, and what is installed."""
    starts: dict[str, list[float]] = {"noria": [], "mlflow": []}
    memory: dict[str, list[float]] = {"noria": [], "mlflow": []}
    count: dict[str, list[float]] = {"noria": [], "mlflow": []}
    for _ in range(bench.sizes.rounds):
        for kind in (Noria, Mlflow):
            with tempfile.TemporaryDirectory(prefix="noria-bench-", ignore_cleanup_errors=True) as folder:
                server = kind(Path(folder))
                try:
                    server.start()
                    server.stop()  # the first start makes the database
                    starts[server.name].append(server.start())
                    time.sleep(8 if bench.sizes.fast else 15)  # until every process has come up
                    used, processes = server.memory()
                    memory[server.name].append(used / 1e6)
                    count[server.name].append(processes)
                finally:
                    server.stop()
    bench.add("start to healthy (database there)", "s", starts, "≤ 2 s")
    bench.add("idle memory (PSS), all processes", "MB", memory, "≤ 250 MB, ≤ 1/8")
    bench.add("processes", "", count, "–")
    core, peer = install_size(environment("core", str(ROOT))), install_size(environment("server", "mlflow"))
    bench.add("installed (core)", "MB", {"noria": [core[0] / 1e6], "mlflow": [peer[0] / 1e6]}, "≤ 1/3")
    bench.add("installed packages", "", {"noria": [core[1]], "mlflow": [peer[1]]}, "–")


def client_side(bench: Bench) -> None:
    """What `import noria` and `noria --help` take."""
    for name, target, command in (
        ("import noria", "≤ 100 ms", ["-c", "import noria"]),
        ("noria --help", "≤ 250 ms", ["-m", "noria.cli.main", "--help"]),
    ):
        took = []
        for _ in range(7):
            began = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
            took.append((time.perf_counter() - began) * 1000)
        bench.add(f"{name}, with the start of Python", "ms", {"noria": took}, target)


ROWS: dict[str, Callable[[Bench], None]] = {
    "batch": batch, "single": single, "runs": whole_runs, "keys": keys, "search": search, "history": history,
    "artifacts": artifacts, "idle": idle, "client": client_side,
}  # fmt: skip


def machine(python: Path) -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()), "cores": os.cpu_count(), "memory_gb": round(memory / 1e9),
        "python": platform.python_version(), "system": platform.platform(terse=True), "sqlite": sqlite3.sqlite_version,
        "mlflow": version(python, "mlflow"), "load_before": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def table(rows: list[Row]) -> str:
    head = ["work", "unit", "Noria", "MLflow", "ratio", "target"]
    lines = [head, ["---", "---", "---:", "---:", "---:", "---"], *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="smaller sizes, about 90 seconds")
    parser.add_argument("--only", default="", help=f"of {','.join(ROWS)}")
    parser.add_argument("--seconds", type=float, help="how long one measurement of a rate lasts")
    parser.add_argument("--workers", type=int, help="MLflow's workers; its default when not given")
    parser.add_argument("--postgres", action="store_true", help="both on one PostgreSQL instead of their SQLite files")
    parser.add_argument("--json", type=Path, help="where the figures go [default: in benchmarks/results]")
    chosen = parser.parse_args()
    names = [n for n in chosen.only.split(",") if n] or list(ROWS)
    sizes = Sizes(chosen.fast, chosen.seconds)
    with tempfile.TemporaryDirectory(prefix="noria-bench-", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        noria_store = mlflow_store = None
        if chosen.postgres:
            uri = stack.enter_context(postgres())
            noria_store, mlflow_store = PostgresDatabase(uri, "noria"), PostgresDatabase(uri, "mlflow")
        servers = [
            Noria(Path(folder) / "noria", noria_store), Mlflow(Path(folder) / "mlflow", chosen.workers, mlflow_store)
        ]  # fmt: skip
        about = machine(environment("server", "mlflow"))
        print(json.dumps(about), flush=True)
        if about["load_before"] > 0.5 * (about["cores"] or 1):
            print("This machine is busy: the numbers will be worse than they are, and less even.", flush=True)
        try:
            bench = Bench(Side(servers[0]), Side(servers[1]), sizes)
            for name in names:
                began = time.perf_counter()
                ROWS[name](bench)
                print(f"({name}: {time.perf_counter() - began:.0f} s)", flush=True)
        finally:
            for server in servers:
                server.stop()
    print("\n" + table(bench.rows))
    write(chosen.json or RESULTS / ("tracking-postgres.json" if chosen.postgres else "tracking.json"), about, bench)


def write(path: Path, about: dict[str, Any], bench: Bench) -> None:
    """Write the rows to `path`; rows of an earlier run that this one did not measure stay, with their date."""
    date, size = about["date"], "fast" if bench.sizes.fast else "full"
    rows = {
        r.name: {"name": r.name, "unit": r.unit, "noria": r.noria, "mlflow": r.mlflow, "ratio": r.ratio, "target": r.target,
                 "date": date, "size": size}
        for r in bench.rows
    }  # fmt: skip
    before = json.loads(path.read_text())["rows"] if path.exists() else []
    kept = [rows.pop(row["name"], row) for row in before]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": about, "rows": [*kept, *rows.values()]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
