"""Who may see and change what: permission is asked on the experiment.

A role on `experiment:<id>` covers its runs, files and logged models. A run that the caller may not even read is answered like
one that does not exist.
"""

from __future__ import annotations

from noria.kernel.db import Read
from noria.kernel.errors import Invalid, NotFound
from noria.kernel.ids import Ref, RunId
from noria.kernel.op import Op
from noria.tracking import store
from noria.tracking.model import Experiment, check_run_id
from noria.tracking.store import RunHead


def visible(op: Op, action: str) -> list[str] | None:
    """Ids of the experiments in which the actor may do `action`; None means all. Raises when there are none."""
    scopes = op.visible(action)
    if scopes is None:
        return None
    found = [scope.removeprefix("experiment:") for scope in scopes if scope.startswith("experiment:")]
    if not found:
        op.require(action)
    return found


def may(op: Op, action: str, experiment_id: str | None, absent: str) -> None:
    """Raises NotFound(absent) when it is not there or not the caller's to know, Forbidden when the act is not theirs."""
    if experiment_id is not None and op.can(action, Ref("experiment", experiment_id)):
        return
    seen = visible(op, "run.read" if action.startswith(("run.", "artifact.")) else "experiment.read")
    if experiment_id is not None and (seen is None or experiment_id in seen):
        op.require(action, Ref("experiment", experiment_id))
    op.asked.add(action)
    raise NotFound(absent)


def run_head(tx: Read, op: Op, action: str, run_id: str) -> RunHead:
    check_run_id(run_id)
    head = store.run_head(tx, run_id, op.workspace)
    may(op, action, head.experiment_id if head else None, no_run(run_id))
    assert head is not None
    return head


def writable(tx: Read, op: Op, run_id: str, action: str = "run.log") -> RunHead:
    head = run_head(tx, op, action, run_id)
    if head.stage != "active":
        raise Invalid(
            f"The run {run_id} must be in the 'active' state. Current state is 'deleted'.", where="run_id",
            hint="Restore it first.",
        )  # fmt: skip
    return head


def readable(tx: Read, op: Op, run_ids: list[str]) -> list[RunHead]:
    """Heads of runs that must all be there and readable, in any order."""
    heads = {head.id: head for head in store.run_heads(tx, run_ids, op.workspace)}
    for run_id in run_ids:
        head = heads.get(RunId(run_id))
        may(op, "run.read", head.experiment_id if head else None, no_run(run_id))
    return list(heads.values())


def experiment_for(tx: Read, op: Op, action: str, experiment_id: str) -> Experiment:
    found = store.experiment(tx, experiment_id, op.workspace)
    may(op, action, found.id if found else None, f"There is no experiment {experiment_id[:80]!r}.")
    assert found is not None
    return found


def no_run(run_id: str) -> str:
    return f"There is no run {run_id[:80]!r}."
