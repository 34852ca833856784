"""The rows of triggers, the files they have seen and the messages that came."""

from __future__ import annotations

from noria.kernel.db import Read, Write, js
from noria.pipelines.model.triggers import Trigger
from noria.pipelines.narrowing import narrowed

_TRIGGER = """id, name, pipeline, kinds, filter, params, cooldown_s, is_enabled, owner, created_at_ms, last_at_ms,
              last_run_id, skipped, error, files, is_hook, is_declared"""


def add_trigger(tx: Write, made: Trigger, *, secret: str = "") -> bool:
    return bool(
        tx.run(
            """insert into trigger (id, name, pipeline, kinds, filter, params, cooldown_s, is_enabled, owner, created_at_ms,
                                    files, is_hook, is_declared, secret)
               values (:id, :name, :pipeline, :kinds, :filter, :params, :cooldown, :enabled, :owner, :created, :files,
                       :hook, :declared, :secret)
               on conflict (name) do nothing""",
            id=made.id,
            name=made.name,
            pipeline=made.pipeline,
            kinds=js(made.kinds),
            filter=js(made.filter),
            params=js(made.params),
            cooldown=made.cooldown_s,
            enabled=made.is_enabled,
            owner=made.owner,
            created=made.created_at_ms,
            files=None if made.files is None else js(made.files),
            hook=made.is_hook,
            declared=made.is_declared,
            secret=secret,
        )
    )


def trigger(tx: Read, name: str) -> Trigger | None:
    return tx.one(Trigger, f"select {_TRIGGER} from trigger where name = :name", name=name)


def lock_trigger(tx: Write, name: str) -> Trigger | None:
    tx.run("update trigger set skipped = skipped where name = :name", name=name)
    return trigger(tx, name)


def triggers(tx: Read, *, pipeline: str, names: list[str] | None, after: str, limit: int) -> list[Trigger]:
    where, args = narrowed(pipeline, names)
    return tx.all(
        Trigger,
        f"select {_TRIGGER} from trigger where name > :after {where} order by name limit :limit",
        after=after, limit=limit, **args,
    )  # fmt: skip


def triggers_enabled(tx: Read) -> list[Trigger]:
    return tx.all(Trigger, f"select {_TRIGGER} from trigger where is_enabled order by name limit 1000")


def mark_trigger(tx: Write, found: Trigger) -> None:
    tx.run(
        """update trigger set last_at_ms = :last, last_run_id = :run_id, skipped = :skipped, error = :error,
                              is_enabled = :enabled
            where id = :id""",
        id=found.id, last=found.last_at_ms, run_id=found.last_run_id, skipped=found.skipped, error=found.error[:1000],
        enabled=found.is_enabled,
    )  # fmt: skip


def change_trigger(tx: Write, changed: Trigger) -> None:
    """Another rule, under the same name and id."""
    tx.run(
        """update trigger set kinds = :kinds, filter = :filter, params = :params, cooldown_s = :cooldown, is_enabled = :enabled,
                              owner = :owner, files = :files, error = ''
            where id = :id""",
        id=changed.id, kinds=js(changed.kinds), filter=js(changed.filter), params=js(changed.params),
        cooldown=changed.cooldown_s, enabled=changed.is_enabled, owner=changed.owner,
        files=None if changed.files is None else js(changed.files),
    )  # fmt: skip


def note_trigger_error(tx: Write, trigger_id: str, why: str) -> None:
    tx.run("update trigger set error = :error where id = :id", id=trigger_id, error=why[:1000])


def trigger_secret(tx: Read, name: str) -> str:
    return str(tx.scalar("select secret from trigger where name = :name", name=name) or "")


def put_trigger_secret(tx: Write, name: str, secret: str) -> None:
    tx.run("update trigger set secret = :secret where name = :name", name=name, secret=secret)


def delete_trigger(tx: Write, name: str) -> int:
    tx.run("delete from trigger_file where trigger_id in (select id from trigger where name = :name)", name=name)
    tx.run("delete from trigger_message where trigger_id in (select id from trigger where name = :name)", name=name)
    return tx.run("delete from trigger where name = :name", name=name)


def declared_triggers(tx: Read, pipeline: str) -> list[Trigger]:
    """Those that the pipeline's code made."""
    return tx.all(
        Trigger,
        f"select {_TRIGGER} from trigger where pipeline = :pipeline and is_declared order by name limit 1000",
        pipeline=pipeline,
    )


def files(tx: Read, trigger_id: str) -> dict[str, tuple[str, bool]]:
    """The files a trigger has seen, by path: (stamp, whether it was a fact)."""
    rows = tx.tuples("select path, stamp, is_told from trigger_file where trigger_id = :id limit 20000", id=trigger_id)
    return {path: (stamp, bool(is_told)) for path, stamp, is_told in rows}


def put_files(tx: Write, trigger_id: str, seen: list[tuple[str, str, bool]]) -> None:
    tx.many(
        """insert into trigger_file (trigger_id, path, stamp, is_told) values (:id, :path, :stamp, :told)
           on conflict (trigger_id, path) do update set stamp = excluded.stamp, is_told = excluded.is_told""",
        [{"id": trigger_id, "path": path, "stamp": stamp, "told": told} for path, stamp, told in seen],
    )


def drop_files(tx: Write, trigger_id: str, paths: list[str]) -> None:
    for start in range(0, len(paths), 500):
        some = paths[start : start + 500]
        tx.run("delete from trigger_file where trigger_id = :id and path in :paths", id=trigger_id, paths=some)


def forget_files(tx: Write, trigger_id: str) -> None:
    tx.run("delete from trigger_file where trigger_id = :id", id=trigger_id)


def add_message(tx: Write, trigger_id: str, message_id: str, at_ms: int, *, forget_before_ms: int) -> bool:
    """False when this message came before."""
    tx.run("delete from trigger_message where trigger_id = :id and at_ms < :old", id=trigger_id, old=forget_before_ms)
    return bool(
        tx.run(
            """insert into trigger_message (trigger_id, message_id, at_ms) values (:id, :message, :at_ms)
               on conflict (trigger_id, message_id) do nothing""",
            id=trigger_id, message=message_id, at_ms=at_ms,
        )
    )  # fmt: skip
