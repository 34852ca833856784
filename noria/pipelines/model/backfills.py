"""Backfills: a pipeline that is run for many dates."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

BackfillState = Literal["running", "succeeded", "failed", "cancelled"]
PartState = Literal["waiting", "running", "succeeded", "failed", "cancelled", "skipped"]
PART_ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled", "skipped"})


class NewBackfill(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Run a pipeline once for each day (hour, week) from `first` to `last`, both included, as its parameter `param`.

    A date that a backfill of this pipeline did already with the same other parameters is not done again, unless `again`.
    """

    param: str
    first: str
    last: str
    step: Literal["hour", "day", "week"] = "day"
    params: dict[str, Any] = {}
    parallel: int = 1
    again: bool = False


class Backfill(Struct, frozen=True, kw_only=True):
    """A pipeline that is run for many dates, a few at a time."""

    id: str
    pipeline: str
    version: int
    param: str
    first: str
    last: str
    step: Literal["hour", "day", "week"]
    params: dict[str, Any]
    parallel: int
    state: BackfillState
    owner: str
    actor: str
    created_at_ms: int
    ended_at_ms: int | None = None
    error: str = ""
    counts: dict[str, int] = {}  # how many dates are in which state


class BackfillPart(Struct, frozen=True, kw_only=True):
    """One date of a backfill."""

    backfill_id: str
    position: int
    value: str
    state: PartState
    run_id: str = ""
    reason: str = ""
