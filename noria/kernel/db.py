"""The database: SQLite in WAL mode or PostgreSQL, through SQLAlchemy Core, as short explicit transactions.

    with db.read() as tx:        # cannot write, cannot emit
    with db.write(op) as tx:     # one transaction; facts are inserted last, by the same transaction

Invariant: facts get dense numbers in commit order. SQLite has one writer; on PostgreSQL an advisory lock is taken just before
the facts are inserted, at the end of the transaction, so that only facts queue, never points.
SQL is lower case with named parameters; a list expands for `in :ids`; JSON is kept as text, written with `js(value)`.
"""

from __future__ import annotations

import logging
import re
import sqlite3
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from noria.kernel.clock import Clock, SystemClock
from noria.kernel.errors import Invalid, Unavailable
from noria.kernel.facts import check_fact
from noria.kernel.ids import Ref
from noria.kernel.op import Op
from noria.kernel.personal import committed
from noria.kernel.turns import BUSY_TIMEOUT_S, SQLITE_FULL, Turns, storage_full
from noria.kernel.wakeups import Wakeups

log = logging.getLogger("noria.db")
S = TypeVar("S")
FACTS_LOCK = 0x6E6F726961  # 'noria': the PostgreSQL advisory lock that orders facts.

_INSERT_EDGE = """
    insert into edge (src, kind, dst, protects, at_ms)
    values (:src, :kind, :dst, :protects, :at_ms)
    on conflict (src, kind, dst) do update set protects = excluded.protects"""


def js(value: object) -> str:
    """`value` as JSON text, for a column or a list of ids. Raises Invalid for what PostgreSQL's JSON cannot hold."""
    try:
        text = msgspec.json.encode(value).decode()
    except UnicodeEncodeError as cause:
        raise Invalid("A text is not valid Unicode.", hint="Remove the lone surrogate.") from cause
    if "\\u0000" in text and _NUL.search(text):
        raise Invalid("A text contains a NUL character.", hint="Remove it.")
    return text


_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # the escape itself, not a text that spells it


class Read:
    """A transaction that reads.

    On SQLite statements go to the driver itself, whose named parameters are ours; on PostgreSQL through SQLAlchemy, which tells
    the server the types. Listeners of the engine hear of both.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.dialect: Literal["sqlite", "postgresql"] = connection.dialect.name  # type: ignore[assignment]
        self._raw: Any = connection.connection.driver_connection

    def rows(self, sql: str, /, **params: Any) -> list[dict[str, Any]]:
        """Every row, as a dict of columns."""
        columns, found = self._fetch(sql, params)
        return [dict(zip(columns, row, strict=True)) for row in found]

    def tuples(self, sql: str, /, **params: Any) -> list[Any]:
        """Every row, as a tuple of columns; for long lists, where dicts would cost more than the query."""
        return self._fetch(sql, params)[1]

    def all(self, type_: type[S], sql: str, /, **params: Any) -> list[S]:
        """Every row, as `type_`; columns of non-scalar fields are decoded from JSON."""
        columns, found = self._fetch(sql, params)
        read = [_convert(dict(zip(columns, row, strict=True)), type_) for row in found]
        when_read: Callable[[Read, list[S]], list[S]] | None = getattr(type_, "__when_read__", None)
        return when_read(self, read) if when_read else read

    def one(self, type_: type[S], sql: str, /, **params: Any) -> S | None:
        """The first row as `type_`, or None."""
        columns, found = self._fetch(sql, params, most=1)
        if not found:
            return None
        read = _convert(dict(zip(columns, found[0], strict=True)), type_)
        when_read: Callable[[Read, list[S]], list[S]] | None = getattr(type_, "__when_read__", None)
        return when_read(self, [read])[0] if when_read else read

    def scalar(self, sql: str, /, **params: Any) -> Any:
        """The first column of the first row, or None."""
        found = self._fetch(sql, params, most=1)[1]
        return found[0][0] if found else None

    def column(self, sql: str, /, **params: Any) -> list[Any]:
        """The first column of every row."""
        return [row[0] for row in self._fetch(sql, params)[1]]

    def _fetch(self, sql: str, params: Mapping[str, Any], *, most: int | None = None) -> tuple[list[str], list[Any]]:
        """Names of columns and rows; of the rows only the first, if `most` is 1."""
        done = self._execute(sql, params)
        if self.dialect == "sqlite":
            found = done.fetchall() if most is None else done.fetchmany(most)
            return [column[0] for column in done.description or ()], found
        found = done.all() if most is None else done.fetchmany(most)
        columns = list(done.keys())
        if most is not None:
            done.close()
        return columns, found

    def _execute(self, sql: str, params: Mapping[str, Any]) -> Any:
        """What the driver (SQLite) or SQLAlchemy (PostgreSQL) answers: both have `rowcount`."""
        expanding = tuple(sorted(k for k, v in params.items() if isinstance(v, list | tuple | set | frozenset)))
        _check(params)
        if self.dialect != "sqlite":
            return self._connection.execute(_statement(sql, expanding), {k: _listed(v) for k, v in params.items()})
        if expanding:
            sql, params = _expand(sql, params, expanding)
        self._tell(sql, params)
        return self._raw.execute(sql, params)

    def _tell(self, sql: str, params: Any, many: bool = False) -> None:
        """Those who listen to the engine, as tests do that count statements."""
        listeners = self._connection.engine.dispatch.before_cursor_execute
        if listeners:
            for hear in listeners:
                hear(self._connection, None, sql, params, None, many)

    @property
    def raw(self) -> Any:
        """The driver's own connection, for the hot paths that use executemany or COPY."""
        return self._raw


