"""The collector of datasets, run by the server itself: bytes that no version needs go a day after nothing needs them any more."""

from __future__ import annotations

import logging

from noria.kernel.clock import Clock
from noria.repository.collect import collect
from noria.repository.repository import Repository

log = logging.getLogger("noria.datasets")


class DatasetsUpkeep:
    """A reconciler. Begins `hours` after the start, so that a server that is started often does not collect each time; 0: never."""

    name = "datasets.collect"
    every_s = 600.0
    wake_on: frozenset[str] = frozenset()

    def __init__(self, repository: Repository, clock: Clock, hours: float) -> None:
        self._repository, self._clock, self._hours = repository, clock, hours
        self._due_s = clock.monotonic_s() + hours * 3600

    def reconcile(self) -> None:
        if not self._hours or self._clock.monotonic_s() < self._due_s:
            return
        self._due_s = self._clock.monotonic_s() + self._hours * 3600
        done = collect(self._repository)
        if done.freed_bytes:
            log.info(
                "%d bytes of datasets were freed: %d packs removed, %d rewritten, %d other objects", done.freed_bytes,
                done.packs_count, done.rewritten_count, done.objects_count,
            )  # fmt: skip
