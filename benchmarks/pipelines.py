"""No-op steps through `noria server` and its local worker, and through other engines on the same machine, in turns.

    make bench T=pipelines                               every row and engine, about 10 minutes on two quiet cores
    python -m benchmarks.pipelines --fast                shorter chains, one round
    python -m benchmarks.pipelines --only chain,trigger  some rows
    python -m benchmarks.pipelines --engines noria,dbos  some engines
    python -m benchmarks.pipelines --merge               keep the other rows of the last results

Each step adds the time as one line to a file; what is compared are these lines. What a flow computes is checked. The peers run
their documented default: Metaflow a process a task and files; DBOS threads and SQLite; Prefect its server on SQLite, with
threads of the client. Noria runs each step in a process of its own, with durable rows and facts. The floor is a process forked
for each step and one durable row, with nothing between.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # `python benchmarks/pipelines.py`, as the Makefile runs it
    sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.engines import ENGINES, Engine
from benchmarks.servers import ROOT
from benchmarks.wire import quantile

ROWS = ("chain", "fan", "trigger", "cached", "memory")
RESULTS = ROOT / "benchmarks" / "results" / "pipelines.json"
UNITS = {"chain": "ms/step", "fan": "ms/step", "trigger": "s", "cached": "s", "memory": "MB"}
TARGETS = {
    "chain, {n} steps in a row": "≤ 15 ms, ≥ 40× Metaflow, ≤ 5× DBOS",
    "chain: client start to first line": "–",
    "fan-out, {n} steps side by side": "≤ 10 ms",
    "trigger to first line, p50": "≤ 0.15 s",
    "trigger to first line, p95": "≤ 0.4 s",
    "{n} kept results, in the server": "≤ 0.5 s",
    "{n} kept results, from a cold client": "≤ 1.5 s",
    "memory (PSS), server": "–",
    "memory (PSS), idle worker": "≤ 150 MB",
}


class Bench:
    """The engines, how much of everything, and what was found."""

    def __init__(self, folder: Path, engines: list[str], *, fast: bool, rounds: int | None) -> None:
        self.engines: list[Engine] = [ENGINES[name](folder) for name in engines]
        self.fast = fast
        self.rounds = rounds or (1 if fast else 3)
        self.chain = 20 if fast else 100
        self.fan = 40 if fast else 200
        self.times = 5 if fast else 20
        self.found: dict[str, dict[str, list[float]]] = {}
        self.floors: dict[str, float] = {}

    def turns(self, work: Callable[[Engine], dict[str, float | None]], *, once: frozenset[str] = frozenset()) -> None:
        """`work` gives figures by row; each engine in turn, slow ones only once."""
        for number in range(self.rounds):
            for engine in self.engines:
                if number and engine.name in once:
                    continue
                for row, value in work(engine).items():
                    if value is not None:
                        self.found.setdefault(row, {}).setdefault(engine.name, []).append(value)
                        print(f"  {engine.name:9} {row:45} {value:10.4g}", flush=True)


def chain(bench: Bench) -> None:
    """A chain of steps, each of which takes the result of the one before."""

    def work(engine: Engine) -> dict[str, float | None]:
        ran = engine.run("chain", bench.chain)
        assert len(ran.lines) == bench.chain, f"{engine.name}: {len(ran.lines)} lines"
        return {
            f"chain, {bench.chain} steps in a row": ran.ms_a_step(),
            "chain: client start to first line": ran.start_s,
        }

    bench.floors[f"chain, {bench.chain} steps in a row"] = floor_chain(bench.chain)
    bench.turns(work, once=frozenset({"metaflow"}))


def fan(bench: Bench) -> None:
    """Steps that do not wait for each other."""

    def work(engine: Engine) -> dict[str, float | None]:
        ran = engine.run("fan", bench.fan)
        assert len(ran.lines) == bench.fan, f"{engine.name}: {len(ran.lines)} lines"
        return {f"fan-out, {bench.fan} steps side by side": ran.ms_a_step()}

    bench.turns(work, once=frozenset({"metaflow"}))


def trigger(bench: Bench) -> None:
    """Asking a server, or a queue, for a run of one step, until its line is there; everything warm."""

    def work(engine: Engine) -> dict[str, float | None]:
        took = engine.triggered(bench.times if engine.name in ("noria", "dbos") else 4)
        if took is None:
            return {}
        return {
            "trigger to first line, p50": statistics.median(took),
            "trigger to first line, p95": quantile(took, 0.95),
        }

    bench.turns(work, once=frozenset({"prefect"}))


def cached(bench: Bench) -> None:
    """A chain whose results are all kept."""

    def work(engine: Engine) -> dict[str, float | None]:
        ran, server_s = engine.cached(bench.chain)
        return {
            f"{bench.chain} kept results, from a cold client": ran.total_s,
            f"{bench.chain} kept results, in the server": server_s,
        }

    bench.turns(work, once=frozenset({"metaflow"}))


def memory(bench: Bench) -> None:
    """Server and worker once their work is done; shared pages counted once."""
    for engine in bench.engines:
        for part, found in engine.resident().items():
            row = f"memory (PSS), {part}"
            bench.found.setdefault(row, {})[engine.name] = [found / 1e6]
            print(f"  {engine.name:9} {row:45} {found / 1e6:10.4g}", flush=True)


def floor_chain(length: int) -> float:
    """A forked process that writes its line, and one durable row, for each step: milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        db = sqlite3.connect(Path(folder) / "floor.db", isolation_level=None)
        db.execute("pragma journal_mode=wal")
        db.execute("pragma synchronous=full")
        db.execute("create table step (id integer primary key, state text)")
        path = str(Path(folder) / "lines")
        began = time.perf_counter()
        for i in range(length):
            pid = os.fork()
            if pid == 0:
                file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                os.write(file, f"{time.time()}\n".encode())
                os._exit(0)
            os.waitpid(pid, 0)
            db.execute("insert into step values (?, 'succeeded')", (i,))
        took = time.perf_counter() - began
        db.close()
    return took / length * 1000


