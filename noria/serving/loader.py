"""Load an MLflow model directory and answer batches: scikit-learn directly, every other flavour through mlflow.pyfunc.

The direct path skips MLflow (5 s of imports) and pandas where it can: a matrix is used only when, on a few probe rows, the model
gives the same answers for a matrix as for a DataFrame.
"""

from __future__ import annotations

import io
import json
import pickle
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import GeneratorType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from noria.kernel.errors import Invalid
from noria.serving import flavors, invocations, protocol
from noria.serving.explain import Explanation, explain
from noria.serving.frames import Ask
from noria.serving.rows import ROWS_MAX, Column, Floats, Outputs, Rows, Schema, as_text, check_count, read_schema, unnamed

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
        self.is_alone = self.schema.is_free  # is each request a call of its own?
        self.mlflow_version = ""  # which wrote the model, or which answers for it

    def read(self, ask: Ask, body: bytes, bytes_max: int) -> Rows:
        """A request's body as rows. Raises Invalid, TooLarge."""
        return protocol.decode(ask, body, self.schema, as_matrix=self.as_matrix, bytes_max=bytes_max)

    def batch(self, parts: list[Rows]) -> Any:
        """One input for the model out of several requests' rows."""
        if self.schema.is_free:
            return parts[0].raw
        if self.as_matrix:
            return join_matrix(parts)
        names = self.schema.names
        columns = [[v for p in parts for v in _column(p, i)] for i in range(len(names))]
        return self._frame({n: c for n, c in zip(names, columns, strict=True) if n not in self._left_out(parts)})

    def _left_out(self, parts: list[Rows]) -> tuple[str, ...]:
        """Columns that the model is not to see; those that were not sent are empty unless a model says otherwise."""
        return ()

    def _frame(self, columns: dict[str, list[Any]]) -> Any:
        import pandas as pd

        if not self.schema.is_named:
            return np.array(list(columns.values()), dtype=np.float64).T.astype(self.schema.dtype, order="C")
        kinds = {c.name: c for c in self.schema.columns}
        return pd.DataFrame({name: _typed(kinds[name], values) for name, values in columns.items()})

    @abstractmethod
    def predict(self, batch: Any, n: int, params: dict[str, Any] | None = None) -> Outputs:
        """One call of the model for all n rows of `batch`, as `batch` made it."""

    def stream(self, batch: Any, params: dict[str, Any] | None = None) -> Iterator[Any]:
        """The answer bit by bit. Raises Invalid when the model gives it only whole."""
        raise _not_streaming()

    def explain(self, batch: Any) -> Explanation:
        """What each feature contributed. Raises Invalid when the model does not allow it."""
        raise Invalid(
            "This model is not explained as it is served.",
            where="explain",
            hint="Deploy it with the engine it was saved for.",
        )

    def outputs(self) -> list[tuple[str, str, list[int]]]:
        """Name, V2 datatype and shape of each output, as far as known before the first answer."""
        return []


