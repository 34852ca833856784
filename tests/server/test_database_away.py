"""F4: PostgreSQL goes away and comes back. Meanwhile: 503 in the caller's shape and when to try again; nothing is torn, nothing is lost."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from tests.server.control import WAIT_S, Control
from tests.server.test_kills import Writers

pytestmark = [pytest.mark.protocol]


class Fragile(Control):
    """A control plane whose database is taken away by `kill`: nobody may connect to it, and whoever is connected is thrown out."""

    def __init__(self, home: Path, database: str) -> None:
        super().__init__(home, database)
        url = sa.make_url(database)
        self._name = str(url.database)
        self._admin = sa.create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")

    def kill(self) -> None:
        self._allow(False)
        self._run("select pg_terminate_backend(pid) from pg_stat_activity where datname = :name", name=self._name)

    def restore(self) -> None:
        self._allow(True)

    def stop(self) -> None:
        self.restore()
        self._admin.dispose()
        super().kill()

    def _allow(self, is_allowed: bool) -> None:
        self._run(f'alter database "{self._name}" allow_connections {str(is_allowed).lower()}')

    def _run(self, sql: str, **params: str) -> None:
        with self._admin.connect() as connection:
            connection.execute(sa.text(sql), params)


@pytest.fixture
def control(tmp_path: Path, database_url: str) -> Iterator[Fragile]:
    if not database_url.startswith("postgresql"):
        pytest.skip("SQLite is a file: see test_full_disk.py")
    made = Fragile(tmp_path / "home", database_url)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_without_its_database_it_says_so_and_goes_on_when_it_is_back(control: Fragile) -> None:
    writers = Writers(control, random.Random(4))
    writers.until_killed(0.7)
    assert writers.batches, "there was traffic when the database went"
    run = next(iter(writers.runs))
    point = {"run_id": run, "metrics": [{"key": "m", "value": 1.0, "timestamp": 1, "step": 0}]}
    with httpx.Client(base_url=control.url, timeout=WAIT_S) as http:
        for method, path, body in (
            ("GET", "/health", None), ("GET", f"/api/v1/runs/{run}", None), ("POST", "/api/v1/runs", {"experiment": "kills"}),
            ("POST", "/api/2.0/mlflow/runs/log-batch", point), ("GET", "/scim/v2/Users", None),
        ):  # fmt: skip
            for headers in ({}, {"authorization": "Bearer nrk_unknown"}):
                began = time.monotonic()
                said = http.request(method, path, json=body, headers=headers)
                assert said.status_code == 503, (path, headers, said.status_code, said.text)
                assert int(said.headers["retry-after"]) > 0 and "database" in said.text, (path, headers, said.headers)
                assert time.monotonic() - began < 10
        control.restore()
        assert http.get("/health").status_code == 200, "it is back without a restart"
        writers.check()
        http.post("/api/2.0/mlflow/runs/log-batch", json=point).raise_for_status()
    assert control.is_alive() and "a bug on" not in control.log.read_text(), control.log.read_text()[-3000:]
