"""The door: names, origins, limits, and that no route is left open."""

from __future__ import annotations

import re
import threading
import time

import httpx
import pytest

from noria.access.policy import INTERNAL, PUBLIC, ROLES
from noria.http.asgi import check_routes, route_table
from noria.http.route import get
from noria.kernel.errors import NoriaError
from tests.conftest import Noria

STREAMS = ("/api/v1/stream", "/api/v1/serving/desired", "/api/v1/pipelines/work/claim")  # these wait for something to happen


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5000", "", "127.0.0.1.evil.example", "[::2]", "a@b"])
def test_a_foreign_host_name_is_refused(noria: Noria, host: str) -> None:
    assert noria.http.get("/api/v1/me", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:5000", "localhost", "LOCALHOST:5000", "[::1]:5000"])
def test_its_own_names_are_answered(noria: Noria, host: str) -> None:
    assert noria.http.get("/api/v1/me", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "null"},
    ],
)
def test_a_write_from_another_site_is_refused(noria: Noria, method: str, headers: dict[str, str]) -> None:
    answer = noria.http.request(method, "/api/v1/tokens", headers=headers, json={"name": "x"})
    assert answer.status_code == 403
    assert "another site" in answer.json()["error"]["message"]
    assert noria.facts() == []


def test_a_body_above_the_limit_is_refused_declared_or_not(noria: Noria) -> None:
    big = b"x" * ((noria.config.body_limit_mb << 20) + 1)
    assert noria.http.post("/api/v1/tokens", content=big).status_code == 413
    assert noria.http.post("/api/v1/tokens", content=b"{}", headers={"content-length": str(1 << 40)}).status_code == 413


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'"x"', b"\xff\xfe", b'{"name": 1e400}', b"[" * 100_000, b'{"name": "\\ud800"}', b'{"name": "a\\u0000b"}'],
)
def test_a_body_that_cannot_be_read_is_the_callers_fault(noria: Noria, body: bytes) -> None:
    answer = noria.http.post("/api/v1/tokens", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]


def test_a_bug_shows_nothing_internal(noria: Noria) -> None:
    def explode(*_: object) -> None:
        raise RuntimeError("the secret is swordfish")

    noria.app.access.me = explode  # type: ignore[assignment, method-assign]
    answer = noria.http.get("/api/v1/me")
    assert answer.status_code == 500
    assert "swordfish" not in answer.text and answer.json()["error"]["op"] == answer.headers["x-noria-op"]


def test_a_route_without_an_action_stops_the_start() -> None:
    @get("/open", action="anything.goes")
    def open_door() -> None: ...

    with pytest.raises(AssertionError, match="no known action"):
        check_routes([open_door])


def fill(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "1", path)


def test_every_route_refuses_nobody_and_strangers(noria: Noria) -> None:
    """Route × {nobody, somebody without a role, each role}: refused unless the role has the action, and before the body is read."""
    noria.as_("root", "admin", kind="user")  # from here on there are accounts
    stranger = noria.client(noria_token(noria, "stranger", []))
    clients = {role: noria.client(noria_token(noria, role, [role])) for role in ROLES if role != "admin"}
    wrong: list[str] = []
    for method, path, action in route_table(noria.app.routes()):
        if action == PUBLIC:
            continue
        url = fill(path)
        if (status := noria.http.request(method, url).status_code) != 401:
            wrong.append(f"nobody: {method} {path} → {status}")
        if (status := stranger.request(method, url).status_code) != 403:
            wrong.append(f"stranger: {method} {path} → {status}")
        for role, client in clients.items():
            if action not in ROLES[role] and (status := client.request(method, url).status_code) != 403:
                wrong.append(f"{role}: {method} {path} → {status}")
    assert not wrong, "\n".join(wrong)


def test_an_admin_is_never_refused_at_a_reading_route(noria: Noria) -> None:
    root = noria.as_("root", "admin", kind="user")
    for method, path, action in route_table(noria.app.routes()):
        if method == "GET" and action not in INTERNAL | {PUBLIC} and path not in STREAMS:
            status = root.get(fill(path)).status_code
            assert status in (200, 206, 400, 404, 409, 501), f"{path} → {status}"


def noria_token(noria: Noria, name: str, roles: list[str]) -> str:
    from noria.access.model import NewPrincipal, TokenRequest

    op = noria.system()
    noria.app.access.create_principal(op, NewPrincipal(name=f"a {name}", kind="service", roles=roles))
    return noria.app.access.create_token(op, TokenRequest(name="t", principal=f"a {name}")).secret


