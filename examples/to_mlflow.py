"""Copy everything of a Noria into an MLflow server, with nothing but MLflow's own client.

    python examples/to_mlflow.py http://127.0.0.1:5000 http://127.0.0.1:5001

Runs, logged models, registered models with versions and aliases. MLflow gives new ids; the old ones are kept as tags
(`noria.run_id`, `noria.model_id`), and a run that has been copied is not copied again.
"""

import json
import sys
import tempfile

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, ViewType
from mlflow.exceptions import MlflowException

AT_ONCE = 1_000  # points of one request


def pages(search, **query):
    """Every item of a search."""
    token = None
    while True:
        page = search(**query, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def copy_files(source, target, list_files, download, upload):
    with tempfile.TemporaryDirectory() as folder:
        if list_files(source):
            download(source, "", folder)
            upload(target, folder)


def copy_run(noria, mlflow, run, experiment_id):
    tags = {**run.data.tags, "noria.run_id": run.info.run_id}
    name = run.info.run_name
    made = mlflow.create_run(experiment_id, start_time=run.info.start_time, tags=tags, run_name=name).info.run_id
    for key, value in run.data.params.items():
        mlflow.log_param(made, key, value)
    for key in run.data.metrics:
        points = noria.get_metric_history(run.info.run_id, key)
        for at in range(0, len(points), AT_ONCE):
            mlflow.log_batch(made, metrics=points[at : at + AT_ONCE])
    inputs = [
        DatasetInput(Dataset(**dict(i.dataset)), [InputTag(t.key, t.value) for t in i.tags])
        for i in run.inputs.dataset_inputs
    ]
    if inputs:
        mlflow.log_inputs(made, inputs)
    copy_files(run.info.run_id, made, noria.list_artifacts, noria.download_artifacts, mlflow.log_artifacts)
    return made


def copy_model(noria, mlflow, model, run_id, experiment_id):
    made = mlflow.create_logged_model(
        experiment_id, model.name, run_id, {**model.tags, "noria.model_id": model.model_id}, model.params, model.model_type
    ).model_id
    copy_files(model.model_id, made, noria.list_logged_model_artifacts, download_model(noria), mlflow.log_model_artifacts)
    mlflow.finalize_logged_model(made, "READY" if str(model.status) == "READY" else "FAILED")
    return made


def download_model(noria):
    import mlflow

    def download(model_id, _, folder):
        mlflow.artifacts.download_artifacts(f"models:/{model_id}", dst_path=folder, tracking_uri=noria.tracking_uri)

    return download


def main(noria_url, mlflow_url):
    import mlflow

    mlflow.set_tracking_uri(noria_url)  # where models:/m-… is looked up
    noria, target = MlflowClient(noria_url), MlflowClient(mlflow_url)
    runs, models = {}, {}
    for experiment in pages(noria.search_experiments, view_type=ViewType.ACTIVE_ONLY):
        found = target.get_experiment_by_name(experiment.name)
        there = found.experiment_id if found else target.create_experiment(experiment.name, tags=experiment.tags)
        copied = {r.data.tags.get("noria.run_id"): r.info.run_id for r in pages(target.search_runs, experiment_ids=[there])}
        for run in pages(noria.search_runs, experiment_ids=[experiment.experiment_id]):
            old = run.info.run_id
            runs[old] = copied.get(old) or copy_run(noria, target, run, there)
        have = {m.tags.get("noria.model_id"): m.model_id for m in pages(target.search_logged_models, experiment_ids=[there])}
        for model in pages(noria.search_logged_models, experiment_ids=[experiment.experiment_id]):
            run_id = runs.get(model.source_run_id)
            models[model.model_id] = have.get(model.model_id) or copy_model(noria, target, model, run_id, there)
            if run_id and model.model_id not in have:
                target.log_outputs(run_id, [LoggedModelOutput(models[model.model_id], step=0)])
        for run in pages(noria.search_runs, experiment_ids=[experiment.experiment_id]):
            if run.info.run_id not in copied:
                target.set_terminated(runs[run.info.run_id], run.info.status, run.info.end_time)
    copy_registry(noria, target, runs, models)
    print(json.dumps({"runs": len(runs), "models": len(models)}))


def copy_registry(noria, target, runs, models):
    """Models that are not there yet, with their versions, the oldest first: one may be copied from another."""
    new, numbers = {}, {}
    for model in pages(noria.search_registered_models):
        try:
            target.create_registered_model(model.name, model.tags, model.description)
        except MlflowException:
            continue  # it was copied before
        new[model.name] = model
    for version in sorted(pages(noria.search_model_versions), key=lambda v: (v.creation_timestamp, int(v.version))):
        if version.name in new:
            source, model_id = source_there(version.source, runs, models, numbers)
            made = target.create_model_version(
                version.name,
                source,
                runs.get(version.run_id),
                version.tags,
                description=version.description,
                model_id=model_id,
            )
            numbers[version.name, str(version.version)] = made.version
    for model in new.values():
        for alias, number in model.aliases.items():
            target.set_registered_model_alias(model.name, alias, numbers[model.name, str(number)])


def source_there(source, runs, models, numbers):
    """A source with the new ids, and the logged model it names, if any."""
    kind, _, rest = source.partition(":/")
    name, _, number = rest.partition("/")
    if kind == "models" and number:
        return f"models:/{name}/{numbers[name, number]}", None
    return f"{kind}:/{models.get(name) or runs.get(name, name)}" + (f"/{number}" if number else ""), models.get(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
