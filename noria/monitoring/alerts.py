"""When to speak up: ok → pending → open → resolved, from the verdicts of the last `n` windows.

A window that was not judged (too few rows, not defined) says nothing and takes no place among the `n`.
"""

from __future__ import annotations

from collections.abc import Sequence

from noria.monitoring.model import MonitorState


def next_state(state: MonitorState, verdicts: Sequence[str], *, k: int) -> MonitorState:
    """Where a monitor stands after the last `n` verdicts (`over` or `within`, oldest first).

    Opens at `k` over. Once open it closes when fewer than `k` are over and the latest is not, so that one good window among
    bad ones does not close it.
    """
    over = sum(v == "over" for v in verdicts)
    if over >= k or (state == "open" and verdicts and verdicts[-1] == "over"):
        return "open"
    return "pending" if over else "ok"
