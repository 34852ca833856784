"""A6, A13, A16, A20, A24: no pickle is read, no secret comes out, nobody else signs, no way goes around the gate."""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noria.http.asgi import route_table
from noria.registry.model import ModelVersion
from tests.conftest import Noria
from tests.registry.conftest import given_run, given_version, tracking
from tests.serving.test_service import say
from tests.shape.test_arrows import ROOT, modules

__all__ = ["given_run", "given_version", "tracking"]
# Where a model, a step's value or somebody's own file is loaded: processes of their own, or the user's own program.
READS_PICKLES = ("noria.serving.", "noria.pipelines.worker", "noria.client.", "noria.testing.", "noria.demo")
READERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve"}


def test_the_control_plane_reads_no_pickle() -> None:
    """No module that runs in the server imports anything that could; `pickletools` only walks opcodes."""
    wrong = []
    for name, path in modules().items():
        if name.startswith(READS_PICKLES):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [a.name for a in node.names] if isinstance(node, ast.Import)
                else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            )  # fmt: skip
            wrong += [f"{name} imports {n}" for n in names if n.split(".")[0] in READERS]
    assert not wrong, wrong
    assert (ROOT / "noria/governance/pickles.py").is_file()


def test_a_planted_secret_is_found_in_no_output(noria: Noria, caplog: pytest.LogCaptureFixture) -> None:
    """A token, a password and a webhook's secret are planted; then everything that can be read is searched for them."""
    caplog.set_level(logging.DEBUG)
    admin = noria.as_("root", "admin", kind="user")
    token = admin.post("/api/v1/tokens", json={"name": "canary"}).json()["secret"]
    hook = admin.put("/api/v1/webhooks/ci", json={"url": "https://example.com/h", "kinds": ["run.*"]}).json()["secret"]
    password = "canary-horse-battery-staple"
    made = admin.post("/api/v1/principals", json={"name": "eve", "kind": "user", "roles": ["viewer"], "password": password})
    assert made.is_success, made.text
    carrier = noria.client(token)
    carrier.get("/api/v1/models")
    for path in ("/api/v1/nowhere", "/api/v1/models/none", "/api/v1/runs?filter=((("):  # errors of every kind
        carrier.get(path)
    carrier.post("/api/v1/models", content=b"{broken")
    admin.post("/api/v1/sessions", json={"name": "eve", "password": password + "x"})
    admin.post("/api/v1/sessions", json={"name": "eve", "password": password})
    noria.settle()

    found = {"the log of the server": caplog.text}
    table = route_table(noria.app.routes())
    plain = sorted({path for method, path, _ in table if method == "GET" and "{" not in path and "stream" not in path})
    assert len(plain) > 40
    for path in plain:
        found[path] = admin.get(path).text
    size = admin.post("/api/v1/audit/exports").json()["size"]
    for part in ("events", "ocsf", "cloudevents", "personal"):
        found[part] = admin.get(f"/api/v1/audit/exports/{size}/{part}").text
    for path in ("/api/v1/webhooks/ci", "/api/v1/webhooks/ci/deliveries"):
        found[path] = admin.get(path).text
    for secret in (token, token.split("_")[-1], hook, password):
        assert [where for where, text in found.items() if secret in text] == []
    with noria.app.db.read() as tx:  # in the database itself a webhook's secret has to be, and nothing else
        rows = {
            table: json.dumps(tx.rows(f"select * from {table}"), default=str)
            for table in ("token", "event", "event_personal", "session", "principal", "job", "delivery")
        }  # fmt: skip
    assert [table for table, text in rows.items() if token in text or password in text] == []


def test_nobody_but_the_control_plane_signs(
    noria: Noria, given_version: Callable[..., ModelVersion], tmp_path: Path
) -> None:
    """Statements are made from what the control plane recorded; there is no way to hand one in."""
    given_version()
    noria.app.provenances.reconcile()
    at = "/api/v1/models/flights/versions/1"
    before = [noria.http.get(f"{at}/{what}").json() for what in ("provenance", "signature")]
    for client in (noria.http, noria.as_("w", "agent"), noria.as_("m", "maintainer")):
        for what in ("provenance", "signature", "bom"):
            for verb in ("PUT", "POST", "PATCH", "DELETE"):
                answer = client.request(verb, f"{at}/{what}", json={"envelope": {}, "bundle": {}})
                assert answer.status_code in (401, 403, 404, 405), (verb, what, answer.text)
    assert [noria.http.get(f"{at}/{what}").json() for what in ("provenance", "signature")] == before
    for key in (noria.config.home / "keys").glob("*.key"):
        assert key.stat().st_mode & 0o077 == 0


def test_every_way_to_production_asks_the_gate(noria: Noria, given_version: Callable[..., ModelVersion]) -> None:
    """Whatever an alias is moved by, or traffic: with a policy that nothing satisfies, each is refused and changes nothing."""
    given_version()
    given_version()
    api, mlflow = "/api/v1", "/api/2.0/mlflow"
    assert noria.http.put(f"{api}/models/flights/aliases/champion", json={"version": 1}).status_code == 200
    assert noria.http.post(f"{api}/endpoints/live/deploy", json={"model": "flights@1"}).is_success
    say(noria)
    for action in ("model.promote", "endpoint.deploy"):
        rule = {"action": action, "conditions": [{"type": "min_approvals", "count": 9}]}
        assert noria.http.put(f"{api}/policies/closed-{action.split('.')[0]}", json=rule).status_code == 200
    stage = {"name": "flights", "version": "2"}
    ways: list[tuple[str, str, dict[str, Any] | None]] = [
        ("PUT", f"{api}/models/flights/aliases/champion", {"version": 2}),
        ("DELETE", f"{api}/models/flights/aliases/champion", None),
        ("POST", f"{mlflow}/registered-models/alias", {"name": "flights", "alias": "champion", "version": "2"}),
        ("DELETE", f"{mlflow}/registered-models/alias", {"name": "flights", "alias": "champion"}),
        ("POST", f"{mlflow}/model-versions/transition-stage", {**stage, "stage": "Production", "archive_existing_versions": False}),
        ("POST", f"{mlflow}/model-versions/set-tag", {**stage, "key": "mlflow.stage", "value": "Production"}),
        ("PATCH", f"{api}/models/flights/versions/2", {"tags": {"mlflow.stage": "Production"}}),
        ("POST", f"{api}/endpoints/live/deploy", {"model": "flights@2"}),
        ("POST", f"{api}/endpoints/new/deploy", {"model": "flights@2"}),
        ("POST", f"{api}/endpoints/live/canary", {"model": "flights@2"}),
        ("POST", f"{api}/endpoints/live/shadow", {"model": "flights@2"}),
    ]  # fmt: skip

    def state() -> Any:
        page = noria.http.get(f"{api}/models/flights").json()
        endpoints = noria.http.get(f"{api}/endpoints").json()["items"]
        return page["model"]["aliases"], [v["tags"] for v in page["versions"]], [e["name"] for e in endpoints]

    before = state()
    for verb, path, body in ways:
        answer = noria.http.request(verb, path, json=body)
        assert answer.status_code == 403 and "Policy refuses" in answer.text, (verb, path, answer.status_code, answer.text)
    assert state() == before
    # A route that is new and deploys has to be added here.
    deploying = {
        path.rsplit("/", 1)[-1] for _, path, action in route_table(noria.app.routes()) if action in ("endpoint.deploy", "model.promote")
    }  # fmt: skip
    deploying.remove("recording")  # how much is recorded; no traffic moves
    assert deploying == {"deploy", "canary", "advance", "promote", "rollback", "shadow", "{alias}", "alias"}
