"""Durations as people write them."""

from __future__ import annotations

import re

from noria.kernel.errors import Invalid

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)?\s*\Z")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def seconds(text: str | float) -> float:
    """`"10m"` as 600.0; a number is seconds. Units: ms s m h d w. Raises Invalid."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    found = _DURATION.match(str(text))
    if not found:
        raise Invalid(f"{text!r} is not a duration.", hint='Write it as "30s", "10m", "2h" or "7d".')
    return float(found[1]) * _UNITS[found[2] or "s"]
