"""Crash points: named places where a test may end the world, to see what is left.

`crash_here("pack.written")` does nothing outside tests. A test arms a name; when execution comes by, Crashed is raised there.
It is no Exception, so that no handler on the way up tidies anything away that a real crash would have left.
"""

from __future__ import annotations

_ARMED: dict[str, int] = {}
POINTS: set[str] = set()  # every name that was passed by, so that a test can ask whether it knows them all


class Crashed(BaseException):
    """The process died here."""


def crash_here(point: str) -> None:
    """Raises Crashed, once, if a test armed this point."""
    POINTS.add(point)
    left = _ARMED.get(point)
    if left is None:
        return
    if left > 0:
        _ARMED[point] = left - 1
        return
    del _ARMED[point]
    raise Crashed(point)


def arm(point: str, *, passes: int = 0) -> None:
    """Die at `point`, after it was passed unharmed `passes` times."""
    _ARMED[point] = passes


def disarm() -> None:
    _ARMED.clear()
