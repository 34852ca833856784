"""Schedules and triggers that a pipeline's code declares: made, changed and removed with the version that says so.

Invariant: after a registration, the pipeline's declared schedules and triggers are those of that version, and no others; one that
somebody turned off stays off.
"""

from __future__ import annotations

from msgspec.structs import replace

from noria.kernel.db import Write
from noria.kernel.errors import Conflict, Invalid
from noria.kernel.ids import Ref, check_name
from noria.pipelines import schedule_store, trigger_store
from noria.pipelines.model.schedules import NewSchedule, Schedule
from noria.pipelines.model.spec import PipelineSpec
from noria.pipelines.model.starts import OnTime, Start
from noria.pipelines.model.triggers import NewTrigger, Trigger
from noria.pipelines.schedules import Schedules
from noria.pipelines.triggers import Triggers

DECLARED_MAX = 50


class Declared:
    """See the module. What pipelines call when a version is registered."""

    def __init__(self, schedules: Schedules, triggers: Triggers) -> None:
        self._schedules, self._triggers = schedules, triggers

    def put_in(self, tx: Write, spec: PipelineSpec, before: PipelineSpec | None) -> None:
        """Make what `spec` declares the truth. Raises Invalid, Conflict (the name is taken), Forbidden."""
        op = tx.op
        assert op is not None
        if spec.starts == (before.starts if before else []):
            return
        op.require("trigger.write", on=Ref("pipeline", spec.name))
        op.require("pipeline.run", on=Ref("pipeline", spec.name))
        wanted = named(spec)
        times = {name: start for name, start in wanted.items() if isinstance(start, OnTime)}
        facts = {name: start for name, start in wanted.items() if not isinstance(start, OnTime)}
        old_times = {s.name: s for s in schedule_store.declared_schedules(tx, spec.name)}
        old_facts = {t.name: t for t in trigger_store.declared_triggers(tx, spec.name)}
        for name in sorted(old_times.keys() - times.keys()):
            self._schedules.delete_in(tx, name)
        for name in sorted(old_facts.keys() - facts.keys()):
            self._triggers.delete_in(tx, name)
        for name, time in times.items():
            self._put_schedule(tx, spec, name, time, old_times.get(name))
        for name, start in facts.items():
            self._put_trigger(tx, spec, name, start, old_facts.get(name))

    def _put_schedule(self, tx: Write, spec: PipelineSpec, name: str, start: OnTime, old: Schedule | None) -> None:
        new = NewSchedule(
            name=name, pipeline=spec.name, cron=start.cron, time_zone=start.time_zone, params=start.params,
            catch_up=start.catch_up, is_enabled=old.is_enabled if old else True,
        )  # fmt: skip
        if old is not None:
            if old == replace(old, cron=new.cron, time_zone=new.time_zone, params=new.params, catch_up=new.catch_up):
                return
            self._schedules.delete_in(tx, name)
        if not self._schedules.create_in(tx, new, spec, is_declared=True):
            raise _taken("schedule", name)

    def _put_trigger(self, tx: Write, spec: PipelineSpec, name: str, start: Start, old: Trigger | None) -> None:
        assert not isinstance(start, OnTime)
        new = NewTrigger(
            name=name, pipeline=spec.name, kinds=start.kinds, filter=start.filter, params=start.params,
            cooldown_s=start.cooldown_s, files=start.files, is_hook=start.is_hook, is_enabled=old.is_enabled if old else True,
        )  # fmt: skip
        if old is not None:
            if self._triggers.is_same(old, new):
                return
            self._triggers.delete_in(tx, name)
        if not self._triggers.create_in(tx, new, spec, is_declared=True):
            raise _taken("trigger", name)


def named(spec: PipelineSpec) -> dict[str, Start]:
    """What a pipeline declares, by name: the given one, or the pipeline's with a word for what it is."""
    if len(spec.starts) > DECLARED_MAX:
        raise Invalid(f"A pipeline declares at most {DECLARED_MAX} schedules and triggers.", where="starts")
    found: dict[str, Start] = {}
    for start in spec.starts:
        base = start.name or f"{spec.name}.{'cron' if isinstance(start, OnTime) else start.word}"
        tries = (base if i == 1 else f"{base}-{i}" for i in range(1, len(spec.starts) + 1))
        name = base if start.name else next(t for t in tries if t not in found)
        if name in found:
            raise Invalid(f"The pipeline declares {name!r} twice.", where="starts")
        found[check_name(name, what="trigger")] = start
    return found


def _taken(what: str, name: str) -> Conflict:
    return Conflict(
        f"There is a {what} named {name!r} already that this pipeline's code did not declare.",
        hint="Give the declared one another name.",
    )