def _typed(column: Column, values: list[Any]) -> Any:
    """A column of a table, in the type that the signature names."""
    has_missing = None in values
    if column.kind == "number":
        return np.array(values, dtype=np.float64).astype(column.dtype)
    if column.kind == "integer":
        return np.array(values, dtype=np.float64 if has_missing else column.dtype)
    if column.kind == "boolean" and not has_missing:
        return np.array(values, dtype=bool)
    if column.kind == "datetime":
        import pandas as pd

        try:
            return pd.to_datetime(pd.Series(values, dtype=object), format="ISO8601").astype("datetime64[ns]")
        except (ValueError, TypeError) as cause:
            raise Invalid(
                f"The column {column.name!r} is a datetime; a value is none: {cause}.", where=column.name,
                hint='Send times as text, such as "2026-11-27T21:40:00".',
            ) from cause  # fmt: skip
    return np.array(values, dtype=object)


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
        self.estimator = estimator
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
        # Numbers of 32 bits are rounded before MLflow's model sees them; a matrix of 64 bits would not be.
        exact = self.schema.is_numeric and all(c.dtype != "float32" for c in self.schema.columns)
        self.as_matrix = bool(exact and in_order and (_is_plain(estimator) or self._agrees()))

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
            by_frame, by_matrix = self.predict(frame, len(exact)), self.predict(exact, len(exact))
        except Exception:  # whatever the model raises for a matrix, the answer is: give it a frame
            return False
        same = bool(np.array_equal(by_frame.prediction, by_matrix.prediction))
        if by_frame.probability is not None and by_matrix.probability is not None:
            same = same and bool(np.array_equal(by_frame.probability, by_matrix.probability))
        return same

    def predict(self, batch: Any, n: int, params: dict[str, Any] | None = None) -> Outputs:
        if not self.schema.is_named and self.schema.dtype != "float64":
            batch = np.asarray(batch).astype(self.schema.dtype)
        probability = None
        if self._classes is not None:
            probability = np.asarray(self.estimator.predict_proba(batch), dtype=np.float64)
        if self._by_argmax and probability is not None and self._classes is not None and not _has_tie(probability):
            prediction = self._classes[probability.argmax(axis=1)]
        else:
            prediction = np.asarray(self._predict(batch))
        return Outputs(prediction, probability=probability, score=_score(prediction, probability))

    def explain(self, batch: Any) -> Explanation:
        return explain(self.estimator, batch)

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
    """Any flavour, by MLflow's own code. What is too rich for rows is also read by MLflow's code, and called request by request."""

    def __init__(self, folder: Path, schema: Schema) -> None:
        super().__init__(schema)
        import mlflow.pyfunc

        self._model = mlflow.pyfunc.load_model(str(folder))
        self.mlflow_version = mlflow.__version__

    def read(self, ask: Ask, body: bytes, bytes_max: int) -> Rows:
        if not self.schema.is_free or ask.protocol != "invocations":
            return super().read(ask, body, bytes_max)
        return self._read_freely(ask.content_type, protocol.decompressed(body, bytes_max) if ask.encoding else body)

    def _read_freely(self, content_type: str, body: bytes) -> Rows:
        """As `mlflow models serve` reads it."""
        from mlflow.exceptions import MlflowException
        from mlflow.pyfunc import scoring_server as untyped

        scoring_server: Any = untyped
        kind = invocations.media_type(content_type)
        inputs = self._model.metadata.get_input_schema()
        try:
            if kind == invocations.CSV:
                return _free_rows(scoring_server.parse_csv_input(io.StringIO(body.decode()), schema=inputs))
            if kind == invocations.PARQUET:
                return _free_rows(scoring_server.parse_parquet_input(io.BytesIO(body)))
            parsed = scoring_server._parse_json_data(body.decode(), self._model.metadata, inputs)
        except MlflowException as cause:
            raise Invalid(_first_words(cause.message), hint=invocations.FORM) from cause
        rows = _free_rows(parsed.data)
        rows.params, rows.is_unwrapped = parsed.params or None, parsed.is_unified_llm_input
        rows.is_stream = _wants_stream(body)
        return rows

    def _left_out(self, parts: list[Rows]) -> tuple[str, ...]:
        return parts[0].absent  # MLflow leaves them out

    def predict(self, batch: Any, n: int, params: dict[str, Any] | None = None) -> Outputs:
        from mlflow.exceptions import MlflowException

        given = _named_tensors(batch) if self.schema.is_free else batch
        try:
            found = self._model.predict(given) if params is None else self._model.predict(given, params=params)
        except MlflowException as cause:
            if cause.error_code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
                raise Invalid(_first_words(cause.message)) from cause
            raise
        return _normal(list(found) if isinstance(found, GeneratorType) else found, n)

    def stream(self, batch: Any, params: dict[str, Any] | None = None) -> Iterator[Any]:
        given = _named_tensors(batch) if self.schema.is_free else batch
        if getattr(self._model, "_predict_stream_fn", None) is not None:
            return iter(self._model.predict_stream(given, params=params))
        found = self._model.predict(given, params=params)
        if not isinstance(found, GeneratorType):
            raise _not_streaming()
        return found

    def explain(self, batch: Any) -> Explanation:
        if self.schema.is_free or not self.schema.is_numeric:
            raise Invalid("Only models of numbers with a signature are explained.", where="explain")
        try:
            raw = self._model.get_raw_model()
        except (NotImplementedError, AttributeError) as cause:
            raise Invalid("Its flavour does not show the model, so that it cannot be explained.", where="explain") from cause
        return explain(raw, batch)


