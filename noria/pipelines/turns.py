"""Whose turn it is when several steps could start: pure functions.

Queues with a higher priority come first, and one that runs as many steps as its quota allows is left out. Within a queue, the person
with the fewest running steps comes first; of one person the pipeline with the fewest; of one pipeline what has waited longest.
So whoever submits a thousand steps keeps nobody else waiting for longer than one step takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct

from noria.pipelines.model.queues import Queue


class Waiting(Struct, frozen=True):
    """A step that could start now."""

    id: str
    run_id: str
    queue: str
    owner: str
    pipeline: str


class Share(Struct, frozen=True):
    """How many steps of a pipeline, for an owner, run in a queue."""

    queue: str
    owner: str
    pipeline: str
    count: int


def in_turn(waiting: list[Waiting], running: list[Share], rules: Mapping[str, Queue]) -> list[Waiting]:
    """`waiting`, which comes in the order of its waiting, in the order in which it may start."""
    of_queue: Counter[str] = Counter()
    of_owner: Counter[tuple[str, str]] = Counter()
    of_pipeline: Counter[tuple[str, str, str]] = Counter()
    for share in running:
        of_queue[share.queue] += share.count
        of_owner[share.queue, share.owner] += share.count
        of_pipeline[share.queue, share.owner, share.pipeline] += share.count

    def turn(step: Waiting) -> tuple[int, int, int]:
        rule = rules.get(step.queue)
        return (
            -(rule.priority if rule else 0), of_owner[step.queue, step.owner],
            of_pipeline[step.queue, step.owner, step.pipeline],
        )  # fmt: skip

    full = {name for name, rule in rules.items() if rule.quota is not None and of_queue[name] >= rule.quota}
    return sorted((step for step in waiting if step.queue not in full), key=turn)
