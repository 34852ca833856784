"""What the table of runs stands on: columns and their catalogue, acts on many runs, saved views."""

from __future__ import annotations

import math
from typing import Any

import httpx
import pytest

from noria.access.model import Grant
from noria.tracking.model import Point, Run
from tests.conftest import Noria


def started(noria: Noria, experiment: str = "flights", *, params: dict[str, str] | None = None, **metrics: float) -> Run:
    tracking = noria.app.tracking
    run = tracking.create_run(noria.system(), tracking.experiment_by_name(noria.system(), experiment, create=True).id)
    points = [Point(key=k, value=v, at_ms=1) for k, v in metrics.items()]
    tracking.log_batch(noria.system(), run.id, points, params=params, tags={"team": "red"})
    noria.clock.advance(1)
    return run


def test_only_the_columns_that_are_asked_for_are_read(noria: Noria) -> None:
    runs = [started(noria, params={"lr": "0.1"}, loss=math.nan), started(noria, loss=-math.inf, acc=0.5)]
    answer = noria.http.get("/api/v1/runs", params={"columns": "metrics.loss,params.lr,tags.team,metrics.none,name"}).json()
    assert answer["ids"] == [run.id for run in reversed(runs)]
    assert answer["columns"] == {
        "name": [run.name for run in reversed(runs)], "params.lr": [None, "0.1"], "metrics.loss": ["-Infinity", "NaN"],
        "metrics.none": [None, None], "tags.team": ["red", "red"],
    }  # fmt: skip


def test_the_catalogue_names_columns_by_how_many_runs_have_them(noria: Noria) -> None:
    started(noria, params={"lr": "0.1"}, loss=1.0)
    started(noria, loss=1.0, acc=0.5)
    started(noria, "other", secret=1.0)
    found = noria.http.get("/api/v1/runs/columns", params={"experiment": "flights"}).json()
    assert found["runs"] == 2
    assert [(c["name"], c["runs"]) for c in found["items"] if not c["name"].startswith("tags.mlflow")] == [
        ("metrics.loss", 2), ("metrics.acc", 1), ("params.lr", 1), ("tags.team", 2),
    ]  # fmt: skip
    latest = noria.http.get("/api/v1/runs/columns", params={"experiment": "flights", "limit": 1}).json()
    assert latest["runs"] == 1 and "params.lr" not in {c["name"] for c in latest["items"]}


def test_an_answer_that_would_be_too_large_says_what_to_do(noria: Noria, monkeypatch: Any) -> None:
    started(noria, loss=1.0, acc=0.5)
    monkeypatch.setattr("noria.tracking.columns.CELLS_MAX", 1)
    refused = noria.http.get("/api/v1/runs")
    assert refused.status_code == 400 and "columns=" in refused.json()["error"]["hint"]


def test_many_runs_are_tagged_deleted_and_restored_at_once(noria: Noria) -> None:
    ids = [started(noria).id for _ in range(5)]

    def act(**wish: Any) -> dict[str, int]:
        answer = noria.http.post("/api/v1/runs/batch", json=wish)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    assert act(ids=ids, act="tag", tags={"kept": "yes", "team": None}) == {"runs": 5, "changed": 5}
    assert all(noria.app.tracking.run(noria.op(), i).tags.get("kept") == "yes" for i in ids)
    assert all("team" not in noria.app.tracking.run(noria.op(), i).tags for i in ids)
    assert act(ids=ids[:3], act="delete") == {"runs": 3, "changed": 3}
    assert act(ids=ids, act="delete") == {"runs": 5, "changed": 2}, "what is deleted already stays as it is"
    assert noria.http.get("/api/v1/runs").json()["ids"] == []
    assert act(ids=ids, act="restore") == {"runs": 5, "changed": 5}
    assert sorted(noria.http.get("/api/v1/runs").json()["ids"]) == sorted(ids)
    assert [len(noria.facts(kind)) for kind in ("run.tagged", "run.deleted", "run.restored")] == [5, 5, 5]


