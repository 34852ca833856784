"""Attacks on names, roots, verbs, origins and ids of others, by the door: each is refused and leaves nothing behind."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest

from noria.access.model import Grant, NewPrincipal, TokenRequest
from noria.access.policy import PUBLIC
from noria.http.asgi import route_table
from noria.kernel.ids import new_id
from tests.conftest import Noria
from tests.hostile.test_bad_input import Given, address, routes
from tests.hostile.values import filled

MLFLOW = "/api/2.0/mlflow"
PROXY = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture
def given(noria: Noria) -> Given:
    return Given(noria)


# --- A1: paths ----------------------------------------------------------------------------------------------------------

CLIMBING = [
    "../secret", "a/../../secret", "..", ".", "./a", "a/./b", "a//b", "/etc/passwd", "//etc/passwd", "..\\secret", "a\\..\\b", "C:\\a",
    "C:a", "c:/windows", "~/a", "~root", "%2e%2e/secret", "%2e%2e%2fsecret", "%252e%252e%252fsecret", "%25252e%25252e%25252fsecret",
    "..%2fsecret", "..%5csecret", "a%00b", "a\x00b", "a\x7fb", "a\rb", "a\nb", "%2fetc%2fpasswd", "a/..", "a%2f..%2f..%2fb",
    "a;/../b", "file:///etc/passwd/../x", "\u2025/\x01", "x/%2e/y",
]  # fmt: skip
ORDINARY = ["a b.txt", "ünï/çode.txt", "a;b", "a#b", "a?b", "100%.txt", "...", "a..b", "..a", "-", "x" * 200]


def test_a_path_that_climbs_is_refused_by_every_operation(noria: Noria, given: Given) -> None:
    known, facts = given.keep, len(noria.facts())
    run, experiment, model = known["run_id"], known["experiment_id"], known["model_id"]
    before = noria.http.get(f"/api/v1/runs/{run}/artifacts").json()
    for path in CLIMBING:
        sent = quote(path, safe="").replace(".", "%2e")  # or the client resolves the dots itself
        asked: list[tuple[str, str, bytes]] = [
            ("PUT", f"{PROXY}/{experiment}/{run}/artifacts/{sent}", b"x"),
            ("PUT", f"{PROXY}/{experiment}/models/{model}/artifacts/{sent}", b"x"),
            ("GET", f"{PROXY}/{experiment}/{run}/artifacts/{sent}", b""),
            ("DELETE", f"{PROXY}/{experiment}/{run}/artifacts/{sent}", b""),
            ("GET", f"{PROXY}?path={quote(f'{experiment}/{run}/artifacts/')}{sent}", b""),
            ("GET", f"{PROXY}/model-versions/{'0' * 32}/{sent}", b""),
            ("PUT", f"/api/v1/runs/{run}/artifacts/content?path={sent}", b"x"),
            ("GET", f"/api/v1/runs/{run}/artifacts/content?path={sent}", b""),
            ("GET", f"/api/v1/runs/{run}/artifacts?path={sent}", b""),
            ("GET", f"{MLFLOW}/artifacts/list?run_id={run}&path={sent}", b""),
            ("GET", f"{MLFLOW}/logged-models/{model}/artifacts/directories?artifact_directory_path={sent}", b""),
            ("GET", f"/api/v1/models/kept/versions/1/content?path={sent}", b""),
        ]
        for method, url, body in asked:
            answer = noria.http.request(method, url, content=body)
            is_empty_list = method == "GET" and answer.status_code == 200 and answer.json() == {"files": []}
            assert answer.status_code in (400, 404) or is_empty_list, (
                path,
                method,
                url,
                answer.status_code,
                answer.text[:200],
            )
            assert "root:" not in answer.text
        for source in (
            f"runs:/{run}/{path}",
            f"models:/{model}/{path}",
            f"mlflow-artifacts:/{experiment}/{run}/artifacts/{path}",
        ):
            body = msgspec.json.encode({"name": "kept", "source": source})
            assert noria.http.post(f"{MLFLOW}/model-versions/create", content=body).status_code in (400, 404), source
    assert noria.http.get(f"/api/v1/runs/{run}/artifacts").json() == before
    assert len(noria.facts()) == facts


def test_an_ordinary_path_is_one_file_in_every_spelling(noria: Noria, given: Given) -> None:
    run, experiment = given.keep["run_id"], given.keep["experiment_id"]
    for path in ORDINARY:
        content = path.encode()
        url = f"{PROXY}/{experiment}/{run}/artifacts/{quote(path)}"
        assert noria.http.put(url, content=content).status_code == 200, path
        everything = "".join(f"%{byte:02x}" if byte != 0x2F else "/" for byte in path.encode())
        for spelling in (url, f"{PROXY}/{experiment}/{run}/artifacts/{everything}"):
            assert noria.http.get(spelling).content == content, spelling
        assert noria.http.get(f"/api/v1/runs/{run}/artifacts/content", params={"path": path}).content == content


# --- A2: roots ----------------------------------------------------------------------------------------------------------

ROOTS = [
    "file:///etc", "/etc", "http://169.254.169.254/latest", "s3://someone-elses", "gs://b", "dbfs:/x", "ftp://a", "mlflow-artifacts:/../..",
    "mlflow-artifacts://evil.example/x", "FILE:///etc", "runs:/../..", "models:/../etc", "hdfs:///", "\\\\host\\share", "file:.", "data:,a",
    "http://[::ffff:127.0.0.1]/", "mlflow-artifacts:/0/../1",
]  # fmt: skip


def test_no_client_chooses_where_bytes_lie(noria: Noria, given: Given) -> None:
    for root in ROOTS:
        answer = noria.http.post(f"{MLFLOW}/experiments/create", json={"name": "evil", "artifact_location": root})
        assert answer.status_code == 400 and answer.json()["error_code"] == "INVALID_PARAMETER_VALUE", root
        for path, body in (
            (f"{MLFLOW}/model-versions/create", {"name": "kept", "source": root}),
            ("/api/v1/models/kept/versions", {"source": root}),
        ):
            assert noria.http.post(path, json=body).status_code in (400, 404), (path, root)
    assert noria.http.get(f"{MLFLOW}/experiments/get-by-name", params={"experiment_name": "evil"}).status_code == 404
    assert [v.number for v in noria.app.registry.versions(noria.op(), "kept").items] == [1]


# --- A4: verbs ----------------------------------------------------------------------------------------------------------

OVERRIDES = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"]


def test_a_reader_writes_by_no_verb(noria: Noria, given: Given) -> None:
    noria.as_("root", "admin", kind="user")
    reader, known = noria.as_("reader", "viewer"), given.keep
    before, facts = (
        given.state(),
        len(noria.facts("run.deleted", "model.deleted", "model_version.deleted", "experiment.deleted")),
    )
    run, file = known["run_id"], f"{PROXY}/{known['experiment_id']}/{known['run_id']}/artifacts/model/data.bin"
    targets = [
        f"/api/v1/runs/{run}",
        "/api/v1/models/kept",
        "/api/v1/models/kept/versions/1",
        file,
        "/api/v1/models/kept/aliases/champion",
    ]
    for url in targets:
        for method in ("DELETE", "PUT", "PATCH", "POST"):
            status = reader.request(method, url, content=b"{}").status_code
            assert status in (403, 404, 405, 501), (method, url, status)
        for header in OVERRIDES:
            for method in ("GET", "POST"):
                reader.request(
                    method, url, headers={header: "DELETE"}, params={"_method": "DELETE"}, content=b"_method=DELETE"
                )
        assert reader.head(url).status_code in (200, 403, 404, 405, 501), url
        for method in ("OPTIONS", "TRACE", "PROPFIND"):
            assert reader.request(method, url).status_code == 405, (method, url)
    assert given.state() == before
    assert len(noria.facts("run.deleted", "model.deleted", "model_version.deleted", "experiment.deleted")) == facts


def test_a_version_is_overwritten_by_nobody(noria: Noria, given: Given) -> None:
    """Not even by an administrator: neither its files, nor through the run they came from."""
    known, before = given.keep, given.state()
    version = noria.app.registry.version(noria.system(), "kept@1")
    for url in (f"{PROXY}/model-versions/{version.id}/data.bin", f"{PROXY}/model-versions/{version.id}/new"):
        for method in ("PUT", "DELETE", "POST", "PATCH"):
            assert noria.http.request(method, url, content=b"other").status_code >= 400, (method, url)
    noria.http.put(f"{PROXY}/{known['experiment_id']}/{known['run_id']}/artifacts/model/data.bin", content=b"other")
    noria.http.delete(f"{PROXY}/{known['experiment_id']}/{known['run_id']}/artifacts/model")
    assert given.state() == before


# --- A10: origins and names of hosts ---------------------------------------------------------------------------------------


def test_every_write_from_elsewhere_and_every_foreign_name_is_refused(noria: Noria) -> None:
    facts, wrong = len(noria.facts()), []
    for method, path, _ in route_table(noria.app.routes()):
        url = re.sub(r"\{[^}]*\}", "1", path)
        foreign = noria.http.build_request(method, url, headers={"host": "evil.example"})
        requests = [foreign]
        if method not in ("GET", "HEAD", "OPTIONS"):
            requests.append(noria.http.build_request(method, url, headers={"origin": "https://evil.example"}))
            requests.append(noria.http.build_request(method, url, headers={"sec-fetch-site": "cross-site"}))
        for answer in noria.at_once(requests):
            allowed = {k for k in answer.headers if k.startswith("access-control-")}
            if answer.status_code != 403 or allowed:
                wrong.append(f"{method} {path} → {answer.status_code} {allowed}")
    assert not wrong, "\n".join(wrong[:20])
    assert len(noria.facts()) == facts
    preflight = noria.http.options(
        "/api/v1/runs", headers={"origin": "https://evil.example", "access-control-request-method": "DELETE"}
    )
    assert not any(k.startswith("access-control-") for k in preflight.headers)


# --- A12: ids of others ----------------------------------------------------------------------------------------------------

IDS = ("run_id", "run_uuid", "run_ids", "experiment_id", "experiment_ids", "experiment_name", "model_id", "name", "model", "source",
       "experiment", "handle")  # fmt: skip


def test_what_is_hidden_is_answered_like_what_is_not_there(noria: Noria, given: Given) -> None:
    """Every id of every route, in turn somebody else's and nobody's: the same status and the same words."""
    noria.as_("root", "admin", kind="user")
    ours, theirs = given.victim, given.keep
    absent: dict[str, Any] = _absent(noria, theirs)
    scoped = _scoped(noria, ours)
    secrets = [
        theirs["run_id"],
        theirs["experiment_id"],
        theirs["model_id"],
        *(absent[k] for k in ("run_id", "experiment_id", "model_id")),
    ]
    before, wrong, compared = given.state(), [], 0
    for method, path, action, shape in routes(noria):
        if action == PUBLIC:
            continue
        body = {} if shape.body is None else filled(shape.body, ours)
        for name in sorted({*shape.path, *shape.query, *body} & set(theirs) & set(IDS)):
            answers = []
            for other in (theirs, absent):
                known = {**ours, name: other[name]}
                query = {n: known[n] for n in shape.query if n in known}
                sent = {**body, name: known[name]} if name in body else body
                answers.append(
                    scoped.request(
                        method, address(path, known), params=query, content=msgspec.json.encode(sent) if body else b""
                    )
                )
            if answers[0].is_success and name == "experiment_name":
                continue  # the id counts, and it is the caller's own
            compared += 1
            told = [_told(a, secrets) for a in answers]
            if told[0] != told[1]:
                wrong.append(f"{name} of {method} {path}:\n  hidden: {told[0]}\n  absent: {told[1]}")
            if (
                answers[0].status_code < 300
                and any(secret in answers[0].text for secret in secrets[:3])
                and name not in ("name",)
            ):
                wrong.append(f"{name} of {method} {path} shows {answers[0].text[:200]}")
    assert not wrong, "\n".join(wrong[:20])
    assert compared > 60 and given.state() == before


def _absent(noria: Noria, like: dict[str, Any]) -> dict[str, Any]:
    """Ids of the same form that nothing has."""
    run, experiment, model = new_id(), new_id(), f"m-{new_id()}"
    return {
        **like, "run_id": run, "run_uuid": run, "run_ids": [run], "runs": run, "experiment_id": experiment,
        "experiment_ids": [experiment], "experiment_name": "gone", "name": "gone", "model": "gone", "model_id": model,
        "source": f"runs:/{run}/model", "experiment": "gone", "handle": "gone@1",
    }  # fmt: skip


def _scoped(noria: Noria, own: dict[str, Any]) -> httpx.Client:
    """A maintainer of one experiment and one model, who may see nothing else."""
    op, access = noria.system(), noria.app.access
    access.create_principal(op, NewPrincipal(name="scoped", kind="service", roles=[]))
    for scope in (f"experiment:{own['experiment_id']}", f"model:{own['name']}"):
        access.grant(op, Grant(principal="scoped", role="maintainer", scope=scope))
    return noria.client(access.create_token(op, TokenRequest(name="t", principal="scoped")).secret)


def _told(answer: httpx.Response, secrets: list[str]) -> tuple[int, str]:
    """Status and words, without what the caller said and what differs each time."""
    text = re.sub(
        r'"op":"[0-9a-f]{32}"|"version":"\d+"|[0-9a-f]{32}|"[a-z_]*(at_ms|timestamp|_time)[a-z_]*":\d+', "…", answer.text
    )
    for word in (*secrets, "kept", "gone"):
        text = text.replace(word, "…")
    return answer.status_code, re.sub(r"[a-z]+-[a-z]+-\d+", "…", text)[:600]


def test_lists_show_exactly_what_may_be_read(noria: Noria, given: Given) -> None:
    noria.as_("root", "admin", kind="user")
    scoped = _scoped(noria, given.victim)
    hidden = [given.keep[k] for k in ("run_id", "experiment_id", "model_id")]
    for url in (
        "/api/v1/runs", "/api/v1/experiments", "/api/v1/models", f"{MLFLOW}/registered-models/search", f"{MLFLOW}/model-versions/search",
        f"{MLFLOW}/experiments/search",
    ):  # fmt: skip
        text = scoped.get(url).text
        assert not any(word in text for word in (*hidden, "kept")), url
        assert "victim" in text or given.victim["run_id"] in text, url
    for url, ask in (
        ("runs/search", {"experiment_ids": hidden[1:2]}),
        ("logged-models/search", {"experiment_ids": hidden[1:2]}),
    ):
        assert not any(word in scoped.post(f"{MLFLOW}/{url}", json=ask).text for word in hidden), url


# --- A14, A18: sign-in ------------------------------------------------------------------------------------------------------


def test_a_stranger_learns_no_name_from_signing_in(noria: Noria) -> None:
    noria.app.access.create_principal(
        noria.system(), NewPrincipal(name="ada", kind="user", roles=["admin"], password="correct horse battery")
    )
    said = []
    for name in ("ada", "nobody", "ada ", "ADA", ""):
        answer = noria.http.post("/api/v1/sessions", json={"name": name, "password": "wrong"})
        said.append((answer.status_code, answer.json()["error"]["message"], "set-cookie" in answer.headers))
    assert set(said) == {(401, "The name or the password is wrong.", False)}
    for token in ("nrk_x", "nrk_" + "0" * 40, "x", "nrk_" + "a" * 10_000):
        assert noria.http.get("/api/v1/me", headers={"authorization": f"Bearer {token}"}).status_code == 401


def test_a_flood_of_sign_ins_is_answered_in_turn(noria: Noria) -> None:
    noria.as_("root", "admin", kind="user")
    ask = [noria.http.build_request("POST", "/api/v1/sessions", json={"name": "x", "password": "y"}) for _ in range(24)]
    assert {a.status_code for a in noria.at_once(ask)} <= {401, 429}
    assert noria.http.get("/health").status_code == 200
