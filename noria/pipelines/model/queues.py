"""Queues: steps that wait for certain workers."""

from __future__ import annotations

from msgspec import Struct

DEFAULT_QUEUE = "default"  # what the worker of `noria server` serves


class Queue(Struct, frozen=True, kw_only=True):
    """Steps that wait for certain workers. It needs no making: a name that steps or workers use is a queue.

    Of two queues that a worker serves, the one with the higher priority comes first. `quota`: how many steps of it run at once.
    """

    name: str
    priority: int = 0
    quota: int | None = None
    ready: int = 0
    running: int = 0
    workers: int = 0


class QueueRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be said about a queue."""

    priority: int = 0
    quota: int | None = None