def test_an_act_on_many_runs_is_done_to_all_or_to_none(noria: Noria) -> None:
    ids = [started(noria).id for _ in range(2)]
    for wish, status in (
        ({"ids": [*ids, "0" * 32], "act": "delete"}, 404),
        ({"ids": [], "act": "delete"}, 400),
        ({"ids": ids * 501, "act": "burn"}, 400),
        ({"ids": [f"{i:032x}" for i in range(1001)], "act": "delete"}, 400),
        ({"ids": ids, "act": "tag"}, 400),
        ({"ids": ids, "act": "tag", "tags": {"mlflow.runName": "x"}}, 400),
        ({"ids": ids, "act": "tag", "tags": {"../x": "x"}}, 400),
        ({"ids": ids, "act": "tag", "tags": {"x": "y" * 70_000}}, 400),
    ):
        refused = noria.http.post("/api/v1/runs/batch", json=wish)
        assert refused.status_code == status, refused.text
        assert refused.json()["error"]["message"]
    assert len(noria.http.get("/api/v1/runs").json()["ids"]) == 2
    noria.http.post("/api/v1/runs/batch", json={"ids": ids[:1], "act": "delete"})
    refused = noria.http.post("/api/v1/runs/batch", json={"ids": ids, "act": "tag", "tags": {"a": "b"}})
    assert refused.status_code == 400 and "Restore" in refused.json()["error"]["hint"]


def test_an_act_on_many_runs_asks_for_each_experiment(noria: Noria) -> None:
    noria.as_("root", "admin", kind="user")
    mine, other = started(noria), started(noria, "other")
    client = noria.as_("carol")
    noria.app.access.grant(
        noria.system(), Grant(principal="carol", role="contributor", scope=f"experiment:{mine.experiment_id}")
    )
    tag = {"act": "tag", "tags": {"a": "b"}}
    assert client.post("/api/v1/runs/batch", json={"ids": [mine.id], **tag}).status_code == 200
    assert client.post("/api/v1/runs/batch", json={"ids": [mine.id, other.id], **tag}).status_code == 404, "not hers to know"
    assert client.post("/api/v1/runs/batch", json={"ids": [mine.id], "act": "delete"}).status_code == 403, "no run.delete"


# --- saved views --------------------------------------------------------------------------------------------------------


def save(client: httpx.Client, **new: Any) -> httpx.Response:
    return client.post(
        "/api/v1/views", json={"name": "by loss", "spec": {"sort": "metrics.loss:asc", "cols": "name"}, **new}
    )


def test_a_view_is_saved_shared_changed_and_deleted(noria: Noria) -> None:
    experiment = started(noria).experiment_id
    noria.as_("root", "admin", kind="user")
    ada, bo = noria.as_("ada", "viewer"), noria.as_("bo", "viewer")
    made = save(ada, scope=experiment).json()
    assert made["generation"] == 1 and made["owner"].endswith("ada")
    assert bo.get(f"/api/v1/views/{made['id']}").json() == made
    assert [v["name"] for v in bo.get("/api/v1/views", params={"experiment": experiment}).json()["items"]] == ["by loss"]
    changed = ada.patch(f"/api/v1/views/{made['id']}", json={"name": "best", "spec": {"q": "x"}, "expect": 1}).json()
    assert (changed["name"], changed["spec"], changed["generation"]) == ("best", {"q": "x"}, 2)
    assert ada.patch(f"/api/v1/views/{made['id']}", json={"name": "late", "expect": 1}).status_code == 409
    refused = bo.patch(f"/api/v1/views/{made['id']}", json={"name": "mine"})
    assert refused.status_code == 403 and "belongs to" in refused.json()["error"]["message"]
    assert bo.delete(f"/api/v1/views/{made['id']}").status_code == 403
    assert ada.delete(f"/api/v1/views/{made['id']}").status_code == 204
    assert bo.get(f"/api/v1/views/{made['id']}").status_code == 404
    assert [f.kind for f in noria.facts("view.created", "view.changed", "view.deleted")] == [
        "view.created", "view.changed", "view.deleted",
    ]  # fmt: skip


