"""The facts of pipelines."""

from __future__ import annotations

from typing import Any

from noria.kernel.facts import Fact, fact


@fact("pipeline.registered")
class PipelineRegistered(Fact):
    """A pipeline has a new version."""

    version: int
    code_digest: str
    source_commit: str


@fact("pipeline.paused")
class PipelinePaused(Fact):
    """A pipeline's schedules and triggers rest."""


@fact("pipeline.unpaused")
class PipelineUnpaused(Fact):
    """A pipeline's schedules and triggers start it again."""


@fact("pipeline_run.submitted")
class PipelineRunSubmitted(Fact):
    """A run of a pipeline was asked for."""

    pipeline: str
    version: int
    params: dict[str, Any]


@fact("pipeline_run.succeeded")
class PipelineRunSucceeded(Fact):
    """Every step ended well; plain outputs are given in full, others by their digest."""

    pipeline: str
    outputs: dict[str, Any]


@fact("pipeline_run.failed")
class PipelineRunFailed(Fact):
    """A step failed for good."""

    pipeline: str
    error: str


@fact("pipeline_run.cancelled")
class PipelineRunCancelled(Fact):
    """Somebody stopped the run, and nothing of it runs any more."""

    pipeline: str


@fact("pipeline_run.cancel_asked")
class PipelineRunCancelAsked(Fact):
    """Somebody asked for a run to stop."""

    pipeline: str


@fact("pipeline_run.resumed")
class PipelineRunResumed(Fact):
    """A run goes on from the steps that did not succeed, or from the step `start`."""

    pipeline: str
    version: int
    start: str = ""


@fact("step_run.started")
class StepRunStarted(Fact):
    """A worker took a step."""

    run_id: str
    step: str
    attempt: int
    worker: str


@fact("step_run.succeeded")
class StepRunSucceeded(Fact):
    """A step ended well; `cached_from` names the step run whose result was taken instead."""

    run_id: str
    step: str
    attempt: int
    cached_from: str = ""


@fact("step_run.failed")
class StepRunFailed(Fact):
    """An attempt failed; `will_retry` says whether another follows."""

    run_id: str
    step: str
    attempt: int
    error: str
    will_retry: bool


@fact("step_run.lost")
class StepRunLost(Fact):
    """A worker fell silent or stopped while it held a step; another one takes it."""

    run_id: str
    step: str
    attempt: int
    worker: str


@fact("step_run.adopted")
class StepRunAdopted(Fact):
    """An agent came back and holds again the step that a job of its executor went on with; `former` held it before."""

    run_id: str
    step: str
    attempt: int
    worker: str
    former: str


@fact("pipeline_run.paused")
class PipelineRunPaused(Fact):
    """Somebody paused a run: what runs goes on, nothing more begins."""

    pipeline: str


@fact("pipeline_run.unpaused")
class PipelineRunUnpaused(Fact):
    """A paused run goes on."""

    pipeline: str


@fact("step_run.cancel_asked")
class StepRunCancelAsked(Fact):
    """Somebody asked for one step to stop."""

    run_id: str
    step: str


@fact("step_run.expanded")
class StepRunExpanded(Fact):
    """The list of a map is there: it has become this many steps."""

    run_id: str
    step: str
    count: int


@fact("step_run.tried")
class StepRunTried(Fact):
    """A sweep began trials."""

    run_id: str
    step: str
    trials: list[int]


@fact("step_run.pruned")
class StepRunPruned(Fact):
    """A trial was given up early: what it reported was worse than what others had reported by then."""

    run_id: str
    step: str
    at_step: int


@fact("step_run.skipped")
class StepRunSkipped(Fact):
    """A condition did not hold, or what the step would use was passed over."""

    run_id: str
    step: str
    reason: str


@fact("step_run.asked")
class StepRunAsked(Fact):
    """A step waits for people to answer."""

    run_id: str
    step: str
    prompt: str
    approval: str


@fact("step_run.answered")
class StepRunAnswered(Fact):
    """People answered, or nobody did in time."""

    run_id: str
    step: str
    approved: bool
    reason: str


@fact("backfill.started")
class BackfillStarted(Fact):
    """A pipeline is to be run for many dates."""

    pipeline: str
    param: str
    first: str
    last: str
    parts: int


@fact("backfill.ended")
class BackfillEnded(Fact):
    """Every date of a backfill has ended, or it was stopped."""

    pipeline: str
    state: str
    counts: dict[str, int]


@fact("queue.changed")
class QueueChanged(Fact):
    """The priority or the quota of a queue was set."""

    priority: int
    quota: int | None


@fact("queue.deleted")
class QueueDeleted(Fact):
    """A queue is as if nothing had been said about it."""


@fact("schedule.created")
class ScheduleCreated(Fact):
    """A schedule was made."""

    pipeline: str
    cron: str
    time_zone: str


@fact("schedule.changed")
class ScheduleChanged(Fact):
    """A schedule was turned on or off, or has another rule."""

    is_enabled: bool


@fact("schedule.deleted")
class ScheduleDeleted(Fact):
    """A schedule is gone."""


@fact("file.arrived")
class FileArrived(Fact):
    """A file that a trigger looks for is new, or was replaced."""

    url: str
    path: str
    size_bytes: int
    modified_at_ms: int


@fact("hook.received")
class HookReceived(Fact):
    """A signed message came to a trigger."""

    message: str
    body: Any


@fact("trigger.created")
class TriggerCreated(Fact):
    """A trigger was made."""

    pipeline: str
    kinds: list[str]


@fact("trigger.changed")
class TriggerChanged(Fact):
    """A trigger was turned on or off, or has another rule."""

    is_enabled: bool


@fact("trigger.deleted")
class TriggerDeleted(Fact):
    """A trigger is gone."""
