"""What logging costs a training step: `noria.log()` beside MLflow's client, with a server that answers and one that does not.

    make bench T=client                     about two minutes
    python -m benchmarks.client --steps 500

A step is a millisecond of arithmetic, then one call that logs three numbers; only the call is timed. Each row is a process of its
own, in turns (noria, mlflow, noria, …); a row's figure is the median of its processes. After each process with a server, the
server is asked how many points it has: fewer than were logged ends the run. Noria is logged to a `noria server`, MLflow to an
`mlflow server`; the dead server is an address nobody listens at.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # `python benchmarks/client.py`, as the Makefile runs it
    sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.servers import ROOT, Mlflow, Noria, environment, free_port, version

SILENT_S = 10.0  # how long a call of a client is waited for
STEP = """
import json, math, sys, time
url, steps = sys.argv[1], int(sys.argv[2])
took = []
def work():
    until = time.perf_counter() + 0.001
    x = 0.0
    while time.perf_counter() < until:
        x += math.sqrt(x + 1)
def measured(log):
    for i in range(steps + 50):
        work()
        values = {"loss": 1 / (i + 1), "accuracy": i / (steps + 50), "rate": 0.1}
        began = time.perf_counter()
        log(values, i)
        took.append(time.perf_counter() - began)
"""
NORIA = (
    STEP
    + """
import noria
began = time.perf_counter()
run = noria.init("bench", url=url, console=False, system_metrics=False)
init_s = time.perf_counter() - began
measured(noria.log)
began = time.perf_counter()
run.finish()
print(json.dumps({"run": run.id, "took": took[50:], "init_s": init_s, "finish_s": time.perf_counter() - began}))
"""
)
MLFLOW = (
    STEP
    + """
import mlflow
mlflow.set_tracking_uri(url)
began = time.perf_counter()
run = mlflow.start_run()
init_s = time.perf_counter() - began
is_synchronous = sys.argv[3] == "sync"
measured(lambda values, i: mlflow.log_metrics(values, step=i, synchronous=is_synchronous))
began = time.perf_counter()
mlflow.flush_async_logging()
mlflow.end_run()
print(json.dumps({"run": run.info.run_id, "took": took[50:], "init_s": init_s, "finish_s": time.perf_counter() - began}))
"""
)
IMPORTS = {
    "start of Python": ["-c", "pass"], "import noria": ["-c", "import noria"],
    "import noria; noria.init": ["-c", "import noria; noria.init"],
    "noria --help": ["-m", "noria.cli.main", "--help"], "import mlflow": ["-c", "import mlflow"],
}  # fmt: skip


def run(script: str, *args: str, home: Path) -> dict[str, Any] | None:
    """What a process of its own says; None when it did not get there in time."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("NORIA_", "MLFLOW_"))}
    settings = plain | {"PYTHONPATH": str(ROOT), "NORIA_JOURNALS": str(home / "journals"), "NORIA_HOME": str(home / "none")}
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script, *args], capture_output=True, text=True, env=settings, cwd=home,
            timeout=120 if args[-1] != "dead" else SILENT_S + 60, check=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def points_of(server: Noria | Mlflow, run_id: str) -> int:
    import urllib.request

    url = f"http://127.0.0.1:{server.port}/api/2.0/mlflow/metrics/get-history?run_id={run_id}&metric_key=loss"
    with urllib.request.urlopen(url, timeout=60) as answer:
        return len(json.load(answer)["metrics"])


def quantiles(took: list[float]) -> tuple[float, float, float]:
    """Median, 99th percentile and longest, in µs."""
    found = sorted(t * 1e6 for t in took)
    return statistics.median(found), found[int(len(found) * 0.99)], found[-1]


def row(name: str, runs: list[dict[str, Any] | None]) -> list[str]:
    whole = [r for r in runs if r]
    if not whole:
        return [name, f"no call returned in {SILENT_S:.0f} s", "", "", "", ""]
    medians, tails, longest = zip(*(quantiles(r["took"]) for r in whole), strict=True)
    figures = [f"{statistics.median(column):,.0f}" for column in (medians, tails, longest)]
    return [
        name,
        *figures,
        f"{statistics.median(r['init_s'] for r in whole):.2f}",
        f"{statistics.median(r['finish_s'] for r in whole):.2f}",
    ]


def starts(name: str, rounds: int) -> tuple[float, float]:
    """Median and least of what a process takes, in ms."""
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, *IMPORTS[name]], check=True, stdout=subprocess.DEVNULL, cwd=ROOT, stderr=subprocess.DEVNULL,
            env={k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
        )  # fmt: skip
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took), min(took)


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, help="MLflow's workers; its default when not given")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "client.json")
    chosen = parser.parse_args()
    steps = str(chosen.steps)
    found: dict[str, list[dict[str, Any] | None]] = {}
    with tempfile.TemporaryDirectory(prefix="noria-bench-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        noria, mlflow = Noria(home / "noria"), Mlflow(home / "mlflow", chosen.workers)
        about = {
            "date": time.strftime("%Y-%m-%d", time.gmtime()), "cores": os.cpu_count(), "load_before": round(os.getloadavg()[0], 1),
            "mlflow": version(environment("server", "mlflow"), "mlflow"), "steps": chosen.steps,
        }  # fmt: skip
        print(json.dumps(about), flush=True)
        try:
            noria.start()
            mlflow.start()
            live = {server.name: f"http://127.0.0.1:{server.port}" for server in (noria, mlflow)}
            dead = f"http://127.0.0.1:{free_port()}"
            for _ in range(chosen.rounds):
                for name, server, script, args in (
                    ("noria.log, live server", noria, NORIA, (live["noria"], steps)),
                    ("mlflow.log_metrics, live server", mlflow, MLFLOW, (live["mlflow"], str(chosen.steps // 10), "sync")),
                    ("mlflow.log_metrics, asynchronous, live server", mlflow, MLFLOW, (live["mlflow"], steps, "async")),
                ):
                    said = run(script, *args, home=home)
                    assert said is not None, name
                    there, wanted = points_of(server, said["run"]), len(said["took"]) + 50
                    assert there == wanted, f"{name}: {there} of {wanted} points arrived"
                    found.setdefault(name, []).append(said)
                found.setdefault("noria.log, dead server", []).append(run(NORIA, dead, steps, home=home))
            found["mlflow.log_metrics, dead server"] = [run_silent(dead, home)]
        finally:
            noria.stop()
            mlflow.stop()
    head = ["call", "median, µs", "p99, µs", "longest, µs", "begin, s", "end, s"]
    rows = [row(name, runs) for name, runs in found.items()]
    print("\n" + table(head, rows))
    took = {name: starts(name, 9) for name in IMPORTS}
    base = took["start of Python"]
    more = [[name, f"{m:.0f}", f"{least:.0f}", f"{m - base[0]:.0f}"] for name, (m, least) in took.items()]
    print("\n" + table(["process", "median, ms", "least, ms", "over Python, ms"], more))
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps({"machine": about, "calls": rows, "starts": more}, indent=2) + "\n")


def run_silent(dead: str, home: Path) -> dict[str, Any] | None:
    """MLflow's first call to a server that does not answer, waited for `SILENT_S`."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("NORIA_", "MLFLOW_"))}
    try:
        subprocess.run([sys.executable, "-W", "ignore", "-c", MLFLOW, dead, "1", "sync"], capture_output=True, env=plain, cwd=home,
                       timeout=SILENT_S, check=False)  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
    raise AssertionError("something answers at an address where nobody listens")


if __name__ == "__main__":
    main()
