"""Groups, roles of one's own, projects, labels and explanations, through the door."""

from __future__ import annotations

import httpx
import pytest

from noria.access.model import TokenRequest
from tests.conftest import Noria

V1 = "/api/v1"


@pytest.fixture
def root(noria: Noria) -> httpx.Client:
    return noria.as_("root", "admin", kind="user")


def make(root: httpx.Client, *models: str) -> None:
    for model in models:
        assert root.post(f"{V1}/models", json={"name": model}).status_code in (200, 201)


def names(client: httpx.Client) -> list[str]:
    answer = client.get(f"{V1}/models")
    return [m["name"] for m in answer.json()["items"]] if answer.status_code == 200 else []


def test_a_role_of_a_group_in_a_group_counts_and_ends(noria: Noria, root: httpx.Client) -> None:
    make(root, "fraud", "churn")
    bob = noria.as_("bob")
    for group in ("company", "risk"):
        assert root.post(f"{V1}/groups", json={"name": group}).status_code == 200
    assert root.put(f"{V1}/groups/company/members/risk").status_code == 204
    assert root.put(f"{V1}/groups/risk/members/bob").status_code == 204
    assert root.put(f"{V1}/groups/risk/members/company").json()["error"]["code"] == "invalid"
    assert root.put(f"{V1}/groups/risk/members/risk").status_code == 400
    root.post(f"{V1}/grants", json={"principal": "company", "role": "viewer", "scope": "model:fraud"})
    assert names(bob) == ["fraud"] and bob.get(f"{V1}/models/churn").status_code != 200
    assert root.get(f"{V1}/groups/company").json()["members"] == [{"name": "risk", "kind": "group", "source": ""}]
    assert root.delete(f"{V1}/groups/risk").status_code == 204
    assert names(bob) == []
    assert root.get(f"{V1}/groups/risk").status_code == 404
    kinds = [e.kind for e in noria.facts("group.created", "member.added", "group.deleted")]
    assert kinds == ["group.created"] * 2 + ["member.added"] * 2 + ["group.deleted"]


def test_a_role_that_expires_ends_by_itself(noria: Noria, root: httpx.Client) -> None:
    make(root, "fraud")
    bob = noria.as_("bob")
    ends = noria.clock.now_ms() + 3_600_000
    grant = {"principal": "bob", "role": "viewer", "scope": "", "expires_at_ms": ends, "reason": "on call"}
    assert root.post(f"{V1}/grants", json=grant | {"expires_at_ms": 1}).json()["error"]["where"] == "expires_at_ms"
    assert root.post(f"{V1}/grants", json=grant).status_code in (200, 201)
    assert names(bob) == ["fraud"] and bob.get(f"{V1}/me").json()["roles"] == ["viewer"]
    noria.clock.advance(3599)
    assert names(bob) == ["fraud"]
    noria.clock.advance(1)
    assert names(bob) == [] and bob.get(f"{V1}/me").status_code == 403
    said = root.get(f"{V1}/access/explain", params={"principal": "bob", "action": "model.read"}).json()
    assert not said["is_allowed"] and any("(on call): it has expired" in line for line in said["why"]), said


def test_a_label_hides_a_project_from_whoever_is_not_cleared_even_an_administrator(noria: Noria, root: httpx.Client) -> None:
    make(root, "fraud", "churn")
    bob = noria.as_("bob", "contributor")
    assert root.put(f"{V1}/projects/risk", json={"description": "credit risk"}).status_code == 200
    assert root.put(f"{V1}/projects/risk/things/model:fraud").status_code == 204
    assert root.put(f"{V1}/labels/pii/things/project:risk").status_code == 404, "there is no such label yet"
    assert root.put(f"{V1}/labels/pii", json={}).status_code == 200
    assert root.put(f"{V1}/labels/pii/things/project:risk").status_code == 204
    for client in (bob, root):
        assert names(client) == ["churn"]
        assert client.get(f"{V1}/models/fraud").status_code in (403, 404)
        assert client.get("/api/2.0/mlflow/registered-models/get", params={"name": "fraud"}).status_code in (403, 404)
        assert client.get(f"{V1}/events").status_code == 403, "the log of everything is not for who may not see everything"
    assert bob.post("/api/2.0/mlflow/experiments/create", json={"name": "mine"}).status_code == 200
    clear = {"reason": "case 7", "expires_at_ms": noria.clock.now_ms() + 60_000}
    assert root.put(f"{V1}/labels/pii/clearances/bob", json=clear).status_code == 204
    assert names(bob) == ["churn", "fraud"] and names(root) == ["churn"]
    assert root.get(f"{V1}/labels").json()["items"][0]["cleared"] == ["bob"]
    noria.clock.advance(60)
    assert names(bob) == ["churn"]
    said = root.get(f"{V1}/access/explain", params={"principal": "bob", "action": "model.read", "on": "model:fraud"}).json()
    assert said["why"] == [
        "bob has the role contributor on the whole workspace, granted by system:test.",
        "project:risk carries the label pii, for which bob has no clearance.",
    ]
    assert root.delete(f"{V1}/labels/pii").status_code == 204
    assert names(bob) == ["churn", "fraud"]


