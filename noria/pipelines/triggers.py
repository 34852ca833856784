"""Triggers: a fact that matches a rule starts a pipeline, acting for the rule's owner.

Invariants: a fact starts at most one run per trigger, by unique (trigger, seq); the cool-down is judged in the transaction
that starts the run; a trigger never answers to a fact that it caused itself, however long the chain.
"""

from __future__ import annotations

import fnmatch
import logging
import re
from typing import Any

import msgspec
from msgspec.structs import replace

from noria.access.service import Access
from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import AlreadyExists, Invalid, NoriaError, NotFound
from noria.kernel.events import Event, cause_chain
from noria.kernel.facts import FACTS
from noria.kernel.ids import Ref, check_name, new_id
from noria.kernel.op import Actor, Op, Ops
from noria.kernel.paging import Page, check_limit, decode_token, encode_token
from noria.kernel.signing import new_secret
from noria.pipelines import graph, pipeline_store, run_store, trigger_store
from noria.pipelines.changing import check_change
from noria.pipelines.files import Found, Watch, look
from noria.pipelines.model.spec import PipelineSpec
from noria.pipelines.model.starts import Condition, Files
from noria.pipelines.model.triggers import NewTrigger, Trigger
from noria.pipelines.service import Pipelines, owner_of, visible_names

log = logging.getLogger("noria.pipelines")

_PLACE = re.compile(r"\$\{([^}]*)\}")
_FIELDS = re.compile(r"^(subject|subject\.kind|subject\.id|seq|kind|actor|at_ms|data(\.\w+)+)\Z")


