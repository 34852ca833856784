"""SCIM 2.0: by the dialects that identity providers speak, by a client library that checks every answer, and hostile input."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import httpx
import pytest

from noria.access.model import NewPrincipal, TokenRequest
from noria.access.scim_filter import parse
from noria.kernel.errors import Invalid
from tests.conftest import Noria

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
USERS, GROUPS = "/scim/v2/Users", "/scim/v2/Groups"


@pytest.fixture
def idp(noria: Noria) -> httpx.Client:
    """The identity provider: a service account with a token for provisioning alone."""
    noria.as_("root", "admin", kind="user")
    op, access = noria.system(), noria.app.access
    access.create_principal(op, NewPrincipal(name="idp", kind="service", roles=["admin"]))
    made = access.create_token(op, TokenRequest(name="scim", principal="idp", actions=["access.provision"]))
    client = noria.client(made.secret)
    client.headers["content-type"] = "application/scim+json"
    return client


def patch(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"schemas": [PATCH], "Operations": list(operations)}


def user(idp: httpx.Client, user_name: str, **more: Any) -> dict[str, Any]:
    answer = idp.post(USERS, json={"schemas": [USER], "userName": user_name, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["location"] == made["meta"]["location"] == f"{USERS}/{made['id']}"
    return made


def test_ending_an_account_ends_its_sessions_and_tokens(noria: Noria, idp: httpx.Client) -> None:
    made = user(idp, "ada@corp.example", externalId="e-1", name={"givenName": "Ada"}, emails=[{"value": "ada@corp.example"}])
    noria.app.access.grant(noria.system(), a_grant("ada", "viewer"))
    token = noria.app.access.create_token(noria.system(), TokenRequest(name="t", principal="ada")).secret
    with noria.app.db.write(noria.system()) as tx:
        secret = noria.app.access.sessions.begin(tx, noria.system(), made["id"], method="oidc", agent="")
    browser = noria.client()
    browser.cookies.set("noria-session", secret)
    ada = noria.client(token)
    assert ada.get("/api/v1/me").status_code == browser.get("/api/v1/me").status_code == 200
    gone = idp.patch(f"{USERS}/{made['id']}", json=patch({"op": "replace", "value": {"active": False}}))
    assert gone.status_code == 200 and gone.json()["active"] is False and gone.json()["name"] == {"givenName": "Ada"}
    assert ada.get("/api/v1/me").status_code == browser.get("/api/v1/me").status_code == 401
    back = idp.patch(f"{USERS}/{made['id']}", json=patch({"op": "Replace", "path": "active", "value": "True"}))
    assert back.json()["active"] is True, "as Entra ID writes it"
    assert ada.get("/api/v1/me").status_code == 401, "a token that ended stays ended"
    assert idp.delete(f"{USERS}/{made['id']}").status_code == 204
    assert idp.get(f"{USERS}/{made['id']}").status_code == idp.delete(f"{USERS}/{made['id']}").status_code == 404
    kinds = [e.kind for e in noria.facts("principal.disabled", "principal.enabled")]
    assert kinds == ["principal.disabled", "principal.enabled", "principal.disabled"]


def a_grant(name: str, role: str) -> Any:
    from noria.access.model import Grant

    return Grant(principal=name, role=role)


def test_groups_bring_roles_and_take_them(noria: Noria, idp: httpx.Client) -> None:
    ada, bob = user(idp, "ada"), user(idp, "bob")
    made = idp.post(GROUPS, json={"schemas": [GROUP], "displayName": "quants", "members": [{"value": ada["id"]}]})
    assert made.status_code == 201
    at = f"{GROUPS}/{made.json()['id']}"
    noria.app.access.grant(noria.system(), a_grant("quants", "viewer"))
    clients = {}
    for name in ("ada", "bob"):
        token = noria.app.access.create_token(noria.system(), TokenRequest(name="t", principal=name)).secret
        clients[name] = noria.client(token)

    def may() -> list[str]:
        return [n for n, c in clients.items() if c.get("/api/v1/models").status_code == 200]

    assert may() == ["ada"]
    idp.patch(at, json=patch({"op": "add", "path": "members", "value": [{"value": bob["id"]}]}))
    assert may() == ["ada", "bob"]
    idp.patch(at, json=patch({"op": "remove", "path": f'members[value eq "{ada["id"]}"]'}))
    assert may() == ["bob"]
    idp.patch(at, json=patch({"op": "Remove", "path": "members", "value": [{"value": bob["id"]}]}))
    assert may() == []
    renamed = idp.patch(at, json=patch({"op": "replace", "value": {"displayName": "risk", "id": made.json()["id"]}}))
    assert renamed.status_code == 400, "an id does not change"
    assert (
        idp.patch(at, json=patch({"op": "replace", "path": "displayName", "value": "risk"})).json()["displayName"] == "risk"
    )
    replaced = idp.put(
        at, json={"schemas": [GROUP], "displayName": "risk", "members": [{"value": i["id"]} for i in (ada, bob)]}
    )
    assert sorted(m["display"] for m in replaced.json()["members"]) == ["ada", "bob"] and may() == ["ada", "bob"]
    assert idp.post(GROUPS, json={"schemas": [GROUP], "displayName": "risk"}).json()["scimType"] == "uniqueness"
    assert idp.patch(at, json=patch({"op": "add", "path": "members", "value": [{"value": "nobody"}]})).status_code == 400
    assert idp.delete(at).status_code == 204 and may() == []


def test_users_are_found_and_paged(idp: httpx.Client) -> None:
    for i in range(5):
        user(idp, f"user{i}@corp.example", externalId=f"x{i}", displayName=f"Person {i}", active=i != 3)

    def found(**query: Any) -> list[str]:
        answer = idp.get(USERS, params=query)
        assert answer.status_code == 200, answer.text
        return [r["userName"].partition("@")[0] for r in answer.json()["Resources"]]

    assert found(filter='userName eq "USER2@corp.example"') == ["user2"]
    assert found(filter='externalId eq "x4"') == ["user4"] and found(filter='externalId eq "X4"') == []
    assert found(filter="active eq false") == ["user3"]
    assert found(filter='userName sw "user" and (displayName ew "1" or displayName co "son 2")') == ["user1", "user2"]
    assert found(filter='not (userName sw "user") or displayName eq "person 0"') == ["user0"]
    assert found(filter="nickName pr") == [] and len(found(filter="displayName pr")) == 5
    page = idp.get(USERS, params={"startIndex": 2, "count": 2}).json()
    assert (page["totalResults"], page["startIndex"], page["itemsPerPage"]) == (5, 2, 2)
    assert found(startIndex=5, count=10) == ["user4"] and found(count=0) == []
    for bad in (
        "userName",
        "userName eq",
        "userName xx 1",
        "(",
        'a eq "b" c',
        "eq eq eq eq",
        'a eq "b',
        "not",
        "a" * 2000,
        "(" * 50 + "a pr",
    ):
        answer = idp.get(USERS, params={"filter": bad})
        assert (answer.status_code, answer.json()["scimType"]) == (400, "invalidFilter"), bad


def test_an_account_that_was_there_is_not_taken_over(noria: Noria, idp: httpx.Client) -> None:
    refused = idp.post(USERS, json={"schemas": [USER], "userName": "root"})
    assert (refused.status_code, refused.json()["scimType"]) == (409, "uniqueness")
    assert idp.get(USERS).json()["totalResults"] == 0
    root = next(p for p in noria.app.access.principals(noria.system()) if p.name == "root")
    assert idp.patch(f"{USERS}/{root.id}", json=patch({"op": "replace", "value": {"active": False}})).status_code == 404
    made = user(idp, "eve")
    assert (
        idp.patch(f"{USERS}/{made['id']}", json=patch({"op": "replace", "path": "userName", "value": "root"})).status_code
        == 409
    )
    again = idp.post(USERS, json={"schemas": [USER], "userName": "EVE"})
    assert again.status_code == 409


def test_the_last_administrator_stays(noria: Noria, idp: httpx.Client) -> None:
    made = user(idp, "ada")
    noria.app.access.grant(noria.system(), a_grant("ada", "admin"))
    noria.app.access.revoke_grant(noria.system(), "root", "admin")
    refused = idp.patch(f"{USERS}/{made['id']}", json=patch({"op": "replace", "value": {"active": False}}))
    assert refused.status_code == 400 and "administrator" in refused.json()["detail"]
    assert idp.get(f"{USERS}/{made['id']}").json()["active"] is True


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"schemas": [USER]},
        {"schemas": [GROUP], "userName": "x"},
        {"schemas": "x", "userName": "x"},
        {"schemas": [USER], "userName": 7},
        {"schemas": [USER], "userName": " "},
        {"schemas": [USER], "userName": "x" * 300},
        {"schemas": [USER], "userName": "x", "active": 1},
        {"schemas": [USER], "userName": "a\x00b"},
        {"schemas": [USER], "userName": "x", "externalId": {}},
        {"schemas": [USER], "userName": ".."},
        {"schemas": [USER], "userName": "@"},
    ],
)
def test_what_is_no_user_is_refused(idp: httpx.Client, body: Any) -> None:
    answer = idp.post(USERS, json=body)
    assert answer.status_code in (201, 400), answer.text
    if body.get("userName") not in ("a\x00b", "@", ".."):
        assert answer.status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"schemas": [PATCH]},
        patch(),
        {"schemas": [PATCH], "Operations": [7]},
        patch({"op": "fly"}),
        patch({"op": "remove"}),
        patch({"op": "add", "value": 7}),
        patch({"op": "add", "path": "[", "value": 7}),
        patch({"op": "add", "path": "id", "value": "x"}),
        patch({"op": "replace", "path": 'emails[type eq "home"].value', "value": "x"}),
        patch({"op": "add", "path": "userName.x", "value": 1}),
        patch({"op": "add", "path": 'userName[a eq "b"]', "value": 1}),
        patch({"op": "remove", "path": "userName"}),
        patch(*({"op": "add", "path": "title", "value": "x"} for _ in range(101))),
    ],
)
def test_what_is_no_patch_is_refused_and_changes_nothing(idp: httpx.Client, body: Any) -> None:
    made = user(idp, "ada", emails=[{"type": "work", "value": "a@b"}])
    answer = idp.patch(f"{USERS}/{made['id']}", json=body)
    assert answer.status_code == 400 and answer.json()["schemas"][0].endswith(":Error"), answer.text
    assert idp.get(f"{USERS}/{made['id']}").json() == made


def test_parts_of_attributes_are_patched(idp: httpx.Client) -> None:
    made = user(idp, "ada", emails=[{"type": "work", "value": "a@b"}, {"type": "home", "value": "c@d"}])
    changed = idp.patch(
        f"{USERS}/{made['id']}",
        json=patch(
            {"op": "replace", "path": 'emails[type eq "work"].value', "value": "new@b"},
            {"op": "add", "path": "name.familyName", "value": "Lovelace"},
            {"op": "add", "path": f"{USER}:title", "value": "Countess"},
            {"op": "remove", "path": 'emails[type eq "home"]'},
        ),
    ).json()
    assert changed["emails"] == [{"type": "work", "value": "new@b"}]
    assert changed["name"] == {"familyName": "Lovelace"} and changed["title"] == "Countess"


def test_only_the_action_opens_it(noria: Noria, idp: httpx.Client) -> None:
    assert idp.get("/api/v1/me").status_code == idp.post("/api/v1/groups", json={"name": "x"}).status_code == 403
    maintainer = noria.as_("max", "maintainer")
    for method, url in (("GET", USERS), ("POST", USERS), ("GET", GROUPS), ("DELETE", f"{USERS}/x")):
        assert maintainer.request(method, url, json={} if method == "POST" else None).status_code == 403
        assert noria.client().request(method, url).status_code == 401


def test_who_was_provisioned_signs_in_under_the_same_id(noria: Noria, idp: httpx.Client) -> None:
    from noria.access.identities import Identities

    made = user(idp, "ada@corp.example", externalId="sub-7")
    identities: Identities = noria.app.access.identities
    op = noria.system()
    with noria.app.db.write(op) as tx:
        found = identities.account(tx, op, "https://id.example", {"sub": "sub-7", "preferred_username": "ada"}, "groups")
    assert found.id == made["id"]


# --- a client library, which checks every answer against the schemas that are served ----------------------------------------


def wsgi(client: httpx.Client) -> Callable[..., Iterable[bytes]]:
    """The door as the library calls applications."""

    def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        query = f"?{environ['QUERY_STRING']}" if environ.get("QUERY_STRING") else ""
        answer = client.request(environ["REQUEST_METHOD"], environ["PATH_INFO"] + query, content=body)
        start(f"{answer.status_code} {answer.reason_phrase}", list(answer.headers.items()))
        return [answer.content]

    return application


def test_a_client_library_agrees(noria: Noria, idp: httpx.Client) -> None:
    from scim2_client.engines.wsgi import WSGISCIMClient
    from scim2_models import PatchOp, PatchOperation

    scim = WSGISCIMClient(wsgi(idp), base_url=f"{noria.config.control_url}/scim/v2")
    scim.discover()
    User, Group = scim.get_resource_model("User"), scim.get_resource_model("Group")
    made = scim.create(User(user_name="ada@corp.example", display_name="Ada", active=True))
    assert made.user_name == "ada@corp.example" and made.id
    group = scim.create(Group(display_name="quants", members=[{"value": made.id}]))
    assert group.members[0].display == "ada"
    listed = scim.query(User, query_parameters={"filter": 'userName eq "ada@corp.example"'})
    assert listed.total_results == 1 and listed.resources[0].id == made.id
    change = PatchOp[User](operations=[PatchOperation(op="replace", path="active", value=False)])
    assert scim.modify(User, made.id, change).active is False
    made.display_name = "Countess"
    assert scim.replace(made).display_name == "Countess"
    scim.delete(Group, group.id)
    scim.delete(User, made.id)
    assert scim.query(User).total_results == 0


def test_a_filter_that_eats_time_is_none() -> None:
    with pytest.raises(Invalid):
        parse("(" * 900)
    with pytest.raises(Invalid):
        parse('a eq "' + "\\" * 900)