class _Streamed(msgspec.Struct):
    stream: bool = False


_streamed = msgspec.json.Decoder(_Streamed).decode


def _wants_stream(body: bytes) -> bool:
    try:
        return _streamed(body).stream
    except msgspec.DecodeError:  # something else under that name, for the model
        return False


def _not_streaming() -> Invalid:
    return Invalid(
        "This model does not answer bit by bit.", where="stream",
        hint="Ask without it; or log a pyfunc model with predict_stream, or with a predict that yields.",
    )  # fmt: skip


def _first_words(text: str) -> str:
    """MLflow's words without the page of data and advice that follow them."""
    told = text.partition("Error: ")[2] if text.startswith("Failed to enforce schema") else text
    return " ".join((told or text).split())[:1000]


def _free_rows(data: Any) -> Rows:
    """What MLflow read, and how many rows it is: one, unless it has a length."""
    first = next(iter(data.values()), None) if isinstance(data, dict) else data
    is_many = hasattr(first, "__len__") and not isinstance(first, str | bytes | dict) and getattr(first, "ndim", 1) > 0
    n = len(first) if is_many else 1  # type: ignore[arg-type]
    if n > ROWS_MAX:
        check_count(n)
    return Rows(max(1, n), raw=data)


def _named_tensors(raw: Any) -> Any:
    """V2's tensors as MLflow takes them: one alone, several by name."""
    if isinstance(raw, list) and raw and isinstance(raw[0], tuple):
        return raw[0][1] if len(raw) == 1 else {name: values for name, values, _ in raw}
    return raw


def _normal(found: Any, n: int) -> Outputs:
    """A pyfunc's answer to n rows as arrays, and in the form that /invocations has it. A table's first column is the prediction."""
    if hasattr(found, "columns") and len(found) == n and len(found.columns):
        extra = {str(c): found[c].to_numpy() for c in found.columns}
        first = next(iter(extra.values()))
        return Outputs(first, extra=extra, score=_score(first, None), said_rows=found.to_dict("records"))
    if hasattr(found, "to_frame") and len(found) == n:
        values = found.to_numpy()
        return Outputs(values, score=_score(values, None), said_rows=found.to_frame().to_dict("records"))
    if isinstance(found, np.ndarray) and found.ndim and len(found) == n:
        return Outputs(found, score=_score(found, None))
    if isinstance(found, list | tuple) and len(found) == n:
        values = _as_array(list(found))
        return Outputs(values, score=_score(values, None), said_rows=list(found))
    whole = Outputs(np.array([as_text(found)] * n, dtype=object), said_whole=found, is_whole=True)
    if isinstance(found, dict) and found and all(hasattr(v, "__len__") and len(v) == n for v in found.values()):
        whole.extra = {str(k): _as_array(v) for k, v in found.items()}
        whole.prediction = next(iter(whole.extra.values()))
    return whole


def _as_array(values: Any) -> NDArray[Any]:
    """Numbers as numbers; whatever is mixed or nested as it is."""
    if not isinstance(values, list) or all(isinstance(v, bool | int | float | np.generic) for v in values):
        return np.asarray(values)
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


