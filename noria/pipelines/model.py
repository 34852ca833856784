"""The nouns of pipelines: what was registered, what runs, and the values that travel between steps.

A spec is data: steps whose inputs say where they come from. The client traces it once; the server never runs user code.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

from noria.kernel.facts import Fact, fact
from noria.pipelines.space import SweepSpec, TrialState

STEPS_MAX = 1_000  # per run; a page still draws it, and a submit stays one short transaction
RETRIES_MAX = 20
LOST_MAX = 5  # a step whose worker vanished this often is taken for the cause
RETRY_DELAY_MAX_S = 300.0
INLINE_BYTES_MAX = 64 << 10  # a JSON value beyond this travels as a blob
LOG_BYTES_MAX = 8 << 20  # per attempt; what is printed beyond it is dropped, and the log says so
LOG_PAGE_BYTES = 256 << 10
PARAMS_BYTES_MAX = 256 << 10
PROMPT_LENGTH_MAX = 1_000
ANSWER_S_MAX = 90 * 86_400  # how long a step may wait for people, as long as an approval may
DEFAULT_QUEUE = "default"  # what the worker of `noria server` serves
QUEUES_MAX = 200
RESERVED_NAMES = frozenset({"work"})  # /api/v1/pipelines/work/… belongs to the workers

WAITING_MAX = 1_000  # runs of a pipeline that wait for others of it to end; more are passed over
CONCURRENCY_MAX = 1_000
FILES_MAX = 10_000  # that a trigger looks at
HOOK_BYTES_MAX = 64 << 10  # a message becomes a fact, and facts are kept for ever

# waiting: for other runs of its pipeline; queued: for a worker.
RunState = Literal["waiting", "queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
# asking: it waits for what people say. A map runs while its elements do.
StepState = Literal["waiting", "ready", "running", "asking", "succeeded", "failed", "cancelled", "skipped"]
StepKind = Literal["call", "map", "sweep", "approve"]
Outcome = Literal["succeeded", "failed", "timed_out", "out_of_memory", "cancelled", "lost"]
RUN_ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})
STEP_ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled", "skipped"})


# --- where an input comes from ------------------------------------------------------------------------------------------


class FromParam(Struct, frozen=True, tag="param", tag_field="from"):
    """A parameter of the pipeline, or the part of it at `path`."""

    name: str
    path: list[str | int] = []


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

    items: list[FromParam | FromStep | FromValue | FromBlob | FromList | FromDict | FromFirst]


class FromDict(Struct, frozen=True, tag="dict", tag_field="from"):
    """A dict of inputs."""

    items: dict[str, FromParam | FromStep | FromValue | FromBlob | FromList | FromDict | FromFirst]


class FromFirst(Struct, frozen=True, tag="first", tag_field="from"):
    """The first of these that is there: whose steps were not passed over. `default` when none is."""

    items: list[FromParam | FromStep | FromValue | FromBlob | FromList | FromDict | FromFirst]
    default: Any = None
    has_default: bool = False


Source = FromParam | FromStep | FromValue | FromBlob | FromList | FromDict | FromFirst


# --- conditions -----------------------------------------------------------------------------------------------------------


class Truth(Struct, frozen=True, tag="truth", tag_field="test"):
    """A value that is neither false, nor zero, nor empty, nor missing."""

    value: Source


class Compare(Struct, frozen=True, tag="compare", tag_field="test"):
    """Two values, compared as Python compares them."""

    left: Source
    op: Literal["==", "!=", ">", ">=", "<", "<="]
    right: Source


class Every(Struct, frozen=True, tag="and", tag_field="test"):
    """All of these hold."""

    of: list[Truth | Compare | Every | Some | Not]


class Some(Struct, frozen=True, tag="or", tag_field="test"):
    """One of these holds."""

    of: list[Truth | Compare | Every | Some | Not]


class Not(Struct, frozen=True, tag="not", tag_field="test"):
    """This does not hold."""

    of: Truth | Compare | Every | Some | Not


Test = Truth | Compare | Every | Some | Not


# --- values ---------------------------------------------------------------------------------------------------------------


class Json(Struct, frozen=True, tag="json", tag_field="as"):
    """A plain value."""

    value: Any


class Pickle(Struct, frozen=True, tag="pickle", tag_field="as"):
    """A value the server cannot read and never does: cloudpickle bytes under their digest."""

    digest: str
    size_bytes: int
    type: str = ""
    length: int | None = None  # of a list: how many steps it can be spread over


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


class Question(Struct, frozen=True, kw_only=True):
    """What an approval step asks: of whom, and how many have to agree."""

    prompt: str
    role: str = ""  # only people with this role may answer
    required: int = 1


class Answer(Struct, frozen=True, kw_only=True):
    """What people said to a question: `reason` is a sentence for the page."""

    approved: bool
    by: list[str]
    comment: str
    reason: str


class StepSpec(Struct, frozen=True, kw_only=True):
    """One call of a step in a pipeline; or many, made while it runs (`map`, `sweep`); or a question to people (`approve`)."""

    name: str  # unique in its pipeline: the function's name, numbered when it is called more than once
    function: str = ""  # `module:name`, found in the captured code; empty for a question
    kind: StepKind = "call"
    each: list[str] = []  # of a map: the inputs that are lists, of which each element gets its own item
    keep_going: bool = False  # of a map: an element that fails gives None, and is no reason for the run to fail
    when: list[Test] = []  # the step is passed over unless all of these hold
    question: Question | None = None
    sweep: SweepSpec | None = None
    description: str = ""
    inputs: dict[str, Source] = {}
    after: list[str] = []  # steps to wait for without using what they return
    retries: int = 0
    retry_delay_s: float = 1.0  # doubles with each retry
    timeout_s: float | None = None
    queue: str = DEFAULT_QUEUE  # whose workers may take it
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
    concurrency: int | None = None  # how many runs go on at once
    concurrency_key: str = ""  # counted for each value of this, such as "${region}"
    on_busy: Literal["queue", "skip", "cancel_oldest"] = "queue"
    starts: list[Start] = []  # schedules and triggers that come with the code


class Pipeline(Struct, frozen=True, kw_only=True):
    """A registered pipeline and its latest version. While it is paused, nothing starts it by itself."""

    id: str
    is_paused: bool = False
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
    is_paused: bool = False  # nothing more of it begins
    slot: str = ""  # what it shares with the runs that it may have to wait for
    origin_run_id: str = ""  # the run whose parameters it was started with again


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
    queue: str = DEFAULT_QUEUE
    owner: str = ""  # of its run; with the pipeline, whose share of the queue it takes
    pipeline: str = ""
    cpu: float = 0.0  # what it was promised
    gpu: int = 0
    memory_bytes: int = 0
    kind: StepKind = "call"
    parent_id: str = ""  # of an element: the step run of its map, or of its sweep
    item: int = -1  # of an element: which one
    approval_id: str = ""  # of a question: where it is answered
    stop_by: str = ""  # who asked for this step alone to stop
    spec: StepSpec | None = None  # of a step made at run time; the others are in the pipeline's version


class StepView(Struct, frozen=True, kw_only=True):
    """A step run with its tries, as a page shows it."""

    step: StepRun
    attempts: list[Attempt]
    description: str = ""
    depends_on: list[str] = []
    waiting: str = ""  # why a step that is ready does not start
    when: list[str] = []  # its conditions, as they were written
    question: Question | None = None


class PipelineRunView(Struct, frozen=True, kw_only=True):
    """A pipeline run with its steps; `workers` says how many are there to do the work. Elements of maps are not in `dag`."""

    run: PipelineRun
    steps: list[StepView]
    dag: list[tuple[str, str]]
    workers: int
    code: CodeInfo
    fact: int | None = None  # the seq of its submission
    waiting: str = ""  # why nothing of it begins: it is paused, or waits for other runs


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
    queues: list[str] = field(default_factory=lambda: [DEFAULT_QUEUE])


class Queue(Struct, frozen=True, kw_only=True):
    """Steps that wait for certain workers. It needs no making: a name that steps or workers use is a queue.

    Of two queues that a worker serves, the one with the higher priority comes first. `quota`: how many steps of it run at once.
    """

    name: str
    priority: int = 0
    quota: int | None = None
    ready: int = 0
    running: int = 0
    workers: int = 0


class QueueRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be said about a queue."""

    priority: int = 0
    quota: int | None = None


