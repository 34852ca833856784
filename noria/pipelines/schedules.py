"""Cron schedules: runs at the times an expression names, in its own time zone.

Invariant: a time starts at most one run, however many servers look, by unique (schedule, time). Of the times that passed while no
server ran, the schedule says which are run: the latest, all (in order, a few at a time), or none.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from msgspec.structs import replace

from noria.kernel.db import Database, Write
from noria.kernel.errors import AlreadyExists, Invalid, NoriaError, NotFound
from noria.kernel.ids import Ref, check_name, new_id
from noria.kernel.op import Actor, Op, Ops
from noria.kernel.paging import Page, check_limit, decode_token, encode_token
from noria.pipelines import graph, pipeline_store, schedule_store
from noria.pipelines.changing import check_change
from noria.pipelines.model.schedules import NewSchedule, Schedule
from noria.pipelines.model.spec import PipelineSpec
from noria.pipelines.service import Pipelines, owner_of, visible_names

log = logging.getLogger("noria.pipelines")

CATCH_UP_AT_ONCE = 20  # missed times of one schedule that are run in one turn
MISSED_MS = 60_000  # a time that is run later than this was missed


class Schedules:
    """Makes and keeps schedules; a reconciler that submits what is due."""

    name = "pipelines.schedules"
    every_s = 1.0
    wake_on: frozenset[str] = frozenset()

    def __init__(self, db: Database, ops: Ops, pipelines: Pipelines) -> None:
        self._db, self._ops, self._pipelines = db, ops, pipelines

    def create(self, op: Op, new: NewSchedule) -> Schedule:
        """Make a schedule; its runs act for the caller. Raises Invalid, NotFound, AlreadyExists, Forbidden."""
        op.require("trigger.write", on=Ref("pipeline", new.pipeline))
        op.require("pipeline.run", on=Ref("pipeline", new.pipeline))
        version = self._pipelines.latest(new.pipeline)
        with self._db.write(op) as tx:
            if not self.create_in(tx, new, version.spec):
                raise AlreadyExists(
                    f"There is already a schedule named {new.name!r}.", hint="Delete it or pick another name."
                )
            made = schedule_store.schedule(tx, new.name)
        assert made is not None
        return made

    def create_in(self, tx: Write, new: NewSchedule, spec: PipelineSpec, *, is_declared: bool = False) -> bool:
        """Make a schedule in the caller's transaction; False when the name is taken. Raises Invalid."""
        op = tx.op
        assert op is not None
        check_name(new.name, what="schedule")
        next_ms = next_time(new.cron, new.time_zone, after_ms=op.at_ms)
        graph.bind_params(spec, at_time(new.params, next_ms, new.time_zone))
        made = Schedule(
            id=new_id(op.at_ms), name=new.name, pipeline=new.pipeline, cron=new.cron, time_zone=new.time_zone,
            params=new.params, is_enabled=new.is_enabled, owner=owner_of(op) or "local", created_at_ms=op.at_ms,
            next_at_ms=next_ms, catch_up=new.catch_up, is_declared=is_declared,
        )  # fmt: skip
        if not schedule_store.add_schedule(tx, made):
            return False
        tx.emit("schedule.created", Ref("schedule", new.name), pipeline=new.pipeline, cron=new.cron, time_zone=new.time_zone)
        return True

    def schedules(self, op: Op, *, pipeline: str = "", limit: int | None = None, page: str = "") -> Page[Schedule]:
        """Schedules the caller may read, by name."""
        size, names = check_limit(limit), visible_names(op, "pipeline.read")
        after = str(decode_token(page, size=1)[0]) if page else ""
        with self._db.read() as tx:
            found = schedule_store.schedules(tx, pipeline=pipeline, names=names, after=after, limit=size)
        return Page(found, encode_token(found[-1].name) if len(found) == size else None)

    def change(self, op: Op, name: str, new: NewSchedule) -> Schedule:
        """Give a schedule another rule; it acts for whoever changed it from now on. Raises Invalid, NotFound, Conflict, Forbidden."""
        found = self._mine(op, name)
        op.require("pipeline.run", on=Ref("pipeline", found.pipeline))
        check_change(found, new)
        spec = self._pipelines.latest(found.pipeline).spec
        next_ms = next_time(new.cron, new.time_zone, after_ms=op.at_ms)
        graph.bind_params(spec, at_time(new.params, next_ms, new.time_zone))
        changed = replace(
            found, cron=new.cron, time_zone=new.time_zone, params=new.params, catch_up=new.catch_up, is_enabled=new.is_enabled,
            owner=owner_of(op) or "local", next_at_ms=next_ms, error="",
        )  # fmt: skip
        with self._db.write(op) as tx:
            schedule_store.change_schedule(tx, changed)
            tx.emit("schedule.changed", Ref("schedule", name), is_enabled=changed.is_enabled)
        return changed

    def switch(self, op: Op, name: str, is_enabled: bool) -> Schedule:
        """Turn it on or off; turned on, it starts with the next time from now."""
        found = self._mine(op, name)
        with self._db.write(op) as tx:
            found = schedule_store.schedule(tx, name) or found
            next_ms = next_time(found.cron, found.time_zone, after_ms=op.at_ms) if is_enabled else found.next_at_ms
            schedule_store.move_schedule(
                tx, found, next_at_ms=next_ms, last_at_ms=found.last_at_ms, run_id=found.last_run_id, error="",
                is_enabled=is_enabled,
            )  # fmt: skip
            if found.is_enabled != is_enabled:
                tx.emit("schedule.changed", Ref("schedule", name), is_enabled=is_enabled)
            moved = schedule_store.schedule(tx, name)
        assert moved is not None
        return moved

    def delete(self, op: Op, name: str) -> None:
        self._mine(op, name)
        with self._db.write(op) as tx:
            self.delete_in(tx, name)

    def delete_in(self, tx: Write, name: str) -> None:
        """Remove a schedule in the caller's transaction."""
        if schedule_store.delete_schedule(tx, name):
            tx.emit("schedule.deleted", Ref("schedule", name))

    def _mine(self, op: Op, name: str) -> Schedule:
        with self._db.read() as tx:
            found = schedule_store.schedule(tx, name)
        if found is None:
            op.require("trigger.write")
            raise NotFound(f"There is no schedule {name!r}.")
        op.require("trigger.write", on=Ref("pipeline", found.pipeline))
        return found

    def reconcile(self) -> None:
        """Submit what is due."""
        now_ms = self._ops.clock.now_ms()
        for _ in range(CATCH_UP_AT_ONCE):
            with self._db.read() as tx:
                due = schedule_store.schedules_due(tx, now_ms)
            for schedule in due:
                self._fire(schedule, now_ms)
            if not any(schedule.catch_up == "all" for schedule in due):
                return

    def _fire(self, schedule: Schedule, now_ms: int) -> None:
        """One run for the time that has come; the schedule moves to its next time in the same transaction."""
        at_ms, next_ms, missed = due_time(schedule, now_ms)
        op = self._ops.mint(Actor(kind="trigger", id=schedule.id, name=schedule.name, on_behalf_of=schedule.owner))
        unique, error, run_id, version = f"schedule:{schedule.id}:{at_ms}", missed, schedule.last_run_id, None
        bound = dict[str, Any]()
        if not error:
            try:
                op.require("pipeline.run", on=Ref("pipeline", schedule.pipeline))
                version = self._pipelines.latest(schedule.pipeline)
                bound = graph.bind_params(version.spec, at_time(schedule.params, at_ms, schedule.time_zone))
            except NoriaError as refused:
                error = refused.message
                log.warning("schedule %s could not start %s: %s", schedule.name, schedule.pipeline, error)
        with self._db.write(op) as tx:
            pipeline = pipeline_store.pipeline(tx, schedule.pipeline)
            if pipeline and pipeline.is_paused:
                error = error or f"The pipeline {schedule.pipeline} is paused."
            if version is not None and not error:
                run_id = self._pipelines.submit_in(tx, version, bound, unique=unique)[0].id
            schedule_store.move_schedule(
                tx, schedule, next_at_ms=next_ms, last_at_ms=at_ms, run_id=run_id, error=error, is_enabled=True
            )


