"""The schema, as a chain of small Alembic revisions; the only definition of tables there is."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from noria.kernel.clock import Clock
from noria.kernel.db import Database
from noria.kernel.errors import Invalid

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

MIGRATE_LOCK = 0x6D696772  # 'migr': one server at a time on PostgreSQL; on SQLite the write transaction does it.


def open_db(url: str, *, clock: Clock | None = None) -> Database:
    """Open the database at `url` and bring its schema up to date."""
    database = Database(url, clock=clock)
    migrate(database)
    return database


def migrate(database: Database, *, target: str = "head") -> None:
    """Bring the schema of `database` to `target`. Refuses a schema newer than this program."""
    with database.engine.connect() as connection:
        if target == "head" and _current(connection) == newest():
            return  # as at nearly every start; without loading what migrates
    scripts = _scripts()
    with database.engine.connect() as connection:
        if database.dialect == "sqlite":
            connection.exec_driver_sql("begin immediate")
        else:
            connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": MIGRATE_LOCK})
        current, head = _current(connection), scripts.get_current_head()
        if current not in (None, head) and current not in {s.revision for s in scripts.walk_revisions()}:
            raise Invalid(
                f"The database is at schema {current}, which is newer than this version of Noria.",
                hint="Start the version that wrote it, or a newer one.",
            )
        if current != head or target != "head":
            _upgrade(scripts, connection, target)
        connection.commit()


def schema_versions(database: Database) -> tuple[str | None, str]:
    """The schema that `database` has (None: an empty one) and the one this program needs; looks without changing anything."""
    with database.engine.connect() as connection:
        return _current(connection), newest()


def newest() -> str:
    """The newest revision, from the names of the files: they begin with its number, and a test compares."""
    names = (re.match(r"(\d+)_", path.name) for path in (Path(__file__).parent / "versions").glob("*.py"))
    return max(found[1] for found in names if found)


def _current(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(sa.text("select version_num from alembic_version")).scalar()
    return None if found is None else str(found)


def _upgrade(scripts: ScriptDirectory, connection: sa.Connection, target: str) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext

    def steps(revision: object, _context: object) -> object:
        return scripts._upgrade_revs(target, revision)  # type: ignore[arg-type]

    with EnvironmentContext(Config(), scripts, fn=steps) as environment:
        environment.configure(connection=connection, target_metadata=None, transactional_ddl=False)
        environment.run_migrations()


@functools.cache
def _scripts() -> ScriptDirectory:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)