def table(bench: Bench) -> list[dict[str, Any]]:
    """Medians by row and engine."""
    rows = []
    for row, by_engine in bench.found.items():
        general = row.replace(str(bench.chain), "{n}").replace(str(bench.fan), "{n}")
        target = TARGETS.get(general, "–")
        rows.append(
            {"row": row, "target": target, "floor": bench.floors.get(row),
             **{name: statistics.median(values) for name, values in by_engine.items()}}
        )  # fmt: skip
    return rows


def show(rows: list[dict[str, Any]], engines: list[str]) -> None:
    print("\n| work | " + " | ".join(engines) + " | floor | target |")
    print("| --- | " + "---: | " * (len(engines) + 1) + "--- |")
    for row in rows:
        cells = [f"{row[name]:,.3g}" if row.get(name) is not None else "–" for name in [*engines, "floor"]]
        print(f"| {row['row']} | " + " | ".join(cells) + f" | {row['target']} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--only", default=",".join(ROWS))
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--rounds", type=int)
    parser.add_argument(
        "--merge", action="store_true", help="Keep rows and engines of the last results that are not measured now."
    )
    options = parser.parse_args()
    only, names = options.only.split(","), options.engines.split(",")
    if unknown := (set(only) - set(ROWS)) | (set(names) - set(ENGINES)):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="noria-bench-") as folder:
        bench = Bench(Path(folder), names, fast=options.fast, rounds=options.rounds)
        versions = {engine.name: engine.version() for engine in bench.engines}
        try:
            for engine in bench.engines:
                engine.start()
            for row in only:
                print(row, flush=True)
                {"chain": chain, "fan": fan, "trigger": trigger, "cached": cached, "memory": memory}[row](bench)
        finally:
            for engine in bench.engines:
                engine.stop()
    rows = table(bench)
    if options.merge and RESULTS.exists():
        before = json.loads(RESULTS.read_text())
        versions = {**before["versions"], **versions}
        now = {row["row"]: {k: v for k, v in row.items() if v is not None} for row in rows}
        rows = [{**row, **now.pop(row["row"], {})} for row in before["rows"]] + list(now.values())
    show(rows, [name for name in ENGINES if any(name in row for row in rows)])
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps({"at": time.strftime("%Y-%m-%d"), "machine": machine, "versions": versions, "rows": rows}, indent=1)
        + "\n"
    )


if __name__ == "__main__":
    main()
