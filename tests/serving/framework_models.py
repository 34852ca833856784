"""Saves a model of a framework as MLflow's client does; run by the interpreter of .venv/clients/autolog.

framework_models.py FRAMEWORK FOLDER ROWS    ROWS: what it says itself of twenty rows, as JSON
"""

import sys
from importlib.metadata import version

import numpy as np
import pandas as pd
from mlflow.models import infer_signature

COLUMNS = list("abcd")


def lightgbm(given, said):
    import lightgbm
    import mlflow.lightgbm

    return (
        lightgbm.LGBMClassifier(n_estimators=20, verbose=-1).fit(given, said),
        mlflow.lightgbm,
        ("lightgbm", "scikit-learn", "skops"),
    )


def xgboost(given, said):
    import mlflow.xgboost
    import xgboost

    return xgboost.XGBClassifier(n_estimators=20).fit(given, said), mlflow.xgboost, ("xgboost", "scikit-learn", "skops")


def torch(given, said):
    import mlflow.pytorch
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1), torch.nn.Sigmoid())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    x, y = torch.tensor(given.to_numpy(np.float32)), torch.tensor(said.to_numpy(np.float32)[:, None])
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval(), mlflow.pytorch, ("torch",)


FRAMEWORKS = {"lightgbm": lightgbm, "xgboost": xgboost, "torch": torch}


def main(framework, folder, rows):
    chance = np.random.default_rng(0)
    given = pd.DataFrame(chance.normal(size=(300, 4)), columns=COLUMNS)
    model, flavor, packages = FRAMEWORKS[framework](given, (given.sum(axis=1) > 0).astype(int))
    some = given.head(20)
    if framework == "torch":
        given, some = given.astype(np.float32), some.astype(np.float32)
        import torch as engine

        with engine.no_grad():
            answers = pd.DataFrame(model(engine.tensor(some.to_numpy())).numpy())
    else:
        answers = pd.Series(model.predict(some))
    needed = ("mlflow-skinny", "pandas", *packages)
    # What "+cpu" says of where a wheel came from is no version that an index knows.
    needs = [f"{name}=={version(name).partition('+')[0]}" for name in needed]
    # PyTorch's own format of graphs knows no columns.
    more = {"serialization_format": "pickle"} if framework == "torch" else {}
    flavor.save_model(
        model, folder, signature=infer_signature(given, answers), input_example=given.head(2), pip_requirements=needs, **more
    )
    answers = answers.iloc[:, 0] if framework == "torch" else answers
    some.assign(said=answers).to_json(rows, orient="split", double_precision=15)


main(*sys.argv[1:])
