"""The routes of pipelines: for people and the SDK, and for workers (`/work/…`, the server's own token only)."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import anyio.to_thread
from litestar import Request
from litestar.params import QueryParameter

from noria.access.policy import PUBLIC
from noria.http.route import Routes, delete, get, patch, post, put
from noria.kernel.op import Op
from noria.kernel.paging import Page
from noria.pipelines.backfills import Backfills
from noria.pipelines.hooks import Hooks
from noria.pipelines.model.backfills import Backfill, BackfillPart, NewBackfill
from noria.pipelines.model.queues import Queue, QueueRule
from noria.pipelines.model.runs import PipelineRun, PipelineRunView, Replay, Rerun, Resume, Submit
from noria.pipelines.model.schedules import NewSchedule, Schedule
from noria.pipelines.model.spec import Pipeline, PipelineSpec, PipelineVersion
from noria.pipelines.model.starts import Switch
from noria.pipelines.model.steps import Logs, StepRun
from noria.pipelines.model.sweeps import Report, Reported, Sweep, Verdict
from noria.pipelines.model.triggers import NewTrigger, Received, Trigger
from noria.pipelines.model.work import Beat, Claim, Claimed, Finish, Hello, LogChunk, Orders, Welcome
from noria.pipelines.queues import Queues
from noria.pipelines.schedules import Schedules
from noria.pipelines.service import Pipelines
from noria.pipelines.sweeps import Sweeps
from noria.pipelines.triggers import Triggers
from noria.pipelines.work import Work

CLAIM_WAIT_MAX_S = 20.0
CLAIM_POLL_S = 0.02  # how late a waiting worker may learn of a step in this process
CLAIM_LOOK_S = 1.0  # and of one that another server process made ready, or whose retry is due


def routes(
    pipelines: Pipelines, schedules: Schedules, triggers: Triggers, queues: Queues, work: Work, hooks: Hooks,
    backfills: Backfills, sweeps: Sweeps,
) -> Routes:  # fmt: skip
    return [
        *_pipelines(pipelines),
        *_runs(pipelines),
        *_schedules(schedules),
        *_triggers(triggers),
        *_hooks(hooks),
        *_backfills(backfills),
        *_sweeps(sweeps),
        *_queues(queues),
        *_work(work),
    ]


def _pipelines(pipelines: Pipelines) -> Routes:
    @post("/api/v1/pipelines", action="pipeline.register")
    def register_pipeline(op: Op, data: PipelineSpec) -> Pipeline:
        """Keep a traced pipeline as a new version; the same one again changes nothing."""
        return pipelines.register(op, data)

    @get("/api/v1/pipelines", action="pipeline.read")
    def list_pipelines(op: Op, limit: int | None = None, page: str = "") -> Page[Pipeline]:
        """Registered pipelines, by name."""
        return pipelines.pipelines(op, limit=limit, page=page)

    @get("/api/v1/pipelines/{name:str}", action="pipeline.read")
    def read_pipeline(op: Op, name: str) -> Pipeline:
        """One pipeline with its latest steps."""
        return pipelines.pipeline(op, name)

    @get("/api/v1/pipelines/{name:str}/versions", action="pipeline.read")
    def list_pipeline_versions(op: Op, name: str, limit: int | None = None, page: str = "") -> Page[PipelineVersion]:
        """A pipeline's versions, newest first."""
        return pipelines.versions(op, name, limit=limit, page=page)

    @post("/api/v1/pipelines/{name:str}/pause", action="trigger.write")
    def pause_pipeline(op: Op, name: str) -> Pipeline:
        """Let neither schedules nor triggers start a pipeline."""
        return pipelines.control.pause_pipeline(op, name, True)

    @post("/api/v1/pipelines/{name:str}/unpause", action="trigger.write")
    def unpause_pipeline(op: Op, name: str) -> Pipeline:
        """Let schedules and triggers start a pipeline again."""
        return pipelines.control.pause_pipeline(op, name, False)

    return [register_pipeline, list_pipelines, read_pipeline, list_pipeline_versions, pause_pipeline, unpause_pipeline]


