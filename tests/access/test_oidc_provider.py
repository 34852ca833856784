"""Against npm's certified `oidc-provider`, in its own process: `make .venv/oidc-provider/package.json` brings it."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
import pytest

from noria.access.issuers import ask
from noria.config import Config
from noria.kernel.clock import SystemClock
from noria.kernel.errors import Unauthenticated
from noria.kernel.secrets import Secret
from tests.conftest import DATABASES, Noria

FOLDER = Path(__file__).parents[2] / ".venv" / "oidc-provider"
CLIENT, SECRET = "noria", "a secret of ours"
pytestmark = [
    pytest.mark.protocol,
    pytest.mark.skipif(
        not (FOLDER / "node_modules").exists() or not shutil.which("node"), reason="make .venv/oidc-provider/package.json"
    ),
]


@pytest.fixture
def clock() -> SystemClock:
    """The provider lives in real time."""
    return SystemClock()


@pytest.fixture
def config(config: Config) -> Iterator[Config]:
    if not config.database.startswith("sqlite") and "sqlite" in DATABASES:
        pytest.skip("the protocol does not depend on the database")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    redirect = f"{config.browser_url}/login/oidc/callback"
    command = ["node", str(Path(__file__).with_name("oidc_provider.mjs")), str(port), CLIENT, SECRET, redirect]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={"OIDC_PROVIDER": str(FOLDER), "PATH": "/usr/bin:/bin"},
    )
    try:
        assert process.stdout
        while "ready" not in (line := process.stdout.readline()):
            assert line, "the provider ended"
        yield msgspec.structs.replace(
            config, oidc_issuer=f"http://127.0.0.1:{port}", oidc_client_id=CLIENT, oidc_client_secret=Secret(SECRET),
            oidc_scopes="openid profile groups", oidc_groups=("quants=risk-team",),
        )  # fmt: skip
    finally:
        process.kill()
        process.wait()


def through(address: str, name: str) -> str:
    """Sign in and consent at the provider, as a browser does; where it sends the browser in the end."""
    with httpx.Client(timeout=30) as http:
        while not urlsplit(address).path.startswith("/login/oidc/callback"):
            answer = http.get(address)
            if answer.is_redirect:
                address = str(httpx.URL(address).join(answer.headers["location"]))
                continue
            action = re.search(r'action="([^"]+)"', answer.text)
            assert action, answer.text[:500]
            prompt = re.search(r'name="prompt" value="(\w+)"', answer.text)
            assert prompt
            form = {"prompt": prompt[1], "login": name, "password": "any"}
            answer = http.post(str(httpx.URL(address).join(action[1])), data=form)
            address = str(httpx.URL(address).join(answer.headers["location"]))
    return address


def test_a_certified_provider_signs_people_in(noria: Noria) -> None:
    root = noria.as_("root", "admin", kind="user")
    root.post("/api/v1/groups", json={"name": "risk-team", "roles": ["viewer"]})
    browser = noria.client()
    back = through(browser.get("/login/oidc?next=/models").headers["location"], "ada")
    answer = browser.get(back)
    assert (answer.status_code, answer.headers["location"]) == (303, "/models"), answer.text
    me = browser.get("/api/v1/me").json()
    assert me["name"] == "ada" and me["roles"] == ["viewer"] and "/session/end" in me["sign_out_url"]
    assert browser.get(back).status_code == 401, "replayed"


def test_it_refuses_a_wrong_verifier_and_a_code_used_twice(noria: Noria) -> None:
    noria.as_("root", "admin", kind="user")
    oidc = noria.app.access.oidc
    assert oidc
    browser = noria.client()
    back = through(browser.get("/login/oidc").headers["location"], "ada")
    code = parse_qs(urlsplit(back).query)["code"][0]
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": f"{noria.config.browser_url}/login/oidc/callback",
    }
    with pytest.raises(Unauthenticated):
        ask("POST", f"{oidc.issuer}/token", form=form | {"code_verifier": "x" * 43}, basic=(CLIENT, SECRET))
    assert browser.get(back).status_code == 303
    other = through(browser.get("/login/oidc").headers["location"], "ada")
    own = parse_qs(urlsplit(other).query)["code"][0]
    assert browser.get(other.replace(own, code)).status_code == 401, "another sign-in's code"
