"""Load an MLflow model directory and answer batches: scikit-learn directly, every other flavour through mlflow.pyfunc.

The direct path skips MLflow (5 s of imports) and pandas where it can: a matrix is used only when, on a few probe rows, the model
gives the same answers for a matrix as for a DataFrame.
"""

from __future__ import annotations

import json
import pickle
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml
from numpy.typing import NDArray

from noria.kernel.errors import Invalid
from noria.serving import invocations
from noria.serving.rows import Column, Floats, Outputs, Rows, Schema, read_schema, unnamed

# Classifiers whose predict is the class of the largest predict_proba: one call gives both.
_ARGMAX = frozenset({
    "LogisticRegression", "LogisticRegressionCV", "RandomForestClassifier", "ExtraTreesClassifier", "DecisionTreeClassifier",
    "GradientBoostingClassifier", "HistGradientBoostingClassifier", "ExtraTreeClassifier", "GaussianNB",
})  # fmt: skip
TIE = 1e-9  # probabilities this close are decided by predict itself
_PROBES = (0.0, 1.0, -1.0, 0.5)


class Model(ABC):
    """A loaded model; each way of loading one says how it predicts."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.as_matrix = False
        self.classes: list[Any] = []
        self.mlflow_version = ""  # which wrote the model, or which answers for it

    def batch(self, parts: list[Rows]) -> Any:
        """One input for the model out of several requests' rows."""
        if self.schema.is_free:
            return parts[0].raw
        if self.as_matrix:
            return join_matrix(parts)
        names = self.schema.names
        columns = [[v for p in parts for v in _column(p, i)] for i in range(len(names))]
        return self._frame(dict(zip(names, columns, strict=True)))

    def _frame(self, columns: dict[str, list[Any]]) -> Any:
        import pandas as pd

        if not self.schema.is_named:
            return np.array(list(columns.values()), dtype=np.float64).T
        kinds = {c.name: c.kind for c in self.schema.columns}
        made = {}
        for name, values in columns.items():
            if kinds[name] == "number":
                made[name] = np.array(values, dtype=np.float64)
            elif kinds[name] == "boolean" and None not in values:
                made[name] = np.array(values, dtype=bool)
            elif kinds[name] == "integer" and None not in values:
                made[name] = np.array(values, dtype=np.int64)
            else:
                made[name] = np.array(values, dtype=object)
        return pd.DataFrame(made)

    @abstractmethod
    def predict(self, batch: Any) -> Outputs:
        """One call of the model for all rows of `batch`, as `batch` made it."""

    def outputs(self) -> list[tuple[str, str, list[int]]]:
        """Name, V2 datatype and shape of each output, as far as known before the first answer."""
        return []


def join_matrix(parts: list[Rows]) -> Floats:
    """The rows of several requests as one matrix."""
    if all(p.row is not None for p in parts):
        return np.array([p.row for p in parts], dtype=np.float64)
    matrices = [np.array([p.row], dtype=np.float64) if p.matrix is None else p.matrix for p in parts]
    return matrices[0] if len(matrices) == 1 else np.concatenate(matrices)


def _column(rows: Rows, i: int) -> list[Any]:
    assert rows.columns is not None
    return rows.columns[i]