def _runs(pipelines: Pipelines) -> Routes:
    @post("/api/v1/pipelines/{name:str}/runs", action="pipeline.run")
    def submit_pipeline_run(op: Op, name: str, data: Submit) -> PipelineRun:
        """Start a run."""
        return pipelines.submit(
            op,
            name,
            data.params,
            cause=data.cause,
            unique=data.unique,
            version=data.version,
            reproduces=data.reproduces,
            queues=data.queues,
        )

    @get("/api/v1/pipeline-runs", action="pipeline.read")
    def list_pipeline_runs(
        op: Op,
        pipeline: str = "",
        in_state: Annotated[str, QueryParameter(name="state")] = "",
        limit: int | None = None,
        page: str = "",
        mine: bool = False,
    ) -> Page[PipelineRun]:
        """Runs, newest first; `mine`: those that run with the caller's rights."""
        return pipelines.pipeline_runs(op, pipeline=pipeline, state=in_state, limit=limit, page=page, mine=mine)

    @get("/api/v1/pipeline-runs/{run_id:str}", action="pipeline.read")
    def read_pipeline_run(op: Op, run_id: str) -> PipelineRunView:
        """One run with its steps, their tries and the graph."""
        return pipelines.pipeline_run_view(op, run_id)

    @post("/api/v1/pipeline-runs/{run_id:str}/cancel", action="pipeline.cancel")
    def cancel_pipeline_run(op: Op, run_id: str) -> PipelineRun:
        """Stop a run."""
        return pipelines.cancel(op, run_id)

    @post("/api/v1/pipeline-runs/{run_id:str}/resume", action="pipeline.run")
    def resume_pipeline_run(op: Op, run_id: str, data: Resume) -> PipelineRun:
        """Go on with a failed or cancelled run from the steps that did not succeed."""
        return pipelines.resume(op, run_id, version=data.version, start=data.start)

    @post("/api/v1/pipeline-runs/{run_id:str}/pause", action="pipeline.cancel")
    def pause_pipeline_run(op: Op, run_id: str) -> PipelineRun:
        """Let what runs go on, and begin nothing more."""
        return pipelines.control.pause(op, run_id)

    @post("/api/v1/pipeline-runs/{run_id:str}/unpause", action="pipeline.run")
    def unpause_pipeline_run(op: Op, run_id: str) -> PipelineRun:
        """Go on with a paused run."""
        return pipelines.control.unpause(op, run_id)

    @post("/api/v1/pipeline-runs/{run_id:str}/rerun", action="pipeline.run")
    def rerun_pipeline_run(op: Op, run_id: str, data: Rerun) -> PipelineRun:
        """Start a run with the parameters of this one, some of them changed."""
        return pipelines.control.rerun(op, run_id, data.params, version=data.version)

    @post("/api/v1/step-runs/{step_run_id:str}/cancel", action="pipeline.cancel")
    def cancel_step_run(op: Op, step_run_id: str) -> StepRun:
        """Stop one step; what needs it is skipped, the rest of the run goes on."""
        return pipelines.control.cancel_step(op, step_run_id)

    @get("/api/v1/step-runs/{step_run_id:str}/logs", action="pipeline.read")
    def read_step_logs(op: Op, step_run_id: str, offset: int = 0) -> Logs:
        """What a step printed, from byte `offset` on."""
        return pipelines.logs(op, step_run_id, offset)

    return [
        submit_pipeline_run, list_pipeline_runs, read_pipeline_run, cancel_pipeline_run, resume_pipeline_run,
        pause_pipeline_run, unpause_pipeline_run, rerun_pipeline_run, cancel_step_run, read_step_logs,
    ]  # fmt: skip


def _sweeps(sweeps: Sweeps) -> Routes:
    @get("/api/v1/step-runs/{step_run_id:str}/trials", action="pipeline.read")
    def read_sweep(op: Op, step_run_id: str) -> Sweep:
        """A sweep with its trials."""
        return sweeps.sweep(op, step_run_id)

    @post("/api/v1/step-runs/{step_run_id:str}/reports", action="pipeline.report")
    def report_of_step(op: Op, step_run_id: str, data: Report) -> Verdict:
        """Numbers that a step reports while it works; the answer says whether to give up."""
        return sweeps.report(op, step_run_id, data)

    @get("/api/v1/step-runs/{step_run_id:str}/reports", action="pipeline.read")
    def read_step_reports(op: Op, step_run_id: str) -> Page[Reported]:
        """What a step has reported so far."""
        return Page(sweeps.reported(op, step_run_id))

    return [read_sweep, report_of_step, read_step_reports]


