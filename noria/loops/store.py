"""The rows of loops: one named function per query."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.kernel.db import Read, Write, js
from noria.kernel.errors import NotFound
from noria.kernel.events import Event
from noria.kernel.ids import Ref
from noria.kernel.lineage import Station, station
from noria.kernel.naming import Noun, findable
from noria.kernel.things import things
from noria.loops.model import Loop, LoopSpec, Pass, Step, Turn

TURNS_AT_ONCE = 200  # open turns a reconciler looks at in one round
STEPS_PER_TURN = 50

things("loop", "select name from loop")
station(
    Station(
        kind="loop", action="loop.read",
        query="""select 'loop:' || name as ref, 'loop:' || name as scope, name as label, '' as state, created_at_ms as at_ms
                   from loop where name in :ids""",
    )
)  # fmt: skip
station(
    Station(
        kind="turn", action="loop.read",
        query="""select 'turn:' || id as ref, 'loop:' || loop as scope, loop || ', turn ' || number as label, state,
                        started_at_ms as at_ms
                   from turn where id in :ids""",
    )
)  # fmt: skip
findable(
    Noun(
        kind="loop", action="loop.read",
        query="select 'loop:' || name as scope, 'loop:' || name as ref, name as label, monitor as detail, updated_at_ms as at_ms from loop",
    )
)  # fmt: skip

_LOOP = """
    select l.id, l.name, l.spec, l.is_enabled, l.owner, l.created_at_ms, l.updated_at_ms,
           (select count(*) from turn t where t.loop_id = l.id) as turns_count
      from loop l"""
_TURN = """
    select id, loop_id, loop, number, state, trigger, cause, spec, params, started_at_ms, moved_at_ms, ended_at_ms, started_by,
           reason, pipeline_run_id, model_version_id, challenger, champion, comparison, approval_id, canary_id, is_settled
      from turn"""


# --- loops ------------------------------------------------------------------------------------------------------------


def find_loop(tx: Read, name: str) -> Loop | None:
    return tx.one(Loop, f"{_LOOP} where l.name = :name", name=name)


def loop(tx: Read, name: str) -> Loop:
    """Raises NotFound."""
    found = find_loop(tx, name)
    if found is None:
        raise NotFound(f"There is no loop named {name[:80]!r}.", ref=Ref("loop", name), hint="noria loop list shows them.")
    return found


def loop_by_id(tx: Read, loop_id: str) -> Loop | None:
    return tx.one(Loop, f"{_LOOP} where l.id = :id", id=loop_id)


def loops(tx: Read, *, names: list[str] | None, after: str, limit: int) -> list[Loop]:
    """By name, from `after` on."""
    clause, params = ("and l.name in :names", {"names": names}) if names is not None else ("", {})
    return tx.all(
        Loop, f"{_LOOP} where l.name > :after {clause} order by l.name limit :limit", after=after, limit=limit, **params
    )


def loops_watching(tx: Read, monitor: str) -> list[Loop]:
    return tx.all(Loop, f"{_LOOP} where l.monitor = :monitor order by l.name limit 1000", monitor=monitor)


def add_loop(tx: Write, made: Loop) -> bool:
    """False when there is one of that name."""
    return bool(
        tx.run(
            """insert into loop (id, name, spec, is_enabled, monitor, owner, created_at_ms, updated_at_ms)
               values (:id, :name, :spec, :is_enabled, :monitor, :owner, :at_ms, :at_ms) on conflict (name) do nothing""",
            id=made.id, name=made.name, spec=js(made.spec), is_enabled=made.is_enabled, monitor=made.spec.monitor,
            owner=made.owner, at_ms=made.created_at_ms,
        )
    )  # fmt: skip


def lock_loop(tx: Write, loop_id: str, *, at_ms: int) -> Loop | None:
    """Take the loop's row, so that its turns begin one after another; None when it is gone."""
    tx.run("update loop set updated_at_ms = :at_ms where id = :id", id=loop_id, at_ms=at_ms)
    return loop_by_id(tx, loop_id)


