"""Whoever is shown what is in a thing with a restricting label is in the log."""

from __future__ import annotations

from typing import Any

import pytest

from noria.client.api import Api
from noria.client.datasets import dataset
from noria.kernel.clock import ManualClock
from tests.conftest import Noria

CONTENT = "/api/v1/datasets/people/versions/1/content"


def put(noria: Noria, path: str, body: Any = None) -> None:
    answer = noria.http.put(f"/api/v1/{path}", json=body)
    assert answer.is_success, answer.text


@pytest.fixture
def labelled(noria: Noria) -> Noria:
    """Data in a project that carries a restricting label, and data that carries none."""
    for name in ("people", "weather"):
        dataset(name, api=Api(noria.client(), url=noria.config.control_url)).commit({"a.csv": b"x\n1\n"})
    for path, body in (
        ("labels/pii", {"description": "names of people"}), ("projects/hr", {}), ("projects/hr/things/dataset:people", None),
        ("labels/pii/things/project:hr", None),
    ):  # fmt: skip
        put(noria, path, body)
    return noria


def read(noria: Noria) -> list[tuple[Any, ...]]:
    return [(f.actor, f.subject, f.data["action"], f.data["labels"]) for f in noria.facts("sensitive.read")]


def test_reading_what_is_labelled_is_recorded(labelled: Noria, clock: ManualClock) -> None:
    reader = labelled.as_("reader", "viewer")
    assert reader.get(CONTENT, params={"path": "a.csv"}).status_code in (403, 404)  # no clearance
    assert read(labelled) == []
    put(labelled, "labels/pii/clearances/reader", {"reason": "case 7"})
    for _ in range(3):
        assert reader.get(CONTENT, params={"path": "a.csv"}).content == b"x\n1\n"
    assert read(labelled) == [("service:reader", "dataset:people", "blob.read", ["pii"])]
    reader.get("/api/v1/datasets/weather/versions/1/content", params={"path": "a.csv"})
    reader.get("/api/v1/datasets/people")  # what it is called and how large it is shows nothing of what is in it
    assert len(read(labelled)) == 1
    clock.advance(61)
    reader.get("/api/v1/datasets/people/versions/1/sample")
    assert len(read(labelled)) == 2
