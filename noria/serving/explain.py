"""Which feature contributed how much to an answer: exact, additive contributions, for models whose form allows them. Runs in the worker.

For each row, `base + sum(contributions)` is what the model says before its last squashing (log-odds, a margin, the value itself), and it
is compared with what the model itself says: an explanation that does not add up is not given. Sources: Lundberg et al., *Consistent
individualized feature attribution for tree ensembles* (2018) for trees, by LightGBM's and XGBoost's own implementation or `shap`; a
linear model's contributions are its terms.
"""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from noria.kernel.errors import Invalid
from noria.serving.frames import Ask
from noria.serving.rows import Floats, Rows, Schema

TOLERANCE = 1e-4  # relative; XGBoost adds in 32 bits
# Steps that keep each column where it is, so that what a column contributes is what its scaled form does.
_COLUMN_BY_COLUMN = frozenset({
    "StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "PowerTransformer", "QuantileTransformer", "SimpleImputer",
})  # fmt: skip
_FOREIGN_TREES = frozenset({
    "RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor", "DecisionTreeClassifier",
    "DecisionTreeRegressor", "GradientBoostingClassifier", "GradientBoostingRegressor", "HistGradientBoostingClassifier",
    "HistGradientBoostingRegressor",
})  # fmt: skip
_json = msgspec.json.Encoder().encode


class Explanation(Struct, frozen=True):
    """Of n rows: `contributions` n × features (or n × classes × features), `base` and `total` n (or n × classes)."""

    contributions: Floats
    base: Floats
    total: Floats
    method: str
    space: str  # what `total` is, in words
    classes: list[Any] = []


def explain(estimator: Any, batch: Any) -> Explanation:
    """The contributions to what `estimator` says of the rows. Raises Invalid when its form does not allow it."""
    given, last = _before_last(estimator, batch)
    kind = f"{type(last).__module__.partition('.')[0]}.{type(last).__name__}"
    if kind.startswith("lightgbm."):
        found = _lightgbm(last, given)
    elif kind.startswith("xgboost."):
        found = _xgboost(last, given)
    elif kind.startswith("sklearn.") and hasattr(last, "coef_") and hasattr(last, "intercept_"):
        found = _linear(last, given)
    elif kind.startswith("sklearn.") and type(last).__name__ in _FOREIGN_TREES:
        found = _shap(last, given)
    else:
        raise _not_allowed(f"A {type(last).__name__} cannot be explained exactly.")
    added = found.base + found.contributions.sum(axis=-1)
    if added.shape != found.total.shape or not np.allclose(added, found.total, rtol=TOLERANCE, atol=TOLERANCE):
        raise _not_allowed(f"What a {type(last).__name__} says is not the sum of its features' contributions.")
    return found


def _not_allowed(why: str, hint: str = "") -> Invalid:
    return Invalid(
        why, where="explain",
        hint=hint or "Linear models and trees of scikit-learn, LightGBM and XGBoost can, also behind steps that scale single columns.",
    )  # fmt: skip


def _before_last(estimator: Any, batch: Any) -> tuple[Any, Any]:
    """What reaches the last step of a pipeline, and that step."""
    if not hasattr(estimator, "steps"):
        return batch, estimator
    for _, step in estimator.steps[:-1]:
        if step in ("passthrough", None):
            continue
        if type(step).__name__ not in _COLUMN_BY_COLUMN or getattr(step, "add_indicator", False):
            raise _not_allowed(f"The step {type(step).__name__} mixes columns, so what each contributes is not defined.")
        width = batch.shape[1]
        batch = step.transform(batch)
        if batch.shape[1] != width:
            raise _not_allowed(f"The step {type(step).__name__} drops columns.")
    return _before_last(estimator.steps[-1][1], batch)


def _split(values: NDArray[Any], width: int) -> tuple[Floats, Floats]:
    """(contributions, base) out of `features + 1` values a row, or that many for each class."""
    made = np.asarray(values, dtype=np.float64)
    if made.ndim == 2 and made.shape[1] != width + 1:
        made = made.reshape(len(made), -1, width + 1)
    return made[..., :-1], made[..., -1]


def _lightgbm(model: Any, given: Any) -> Explanation:
    booster = getattr(model, "booster_", model)
    contributions, base = _split(booster.predict(given, pred_contrib=True), given.shape[1])
    total = np.asarray(booster.predict(given, raw_score=True), dtype=np.float64)
    classes = _classes(model)
    return Explanation(contributions, base, total, "LightGBM's TreeSHAP", _space(classes, "log-odds"), classes)


