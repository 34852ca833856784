"""Routes of the end of things: putting experiments and logged models away, bringing them back, purging; and what they took."""

from __future__ import annotations

from noria.http.route import Routes, delete, get, post
from noria.kernel.op import Op
from noria.kernel.paging import Page
from noria.tracking.costs import Spent
from noria.tracking.files import knock
from noria.tracking.purge import PurgeReport, PurgeRequest
from noria.tracking.service import Tracking


def routes(tracking: Tracking) -> Routes:
    @delete("/api/v1/experiments/{experiment_id:str}", action="experiment.delete")
    def delete_experiment(op: Op, experiment_id: str) -> None:
        """Put an experiment and its runs away."""
        tracking.delete_experiment(op, experiment_id)

    @post("/api/v1/experiments/{experiment_id:str}/restore", action="experiment.delete")
    def restore_experiment(op: Op, experiment_id: str) -> None:
        """Bring an experiment back, with the runs that went with it."""
        tracking.restore_experiment(op, experiment_id)

    @delete("/api/v1/logged-models/{model_id:str}", action="run.delete")
    def delete_logged_model(op: Op, model_id: str) -> None:
        """Put a logged model away."""
        tracking.models.delete(op, model_id)

    @post("/api/v1/logged-models/{model_id:str}/restore", action="run.delete")
    def restore_logged_model(op: Op, model_id: str) -> None:
        """Bring a logged model back."""
        tracking.models.restore(op, model_id)

    @get("/api/v1/spent", action="run.read")
    def list_spent(op: Op, experiments: str = "", days: int = 30) -> Page[Spent]:
        """Hours and money of the runs of the last days, by who and by experiment, the costliest first."""
        wanted = [part for part in experiments.split(",") if part]
        return Page(tracking.costs.spent(op, experiments=wanted, days=days))

    @post("/api/v1/purge", action="run.purge")
    def purge(op: Op, data: PurgeRequest) -> PurgeReport:
        """Remove for good what was put away long enough ago and nothing protects; says what would go unless dry_run is false."""
        knock(op, "run.purge")
        assert tracking.purge is not None
        return tracking.purge.purge(op, data)

    return [delete_experiment, restore_experiment, delete_logged_model, restore_logged_model, list_spent, purge]
