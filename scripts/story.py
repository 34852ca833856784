"""A small team's week of work, put into a server by its API: runs that learn, one that diverges, one that still runs, a model with three
versions, traces, a saved view. What the pictures of the pages and their browser tests show."""

from __future__ import annotations

import json
import math
import random
import struct
import time
import zlib
from typing import Any

import httpx

NAMES = ["bold fox", "quiet owl", "amber lynx", "late heron", "brisk otter", "pale moth", "stern ibis", "calm newt", "odd wren",
         "keen stoat", "warm vole", "shy hare"]  # fmt: skip
STEPS = 120
MODEL = "churn"
DIFF = "\n".join(
    [
        "diff --git a/train.py b/train.py", "--- a/train.py", "+++ b/train.py", "@@ -12,7 +12,8 @@ def main(argv: list[str]) -> None:",
        "     frame = load('customers@4')", "-    model = fit(frame, depth=2)", "+    model = fit(frame, depth=3)",
        "+    model.calibrate(frame.sample(0.1))", "     report(model)", "diff --git a/features.py b/features.py", "--- a/features.py",
        "+++ b/features.py", "@@ -1,2 +1,3 @@", " import numpy as np", "+import pandas as pd", " TENURE_MAX = 72", "",
    ]
)  # fmt: skip
PACKAGES = (
    "catboost==1.2.8\nmlflow==3.4.0\nnumpy==2.3.3\npandas==2.3.2\npyarrow==21.0.0\nscikit-learn==1.7.2\nscipy==1.16.1\n"
)
REPORT = """# Churn, week 12

The model is **better on every slice** than the champion.

| slice | AUC | customers |
|---|---|---|
| prepaid | 0.91 | 18,204 |
| contract | 0.88 | 42,010 |

- calibrated on a tenth of the data
- `tenure` still carries most of the signal
"""
SIGNATURE = [
    {"type": "long", "name": "tenure", "required": True}, {"type": "double", "name": "monthly_charge", "required": True},
    {"type": "string", "name": "contract", "required": True}, {"type": "boolean", "name": "paperless", "required": False},
]  # fmt: skip
MLMODEL = """flavors:
  python_function:
    loader_module: mlflow.sklearn
    model_path: model.skops
    python_version: 3.12.4
  sklearn:
    serialization_format: skops
    sklearn_version: 1.7.2
saved_input_example_info:
  artifact_path: input_example.json
  type: dataframe
  pandas_orient: split
signature:
  inputs: '{inputs}'
  outputs: '[{{"type": "tensor", "tensor-spec": {{"dtype": "float64", "shape": [-1]}}}}]'
  params: null
"""
EXAMPLE = {
    "columns": ["tenure", "monthly_charge", "contract", "paperless"],
    "data": [[3, 71.35, "monthly", True], [48, 20.05, "two years", False]],
}


class Story:
    """Ids of what was made."""

    def __init__(self) -> None:
        self.experiment = ""
        self.runs: list[str] = []
        self.full = ""  # the run that has everything
        self.diverged = ""
        self.running = ""
        self.view = ""
        self.trace = "tr-" + "5a" * 16


def tell(url: str) -> Story:
    """Fill the server at `url`. It needs no account: the server must be one that trusts this machine."""
    story, dice, now = Story(), random.Random(7), int(time.time() * 1000)
    with httpx.Client(base_url=url, timeout=60) as http:
        dataset, handle = _dataset(http)
        for i, name in enumerate(NAMES):
            story.runs.append(_run(http, i, name, now - (len(NAMES) - i) * 5_400_000, dice, handle))
        story.experiment = http.get(f"/api/v1/runs/{story.runs[0]}").json()["experiment_id"]
        story.full, story.diverged, story.running = story.runs[8], story.runs[3], story.runs[11]
        _files(http, story.full, dice)
        _console(http, story.full)
        _system(http, story.full, now - 4 * 5_400_000, dice)
        _model(http, story, dataset, dice)
        _traces(http, story, now)
        spec = {
            "cols": "name,status,metrics.val/loss,metrics.auc,params.lr,params.optimizer",
            "pin": "metrics.val/loss",
            "sort": "metrics.val/loss:asc",
        }
        made = http.post(
            "/api/v1/views", json={"name": "least loss", "scope": story.experiment, "is_shared": True, "spec": spec}
        )
        story.view = str(_json(made)["id"])
    return story


