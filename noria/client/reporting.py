"""What a step says of itself while it works: numbers, by which a sweep may give it up."""

from __future__ import annotations

import math
import os
import sys
from typing import Any

from noria.client.api import Api, connect
from noria.kernel.errors import Conflict, Invalid, Unavailable

_api: Api | None = None
_has_warned = False


class Pruned(Exception):
    """This trial is worse than others were at this point; let it end."""


def report(step: int, value: float | None = None, /, **values: float) -> None:
    """Say how far the step is and what it has reached: `noria.report(epoch, loss=0.3)`, or one number without a name.

    In a trial of a sweep with a pruner it raises Pruned when the trial is to be given up; let that pass. Outside a pipeline it does
    nothing. When the server is away it says so once, and the step goes on.
    """
    global _api, _has_warned
    step_run = os.environ.get("NORIA_STEP_RUN")
    given: dict[str, Any] = {**({"value": value} if value is not None else {}), **values}
    if not given:
        raise Invalid("A report has a number.", hint="noria.report(epoch, loss=0.3)")
    numbers = {name: _number(name, each) for name, each in given.items()}
    if not step_run:
        return
    body = {"attempt": int(os.environ["NORIA_ATTEMPT"]), "step": int(step), "values": numbers}
    try:
        _api = _api or connect()
        answer = _api.post(f"/step-runs/{step_run}/reports", body)
    except Conflict:  # the attempt was taken over: this process is about to be ended
        return
    except Unavailable as error:
        if not _has_warned:
            _has_warned = True
            sys.stderr.write(f"noria.report: {error.message} The step goes on without reporting.\n")
        return
    if answer["prune"]:
        raise Pruned(answer["reason"])


def _number(name: str, value: Any) -> float | None:
    """A number for JSON; None for one that is not finite."""
    try:
        found = float(value)
    except (TypeError, ValueError) as cause:
        raise Invalid(f"{name} is a {type(value).__name__}; a report has numbers.") from cause
    return found if math.isfinite(found) else None
