"""Pipelines out of a notebook, in a real kernel: cells become the code that a worker imports."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.mlflow_clients import python_of
from tests.pipelines.processes import ROOT, Server, ended

SETTING = """
import math, pathlib
import numbers as counted
from collections import Counter
from beside import doubled
import noria

RATE = 0.5
LABELS = {"a": 1, "b": [2, 3]}
FOLDER = pathlib.Path("data")
"""
STEPS = """
class Model:
    def __init__(self, weight): self.weight = weight

def helper(x):
    return doubled(x) * RATE

@noria.step(retries=1)
def train(rows: int, labels: dict = LABELS) -> Model:
    frame = "a local of the same name as what the notebook holds"
    assert isinstance(rows, counted.Number) and str(FOLDER) == "data"
    print("training", Counter("aab")["a"])
    return Model(helper(rows) + labels["b"][0])

@noria.step
def score(model: Model) -> float:
    return math.floor(model.weight)
"""
PIPELINE = """
@noria.pipeline(name="from-cells")
def cells(rows: int = 10):
    return {"score": score(train(rows))}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server") / "home")
    yield made
    made.stop()


def run(server: Server, folder: Path, *cells: str) -> list[str]:
    """What each cell of a notebook in `folder` says."""
    (folder / "beside.py").write_text("def doubled(x):\n    return 2 * x\n")
    env = {**os.environ, "NORIA_URL": server.url, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder / ".ipython")}
    driver = str(Path(__file__).parent / "notebook_cells.py")
    done = subprocess.run(
        [str(python_of("notebook")), driver, json.dumps(cells)],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_a_notebook_runs_and_registers_a_pipeline(server: Server, tmp_path: Path) -> None:
    """Run twice, the second time after a cell was changed: the worker gets what the notebook holds now."""
    with server.worker("notebooks"), server.api() as api:
        said = run(
            server, tmp_path, SETTING, "frame = object()\nprint('not run again')", STEPS, PIPELINE,
            "done = cells.run(rows=3)", "print(done['state'], done['outputs']['score']['value'])",
            "def helper(x):\n    return 100.0", "done = cells.run(rows=3)\nprint(done['outputs']['score']['value'])",
        )  # fmt: skip
        assert said[5].strip() == "succeeded 5", said
        assert said[7].strip().endswith("102"), said
        assert api.get("/pipelines/from-cells")["version"] == 2
        # Registered: it runs without the notebook, which has ended.
        again = ended(api, api.post("/pipelines/from-cells/runs", {"params": {"rows": 1}})["id"])
    assert again["run"]["state"] == "succeeded"
    assert again["run"]["outputs"]["score"]["value"] == 102
    assert not any("not run again" in str(step) for step in again["steps"])


def test_what_cannot_be_captured_is_named(server: Server, tmp_path: Path) -> None:
    wrong = {
        "frame = object()\n@noria.step\ndef train(rows):\n    return str(frame)": "train uses 'frame', a object that the notebook holds",
        "@noria.step\ndef train(rows):\n    !ls\n    return 1": "train uses a magic of the notebook",
        "exec('@noria.step\\ndef train(rows):\\n    return 1')": "The source of train, which cells uses, is not known",
        "def plain(x):\n    return x\ng = plain\n@noria.step\ndef train(rows):\n    return g(rows)": (
            "g, which train uses, is another name"
        ),
        "def maker(n):\n    def add(x):\n        return x + n\n    return add\nadd = maker(3)\n"
        "@noria.step\ndef train(rows):\n    return add(rows)": "or one that a function made",
        "@noria.step\ndef train(rows):\n    return missing(rows)": "train uses 'missing', which the notebook does not know",
    }
    pipeline = "@noria.pipeline\ndef cells(rows: int = 1):\n    return train(rows)"
    said = run(server, tmp_path, "import noria", pipeline, *(each for cell in wrong for each in (cell, "cells.run()")))
    assert [words in told for words, told in zip(wrong.values(), said[3::2], strict=True)] == [True] * len(wrong), said