def _schedules(schedules: Schedules) -> Routes:
    @get("/api/v1/schedules", action="pipeline.read")
    def list_schedules(op: Op, pipeline: str = "", limit: int | None = None, page: str = "") -> Page[Schedule]:
        """Schedules, by name."""
        return schedules.schedules(op, pipeline=pipeline, limit=limit, page=page)

    @post("/api/v1/schedules", action="trigger.write")
    def create_schedule(op: Op, data: NewSchedule) -> Schedule:
        """Run a pipeline at the times of a cron expression."""
        return schedules.create(op, data)

    @put("/api/v1/schedules/{name:str}", action="trigger.write")
    def change_schedule(op: Op, name: str, data: NewSchedule) -> Schedule:
        """Give a schedule another rule."""
        return schedules.change(op, name, data)

    @patch("/api/v1/schedules/{name:str}", action="trigger.write")
    def switch_schedule(op: Op, name: str, data: Switch) -> Schedule:
        """Turn a schedule on or off."""
        return schedules.switch(op, name, data.is_enabled)

    @delete("/api/v1/schedules/{name:str}", action="trigger.write")
    def delete_schedule(op: Op, name: str) -> None:
        """Remove a schedule."""
        schedules.delete(op, name)

    return [list_schedules, create_schedule, change_schedule, switch_schedule, delete_schedule]


def _triggers(triggers: Triggers) -> Routes:
    @get("/api/v1/triggers", action="pipeline.read")
    def list_triggers(op: Op, pipeline: str = "", limit: int | None = None, page: str = "") -> Page[Trigger]:
        """Triggers, by name."""
        return triggers.triggers(op, pipeline=pipeline, limit=limit, page=page)

    @post("/api/v1/triggers", action="trigger.write")
    def create_trigger(op: Op, data: NewTrigger) -> Trigger:
        """Run a pipeline when a fact matches."""
        return triggers.create(op, data)

    @put("/api/v1/triggers/{name:str}", action="trigger.write")
    def change_trigger(op: Op, name: str, data: NewTrigger) -> Trigger:
        """Give a trigger another rule."""
        return triggers.change(op, name, data)

    @patch("/api/v1/triggers/{name:str}", action="trigger.write")
    def switch_trigger(op: Op, name: str, data: Switch) -> Trigger:
        """Turn a trigger on or off."""
        return triggers.switch(op, name, data.is_enabled)

    @delete("/api/v1/triggers/{name:str}", action="trigger.write")
    def delete_trigger(op: Op, name: str) -> None:
        """Remove a trigger."""
        triggers.delete(op, name)

    @post("/api/v1/triggers/{name:str}/secret", action="trigger.write")
    def renew_trigger_secret(op: Op, name: str) -> Trigger:
        """Make the secret of a hook anew; it is shown this once."""
        return triggers.new_secret(op, name)

    return [list_triggers, create_trigger, change_trigger, switch_trigger, delete_trigger, renew_trigger_secret]


def _backfills(backfills: Backfills) -> Routes:
    @post("/api/v1/pipelines/{name:str}/backfills", action="pipeline.run")
    def start_backfill(op: Op, name: str, data: NewBackfill) -> Backfill:
        """Run a pipeline once for each of many dates, a few at a time."""
        return backfills.start(op, name, data)

    @get("/api/v1/backfills", action="pipeline.read")
    def list_backfills(op: Op, pipeline: str = "", limit: int | None = None, page: str = "") -> Page[Backfill]:
        """Backfills, newest first."""
        return backfills.backfills(op, pipeline=pipeline, limit=limit, page=page)

    @get("/api/v1/backfills/{backfill_id:str}", action="pipeline.read")
    def read_backfill(op: Op, backfill_id: str) -> Backfill:
        """One backfill, with how many dates are in which state."""
        return backfills.backfill(op, backfill_id)

    @get("/api/v1/backfills/{backfill_id:str}/parts", action="pipeline.read")
    def list_backfill_parts(op: Op, backfill_id: str, limit: int | None = None, page: str = "") -> Page[BackfillPart]:
        """The dates of a backfill, in order."""
        return backfills.parts(op, backfill_id, limit=limit, page=page)

    @post("/api/v1/backfills/{backfill_id:str}/cancel", action="pipeline.cancel")
    def cancel_backfill(op: Op, backfill_id: str) -> Backfill:
        """Start no more dates and stop the runs that go on."""
        return backfills.cancel(op, backfill_id)

    return [start_backfill, list_backfills, read_backfill, list_backfill_parts, cancel_backfill]


