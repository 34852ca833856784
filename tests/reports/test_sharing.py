"""Links to reports, and the attacks on them: nobody sees more than the sharer may show, and nothing but the report."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest

from noria.access.model import Grant, ProjectWish, TokenRequest
from noria.access.policy import PUBLIC
from noria.http.asgi import route_table
from noria.kernel.clock import ManualClock
from noria.reports import sharing
from tests.conftest import Noria
from tests.reports.conftest import Flights, begun, looked, shared


@pytest.fixture
def open_noria(noria: Noria) -> Noria:
    """A server on which an administrator allows public reports."""
    noria.app.sharing._is_public_allowed = True
    return noria


def blocks(flights: Flights) -> list[dict[str, Any]]:
    return [
        {"kind": "text", "id": "words", "text": "**January**"},
        {"kind": "runs", "id": "table", "experiment": "flights", "columns": ["metrics.loss"]},
        {"kind": "curves", "id": "curves", "runs": flights.runs, "metrics": ["loss"]},
        {"kind": "dataset", "id": "data", "dataset": "people"},
    ]


def test_a_public_link_shows_the_report_to_nobody_in_particular(open_noria: Noria, flights: Flights) -> None:
    ada, nobody = open_noria.as_("ada", "contributor", kind="user"), open_noria.client()
    made = begun(ada, *blocks(flights))
    secret = shared(ada, made["id"], audience="public")
    seen = looked(nobody, secret)
    assert seen.json()["html"]["words"] == "<p><strong>January</strong></p>\n"
    assert "noindex" in seen.headers["x-robots-tag"] and seen.headers["cache-control"] == "no-store"
    assert "created_by" not in seen.json(), "who wrote it is not part of it"
    assert len(looked(nobody, secret, "table").json()["data"]["ids"]) == 2
    assert looked(nobody, secret, "curves").json()["data"]["series"][flights.runs[0]]["loss"]["count"] == 20
    assert looked(nobody, secret, "nothing").status_code == 404


def test_single_values_of_data_are_not_shown_through_a_link(open_noria: Noria, flights: Flights) -> None:
    ada = open_noria.as_("ada", "contributor", kind="user")
    made = begun(ada, *blocks(flights))
    own = ada.get(f"/api/v1/reports/{made['id']}/panels/data").text
    through = looked(open_noria.client(), shared(ada, made["id"], audience="public"), "data").text
    assert '"ben"' in own and '"ben"' not in through and '"distinct"' in through


def test_without_the_setting_nothing_is_public_not_even_what_was(open_noria: Noria, flights: Flights) -> None:
    noria = open_noria
    ada, nobody = noria.as_("ada", "contributor", kind="user"), noria.client()
    made = begun(ada, *blocks(flights))
    secret = shared(ada, made["id"], audience="public")
    noria.app.sharing._is_public_allowed = False
    assert looked(nobody, secret).status_code == 401
    refused = ada.post(f"/api/v1/reports/{made['id']}/links", json={"audience": "public"})
    assert refused.status_code == 403 and "NORIA_PUBLIC_REPORTS" in refused.json()["error"]["hint"]
    assert not ada.get(f"/api/v1/reports/{made['id']}/links").json()["public_allowed"]
    members = shared(ada, made["id"])
    eve = noria.as_("eve", kind="user")
    assert looked(nobody, members).status_code == 401
    assert looked(eve, members).is_success and looked(eve, members, "table").is_success
    assert eve.get(f"/api/v1/reports/{made['id']}").status_code == 403, "the link opens itself alone"


def test_a_link_opens_nothing_else(open_noria: Noria, flights: Flights) -> None:
    ada, nobody = open_noria.as_("ada", "contributor", kind="user"), open_noria.client()
    made = begun(ada, *blocks(flights))
    other = begun(ada, {"kind": "text", "id": "other", "text": "x"}, title="another")
    secret = shared(ada, made["id"], audience="public")
    wrong = []
    for method, path, action in route_table(open_noria.app.routes()):
        if action == PUBLIC:
            continue
        url = path.replace("{report_id}", made["id"]).replace("{block_id}", "words").replace("{run_id}", flights.runs[0])
        url = re.sub(r"\{[^}]*\}", "1", url)
        if (status := nobody.request(method, url, headers={"x-noria-share": secret}).status_code) != 401:
            wrong.append(f"{method} {url} → {status}")
    assert not wrong, "\n".join(wrong[:20])
    for headers in ({"authorization": f"Bearer {secret}"}, {"cookie": f"noria-session={secret}"}):
        assert nobody.get(f"/api/v1/reports/{made['id']}", headers=headers).status_code == 401, "it signs nobody in"
    assert looked(open_noria.client(), secret, "other").status_code == 404, other["title"]


def test_it_is_judged_again_at_each_look(open_noria: Noria, flights: Flights) -> None:
    noria = open_noria
    access, op = noria.app.access, noria.system()
    noria.as_("root", "admin", kind="user")
    ada, nobody = noria.as_("ada", kind="user"), noria.client()
    access.scopes.set_project(op, "p", ProjectWish())
    for scope in (f"experiment:{flights.experiment}", "dataset:people", "project:p"):
        access.grant(op, Grant(principal="ada", role="contributor", scope=scope))
    made = begun(ada, *blocks(flights), project="p")
    secret = shared(ada, made["id"], audience="public")
    assert looked(nobody, secret, "table").is_success and looked(nobody, secret, "data").is_success
    access.revoke_grant(op, "ada", "contributor", "dataset:people")
    assert looked(nobody, secret, "data").status_code == 404, "what the sharer may no longer read is gone"
    assert looked(nobody, secret, "table").is_success
    access.revoke_grant(op, "ada", "contributor", "project:p")
    assert looked(nobody, secret).status_code == 404, "who may not share shares nothing"


def test_what_carries_a_restricting_label_goes_through_no_link(open_noria: Noria, flights: Flights) -> None:
    root, nobody = open_noria.as_("root", "admin", kind="user"), open_noria.client()
    made = begun(root, *blocks(flights), {"kind": "runs", "id": "all"})
    root.put("/api/v1/labels/pii", json={})
    for thing in ("dataset:people", f"experiment:{flights.experiment}"):
        root.put(f"/api/v1/labels/pii/things/{thing}")
    root.put("/api/v1/labels/pii/clearances/root", json={"reason": "case 7"})
    at = f"/api/v1/reports/{made['id']}/panels"
    assert root.get(f"{at}/data").is_success and len(root.get(f"{at}/all").json()["data"]["ids"]) == 2
    secret = shared(root, made["id"], audience="public")
    assert [looked(nobody, secret, b).status_code for b in ("data", "table", "curves")] == [404, 404, 404]
    assert looked(nobody, secret, "all").status_code == 404 or looked(nobody, secret, "all").json()["data"]["ids"] == []
    root.put(f"/api/v1/labels/pii/things/report:{made['id']}")
    assert looked(nobody, secret).status_code == 404


def test_nobody_puts_a_panel_into_what_another_shared(open_noria: Noria, flights: Flights) -> None:
    """A link sees with its maker's eyes: another writer of the report must not be able to point them at something."""
    noria = open_noria
    root, ben, nobody = noria.as_("root", "admin", kind="user"), noria.as_("ben", "contributor", kind="user"), noria.client()
    made = begun(root, {"kind": "text", "id": "words", "text": "x"})
    secret = shared(root, made["id"], audience="public")
    edit = {"title": "t", "expect": 1, "blocks": [{"kind": "runs", "id": "spy"}]}
    assert ben.put(f"/api/v1/reports/{made['id']}", json=edit).is_success
    assert looked(nobody, secret).json()["version"] == 1 and looked(nobody, secret, "spy").status_code == 404
    link = root.get(f"/api/v1/reports/{made['id']}/links").json()["items"][0]["id"]
    at = f"/api/v1/reports/{made['id']}/links/{link}"
    assert ben.patch(at, json={"version": 2}).status_code == 403
    assert root.patch(at, json={"version": 3}).status_code == 404
    assert root.patch(at, json={"version": 2}).json()["version"] == 2
    assert looked(nobody, secret, "spy").is_success


