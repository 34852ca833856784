"""Secrets that this process was given, taken out of what it tells the server of itself."""

from __future__ import annotations

import os
from functools import lru_cache

from noria.kernel.redaction import Redactor

NAMES_VARIABLE = "NORIA_SECRETS"  # the names of the variables that hold secrets, with spaces between them


def redactor() -> Redactor:
    """What masks the secrets of this process; none outside a step that asked for some."""
    names = os.environ.get(NAMES_VARIABLE, "")
    return _redactor(tuple((n, v) for n in names.split() if (v := os.environ.get(n)))) if names else _redactor(())


@lru_cache(maxsize=4)
def _redactor(values: tuple[tuple[str, str], ...]) -> Redactor:
    return Redactor(dict(values))