class SklearnModel(Model):
    """scikit-learn without MLflow."""

    def __init__(self, estimator: Any, schema: Schema, predict_fn: str) -> None:
        super().__init__(_from_estimator(estimator) if schema.is_free else schema)
        self._estimator = estimator
        self._predict = getattr(estimator, predict_fn)
        self._is_plain = predict_fn == "predict"
        classes = getattr(estimator, "classes_", None)
        has_probability = isinstance(classes, np.ndarray) and classes.ndim == 1 and hasattr(estimator, "predict_proba")
        self._classes: NDArray[Any] | None = classes if has_probability else None
        self.classes = [] if self._classes is None else self._classes.tolist()
        last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
        self._by_argmax = self._is_plain and self._classes is not None and type(last).__name__ in _ARGMAX
        names = getattr(estimator, "feature_names_in_", None)
        in_order = names is None or [str(n) for n in names] == self.schema.names or not self.schema.is_named
        self.as_matrix = bool(self.schema.is_numeric and in_order and (_is_plain(estimator) or self._agrees()))

    def _agrees(self) -> bool:
        """Does a matrix get the same answers as a DataFrame? A model that selects columns by name does not take one."""
        width = len(self.schema.columns)
        matrix = np.array([[p * (1 + i % 3) for i in range(width)] for p in _PROBES], dtype=np.float64)
        if not self.schema.is_named:
            return True
        columns = {c.name: _as_kind(matrix[:, i], c) for i, c in enumerate(self.schema.columns)}
        exact = np.array([[float(v) for v in column] for column in columns.values()]).T
        frame = self._frame(columns)
        try:
            by_frame, by_matrix = self.predict(frame), self.predict(exact)
        except Exception:  # whatever the model raises for a matrix, the answer is: give it a frame
            return False
        same = bool(np.array_equal(by_frame.prediction, by_matrix.prediction))
        if by_frame.probability is not None and by_matrix.probability is not None:
            same = same and bool(np.array_equal(by_frame.probability, by_matrix.probability))
        return same

    def predict(self, batch: Any) -> Outputs:
        probability = None
        if self._classes is not None:
            probability = np.asarray(self._estimator.predict_proba(batch), dtype=np.float64)
        if self._by_argmax and probability is not None and self._classes is not None and not _has_tie(probability):
            prediction = self._classes[probability.argmax(axis=1)]
        else:
            prediction = np.asarray(self._predict(batch))
        return Outputs(prediction, probability=probability, score=_score(prediction, probability))

    def outputs(self) -> list[tuple[str, str, list[int]]]:
        found: list[tuple[str, str, list[int]]] = []
        if self._classes is not None:
            kind = "BYTES" if self._classes.dtype.kind in "OUS" else "INT64" if self._classes.dtype.kind in "iu" else "FP64"
            found.append(("predict", kind, [-1]))
            found.append(("probability", "FP64", [-1, len(self.classes)]))
        else:
            found.append(("predict", "FP64", [-1]))
        return found


def _is_plain(estimator: Any) -> bool:
    """Made of scikit-learn's own steps only, none of which looks at column names: no need to probe (and to import pandas)."""
    steps = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    return all(
        type(s).__module__.startswith("sklearn.") and not type(s).__module__.startswith("sklearn.compose")
        and type(s).__name__ != "FunctionTransformer" and not hasattr(s, "transformer_list") and not hasattr(s, "estimators")
        and not hasattr(s, "steps")
        for s in steps
    )  # fmt: skip


def _as_kind(values: Floats, column: Column) -> list[Any]:
    if column.kind == "integer":
        return [int(v) for v in values]
    if column.kind == "boolean":
        return [v > 0 for v in values]
    return [float(v) for v in values]


def _has_tie(probability: Floats) -> bool:
    if probability.shape[1] == 2:
        return bool((np.abs(probability[:, 0] - probability[:, 1]) < TIE).any())
    top = np.partition(probability, -2, axis=1)[:, -2:]
    return bool(((top[:, 1] - top[:, 0]) < TIE).any())


def _score(prediction: NDArray[Any], probability: Floats | None) -> Floats | None:
    if probability is not None:
        return probability[:, 1] if probability.shape[1] == 2 else probability.max(axis=1)
    if prediction.ndim == 1 and prediction.dtype.kind in "fiub":
        return prediction.astype(np.float64)
    return None