def _json(answer: httpx.Response) -> Any:
    assert answer.is_success, f"{answer.request.url}: {answer.status_code} {answer.text[:500]}"
    return answer.json()


def _dataset(http: httpx.Client) -> tuple[str, str]:
    """Id and handle of the newest version of a dataset that is here; empty when there is none."""
    found = http.get("/api/v1/datasets", params={"limit": 1}).json()["items"]
    if not found:
        return "", ""
    version = http.get(f"/api/v1/datasets/{found[0]['name']}/versions", params={"limit": 1}).json()["items"][0]
    return version["id"], f"{found[0]['name']}@{version['number']}"


def _run(http: httpx.Client, i: int, name: str, began: int, dice: random.Random, data: str) -> str:
    tags = {
        "mlflow.user": ["ada", "bo", "chen"][i % 3], "mlflow.source.name": "train.py", "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": f"{4 + i % 5}f1c2ad8e09b77ac0c1d2e3f4a5b6c7d8e9f0a1b", "mlflow.source.git.branch": "main",
        "mlflow.source.git.repoURL": "https://git.example/churn.git", "team": "retention", "stage": ["probe", "candidate"][i % 2],
    }  # fmt: skip
    if i == 8:
        tags |= {"mlflow.source.git.dirty": "true", "noria.argv": json.dumps(["python", "train.py", "--depth", "3"]),
                 "mlflow.note.content": "Calibrated; candidate for the end of the quarter."}  # fmt: skip
    if i == 8 and data:
        tags["noria.dataset_version"] = data
    body = {"experiment": "churn", "name": name, "tags": tags, "started_at_ms": began}
    run = str(_json(http.post("/api/v1/runs", json=body))["id"])
    rate, optimizer = 10 ** dice.uniform(-4, -1), ["adam", "sgd", "lion"][i % 3]
    params = {
        "lr": f"{rate:.5f}",
        "optimizer": optimizer,
        "depth": str(2 + i % 4),
        "dropout": f"{0.1 * (i % 4):.1f}",
        "seed": "7",
    }
    metrics = []
    best = 0.25 + abs(math.log10(rate) + 2.5) / 6
    for step in range(STEPS if i != 11 else 47):
        wave = math.exp(-step / (14 + 3 * i))
        noise = dice.gauss(0, 0.012)
        loss: Any = best + (0.9 - best) * wave + noise
        held: Any = best + 0.04 + (0.85 - best) * wave + noise * 1.7 + max(0, step - 90) * 0.0006
        if i == 3 and step > 60:
            held = ["NaN", "Infinity"][step % 2] if step < 70 else "NaN"
        if i == 5 and step == STEPS - 1:
            held = "Infinity"
        if i == 6 and step == STEPS - 1:
            held = "-Infinity"
        at = began + 1000 + step * 9_000
        metrics += [
            {"key": "train/loss", "value": loss, "timestamp": at, "step": step},
            {"key": "val/loss", "value": held, "timestamp": at, "step": step},
        ]
        if step % 5 == 0 and i != 7:
            metrics.append({"key": "auc", "value": 0.95 - best / 3 - 0.3 * wave + noise, "timestamp": at, "step": step})
    _json(
        http.post(
            "/api/2.0/mlflow/runs/log-batch",
            json={"run_id": run, "metrics": metrics, "params": [{"key": k, "value": v} for k, v in params.items()]},
        )
    )
    if i != 11:
        status = "FAILED" if i == 3 else "KILLED" if i == 7 else "FINISHED"
        _json(http.patch(f"/api/v1/runs/{run}", json={"status": status, "ended_at_ms": began + 1000 + STEPS * 9_000}))
    return run


def _put(http: httpx.Client, run: str, path: str, content: bytes) -> None:
    _json(http.put(f"/api/v1/runs/{run}/artifacts/content", params={"path": path}, content=content))


