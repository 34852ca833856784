"""The steps of a run, their tries and their output."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from noria.pipelines.model.places import Place
from noria.pipelines.model.queues import DEFAULT_QUEUE
from noria.pipelines.model.spec import Question, StepKind, StepSpec
from noria.pipelines.model.values import Value

# asking: it waits for what people say. A map runs while its elements do.
StepState = Literal["waiting", "ready", "running", "asking", "succeeded", "failed", "cancelled", "skipped"]
Outcome = Literal["succeeded", "failed", "timed_out", "out_of_memory", "cancelled", "lost"]
STEP_ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled", "skipped"})


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
    place: Place = field(default_factory=Place)


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


class Logs(Struct, frozen=True, kw_only=True):
    """A piece of a step's output. Ask again from `next`; `done` when nothing more will come."""

    text: str
    offset: int
    next: int
    done: bool
