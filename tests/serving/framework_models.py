"""Saves a LightGBM model as MLflow's client does; run by the interpreter of .venv/clients/autolog, with the folder as argument."""

import sys
from importlib.metadata import version

import lightgbm
import mlflow.lightgbm
import numpy as np
import pandas as pd
from mlflow.models import infer_signature

chance = np.random.default_rng(0)
given = pd.DataFrame(chance.normal(size=(300, 4)), columns=list("abcd"))
model = lightgbm.LGBMClassifier(n_estimators=20, verbose=-1).fit(given, given.sum(axis=1) > 0)
mlflow.lightgbm.save_model(
    model, sys.argv[1], signature=infer_signature(given, model.predict(given)), input_example=given.head(2),
    pip_requirements=[f"{n}=={version(n)}" for n in ("lightgbm", "mlflow-skinny", "pandas", "scikit-learn", "skops")],
)  # fmt: skip
given.head(20).assign(said=model.predict(given.head(20)), score=model.predict_proba(given.head(20))[:, 1]).to_json(
    sys.argv[2], orient="split", double_precision=15
)
