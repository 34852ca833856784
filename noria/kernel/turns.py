"""Turns at SQLite's one pen: write transactions queue fairly, and short ones that wait for each other share a commit.

A commit waits for the disk, which takes ten times what writing a point does. So a *shared* turn that others wait behind leaves
the transaction open and waits; the next shared turn goes on in it, inside a savepoint of its own; the last one commits for all.
A turn that is not shared first commits what is open, then has a transaction for itself.

Invariants: a turn ends only after its own change is durable, or raises; a block that raises undoes its own change and nobody
else's; when the common commit fails, everybody who waits for it fails. A shared transaction is committed after at most SHARED_MAX
turns and SHARED_S seconds, and by the waiting themselves when nobody comes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.engine import Connection, Engine

from noria.kernel.clock import SystemClock
from noria.kernel.errors import StorageFull, Unavailable

SQLITE_FULL = 13  # result code
BUSY_TIMEOUT_S = 30.0
SHARED_MAX = 64  # turns of one commit
SHARED_S = 0.05  # how long the first of them may be kept from its commit by others
LOOK_S = 0.02  # how often somebody who waits for a commit looks whether to do it


class _Common:
    """A transaction that several turns share, until it is committed or has failed."""

    __slots__ = ("began_s", "connection", "done", "error", "turns")

    def __init__(self, connection: Connection, began_s: float) -> None:
        self.connection = connection
        self.began_s = began_s
        self.turns = 0
        self.done = threading.Event()
        self.error: BaseException | None = None


class Turns:
    """One writer at a time: a fair queue here beats SQLite's busy polling."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pen = threading.Lock()
        self._waiting = 0  # shared turns that queue for the pen
        self._counting = threading.Lock()
        self._common: _Common | None = None  # read and written by whoever holds the pen
        self._kept: Connection | None = None
        self._clock = SystemClock()

    @contextmanager
    def turn(self, shared: bool) -> Iterator[Connection]:
        """The connection, in a transaction; durable when the block has been left. Raises Unavailable."""
        self._take(shared)
        common: _Common | None = None
        try:
            if not shared:
                self._commit_common()
                connection = self._begin()
                try:
                    yield connection
                    _driver(connection).execute("commit")
                except BaseException:
                    self._undo(connection)
                    raise
                return
            common = self._join()
            yield from self._within(common)
            if not self._waiting or common.turns >= SHARED_MAX or self._clock.monotonic_s() - common.began_s > SHARED_S:
                self._commit_common()
        finally:
            self._pen.release()
        assert common is not None
        self._wait_for(common)

    def _take(self, shared: bool) -> None:
        if self._pen.acquire(blocking=False):
            return
        with self._counting:
            self._waiting += shared
        try:
            taken = self._pen.acquire(timeout=BUSY_TIMEOUT_S)
        finally:
            with self._counting:
                self._waiting -= shared
        if not taken:
            raise Unavailable("The database is busy.", retry_after_s=5, hint="Try again; PostgreSQL takes many writers.")

    def _join(self) -> _Common:
        """The open common transaction, or a new one."""
        if self._common is None:
            self._common = _Common(self._begin(), self._clock.monotonic_s())
        self._common.turns += 1
        return self._common

    def _begin(self) -> Connection:
        """The writer's connection, kept from turn to turn, in a new transaction."""
        if self._kept is None:
            self._kept = self._engine.connect()
        try:
            _driver(self._kept).execute("begin immediate")
        except BaseException:
            self._let_go()
            raise
        return self._kept

    def _undo(self, connection: Connection) -> None:
        try:
            _driver(connection).rollback()
        except BaseException:
            self._let_go()
            raise

    def _let_go(self) -> None:
        """Whatever state the connection is in, the next turn has another."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.invalidate()
            kept.close()

    def close(self) -> None:
        """Give the connection back. The next turn, if there is one, takes another."""
        with self._pen:
            self._commit_common()
            kept, self._kept = self._kept, None
            if kept is not None:
                kept.close()

    def _within(self, common: _Common) -> Iterator[Connection]:
        """The block in a savepoint, so that it can be undone alone. The first of a transaction needs none while it is alone."""
        first, raw = common.turns == 1, _driver(common.connection)
        if not first:
            raw.execute("savepoint turn")
        try:
            yield common.connection
            if not raw.in_transaction:  # SQLite gave up the whole transaction, as it does when the disk is full
                raise Unavailable("The database gave up the transaction.", retry_after_s=5, hint="Is its disk full?")
            if not first:
                raw.execute("release turn")
        except BaseException as error:
            if first or not raw.in_transaction:
                self._end_common(error)
            else:
                raw.execute("rollback to turn")
                raw.execute("release turn")
                if not self._waiting:
                    self._commit_common()
            raise

    def _commit_common(self) -> None:
        """Make durable what is open; called with the pen in hand."""
        if self._common is None:
            return
        try:
            _driver(self._common.connection).execute("commit")
        except BaseException as error:
            self._end_common(error)
        else:
            self._end_common(None)

    def _end_common(self, error: BaseException | None) -> None:
        common, self._common = self._common, None
        assert common is not None
        common.error = error
        try:
            if error is not None:
                self._undo(common.connection)
        finally:
            common.done.set()

    def _wait_for(self, common: _Common) -> None:
        """Until the common transaction has ended; commits it when those who were expected do not come."""
        while not common.done.wait(LOOK_S):
            if self._pen.acquire(blocking=False):
                try:
                    if self._common is common:
                        self._commit_common()
                finally:
                    self._pen.release()
        if common.error is not None:
            if is_full(common.error):
                raise storage_full() from common.error
            raise Unavailable(
                "The database did not take the change.", retry_after_s=1, hint="Try again in a moment."
            ) from common.error


def is_full(error: BaseException) -> bool:
    """Did SQLite find no room?"""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == SQLITE_FULL


def storage_full() -> StorageFull:
    return StorageFull(
        "The disk of the database is full; nothing was changed.", retry_after_s=60,
        hint="Reading goes on. Free space, then try again.",
    )  # fmt: skip


def _driver(connection: Connection) -> Any:
    """The driver's own connection: savepoints without the statement machinery."""
    raw: Any = connection.connection.driver_connection
    return raw
