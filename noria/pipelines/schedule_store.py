"""The rows of schedules."""

from __future__ import annotations

from noria.kernel.db import Read, Write, js
from noria.pipelines.model.schedules import Schedule
from noria.pipelines.narrowing import narrowed

_SCHEDULE = """id, name, pipeline, cron, time_zone, params, is_enabled, owner, created_at_ms, next_at_ms, last_at_ms,
               last_run_id, error, catch_up, is_declared"""


def add_schedule(tx: Write, made: Schedule) -> bool:
    return bool(
        tx.run(
            """insert into schedule (id, name, pipeline, cron, time_zone, params, is_enabled, owner, created_at_ms,
                                     next_at_ms, catch_up, is_declared)
               values (:id, :name, :pipeline, :cron, :zone, :params, :enabled, :owner, :created, :next, :catch_up, :declared)
               on conflict (name) do nothing""",
            id=made.id,
            name=made.name,
            pipeline=made.pipeline,
            cron=made.cron,
            zone=made.time_zone,
            params=js(made.params),
            enabled=made.is_enabled,
            owner=made.owner,
            created=made.created_at_ms,
            next=made.next_at_ms,
            catch_up=made.catch_up,
            declared=made.is_declared,
        )
    )


def schedule(tx: Read, name: str) -> Schedule | None:
    return tx.one(Schedule, f"select {_SCHEDULE} from schedule where name = :name", name=name)


def schedules(tx: Read, *, pipeline: str, names: list[str] | None, after: str, limit: int) -> list[Schedule]:
    where, args = narrowed(pipeline, names)
    return tx.all(
        Schedule,
        f"select {_SCHEDULE} from schedule where name > :after {where} order by name limit :limit",
        after=after, limit=limit, **args,
    )  # fmt: skip


def schedules_due(tx: Read, now_ms: int) -> list[Schedule]:
    return tx.all(
        Schedule,
        f"""select {_SCHEDULE} from schedule
             where is_enabled and next_at_ms <= :now order by next_at_ms limit 100""",
        now=now_ms,
    )


def move_schedule(
    tx: Write, found: Schedule, *, next_at_ms: int, last_at_ms: int | None, run_id: str, error: str, is_enabled: bool
) -> bool:  # fmt: skip
    """False when another server moved it first."""
    return bool(
        tx.run(
            """update schedule set next_at_ms = :next, last_at_ms = :last, last_run_id = :run_id, error = :error,
                                   is_enabled = :enabled
                where id = :id and next_at_ms = :was""",
            id=found.id,
            was=found.next_at_ms,
            next=next_at_ms,
            last=last_at_ms,
            run_id=run_id,
            error=error[:1000],
            enabled=is_enabled,
        )
    )


def change_schedule(tx: Write, changed: Schedule) -> None:
    """Another rule, under the same name and id."""
    tx.run(
        """update schedule set cron = :cron, time_zone = :zone, params = :params, catch_up = :catch_up, is_enabled = :enabled,
                               owner = :owner, next_at_ms = :next, error = ''
            where id = :id""",
        id=changed.id, cron=changed.cron, zone=changed.time_zone, params=js(changed.params), catch_up=changed.catch_up,
        enabled=changed.is_enabled, owner=changed.owner, next=changed.next_at_ms,
    )  # fmt: skip


def delete_schedule(tx: Write, name: str) -> int:
    return tx.run("delete from schedule where name = :name", name=name)


def declared_schedules(tx: Read, pipeline: str) -> list[Schedule]:
    return tx.all(
        Schedule,
        f"select {_SCHEDULE} from schedule where pipeline = :pipeline and is_declared order by name limit 1000",
        pipeline=pipeline,
    )
