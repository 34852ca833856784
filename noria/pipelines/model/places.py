"""Where a try of a step runs."""

from __future__ import annotations

from msgspec import Struct


class Place(Struct, frozen=True, kw_only=True):
    """Where a try ran: on what kind of executor, as which job, on which node, in which image. Empty for a worker's own processes."""

    executor: str = ""
    job: str = ""  # what the executor calls it: a Kubernetes job, a Slurm number, a Ray submission
    node: str = ""
    image: str = ""  # the container's, or what the executor calls its environment
    python: str = ""
    details: dict[str, str] = {}  # a namespace, a partition, an address