class Triggers:
    """Makes and keeps triggers; a subscriber that answers to facts."""

    name = "pipelines.triggers"

    def __init__(self, db: Database, ops: Ops, access: Access, pipelines: Pipelines, watch: Watch) -> None:
        self._db, self._ops, self._pipelines, self._watch = db, ops, pipelines, watch
        self._vault = access.vault

    def create(self, op: Op, new: NewTrigger) -> Trigger:
        """Make a trigger; its runs act for the caller. Raises Invalid, NotFound, AlreadyExists, Forbidden."""
        op.require("trigger.write", on=Ref("pipeline", new.pipeline))
        op.require("pipeline.run", on=Ref("pipeline", new.pipeline))
        version = self._pipelines.latest(new.pipeline)
        secret = new_secret() if new.is_hook else ""
        there = self._there(new.files)
        with self._db.write(op) as tx:
            if not self.create_in(tx, new, version.spec, secret=secret, there=there):
                raise AlreadyExists(
                    f"There is already a trigger named {new.name!r}.", hint="Delete it or pick another name."
                )
            made = trigger_store.trigger(tx, new.name)
        assert made is not None
        return replace(made, secret=secret) if secret else made

    def create_in(
        self, tx: Write, new: NewTrigger, spec: PipelineSpec, *, is_declared: bool = False, secret: str = "",
        there: list[Found] | None = None,
    ) -> bool:  # fmt: skip
        """Make a trigger in the caller's transaction; False when the name is taken. Raises Invalid, Forbidden."""
        op = tx.op
        assert op is not None
        check_name(new.name, what="trigger")
        check_rule(new)
        for name in new.params:
            if name not in spec.params:
                raise Invalid(f"{spec.name} has no parameter {name!r}.", where="params")
        if new.files:
            self._watch.check(new.files)
        made = Trigger(
            id=new_id(op.at_ms), name=new.name, pipeline=new.pipeline, kinds=_kinds(new), filter=_filter(new),
            params=new.params, cooldown_s=new.cooldown_s, is_enabled=new.is_enabled, owner=owner_of(op) or "local",
            created_at_ms=op.at_ms, files=new.files, is_hook=new.is_hook, is_declared=is_declared,
        )  # fmt: skip
        if not trigger_store.add_trigger(tx, made, secret=self._vault.seal(secret, "trigger", new.name)):
            return False
        if made.files and there is not None:
            self._watch.begin(tx, made, there)
        tx.emit("trigger.created", Ref("trigger", new.name), pipeline=new.pipeline, kinds=made.kinds)
        return True

    def _there(self, files: Files | None) -> list[Found]:
        """The files that are there already. Raises Forbidden, Invalid. Outside any transaction: a store may be slow."""
        if files is None:
            return []
        self._watch.check(files)
        return look(files)

    def is_same(self, old: Trigger, new: NewTrigger) -> bool:
        """Does `old` do already what `new` says?"""
        return old == replace(
            old, kinds=_kinds(new), filter=_filter(new), params=new.params, cooldown_s=new.cooldown_s, files=new.files,
            is_hook=new.is_hook,
        )  # fmt: skip

    def new_secret(self, op: Op, name: str) -> Trigger:
        """A hook's secret, made anew and shown this once; the one before is void. Raises NotFound, Invalid, Forbidden."""
        found = self._mine(op, name)
        if not found.is_hook:
            raise Invalid(f"The trigger {name} takes no messages.", hint="Make one with is_hook.")
        secret = new_secret()
        with self._db.write(op) as tx:
            trigger_store.put_trigger_secret(tx, name, self._vault.seal(secret, "trigger", name))
            tx.emit("trigger.changed", Ref("trigger", name), is_enabled=found.is_enabled)
        return replace(found, secret=secret)

    def triggers(self, op: Op, *, pipeline: str = "", limit: int | None = None, page: str = "") -> Page[Trigger]:
        """Triggers the caller may read, by name."""
        size, names = check_limit(limit), visible_names(op, "pipeline.read")
        after = str(decode_token(page, size=1)[0]) if page else ""
        with self._db.read() as tx:
            found = trigger_store.triggers(tx, pipeline=pipeline, names=names, after=after, limit=size)
        return Page(found, encode_token(found[-1].name) if len(found) == size else None)

    def change(self, op: Op, name: str, new: NewTrigger) -> Trigger:
        """Give a trigger another rule; it acts for whoever changed it from now on. Raises Invalid, NotFound, Conflict, Forbidden."""
        found = self._mine(op, name)
        op.require("pipeline.run", on=Ref("pipeline", found.pipeline))
        check_change(found, new)
        check_rule(new)
        if new.is_hook != found.is_hook or bool(new.files) != bool(found.files):
            raise Invalid("A trigger keeps what it answers to: facts, files or messages.", hint="Make another one.")
        spec = self._pipelines.latest(found.pipeline).spec
        for param in new.params:
            if param not in spec.params:
                raise Invalid(f"{spec.name} has no parameter {param!r}.", where="params")
        there = self._there(new.files)
        with self._db.write(op) as tx:
            found = trigger_store.lock_trigger(tx, name) or found
            changed = replace(
                found, kinds=_kinds(new), filter=_filter(new), params=new.params, cooldown_s=new.cooldown_s, files=new.files,
                is_enabled=new.is_enabled, owner=owner_of(op) or "local", error="",
            )  # fmt: skip
            trigger_store.change_trigger(tx, changed)
            if changed.files and changed.files != found.files:
                trigger_store.forget_files(tx, found.id)
                self._watch.begin(tx, changed, there)
            tx.emit("trigger.changed", Ref("trigger", name), is_enabled=changed.is_enabled)
        return changed

    def switch(self, op: Op, name: str, is_enabled: bool) -> Trigger:
        """Turn it on or off. Facts that passed while it was off are not looked at again."""
        there = self._there(self._mine(op, name).files) if is_enabled else []
        with self._db.write(op) as tx:
            found = trigger_store.lock_trigger(tx, name)
            if found is None:
                raise NotFound(f"There is no trigger {name!r}.")
            if found.is_enabled != is_enabled:
                found = replace(found, is_enabled=is_enabled)
                trigger_store.mark_trigger(tx, found)
                if is_enabled and found.files:
                    self._watch.begin(tx, found, there)
                tx.emit("trigger.changed", Ref("trigger", name), is_enabled=is_enabled)
        return found

    def delete(self, op: Op, name: str) -> None:
        self._mine(op, name)
        with self._db.write(op) as tx:
            self.delete_in(tx, name)

    def delete_in(self, tx: Write, name: str) -> None:
        """Remove a trigger in the caller's transaction."""
        if trigger_store.delete_trigger(tx, name):
            tx.emit("trigger.deleted", Ref("trigger", name))

    def _mine(self, op: Op, name: str) -> Trigger:
        with self._db.read() as tx:
            found = trigger_store.trigger(tx, name)
        if found is None:
            op.require("trigger.write")
            raise NotFound(f"There is no trigger {name!r}.")
        op.require("trigger.write", on=Ref("pipeline", found.pipeline))
        return found

    def interest(self, tx: Read) -> frozenset[str]:
        """What the triggers that are on wait for; and that there is another one."""
        wanted = {kind for trigger in trigger_store.triggers_enabled(tx) for kind in trigger.kinds}
        return frozenset(wanted | {"trigger.created", "trigger.changed"})

    def handle(self, event: Event) -> None:
        """Start what this fact starts."""
        with self._db.read() as tx:
            found = [t for t in trigger_store.triggers_enabled(tx) if matches(t, event)]
        for trigger in found:
            if event.at_ms >= trigger.created_at_ms:
                self._fire(trigger, event)

    def _fire(self, trigger: Trigger, event: Event) -> None:
        unique, own = f"trigger:{trigger.id}:{event.seq}", f"trigger:{trigger.name} for "
        actor = Actor(kind="trigger", id=trigger.id, name=trigger.name, on_behalf_of=trigger.owner)
        op = self._ops.mint(actor, cause=event.seq)
        with self._db.read() as tx:
            if run_store.run_by_unique(tx, unique):
                return
            is_own = any(e.actor.startswith(own) for e in cause_chain(tx, event.seq))
        error, version, bound = "", None, dict[str, Any]()
        try:
            if is_own:
                raise Invalid("It answered to itself: the fact was caused by one of its own runs.")
            op.require("pipeline.run", on=Ref("pipeline", trigger.pipeline))
            version = self._pipelines.latest(trigger.pipeline)
            bound = graph.bind_params(version.spec, fill(trigger.params, event))
        except NoriaError as refused:
            error = refused.message
            log.warning("trigger %s did not start %s for fact %d: %s", trigger.name, trigger.pipeline, event.seq, error)
        with self._db.write(op) as tx:
            now = trigger_store.lock_trigger(tx, trigger.name)
            if now is None or not now.is_enabled:
                return
            pipeline = pipeline_store.pipeline(tx, trigger.pipeline)
            if pipeline and pipeline.is_paused:
                error = error or f"The pipeline {trigger.pipeline} is paused; fact {event.seq} was passed over."
            is_cooling = now.last_at_ms is not None and op.at_ms - now.last_at_ms < now.cooldown_s * 1000
            if error or is_cooling or version is None:
                why = error or f"It is cooling down since its last run; fact {event.seq} was passed over."
                trigger_store.mark_trigger(tx, replace(now, skipped=now.skipped + 1, error=why))
                return
            run, is_new = self._pipelines.submit_in(tx, version, bound, unique=unique)
            if is_new:
                trigger_store.mark_trigger(tx, replace(now, last_at_ms=op.at_ms, last_run_id=run.id, error=""))