def _from_estimator(estimator: Any) -> Schema:
    """A schema for a model that was logged without a signature, as far as the estimator knows."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None:
        return Schema(tuple(Column(str(n), "any") for n in names))
    width = getattr(estimator, "n_features_in_", None)
    return unnamed(int(width)) if width else Schema(is_free=True)


class PyfuncModel(Model):
    """Any flavour, by MLflow's own code."""

    def __init__(self, folder: Path, schema: Schema) -> None:
        super().__init__(schema)
        import mlflow.pyfunc

        self._model = mlflow.pyfunc.load_model(str(folder))
        self.mlflow_version = mlflow.__version__

    def predict(self, batch: Any) -> Outputs:
        from mlflow.exceptions import MlflowException

        try:
            found = self._model.predict(self._free(batch) if self.schema.is_free else batch)
        except MlflowException as cause:
            if cause.error_code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
                raise Invalid(cause.message) from cause
            raise
        return _normal(found)

    @staticmethod
    def _free(raw: Any) -> Any:
        import pandas as pd

        if isinstance(raw, dict):
            return pd.DataFrame(raw)
        if isinstance(raw, list) and raw and isinstance(raw[0], tuple):
            return raw[0][1] if len(raw) == 1 else {name: values for name, values, _ in raw}
        return raw


def _normal(found: Any) -> Outputs:
    """A pyfunc's answer as arrays: a table's first column is the prediction."""
    if hasattr(found, "columns"):
        extra = {str(c): found[c].to_numpy() for c in found.columns}
        first = next(iter(extra.values()))
        return Outputs(first, extra=extra, score=_score(first, None))
    if isinstance(found, dict):
        extra = {str(k): np.asarray(v) for k, v in found.items()}
        first = next(iter(extra.values()))
        return Outputs(first, extra=extra, score=_score(first, None))
    prediction = np.asarray(found.to_numpy() if hasattr(found, "to_numpy") else found)
    return Outputs(prediction, score=_score(prediction, None))


def load_model(folder: Path) -> Model:
    """The model in an MLflow directory, warmed. Raises whatever loading raises; the caller tells it to people."""
    described = yaml.safe_load((folder / "MLmodel").read_text())
    signature = {
        name: json.loads(text) for name, text in (described.get("signature") or {}).items() if isinstance(text, str) and text
    }
    schema = read_schema(signature)
    flavors: dict[str, Any] = described.get("flavors") or {}
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    direct = flavors.get("sklearn") or {}
    written_as = direct.get("serialization_format")
    if written_as in ("pickle", "cloudpickle", "skops") and not direct.get("code"):
        pyfunc = flavors.get("python_function") or {}
        estimator = _read_skops(folder, direct) if written_as == "skops" else _unpickle(folder / direct["pickled_model"])
        model: Model = SklearnModel(estimator, schema, pyfunc.get("predict_fn") or "predict")
    else:
        model = PyfuncModel(folder, schema)
    model.mlflow_version = model.mlflow_version or str(described.get("mlflow_version") or "")
    _warm(model, folder)
    return model


def _unpickle(path: Path) -> Any:
    # The worker is the one place that runs a model's own code; the server's other processes never unpickle.
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301


def _read_skops(folder: Path, flavor: dict[str, Any]) -> Any:
    """An estimator saved by skops, which builds only types it knows or the flavor names; no code of the file runs."""
    import skops.io

    return skops.io.load(folder / flavor["pickled_model"], trusted=flavor.get("skops_trusted_types") or [])


def _warm(model: Model, folder: Path) -> None:
    """Answer the stored example once, so that the first caller does not pay for lazy imports. A wrong example is not fatal."""
    example = _example(folder, model)
    if example is None:
        return
    try:
        model.predict(model.batch([example]))
    except Exception as error:
        warnings.warn(f"the stored input example does not pass the model: {error}", stacklevel=2)


def _example(folder: Path, model: Model) -> Rows | None:
    path = folder / "serving_input_example.json"
    if model.schema.is_free or not path.is_file():
        return None
    try:
        return invocations.decode("application/json", path.read_bytes(), model.schema, as_matrix=model.as_matrix)
    except (Invalid, msgspec.DecodeError):
        return None


def feature_kinds(columns: Iterable[Column]) -> list[tuple[str, str]]:
    """Name and kind of each feature, for the record."""
    return [(c.name, c.kind) for c in columns]
