"""Writes nannyml.json: what NannyML says of the cases. Run it with an environment that holds NannyML 0.13.1, from the repository's root:

python -m tests.monitoring.peers.make_nannyml
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nannyml as nml
import pandas as pd

from tests.monitoring.peers.cases import ROWS, binary, multiclass, regression, table

SEEDS = (1, 2)
pd.options.future.infer_string = False  # DLE encodes words as NumPy objects only


def frames(case: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    found = []
    for seed, is_drifted in zip(SEEDS, (False, True), strict=True):
        columns = case(seed, is_drifted=is_drifted)
        probability = columns.pop("probability", None)
        frame = pd.DataFrame(columns)
        if probability is not None:
            for i in range(probability.shape[1]):
                frame[f"p{i}"] = probability[:, i]
        found.append(frame)
    return found[0], found[1]


def analysis(result: Any) -> Any:
    return result.filter(period="analysis").to_df().iloc[0]


def univariate() -> dict[str, Any]:
    reference, current = frames(table)
    numbers, words = ["shifted", "still", "left", "right"], ["carrier", "airport"]
    made = nml.UnivariateDriftCalculator(
        column_names=numbers + words, continuous_methods=["jensen_shannon", "kolmogorov_smirnov", "wasserstein"],
        categorical_methods=["jensen_shannon", "chi2", "l_infinity"], chunk_size=ROWS,
    )  # fmt: skip
    row = analysis(made.fit(reference).calculate(current))
    methods = dict.fromkeys(numbers, ("jensen_shannon", "kolmogorov_smirnov", "wasserstein"))
    methods |= dict.fromkeys(words, ("jensen_shannon", "chi2", "l_infinity"))
    return {n: {m: float(row[n, m, "value"]) for m in of} for n, of in methods.items()}


def reconstruction() -> dict[str, float]:
    reference, current = frames(table)
    made = nml.DataReconstructionDriftCalculator(column_names=list(reference.columns), chunk_size=ROWS).fit(reference)
    row = analysis(made.calculate(current))
    before = made.calculate(reference).filter(period="analysis").to_df().iloc[0]
    key = ("reconstruction_error", "value")
    return {"reference": float(before[key]), "current": float(row[key])}


def cbpe_binary() -> dict[str, Any]:
    reference, current = frames(binary)
    metrics = ["roc_auc", "f1", "precision", "recall", "accuracy"]
    made = nml.CBPE(
        y_pred_proba="score", y_pred="predicted", y_true="truth", metrics=metrics, problem_type="classification_binary",
        chunk_size=ROWS,
    ).fit(reference)  # fmt: skip
    row = analysis(made.estimate(current.drop(columns="truth")))
    return {m: float(row[m, "value"]) for m in metrics}


def cbpe_multiclass() -> dict[str, Any]:
    reference, current = frames(multiclass)
    metrics = ["roc_auc", "f1", "precision", "recall", "accuracy"]
    made = nml.CBPE(
        y_pred_proba={0: "p0", 1: "p1", 2: "p2"}, y_pred="predicted", y_true="truth", metrics=metrics,
        problem_type="classification_multiclass", chunk_size=ROWS,
    ).fit(reference)  # fmt: skip
    row = analysis(made.estimate(current.drop(columns="truth")))
    return {m: float(row[m, "value"]) for m in metrics}


def dle() -> dict[str, float]:
    reference, current = frames(regression)
    made = nml.DLE(
        feature_column_names=["distance", "hour", "place"], y_pred="predicted", y_true="truth", metrics=["mae", "rmse"],
        chunk_size=ROWS,
    ).fit(reference)  # fmt: skip
    row = analysis(made.estimate(current.drop(columns="truth")))
    return {m: float(row[m, "value"]) for m in ("mae", "rmse")}


def main() -> None:
    found = {
        "nannyml": nml.__version__, "univariate": univariate(), "reconstruction": reconstruction(),
        "cbpe_binary": cbpe_binary(), "cbpe_multiclass": cbpe_multiclass(), "dle": dle(),
    }  # fmt: skip
    (Path(__file__).parent / "nannyml.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
