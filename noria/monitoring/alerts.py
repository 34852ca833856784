"""When to speak up: ok → pending → open → resolved, from what the last `n` windows said.

A window that was not judged (too few rows, not defined) says nothing and takes no place among the `n`. While an alert is open, a
monitor with a `clear_limit` counts a window as over until its value is back beyond that one: a number that hovers about the limit
opens one alert and not ten.
"""

from __future__ import annotations

from collections.abc import Sequence

from noria.monitoring.metrics import metric_of
from noria.monitoring.model import MonitorSpec, MonitorState

Said = tuple[str, float | None]  # a window's verdict, and its value


def next_state(state: MonitorState, verdicts: Sequence[str], *, k: int) -> MonitorState:
    """Where a monitor stands after the last `n` verdicts (`over` or `within`, oldest first).

    Opens at `k` over. Once open it closes when fewer than `k` are over and the latest is not, so that one good window among
    bad ones does not close it.
    """
    over = sum(v == "over" for v in verdicts)
    if over >= k or (state == "open" and verdicts and verdicts[-1] == "over"):
        return "open"
    return "pending" if over else "ok"


def stands(spec: MonitorSpec, state: MonitorState, said: Sequence[Said], *, is_muted: bool = False) -> MonitorState:
    """Where a monitor stands after what its last `n` windows said, oldest first. A muted one opens nothing: it stays pending."""
    verdicts = [_counts(spec, verdict, value) if state == "open" else verdict for verdict, value in said]
    found = next_state(state, verdicts, k=spec.k)
    return "pending" if found == "open" and state != "open" and is_muted else found


def _counts(spec: MonitorSpec, verdict: str, value: float | None) -> str:
    if spec.clear_limit is None or value is None or verdict == "over":
        return verdict
    return "over" if metric_of(spec.metric).is_over(value, spec.clear_limit) else "within"
