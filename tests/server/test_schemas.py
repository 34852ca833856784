"""F10: a server that is killed while it brings the schema up to date, and one that is older than the schema."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from noria.config import load_config
from noria.kernel.db import Database
from noria.migrations import migrate, open_db
from tests.protocol.test_demo import ROOT, free_port

pytestmark = [pytest.mark.protocol]
BEFORE = "0040"  # the schema of a release that was
# What a control plane does first, killed at its so-manieth change of the schema.
DOOMED = """
import os, signal, sys
import sqlalchemy as sa
from noria.migrations import open_db
left = int(sys.argv[2])
@sa.event.listens_for(sa.Engine, "after_cursor_execute")
def count(_connection, _cursor, statement, *_):
    global left
    left -= statement.strip().lower().startswith(("create ", "alter ", "update alembic"))
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
open_db(sys.argv[1])
"""


@pytest.fixture
def newest(database_url: str) -> dict[str, list[str]]:
    return schema(database_url)


@pytest.fixture
def old(newest: object, database_url: str, tmp_path: Path) -> str:
    """A database as an old release left it, with a label in it."""
    url = f"sqlite:///{tmp_path / 'old.db'}"
    if database_url.startswith("postgresql"):
        engine = sa.create_engine(database_url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text("drop schema public cascade"))
            connection.execute(sa.text("create schema public"))
        engine.dispose()
        url = database_url
    database = Database(url)
    migrate(database, target=BEFORE)
    with database.system_write() as tx:
        tx.run("insert into label (name, description, is_restricting, updated_at_ms) values ('kept', '', :no, 1)", no=False)
    database.close()
    return url


def schema(url: str) -> dict[str, list[str]]:
    """The columns of each table."""
    engine = sa.create_engine(url)
    found = sa.inspect(engine).get_multi_columns()
    engine.dispose()
    return {table: [str(column["name"]) for column in columns] for (_, table), columns in found.items()}


def test_killed_while_it_changes_the_schema_it_is_at_the_old_one_and_begins_again(
    old: str, newest: dict[str, list[str]]
) -> None:
    before = schema(old)
    assert before != newest
    command = [sys.executable, "-c", DOOMED, old, "8"]
    assert run(command).returncode == -signal.SIGKILL
    assert schema(old) == before, "whole, not in between"
    database = open_db(old)
    with database.read() as tx:
        assert tx.column("select name from label") == ["kept"]
    database.close()
    assert schema(old) == newest


def test_one_that_is_older_than_the_schema_refuses_to_start_and_changes_nothing(
    tmp_path: Path, sqlite_template: Path
) -> None:
    path = Path(shutil.copy(sqlite_template, tmp_path / "noria.db"))
    with sqlite3.connect(path) as db:
        db.execute("update alembic_version set version_num = '9999'")
        before = list(db.iterdump())
    config = load_config({}, home=str(tmp_path / "home"), database=f"sqlite:///{path}", port=free_port())
    ended = run([sys.executable, "-m", "noria.control"], **config.environment())
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert (
        "at schema 9999, which is newer than this version of Noria" in ended.stderr and "Start the version" in ended.stderr
    )
    with sqlite3.connect(path) as db:
        assert list(db.iterdump()) == before


def run(command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NORIA_TOKEN": "", **env}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
