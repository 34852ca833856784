"""The nouns of pipelines: what was registered, what runs, and the values that travel between steps.

A spec is data: steps whose inputs say where they come from. The client traces it once; the server never runs user code.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from noria.kernel.facts import Fact, fact

STEPS_MAX = 1_000  # per run; a page still draws it, and a submit stays one short transaction
RETRIES_MAX = 20
LOST_MAX = 5  # a step whose worker vanished this often is taken for the cause
RETRY_DELAY_MAX_S = 300.0
INLINE_BYTES_MAX = 64 << 10  # a JSON value beyond this travels as a blob
LOG_BYTES_MAX = 8 << 20  # per attempt; what is printed beyond it is dropped, and the log says so
LOG_PAGE_BYTES = 256 << 10
PARAMS_BYTES_MAX = 256 << 10
RESERVED_NAMES = frozenset({"work"})  # /api/v1/pipelines/work/… belongs to the workers

RunState = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
StepState = Literal["waiting", "ready", "running", "succeeded", "failed", "cancelled", "skipped"]
Outcome = Literal["succeeded", "failed", "timed_out", "out_of_memory", "cancelled", "lost"]
RUN_ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})
STEP_ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled", "skipped"})


# --- where an input comes from ------------------------------------------------------------------------------------------


class FromParam(Struct, frozen=True, tag="param", tag_field="from"):
    """A parameter of the pipeline."""

    name: str


class FromStep(Struct, frozen=True, tag="step", tag_field="from"):
    """What a step returned, or the part of it at `path`."""

    step: str
    path: list[str | int] = []


class FromValue(Struct, frozen=True, tag="value", tag_field="from"):
    """A JSON value written in the pipeline."""

    value: Any


class FromBlob(Struct, frozen=True, tag="blob", tag_field="from"):
    """A value written in the pipeline that is not JSON: pickled when the pipeline was traced."""

    digest: str
    size_bytes: int


class FromList(Struct, frozen=True, tag="list", tag_field="from"):
    """A list of inputs: how fan-out comes together again."""

    items: list[FromParam | FromStep | FromValue | FromBlob | FromList | FromDict]


class FromDict(Struct, frozen=True, tag="dict", tag_field="from"):
    """A dict of inputs."""

    items: dict[str, FromParam | FromStep | FromValue | FromBlob | FromList | FromDict]


Source = FromParam | FromStep | FromValue | FromBlob | FromList | FromDict


# --- values ---------------------------------------------------------------------------------------------------------------


class Json(Struct, frozen=True, tag="json", tag_field="as"):
    """A plain value."""

    value: Any


class Pickle(Struct, frozen=True, tag="pickle", tag_field="as"):
    """A value the server cannot read and never does: cloudpickle bytes under their digest."""

    digest: str
    size_bytes: int
    type: str = ""


class Many(Struct, frozen=True, tag="many", tag_field="as"):
    """A tuple or list of values, each stored on its own."""

    items: list[Json | Pickle | Many | Named | Part]
    kind: Literal["tuple", "list"] = "list"


class Named(Struct, frozen=True, tag="named", tag_field="as"):
    """A dict of values, each stored on its own."""

    items: dict[str, Json | Pickle | Many | Named | Part]


class Part(Struct, frozen=True, tag="part", tag_field="as"):
    """What is at `path` of a pickled value; looked up in the step's process."""

    value: Pickle
    path: list[str | int]


Value = Json | Pickle | Many | Named | Part


def pickles(value: Value) -> list[Pickle]:
    """Every pickled part."""
    if isinstance(value, Pickle):
        return [value]
    if isinstance(value, Part):
        return [value.value]
    if isinstance(value, Many):
        return [found for item in value.items for found in pickles(item)]
    if isinstance(value, Named):
        return [found for item in value.items.values() for found in pickles(item)]
    return []


# --- what is registered ---------------------------------------------------------------------------------------------------


