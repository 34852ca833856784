"""How many examples a long property plays: few in every run of the tests, `NORIA_EXAMPLES=10` ten times as many."""

from __future__ import annotations

import os


def examples(count: int) -> int:
    return max(1, round(count * float(os.environ.get("NORIA_EXAMPLES") or 1)))
