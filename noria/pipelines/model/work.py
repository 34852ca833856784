"""What server and worker say to each other."""

from __future__ import annotations

from msgspec import Struct, field

from noria.pipelines.model.queues import DEFAULT_QUEUE
from noria.pipelines.model.spec import CodeInfo, EnvironmentSpec
from noria.pipelines.model.steps import Outcome
from noria.pipelines.model.values import Value


class Hello(Struct, frozen=True, kw_only=True):
    """A worker starts. What an earlier process of this name still held is its own again, or free, at once."""

    worker: str  # unique to this process
    name: str
    host: str = ""
    pid: int = 0
    slots: int = 1
    cpus: float = 0.0  # what its steps may use together; 0: it does not say, and takes any step
    memory_bytes: int = 0
    gpus: int = 0
    queues: list[str] = field(default_factory=lambda: [DEFAULT_QUEUE])
    adopts: str = ""  # the executor whose jobs it can find again; '': its tries ended with the process before


class Welcome(Struct, frozen=True, kw_only=True):
    """The server's terms, and what is left of an earlier process of this name."""

    lease_s: float
    server_version: str = ""
    adopted: list[Assignment] = []  # it holds these tries from here on; inputs, secrets and the token are with their jobs
    orphans: list[Held] = []  # tries that were taken away; their jobs are to end


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
    image: str = ""
    cache_reason: str = ""
    secrets: dict[str, str] = {}  # by name; never logged, gone with the try

    def __repr__(self) -> str:
        return f"Assignment({self.step_run_id}, attempt {self.attempt})"


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
