"""One search over everything that has a name: what is found, in which order, and that what is hidden is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from noria.access.model import Grant, NewPrincipal
from noria.http.manual import Manual
from noria.kernel.naming import nouns
from tests.conftest import Noria


def found(client: httpx.Client, q: str, **params: Any) -> list[dict[str, Any]]:
    answer = client.get("/api/v1/search", params={"q": q, **params})
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


@pytest.fixture
def flights(noria: Noria) -> Noria:
    """Many kinds of things that are called after flights."""
    http = noria.http
    noria.app.tracking.experiment_by_name(noria.system(), "flights", create=True)
    for name in ("flights", "flights_late"):
        http.post("/api/v1/models", json={"name": name, "description": "Which plane is late?"}).raise_for_status()
    policy = {
        "action": "model.promote",
        "message": "Flights need two eyes.",
        "conditions": [{"type": "min_approvals"}],
    }
    http.put("/api/v1/policies/flights-gate", json=policy).raise_for_status()
    http.put("/api/v1/projects/flights-project", json={"description": ""}).raise_for_status()
    http.post(
        "/api/v1/views", json={"name": "flights at night", "page": "runs", "spec": {"q": "x"}, "is_shared": False}
    ).raise_for_status()
    http.post("/api/v1/groups", json={"name": "flights-team", "roles": []}).raise_for_status()
    noria.app.access.create_principal(noria.system(), NewPrincipal(name="flights-bot", kind="service", roles=["viewer"]))
    return noria


def test_every_noun_is_found_and_the_name_itself_comes_first(flights: Noria) -> None:
    kinds = {one["kind"] for one in found(flights.http, "flights")}
    assert {"experiment", "model", "policy", "view", "group", "principal", "project"} <= kinds
    declared = {noun.kind for noun in nouns()}
    assert declared >= kinds - {"manual"}
    assert declared >= {"alert", "approval", "channel", "dataset", "dataset_version", "endpoint", "loop", "model_version",
                        "monitor", "pipeline", "schedule", "secret", "system", "trigger", "webhook"}  # fmt: skip

    for noun in nouns():  # every query is run, whatever the database
        assert all(one["kind"] == noun.kind for one in found(flights.http, "flights", kind=noun.kind))

    models = [one["label"] for one in found(flights.http, "FLIGHTS", kind="model")]
    assert models == ["flights", "flights_late"]
    assert [one["label"] for one in found(flights.http, "late plane", kind="model")] == ["flights", "flights_late"]
    assert [one["label"] for one in found(flights.http, "s_l", kind="model")] == ["flights_late"], "an underscore is itself"
    assert found(flights.http, "100%", kind="model") == []


def test_what_one_may_not_read_is_not_found(flights: Noria) -> None:
    viewer = flights.as_("vic", "viewer")
    kinds = {one["kind"] for one in found(viewer, "flights")}
    assert "model" in kinds and "policy" in kinds
    assert not kinds & {"principal", "group", "secret", "webhook", "channel"}, "a viewer is not told who there is"
    assert "view" not in kinds, "somebody else's own view"
    narrow = flights.as_("nan")
    flights.app.access.grant(flights.system(), Grant(principal="nan", role="viewer", scope="model:flights_late"))
    assert {(one["kind"], one["label"]) for one in found(narrow, "flights")} == {("model", "flights_late")}
    nobody = flights.as_("nobody-much")
    for params, said in (({"q": "x" * 201}, "200"), ({"q": "x", "kind": "horse"}, "horse"), ({"q": "x", "limit": 51}, "50")):
        answer = flights.http.get("/api/v1/search", params=params)
        assert answer.status_code == 400 and said in answer.text, "a bad question is refused with its reason"
    refused = nobody.get("/api/v1/search", params={"q": "flights"})
    assert refused.status_code == 403 and "search.read" in refused.json()["error"]["message"]

    flights.http.put("/api/v1/labels/secret", json={"is_restricting": True}).raise_for_status()
    flights.http.put("/api/v1/labels/secret/things/model:flights").raise_for_status()
    assert [one["label"] for one in found(viewer, "flights", kind="model")] == ["flights_late"]


def test_pages_of_the_manual_are_found_by_their_titles(tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text(
        '{"items": [{"title": "Track <code>runs</code>", "location": "guides/track-runs/", "path": ["Guides"], "text": ""},'
        ' {"title": "Large files", "location": "guides/track-runs/#large-files", "path": ["Guides", "Track runs"], "text": ""}]}'
    )
    manual = Manual(tmp_path)
    assert [h.title for h in manual.headings] == ["Track runs", "Large files"]
    assert Manual(tmp_path / "nowhere").headings == []