def test_a_link_is_no_more_than_the_token_it_was_made_with(open_noria: Noria, flights: Flights) -> None:
    noria = open_noria
    root = noria.as_("root", "admin", kind="user")
    made = begun(root, *blocks(flights))
    wish = TokenRequest(name="narrow", principal="root", scopes=[f"report:{made['id']}"])
    token = noria.app.access.create_token(noria.system(), wish)
    secret = shared(noria.client(token.secret), made["id"], audience="public")
    assert looked(noria.client(), secret).is_success
    assert looked(noria.client(), secret, "table").status_code == 404, "the token reads no runs"
    noria.app.access.revoke_token(noria.system(), token.secret.split("_")[1])
    noria.app.access.forget_caches()
    assert looked(noria.client(), secret).status_code == 404


def test_a_link_ends_when_it_expires_is_revoked_or_its_maker_goes(
    open_noria: Noria, flights: Flights, clock: ManualClock
) -> None:
    noria = open_noria
    noria.as_("root", "admin", kind="user")
    ada, nobody = noria.as_("ada", "contributor", kind="user"), noria.client()
    made = begun(ada, *blocks(flights))
    brief, other, last = (shared(ada, made["id"], audience="public", days=d) for d in (0.5, 30, 60))
    assert looked(nobody, brief).is_success
    clock.advance(43_200)
    assert looked(nobody, brief).status_code == 404
    at = f"/api/v1/reports/{made['id']}/links"
    listed = ada.get(at).json()["items"]
    assert len(listed) == 2, "what has expired is not listed"
    assert ada.delete(f"{at}/{other[4:36]}").status_code == 204
    assert looked(nobody, other).status_code == 404 and looked(nobody, last).is_success
    assert [ada.post(at, json={"days": days}).status_code for days in (0, -1, 367)] == [400] * 3
    assert [f.kind for f in noria.facts("report.shared", "report.link_revoked")][-1] == "report.link_revoked"
    noria.app.access.disable_principal(noria.system(), "ada")
    assert looked(nobody, last).status_code == 404


