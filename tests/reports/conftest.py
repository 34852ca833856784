"""Given: runs with curves, data, and reports about them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from noria.client.api import Api
from noria.client.datasets import dataset
from tests.conftest import Noria

PEOPLE = b"name,age\nada,36\nben,41\nada,28\n"


class Flights:
    """An experiment of two runs, and a dataset of two versions."""

    def __init__(self, noria: Noria) -> None:
        tracking, op = noria.app.tracking, noria.op()
        self.experiment = tracking.experiment_by_name(op, "flights", create=True).id
        self.runs = []
        for name in ("baseline", "deeper"):
            run = tracking.create_run(op, self.experiment, name)
            values = [(s, 1 / (1 + s) if s != 7 else float("nan")) for s in range(20)]
            from noria.tracking.model import Point

            points = [Point(key="loss", value=v, at_ms=1_000 + s, step=s) for s, v in values]
            tracking.log_batch(op, run.id, points, {"depth": name}, {})
            self.runs.append(run.id)
        data = dataset("people", api=Api(noria.client(), url=noria.config.control_url))
        for more in (b"", b"cy,9\n"):
            data.commit({"a.csv": PEOPLE + more})


@pytest.fixture
def flights(noria: Noria) -> Flights:
    return Flights(noria)


def begun(client: httpx.Client, *blocks: dict[str, Any], title: str = "January", **more: Any) -> dict[str, Any]:
    """A new report."""
    answer = client.post("/api/v1/reports", json={"title": title, "blocks": list(blocks), **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def shared(client: httpx.Client, report: str, **wish: Any) -> str:
    """The secret of a new link."""
    answer = client.post(f"/api/v1/reports/{report}/links", json=wish)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["url"].partition("#")[2])


def looked(client: httpx.Client, secret: str, block: str = "") -> httpx.Response:
    """What is behind a link: the report, or a panel of it."""
    return client.get(f"/api/v1/shared{'/panels/' + block if block else ''}", headers={"x-noria-share": secret})