class OnnxModel(Model):
    """A scikit-learn model as ONNX, whose answers were compared with the original's; neither scikit-learn nor pandas is imported."""

    def __init__(self, schema: Schema, content: bytes, classes: list[Any], input_type: str, *, takes_missing: bool) -> None:
        super().__init__(schema)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # batches, not threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._names = [o.name for o in self._session.get_outputs()]
        self._input = self._session.get_inputs()[0].name
        self._type = input_type
        self._takes_missing = takes_missing
        self.as_matrix = True
        self.classes = classes

    def predict(self, batch: Any, n: int, params: dict[str, Any] | None = None) -> Outputs:
        if not self._takes_missing and not np.isfinite(batch).all():
            raise ValueError("Input contains NaN or infinity, which the model does not take.")
        found = self._session.run(self._names, {self._input: np.ascontiguousarray(batch, dtype=self._type)})
        if not self.classes:
            prediction = np.asarray(found[0], dtype=np.float64).reshape(n, -1)
            prediction = prediction[:, 0] if prediction.shape[1] == 1 else prediction
            return Outputs(prediction, score=_score(prediction, None))
        probability = np.asarray(found[1], dtype=np.float64)
        return Outputs(np.asarray(found[0]), probability=probability, score=_score(found[0], probability))

    def outputs(self) -> list[tuple[str, str, list[int]]]:
        if not self.classes:
            return [("predict", "FP64", [-1])]
        kind = "BYTES" if isinstance(self.classes[0], str) else "INT64"
        return [("predict", kind, [-1]), ("probability", "FP64", [-1, len(self.classes)])]


def load_onnx(folder: Path, converted: Path) -> Model:
    """The model in an MLflow directory by its ONNX file, which `convert` made and compared; warmed."""
    described, schema = _described(folder)
    verdict = msgspec.json.decode((converted / "verdict.json").read_bytes())
    model = OnnxModel(
        schema, (converted / "model.onnx").read_bytes(), verdict["classes"], verdict["input_type"],
        takes_missing=verdict["takes_missing"],
    )  # fmt: skip
    model.mlflow_version = str(described.get("mlflow_version") or "")
    _warm(model, folder)
    return model


def _described(folder: Path) -> tuple[dict[str, Any], Schema]:
    """What MLmodel says, and the schema of its signature."""
    described = flavors.described(folder)
    signature = {
        name: json.loads(text) for name, text in (described.get("signature") or {}).items() if isinstance(text, str) and text
    }
    return described, read_schema(signature)


def load_model(folder: Path) -> Model:
    """The model in an MLflow directory, warmed. Raises whatever loading raises; the caller tells it to people."""
    described, schema = _described(folder)
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    direct = flavors.direct_flavor(described)
    if direct is not None:
        pyfunc = described["flavors"].get("python_function") or {}
        estimator = (
            _read_skops(folder, direct)
            if direct["serialization_format"] == "skops"
            else _unpickle(folder / direct["pickled_model"])
        )
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
    example = example_of(folder, model)
    if example is None:
        return
    try:
        model.predict(model.batch([example]), example.n)
    except Exception as error:
        warnings.warn(f"the stored input example does not pass the model: {error}", stacklevel=2)


def example_of(folder: Path, model: Model) -> Rows | None:
    """The stored input example, if there is one that fits."""
    path = folder / "serving_input_example.json"
    if model.schema.is_free or not path.is_file():
        return None
    try:
        return invocations.decode("application/json", path.read_bytes(), model.schema, as_matrix=model.as_matrix)
    except (Invalid, msgspec.DecodeError):
        return None


def feature_kinds(columns: Iterable[Column]) -> list[tuple[str, str]]:
    """Name and kind of each feature, for the record."""
    return [(c.name, "text" if c.kind == "datetime" else c.kind) for c in columns]
