"""The control side: what is wanted, and how the pointer moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from noria.kernel.errors import Conflict, Invalid, NotFound
from noria.kernel.ids import RevisionId
from noria.serving.model import Guard, Replica, ReplicaReport, SegmentInfo, TrafficReport, TrafficSample
from noria.serving.routes import latency_bucket
from tests.conftest import Noria
from tests.serving.conftest import FakeRegistry


@pytest.fixture(autouse=True)
def flights(registry: FakeRegistry, tmp_path: Path) -> FakeRegistry:
    """Three versions of a model; the service only looks at the names and digests of files."""
    for number in (1, 2, 3):
        folder = tmp_path / f"v{number}"
        folder.mkdir()
        (folder / "MLmodel").write_text(f"# {number}\n")
        registry.add("flights", folder)
    return registry


def say(noria: Noria, state: str = "ready", error: str = "") -> None:
    """A node reports every revision that it must run."""
    desired = noria.app.serving.nodes.desired(noria.system())
    replicas = [Replica(node="n1", revision_id=r.id, state=state, pid=7, error=error) for r in desired.revisions]  # type: ignore[arg-type]
    noria.app.serving.nodes.report(
        noria.system(), ReplicaReport(node="n1", generation=desired.generation, replicas=replicas)
    )


def shares(noria: Noria, name: str = "flights") -> list[tuple[int, int, str]]:
    found = noria.app.serving.endpoint(noria.system(), name)
    return [(r.model_version, r.weight, r.role) for r in found.routes]


def served(noria: Noria, *versions: int) -> None:
    """flights answers, with these versions deployed one after the other."""
    for version in versions:
        noria.app.serving.deploy(noria.op(), "flights", f"flights@{version}")
        say(noria)


def test_traffic_moves_when_a_node_is_ready(noria: Noria) -> None:
    made = noria.app.serving.deploy(noria.op(), "flights", "flights@1")
    assert (made.state, shares(noria)) == ("pending", [])
    say(noria)
    assert shares(noria) == [(1, 100, "champion")]
    assert [e.kind for e in noria.facts() if "endpoint" in e.kind or "revision" in e.kind] == [
        "endpoint.created", "revision.created", "revision.ready", "endpoint.split_changed",
    ]  # fmt: skip


def test_a_new_version_keeps_the_old_one_warm(noria: Noria) -> None:
    served(noria, 1, 2)
    assert shares(noria) == [(2, 100, "champion"), (1, 0, "previous")]
    served(noria, 3)
    assert shares(noria) == [(3, 100, "champion"), (2, 0, "previous")]
    states = {r.model_version: r.state for r in noria.app.serving.detail(noria.op(), "flights").revisions}
    assert states == {1: "retired", 2: "ready", 3: "ready"}


def test_wanting_what_is_served_changes_nothing(noria: Noria) -> None:
    served(noria, 1)
    before = noria.app.serving.endpoint(noria.op(), "flights")
    noria.app.serving.deploy(noria.op(), "flights", "flights@1")
    after = noria.app.serving.endpoint(noria.op(), "flights")
    assert after == before


def test_a_model_that_fails_keeps_the_old_route(noria: Noria) -> None:
    served(noria, 1)
    noria.app.serving.deploy(noria.op(), "flights", "flights@2")
    desired = noria.app.serving.nodes.desired(noria.system())
    replicas = [
        Replica(
            node="n1",
            revision_id=r.id,
            state="ready" if r.model_version == 1 else "failed",
            error="Traceback …\nKeyError: 'x'",
        )
        for r in desired.revisions
    ]
    noria.app.serving.nodes.report(noria.system(), ReplicaReport(node="n1", replicas=replicas))
    assert shares(noria) == [(1, 100, "champion")]
    failed = noria.facts("revision.failed")[0]
    assert "KeyError: 'x'" in failed.data["error"]
    assert len(noria.app.serving.nodes.desired(noria.system()).revisions) == 1


def test_waiting_for_a_broken_model_says_why(noria: Noria) -> None:
    noria.app.serving.deploy(noria.op(), "flights", "flights@1")
    say(noria, "failed", "Traceback\nModuleNotFoundError: No module named 'xgboost'")
    with pytest.raises(Invalid, match="flights@1 cannot be loaded: ModuleNotFoundError"):
        noria.app.serving._wait(noria.app.serving.detail(noria.op(), "flights").revisions[0].id)
    assert noria.app.serving.endpoint(noria.op(), "flights").status == "failed"


def test_a_canary_advances_and_is_promoted(noria: Noria) -> None:
    served(noria, 1)
    made = noria.app.serving.canaries.start(noria.op(), "flights", "flights@2", steps=[25, 50])
    assert (made.state, shares(noria)) == ("starting", [(1, 100, "champion")])
    say(noria)
    assert shares(noria) == [(1, 75, "champion"), (2, 25, "canary")]
    assert [c.endpoint for c in noria.app.serving.canaries.running(noria.system())] == ["flights"]
    assert noria.app.serving.canaries.advance(noria.op(), "flights").weight == 50
    assert shares(noria) == [(1, 50, "champion"), (2, 50, "canary")]
    with pytest.raises(Conflict, match="last step"):
        noria.app.serving.canaries.advance(noria.op(), "flights")
    noria.app.serving.canaries.promote(noria.op(), "flights", evidence={"n": 300})
    assert shares(noria) == [(2, 100, "champion"), (1, 0, "previous")]
    assert [e.kind for e in noria.facts() if e.kind.startswith("canary")] == [
        "canary.started", "canary.advanced", "canary.promoted",
    ]  # fmt: skip


def test_rolling_back_ends_the_canary_with_a_reason(noria: Noria) -> None:
    served(noria, 1)
    noria.app.serving.canaries.start(noria.op(), "flights", "flights@2")
    say(noria)
    noria.app.serving.canaries.rollback(noria.op(), "flights", "Brier .45 against .19", {"labels": 120})
    assert shares(noria) == [(1, 100, "champion")]
    fact = noria.facts("canary.rolled_back")[0]
    assert (fact.data["reason"], fact.data["evidence"]) == ("Brier .45 against .19", {"labels": 120})
    assert noria.app.serving.canaries.current(noria.op(), "flights") is None


def test_rolling_back_without_a_canary_returns_to_the_previous_champion(noria: Noria) -> None:
    served(noria, 1, 2)
    with pytest.raises(Conflict, match="no canary"):  # a judge that comes late
        noria.app.serving.canaries.rollback(noria.op(), "flights", "the canary is worse")
    assert noria.http.post("/api/v1/endpoints/flights/rollback", json={"reason": "customers complain"}).status_code == 200
    assert shares(noria) == [(1, 100, "champion"), (2, 0, "previous")]


def test_there_is_nothing_to_roll_back_to(noria: Noria) -> None:
    served(noria, 1)
    with pytest.raises(Conflict, match="no previous champion"):
        noria.app.serving.canaries.rollback(noria.op(), "flights", "why not", to_previous=True)


def test_a_canary_that_cannot_be_loaded_is_rolled_back(noria: Noria) -> None:
    served(noria, 1)
    noria.app.serving.canaries.start(noria.op(), "flights", "flights@2")
    say(noria, "failed", "OSError: no such file")
    assert shares(noria) == [(1, 100, "champion")]
    assert "could not be loaded: OSError" in noria.facts("canary.rolled_back")[0].data["reason"]


def test_a_canary_that_errs_more_than_its_guard_allows_is_rolled_back(noria: Noria) -> None:
    served(noria, 1)
    noria.app.serving.canaries.start(noria.op(), "flights", "flights@2", guard=Guard(max_error_share=0.05))
    say(noria)
    canary = noria.app.serving.canaries.current(noria.op(), "flights")
    assert canary

    def count(requests: int, errors: int) -> None:
        now = noria.clock.now_ms()
        samples = [
            TrafficSample(endpoint="flights", revision_id=canary.revision_id, at_ms=now, requests=requests, errors=errors),
            TrafficSample(endpoint="flights", revision_id=canary.champion_revision_id, at_ms=now, requests=60, errors=1),
        ]
        noria.app.serving.traffic.report(noria.system(), TrafficReport(node="n1", samples=samples))

    count(19, 19)  # too few to judge
    assert noria.app.serving.canaries.current(noria.op(), "flights")
    count(81, 0)
    assert noria.app.serving.canaries.current(noria.op(), "flights") is None
    assert "19.0% of its 100 requests failed" in noria.facts("canary.rolled_back")[0].data["reason"]


@pytest.mark.parametrize(("limit", "is_back"), [(None, False), (8.0, False), (3.0, True)])
def test_a_canary_that_is_slower_than_its_guard_allows_is_rolled_back(
    noria: Noria, limit: float | None, is_back: bool
) -> None:
    served(noria, 1)
    noria.app.serving.canaries.start(noria.op(), "flights", "flights@2", guard=Guard(max_latency_ratio=limit))
    say(noria)
    canary = noria.app.serving.canaries.current(noria.op(), "flights")
    assert canary

    def count(requests: int) -> None:
        latency = {canary.revision_id: 20.0, canary.champion_revision_id: 4.0}
        samples = [
            TrafficSample(
                endpoint="flights", revision_id=RevisionId(id), at_ms=noria.clock.now_ms(), requests=requests, errors=0,
                latency={latency_bucket(ms): requests},
            )
            for id, ms in latency.items()
        ]  # fmt: skip
        noria.app.serving.traffic.report(noria.system(), TrafficReport(node="n1", samples=samples))

    count(99)  # one fewer than are needed
    assert noria.app.serving.canaries.current(noria.op(), "flights")
    count(60)
    assert (noria.app.serving.canaries.current(noria.op(), "flights") is None) == is_back
    if is_back:
        fact = noria.facts("canary.rolled_back")[0].data
        assert "more than 3 times" in fact["reason"] and fact["evidence"]["p95_ms"] == pytest.approx(20, rel=0.07)


@pytest.mark.parametrize(
    ("guard", "where"),
    [
        ({"max_latency_ratio": 0.5}, "max_latency_ratio"), ({"max_score_psi": 0}, "max_score_psi"),
        ({"max_fairness_gap": 1.5, "fairness_column": "origin"}, "max_fairness_gap"),
        ({"max_fairness_gap": 0.1}, "fairness_column"), ({"fairness_column": "origin"}, "fairness_column"),
    ],
)  # fmt: skip
def test_guards_that_mean_nothing_are_refused(noria: Noria, guard: dict[str, Any], where: str) -> None:
    served(noria, 1)
    answer = noria.http.post("/api/v1/endpoints/flights/canary", json={"model": "flights@2", "guard": guard})
    assert answer.status_code == 400 and answer.json()["error"]["where"] == f"guard.{where}", answer.text


def test_a_deploy_waits_for_the_canary_to_end(noria: Noria) -> None:
    served(noria, 1)
    noria.app.serving.canaries.start(noria.op(), "flights", "flights@2")
    for act in (noria.app.serving.deploy, noria.app.serving.canaries.start):
        with pytest.raises(Conflict, match="has a canary"):
            act(noria.op(), "flights", "flights@3")


def test_a_deployed_version_is_protected_until_it_is_retired(noria: Noria, flights: FakeRegistry) -> None:
    from noria.kernel.edges import protectors

    served(noria, 1)
    ref = flights.version(noria.op(), "flights@1").ref

    def protecting() -> int:
        with noria.app.db.read() as tx:
            return len(protectors(tx, ref))

    assert protecting() == 1
    served(noria, 2, 3)
    assert protecting() == 0


def test_a_deleted_endpoint_is_gone_and_can_come_back(noria: Noria) -> None:
    served(noria, 1)
    noria.app.serving.delete(noria.op(), "flights")
    with pytest.raises(NotFound):
        noria.app.serving.endpoint(noria.op(), "flights")
    assert noria.app.serving.nodes.desired(noria.system()).revisions == []
    served(noria, 2)
    assert shares(noria) == [(2, 100, "champion")]


def test_a_shadow_gets_no_share(noria: Noria) -> None:
    served(noria, 1)
    noria.app.serving.set_shadow(noria.op(), "flights", "flights@2")
    say(noria)
    assert shares(noria) == [(1, 100, "champion"), (2, 0, "shadow")]
    noria.app.serving.set_shadow(noria.op(), "flights", "")
    assert shares(noria) == [(1, 100, "champion")]


@pytest.mark.parametrize("steps", [[0], [100], [50, 25], [10, 10], list(range(1, 30))])
def test_steps_that_make_no_sense_are_refused(noria: Noria, steps: list[int]) -> None:
    served(noria, 1)
    with pytest.raises(Invalid, match="growing percentages"):
        noria.app.serving.canaries.start(noria.op(), "flights", "flights@2", steps=steps)


def test_traffic_is_a_series_per_revision(noria: Noria) -> None:
    served(noria, 1)
    revision = noria.app.serving.endpoint(noria.op(), "flights").routes[0].revision_id
    start = noria.clock.now_ms() // 60_000 * 60_000
    for minute in range(3):
        sample = TrafficSample(
            endpoint="flights",
            revision_id=revision,
            at_ms=start + minute * 60_000,
            requests=10,
            errors=minute,
            latency={40: 9, 60: 1},
        )
        for _ in range(2):
            noria.app.serving.traffic.report(noria.system(), TrafficReport(node="n1", samples=[sample]))
    answer = noria.http.get(
        "/api/v1/endpoints/flights/traffic", params={"from_ms": start, "to_ms": start + 180_000, "step_s": 60}
    ).json()
    assert answer["t"] == [start, start + 60_000, start + 120_000]
    series = answer["by_revision"][revision]
    assert (series["count"], series["errors"]) == ([20, 20, 20], [0, 2, 4])
    assert series["p50_ms"][0] < series["p99_ms"][0]


def test_segments_are_registered_once(noria: Noria) -> None:
    digest = noria.app.blobs.put(b"rows").digest
    info = SegmentInfo(endpoint="flights", kind="inference", digest=digest, rows=4, event_from_ms=1, event_to_ms=2, at_ms=3)
    for _ in range(2):
        noria.app.serving.segments.add(noria.system(), info)
    found = noria.app.serving.segments.after(noria.op(), "flights")
    assert [(s.seq, s.rows) for s in found] == [(1, 4)]
    assert len(noria.facts("segment.written")) == 1
    assert noria.app.serving.segments.after(noria.op(), "flights", 1) == []


def test_the_door_serves_and_refuses(noria: Noria) -> None:
    made = noria.http.post("/api/v1/endpoints/flights/deploy", json={"model": "flights@1"})
    assert made.status_code == 200 and made.json()["state"] == "pending"
    say(noria)
    page = noria.http.get("/api/v1/endpoints/flights").json()
    assert page["endpoint"]["routes"][0]["weight"] == 100 and page["replicas"][0]["pid"] == 7
    assert [e["name"] for e in noria.http.get("/api/v1/endpoints").json()["items"]] == ["flights"]
    assert noria.http.post("/api/v1/endpoints/flights/deploy", json={"model": "nope@1"}).status_code == 404
    assert noria.http.post("/api/v1/endpoints/flights/deploy", json={"model": "flights@1", "confg": {}}).status_code == 400
    assert noria.http.post("/api/v1/endpoints/flights/promote", json={}).status_code == 409
    viewer = noria.as_("eve", "viewer")
    assert viewer.post("/api/v1/endpoints/flights/deploy", json={"model": "flights@2"}).status_code == 403
    assert viewer.get("/api/v1/serving/desired").status_code == 403


def test_nodes_learn_who_may_predict(noria: Noria) -> None:
    assert noria.app.serving.nodes.desired(noria.system()).auth.is_open
    before = noria.app.serving.nodes.mark()
    noria.as_("root", "admin", kind="user")
    noria.as_("robot", "predictor")
    noria.as_("eve", "viewer")
    auth = noria.app.serving.nodes.desired(noria.system()).auth
    assert noria.app.serving.nodes.mark() != before
    assert not auth.is_open
    assert [(p.predict, p.truth) for p in auth.predictors] == [(None, None), (None, None)]


def test_the_routes_of_nodes_are_closed_to_people(noria: Noria) -> None:
    admin = noria.as_("eve", "admin")
    for method, path in (("GET", "desired"), ("POST", "replicas"), ("POST", "traffic"), ("POST", "segments")):
        body = {"node": "n", "replicas": [], "samples": []}
        if path == "segments":
            body = {
                "endpoint": "e",
                "kind": "truth",
                "digest": "0" * 64,
                "rows": 1,
                "event_from_ms": 1,
                "event_to_ms": 1,
                "at_ms": 1,
            }
        assert admin.request(method, f"/api/v1/serving/{path}", json=body).status_code == 403, path
