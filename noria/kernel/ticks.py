"""Ticks: "run X has points up to step 41,200". Not facts: kept in memory, coalesced, lost on restart without harm."""

from __future__ import annotations

import threading
from typing import Any

from msgspec import Struct

from noria.kernel.ids import Ref

TICKS_PER_SECOND = 4  # per subject; a page redraws no faster
SUBJECTS_MAX = 10_000  # the oldest are forgotten beyond this


class Tick(Struct, frozen=True):
    """The latest progress of one subject; `version` grows with every change of any subject."""

    version: int
    subject: str
    data: dict[str, Any]


class Ticks:
    """The latest tick per subject, and a condition to wait for the next."""

    def __init__(self) -> None:
        self._latest: dict[str, Tick] = {}
        self._version = 0
        self._lock = threading.Lock()

    def tick(self, subject: Ref, data: dict[str, Any]) -> None:
        """Tell whoever is looking that `subject` moved on."""
        key = str(subject)
        with self._lock:
            self._version += 1
            self._latest.pop(key, None)  # moves it to the end, so that the dict is ordered by version
            self._latest[key] = Tick(self._version, key, data)
            if len(self._latest) > SUBJECTS_MAX:
                self._latest.pop(next(iter(self._latest)))

    def since(self, version: int) -> list[Tick]:
        """The latest tick of each subject that moved after `version`, oldest first. Callers poll 4 times a second."""
        with self._lock:
            if self._version <= version:
                return []
            found = []
            for tick in reversed(self._latest.values()):
                if tick.version <= version:
                    break
                found.append(tick)
            return found[::-1]

    @property
    def version(self) -> int:
        return self._version