class Room(Struct, frozen=True, kw_only=True):
    """What steps may use on a worker: of all it has, or of what is free. `kept_for_ms` keeps it for those due until then."""

    cpus: float
    memory_bytes: float
    gpus: float
    kept_for_ms: int | None = None


class Report(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Numbers that a step reports while it works. A number that is not finite is sent as null."""

    attempt: int
    step: int
    values: dict[str, float | None]


class Verdict(Struct, frozen=True, kw_only=True):
    """The answer to a report: is the trial to be given up?"""

    prune: bool = False
    reason: str = ""


class TrialView(Struct, frozen=True, kw_only=True):
    """A trial of a sweep, as a page shows it. `reports`: (step, value) of the metric, thinned."""

    number: int
    step_run_id: str
    state: StepState
    outcome: TrialState
    params: dict[str, Any]
    value: float | None = None
    reports: list[tuple[int, float | None]] = []
    reason: str = ""
    started_at_ms: int | None = None
    ended_at_ms: int | None = None


class Sweep(Struct, frozen=True, kw_only=True):
    """A sweep with its trials; `best` is the number of the best so far."""

    step: StepRun
    spec: SweepSpec
    trials: list[TrialView]
    best: int | None = None


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


class Files(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files to look for: in a folder or store, those whose path below it matches `pattern` (`*` for anything, also `/`)."""

    url: str
    pattern: str = "*"


CatchUp = Literal["latest", "all", "none"]


class OnTime(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="time", tag_field="on"):
    """A schedule that the pipeline's code declares."""

    cron: str
    time_zone: str = "UTC"
    params: dict[str, Any] = {}
    catch_up: CatchUp = "latest"
    name: str = ""


class OnFact(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="fact", tag_field="on"):
    """A trigger that the pipeline's code declares: for facts, new files, or signed messages."""

    kinds: list[str] = []
    filter: list[Condition] = []
    params: dict[str, Any] = {}
    cooldown_s: float = 0.0
    files: Files | None = None
    is_hook: bool = False
    name: str = ""

    @property
    def word(self) -> str:
        """What it is called when its author did not name it."""
        return (
            "files" if self.files else "hook" if self.is_hook else self.kinds[0].partition(".")[0] if self.kinds else "event"
        )


Start = OnTime | OnFact


class NewSchedule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it takes to make a schedule: five cron fields and a time zone.

    A parameter may name the time: `${date}` (2026-03-01) or `${at}` (2026-03-01T03:00:00+01:00), in the schedule's zone.
    `catch_up`: of the times that pass while no server runs, the latest is run, or all, or none.
    """

    name: str
    pipeline: str
    cron: str
    time_zone: str = "UTC"
    params: dict[str, Any] = {}
    catch_up: CatchUp = "latest"
    is_enabled: bool = True


class Schedule(Struct, frozen=True, kw_only=True):
    """Runs a pipeline at the times a cron expression names."""

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
    catch_up: CatchUp = "latest"
    is_declared: bool = False  # by the pipeline's code


class NewTrigger(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it takes to make a trigger. A parameter may name a part of the fact: `${data.number}`, `${subject}`, `${seq}`.

    It answers to facts of `kinds`; or to files that arrive (`files`: `${data.path}`, `${data.url}`); or to signed messages to
    /api/v1/hooks/<name> (`is_hook`: `${data.body.<name>}`).
    """

    name: str
    pipeline: str
    kinds: list[str] = []
    filter: list[Condition] = []
    params: dict[str, Any] = {}
    cooldown_s: float = 0.0
    files: Files | None = None
    is_hook: bool = False
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
    files: Files | None = None
    is_hook: bool = False
    is_declared: bool = False  # by the pipeline's code
    secret: str | UnsetType = UNSET  # of a hook, only in the answer that made it


class Received(Struct, frozen=True, kw_only=True):
    """A message was taken; `is_new` is false for one that came before."""

    is_new: bool


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
    """Go on with a run that failed or was cancelled; with the code of another version if it has the same steps.

    `start`: run this step again, and everything that rests on it, also when they succeeded.
    """

    version: int | None = None
    start: str = ""


class Rerun(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Start a run with the parameters of another, some of them changed; with its version unless told otherwise."""

    params: dict[str, Any] = field(default_factory=dict)
    version: int | None = None


# --- backfills ------------------------------------------------------------------------------------------------------------

BACKFILL_PARTS_MAX = 5_000
BACKFILL_PARALLEL_MAX = 100
BackfillState = Literal["running", "succeeded", "failed", "cancelled"]
PartState = Literal["waiting", "running", "succeeded", "failed", "cancelled", "skipped"]
PART_ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled", "skipped"})


class NewBackfill(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Run a pipeline once for each day (hour, week) from `first` to `last`, both included, as its parameter `param`.

    A date that a backfill of this pipeline did already with the same other parameters is not done again, unless `again`.
    """

    param: str
    first: str
    last: str
    step: Literal["hour", "day", "week"] = "day"
    params: dict[str, Any] = {}
    parallel: int = 1
    again: bool = False


class Backfill(Struct, frozen=True, kw_only=True):
    """A pipeline that is run for many dates, a few at a time."""

    id: str
    pipeline: str
    version: int
    param: str
    first: str
    last: str
    step: Literal["hour", "day", "week"]
    params: dict[str, Any]
    parallel: int
    state: BackfillState
    owner: str
    actor: str
    created_at_ms: int
    ended_at_ms: int | None = None
    error: str = ""
    counts: dict[str, int] = {}  # how many dates are in which state


class BackfillPart(Struct, frozen=True, kw_only=True):
    """One date of a backfill."""

    backfill_id: str
    position: int
    value: str
    state: PartState
    run_id: str = ""
    reason: str = ""


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
    queues: list[str] = field(default_factory=lambda: [DEFAULT_QUEUE])


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
    """A schedule was turned on or off."""

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
    """A trigger was turned on or off."""

    is_enabled: bool


@fact("trigger.deleted")
class TriggerDeleted(Fact):
    """A trigger is gone."""
