"""The reconciler that frees the steps of workers which fell silent."""

from __future__ import annotations

from noria.pipelines.service import Pipelines


class Sweeper:
    """Looks once a second; see Pipelines.sweep."""

    name = "pipelines.sweeper"
    every_s = 1.0
    wake_on: frozenset[str] = frozenset()

    def __init__(self, pipelines: Pipelines) -> None:
        self._pipelines = pipelines

    def reconcile(self) -> None:
        self._pipelines.sweep()
