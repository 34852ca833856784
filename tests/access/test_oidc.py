"""Sign-in by an identity provider: the way there and back, and everything that must be refused (A22)."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
import pytest

from noria.access.oidc import safe_path
from noria.config import Config
from noria.kernel.clock import ManualClock
from noria.kernel.errors import Invalid
from noria.kernel.secrets import Secret
from tests.access.provider import CLIENT, SECRET, Provider
from tests.conftest import Noria


@pytest.fixture
def provider(clock: ManualClock) -> Iterator[Provider]:
    made = Provider(clock)
    yield made
    made.close()


@pytest.fixture
def config(config: Config, provider: Provider) -> Config:
    return msgspec.structs.replace(
        config, oidc_issuer=provider.url, oidc_client_id=CLIENT, oidc_client_secret=Secret(SECRET),
        oidc_groups=("quants=risk-team", "bosses=admins"),
    )  # fmt: skip


def leave(noria: Noria, browser: httpx.Client, path: str = "/login/oidc") -> str:
    """The address at the provider that the browser is sent to."""
    answer = browser.get(path)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def at_provider(address: str) -> str:
    """Signed in over there: where the browser goes next."""
    return httpx.get(address, follow_redirects=False).headers["location"]


def sign_in(noria: Noria, browser: httpx.Client | None = None) -> tuple[httpx.Client, httpx.Response]:
    browser = browser or noria.client()
    return browser, browser.get(at_provider(leave(noria, browser)))


def test_somebody_comes_back_with_an_account_and_groups(noria: Noria, provider: Provider) -> None:
    root = noria.as_("root", "admin", kind="user")
    root.post("/api/v1/groups", json={"name": "risk-team", "roles": ["viewer"]})
    browser = noria.client()
    back = browser.get(at_provider(leave(noria, browser, "/login/oidc?next=/models?x=1")))
    assert (back.status_code, back.headers["location"]) == (303, "/models?x=1")
    me = browser.get("/api/v1/me").json()
    assert me["name"] == "ada" and me["roles"] == ["viewer"] and me["sign_out_url"].startswith(f"{provider.url}/bye?")
    assert [g["members"] for g in root.get("/api/v1/groups").json()["items"]] == [
        [{"name": "ada", "kind": "user", "source": "oidc"}]
    ]
    assert [e.data["method"] for e in noria.facts("session.started")] == ["oidc"]
    provider.person["groups"] = ["bosses", 7, "unknown"]
    sign_in(noria, browser)
    groups = {g["name"]: [m["name"] for m in g["members"]] for g in root.get("/api/v1/groups").json()["items"]}
    assert groups == {"admins": ["ada"], "risk-team": []}
    assert len([p for p in root.get("/api/v1/principals").json()["items"] if p["name"] == "ada"]) == 1
    del provider.person["groups"]
    browser, _ = sign_in(noria)
    assert {tuple(g["members"]) for g in root.get("/api/v1/groups").json()["items"]} == {()}
    assert browser.get("/api/v1/me").status_code == 403, "an account without a role may do nothing"


def test_a_group_that_was_joined_by_hand_stays(noria: Noria, provider: Provider) -> None:
    root = noria.as_("root", "admin", kind="user")
    root.post("/api/v1/groups", json={"name": "risk-team", "roles": ["viewer"]})
    sign_in(noria)
    root.put("/api/v1/groups/risk-team/members/ada")
    provider.person["groups"] = []
    sign_in(noria)
    members = root.get("/api/v1/groups/risk-team").json()["members"]
    assert members == [{"name": "ada", "kind": "user", "source": ""}]


def test_a_name_is_no_identity(noria: Noria, provider: Provider) -> None:
    root = noria.as_("root", "admin", kind="user")
    noria.as_("ada", "admin", kind="user")
    browser, back = sign_in(noria)
    assert back.status_code == 403 and "nobody has said that it is yours" in back.text
    assert root.post("/api/v1/identities", json={"principal": "ada", "subject": "ada-7"}).status_code == 204
    assert root.post("/api/v1/identities", json={"principal": "ada", "subject": "ada-7"}).status_code == 409
    browser, back = sign_in(noria)
    assert back.status_code == 303 and browser.get("/api/v1/me").json()["name"] == "ada"
    root.delete("/api/v1/principals/ada")
    assert browser.get("/api/v1/me").status_code == 401
    _, back = sign_in(noria)
    assert back.status_code == 401 and "disabled" in back.text


def swapped(location: str, **changes: str) -> str:
    query = {k: v[0] for k, v in parse_qs(urlsplit(location).query).items()} | changes
    return str(httpx.URL(location).copy_with(params={k: v for k, v in query.items() if v}))


def test_an_answer_is_for_one_browser_and_one_time(noria: Noria, provider: Provider) -> None:
    noria.as_("root", "admin", kind="user")
    browser = noria.client()
    location = at_provider(leave(noria, browser))
    for changed in (
        swapped(location, state="x"), swapped(location, state=""), swapped(location, iss="https://evil.example"), swapped(location, iss=""),
    ):  # fmt: skip
        assert browser.get(changed).status_code == 401, changed
        location = at_provider(leave(noria, browser))
    other = noria.client()
    assert other.get(location).status_code == 401, "another browser: sign-in CSRF"
    assert browser.get(location).status_code == 401, "it was used up by the other"
    location = at_provider(leave(noria, browser))
    assert browser.get(location).status_code == 303
    assert browser.get(location).status_code == 401, "replayed"
    location = at_provider(leave(noria, browser))
    assert browser.get(swapped(location, code="", error="access_denied")).status_code == 401
    location = at_provider(leave(noria, browser))
    noria.clock.advance(601)
    assert browser.get(location).status_code == 401, "ten minutes later"
    assert len(noria.facts("session.started")) == 1


def test_a_code_is_worth_nothing_without_the_verifier(noria: Noria, provider: Provider) -> None:
    noria.as_("root", "admin", kind="user")
    browser, thief = noria.client(), noria.client()
    stolen = parse_qs(urlsplit(at_provider(leave(noria, browser))).query)["code"][0]
    own = at_provider(leave(noria, thief))
    assert thief.get(swapped(own, code=stolen)).status_code == 401
    own = at_provider(leave(noria, thief))
    code = parse_qs(urlsplit(own).query)["code"][0]
    assert thief.get(own).status_code == 303 and code not in provider.codes
    again = at_provider(leave(noria, thief))
    assert thief.get(swapped(again, code=code)).status_code == 401, "a code is used once"


@pytest.mark.parametrize(
    "wrong",
    [
        {"aud": "somebody"}, {"aud": [CLIENT, "other"], "azp": "other"}, {"aud": None}, {"iss": "https://evil.example"}, {"nonce": "x"},
        {"nonce": None}, {"exp": 1}, {"exp": None}, {"exp": "later"}, {"nbf": 99_999_999_999}, {"iat": 99_999_999_999}, {"sub": ""},
        {"sub": None}, {"sub": 7},
    ],
)  # fmt: skip
def test_a_token_that_is_not_for_this_sign_in_is_refused(noria: Noria, provider: Provider, wrong: dict[str, object]) -> None:
    noria.as_("root", "admin", kind="user")
    provider.wrong = wrong
    browser, back = sign_in(noria)
    assert back.status_code == 401, wrong
    assert browser.get("/api/v1/me").status_code == 401 and not noria.facts("session.started")


@pytest.mark.parametrize("alg", ["none", "HS256"])
def test_a_token_without_a_real_signature_is_refused(noria: Noria, provider: Provider, alg: str) -> None:
    noria.as_("root", "admin", kind="user")
    provider.alg = alg
    assert sign_in(noria)[1].status_code == 401


def test_a_key_that_rotates_is_found_and_a_foreign_one_is_not(noria: Noria, provider: Provider) -> None:
    noria.as_("root", "admin", kind="user")
    assert sign_in(noria)[1].status_code == 303
    assert sign_in(noria)[1].status_code == 303 and provider.keys_asked == 1, "keys are kept"
    noria.clock.advance(11)
    provider.rotate()
    assert sign_in(noria)[1].status_code == 303 and provider.keys_asked == 2
    published, provider.key = provider.key, type(provider.key).generate_key(2048, {"kid": provider.key.kid})
    foreign, provider.key = provider.key, published
    make = provider.token
    provider.token = lambda claims: make(claims, key=foreign)  # type: ignore[method-assign, misc, assignment]
    asked = provider.keys_asked
    assert [sign_in(noria)[1].status_code for _ in range(3)] == [401] * 3
    assert provider.keys_asked == asked, "made-up signatures do not make this server ask more than once in ten seconds"


def test_when_the_provider_is_away_sessions_and_local_accounts_go_on(noria: Noria, provider: Provider) -> None:
    from noria.access.model import NewPrincipal

    right = "correct horse battery"
    noria.app.access.create_principal(noria.system(), NewPrincipal(name="root", roles=["admin"], password=right))
    browser, _ = sign_in(noria)
    location = at_provider(leave(noria, noria.client()))
    provider.close()
    assert noria.client().get(location).status_code == 401, "without its cookie nothing is asked of anybody"
    other = noria.client()
    left = other.get("/login/oidc")
    answer = other.get(f"/login/oidc/callback?code=x&iss={provider.url}&{urlsplit(left.headers['location']).query}")
    assert answer.status_code == 503 and "does not answer" in answer.text
    assert browser.get("/login").status_code == 200
    assert other.post("/api/v1/sessions", json={"name": "root", "password": right}).status_code == 200


def test_the_page_offers_the_provider_and_goes_on_only_here(noria: Noria, provider: Provider) -> None:
    noria.as_("root", "admin", kind="user")
    page = noria.client().get("/login?next=/models").text
    assert "/login/oidc?next=%2Fmodels" in page and "Sign in with 127.0.0.1" in page
    for text in (
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/a\r\nb",
        "evil",
        "",
        "/" + "a" * 3000,
    ):
        assert safe_path(text) == "/", text
    assert safe_path("/models?a=1#b") == "/models?a=1#b"
    for link in ("//evil.example", "https://evil.example"):
        browser = noria.client()
        back = browser.get(at_provider(leave(noria, browser, f"/login/oidc?next={link}")))
        assert back.headers["location"] == "/"


def test_names_of_people_become_names_here(noria: Noria, provider: Provider) -> None:
    noria.as_("root", "admin", kind="user")
    for i, (claims, name) in enumerate(
        (
            ({"preferred_username": "eve@corp.example"}, "eve"), ({"email": "joe@corp.example"}, "joe"),
            ({"name": "Ann: of/the @house"}, "Ann- of-the -house"), ({}, "s-3"),
        )
    ):  # fmt: skip
        provider.person = {"sub": f"s-{i}", **claims}
        _browser, back = sign_in(noria)
        assert back.status_code == 303
        assert [
            p.name
            for p in noria.app.access.principals(noria.system())
            if p.id in str(noria.facts("principal.created")[-1].subject)
        ] == [name]


@pytest.mark.parametrize(
    "issuer", ["http://id.example.org", "ftp://x", "https://", "https://u:p@id.example", "https://x/?a=b", "x"]
)
def test_an_issuer_is_an_https_address(config: Config, clock: ManualClock, issuer: str) -> None:
    from noria.access.issuers import Issuer

    with pytest.raises(Invalid):
        Issuer(issuer, clock)


def test_settings_that_do_not_fit_stop_the_start(config: Config, clock: ManualClock) -> None:
    from noria.app import build

    for change in ({"oidc_client_id": ""}, {"oidc_groups": ("nonsense",)}, {"oidc_issuer": "http://id.example.org"}):
        with pytest.raises(Invalid):
            build(msgspec.structs.replace(config, **change), clock=clock)
