"""What is registered: a pipeline as the client traced it, and its versions.

A spec is data: steps whose inputs say where they come from. The server never runs user code.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from noria.pipelines.model.conditions import Test
from noria.pipelines.model.queues import DEFAULT_QUEUE
from noria.pipelines.model.sources import Source
from noria.pipelines.model.starts import Start
from noria.pipelines.space import SweepSpec

RESERVED_NAMES = frozenset({"work"})  # /api/v1/pipelines/work/… belongs to the workers
StepKind = Literal["call", "map", "sweep", "approve"]


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
    secrets: list[str] = []  # names; it gets their values as variables of its environment
    cpu: float = 0.0  # processors it uses; 0: it does not say. It starts when a worker has as many to spare
    gpu: int = 0
    memory_bytes: int = 0  # it is ended when it uses more; 0: no limit
    disk_bytes: int = 0  # the same for its scratch folder; 0: half of what is free
    env: EnvironmentSpec | None = None  # None: the worker's own
    image: str = ""  # of the container, where its executor runs containers; elsewhere it means nothing
    cache_s: float | None = None  # None: never taken from the cache; 0: for ever
    cache_ignore: list[str] = []  # inputs that do not decide whether a result can be taken
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