class ParamSpec(Struct, frozen=True, kw_only=True):
    """A parameter of a pipeline: a JSON value."""

    required: bool = False
    default: Any = None
    type: str = ""


class EnvironmentSpec(Struct, frozen=True, kw_only=True):
    """The packages of a step, resolved: a lock with exact versions, and what was asked for."""

    lock_digest: str
    python: str
    asked: list[str] = []


class StepSpec(Struct, frozen=True, kw_only=True):
    """One call of a step in a pipeline."""

    name: str  # unique in its pipeline: the function's name, numbered when it is called more than once
    function: str  # `module:name`, found in the captured code
    description: str = ""
    inputs: dict[str, Source] = {}
    after: list[str] = []  # steps to wait for without using what they return
    retries: int = 0
    retry_delay_s: float = 1.0  # doubles with each retry
    timeout_s: float | None = None
    cpu: float = 0.0  # processors it uses; 0: it does not say. It starts when a worker has as many to spare
    gpu: int = 0
    memory_bytes: int = 0  # it is ended when it uses more; 0: no limit
    disk_bytes: int = 0  # the same for its scratch folder; 0: half of what is free
    env: EnvironmentSpec | None = None  # None: the worker's own
    cache_s: float | None = None  # None: never taken from the cache; 0: for ever
    code_digest: str = ""  # of the function and every first-party thing it uses
    opaque: list[str] = []  # names the code digest could not follow


class CodeInfo(Struct, frozen=True, kw_only=True):
    """The code a pipeline was traced from: git's view of it, and the files themselves."""

    archive_digest: str
    files_count: int = 0
    size_bytes: int = 0
    commit: str = ""
    branch: str = ""
    is_dirty: bool = False
    diff_digest: str = ""
    remote: str = ""


class PipelineSpec(Struct, frozen=True, kw_only=True):
    """A pipeline as the client traced it."""

    name: str
    description: str = ""
    entry: str  # the module that defines it, found in the captured code
    params: dict[str, ParamSpec] = {}
    fixed: dict[str, Any] = {}  # parameters whose value shaped the graph
    steps: list[StepSpec]
    outputs: dict[str, Source] = {}
    code: CodeInfo
    environment_digest: str = ""
    python: str = ""


class Pipeline(Struct, frozen=True, kw_only=True):
    """A registered pipeline and its latest version."""

    id: str
    name: str
    version: int
    description: str
    created_at_ms: int
    updated_at_ms: int
    owner: str
    spec: PipelineSpec | None = None


class PipelineVersion(Struct, frozen=True, kw_only=True):
    """One registered state of a pipeline's code; never changes."""

    pipeline: str
    number: int
    digest: str
    created_at_ms: int
    actor: str
    owner: str
    spec: PipelineSpec


# --- what runs ------------------------------------------------------------------------------------------------------------


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


class Attempt(Struct, frozen=True, kw_only=True):
    """One try of a step, by one worker."""

    number: int
    worker: str
    state: Literal["running", "succeeded", "failed", "timed_out", "out_of_memory", "cancelled", "lost"]
    started_at_ms: int
    ended_at_ms: int | None = None
    exit_code: int | None = None
    error: str = ""
    environment_digest: str = ""
    memory_peak_bytes: int | None = None  # where it was measured: of steps with a limit


class StepRun(Struct, frozen=True, kw_only=True):
    """One step of a pipeline run."""

    id: str
    run_id: str
    name: str
    position: int
    state: StepState
    waits: int  # steps that have to end first
    attempt: int  # the number of the current or last try; the fence
    failures: int = 0
    losses: int = 0
    due_at_ms: int = 0
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    worker: str = ""
    lease_until_ms: int | None = None
    error: str = ""
    cache_key: str = ""
    cached_from: str = ""  # the step run whose result was taken
    reason: str = ""  # why it ran, or why it did not
    log_bytes: int = 0
    outputs: Value | None = None
    reads: list[str] = []  # refs that it, or a step whose results it uses, read
    cpu: float = 0.0  # what it was promised
    gpu: int = 0
    memory_bytes: int = 0


