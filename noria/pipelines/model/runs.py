"""The runs of pipelines, and what one may ask of them."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from noria.pipelines.model.spec import CodeInfo
from noria.pipelines.model.steps import StepView
from noria.pipelines.model.values import Value

# waiting: for other runs of its pipeline; queued: for a worker.
RunState = Literal["waiting", "queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
RUN_ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})


class PipelineRun(Struct, frozen=True, kw_only=True):
    """One execution of a pipeline."""

    id: str
    pipeline: str
    version: int
    state: RunState
    params: dict[str, Any]
    created_at_ms: int
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    actor: str = ""
    owner: str = ""
    cause: int | None = None
    error: str = ""
    remaining: int = 0
    outputs: dict[str, Value] = {}
    is_paused: bool = False  # nothing more of it begins
    slot: str = ""  # what it shares with the runs that it may have to wait for
    origin_run_id: str = ""  # the run whose parameters it was started with again
    queues: dict[
        str, str
    ] = {}  # where its steps go instead of where their code says: by name, "*" for those that say nothing


class PipelineRunView(Struct, frozen=True, kw_only=True):
    """A pipeline run with its steps; `workers` says how many are there to do the work. Elements of maps are not in `dag`."""

    run: PipelineRun
    steps: list[StepView]
    dag: list[tuple[str, str]]
    workers: int
    code: CodeInfo
    fact: int | None = None  # the seq of its submission
    waiting: str = ""  # why nothing of it begins: it is paused, or waits for other runs


class Submit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for a run. Two requests with the same `unique` give the same run."""

    params: dict[str, Any] = field(default_factory=dict)
    cause: int | None = None
    unique: str = ""
    version: int | None = None
    reproduces: str = ""  # the pipeline run that this one repeats; becomes an edge
    queues: dict[str, str] = field(default_factory=dict)  # {"train": "gpu"}; "*": every step that names no queue


class Resume(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Go on with a run that failed or was cancelled; with the code of another version if it has the same steps.

    `start`: run this step again, and everything that rests on it, also when they succeeded.
    """

    version: int | None = None
    start: str = ""


class Rerun(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Start a run with the parameters of another, some of them changed; with its version unless told otherwise."""

    params: dict[str, Any] = field(default_factory=dict)
    version: int | None = None


class Replay(Struct, frozen=True, kw_only=True):
    """What it takes to run a step again elsewhere: its code, its inputs, and a token that can only read."""

    step_run_id: str
    run_id: str
    pipeline: str
    step: str
    function: str
    entry: str
    inputs: dict[str, Value]
    code: CodeInfo
    python: str
    environment_digest: str
    token: str