def _xgboost(model: Any, given: Any) -> Explanation:
    import xgboost

    booster = model.get_booster() if hasattr(model, "get_booster") else model
    names = booster.feature_names
    rows = xgboost.DMatrix(given if hasattr(given, "columns") else np.asarray(given), feature_names=names)
    contributions, base = _split(booster.predict(rows, pred_contribs=True), given.shape[1])
    total = np.asarray(booster.predict(rows, output_margin=True), dtype=np.float64)
    classes = _classes(model)
    return Explanation(contributions, base, total, "XGBoost's TreeSHAP", _space(classes, "log-odds"), classes)


def _linear(model: Any, given: Any) -> Explanation:
    """The terms of the sum. With scaled columns, the base is what the model says of a row of means."""
    matrix = np.asarray(given, dtype=np.float64)
    weights = np.asarray(model.coef_, dtype=np.float64)
    base = np.broadcast_to(np.asarray(model.intercept_, dtype=np.float64), (len(matrix), *np.shape(model.intercept_)))
    decide = getattr(model, "decision_function", model.predict)
    total = np.asarray(decide(given), dtype=np.float64)
    if weights.ndim == 2 and (len(weights) == 1 or total.ndim == 1):
        weights, base = weights[0], base.reshape(len(matrix), -1)[:, 0]
        total = total.reshape(len(matrix))
    contributions = matrix * weights if weights.ndim == 1 else matrix[:, None, :] * weights[None]
    classes = _classes(model)
    return Explanation(contributions, np.array(base), total, "the terms of the sum", _space(classes, "decision"), classes)


def _shap(model: Any, given: Any) -> Explanation:
    if importlib.util.find_spec("shap") is None:
        raise _not_allowed(
            f"A {type(model).__name__} is explained by shap, which is not there.",
            "pip install 'noria[explain]' on the server, or log the model with shap among its requirements.",
        )
    import shap

    explainer = shap.TreeExplainer(model)
    found = np.asarray(explainer.shap_values(np.asarray(given, dtype=np.float64), check_additivity=False), dtype=np.float64)
    base = np.asarray(explainer.expected_value, dtype=np.float64).ravel()
    classes = _classes(model)
    if found.ndim == 3:
        found = np.moveaxis(found, 2, 1)  # n × classes × features
        if found.shape[1] == 2:
            found, base = found[:, 1, :], base[1:]
    space = "value"
    if classes and hasattr(model, "decision_function"):
        total, space = np.asarray(model.decision_function(given), dtype=np.float64), "log-odds"
    elif classes:
        total, space = np.asarray(model.predict_proba(given), dtype=np.float64), "probability"
        total = total[:, 1] if total.shape[1] == 2 else total
    else:
        total = np.asarray(model.predict(given), dtype=np.float64)
    shape = (len(found),) if found.ndim == 2 else (len(found), found.shape[1])
    return Explanation(found, np.broadcast_to(base if found.ndim == 3 else base[0], shape), total, "shap's TreeSHAP",
                       _space(classes, space), classes)  # fmt: skip


def _classes(model: Any) -> list[Any]:
    found = getattr(model, "classes_", None)
    return [] if found is None else np.asarray(found).tolist()


def _space(classes: list[Any], kind: str) -> str:
    if not classes:
        return "the prediction" if kind != "log-odds" else "the raw score"
    return f"{kind} of {classes[1]}" if len(classes) == 2 else f"{kind} of each class"


# --- answers --------------------------------------------------------------------------------------------------------------


def encode(ask: Ask, found: Explanation, schema: Schema, rows: Rows, model: str, version: str) -> bytes:
    """In the form of the protocol: V2's tensors, or one object a row, as KServe's V1 has it."""
    names = schema.names
    about = {"space": found.space, "method": found.method, "classes": found.classes}
    if ask.protocol == "explain":
        outputs = [
            {
                "name": name,
                "datatype": "FP64",
                "shape": list(array.shape),
                "data": [_finite(v) for v in array.ravel().tolist()],
            }
            for name, array in (("contributions", found.contributions), ("base", found.base), ("total", found.total))
        ]
        return _json({
            "model_name": model, "model_version": version, "id": rows.request_id or ask.prediction_id,
            "parameters": {"features": names, **about}, "outputs": outputs,
        })  # fmt: skip
    listed = found.contributions.tolist()
    explained = [
        {"base": base, "total": total, "contributions": _named(names, values)}
        for base, total, values in zip(found.base.tolist(), found.total.tolist(), listed, strict=True)
    ]
    return _json({"explanations": explained, **about})


def _named(names: list[str], values: list[Any]) -> Any:
    if values and isinstance(values[0], list):
        return [dict(zip(names, each, strict=True)) for each in values]
    return dict(zip(names, values, strict=True))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