def test_a_secret_is_long_kept_as_a_digest_and_guessed_by_nobody(open_noria: Noria, flights: Flights) -> None:
    ada, nobody = open_noria.as_("ada", "contributor", kind="user"), open_noria.client()
    made = begun(ada, *blocks(flights))
    secret = shared(ada, made["id"], audience="public")
    assert len(secret) == len("nrs_") + 32 + 1 + 43, "256 random bits"
    with open_noria.app.db.read() as tx:
        assert secret[37:] not in str(tx.rows("select * from report_link"))
    assert secret[37:] not in str([f.data for f in open_noria.facts()])
    assert secret[37:] not in ada.get(f"/api/v1/reports/{made['id']}/links").text
    last = "a" if secret[-1] != "a" else "b"
    tried = [looked(nobody, s).status_code for s in ("", "nrs_x", secret[:-1], secret[:-1] + last, "x" * 9_000)]
    assert tried == [404] * 5
    for _ in range(sharing.WRONG_PER_MINUTE):
        answer = looked(nobody, "nrs_" + "0" * 32 + "_" + "a" * 43)
    assert answer.status_code == 429 and answer.json()["error"]["code"] == "too_much"
    assert looked(nobody, secret).is_success, "whoever has a link is locked out by nobody"
    open_noria.clock.advance(61)
    assert looked(nobody, "nrs_x").status_code == 404


def test_through_one_link_there_are_so_many_looks_a_minute(
    open_noria: Noria, flights: Flights, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, nobody = open_noria.as_("ada", "contributor", kind="user"), open_noria.client()
    made = begun(ada, {"kind": "text", "id": "w"})
    secret = shared(ada, made["id"], audience="public")
    monkeypatch.setattr(open_noria.app.sharing._looks, "_most", 3)
    assert [looked(nobody, secret).status_code for _ in range(4)] == [200, 200, 200, 429]


def test_the_secret_is_in_no_log(open_noria: Noria, flights: Flights, caplog: pytest.LogCaptureFixture) -> None:
    """It stands behind the # of an address, and in a header: neither is a place that is logged, and a failure says nothing of it."""
    ada = open_noria.as_("ada", "contributor", kind="user")
    made = begun(ada, *blocks(flights))
    answer = ada.post(f"/api/v1/reports/{made['id']}/links", json={"audience": "public"}).json()
    path, _, secret = answer["url"].partition("#")
    assert path.endswith("/shared") and secret
    with caplog.at_level(logging.DEBUG):
        looked(open_noria.client(), secret)
        open_noria.app.sharing.look = None  # type: ignore[method-assign, assignment]
        assert looked(open_noria.client(), secret).status_code == 500
    assert secret not in caplog.text and secret[37:] not in caplog.text
