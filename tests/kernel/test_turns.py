"""Short writes that wait for each other share a commit on SQLite, and still stand or fall alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from noria.kernel.db import Database
from noria.kernel.errors import Invalid, Unavailable

WAIT_S = 60.0


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'turns.db'}")
    with made.system_write() as tx:
        tx.run("create table n (value integer primary key)")
    yield made
    made.close()


def shared(db: Database, value: int, fail: bool = False) -> None:
    with db._write(None, True) as tx:
        tx.run("insert into n (value) values (:value)", value=value)
        if fail:
            raise Invalid("This one does not want to.")


def values(db: Database) -> set[int]:
    with db.read() as tx:
        return set(tx.column("select value from n"))


def together(db: Database, calls: list[Callable[[], None]]) -> list[BaseException | None]:
    """Every call in a thread of its own, all of them queued while somebody else holds the pen; then what each raised."""
    assert db._turns is not None
    raised: list[BaseException | None] = [None] * len(calls)

    def run(i: int) -> None:
        try:
            calls[i]()
        except BaseException as error:
            raised[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    queued = threading.Event()
    with db.system_write():
        for thread in threads:
            thread.start()
        for _ in range(int(WAIT_S / 0.01)):
            if db._turns._waiting == len(calls):
                break
            queued.wait(0.01)
        assert db._turns._waiting == len(calls)
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()
    return raised


def commits(db: Database) -> list[str]:
    """The statements `commit` that the writer's connection runs from now on."""
    with db.system_write() as tx:
        raw = tx.raw
    seen: list[str] = []
    raw.set_trace_callback(lambda sql: seen.append(sql) if sql.lower() == "commit" else None)
    return seen


def test_writes_that_wait_for_each_other_share_commits(db: Database) -> None:
    seen = commits(db)
    assert together(db, [lambda i=i: shared(db, i) for i in range(12)]) == [None] * 12  # type: ignore[misc]
    assert values(db) == set(range(12))
    # One is the commit of the write they waited behind. A slow machine may need a few more, not one for each.
    assert len(seen) < 12


def test_one_that_fails_undoes_its_own_change_only(db: Database) -> None:
    raised = together(db, [lambda i=i: shared(db, i, fail=i % 3 == 0) for i in range(12)])  # type: ignore[misc]
    assert [isinstance(error, Invalid) for error in raised] == [i % 3 == 0 for i in range(12)]
    assert values(db) == {i for i in range(12) if i % 3}


def test_a_change_is_not_acknowledged_when_the_common_commit_fails(db: Database) -> None:
    with db.system_write() as tx:
        raw = tx.raw
        tx.run("create table parent (id integer primary key)")
        tx.run("create table child (id integer references parent (id) deferrable initially deferred)")

    def orphan() -> None:
        with db._write(None, True) as tx:
            tx.run("insert into child (id) values (7)")  # found out by the commit, for everybody who shares it

    raised = together(db, [orphan, lambda: shared(db, 1), orphan, lambda: shared(db, 2)])
    assert raised[0] is not None and raised[2] is not None
    told = {value for value, error in ((1, raised[1]), (2, raised[3])) if error is None}
    assert values(db) == told
    assert all(error is None or isinstance(error, Unavailable) for error in (raised[1], raised[3]))
    assert not raw.in_transaction
    shared(db, 3)
    assert 3 in values(db)


def test_a_write_for_itself_takes_nobody_with_it(db: Database) -> None:
    def alone(value: int) -> None:
        for _ in range(20):
            with pytest.raises(Invalid), db.system_write() as tx:
                tx.run("insert into n (value) values (:value)", value=value)
                raise Invalid("Undone.")

    threads = [threading.Thread(target=alone, args=(100 + i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    raised = together(db, [lambda i=i: shared(db, i) for i in range(8)])  # type: ignore[misc]
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert raised == [None] * 8 and values(db) == set(range(8))


def test_a_database_that_was_closed_opens_again(db: Database) -> None:
    shared(db, 1)
    db.close()
    shared(db, 2)
    assert values(db) == {1, 2}
