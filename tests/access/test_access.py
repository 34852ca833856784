"""Who, and may they."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Noria


def test_without_accounts_the_local_admin_acts(noria: Noria) -> None:
    me = noria.http.get("/api/v1/me").json()
    assert me["is_local_admin"] and me["roles"] == ["admin"]


def test_the_first_user_ends_the_local_admin(noria: Noria) -> None:
    made = noria.http.post(
        "/api/v1/principals", json={"name": "ada", "roles": ["admin"], "password": "correct horse battery"}
    )
    assert made.status_code == 200
    assert noria.http.get("/api/v1/me").status_code == 401
    signed_in = noria.http.post("/api/v1/sessions", json={"name": "ada", "password": "correct horse battery"})
    assert signed_in.status_code == 200
    assert noria.http.get("/api/v1/me").json()["name"] == "ada"
    assert [e.kind for e in noria.facts()] == ["principal.created", "grant.added", "session.started"]


def test_a_wrong_password_is_refused_and_recorded_once_a_minute(noria: Noria) -> None:
    noria.as_("root", "admin", kind="user")
    for name in ("root", "nobody", "nobody"):
        refused = noria.http.post("/api/v1/sessions", json={"name": name, "password": "wrong"})
        assert refused.status_code == 401
        assert refused.json()["error"]["message"] == "The name or the password is wrong."
    assert len(noria.facts("sign_in.refused")) == 2


def test_a_disabled_principal_loses_its_tokens(noria: Noria) -> None:
    bob = noria.as_("bob", "viewer")
    assert bob.get("/api/v1/events").status_code == 200
    assert noria.http.delete("/api/v1/principals/bob").status_code == 204
    assert bob.get("/api/v1/events").status_code == 401


def test_a_role_limits_what_a_token_may_do(noria: Noria) -> None:
    bob = noria.as_("bob", "predictor")
    refused = bob.get("/api/v1/events")
    assert refused.status_code == 403
    assert "event.read" in refused.json()["error"]["message"]
    assert [e.data for e in noria.facts("access.refused")] == [{"action": "event.read"}]


def test_who_is_made_without_a_role_may_do_nothing(noria: Noria) -> None:
    root = noria.as_("root", "admin", kind="user")
    made = root.post("/api/v1/principals", json={"name": "bob", "password": "correct horse battery"})
    assert made.json()["roles"] == []
    for action in ("run.create", "run.read", "model.read"):
        found = root.get(f"/api/v1/access/explain?principal=bob&action={action}").json()
        assert not found["is_allowed"], found


@pytest.mark.parametrize(
    ("way", "path", "body"),
    [
        ("POST", "/api/v1/grants", {"principal": "bob", "role": "viewer", "scope": "experiment:flights"}),
        ("PUT", "/api/v1/projects/risk/things/experiment:flights", None),
        ("PUT", "/api/v1/labels/pii/things/experiment:flights", None),
    ],
)
def test_an_experiment_goes_by_its_id_and_a_name_is_refused(noria: Noria, way: str, path: str, body: Any) -> None:
    """A role on a name would say yes and cover nothing."""
    root = noria.as_("root", "admin", kind="user")
    noria.as_("bob", "viewer")
    root.put("/api/v1/projects/risk", json={}).raise_for_status()
    root.put("/api/v1/labels/pii", json={}).raise_for_status()
    refused = root.request(way, path, json=body)
    assert refused.status_code == 400, refused.text
    assert "noria experiment list" in refused.json()["error"]["hint"]