def change_loop(tx: Write, loop_id: str, spec: LoopSpec, *, owner: str, is_enabled: bool) -> None:
    tx.run(
        "update loop set spec = :spec, monitor = :monitor, owner = :owner, is_enabled = :is_enabled where id = :id",
        id=loop_id, spec=js(spec), monitor=spec.monitor, owner=owner, is_enabled=is_enabled,
    )  # fmt: skip


def enable_loop(tx: Write, loop_id: str, is_enabled: bool) -> None:
    tx.run("update loop set is_enabled = :is_enabled where id = :id", id=loop_id, is_enabled=is_enabled)


def remove_loop(tx: Write, loop_id: str) -> None:
    tx.run("delete from loop_pass where loop_id = :id", id=loop_id)
    tx.run("delete from loop where id = :id", id=loop_id)


# --- turns ------------------------------------------------------------------------------------------------------------


def next_number(tx: Write, loop_id: str) -> int:
    """The next turn's number. The caller holds the loop's row."""
    tx.run("update loop set numbers_used = numbers_used + 1 where id = :id", id=loop_id)
    return int(tx.scalar("select numbers_used from loop where id = :id", id=loop_id))


def add_turn(tx: Write, made: Turn, key: str) -> bool:
    """False when this cause started a turn of this loop before."""
    return bool(
        tx.run(
            """insert into turn (id, loop_id, loop, number, key, state, trigger, cause, spec, params, started_at_ms,
                                 moved_at_ms, started_by, reason, pipeline_run_id, approval_id, canary_id, is_settled)
               values (:id, :loop_id, :loop, :number, :key, :state, :trigger, :cause, :spec, :params, :at_ms, :at_ms,
                       :started_by, :reason, '', '', '', :is_settled)
               on conflict (loop_id, key) do nothing""",
            id=made.id, loop_id=made.loop_id, loop=made.loop, number=made.number, key=key, state=made.state,
            trigger=made.trigger, cause=made.cause, spec=js(made.spec), params=js(made.params), at_ms=made.started_at_ms,
            started_by=made.started_by, reason=made.reason, is_settled=True,
        )
    )  # fmt: skip


def turn(tx: Read, turn_id: str) -> Turn:
    """Raises NotFound."""
    found = tx.one(Turn, f"{_TURN} where id = :id", id=turn_id)
    if found is None:
        raise NotFound(f"There is no turn {turn_id[:40]!r}.", ref=Ref("turn", turn_id))
    return found


def has_key(tx: Read, loop_id: str, key: str) -> bool:
    return tx.scalar("select id from turn where loop_id = :id and key = :key", id=loop_id, key=key) is not None


def turns(tx: Read, loop_id: str, *, before: int | None, limit: int) -> list[Turn]:
    """Newest first."""
    clause, params = ("and number < :before", {"before": before}) if before is not None else ("", {})
    return tx.all(
        Turn, f"{_TURN} where loop_id = :id {clause} order by number desc limit :limit", id=loop_id, limit=limit, **params
    )


def last_turns(tx: Read, loop_ids: list[str]) -> dict[str, Turn]:
    """The newest turn of each loop."""
    if not loop_ids:
        return {}
    found = tx.all(
        Turn,
        f"""{_TURN} a where loop_id in :ids
              and number = (select max(b.number) from turn b where b.loop_id = a.loop_id) limit 10000""",
        ids=loop_ids,
    )
    return {t.loop_id: t for t in found}


def open_turns(tx: Read) -> list[Turn]:
    """Turns under way, and stopped ones that still have something to end; the longest waiting first."""
    return tx.all(
        Turn,
        f"{_TURN} where ended_at_ms is null or not is_settled order by moved_at_ms, id limit :limit",
        limit=TURNS_AT_ONCE,
    )


def turns_with(tx: Read, column: str, value: str) -> list[Turn]:
    """Open turns that wait for this pipeline run or approval. `column` comes from code."""
    assert column in ("pipeline_run_id", "approval_id", "canary_id"), column
    return tx.all(Turn, f"{_TURN} where {column} = :value and ended_at_ms is null limit 100", value=value)


