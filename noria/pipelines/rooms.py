"""Which worker has room for which step: pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from noria.pipelines.model.queues import Queue
from noria.pipelines.model.steps import StepRun
from noria.pipelines.model.workers import PipelineWorker, Room

KEPT_AFTER_MS = 30_000  # a step that waits longer than this for room gets it, before younger ones fill it again


def whole(worker: PipelineWorker | None) -> Room:
    """All that a worker offers; one that does not say offers anything."""
    cpus, memory_bytes, gpus = (worker.cpus, worker.memory_bytes, worker.gpus) if worker else (0.0, 0, 0)
    says = bool(cpus)
    return Room(
        cpus=cpus if says else math.inf, memory_bytes=memory_bytes or math.inf, gpus=gpus if says else math.inf
    )  # fmt: skip


def free(room: Room, used: Mapping[str, Any]) -> Room:
    """What is left of `room` beside what is `used`."""
    return Room(
        cpus=room.cpus - float(used.get("cpus", 0)), memory_bytes=room.memory_bytes - float(used.get("memory_bytes", 0)),
        gpus=room.gpus - float(used.get("gpus", 0)),
    )  # fmt: skip


def why_waiting(
    step: StepRun, workers: list[PipelineWorker], rules: Mapping[str, Queue], running: Mapping[str, int]
) -> str:  # fmt: skip
    """Why a step that is ready cannot start now; '' when a worker could take it and may only be busy."""
    if not workers:
        return "No worker is running."
    serving = [worker for worker in workers if step.queue in worker.queues]
    if not serving:
        known = ", ".join(sorted({name for worker in workers for name in worker.queues}))
        return f"No worker serves the queue {step.queue!r}; those that run serve: {known}."
    rule = rules.get(step.queue)
    if rule and rule.quota is not None and running.get(step.queue, 0) >= rule.quota:
        return f"The queue {step.queue!r} runs as many steps as its quota allows ({rule.quota})."
    rooms = [whole(worker) for worker in serving]
    if any(step.cpu <= r.cpus and step.memory_bytes <= r.memory_bytes and step.gpu <= r.gpus for r in rooms):
        return ""
    for asked, most, unit in (
        (step.cpu, max(r.cpus for r in rooms), "cpus"),
        (step.gpu, max(r.gpus for r in rooms), "GPUs"),
        (step.memory_bytes / 1e9, max(r.memory_bytes for r in rooms) / 1e9, "GB of memory"),
    ):
        if asked > most:
            return f"It asks for {asked:g} {unit}; the largest worker has {most:.3g}."
    return "No single worker has all that it asks for."
