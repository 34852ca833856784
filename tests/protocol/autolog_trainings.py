"""Small trainings under `mlflow.autolog()`, one for each framework. Run with the interpreter that has them all; prints JSON.

    python autolog_trainings.py http://127.0.0.1:5000 sklearn xgboost …

What each logged model predicts, once loaded back from the server, is compared with the model that was trained, here.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback

os.environ["KERAS_BACKEND"] = "torch"

import mlflow
import numpy as np
import pandas as pd

RNG = np.random.default_rng(7)
X = pd.DataFrame(RNG.normal(size=(120, 3)), columns=["a", "b", "c"])
Y = pd.Series((X["a"] + X["b"] ** 2 > 0.5).astype(int), name="late")


def sklearn():
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(n_estimators=5, max_depth=3, random_state=0).fit(X, Y)
    model.score(X, Y)  # logged after the training, as a metric of its own
    return mlflow.last_active_run().info.run_id, model.predict(X[:5]), X[:5]


def xgboost():
    import xgboost as xgb

    with mlflow.start_run() as run:
        data = xgb.DMatrix(X, label=Y)
        booster = xgb.train(
            {"max_depth": 2, "eta": 0.3, "objective": "binary:logistic"},
            data,
            8,
            evals=[(data, "train")],
            verbose_eval=False,
        )
    return run.info.run_id, booster.predict(xgb.DMatrix(X[:5])), X[:5]


def lightgbm():
    import lightgbm as lgb

    with mlflow.start_run() as run:
        data = lgb.Dataset(X, label=Y)
        params = {"objective": "binary", "num_leaves": 4, "verbosity": -1, "metric": "binary_logloss", "num_threads": 1}
        booster = lgb.train(params, data, 6, valid_sets=[data], valid_names=["train"])
    return run.info.run_id, booster.predict(X[:5]), X[:5]


def statsmodels():
    import statsmodels.api as sm

    with mlflow.start_run() as run:
        exog = sm.add_constant(X)
        fitted = sm.OLS(Y, exog).fit()
    return run.info.run_id, fitted.predict(exog[:5]), exog[:5]


def lightning():
    # Not `lightning`: beside it, MLflow's hooks on the two names import each other half-way and give up (3.17.2).
    import pytorch_lightning as pl
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    class Net(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 1)

        def forward(self, x):
            return torch.sigmoid(self.layer(x))

        def training_step(self, batch, _):
            x, y = batch
            loss = torch.nn.functional.binary_cross_entropy(self(x), y)
            self.log("loss", loss, on_epoch=True, on_step=False)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    pl.seed_everything(0, verbose=False)
    x, y = torch.tensor(X.to_numpy(np.float32)), torch.tensor(Y.to_numpy(np.float32)).reshape(-1, 1)
    net = Net()
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run() as run:
        trainer = pl.Trainer(
            max_epochs=4,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(net, DataLoader(TensorDataset(x, y), batch_size=40))
    asked = X[:5].to_numpy(np.float32)
    net.eval()
    return run.info.run_id, net(torch.tensor(asked)).detach().numpy(), asked


def keras():
    import keras as k

    k.utils.set_random_seed(0)
    model = k.Sequential([k.Input((3,)), k.layers.Dense(4, activation="relu"), k.layers.Dense(1, activation="sigmoid")])
    model.compile(optimizer="sgd", loss="binary_crossentropy", metrics=["accuracy"])
    x, y = X.to_numpy(np.float32), Y.to_numpy(np.float32)
    with mlflow.start_run() as run:
        model.fit(x, y, epochs=4, batch_size=40, verbose=0)
    return run.info.run_id, model.predict(x[:5], verbose=0), x[:5]


def plain(found):
    return np.asarray(found, dtype=float).reshape(-1).tolist()


def train(framework, experiment):
    """Train, then load back what was logged, by run and by id."""
    mlflow.set_experiment(experiment)
    run_id, predicted, asked = globals()[framework]()
    mlflow.flush_async_logging()
    while mlflow.active_run():
        mlflow.end_run()
    outputs = mlflow.get_run(run_id).outputs.model_outputs
    models = [output.model_id for output in outputs]
    loaded = [
        plain(mlflow.pyfunc.load_model(uri).predict(asked)) for uri in (f"runs:/{run_id}/model", f"models:/{models[-1]}")
    ]
    return {"run_id": run_id, "models": models, "predicted": plain(predicted), "loaded": loaded}


if __name__ == "__main__":
    mlflow.set_tracking_uri(sys.argv[1])
    mlflow.autolog(log_input_examples=True)
    done = {}
    for framework in sys.argv[2:]:
        try:
            done[framework] = train(framework, f"autolog {framework}")
        except Exception:  # the others are to be seen too
            done[framework] = {"error": traceback.format_exc()[-6000:]}
    print(json.dumps(done))