def _kinds(new: NewTrigger) -> list[str]:
    return ["file.arrived"] if new.files else ["hook.received"] if new.is_hook else sorted(set(new.kinds))


def _filter(new: NewTrigger) -> list[Condition]:
    """Files and messages are facts about the trigger that they are for."""
    own = [Condition(field="subject", value=str(Ref("trigger", new.name)))] if new.files or new.is_hook else []
    return [*own, *new.filter]


def check_rule(new: NewTrigger) -> None:
    """Raises Invalid for a rule that could never match or cannot be filled in."""
    if sum((bool(new.kinds), new.files is not None, new.is_hook)) != 1:
        raise Invalid(
            "A trigger answers to facts, to files, or to messages: one of the three.", where="kinds",
            hint="Give kinds, or files, or is_hook.",
        )  # fmt: skip
    for kind in new.kinds:
        if kind not in FACTS:
            raise Invalid(f"There is no event kind {kind!r}.", where="kinds", hint="docs/reference/events.md lists them.")
    if not 0 <= new.cooldown_s <= 366 * 86_400:
        raise Invalid("cooldown_s must be between 0 and a year.", where="cooldown_s")
    for condition in new.filter:
        if not _FIELDS.match(condition.field):
            raise Invalid(f"A fact has no field {condition.field!r}.", where="filter", hint="Use subject or data.<name>.")
    for text in _texts(new.params):
        for name in _PLACE.findall(text):
            if not _FIELDS.match(name):
                raise Invalid(f"A fact has no field {name!r}.", where="params", hint="Use ${subject} or ${data.<name>}.")


def matches(trigger: Trigger, event: Event) -> bool:
    """Does this fact satisfy every condition of the rule?"""
    return event.kind in trigger.kinds and all(_holds(condition, event) for condition in trigger.filter)


def _holds(condition: Condition, event: Event) -> bool:
    value, wanted = look_up(event, condition.field), condition.value
    if condition.op == "=":
        return bool(value == wanted)
    if condition.op == "!=":
        return bool(value != wanted)
    if condition.op == "like":
        return isinstance(value, str) and fnmatch.fnmatchcase(value, str(wanted))
    if not _comparable(value, wanted):
        return False
    return bool({">": value > wanted, ">=": value >= wanted, "<": value < wanted, "<=": value <= wanted}[condition.op])


def _comparable(a: Any, b: Any) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in (a, b)) or (
        isinstance(a, str) and isinstance(b, str)
    )


def look_up(event: Event, field: str) -> Any:
    """The part of a fact that `field` names; None when it is not there."""
    first, *rest = field.split(".")
    if first == "subject" and rest:
        return getattr(Ref.parse(event.subject), rest[0])
    value: Any = getattr(event, first)
    for key in rest:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def fill(params: Any, event: Event) -> Any:
    """`params` with `${…}` replaced. A text that is one place alone keeps the type of what is put there."""
    if isinstance(params, dict):
        return {key: fill(value, event) for key, value in params.items()}
    if isinstance(params, list):
        return [fill(value, event) for value in params]
    if not isinstance(params, str):
        return params
    alone = _PLACE.fullmatch(params)
    if alone:
        return look_up(event, alone[1])
    return _PLACE.sub(lambda place: _text(look_up(event, place[1])), params)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []
