"""Monitoring's engine against NannyML and Evidently, each in a process and an environment of its own, on the same Parquet files.

    make bench T=monitoring                  1,000,000 + 100,000 rows × (20 numbers, 5 columns of words); under 5 minutes
    python -m benchmarks.monitoring --fast   a tenth of it

Four columns truly drift (a mean, a spread, a factor, a mix of words); who finds others, or misses one, is said. Seconds are without imports
and without reading the files, which each reads its own way; the peak of memory is with both. Peers run once, Noria three times (median).
The environments are `.venv/clients/nannyml` (nannyml==0.13.1) and `.venv/clients/drift` (evidently, pandas<3);
a peer that is not there is left out.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # `python benchmarks/monitoring.py`, as the Makefile runs it
    sys.path.insert(0, str(Path(__file__).parent.parent))

ROOT = Path(__file__).parent.parent
DRIFTED = ["c0", "n0", "n1", "n2"]
REPEATS = 3
BLOCK = 64  # rows that the recorder's segments are sketched by when traffic is slow
TIMEOUT_S = 200


def write_data(folder: Path, rows: int) -> None:
    """Two tables and two sets of scores with their truth."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name, n, moved in (("reference", rows, False), ("current", rows // 10, True)):
        rng = np.random.default_rng(1 if moved else 0)
        columns: dict[str, Any] = {f"n{i}": rng.normal(0, 1, n) for i in range(10)}
        columns |= {f"n{i}": rng.lognormal(0, 1, n) for i in range(10, 20)}
        columns |= {f"c{i}": rng.choice([f"w{j}" for j in range(3 + 2 * i)], n) for i in range(5)}
        if moved:
            columns["n0"] = columns["n0"] + 0.3
            columns["n1"] = columns["n1"] * 1.5
            columns["n2"] = rng.normal(0, 1, n) * 1.3
            columns["c0"] = rng.choice(["w0", "w1", "w2"], n, p=[0.2, 0.3, 0.5])
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
        chance = rng.beta(1.5 if moved else 2, 3, n)
        scores = {
            "score": chance**1.3,
            "predicted": (chance**1.3 >= 0.5).astype(int),
            "truth": (rng.random(n) < chance).astype(int),
        }
        pq.write_table(pa.table(scores), folder / f"{name}_scores.parquet")


# --- what each does, in its own process -------------------------------------------------------------------------------


def noria_drift(folder: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    from noria.monitoring.baselines import ROWS_PER_BATCH, Reference, sketch_batches
    from noria.monitoring.drift import matrix
    from noria.monitoring.sketches import Profile

    tables = {n: pq.read_table(folder / f"{n}.parquet") for n in ("reference", "current")}

    def profile(name: str) -> Profile:
        return sketch_batches(tables[name].to_batches(max_chunksize=ROWS_PER_BATCH))

    began = time.perf_counter()
    reference = Reference(sketches=profile("reference").columns)
    kept = time.perf_counter()
    current = profile("current")
    sketched = time.perf_counter()
    columns = matrix(current, reference, alpha=0.01, psi_min=0.02)
    done = time.perf_counter()
    return {
        "full": done - began, "recurring": done - kept, "from sketches": done - sketched,
        "found": sorted(c.column for c in columns if c.is_drifted),
    }  # fmt: skip


def noria_ingest(folder: Path) -> dict[str, Any]:
    """Rows a second into sketches, of the twenty numbers, in blocks."""
    import numpy as np
    import pyarrow.parquet as pq

    from noria.monitoring.tallies import Tally

    table = pq.read_table(folder / "current.parquet")
    names = [n for n in table.column_names if n.startswith("n")]
    rows = np.ascontiguousarray(np.column_stack([table.column(n).to_numpy() for n in names]))  # as a worker's block has them
    found = {}
    for block in (BLOCK, 10_000):
        began = time.perf_counter()
        tally = Tally(names)
        for at in range(0, len(rows), block):
            tally.add_rows(rows[at : at + block])
        assert sum(tally.sketches()["n0"].counts) == len(rows)
        found[f"rows/s in blocks of {block:,}"] = len(rows) / (time.perf_counter() - began)
    return found


def noria_cbpe(folder: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    from noria.monitoring.calibration import calibrate, cells_of

    then, now = (pq.read_table(folder / f"{n}_scores.parquet") for n in ("reference", "current"))
    scores, truth = then["score"].to_numpy(), then["truth"].to_numpy().astype(float)
    asked, said = now["score"].to_numpy(), now["predicted"].to_numpy() == 1
    began = time.perf_counter()
    calibration = calibrate(scores, truth)
    assert calibration is not None
    cells = cells_of(asked, calibration.of(asked), said)
    found = {m: cells.estimate(m).value for m in ("auc", "f1")}
    return {"seconds": time.perf_counter() - began, **found}


def nannyml_drift(folder: Path) -> dict[str, Any]:
    import nannyml
    import pandas as pd

    reference, current = (pd.read_parquet(folder / f"{n}.parquet") for n in ("reference", "current"))
    words = [n for n in reference if n.startswith("c")]
    reference[words], current[words] = reference[words].astype("category"), current[words].astype("category")
    began = time.perf_counter()
    made = nannyml.UnivariateDriftCalculator(
        column_names=list(reference), continuous_methods=["jensen_shannon"], categorical_methods=["jensen_shannon"],
        chunk_size=len(current),
    ).fit(reference)  # fmt: skip
    kept = time.perf_counter()
    frame = made.calculate(current).filter(period="analysis").to_df()
    done = time.perf_counter()
    found = [n for n in reference if bool(frame[n, "jensen_shannon", "alert"].iloc[0])]
    return {"full": done - began, "recurring": done - kept, "found": sorted(found)}


def nannyml_cbpe(folder: Path) -> dict[str, Any]:
    import nannyml
    import pandas as pd

    reference, current = (pd.read_parquet(folder / f"{n}_scores.parquet") for n in ("reference", "current"))
    began = time.perf_counter()
    made = nannyml.CBPE(
        y_pred_proba="score", y_pred="predicted", y_true="truth", metrics=["roc_auc", "f1"], chunk_size=len(current),
        problem_type="classification_binary",
    ).fit(reference)  # fmt: skip
    frame = made.estimate(current.drop(columns="truth")).filter(period="analysis").to_df()
    done = time.perf_counter()
    return {
        "seconds": done - began,
        "auc": float(frame["roc_auc", "value"].iloc[0]),
        "f1": float(frame["f1", "value"].iloc[0]),
    }


def evidently_drift(folder: Path) -> dict[str, Any]:
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    reference, current = (pd.read_parquet(folder / f"{n}.parquet") for n in ("reference", "current"))
    began = time.perf_counter()
    result = Report([DataDriftPreset()]).run(current, reference).dict()
    done = time.perf_counter()
    found = []
    for metric in result["metrics"]:
        config = metric.get("config", {})
        if "column" in config and config.get("threshold") is not None:
            found += [config["column"]] if float(metric["value"]) >= float(config["threshold"]) else []
    return {"full": done - began, "recurring": done - began, "found": sorted(found)}


WORKS = {f.__name__: f for f in (noria_drift, noria_ingest, noria_cbpe, nannyml_drift, nannyml_cbpe, evidently_drift)}
PYTHONS = {
    "noria": Path(sys.executable), "nannyml": ROOT / ".venv/clients/nannyml/bin/python",
    "evidently": ROOT / ".venv/clients/drift/bin/python",
}  # fmt: skip


def run(work: str, folder: Path) -> dict[str, Any] | None:
    """The work in the environment of whom it is of; None when that is not there."""
    python = PYTHONS[work.partition("_")[0]]
    if not python.exists():
        return None
    command = [str(python), __file__, "--work", work, "--data", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"{work} took longer than {TIMEOUT_S} s and was ended\n")
        return None
    if done.returncode:
        sys.stderr.write(f"{work} failed: {done.stderr[-2000:]}\n")
        return None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def median(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        key: statistics.median(f[key] for f in found) if isinstance(value, float | int) else value
        for key, value in found[0].items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="a tenth of the rows")
    parser.add_argument("--work", choices=sorted(WORKS), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        answer = WORKS[options.work](options.data)
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        sys.stdout.write(json.dumps({**answer, "peak_mb": peak_mb}) + "\n")
        return
    rows = 100_000 if options.fast else 1_000_000
    with tempfile.TemporaryDirectory(prefix="noria-bench-") as made:
        folder = Path(made)
        write_data(folder, rows)
        results = {}
        for work in WORKS:
            found = [run(work, folder) for _ in range(REPEATS if work.startswith("noria") else 1)]
            some = [f for f in found if f is not None]
            if some:
                results[work] = median(some)
                sys.stdout.write(f"{work:16} {_line(results[work])}\n")
                sys.stdout.flush()
    missed = {w: sorted(set(DRIFTED) ^ set(r["found"])) for w, r in results.items() if "found" in r}
    results["_"] = {"rows": rows, "found wrongly or missed": missed}
    sys.stdout.write(f"found wrongly or missed: {missed}\n")
    (ROOT / "benchmarks" / "results" / "monitoring.json").write_text(json.dumps(results, indent=1) + "\n")


def _line(result: dict[str, Any]) -> str:
    return "  ".join(
        f"{k} {v:.3f}" if isinstance(v, float) and v < 100 else f"{k} {v:,.0f}" if isinstance(v, float) else f"{k} {v}"
        for k, v in result.items()
    )


if __name__ == "__main__":
    main()