def due_time(schedule: Schedule, now_ms: int) -> tuple[int, int, str]:
    """(the time to run now, the next time, why it is not run); `schedule` is due."""
    cron, zone = schedule.cron, schedule.time_zone
    if schedule.catch_up == "all":
        return schedule.next_at_ms, next_time(cron, zone, after_ms=schedule.next_at_ms), ""
    at_ms = latest_time(cron, zone, since_ms=schedule.next_at_ms, upto_ms=now_ms)
    is_missed = schedule.catch_up == "none" and now_ms - at_ms > MISSED_MS
    why = f"The times up to {_moment(at_ms, zone).isoformat()} passed while no server ran." if is_missed else ""
    return at_ms, next_time(cron, zone, after_ms=now_ms), why


def at_time(params: Any, at_ms: int, time_zone: str) -> Any:
    """`params` with `${date}` and `${at}` replaced by the time of a run."""
    if isinstance(params, dict):
        return {key: at_time(value, at_ms, time_zone) for key, value in params.items()}
    if isinstance(params, list):
        return [at_time(value, at_ms, time_zone) for value in params]
    if not isinstance(params, str):
        return params
    moment = _moment(at_ms, time_zone)
    return params.replace("${date}", moment.date().isoformat()).replace("${at}", moment.isoformat())


def _moment(at_ms: int, time_zone: str) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(time_zone))


def next_time(cron: str, time_zone: str, *, after_ms: int) -> int:
    """The first time of `cron` later than `after_ms`. Raises Invalid for an expression or a zone that is none."""
    return _ms(next(_times(cron, time_zone, after_ms)))


def latest_time(cron: str, time_zone: str, *, since_ms: int, upto_ms: int) -> int:
    """The last time of `cron` not later than `upto_ms`; `since_ms` is one of its times."""
    zone = ZoneInfo(time_zone)
    backwards = CronSim(cron, datetime.fromtimestamp(upto_ms / 1000, zone) + timedelta(minutes=1), reverse=True)
    for moment in backwards:
        if _ms(moment) <= upto_ms:
            return max(since_ms, _ms(moment))
    return since_ms


def _times(cron: str, time_zone: str, after_ms: int) -> Any:
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as cause:
        raise Invalid(
            f"There is no time zone {time_zone!r}.", where="time_zone", hint="For instance Europe/Paris."
        ) from cause
    if len(cron.split()) != 5:
        raise Invalid(f"{cron!r} is not a cron expression of five fields.", where="cron", hint="For instance: 0 3 * * 1.")
    try:
        times = CronSim(cron, datetime.fromtimestamp(after_ms / 1000, zone))
        first = next(times)
    except CronSimError as cause:
        raise Invalid(
            f"{cron!r} is not a cron expression: {cause}.", where="cron", hint="For instance: 0 3 * * 1."
        ) from cause
    except StopIteration as cause:
        raise Invalid(f"{cron!r} names no time that ever comes.", where="cron") from cause
    return iter([first])


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