def test_the_public_routes_are_few(noria: Noria) -> None:
    """Sign-in, health, the UI's files, the API's description; what a secret of its own opens; what is refused to everybody."""
    public = {path for _, path, action in route_table(noria.app.routes()) if action == PUBLIC}
    known = {
        "/", "/{path:path}", "/{path}", "/health", "/metrics", "/login", "/setup", "/static/{digest}/{path}",
        "/api/v1/sessions", "/api/v1/sessions/current", "/api/v1/setup", "/version", "/docs", "/docs/{path}",
        "/login/oidc", "/login/oidc/callback", "/device", "/oauth/device", "/oauth/token",
        "/shared", "/api/v1/shared", "/api/v1/shared/panels/{block_id}",
        *(f"/scim/v2/{name}" for name in ("ServiceProviderConfig", "ResourceTypes", "ResourceTypes/{name}", "Schemas", "Schemas/{name}")),
    }  # fmt: skip
    refusing = [h for h in noria.app.routes() if h.opt.get("unserved")]
    refused = {path for _, path, _ in route_table(refusing)}
    secret = {
        f"/{m}/2.0/mlflow-artifacts/{p}"
        for m in ("api", "ajax-api")
        for p in ("mpu/parts/{upload_id}/{number}", "links/{link_id}")
    }
    secret |= {"/api/v1/hooks/{name}"}
    for path in public - known - refused - secret:
        assert path.endswith("/mlflow/server-info"), path
    for path in refused:
        assert noria.http.post(fill(path)).status_code == 501, path


def test_the_pages_say_what_may_run(noria: Noria) -> None:
    page = noria.http.get("/")
    policy = page.headers["content-security-policy"]
    assert page.status_code == 200 and "unsafe" not in policy and "default-src 'none'" in policy
    script = re.search(r'src="(/static/[^"]+/app\.js)"', page.text)
    assert script
    sent = noria.http.get(script[1])
    assert sent.status_code == 200 and "immutable" in sent.headers["cache-control"]
    assert noria.http.get(script[1].replace("app.js", "..%2f..%2fconfig.py")).status_code == 404
    assert noria.http.get("/static/0000/app.js").status_code == 404


def test_the_one_time_link_makes_one_administrator(noria: Noria) -> None:
    link = noria.http.post("/api/v1/setup-link").json()["url"]
    code = link.split("code=")[1]
    assert code in noria.http.get(f"/setup?code={code}").text
    form = {"code": code, "name": "ada", "password": "correct horse battery"}
    assert noria.http.post("/setup", data=form | {"code": "wrong"}).status_code == 403
    assert noria.http.post("/setup", data=form | {"password": "short"}).status_code == 400
    assert noria.http.post("/setup", data=form).headers["location"] == "/login"
    assert noria.http.post("/setup", data=form | {"name": "eve"}).status_code == 403
    assert noria.http.get("/").headers["location"] == "/login"
    assert noria.http.post("/login", data={"name": "ada", "password": "wrong"}).status_code == 401
    assert noria.http.post("/login", data={"name": "ada", "password": "correct horse battery"}).status_code == 303
    assert noria.http.get("/").status_code == 200


def test_errors_have_one_shape() -> None:
    for kind in NoriaError.__subclasses__():
        assert kind.code and kind.status >= 400 and kind.mlflow_code and kind.__doc__


def test_large_answers_of_the_api_are_packed_for_who_can_read_them(noria: Noria) -> None:
    """Through a real server: the client of these tests asks for nothing to be packed."""
    import uvicorn

    from noria.http.asgi import asgi

    for i in range(60):
        noria.app.tracking.create_experiment(noria.op(), f"an experiment with a rather long name {i}")
    runner = uvicorn.Server(uvicorn.Config(asgi(noria.app), host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=runner.run, daemon=True)
    thread.start()
    try:
        while not runner.started:
            assert thread.is_alive()
            time.sleep(0.02)
        url = f"http://127.0.0.1:{runner.servers[0].sockets[0].getsockname()[1]}"
        with httpx.Client(base_url=url, timeout=30) as http:
            whole = http.get("/api/v1/experiments", headers={"accept-encoding": "identity"})
            packed = http.get("/api/v1/experiments", headers={"accept-encoding": "gzip"})
            assert "content-encoding" not in whole.headers and packed.headers["content-encoding"] == "gzip"
            assert packed.json() == whole.json() and int(packed.headers["content-length"]) < len(whole.content) / 3
            small = http.get("/api/v1/me", headers={"accept-encoding": "gzip"})
            assert "content-encoding" not in small.headers
            page = http.get("/").text
            script = re.search(r'src="(/static/[^"]+/app\.js)"', page)
            assert script
            sent = http.get(script[1], headers={"accept-encoding": "gzip"})
            assert sent.headers["content-encoding"] == "gzip" and b"createRouter" in sent.content
            mlflow = http.post(
                "/api/2.0/mlflow/experiments/search", json={"max_results": 100}, headers={"accept-encoding": "gzip"}
            )
            assert "content-encoding" not in mlflow.headers and len(mlflow.content) > 4096
    finally:
        runner.should_exit = True
        thread.join(20)
