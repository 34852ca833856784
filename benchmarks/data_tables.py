"""What a thousand changed rows of a table cost: time, bytes and memory, beside Lance and beside the same Parquet file as a file.

    python -m benchmarks.data_tables [--rows 10000000] [--json FILE]

Ten million rows of twenty columns; then fifteen columns of a thousand scattered rows change. Noria is given the whole new file and
finds them by key; Lance is given the thousand rows (`merge_insert`), which is less to do. Every tool's second version is compared
with the file, by the sum of each column. Lance lives in .venv/clients/tables (see tests/repository/lake_tables.py).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from benchmarks.data import ROOT, TIMEOUT_S, size_of

LANCE = ROOT / ".venv" / "clients" / "tables" / "bin" / "python"
STEP_ROWS = 500_000
CHANGED = 1_000
FLOATS, INTEGERS = 15, 3


def write(target: Path, rows: int, *, changed: bool) -> pa.Table:
    """The table as a file; returns the rows that change, as they are after it."""
    rng, where = np.random.default_rng(0), np.sort(np.random.default_rng(9).choice(rows, CHANGED, replace=False))
    out, moved = None, []
    for at in range(0, rows, STEP_ROWS):
        count = min(STEP_ROWS, rows - at)
        columns = {"id": np.arange(at, at + count)}
        columns |= {f"f{i}": rng.random(count) for i in range(FLOATS)}
        columns |= {f"n{i}": rng.integers(0, 1000, count) for i in range(INTEGERS)}
        columns["origin"] = np.array(["JFK", "LGA", "EWR"])[rng.integers(0, 3, count)]
        mine = where[(where >= at) & (where < at + count)] - at
        for i in range(FLOATS):
            columns[f"f{i}"][mine] += changed
        table = pa.table(columns)
        moved.append(table.take(mine))
        out = out or parquet.ParquetWriter(target, table.schema, compression="zstd", use_content_defined_chunking=True)
        out.write_table(table)
    assert out is not None
    out.close()
    return pa.concat_tables(moved)


def run(*command: str, env: dict[str, str] | None = None) -> dict[str, float]:
    """Seconds and the most memory of a process and what it starts."""
    begun = time.perf_counter()
    done = subprocess.Popen(command, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    told = done.stdout.read() if done.stdout else b""
    _, status, usage = os.wait4(done.pid, 0)
    done.returncode = os.waitstatus_to_exitcode(status)
    assert done.returncode == 0, told[-800:].decode()
    assert time.perf_counter() - begun < TIMEOUT_S
    return {"s": time.perf_counter() - begun, "mb": usage.ru_maxrss / 1024}


class Noria:
    """The command line without a server."""

    def __init__(self, home: Path, *words: str) -> None:
        self.home, self.words = home, words
        self.env = {"NORIA_HOME": str(home), "PYTHONPATH": str(ROOT)}

    def call(self, *words: str) -> dict[str, float]:
        return run(sys.executable, "-m", "noria.cli.main", "data", *words, env=self.env)

    def commit(self, file: Path) -> dict[str, float]:
        return self.call("commit", "d", str(file), *self.words)

    def sums(self, folder: Path) -> dict[str, float]:
        self.call("checkout", "d", str(folder / "out"))
        return sums(folder / "out" / "data.parquet")


def sums(file: Path) -> dict[str, float]:
    """The sum of each column of numbers, whatever the order of rows."""
    import duckdb

    names = [f.name for f in parquet.read_schema(file) if not pa.types.is_string(f.type)]
    (found,) = duckdb.sql(f"select {', '.join(f'fsum({n}::double)' for n in names)} from '{file}'").fetchall()
    return {name: round(value, 3) for name, value in zip(names, found, strict=True)}


_LANCE = """
import sys, lance, pyarrow.parquet as pq
store, first, rows, at = sys.argv[1:]
if at == "1":
    file = pq.ParquetFile(first)
    batches = (b for g in range(file.num_row_groups) for b in file.iter_batches(65536, row_groups=[g]))
    lance.write_dataset(batches, store, schema=file.schema_arrow)
else:
    lance.dataset(store).merge_insert("id").when_matched_update_all().execute(pq.read_table(rows))
"""


def measure(rows: int, folder: Path) -> dict[str, dict[str, float]]:
    first, second, few = folder / "v1.parquet", folder / "v2.parquet", folder / "rows.parquet"
    write(first, rows, changed=False)
    parquet.write_table(write(second, rows, changed=True), few)
    (folder / "table").mkdir()
    (folder / "file").mkdir()
    table, plain = Noria(folder / "table", "--table", "--key", "id"), Noria(folder / "file")

    def lance(at: str) -> dict[str, float]:
        return run(str(LANCE), "-c", _LANCE, str(folder / "lance"), str(first), str(few), at)

    found: dict[str, dict[str, float]] = {"file of the table": {"size_mb": first.stat().st_size / 1e6}}
    for name, home, commit in (
        ("noria table", folder / "table", [lambda: table.commit(first), lambda: table.commit(second)]),
        ("lance", folder / "lance", [lambda: lance("1"), lambda: lance("2")]),
        ("noria file", folder / "file", [lambda: plain.commit(first), lambda: plain.commit(second)]),
    ):
        if name == "lance" and not LANCE.exists():
            continue
        os.sync()
        one = commit[0]()
        before = size_of(home)
        os.sync()
        two = commit[1]()
        found[name] = {
            "first_s": one["s"], "first_mb": before / 1e6, "memory_mb": max(one["mb"], two["mb"]), "change_s": two["s"],
            "change_mb": (size_of(home) - before) / 1e6,
        }  # fmt: skip
    found["noria table"] |= {
        "same_s": table.commit(second)["s"],
        "diff_s": table.call("diff", "d", "1", "2", "--rows")["s"],
        "empty_diff_s": table.call("diff", "d", "2", "2", "--rows")["s"],
    }
    assert table.sums(folder) == sums(second), "the rows came back different"
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="noria-bench-", dir=ROOT / ".venv") as folder:
        found = measure(asked.rows, Path(folder))
    for name, row in found.items():
        print(f"{name:18}" + "  ".join(f"{k} {v:,.2f}" for k, v in row.items()), flush=True)
    if asked.json:
        versions = {"python": platform.python_version(), "machine": platform.machine(), "cpus": os.cpu_count(),
                    "load": os.getloadavg(), "own_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}  # fmt: skip
        told = {"at": time.strftime("%Y-%m-%d"), **versions, "rows": asked.rows, "results": found}
        asked.json.write_text(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
