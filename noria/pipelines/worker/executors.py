"""Which executors there are, and how an agent makes one.

Noria's own are named here; others come as entry points of the group `noria.executors`. Each is a function that takes a `Setup` and
gives an `Executor` (attempt.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module, metadata

import msgspec

from noria.kernel.errors import Invalid
from noria.pipelines.worker import cgroups
from noria.pipelines.worker.attempt import Executor
from noria.pipelines.worker.home import Home
from noria.pipelines.worker.local import Local
from noria.pipelines.worker.server import Server

GROUP = "noria.executors"
LOCAL = "local"
OURS = {
    "ray": "noria.pipelines.worker.ray:make",
    "kubernetes": "noria.pipelines.worker.kubernetes:make",
    "slurm": "noria.pipelines.worker.slurm:make",
}


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What an executor is made from. `settings`: every NORIA_ variable of the agent, by its name."""

    server: Server
    home: Home
    url: str  # where this worker reaches the server
    settings: Mapping[str, str]
    has_groups: bool = True

    @property
    def job_url(self) -> str:
        """Where jobs reach the server: NORIA_EXECUTOR_URL, or the same address."""
        return self.settings.get("NORIA_EXECUTOR_URL") or self.url


def make(name: str, setup: Setup) -> Executor:
    """The executor of this name. Raises Invalid when there is none, or what it needs is not installed."""
    return _maker(name)(setup)


def names() -> list[str]:
    """Those that there are: Noria's own, then installed ones."""
    return list(dict.fromkeys([LOCAL, *OURS, *sorted(entry.name for entry in metadata.entry_points(group=GROUP))]))


def _maker(name: str) -> Callable[[Setup], Executor]:
    if name == LOCAL:
        return _local
    for entry in metadata.entry_points(group=GROUP):
        if entry.name == name:
            made: Callable[[Setup], Executor] = entry.load()
            return made
    if name not in OURS:
        raise Invalid(f"There is no executor {name!r}.", where="executor", hint=f"There are: {', '.join(names())}.")
    module, _, function = OURS[name].partition(":")
    found: Callable[[Setup], Executor] = getattr(import_module(module), function)
    return found


def _local(setup: Setup) -> Executor:
    groups = cgroups.find() if setup.has_groups else None
    return Local(setup.server, setup.home, url=setup.url, groups=groups)