def _files(http: httpx.Client, run: str, dice: random.Random) -> None:
    rows = ["id,contract,tenure,score,left"]
    rows += [
        f"{i},{['monthly', 'one year', 'two years'][i % 3]},{dice.randrange(72)},{dice.random():.4f},{i % 2}"
        for i in range(300)
    ]
    report = {
        "auc": 0.9081,
        "log_loss": 0.3127,
        "slices": {"prepaid": {"auc": 0.91}, "contract": {"auc": 0.88}},
        "warnings": [],
    }
    for path, content in {
        "report.md": REPORT.encode(), "predictions.csv": "\n".join(rows).encode(), "plots/confusion.png": picture(),
        "report.json": json.dumps(report).encode(), "model.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><circle r='4'/></svg>",
        "source/uncommitted.diff": DIFF.encode(), "environment/packages.txt": PACKAGES.encode(), "weights.bin": dice.randbytes(2048),
    }.items():  # fmt: skip
        _put(http, run, path, content)


def picture(side: int = 320) -> bytes:
    """A confusion matrix as PNG, without a library."""
    counts = [[212, 14, 3], [22, 187, 11], [5, 9, 240]]
    lines = bytearray()
    for y in range(side):
        lines.append(0)
        for x in range(side):
            share = counts[min(2, y * 3 // side)][min(2, x * 3 // side)] / 240
            edge = x * 3 % side < 4 or y * 3 % side < 4
            lines += bytes((255, 255, 255)) if edge else bytes(int(255 - c * share) for c in (230, 130, 40))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(lines))) + chunk(b"IEND", b"")


def _console(http: httpx.Client, run: str) -> None:
    lines = ["reading customers@4: 60 214 rows", "WARNING: 12 rows have no tenure; they are left out"]
    lines += [
        f"epoch {i:3}  loss {0.9 * math.exp(-i / 40) + 0.3:.4f}  val {0.92 * math.exp(-i / 38) + 0.33:.4f}"
        for i in range(STEPS)
    ]
    lines += [
        "ERROR: could not write /tmp/plot.svg: read-only file system",
        "calibrated on 6 021 rows",
        "done in 18 min 4 s",
        "",
    ]
    _json(http.post(f"/api/v1/runs/{run}/logs", json={"text": "\n".join(lines), "offset": 0}))


def _system(http: httpx.Client, run: str, began: int, dice: random.Random) -> None:
    points = []
    for i in range(108):
        at = began + i * 10_000
        for key, value in {
            "system/cpu_utilization_percentage": 60 + 30 * math.sin(i / 9) + dice.gauss(0, 4),
            "system/system_memory_usage_megabytes": 2_400 + 14 * i, "system/network_receive_megabytes": i * 0.6,
            "system/gpu_0_utilization_percentage": max(0, min(100, 88 + dice.gauss(0, 7))),
            "system/gpu_0_memory_usage_megabytes": 11_264 + dice.gauss(0, 60), "system/disk_usage_megabytes": 48_000 + 3 * i,
        }.items():  # fmt: skip
            points.append({"key": key, "value": value, "timestamp": at, "step": i})
    for at in range(0, len(points), 1000):
        _json(http.post("/api/2.0/mlflow/runs/log-batch", json={"run_id": run, "metrics": points[at : at + 1000]}))


def _model(http: httpx.Client, story: Story, dataset: str, dice: random.Random) -> None:
    builders = (story.runs[1], story.runs[4], story.full)
    weights = dice.randbytes(40_000)
    for number, run in enumerate(builders, 1):
        signature = SIGNATURE if number > 1 else SIGNATURE[:3]
        packages = PACKAGES if number > 1 else PACKAGES.replace("scikit-learn==1.7.2", "scikit-learn==1.7.1")
        for path, content in {
            "MLmodel": MLMODEL.format(inputs=json.dumps(signature)).encode(), "input_example.json": json.dumps(EXAMPLE).encode(),
            "requirements.txt": packages.encode(), "model.skops": weights, "README.md": REPORT.encode(),
        }.items():  # fmt: skip
            _put(http, run, f"model/{path}", content)
    about = "Who is about to leave, from contract and use."
    _json(http.post("/api/v1/models", json={"name": MODEL, "description": about, "tags": {"team": "retention"}}))
    said = ("The first that was good enough.", "", "Calibrated, deeper trees.")
    for number, run in enumerate(builders, 1):
        body = {
            "source": f"runs:/{run}/model",
            "run_id": run,
            "tags": {"team": "retention"},
            "description": said[number - 1],
        }
        _json(http.post(f"/api/v1/models/{MODEL}/versions", json=body))
        metrics = {
            "auc": 0.861 + 0.014 * number,
            "log_loss": 0.371 - 0.02 * number,
            "recall": (0.71, 0.73, 0.725)[number - 1],
        }
        slices = {f"contract={c}": {k: v * 0.98 for k, v in metrics.items()} for c in ("monthly", "one year", "two years")}
        measured = {"dataset_version": dataset or "d" * 32, "split": "test", "metrics": metrics, "slices": slices}
        _json(http.post(f"/api/v1/models/{MODEL}/versions/{number}/evaluations", json=measured))
    for number, alias, reason in (
        (1, "champion", "There was none."), (2, "challenger", "Better recall."), (2, "champion", "Won for two weeks."),
        (3, "challenger", "Calibrated."),
    ):  # fmt: skip
        known = {a["name"]: a["generation"] for a in http.get(f"/api/v1/models/{MODEL}").json()["model"]["aliases"]}
        wish = {"version": number, "expect": known.get(alias, 0), "reason": reason}
        _json(http.put(f"/api/v1/models/{MODEL}/aliases/{alias}", json=wish))
        time.sleep(1.1)  # the timeline has something to tell apart
    limits = {"content": "Knows **nothing** of customers younger than a month.", "expect": 0}
    _json(http.put(f"/api/v1/models/{MODEL}/versions/3/card/limitations", json=limits))