def test_a_thing_moves_between_projects(noria: Noria, root: httpx.Client) -> None:
    make(root, "fraud")
    bob = noria.as_("bob")
    for name, parent in (("bank", ""), ("risk", "bank"), ("other", "")):
        assert root.put(f"{V1}/projects/{name}", json={"parent": parent}).status_code == 200
    assert root.put(f"{V1}/projects/bank", json={"parent": "risk"}).status_code == 400, "a ring"
    root.post(f"{V1}/grants", json={"principal": "bob", "role": "viewer", "scope": "project:bank"})
    root.put(f"{V1}/projects/risk/things/model:fraud")
    assert names(bob) == ["fraud"]
    root.put(f"{V1}/projects/other/things/model:fraud")
    assert names(bob) == []
    assert root.delete(f"{V1}/projects/other").status_code == 400, "it is not empty"
    assert root.delete(f"{V1}/projects/risk/things/model:fraud").status_code == 404
    assert root.delete(f"{V1}/projects/other/things/model:fraud").status_code == 204
    assert root.delete(f"{V1}/projects/other").status_code == 204
    for ref, status in (("user:bob", 400), ("nonsense", 400)):
        assert root.put(f"{V1}/projects/risk/things/{ref}").status_code == status


def test_a_role_of_ones_own(noria: Noria, root: httpx.Client) -> None:
    bob = noria.as_("bob")
    assert root.put(f"{V1}/roles/viewer", json={"actions": ["model.read"]}).status_code == 400
    assert root.put(f"{V1}/roles/labeler", json={"actions": ["fly"]}).json()["error"]["where"] == "actions"
    assert root.put(f"{V1}/roles/labeler", json={"actions": ["pipeline.work"]}).status_code == 400, "Noria's own"
    assert root.put(f"{V1}/roles/labeler", json={"actions": ["dataset.read", "me.read"]}).status_code == 200
    assert root.post(f"{V1}/grants", json={"principal": "bob", "role": "labeler"}).status_code in (200, 201)
    assert bob.get(f"{V1}/datasets").status_code == 200 and bob.get(f"{V1}/models").status_code == 403
    root.put(f"{V1}/roles/labeler", json={"actions": ["me.read"]})
    assert bob.get(f"{V1}/datasets").status_code == 403
    assert root.delete(f"{V1}/roles/labeler").status_code == 204
    assert bob.get(f"{V1}/me").status_code == 403
    assert root.post(f"{V1}/grants", json={"principal": "bob", "role": "labeler"}).status_code == 400


def test_nobody_gives_what_they_do_not_have(noria: Noria, root: httpx.Client) -> None:
    root.put(f"{V1}/roles/clerk", json={"actions": ["access.write", "access.read", "model.read", "me.read"]})
    clerk = noria.as_("carl")
    root.post(f"{V1}/grants", json={"principal": "carl", "role": "clerk"})
    root.post(f"{V1}/groups", json={"name": "admins", "roles": ["admin"]})
    for method, url, body in (
        ("POST", "/grants", {"principal": "carl", "role": "admin"}),
        ("PUT", "/roles/mine", {"actions": ["system.admin"]}),
        ("PUT", "/groups/admins/members/carl", None),
        ("POST", "/groups", {"name": "more", "roles": ["maintainer"]}),
        ("POST", "/principals", {"name": "eve", "roles": ["admin"]}),
    ):
        answer = clerk.request(method, V1 + url, json=body)
        assert answer.status_code == 403, (url, answer.text)
    assert clerk.put(f"{V1}/roles/reader", json={"actions": ["model.read"]}).status_code == 200