def test_a_view_of_ones_own_is_nobody_elses(noria: Noria) -> None:
    noria.as_("root", "admin", kind="user")
    ada, bo = noria.as_("ada", "viewer"), noria.as_("bo", "viewer")
    made = save(ada, is_shared=False).json()
    assert bo.get(f"/api/v1/views/{made['id']}").status_code == 404
    assert bo.get("/api/v1/views").json()["items"] == []
    assert len(ada.get("/api/v1/views").json()["items"]) == 1
    assert ada.patch(f"/api/v1/views/{made['id']}", json={"is_shared": True}).status_code == 200
    assert len(bo.get("/api/v1/views").json()["items"]) == 1


def test_a_view_is_seen_by_those_who_may_read_its_experiment(noria: Noria) -> None:
    noria.as_("root", "admin", kind="user")
    mine, other = started(noria).experiment_id, started(noria, "other").experiment_id
    ada, carol = noria.as_("ada", "viewer"), noria.as_("carol")
    noria.app.access.grant(noria.system(), Grant(principal="carol", role="viewer", scope=f"experiment:{mine}"))
    views = {scope: save(ada, scope=scope).json()["id"] for scope in (mine, other, "")}
    assert {v["scope"] for v in carol.get("/api/v1/views").json()["items"]} == {mine, ""}
    assert [carol.get(f"/api/v1/views/{views[s]}").status_code for s in (mine, other, "")] == [200, 404, 200]
    assert save(carol, scope=mine).status_code == 201
    assert [save(carol, scope=s).status_code for s in (other, "")] == [403, 403]


def test_views_are_listed_page_by_page_and_bad_ones_refused(noria: Noria) -> None:
    names = [f"v{i}" for i in range(5)]
    for name in names:
        assert save(noria.http, name=name).status_code == 201
    seen, page = [], ""
    while page is not None:
        answer = noria.http.get("/api/v1/views", params={"limit": 2, "page": page}).json()
        seen += [v["name"] for v in answer["items"]]
        page = answer["next"]
    assert seen == names
    assert save(noria.http, name="v1").status_code == 409
    for new in (
        {"name": " "}, {"name": "x" * 121}, {"name": "a\nb"}, {"spec": {"Bad Key": "x"}}, {"spec": {"q": "x" * 40_000}},
        {"page": "home"}, {"colour": "red"}, {"spec": {"q": 1}},
    ):  # fmt: skip
        assert save(noria.http, **new).status_code == 400, new
    assert save(noria.http, scope="0" * 31 + "1").status_code == 404
    for bad in ({"page": "nonsense"}, {"limit": 0}, {"of": "home"}):
        assert noria.http.get("/api/v1/views", params=bad).status_code == 400, bad


@pytest.mark.parametrize("count", [1, 2, 20, 21, 23])
@pytest.mark.parametrize(
    "more", [{}, {"order_by": ["attributes.run_name ASC"]}, {"filter": "attributes.run_name LIKE '%3'"}]
)
def test_runs_of_some_experiments_come_in_order_however_many_there_are(
    noria: Noria, count: int, more: dict[str, Any]
) -> None:
    """Few experiments are looked through one by one, more of them together: the pages are the same."""
    called = noria.http.post
    experiments = [
        called("/api/2.0/mlflow/experiments/create", json={"name": f"e{i}"}).json()["experiment_id"] for i in range(23)
    ]
    made = []
    for i in range(46):
        asked = {"experiment_id": experiments[i % 23], "run_name": f"r{i * 7 % 46:02}", "start_time": 1000 + i * 11 % 46}
        called("/api/2.0/mlflow/runs/create", json=asked)
        made.append(asked)
    wanted = [m for m in made if m["experiment_id"] in experiments[:count]]
    if "filter" in more:
        wanted = [m for m in wanted if m["run_name"].endswith("3")]
    by_name = "order_by" in more
    wanted.sort(key=lambda m: m["run_name"] if by_name else -m["start_time"])
    found, token = [], ""
    while True:
        asked = {"experiment_ids": experiments[:count], "max_results": 3, "page_token": token, **more}
        answer = called("/api/2.0/mlflow/runs/search", json=asked).json()
        found += [run["info"]["run_name"] for run in answer.get("runs", [])]
        token = answer.get("next_page_token", "")
        if not token:
            break
    assert found == [m["run_name"] for m in wanted]