class Write(Read):
    """A transaction that writes, with the operation that caused it."""

    def __init__(self, connection: Connection, op: Op | None) -> None:
        super().__init__(connection)
        self.op = op
        self._facts: list[tuple[str, str, str]] = []
        self._personal: list[dict[str, Any]] = []  # values beside them, each with the place of its fact in the list
        self._after: list[Callable[[], None]] = []
        self._kept: list[Callable[[Write], None]] = []

    def run(self, sql: str, /, **params: Any) -> int:
        """Execute; returns how many rows changed."""
        return int(self._execute(sql, params).rowcount)

    def many(self, sql: str, /, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute once per row."""
        if rows:
            for row in rows:
                _check(row)
            if self.dialect == "sqlite":
                self._tell(sql, rows, many=True)
                self._raw.executemany(sql, rows)
            else:
                self._connection.execute(_statement(sql, ()), list(rows))

    def emit(self, kind: str, subject: Ref, /, **data: Any) -> None:
        """Record a fact; it is inserted at the end of this transaction, or not at all."""
        assert self.op is not None, "a fact needs an actor; open the transaction with an operation"
        kept, beside = committed(kind, check_fact(kind, data))
        self._personal += [{"place": len(self._facts), **value} for value in beside]
        self._facts.append((kind, str(subject), js(kept)))

    def link(self, src: Ref, kind: str, dst: Ref, *, protects: bool = False) -> None:
        """Record `src –kind→ dst`; a protecting edge keeps `dst` from being deleted."""
        at_ms = self.op.at_ms if self.op else 0
        self.run(_INSERT_EDGE, src=str(src), kind=kind, dst=str(dst), protects=protects, at_ms=at_ms)

    def unlink(self, src: Ref, kind: str, dst: Ref) -> None:
        self.run("delete from edge where src = :src and kind = :kind and dst = :dst", src=str(src), kind=kind, dst=str(dst))

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call once the transaction is durable; for hints only, since a crash loses it."""
        self._after.append(call)

    def keep(self, write: Callable[[Write], None]) -> None:
        """Have `write(tx)` done at the end of this transaction or, if it rolls back, in one of its own.

        For what stands either way: that policy was asked, and what it said.
        """
        self._kept.append(write)

    def insert_facts(self) -> bool:
        """Write the buffered facts, numbered densely. Called by `Database.write` just before the commit."""
        if not self._facts:
            return False
        assert self.op is not None
        if self.dialect == "postgresql":
            self.run("select pg_advisory_xact_lock(:key)", key=FACTS_LOCK)
        first = int(self.scalar("select coalesce(max(seq), 0) from event")) + 1
        self.many(
            """insert into event (seq, at_ms, kind, subject, actor, op_id, cause, workspace, data)
               values (:seq, :at_ms, :kind, :subject, :actor, :op_id, :cause, :workspace, :data)""",
            [
                {
                    "seq": first + i, "at_ms": self.op.at_ms, "kind": kind, "subject": subject, "actor": self.op.actor.label,
                    "op_id": self.op.id, "cause": self.op.cause, "workspace": self.op.workspace, "data": data,
                }
                for i, (kind, subject, data) in enumerate(self._facts)
            ],
        )  # fmt: skip
        self.many(
            "insert into event_personal (seq, field, salt, value) values (:seq, :field, :salt, :value)",
            [
                {"seq": first + v["place"], "field": v["field"], "salt": v["salt"], "value": v["value"]}
                for v in self._personal
            ],
        )
        return True


class Database:
    """Opens transactions. One per server process."""

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self.url = url
        self.clock = clock or SystemClock()
        self.engine = _engine(url)
        self.dialect = self.engine.dialect.name
        self.wakeups = Wakeups()
        self._turns = Turns(self.engine) if self.dialect == "sqlite" else None
        self._open = threading.local()

    @contextmanager
    def read(self) -> Iterator[Read]:
        with _clear_errors(), self.engine.connect() as connection:
            tx = Read(connection)
            if self.dialect == "sqlite":
                tx.raw.execute("begin")
            if self.dialect == "sqlite":
                try:
                    yield tx
                finally:
                    tx.raw.rollback()
            else:
                yield tx
                connection.commit()  # at a rollback, psycopg forgets the statements that it prepared

    @contextmanager
    def write(self, op: Op, *, shared: bool = False) -> Iterator[Write]:
        """One transaction: commits at the end of the block, rolls back if it raises.

        `shared`: the block is short, and on SQLite one commit may make it durable together with others that wait their turn
        (see kernel/turns.py). Nothing else changes: the block leaves only once its own change is durable, alone it rolls back.
        """
        with self._write(op, shared) as tx:
            yield tx

    @contextmanager
    def system_write(self) -> Iterator[Write]:
        """A transaction of the machinery itself (cursors, leases): it changes no noun and can emit no fact."""
        with self._write(None, False) as tx:
            yield tx

    def writing(self) -> Write | None:
        """The write transaction this thread is in. For the gate, which is asked in the middle of one: it can open no other."""
        found: Write | None = getattr(self._open, "tx", None)
        return found

    @contextmanager
    def _write(self, op: Op | None, shared: bool) -> Iterator[Write]:
        kept: list[Callable[[Write], None]] = []
        try:
            with self._transaction(op, shared) as tx:
                kept = tx._kept
                yield tx
        except Exception:
            if kept:
                self._write_kept(op, kept)
            raise

    def _write_kept(self, op: Op | None, kept: list[Callable[[Write], None]]) -> None:
        try:
            with self._transaction(op, False) as tx:
                for write in kept:
                    write(tx)
        except Exception:
            # The caller's own error is the one to raise; this one must at least be seen.
            log.exception("what had to be kept of operation %s was lost", op.id if op else "")

    @contextmanager
    def _transaction(self, op: Op | None, shared: bool) -> Iterator[Write]:
        turns = self._turns
        with _clear_errors(), turns.turn(shared) if turns else self._own_connection() as connection:
            tx, outer = Write(connection, op), self.writing()
            self._open.tx = tx
            try:
                yield tx
                for write in tx._kept:
                    write(tx)
                has_facts = tx.insert_facts()
            finally:
                self._open.tx = outer
        if has_facts:
            self.wakeups.signal(kind for kind, _, _ in tx._facts)
        for call in tx._after:
            call()

    @contextmanager
    def _own_connection(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            try:
                yield connection
                connection.commit()
            except BaseException:
                connection.rollback()
                raise

    def close(self) -> None:
        if self._turns:
            self._turns.close()
        self.engine.dispose()


def _engine(url: str) -> Engine:
    if url.startswith("sqlite"):
        return _sqlite_engine(url)
    if url.startswith(("postgresql://", "postgres://", "postgresql+psycopg://")):
        plain = url.split("://", 1)[1]
        try:
            return sa.create_engine(
                f"postgresql+psycopg://{plain}", pool_size=10, max_overflow=20, pool_pre_ping=True, pool_use_lifo=True
            )  # last in, first out: the warm connection, with its prepared statements, is taken again
        except ModuleNotFoundError as missing:
            raise Invalid("PostgreSQL needs its driver.", hint="pip install 'noria[postgres]'") from missing
    raise Invalid(f"{url.split(':', 1)[0]!r} is not a database Noria knows.", where="database",
                  hint="Use sqlite:///path/to/noria.db or postgresql://user:password@host/name.")  # fmt: skip


def _sqlite_engine(url: str) -> Engine:
    path = url.removeprefix("sqlite:///")
    if path and path != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        url,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_S, "cached_statements": 512},
        pool_size=20,
        max_overflow=40,
    )

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # we say begin and commit ourselves
        if connection.execute("pragma page_count").fetchone()[0] == 0:
            connection.execute("pragma auto_vacuum=incremental")  # of a new file, so that purging can make it smaller
        for pragma in (
            "journal_mode=wal",
            "synchronous=full",
            "foreign_keys=on",
            "temp_store=memory",
            "cache_size=-16000",
        ):
            connection.execute(f"pragma {pragma}")

    return engine


