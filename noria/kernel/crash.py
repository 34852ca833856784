"""Crash points: places where a test makes the process fail, to see what a restart finds. Nothing outside tests."""

from __future__ import annotations

from collections.abc import Callable

hook: Callable[[str], None] | None = None


def crash_here(point: str) -> None:
    """A place worth dying at; a test's `hook` may raise."""
    if hook is not None:
        hook(point)
