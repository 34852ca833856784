"""Sessions, step-up, back-off, programs that a browser approves, tokens that are limited and rotate, tokens of other issuers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from noria.access import attempts
from noria.access.model import NewPrincipal, TokenRequest
from noria.access.oauth import DEVICE_GRANT, EXCHANGE_GRANT
from noria.kernel.clock import ManualClock
from tests.access.provider import Provider
from tests.conftest import Noria

RIGHT, V1 = "correct horse battery", "/api/v1"
JWT = "urn:ietf:params:oauth:token-type:jwt"


@pytest.fixture
def browser(noria: Noria) -> httpx.Client:
    """Ada, an administrator, signed in with her password."""
    noria.app.access.create_principal(noria.system(), NewPrincipal(name="ada", roles=["admin"], password=RIGHT))
    return signed_in(noria)


def signed_in(noria: Noria, name: str = "ada") -> httpx.Client:
    made = noria.client()
    made.headers["user-agent"] = "Firefox on a laptop"
    assert made.post(f"{V1}/sessions", json={"name": name, "password": RIGHT}).status_code == 200
    return made


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_sessions_are_listed_and_ended(noria: Noria, browser: httpx.Client) -> None:
    noria.app.access.create_principal(noria.system(), NewPrincipal(name="bob", roles=["viewer"], password=RIGHT))
    bob, other = signed_in(noria, "bob"), signed_in(noria)
    mine = bob.get(f"{V1}/sessions").json()["items"]
    assert [(s["principal"], s["method"], s["agent"]) for s in mine] == [("bob", "password", "Firefox on a laptop")]
    assert bob.cookies["noria-session"] not in json.dumps(mine)
    listed = browser.get(f"{V1}/sessions").json()["items"]
    assert sorted(s["principal"] for s in listed) == ["ada", "ada", "bob"]
    anothers = next(s["id"] for s in listed if s["principal"] == "ada")
    assert bob.delete(f"{V1}/sessions/{anothers}").status_code == 404
    assert browser.delete(f"{V1}/sessions/{mine[0]['id']}").status_code == 204
    assert bob.get(f"{V1}/me").status_code == 401
    noria.clock.advance(8 * 3600 + 1)
    assert other.get(f"{V1}/me").status_code == 401, "idle for eight hours"
    assert signed_in(noria).get(f"{V1}/sessions").json()["items"].__len__() == 1


def test_a_dangerous_act_wants_a_recent_sign_in(noria: Noria, browser: httpx.Client) -> None:
    token = browser.post(f"{V1}/tokens", json={"name": "t"}).json()["secret"]
    assert browser.post(f"{V1}/groups", json={"name": "first"}).status_code == 200
    noria.clock.advance(15 * 60 + 1)
    for method, url, body in (
        ("POST", "/groups", {"name": "second"}),
        ("DELETE", "/models/fraud", None),
        ("POST", "/grants", {"principal": "ada", "role": "viewer"}),
    ):
        refused = browser.request(method, V1 + url, json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "reauthenticate"), url
    assert browser.get(f"{V1}/groups").status_code == 200, "looking needs none"
    assert noria.client(token).post(f"{V1}/groups", json={"name": "third"}).status_code == 200, "a token is no browser"
    again = browser.post("/login", data={"name": "ada", "password": RIGHT, "next": "/settings?tab=people"})
    assert again.headers["location"] == "/settings?tab=people"
    assert browser.post(f"{V1}/groups", json={"name": "second"}).status_code == 200
    assert (
        noria.client().post("/login", data={"name": "ada", "password": RIGHT, "next": "//evil.example"}).headers["location"]
        == "/"
    )


def test_wrong_passwords_make_the_next_try_wait(noria: Noria, browser: httpx.Client) -> None:
    def attempt(password: str, name: str = "ada") -> httpx.Response:
        return noria.client().post(f"{V1}/sessions", json={"name": name, "password": password})

    assert [attempt("wrong").status_code for _ in range(attempts.FREE)] == [401] * attempts.FREE
    refused = attempt("guess")
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
    assert attempt("guess", "nobody").status_code == 401, "another account"
    noria.clock.advance(2)
    assert attempt("wrong").status_code == 401
    noria.clock.advance(1)
    assert attempt("wrong").status_code == 429, "twice as long"
    noria.clock.advance(attempts.WAIT_S_MAX)
    assert attempt(RIGHT).status_code == 200
    assert attempt("wrong").status_code == 401, "a right one clears it"
    for _ in range(attempts.FREE_ANYWHERE):
        noria.clock.advance(attempts.WAIT_S_MAX)
        attempt("wrong")
    assert attempt("wrong").status_code == 429
    noria.clock.advance(attempts.FORGET_S)
    assert attempt(RIGHT).status_code == 200, "nobody is locked out for good"


def test_what_is_remembered_of_wrong_ones_is_bounded() -> None:
    made = attempts.Attempts(ManualClock())
    for i in range(attempts.KEPT_MAX):
        made.wrong(f"u{i}", "10.0.0.1")
    assert len(made._wrong) == attempts.KEPT_MAX  # two for each


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_a_token_for_single_things_reaches_nothing_else(noria: Noria, browser: httpx.Client) -> None:
    for model in ("fraud", "churn", "other"):
        browser.post(f"{V1}/models", json={"name": model})
    browser.put(f"{V1}/projects/risk", json={})
    browser.put(f"{V1}/projects/risk/things/model:churn")
    wish = {"name": "ci", "scopes": ["model:fraud", "project:risk"], "actions": ["model.read", "model.tag", "token.own"]}
    assert browser.post(f"{V1}/tokens", json=wish | {"scopes": ["user:ada"]}).status_code == 400
    made = browser.post(f"{V1}/tokens", json=wish).json()
    ci = noria.client(made["secret"])
    assert [m["name"] for m in ci.get(f"{V1}/models").json()["items"]] == ["churn", "fraud"]
    assert ci.get(f"{V1}/models/other").status_code in (403, 404) and ci.delete(f"{V1}/models/fraud").status_code == 403
    assert ci.get(f"{V1}/events").status_code == 403 and ci.get(f"{V1}/groups").status_code == 403
    for more in (
        {"name": "x"},
        {"name": "x", "actions": ["model.read"]},
        {"name": "x", "actions": ["model.read"], "scopes": ["model:other"]},
        {"name": "x", "scopes": ["model:fraud"]},
    ):
        assert ci.post(f"{V1}/tokens", json=more).status_code == 403, more
    less = {"name": "x", "actions": ["model.read"], "scopes": ["model:fraud"]}
    assert ci.post(f"{V1}/tokens", json=less).status_code == 200
    browser.delete(f"{V1}/projects/risk/things/model:churn")
    assert [m["name"] for m in ci.get(f"{V1}/models").json()["items"]] == ["fraud"]


def test_a_token_rotates_with_an_overlap(noria: Noria, browser: httpx.Client) -> None:
    made = browser.post(f"{V1}/tokens", json={"name": "ci", "expires_in_days": 10, "actions": ["me.read"]}).json()
    old, token_id = noria.client(made["secret"]), made["token"]["id"]
    assert old.get(f"{V1}/me").status_code == 200
    noria.clock.advance(9 * 86_400)
    assert browser.get(f"{V1}/me").status_code == 401
    browser = signed_in(noria)
    assert browser.post(f"{V1}/tokens/{token_id}/rotate", json={"overlap_hours": -1}).status_code == 400
    replaced = browser.post(f"{V1}/tokens/{token_id}/rotate", json={"overlap_hours": 2}).json()
    new = noria.client(replaced["secret"])
    assert replaced["token"]["actions"] == ["me.read"]
    assert replaced["token"]["expires_at_ms"] == noria.clock.now_ms() + 10 * 86_400_000
    assert old.get(f"{V1}/me").status_code == new.get(f"{V1}/me").status_code == 200
    noria.clock.advance(2 * 3600)
    assert old.get(f"{V1}/me").status_code == 401, "at once: what is remembered of a token ends with it"
    assert new.get(f"{V1}/me").status_code == 200
    assert browser.post(f"{V1}/tokens/{token_id}/rotate", json={}).status_code == 400, "it has ended"
    assert browser.post(f"{V1}/tokens/000000000000/rotate", json={}).status_code == 404
    assert [e.kind for e in noria.facts("token.rotated")] == ["token.rotated"]


# --- devices ----------------------------------------------------------------------------------------------------------


def poll(noria: Noria, code: str) -> tuple[int, dict[str, Any]]:
    answer = noria.client().post("/oauth/token", data={"grant_type": DEVICE_GRANT, "device_code": code})
    return answer.status_code, answer.json()


def test_a_program_is_approved_in_a_browser(noria: Noria, browser: httpx.Client) -> None:
    program = noria.client()
    started = program.post("/oauth/device", data={"client_name": "laptop/../x"}).json()
    assert poll(noria, started["device_code"])[1]["error"] == "authorization_pending"
    assert poll(noria, started["device_code"])[1]["error"] == "slow_down"
    assert (
        noria.client()
        .get(f"/device?user_code={started['user_code']}")
        .headers["location"]
        .startswith("/login?next=%2Fdevice")
    )
    page = browser.get("/device", params={"user_code": started["user_code"]})
    assert page.status_code == 200 and f'value="{started["user_code"]}"' in page.text
    assert "<script>" not in browser.get("/device", params={"user_code": '"><script>'}).text
    for who, status in ((noria.client(), 401), (program, 401)):
        assert who.post("/device", data={"user_code": started["user_code"], "decision": "approve"}).status_code == status
    token = browser.post(f"{V1}/tokens", json={"name": "t"}).json()["secret"]
    sent = {"user_code": started["user_code"], "decision": "approve"}
    assert noria.client(token).post("/device", data=sent).status_code == 403, "a token approves nothing"
    assert browser.post("/device", data=sent, headers={"origin": "https://evil.example"}).status_code == 403
    assert browser.post("/device", data=sent | {"user_code": "BBBB-BBBB"}).status_code == 404
    assert "is signed in as ada" in browser.post("/device", data=sent | {"user_code": started["user_code"].lower()}).text
    assert browser.post("/device", data=sent).status_code == 404, "decided once"
    noria.clock.advance(6)
    status, granted = poll(noria, started["device_code"])
    assert status == 200 and granted["token_type"] == "Bearer"
    assert noria.client(granted["access_token"]).get(f"{V1}/me").json()["name"] == "ada"
    assert poll(noria, started["device_code"]) == (400, poll(noria, "x")[1])
    assert next(t["name"] for t in browser.get(f"{V1}/tokens").json()["items"]) == "noria login on laptop..x"


def test_a_program_is_refused_or_forgotten(noria: Noria, browser: httpx.Client) -> None:
    first, second = (noria.client().post("/oauth/device").json() for _ in range(2))
    browser.post("/device", data={"user_code": first["user_code"], "decision": "refuse"})
    assert poll(noria, first["device_code"])[1]["error"] == "access_denied"
    noria.clock.advance(601)
    assert poll(noria, second["device_code"])[1]["error"] == "expired_token"
    answer = noria.client().post("/oauth/token", data={"grant_type": "password"})
    assert answer.json()["error"] == "unsupported_grant_type" and answer.headers["cache-control"] == "no-store"


def test_the_command_signs_a_machine_in_and_out(
    noria: Noria, browser: httpx.Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Through a real server: the command polls while the browser approves."""
    import uvicorn
    from click.testing import CliRunner

    from noria.cli.main import main
    from noria.client import credentials
    from noria.client.api import connect
    from noria.http.asgi import asgi

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("noria.access.oauth.POLL_S", 1)  # the command waits as long as it is told between two questions
    runner = uvicorn.Server(uvicorn.Config(asgi(noria.app), host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=runner.run, daemon=True)
    thread.start()
    try:
        while not runner.started:
            assert thread.is_alive()
            time.sleep(0.02)
        url = f"http://127.0.0.1:{runner.servers[0].sockets[0].getsockname()[1]}"

        def approve() -> None:
            with httpx.Client(base_url=url, timeout=30) as http:
                http.post(f"{V1}/sessions", json={"name": "ada", "password": RIGHT})
                for _ in range(100):
                    with noria.app.db.read() as tx:
                        codes = tx.column("select user_code from device where state = 'pending'")
                    if codes:
                        http.post("/device", data={"user_code": codes[0], "decision": "approve"})
                        return
                    time.sleep(0.05)

        person = threading.Thread(target=approve)
        person.start()
        done = CliRunner().invoke(main, ["login", url, "--no-browser"])
        person.join()
        assert done.exit_code == 0 and f"Signed in to {url} for 30 days." in done.output, done.output
        assert credentials.path().stat().st_mode & 0o777 == 0o600
        with connect(url) as api:
            assert api.get("/me")["name"] == "ada"
            token = api.token
        done = CliRunner().invoke(main, ["logout", url])
        assert done.exit_code == 0 and not credentials.saved(url), done.output
        assert noria.client(token).get(f"{V1}/me").status_code == 401
        assert CliRunner().invoke(main, ["logout", url]).exit_code == 3
    finally:
        runner.should_exit = True
        thread.join(10)


# --- exchange ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def ci(clock: ManualClock) -> Iterator[Provider]:
    made = Provider(clock)
    yield made
    made.close()


def exchange(noria: Noria, token: str, **more: str) -> tuple[int, dict[str, Any]]:
    form = {"grant_type": EXCHANGE_GRANT, "subject_token": token, "subject_token_type": JWT} | more
    answer = noria.client().post("/oauth/token", data=form)
    return answer.status_code, answer.json()


def test_a_token_of_ci_stands_for_a_service_account_for_a_while(noria: Noria, browser: httpx.Client, ci: Provider) -> None:
    noria.as_("robot", "contributor")
    wish: dict[str, Any] = {
        "issuer": ci.url, "audience": "noria-ci", "principal": "robot", "actions": ["run.read", "run.log", "me.read"],
        "claims": {"repository": "acme/fraud", "ref": "refs/heads/*"},
    }  # fmt: skip
    for change in (
        {"claims": {}}, {"claims": {"sub": "*"}}, {"audience": ""}, {"principal": "ada"}, {"minutes": 61}, {"minutes": 0},
        {"actions": ["fly"]}, {"issuer": "http://ci.example"}, {"scopes": ["nonsense"]},
    ):  # fmt: skip
        assert browser.put(f"{V1}/trusts/deploy", json=wish | change).status_code == 400, change
    assert browser.put(f"{V1}/trusts/deploy", json=wish).status_code == 200
    claims = {"sub": "repo:acme/fraud", "aud": "noria-ci", "repository": "acme/fraud", "ref": "refs/heads/main"}
    status, granted = exchange(noria, ci.token(claims))
    assert status == 200 and granted["expires_in"] == 900 and granted["issued_token_type"].endswith(":access_token")
    robot = noria.client(granted["access_token"])
    assert robot.get(f"{V1}/me").json()["name"] == "robot" and robot.get(f"{V1}/models").status_code == 403
    assert robot.post(f"{V1}/tokens", json={"name": "longer"}).status_code == 403
    assert [e.data["name"] for e in noria.facts("token.created")][-1] == "deploy: repo:acme/fraud"
    assert not [t for t in browser.get(f"{V1}/tokens").json()["items"] if t["name"].startswith("deploy")]
    for change in (
        {"repository": "evil/fraud"}, {"repository": None}, {"repository": ["acme/fraud"]}, {"ref": "refs/tags/v1"}, {"aud": "others"},
        {"exp": 1}, {"iss": "https://evil.example"}, {"sub": None},
    ):  # fmt: skip
        assert exchange(noria, ci.token(claims | change))[1]["error"] == "invalid_grant", change
    for bad in ("", "x", "a.b.c", "a." + "e30" + ".c", "x" * 10_000):
        assert exchange(noria, bad)[1]["error"] == "invalid_grant", bad[:20]
    assert exchange(noria, ci.token(claims), subject_token_type="x")[1]["error"] == "invalid_request"
    assert exchange(noria, ci.token(claims), scope="model.read")[1]["error"] == "invalid_scope"
    assert exchange(noria, ci.token(claims), scope="me.read")[0] == 200
    ci.alg = "none"
    assert exchange(noria, ci.token(claims))[1]["error"] == "invalid_grant"
    ci.alg = "RS256"
    noria.clock.advance(901)
    assert robot.get(f"{V1}/me").status_code == 401
    browser = signed_in(noria)
    status, granted = exchange(noria, ci.token(claims))
    assert browser.delete(f"{V1}/principals/robot").status_code == 204
    assert noria.client(granted["access_token"]).get(f"{V1}/me").status_code == 401
    assert exchange(noria, ci.token(claims))[1]["error"] == "invalid_grant"


def test_a_cluster_that_cannot_be_reached_is_trusted_by_its_keys(noria: Noria, browser: httpx.Client, ci: Provider) -> None:
    """As of a Kubernetes service account: the issuer has a name, and no address that this server could ask."""
    noria.as_("trainer", "contributor")
    wish = {
        "issuer": "https://kubernetes.default.svc", "audience": "noria", "principal": "trainer",
        "claims": {"sub": "system:serviceaccount:ml:trainer"}, "jwks": {"keys": [ci.key.as_dict(private=False)]},
    }  # fmt: skip
    assert browser.put(f"{V1}/trusts/cluster", json=wish).status_code == 200
    claims = {"iss": wish["issuer"], "sub": "system:serviceaccount:ml:trainer"}
    status, granted = exchange(noria, ci.token(claims))
    assert status == 200 and noria.client(granted["access_token"]).get(f"{V1}/me").json()["roles"] == ["contributor"]
    assert exchange(noria, ci.token(claims | {"sub": "system:serviceaccount:ml:other"}))[0] == 400
    ci.rotate()
    assert exchange(noria, ci.token(claims))[0] == 400
    assert [t["name"] for t in browser.get(f"{V1}/trusts").json()["items"]] == ["cluster"]
    assert browser.delete(f"{V1}/trusts/cluster").status_code == 204
    assert browser.delete(f"{V1}/trusts/cluster").status_code == 404


def test_a_token_made_by_hand_is_an_owner_of_nothing_hidden(noria: Noria, browser: httpx.Client) -> None:
    """A limit that this process has not seen is looked up, not forgotten."""
    made = noria.app.access.create_token(noria.system(), TokenRequest(name="t", principal="ada", actions=["me.read"]))
    ada = noria.client(made.secret)
    assert ada.get(f"{V1}/models").status_code == 403
    noria.app.access._limits.clear()
    assert ada.get(f"{V1}/models").status_code == 403