def turns_since(tx: Read, loop_id: str, since_ms: int) -> int:
    return int(
        tx.scalar("select count(*) from turn where loop_id = :id and started_at_ms > :since", id=loop_id, since=since_ms)
    )


_CHANGES = frozenset({
    "state", "reason", "moved_at_ms", "ended_at_ms", "pipeline_run_id", "model_version_id", "challenger", "champion",
    "comparison", "approval_id", "canary_id", "is_settled",
})  # fmt: skip


def move_turn(tx: Write, turn_id: str, was: str, changes: dict[str, Any]) -> bool:
    """Change a turn that is still in state `was`; False when another mover was faster."""
    assert set(changes) <= _CHANGES, changes
    columns = ", ".join(f"{name} = :{name}" for name in sorted(changes))
    values = {k: js(v) if isinstance(v, msgspec.Struct) else v for k, v in changes.items()}
    return bool(tx.run(f"update turn set {columns} where id = :id and state = :was", id=turn_id, was=was, **values))


# --- passes -----------------------------------------------------------------------------------------------------------


def add_pass(tx: Write, loop_id: str, passed: Pass) -> bool:
    """False when this alert was passed over before."""
    return bool(
        tx.run(
            """insert into loop_pass (loop_id, cause, at_ms, reason, alert) values (:id, :cause, :at_ms, :reason, :alert)
               on conflict (loop_id, cause) do nothing""",
            id=loop_id, cause=passed.cause, at_ms=passed.at_ms, reason=passed.reason, alert=passed.alert,
        )
    )  # fmt: skip


def passes(tx: Read, loop_id: str) -> list[Pass]:
    """The alerts that wait, newest first."""
    return tx.all(
        Pass,
        "select cause, at_ms, reason, alert from loop_pass where loop_id = :id order by cause desc limit 100",
        id=loop_id,
    )


def loops_with_passes(tx: Read) -> list[str]:
    return tx.column("select distinct loop_id from loop_pass order by loop_id limit 1000")


def remove_passes(tx: Write, loop_id: str, causes: list[int]) -> None:
    if causes:
        tx.run("delete from loop_pass where loop_id = :id and cause in :causes", id=loop_id, causes=causes)


# --- facts ------------------------------------------------------------------------------------------------------------


def steps(tx: Read, turn_ids: list[str]) -> dict[str, list[Step]]:
    """The moves of turns, oldest first, from the facts they left."""
    if not turn_ids:
        return {}
    by_ref = {str(Ref("turn", i)): i for i in turn_ids}
    found: dict[str, list[Step]] = {}
    for event in tx.all(
        Event,
        """select seq, at_ms, kind, subject, actor, op_id, cause, workspace, data from event
            where subject in :refs and kind in ('loop.turn_started', 'loop.turn_advanced') order by seq limit :limit""",
        refs=sorted(by_ref), limit=STEPS_PER_TURN * len(turn_ids),
    ):  # fmt: skip
        state, why = event.data.get("state", "triggered"), event.data.get("reason", "")
        after = event.data.get("after")
        step = Step(seq=event.seq, at_ms=event.at_ms, state=state, why=why, cause=event.cause, after=after)
        found.setdefault(by_ref[event.subject], []).append(step)
    return found


def last_fact(tx: Read, subject: Ref, kinds: list[str] | None = None) -> int | None:
    """The seq of the latest fact about `subject`, of `kinds` if given."""
    clause, params = ("and kind in :kinds", {"kinds": kinds}) if kinds else ("", {})
    found = tx.scalar(f"select max(seq) from event where subject = :ref {clause}", ref=str(subject), **params)
    return None if found is None else int(found)


def is_resolved(tx: Read, alert: str, after: int) -> bool:
    """Was an alert resolved after the fact `after`? `alert` is the subject of its facts."""
    found = tx.scalar(
        "select max(seq) from event where subject = :alert and kind = 'alert.resolved' and seq > :after",
        alert=alert, after=after,
    )  # fmt: skip
    return found is not None