class StepView(Struct, frozen=True, kw_only=True):
    """A step run with its tries, as a page shows it."""

    step: StepRun
    attempts: list[Attempt]
    description: str = ""
    depends_on: list[str] = []
    waiting: str = ""  # why a step that is ready does not start


class PipelineRunView(Struct, frozen=True, kw_only=True):
    """A pipeline run with its steps; `workers` says how many are there to do the work."""

    run: PipelineRun
    steps: list[StepView]
    dag: list[tuple[str, str]]
    workers: int
    code: CodeInfo
    fact: int | None = None  # the seq of its submission


class PipelineWorker(Struct, frozen=True, kw_only=True):
    """A process that runs steps, and what its steps may use together; 0: it does not say."""

    id: str
    name: str
    host: str
    pid: int
    slots: int
    started_at_ms: int
    seen_at_ms: int
    cpus: float = 0.0
    memory_bytes: int = 0
    gpus: int = 0


class Room(Struct, frozen=True, kw_only=True):
    """What steps may use on a worker: of all it has, or of what is free. `kept_for_ms` keeps it for those due until then."""

    cpus: float
    memory_bytes: float
    gpus: float
    kept_for_ms: int | None = None


class Logs(Struct, frozen=True, kw_only=True):
    """A piece of a step's output. Ask again from `next`; `done` when nothing more will come."""

    text: str
    offset: int
    next: int
    done: bool


# --- what starts runs -----------------------------------------------------------------------------------------------------


class Condition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A test of one field of a fact: `subject`, or `data.<name>`. `like` takes `*` for anything."""

    field: str
    op: Literal["=", "!=", ">", ">=", "<", "<=", "like"] = "="
    value: Any


class NewSchedule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it takes to make a schedule: five cron fields and a time zone."""

    name: str
    pipeline: str
    cron: str
    time_zone: str = "UTC"
    params: dict[str, Any] = {}
    is_enabled: bool = True


class Schedule(Struct, frozen=True, kw_only=True):
    """Runs a pipeline at the times a cron expression names. Times missed while the server was down become one run."""

    id: str
    name: str
    pipeline: str
    cron: str
    time_zone: str
    params: dict[str, Any]
    is_enabled: bool
    owner: str
    created_at_ms: int
    next_at_ms: int
    last_at_ms: int | None = None
    last_run_id: str = ""
    error: str = ""


class NewTrigger(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it takes to make a trigger. A parameter may name a part of the fact: `${data.number}`, `${subject}`, `${seq}`."""

    name: str
    pipeline: str
    kinds: list[str]
    filter: list[Condition] = []
    params: dict[str, Any] = {}
    cooldown_s: float = 0.0
    is_enabled: bool = True


class Trigger(Struct, frozen=True, kw_only=True):
    """Runs a pipeline when a fact matches; at most once per fact, and not within the cool-down of its last run."""

    id: str
    name: str
    pipeline: str
    kinds: list[str]
    filter: list[Condition]
    params: dict[str, Any]
    cooldown_s: float
    is_enabled: bool
    owner: str
    created_at_ms: int
    last_at_ms: int | None = None
    last_run_id: str = ""
    skipped: int = 0
    error: str = ""


class Switch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Turn a schedule or a trigger on or off."""

    is_enabled: bool


class Submit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for a run. Two requests with the same `unique` give the same run."""

    params: dict[str, Any] = field(default_factory=dict)
    cause: int | None = None
    unique: str = ""
    version: int | None = None
    reproduces: str = ""  # the pipeline run that this one repeats; becomes an edge


class Resume(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Go on with a run that failed or was cancelled; with the code of another version if it has the same steps."""

    version: int | None = None


# --- between server and worker --------------------------------------------------------------------------------------------


class Hello(Struct, frozen=True, kw_only=True):
    """A worker starts. What an earlier worker of this name still held is free again at once."""

    worker: str  # unique to this process
    name: str
    host: str = ""
    pid: int = 0
    slots: int = 1
    cpus: float = 0.0  # what its steps may use together; 0: it does not say, and takes any step
    memory_bytes: int = 0
    gpus: int = 0


class Welcome(Struct, frozen=True, kw_only=True):
    """The server's terms."""

    lease_s: float
    server_version: str = ""


class Claim(Struct, frozen=True, kw_only=True):
    """A worker asks for one step, and is willing to wait."""

    worker: str
    wait_s: float = 0.0
    key: str = ""  # of this wish: asked again under the same key, it is given the step that it was given before


class Assignment(Struct, frozen=True, kw_only=True):
    """One try of one step, handed to a worker with all it needs."""

    step_run_id: str
    run_id: str
    pipeline: str
    step: str
    function: str
    entry: str
    attempt: int
    inputs: dict[str, Value]
    code: CodeInfo
    reads: list[str]  # what the steps read whose results it uses
    lease_s: float
    timeout_s: float | None
    token: str
    cpu: float = 0.0
    gpu: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    env: EnvironmentSpec | None = None
    cache_reason: str = ""


class Claimed(Struct, frozen=True, kw_only=True):
    """The answer to a claim; empty when there was nothing to do."""

    assignment: Assignment | None = None


class Held(Struct, frozen=True, kw_only=True):
    """What a worker holds: a step run in one attempt."""

    step_run_id: str
    attempt: int


class Beat(Struct, frozen=True, kw_only=True):
    """A worker is alive and holds these."""

    worker: str
    held: list[Held]


class Orders(Struct, frozen=True, kw_only=True):
    """What to stop: `cancel` on request, `lost` because another worker has it by now."""

    cancel: list[Held] = []
    lost: list[Held] = []


class LogChunk(Struct, frozen=True, kw_only=True):
    """Output of an attempt; `offset` counts the attempt's own bytes, so that a repeated chunk is recognised."""

    worker: str
    step_run_id: str
    attempt: int
    offset: int
    text: str


class Finish(Struct, frozen=True, kw_only=True):
    """How an attempt ended."""

    worker: str
    step_run_id: str
    attempt: int
    outcome: Outcome
    outputs: Value | None = None
    error: str = ""
    exit_code: int | None = None
    reads: list[str] = []  # refs the step read: dataset_version:…
    environment_digest: str = ""
    memory_peak_bytes: int | None = None
    text: str = ""  # the end of its output, from byte `offset` of the attempt on
    offset: int = 0
    next: Claim | None = None  # the worker would like another step; what it gets is in the answer


# --- facts ----------------------------------------------------------------------------------------------------------------


@fact("pipeline.registered")
class PipelineRegistered(Fact):
    """A pipeline has a new version."""

    version: int
    code_digest: str
    source_commit: str


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
    """A run goes on from the steps that did not succeed."""

    pipeline: str
    version: int


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


@fact("schedule.created")
class ScheduleCreated(Fact):
    """A schedule was made."""

    pipeline: str
    cron: str
    time_zone: str


@fact("schedule.changed")
class ScheduleChanged(Fact):
    """A schedule was turned on or off."""

    is_enabled: bool


@fact("schedule.deleted")
class ScheduleDeleted(Fact):
    """A schedule is gone."""


@fact("trigger.created")
class TriggerCreated(Fact):
    """A trigger was made."""

    pipeline: str
    kinds: list[str]


@fact("trigger.changed")
class TriggerChanged(Fact):
    """A trigger was turned on or off."""

    is_enabled: bool


@fact("trigger.deleted")
class TriggerDeleted(Fact):
    """A trigger is gone."""
