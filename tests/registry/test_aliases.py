"""Aliases: compare-and-set, a gate before every move, and a timeline that remembers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.kernel.errors import Conflict, Forbidden, Invalid
from noria.kernel.ids import Ref
from noria.kernel.op import Op, Verdict
from noria.registry.model import ModelVersion
from tests.conftest import Noria

Given = Callable[..., ModelVersion]


def test_a_moved_alias_refuses_a_stale_promote(noria: Noria, given_version: Given) -> None:
    one, two = given_version(), given_version()
    registry = noria.app.registry
    assert registry.promote(noria.op("ada"), one, "champion", expect=0).generation == 1
    with pytest.raises(Conflict, match="moved since"):
        registry.promote(noria.op("bob"), two, "champion", expect=0)
    assert registry.promote(noria.op("bob"), two, "champion", expect=1).generation == 2
    with pytest.raises(Conflict):
        registry.promote(noria.op("ada"), one, "champion", expect=1)
    registry.remove_alias(noria.op(), "flights", "champion", expect=2)
    with pytest.raises(Conflict):
        registry.promote(noria.op(), one, "champion", expect=1)
    assert registry.promote(noria.op(), one, "champion", expect=0).generation == 4
    assert [(e.data["was"], e.data["number"]) for e in noria.facts("model_version.promoted")] == [
        (None, 1),
        (1, 2),
        (None, 1),
    ]


def test_who_was_champion_on_that_day(noria: Noria, given_version: Given) -> None:
    versions = [given_version() for _ in range(3)]
    times = []
    for version in versions:
        noria.app.registry.promote(noria.op(), version, "champion")
        times.append(noria.clock.now_ms())
        noria.clock.advance(86_400)
    noria.app.registry.remove_alias(noria.op(), "flights", "champion")

    def champion(at_ms: int) -> list[int]:
        items = noria.http.get("/api/v1/models/flights/timeline", params={"at_ms": at_ms}).json()["items"]
        return [m["version"] for m in items]

    assert champion(times[0] - 1) == []
    assert [champion(t) for t in times] == [[1], [2], [3]]
    assert champion(times[1] - 1) == [1]
    assert champion(noria.clock.now_ms()) == []
    whole = noria.http.get("/api/v1/models/flights/timeline").json()["items"]
    assert [(m["version"], m["was"]) for m in whole] == [(None, 3), (3, 2), (2, 1), (1, None)]


def test_a_move_keeps_its_reason(noria: Noria, given_version: Given) -> None:
    given_version()
    at = "/api/v1/models/flights/aliases/champion"
    moved = noria.http.put(at, json={"version": 1, "expect": 0, "reason": "better on every slice"})
    assert moved.status_code == 200, moved.text
    assert noria.http.put(at, json={"version": 1, "expect": 0}).status_code == 409, "it moved meanwhile"
    assert noria.http.put(at, json={"version": 1, "reason": "x" * 2001}).status_code == 400
    assert noria.http.delete(at, params={"expect": 1, "reason": "it drifts"}).status_code == 204
    whole = noria.http.get("/api/v1/models/flights/timeline").json()["items"]
    assert [(m["version"], m["reason"]) for m in whole] == [(None, "it drifts"), (1, "better on every slice")]
    facts = noria.facts("model_version.promoted", "model_version.demoted")
    assert [f.data["reason"] for f in facts] == ["better on every slice", "it drifts"]


class Refuses:
    """A policy that objects to versions without an evaluation."""

    def judge(self, op: Op, action: str, subject: Ref, evidence: dict[str, Any]) -> list[Verdict]:
        allowed = evidence["evaluation"] is not None or evidence["alias"] != "champion"
        return [Verdict(policy="evaluated", allowed=allowed, reason="it was never evaluated")]


def test_every_way_to_an_alias_passes_the_gate(noria: Noria, given_version: Given) -> None:
    given_version()
    noria.app.ops._gatekeeper = Refuses()
    attempts = [
        noria.http.put("/api/v1/models/flights/aliases/champion", json={"version": 1}),
        noria.http.post(
            "/api/2.0/mlflow/registered-models/alias", json={"name": "flights", "alias": "champion", "version": "1"}
        ),
        noria.http.post(
            "/ajax-api/2.0/mlflow/registered-models/alias", json={"name": "flights", "alias": "champion", "version": "1"}
        ),
    ]
    assert [a.status_code for a in attempts] == [403] * 3
    with pytest.raises(Forbidden, match="never evaluated"):
        noria.app.registry.promote(noria.op(), "flights@1", "champion")
    assert noria.facts("model_version.promoted") == []
    allowed = noria.http.put("/api/v1/models/flights/aliases/challenger", json={"version": 1})
    assert allowed.status_code == 200
    move = noria.http.get("/api/v1/models/flights/timeline").json()["items"][0]
    assert move["verdicts"][0]["policy"] == "evaluated" and move["verdicts"][0]["allowed"]


@pytest.mark.parametrize("name", ["latest", "7", "v7", "a b", "", "a/b", "x" * 300, "LATEST", "a@b", "0" * 32])
def test_an_alias_never_reads_as_a_version(noria: Noria, given_version: Given, name: str) -> None:
    with pytest.raises(Invalid):
        noria.app.registry.promote(noria.op(), given_version(), name)


def test_of_many_at_once_exactly_one_wins(noria: Noria, given_version: Given) -> None:
    versions = [given_version() for _ in range(4)]
    won: list[int] = []
    start = threading.Barrier(len(versions))

    def move(version: ModelVersion) -> None:
        start.wait()
        try:
            noria.app.registry.promote(noria.op(), version, "champion", expect=0)
            won.append(version.number)
        except Conflict:
            pass

    threads = [threading.Thread(target=move, args=(v,)) for v in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert noria.app.registry.version(noria.op(), "flights@champion").number == won[0]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["champion", "blue"]), st.sampled_from([1, 2, 3, None])), max_size=12))
def test_the_timeline_agrees_with_a_plain_record(
    noria: Noria, given_version: Given, moves: list[tuple[str, int | None]]
) -> None:
    registry, op = noria.app.registry, noria.op()
    while len(registry.versions(op, "flights").items if registry.models(op).items else []) < 3:
        given_version()
    for alias in registry.model(op, "flights").aliases:
        registry.remove_alias(noria.op(), "flights", alias.name)
    now: dict[str, int] = {}
    record: list[tuple[int, dict[str, int]]] = []
    for alias, number in moves:
        noria.clock.advance(1)
        if number is not None:
            registry.promote(noria.op(), f"flights@{number}", alias)
            now[alias] = number
        elif alias in now:
            registry.remove_alias(noria.op(), "flights", alias)
            del now[alias]
        record.append((noria.clock.now_ms(), dict(now)))
    for at_ms, expected in record:
        assert {m.alias: m.version for m in registry.timeline(op, "flights", at_ms)} == expected
    assert {a.name: a.version for a in registry.model(op, "flights").aliases} == now
    noria.clock.advance(1)