@lru_cache(maxsize=4096)
def _statement(sql: str, expanding: tuple[str, ...]) -> sa.TextClause:
    statement = sa.text(sql)
    if expanding:
        assert " not in :" not in sql, "an empty list would make `not in` false; write it another way"
        statement = statement.bindparams(*(sa.bindparam(name, expanding=True) for name in expanding))
    return statement


def _expand(sql: str, params: Mapping[str, Any], expanding: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """`in :ids` written out for as many values as there are, as SQLAlchemy does it."""
    assert " not in :" not in sql, "an empty list would make `not in` false; write it another way"
    out = dict(params)
    for name in expanding:
        values = _listed(out.pop(name))
        out |= {f"{name}_{i}": value for i, value in enumerate(values)}
        written = "(" + ", ".join(f":{name}_{i}" for i in range(len(values))) + ")"
        sql = re.sub(rf":{name}\b", written, sql)
    return sql, out


def _listed(value: Any) -> Any:
    """A collection as a list; an empty one as [null], which `in` never matches and whose type suits every column."""
    return (list(value) or [None]) if isinstance(value, list | tuple | set | frozenset) else value


_INT64 = 1 << 63


def _check(params: Mapping[str, Any]) -> None:
    """Refuse what one of the two databases would change silently or choke on: NUL, lone surrogates, integers beyond 64 bits."""
    for name, value in params.items():
        if isinstance(value, list | tuple | set | frozenset):
            for item in value:
                _check_value(name, item)
        else:
            _check_value(name, value)


def _check_value(name: str, value: Any) -> None:
    if isinstance(value, str):
        if "\x00" in value:
            raise Invalid(f"{name} contains a NUL character.", where=name, hint="Remove it.")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as cause:
                raise Invalid(f"{name} is not valid Unicode.", where=name, hint="Remove the lone surrogate.") from cause
    elif isinstance(value, int) and not -_INT64 <= value < _INT64:
        raise Invalid(f"{name} does not fit 64 bits.", where=name)


_SCALARS = (str, int, float, bool, bytes, type(None))


@lru_cache(maxsize=512)
def _json_fields(type_: Any) -> frozenset[str]:
    """The fields of a struct that a column holds as JSON: everything that is not a plain scalar."""
    if not (isinstance(type_, type) and issubclass(type_, msgspec.Struct)):
        return frozenset()
    return frozenset(name for name, hint in get_type_hints(type_).items() if not _is_scalar(hint))


def _is_scalar(hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return all(_is_scalar(arg) for arg in get_args(hint))
    if origin is Literal:
        return True
    hint = getattr(hint, "__supertype__", hint)  # NewType
    return isinstance(hint, type) and issubclass(hint, _SCALARS)


def _convert(row: Mapping[Any, Any], type_: type[S]) -> S:
    fields = _json_fields(cast(Hashable, type_))
    values: dict[str, Any] = dict(row)
    for name in fields:
        value = values.get(name)
        if isinstance(value, str):
            values[name] = msgspec.json.decode(value)
        elif value is None:
            values.pop(name, None)
    return msgspec.convert(values, type_, strict=False)


_SQLITE_ERROR = 1  # result code; what is neither (busy, locked, i/o, cannot open) may pass
_DISK_FULL = "53100"  # PostgreSQL's SQLSTATE


def _kind_of(error: object) -> Literal["bug", "full", "away"]:
    """What an operational error of a driver is. SQLite uses it for SQL it cannot read, too."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", _SQLITE_ERROR) & 0xFF
        return {_SQLITE_ERROR: "bug", SQLITE_FULL: "full"}.get(code, "away")  # type: ignore[return-value]
    return "full" if getattr(error, "sqlstate", None) == _DISK_FULL else "away"


@contextmanager
def _clear_errors() -> Iterator[None]:
    """A database that cannot be reached or written is Unavailable; what it cannot understand stays what it is: a bug."""
    try:
        yield
    except (sa.exc.OperationalError, sqlite3.OperationalError) as cause:
        kind = _kind_of(getattr(cause, "orig", cause))
        if kind == "bug":
            raise
        if kind == "full":
            raise storage_full() from cause
        raise Unavailable("The database does not answer.", retry_after_s=5, hint="Try again in a moment.") from cause
    except sa.exc.TimeoutError as cause:
        raise Unavailable("Every database connection is in use.", retry_after_s=2, hint="Try again in a moment.") from cause