def test_an_administrator_always_stays(noria: Noria, root: httpx.Client) -> None:
    assert root.delete(f"{V1}/grants", params={"principal": "root", "role": "admin"}).status_code == 400
    root.post(f"{V1}/groups", json={"name": "admins", "roles": ["admin"]})
    noria.as_("ada", kind="user")
    root.put(f"{V1}/groups/admins/members/ada")
    assert root.delete(f"{V1}/grants", params={"principal": "root", "role": "admin"}).status_code == 204
    ada = noria.client(noria.app.access.create_token(noria.system(), TokenRequest(name="x", principal="ada")).secret)
    for method, url in (
        ("DELETE", "/groups/admins"),
        ("DELETE", "/groups/admins/members/ada"),
        ("DELETE", "/principals/ada"),
        ("DELETE", "/grants?principal=admins&role=admin"),
    ):
        answer = ada.request(method, V1 + url)
        assert answer.status_code == 400 and "administrator" in answer.text, (url, answer.text)


def test_an_approval_by_an_expired_role_does_not_count(noria: Noria, root: httpx.Client) -> None:
    """What an approver's roles are is what they have now, by themselves or by a group."""
    noria.as_("ada")
    root.post(f"{V1}/groups", json={"name": "risk", "roles": ["approver"]})
    root.put(f"{V1}/groups/risk/members/ada")
    token = root.post(f"{V1}/tokens", json={"name": "t", "principal": "ada"}).json()["secret"]
    assert noria.client(token).get(f"{V1}/me").json()["roles"] == ["approver"]


def test_the_command_line_says_why(noria: Noria, root: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from noria.cli.main import main
    from noria.client import api as client_api

    make(root, "fraud")
    noria.as_("bob")
    connection = client_api.Api(root, url="http://test")
    monkeypatch.setattr(connection, "close", lambda: None)  # each command closes its own
    monkeypatch.setattr(client_api, "connect", lambda: connection)
    run = CliRunner()

    def say(*args: str, code: int = 0) -> str:
        done = run.invoke(main, args, catch_exceptions=False)
        assert done.exit_code == code, done.output
        return done.output

    refused = say("access", "explain", "bob", "model.read", "model:fraud", code=1)
    assert "bob may not do model.read on model:fraud." in refused and "No role that bob has includes model.read" in refused
    say("group", "create", "risk")
    say("group", "add", "risk", "bob")
    say("project", "set", "credit")
    say("project", "put", "credit", "model:fraud")
    say("user", "grant", "risk", "viewer", "--on", "project:credit", "--hours", "9999999", "--reason", "they asked")
    told = say("access", "explain", "bob", "model.read", "model:fraud")
    assert "bob has the role viewer on project:credit as a member of risk (they asked), granted by user:root." in told
    say("label", "set", "pii")
    say("label", "put", "pii", "model:fraud")
    assert "no clearance" in say("access", "explain", "bob", "model.read", "model:fraud", code=1)
    say("label", "clear", "pii", "risk")
    assert "risk has a clearance for it" in say("access", "explain", "bob", "model.read", "model:fraud")
    assert "project:credit" in say("access", "grants", "--on", "project:credit")
    say("role", "set", "looker", "model.read")
    assert "looker" in say("role", "list") and "risk" in say("group", "list") and "model:fraud" in say("project", "list")
    for undo in (
        ("label", "unclear", "pii", "risk"), ("label", "take", "pii", "model:fraud"), ("label", "delete", "pii"),
        ("project", "take", "credit", "model:fraud"), ("project", "delete", "credit"), ("group", "remove", "risk", "bob"),
        ("group", "delete", "risk"), ("role", "delete", "looker"),
    ):  # fmt: skip
        say(*undo)
