"""Routes of imports: what `noria import` calls to bring runs and logged models in as they were elsewhere."""

from __future__ import annotations

from noria.http.route import Routes, post
from noria.kernel.op import Op
from noria.tracking.files import knock
from noria.tracking.import_model import (
    Begun,
    Counts,
    ImportedExperiment,
    ImportedModel,
    ImportedNumbers,
    ImportedRun,
    SealModel,
    SealRun,
)
from noria.tracking.model import Experiment
from noria.tracking.service import Tracking


def routes(tracking: Tracking) -> Routes:
    @post("/api/v1/imports/experiments", action="run.import")
    def import_experiment(op: Op, data: ImportedExperiment) -> Experiment:
        """The experiment of this name, made as it was elsewhere when there is none."""
        knock(op, "run.import")
        return tracking.imports.experiment(op, data)

    @post("/api/v1/imports/runs", action="run.import")
    def import_run(op: Op, data: ImportedRun) -> Begun:
        """Begin a run with the id and start it had elsewhere; may be repeated. Points and files follow, then it is sealed."""
        knock(op, "run.import")
        return tracking.imports.begin_run(op, data)

    @post("/api/v1/imports/runs/{run_id:str}/seal", action="run.import")
    def seal_imported_run(op: Op, run_id: str, data: SealRun) -> Counts:
        """Say how an imported run ended; refused unless it consists of exactly what is expected."""
        knock(op, "run.import")
        return tracking.imports.seal_run(op, run_id, data)

    @post("/api/v1/imports/logged-models", action="run.import")
    def import_logged_model(op: Op, data: ImportedModel) -> Begun:
        """Begin a logged model with the id it had elsewhere; may be repeated. Its run may come later."""
        knock(op, "run.import")
        return tracking.imports.begin_model(op, data)

    @post("/api/v1/imports/logged-models/{model_id:str}/points", action="run.import")
    def measure_imported_model(op: Op, model_id: str, data: ImportedNumbers) -> None:
        """Keep numbers that were measured on an imported model; at most 1,000 a request."""
        knock(op, "run.import")
        tracking.imports.measure(op, model_id, data)

    @post("/api/v1/imports/logged-models/{model_id:str}/seal", action="run.import")
    def seal_imported_model(op: Op, model_id: str, data: SealModel) -> Counts:
        """Say how an imported logged model stood; refused unless it consists of exactly what is expected."""
        knock(op, "run.import")
        return tracking.imports.seal_model(op, model_id, data)

    return [
        import_experiment, import_run, seal_imported_run, import_logged_model, measure_imported_model, seal_imported_model,
    ]  # fmt: skip
