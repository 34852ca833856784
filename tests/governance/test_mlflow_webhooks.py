"""Webhooks made through MLflow's API: MLflow's messages, Noria's guard."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

import pytest

from noria.governance.webhooks import WEBHOOKS_MAX
from tests.conftest import Noria
from tests.governance.test_webhooks import Receiver

HOOKS = "/api/2.0/mlflow/webhooks"
ML, MV = "/api/2.0/mlflow/registered-models", "/api/2.0/mlflow/model-versions"
PROMPT = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.thread.join(5)
    made.server.server_close()


def event(text: str) -> dict[str, str]:
    entity, action = text.upper().split(".")
    return {"entity": entity, "action": action}


def create(noria: Noria, url: str, *events: str, **more: Any) -> dict[str, Any]:
    """A webhook that an administrator lets go to this machine."""
    body = {"name": "ci", "url": url, "events": [event(e) for e in events], **more}
    made = noria.http.post(HOOKS, json=body)
    assert made.status_code == 200, made.text
    ours = noria.http.get(f"/api/v1/webhooks/{body['name']}").json()
    allowed = {"url": url, "kinds": ours["kinds"], "allow_private": True, "enabled": ours["enabled"]}
    assert noria.http.put(f"/api/v1/webhooks/{body['name']}", json=allowed).status_code == 200
    return dict(made.json()["webhook"])


def told(noria: Noria, receiver: Receiver) -> list[tuple[str, dict[str, Any]]]:
    """What arrived, as (event, data)."""
    noria.settle()
    found = [json.loads(body) for _, body in receiver.got]
    receiver.got.clear()
    return [(f"{m['entity']}.{m['action']}", m["data"]) for m in found]


def test_what_happens_to_models_is_told_in_mlflows_words(noria: Noria, receiver: Receiver) -> None:
    create(
        noria, receiver.url, "registered_model.created", "model_version.created", "model_version_tag.set",
        "model_version_tag.deleted", "model_version_alias.created", "model_version_alias.deleted", "prompt.created",
        "prompt_version.created", "prompt_tag.set", "prompt_tag.deleted", "prompt_version_tag.set", "prompt_alias.created",
        "prompt_alias.deleted",
    )  # fmt: skip
    http = noria.http
    http.post(f"{ML}/create", json={"name": "m", "description": "about", "tags": [{"key": "a", "value": "b"}]})
    http.post(f"{ML}/create", json={"name": "p", "tags": [*PROMPT, {"key": "a", "value": "b"}]})
    assert told(noria, receiver) == [
        ("registered_model.created", {"name": "m", "tags": {"a": "b"}, "description": "about"}),
        ("prompt.created", {"name": "p", "tags": {"a": "b"}, "description": ""}),
    ]
    text = [*PROMPT, {"key": "mlflow.prompt.text", "value": "Hi {{x}}"}, {"key": "k", "value": "v"}]
    made = http.post(f"{MV}/create", json={"name": "p", "source": "prompt-template", "tags": text})
    assert made.status_code == 200, made.text
    one = {"name": "p", "version": "1"}
    http.post(f"{MV}/set-tag", json={**one, "key": "t", "value": "u"})
    http.post(f"{ML}/set-tag", json={"name": "p", "key": "s", "value": "1"})
    http.request("DELETE", f"{ML}/delete-tag", json={"name": "p", "key": "s"})
    http.post(f"{ML}/alias", json={**one, "alias": "live"})
    http.request("DELETE", f"{ML}/alias", json={"name": "p", "alias": "live"})
    assert told(noria, receiver) == [
        ("prompt_version.created", {**one, "template": "Hi {{x}}", "tags": {"k": "v"}, "description": None}),
        ("prompt_version_tag.set", {**one, "key": "t", "value": "u"}),
        ("prompt_tag.set", {"name": "p", "key": "s", "value": "1"}),
        ("prompt_tag.deleted", {"name": "p", "key": "s"}),
        ("prompt_alias.created", {"name": "p", "alias": "live", "version": "1"}),
        ("prompt_alias.deleted", {"name": "p", "alias": "live"}),
    ]


def test_a_version_its_tags_and_its_stage(noria: Noria, receiver: Receiver) -> None:
    experiment = noria.app.tracking.create_experiment(noria.op(), "e")
    run = noria.app.tracking.create_run(noria.op(), experiment.id).id
    noria.app.tracking.put_artifact(noria.op(), run, "model/MLmodel", b"flavors: {}\n")
    create(noria, receiver.url, "model_version.created", "model_version_tag.set", "model_version_tag.deleted")
    noria.http.post(f"{ML}/create", json={"name": "m"})
    sent = {"name": "m", "source": f"runs:/{run}/model", "run_id": run, "description": "first"}
    noria.http.post(f"{MV}/create", json=sent)
    one = {"name": "m", "version": "1"}
    noria.http.post(f"{MV}/transition-stage", json={**one, "stage": "Staging"})
    noria.http.patch(f"{MV}/update", json={**one, "description": "other"})
    changed = noria.http.patch("/api/v1/models/m/versions/1", json={"tags": {"a": "1", "b": "2"}})
    assert changed.status_code == 200, changed.text
    noria.http.request("DELETE", f"{MV}/delete-tag", json={**one, "key": "a"})
    assert told(noria, receiver) == [
        (
            "model_version.created",
            {**one, "source": f"runs:/{run}/model", "run_id": run, "tags": {}, "description": "first"},
        ),
        ("model_version_tag.set", {**one, "key": "a", "value": "1"}),
        ("model_version_tag.set", {**one, "key": "b", "value": "2"}),
        ("model_version_tag.deleted", {**one, "key": "a"}),
    ]


def test_a_message_has_mlflows_headers_and_its_signature(noria: Noria, receiver: Receiver) -> None:
    create(noria, receiver.url, "registered_model.created", secret="s3cret")
    receiver.answers = [(503, b"later"), (200, b"ok")]
    noria.http.post(f"{ML}/create", json={"name": "m"})
    noria.settle()
    noria.clock.advance(60)
    noria.settle()
    (first, body), (second, again) = receiver.got
    assert body == again and first["x-mlflow-delivery-id"] == second["x-mlflow-delivery-id"]
    signed = f"{second['x-mlflow-delivery-id']}.{second['x-mlflow-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(b"s3cret", signed, hashlib.sha256).digest()).decode()
    assert second["x-mlflow-signature"] == f"v1,{expected}"
    assert set(json.loads(body)) == {"entity", "action", "timestamp", "data"}


def test_only_what_is_wanted_is_sent(noria: Noria, receiver: Receiver) -> None:
    made = create(noria, receiver.url, "prompt.created")
    noria.http.post(f"{ML}/create", json={"name": "m"})
    noria.http.post(f"{ML}/create", json={"name": "p", "tags": PROMPT})
    assert [name for name, _ in told(noria, receiver)] == ["prompt.created"]
    noria.http.patch(f"{HOOKS}/{made['webhook_id']}", json={"status": "DISABLED"})
    noria.http.post(f"{ML}/create", json={"name": "p2", "tags": PROMPT})
    assert told(noria, receiver) == []
    changed = noria.http.patch(
        f"{HOOKS}/{made['webhook_id']}",
        json={"name": "renamed", "events": [event("registered_model.created")], "status": "ACTIVE", "description": "why"},
    ).json()["webhook"]
    assert (changed["name"], changed["description"], changed["status"]) == ("renamed", "why", "ACTIVE")
    noria.http.post(f"{ML}/create", json={"name": "m2"})
    assert told(noria, receiver) == [("registered_model.created", {"name": "m2", "tags": {}, "description": ""})]
    sent = noria.http.get("/api/v1/webhooks/renamed/deliveries").json()["items"]
    assert [d["state"] for d in sent] == ["delivered", "delivered"], "what was sent before the new name is still its own"
    assert noria.http.delete(f"{HOOKS}/{made['webhook_id']}").json() == {}
    assert noria.http.get(f"{HOOKS}/{made['webhook_id']}").status_code == 404


def test_a_private_address_is_refused_until_an_administrator_allows_it(noria: Noria, receiver: Receiver) -> None:
    body = {"name": "inside", "url": receiver.url, "events": [event("registered_model.created")]}
    made = noria.http.post(HOOKS, json=body).json()["webhook"]
    tried = noria.http.post(f"{HOOKS}/{made['webhook_id']}/test", json={}).json()["result"]
    assert tried["success"] is False and "do not go" in tried["error_message"]
    noria.http.post(f"{ML}/create", json={"name": "m"})
    assert told(noria, receiver) == []
    (failed,) = noria.http.get("/api/v1/webhooks/inside/deliveries").json()["items"]
    assert failed["state"] == "failed" and "do not go" in failed["error"]


def test_a_try_sends_an_example_and_says_how_it_went(noria: Noria, receiver: Receiver) -> None:
    made = create(noria, receiver.url, "model_version.created", "prompt.created")
    address = f"{HOOKS}/{made['webhook_id']}/test"
    assert noria.http.post(address, json={}).json() == {
        "result": {"success": True, "response_status": 200, "response_body": "thanks"}
    }
    receiver.answers = [(500, b"broken")]
    asked = noria.http.post(address, json={"event": event("prompt.created")}).json()
    assert asked == {"result": {"success": False, "response_status": 500, "response_body": "broken"}}
    first, second = (json.loads(body) for _, body in receiver.got)
    assert (first["entity"], first["data"]["source"]) == ("model_version", "models:/123")
    assert (second["entity"], second["data"]["name"]) == ("prompt", "example_prompt")
    assert noria.http.post(f"{HOOKS}/nobody/test", json={}).status_code == 404


def test_it_is_listed_by_both_apis_and_changed_by_each_in_its_way(noria: Noria) -> None:
    one = {
        "name": "one",
        "url": "https://x.example/a?key=hidden",
        "events": [event("registered_model.created")],
        "secret": "hush",
    }
    made = noria.http.post(HOOKS, json=one).json()["webhook"]
    noria.clock.advance(1)
    noria.http.post(HOOKS, json={**one, "name": "two"})
    noria.http.put("/api/v1/webhooks/ours", json={"url": "https://x.example", "kinds": ["run.*"]})
    listed = noria.http.get(HOOKS, params={"max_results": 1}).json()
    assert [w["name"] for w in listed["webhooks"]] == ["two"]
    rest = noria.http.get(HOOKS, params={"page_token": listed["next_page_token"]}).json()
    assert [w["name"] for w in rest["webhooks"]] == ["one"] and "next_page_token" not in rest
    assert [w["format"] for w in noria.http.get("/api/v1/webhooks").json()["items"]] == ["mlflow", "noria", "mlflow"]
    assert "hush" not in noria.http.get(HOOKS).text + noria.http.get("/api/v1/webhooks").text
    other = {"url": one["url"], "kinds": ["run.*"]}
    assert noria.http.put("/api/v1/webhooks/one", json=other).status_code == 400
    read = noria.http.get(f"{HOOKS}/{made['webhook_id']}").json()["webhook"]
    assert read == made and set(read) == {
        "webhook_id", "name", "url", "events", "status", "creation_timestamp", "last_updated_timestamp",
    }  # fmt: skip
    assert "hidden" not in json.dumps([e.data for e in noria.facts()])


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""}, {"url": "ftp://x"}, {"url": "https://a:b@x.example"}, {"events": []}, {"events": "x"}, {"status": "ON"},
        {"events": [event("model_version.deleted")]}, {"events": [event("budget_policy.exceeded")]}, {"secret": "x" * 1001},
        {"events": [{"entity": 99, "action": 1}]}, {"description": "x" * 1001}, {"name": 5},
    ],
)  # fmt: skip
def test_a_webhook_that_makes_no_sense_is_refused(noria: Noria, wrong: dict[str, Any]) -> None:
    body = {"name": "x", "url": "https://x.example", "events": [event("prompt.created")]}
    assert noria.http.post(HOOKS, json={**body, **wrong}).status_code == 400
    made = noria.http.post(HOOKS, json=body).json()["webhook"]
    if wrong not in ({"name": ""}, {"events": []}):  # which leave what there is
        assert noria.http.patch(f"{HOOKS}/{made['webhook_id']}", json=wrong).status_code == 400
    assert noria.http.post(HOOKS, json=body).json()["error_code"] == "RESOURCE_ALREADY_EXISTS"


def test_only_who_may_makes_webhooks_and_not_too_many(noria: Noria) -> None:
    body = {"name": "x", "url": "https://x.example", "events": [event("prompt.created")]}
    bob = noria.as_("bob", "maintainer")
    made = noria.http.post(HOOKS, json=body).json()["webhook"]["webhook_id"]
    for method, path in (("POST", HOOKS), ("GET", HOOKS), ("GET", f"{HOOKS}/{made}"), ("PATCH", f"{HOOKS}/{made}"),
                         ("DELETE", f"{HOOKS}/{made}"), ("POST", f"{HOOKS}/{made}/test")):  # fmt: skip
        how: dict[str, Any] = {} if method == "GET" else {"json": body}
        assert bob.request(method, path, **how).status_code == 403, (method, path)
    for i in range(WEBHOOKS_MAX - 1):
        assert noria.http.post(HOOKS, json={**body, "name": f"x{i}"}).status_code == 200
    assert noria.http.post(HOOKS, json={**body, "name": "more"}).status_code == 429
