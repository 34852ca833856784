"""What of a run can be kept by Noria's rules, and a sentence for what cannot. The server would refuse the same."""

from __future__ import annotations

from collections.abc import Callable

from noria.kernel.errors import Invalid
from noria.tracking.model import check_key, check_path, check_value

SEALED_TAG, SOURCE_TAG = "noria.import.at", "noria.import.source"
IMPORT_TAGS = frozenset({SEALED_TAG, SOURCE_TAG})  # of an earlier import; this one writes its own
INT64 = 1 << 63


def fitting(pairs: dict[str, str], what: str, left_out: Callable[[str], None]) -> dict[str, str]:
    """The params or tags that can be kept."""
    found: dict[str, str] = {}
    for key, value in pairs.items():
        if key in IMPORT_TAGS:
            continue
        try:
            found[check_key(key, what)] = check_value(key, _readable(value, what, key), what)
        except Invalid as refusal:
            left_out(refusal.message)
    return found


def fits_key(key: str, left_out: Callable[[str], None]) -> bool:
    """Can this be the name of a metric?"""
    try:
        check_key(key, "metric")
    except Invalid as refusal:
        left_out(refusal.message)
        return False
    return True


def fits_point(at_ms: int, step: int) -> bool:
    return 0 <= at_ms < INT64 and -INT64 <= step < INT64


def fits_path(path: str, left_out: Callable[[str], None]) -> bool:
    """Can this be the path of a file?"""
    try:
        if check_path(path):
            return True
    except Invalid as refusal:
        left_out(refusal.message)
        return False
    left_out("a file without a path")
    return False


def _readable(value: str, what: str, key: str) -> str:
    if "\x00" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise Invalid(f"The {what} {key!r} holds characters that are no text.")
    return value
