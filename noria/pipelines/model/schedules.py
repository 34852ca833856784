"""Schedules: runs at the times that a cron expression names."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from noria.pipelines.model.starts import CatchUp


class NewSchedule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it takes to make a schedule: five cron fields and a time zone.

    A parameter may name the time: `${date}` (2026-03-01) or `${at}` (2026-03-01T03:00:00+01:00), in the schedule's zone.
    `catch_up`: of the times that pass while no server runs, the latest is run, or all, or none.
    """

    name: str
    pipeline: str
    cron: str
    time_zone: str = "UTC"
    params: dict[str, Any] = {}
    catch_up: CatchUp = "latest"
    is_enabled: bool = True


class Schedule(Struct, frozen=True, kw_only=True):
    """Runs a pipeline at the times a cron expression names."""

    id: str
    name: str
    pipeline: str
    cron: str
    time_zone: str
    params: dict[str, Any]
    is_enabled: bool
    owner: str
    created_at_ms: int
    next_at_ms: int
    last_at_ms: int | None = None
    last_run_id: str = ""
    error: str = ""
    catch_up: CatchUp = "latest"
    is_declared: bool = False  # by the pipeline's code