QUESTION, ANSWER = "Can I return an opened router?", "Yes, within 30 days, if nothing is missing from the box."
USAGE = {"input_tokens": 812, "output_tokens": 64, "total_tokens": 876}
# name, id, parent, start, end, attributes
SPANS: list[tuple[str, str, str, int, int, dict[str, Any]]] = [
    ("answer", "1", "", 0, 1500, {"mlflow.spanInputs": QUESTION, "mlflow.spanOutputs": ANSWER}),
    ("retrieve", "2", "1", 20, 400, {"mlflow.spanType": "RETRIEVER", "mlflow.spanInputs": QUESTION,
                                     "mlflow.spanOutputs": [{"page_content": "Opened goods may be returned within 30 days…"}]}),
    ("embed", "3", "2", 30, 130, {"mlflow.spanType": "EMBEDDING"}),
    ("chat", "4", "1", 420, 1480, {"mlflow.spanType": "CHAT_MODEL", "model": "small-model",
                                   "mlflow.spanInputs": {"messages": [{"role": "user", "content": QUESTION}]},
                                   "mlflow.spanOutputs": {"choices": [{"message": {"role": "assistant", "content": ANSWER}}]}}),
]  # fmt: skip


def _traces(http: httpx.Client, story: Story, now: int) -> None:
    spans = []
    for i in range(8):
        trace, base, status = (
            story.trace.removeprefix("tr-") if i == 0 else f"{i:032x}",
            now - 600_000 + i * 4_000,
            2 if i == 5 else 1,
        )
        for name, id_, parent, start, end, attributes in SPANS:
            written = [
                {"key": k, "value": _text(v)} for k, v in attributes.items() if status == 1 or k != "mlflow.spanOutputs"
            ]
            if name == "chat":
                counts = [{"key": k, "value": {"intValue": str(v)}} for k, v in USAGE.items()]
                written.append({"key": "mlflow.chat.tokenUsage", "value": {"kvlistValue": {"values": counts}}})
            spans.append({
                "traceId": trace, "spanId": id_ * 16, "parentSpanId": parent * 16, "name": name, "kind": 1, "attributes": written,
                "startTimeUnixNano": str((base + start) * 1_000_000), "endTimeUnixNano": str((base + end + 37 * i) * 1_000_000),
                "status": {"code": status if name in ("answer", "chat") else 1},
            })  # fmt: skip
    body = {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"spans": spans}]}]}
    headers = {"content-type": "application/json", "x-mlflow-experiment-id": story.experiment}
    assert http.post("/v1/traces", content=json.dumps(body), headers=headers).is_success
    source = {"source_type": "HUMAN", "source_id": "ada"}
    said = {"assessment_name": "correct", "feedback": {"value": True}, "rationale": "as the terms say", "source": source}
    _json(http.post(f"/api/3.0/mlflow/traces/{story.trace}/assessments", json={"assessment": said}))


def _text(value: Any) -> dict[str, str]:
    return {"stringValue": value if isinstance(value, str) else json.dumps(value)}
