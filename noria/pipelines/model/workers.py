"""The processes that run steps, and the room they have."""

from __future__ import annotations

from msgspec import Struct, field

from noria.pipelines.model.queues import DEFAULT_QUEUE


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


class Room(Struct, frozen=True, kw_only=True):
    """What steps may use on a worker: of all it has, or of what is free. `kept_for_ms` keeps it for those due until then."""

    cpus: float
    memory_bytes: float
    gpus: float
    kept_for_ms: int | None = None
