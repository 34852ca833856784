"""Will this flight arrive late? Prepare, train, evaluate beside the champion, register. Run: noria pipeline run pipeline.py"""

from importlib.metadata import version

import mlflow
import pyarrow as pa
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import noria

FEATURES = ["hour", "distance", "backlog", "temp", "wind_speed", "precip", "visib"]
METRICS = {"log_loss": log_loss, "brier": brier_score_loss, "auc": roc_auc_score}


@noria.step(retries=1, timeout="5m")
def prepare(dataset: str) -> tuple[pa.Table, pa.Table, str]:
    """The first 80 % by time to train on, the rest to judge on; and which version of the data it was."""
    data = noria.resolve(dataset)
    flights = data.table().sort_by("at_ms")
    cut = int(flights.num_rows * 0.8)
    return flights.slice(0, cut), flights.slice(cut), data.id


@noria.step(retries=1, timeout="5m")
def train(rows: pa.Table, regularisation: float) -> int:
    """Fit under MLflow's autologging and register the model; the number of its version."""
    mlflow.set_experiment("flights")
    mlflow.sklearn.autolog(log_models=False, silent=True)  # the model is logged below, with the packages it needs
    features, late = rows.select(FEATURES).to_pandas(), rows["late"].to_numpy()
    packages = [f"{name}=={version(name)}" for name in ("scikit-learn", "pandas", "skops")]
    with mlflow.start_run(run_name="flights"):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / regularisation)).fit(features, late)
        logged = mlflow.sklearn.log_model(
            model, name="model", input_example=features.head(2), pip_requirements=packages, registered_model_name="flights"
        )
    return int(logged.registered_model_version)


@noria.step
def evaluate(number: int, holdout: pa.Table, dataset_version: str) -> dict[str, float]:
    """Judge the champion and, on the same rows, the challenger; both evaluations go to the registry."""
    aliases = mlflow.MlflowClient().get_registered_model("flights").aliases
    truth, rows, found = holdout["late"].to_numpy(), holdout.select(FEATURES).to_pandas(), {}
    for which in sorted({int(aliases.get("champion", number)), number}):
        score = mlflow.sklearn.load_model(f"models:/flights/{which}").predict_proba(rows)[:, 1]
        found = {name: float(metric(truth, score)) for name, metric in METRICS.items()}
        evaluation = {"dataset_version": dataset_version, "split": "last 20 % by time", "metrics": found}
        noria.connect().post(f"/models/flights/versions/{which}/evaluations", evaluation)
    return found


@noria.pipeline(name="flights")
def flights(dataset: str = "flights@latest", regularisation: float = 1.0):
    """Prepare, train, register, evaluate."""
    training, holdout, dataset_version = prepare(dataset)
    number = train(training, regularisation)
    return {"version": number, "metrics": evaluate(number, holdout, dataset_version)}