def _hooks(hooks: Hooks) -> Routes:
    @post("/api/v1/hooks/{name:str}", action=PUBLIC)
    async def receive_hook(request: Request[Any, Any, Any], name: str) -> Received:
        """Take a signed message for a trigger: Standard Webhooks, or GitHub's."""
        body = await request.body()
        return await anyio.to_thread.run_sync(hooks.receive, name, dict(request.headers), body)

    return [receive_hook]


def _queues(queues: Queues) -> Routes:
    @get("/api/v1/queues", action="pipeline.read")
    def list_queues(op: Op) -> list[Queue]:
        """Queues, with what waits and runs in each."""
        return queues.queues(op)

    @put("/api/v1/queues/{name:str}", action="queue.write")
    def set_queue(op: Op, name: str, data: QueueRule) -> Queue:
        """Set the priority and the quota of a queue."""
        return queues.set(op, name, data)

    @delete("/api/v1/queues/{name:str}", action="queue.write")
    def delete_queue(op: Op, name: str) -> None:
        """Take back what was said about a queue."""
        queues.delete(op, name)

    return [list_queues, set_queue, delete_queue]


def _work(work: Work) -> Routes:
    @post("/api/v1/pipelines/work/hello", action="pipeline.work")
    def work_hello(op: Op, data: Hello) -> Welcome:
        """A worker starts."""
        return work.hello(op, data)

    @post("/api/v1/pipelines/work/claim", action="pipeline.work")
    async def work_claim(op: Op, data: Claim, request: Request[Any, Any, Any]) -> Claimed:
        """Hand out one ready step; waits up to `wait_s` for one."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + min(max(data.wait_s, 0.0), CLAIM_WAIT_MAX_S)
        hung_up = asyncio.ensure_future(request.receive())  # after the body, the next message says that the caller is gone
        try:
            while True:
                seen = work.changes
                found = await anyio.to_thread.run_sync(work.claim, op, data)
                if found.assignment or loop.time() >= until_s:
                    return found
                look_s = min(until_s, loop.time() + CLAIM_LOOK_S)
                # The signal comes from other threads; polling a number costs less than waking every waiter each time.
                while work.changes == seen and loop.time() < look_s and not hung_up.done():  # noqa: ASYNC110
                    await asyncio.sleep(CLAIM_POLL_S)
                if hung_up.done():  # a step handed to a worker that died would wait for its lease
                    return Claimed()
        finally:
            hung_up.cancel()

    @post("/api/v1/pipelines/work/beat", action="pipeline.work")
    def work_beat(op: Op, data: Beat) -> Orders:
        """A worker is alive; it learns what to stop."""
        return work.beat(op, data)

    @post("/api/v1/pipelines/work/logs", action="pipeline.work")
    def work_logs(op: Op, data: LogChunk) -> dict[str, Any]:
        """Keep a piece of a step's output."""
        work.append_log(op, data)
        return {}

    @post("/api/v1/pipelines/work/finish", action="pipeline.work")
    def work_finish(op: Op, data: Finish) -> Claimed:
        """Record how an attempt ended; the answer holds the worker's next step, if it asked for one and one is ready."""
        return work.finish(op, data)

    @post("/api/v1/pipelines/work/goodbye", action="pipeline.work")
    def work_goodbye(op: Op, data: Beat) -> dict[str, Any]:
        """A worker stops; what it held is free again."""
        work.goodbye(op, data)
        return {}

    @post("/api/v1/step-runs/{step_run_id:str}/replay", action="pipeline.run")
    def replay_step(op: Op, step_run_id: str) -> Replay:
        """What it takes to run a step again elsewhere: code, inputs, and a token that can only read."""
        return work.replay(op, step_run_id)

    return [replay_step, work_hello, work_claim, work_beat, work_logs, work_finish, work_goodbye]
