"""Webhooks through the unmodified client, to a receiver that checks with MLflow's own code."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.governance.test_webhooks import Receiver
from tests.protocol.test_mlflow_tracking import Server

mlflow = pytest.importorskip("mlflow")
pytestmark = [pytest.mark.protocol, pytest.mark.filterwarnings("ignore")]
WAIT_S = 20.0


@pytest.fixture
def server(tmp_path: Any) -> Iterator[Server]:
    made = Server(tmp_path / "home")
    yield made
    made.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.thread.join(5)
    made.server.server_close()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(server.url)
    mlflow.set_registry_uri(server.url)
    return mlflow.MlflowClient()


def arrived(receiver: Receiver, count: int) -> list[Any]:
    until = time.monotonic() + WAIT_S
    while len(receiver.got) < count:
        assert time.monotonic() < until, f"{len(receiver.got)} of {count} messages came"
        time.sleep(0.05)
    return [json.loads(body) for _, body in receiver.got]


def test_a_webhook_from_beginning_to_end(client: Any, server: Server, receiver: Receiver) -> None:
    from mlflow.webhooks.delivery import _generate_hmac_signature

    made = client.create_webhook("ci", receiver.url, ["registered_model.created", "prompt_version.created"], secret="s3cret")
    assert (made.name, made.status.value) == ("ci", "ACTIVE") and [str(e) for e in made.events] == [
        "registered_model.created", "prompt_version.created",
    ]  # fmt: skip
    refused = client.test_webhook(made.webhook_id)
    assert not refused.success and "do not go" in refused.error_message
    ours = httpx.get(f"{server.url}/api/v1/webhooks/ci").json()
    allowed = {"url": receiver.url, "kinds": ours["kinds"], "allow_private": True}
    httpx.put(f"{server.url}/api/v1/webhooks/ci", json=allowed).raise_for_status()
    tried = client.test_webhook(made.webhook_id, "prompt_version.created")
    assert (tried.success, tried.response_status, tried.response_body) == (True, 200, "thanks")
    receiver.got.clear()
    client.create_registered_model("flights", tags={"team": "a"}, description="about")
    mlflow.genai.register_prompt("greet", "Hello {{name}}!")
    model, prompt = arrived(receiver, 2)
    assert model["data"] == {"name": "flights", "tags": {"team": "a"}, "description": "about"}
    assert (prompt["entity"], prompt["data"]["template"], prompt["data"]["version"]) == (
        "prompt_version",
        "Hello {{name}}!",
        "1",
    )
    for headers, body in receiver.got:
        wanted = _generate_hmac_signature(
            "s3cret", headers["x-mlflow-delivery-id"], headers["x-mlflow-timestamp"], body.decode()
        )
        assert headers["x-mlflow-signature"] == wanted
    client.update_webhook(made.webhook_id, description="why", status="DISABLED", events=["model_version_alias.created"])
    found = client.get_webhook(made.webhook_id)
    assert (found.description, found.status.value, [str(e) for e in found.events]) == (
        "why", "DISABLED", ["model_version_alias.created"],
    )  # fmt: skip
    assert [w.webhook_id for w in client.list_webhooks()] == [made.webhook_id]
    client.delete_webhook(made.webhook_id)
    assert list(client.list_webhooks()) == []
    with pytest.raises(mlflow.MlflowException) as error:
        client.get_webhook(made.webhook_id)
    assert error.value.error_code == "RESOURCE_DOES_NOT_EXIST"
