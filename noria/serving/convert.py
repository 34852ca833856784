"""Makes an ONNX file of a scikit-learn model, and says whether its answers are the same: the model's own process, without rights.

    python -m noria.serving.convert FOLDER OUT DIGEST

Writes OUT/verdict.json, and OUT/model.onnx when the answers agree: the same predictions, and numbers within TOLERANCE, on the stored
example and on PROBES rows around it. The node takes OUT once this has ended well, so an ONNX file that is there has passed.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from noria.kernel.processes import die_with_parent
from noria.serving import loader
from noria.serving.intact import require_intact
from noria.serving.rows import Floats, Outputs

PROBES = 1000
TOLERANCE = 1e-5  # of a probability, or relative to a prediction
TIMED = 200  # calls of one row each


class Verdict(Struct, frozen=True, kw_only=True):
    """What came of a conversion. `words` are for people; the rest is what a worker needs to answer without scikit-learn."""

    is_accepted: bool
    words: str
    classes: list[Any] = []
    input_type: str = "float64"
    takes_missing: bool = False  # does the model answer to NaN?


class Refusal(Exception):
    """Why the model is served as it is."""


def convert(folder: Path, out: Path) -> Verdict:
    """Convert, compare, time and write."""
    try:
        verdict, content = _judge(folder)
        (out / "model.onnx").write_bytes(content)
    except Refusal as refusal:
        verdict = Verdict(is_accepted=False, words=f"as it was saved: {refusal}")
    (out / "verdict.json").write_bytes(msgspec.json.encode(verdict))
    return verdict


def _judge(folder: Path) -> tuple[Verdict, bytes]:
    model = loader.load_model(folder)
    if not isinstance(model, loader.SklearnModel) or not model.as_matrix:
        raise Refusal("only scikit-learn models of numbers are converted to ONNX.")
    probes = _probes(model, folder)
    expected = model.predict(probes, len(probes))
    if expected.prediction.ndim != 1:
        raise Refusal("it has several outputs.")
    reasons: list[str] = []
    for input_type in ("float64", "float32"):
        try:
            content = _converted(model, input_type)
            onnx = loader.OnnxModel(model.schema, content, model.classes, input_type, takes_missing=True)
            answered = onnx.predict(probes, len(probes))
        except Exception as error:  # a converter says in its own ways that it cannot
            reasons.append(f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}")
            continue
        difference = _difference(expected, answered)
        if difference > TOLERANCE:
            reasons.append(f"the answers differ by {difference:.1g} on {len(probes)} rows")
            continue
        times = _one_row_s(model, probes) / _one_row_s(onnx, probes)
        words = f"ONNX: answers equal to {difference:.0e} on {len(probes)} rows, {times:.0f}× faster for one row"
        return Verdict(
            is_accepted=True,
            words=words,
            classes=model.classes,
            input_type=input_type,
            takes_missing=_takes_missing(model, probes),
        ), content
    raise Refusal("not as ONNX, because " + reasons[-1].rstrip(".") + ".")


def _converted(model: loader.SklearnModel, input_type: str) -> bytes:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    _take_flags_for_integers()
    kind = DoubleTensorType if input_type == "float64" else FloatTensorType
    options = {id(model.estimator): {"zipmap": False}} if model.classes else None
    made = to_onnx(model.estimator, initial_types=[("x", kind([None, len(model.schema.columns)]))], options=options)
    content: bytes = made.SerializeToString()
    return content


def _take_flags_for_integers() -> None:
    """skl2onnx 1.20 hands flags on as integers (boosted trees), which protobuf 7 refuses. This process does nothing else."""
    from skl2onnx.common import _container as container

    original = container.make_node
    if getattr(original, "takes_flags", False):
        return

    def make_node(*args: Any, **attributes: Any) -> Any:
        plain = {
            k: [int(i) if isinstance(i, bool | np.bool_) else i for i in v] if isinstance(v, list) else v
            for k, v in attributes.items()
        }
        return original(*args, **plain)

    make_node.takes_flags = True  # type: ignore[attr-defined]
    container.make_node = make_node


def _probes(model: loader.SklearnModel, folder: Path) -> Floats:
    """Rows like those that will come: the stored example, and around it by what the model's own scalers know of each column."""
    width = len(model.schema.columns)
    example = loader.example_of(folder, model)
    base = loader.join_matrix([example]) if example is not None else np.zeros((1, width))
    base = np.nan_to_num(base)
    spread = np.maximum(base.std(axis=0), np.abs(base).max(axis=0)) + 1.0
    for _, step in getattr(model.estimator, "steps", []):
        mean, scale = getattr(step, "mean_", None), getattr(step, "scale_", None)
        if isinstance(mean, np.ndarray) and isinstance(scale, np.ndarray) and mean.shape == scale.shape == (width,):
            base, spread = np.vstack([base, mean]), scale
            break
    chance = np.random.default_rng(0)
    rows = base[chance.integers(len(base), size=PROBES)] + spread * chance.normal(scale=1.5, size=(PROBES, width))
    for i, column in enumerate(model.schema.columns):
        if column.kind == "integer":
            rows[:, i] = np.rint(rows[:, i])
        elif column.kind == "boolean":
            rows[:, i] = rows[:, i] > 0
    return np.vstack([base, rows])


def _difference(expected: Outputs, answered: Outputs) -> float:
    """The largest one; infinite when a prediction is another class."""
    if expected.probability is not None:
        if answered.probability is None or expected.prediction.tolist() != answered.prediction.tolist():
            return float("inf")
        return float(np.abs(expected.probability - answered.probability).max())
    if expected.prediction.dtype.kind != "f":
        return 0.0 if expected.prediction.tolist() == answered.prediction.tolist() else float("inf")
    size = np.maximum(np.abs(expected.prediction), 1.0)
    return float((np.abs(expected.prediction - answered.prediction) / size).max())


def _takes_missing(model: loader.SklearnModel, probes: Floats) -> bool:
    """Whether NaN is a value to the model. One that refuses it must refuse it as ONNX too, which would answer anything."""
    row = probes[:1].copy()
    row[0, 0] = np.nan
    try:
        model.predict(row, 1)
    except ValueError:
        return False
    return True


def _one_row_s(model: loader.Model, probes: Floats) -> float:
    return _median_s(lambda i: model.predict(probes[i % len(probes)][None, :], 1))


def _median_s(call: Callable[[int], object]) -> float:
    took = []
    for i in range(TIMED):
        began_s = time.perf_counter()
        call(i)
        took.append(time.perf_counter() - began_s)
    return statistics.median(took)


def main() -> None:
    die_with_parent()
    os.nice(5)  # whoever is being served goes first
    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True  # as in the worker: nothing is added to the model's folder
    folder, out, digest = sys.argv[1:]
    require_intact(Path(folder), digest, folder)
    convert(Path(folder), Path(out))


if __name__ == "__main__":
    main()
