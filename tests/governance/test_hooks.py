"""Somebody else's system decides last: a signed question with a deadline; without a clear yes in time, no."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from noria.kernel import signing
from noria.kernel.clock import ManualClock
from noria.registry.model import ModelVersion
from tests.conftest import Noria

ALIAS = "/api/v1/models/flights/aliases/champion"


class Opa:
    """A policy system: answers what it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, str], bytes]] = []
        self.status, self.body, self.wait_s = 200, b'{"allowed": true}', 0.0
        opa = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                opa.asked.append(({k.lower(): v for k, v in self.headers.items()}, body))
                time.sleep(opa.wait_s)
                self.send_response(opa.status)
                self.end_headers()
                self.wfile.write(opa.body)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/decide"


@pytest.fixture
def opa() -> Iterator[Opa]:
    made = Opa()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def guarded(noria: Noria, opa: Opa, given_version: Callable[..., ModelVersion]) -> str:
    """Two versions; promotions are decided by the hook. Returns the hook's secret."""
    given_version()
    given_version()
    body = {"url": opa.url, "kinds": ["policy.judged"], "allow_private": True, "enabled": False}
    secret = noria.http.put("/api/v1/webhooks/opa", json=body).json()["secret"]
    rule = {"action": "model.promote", "conditions": [{"type": "hook", "webhook": "opa"}]}
    assert noria.http.put("/api/v1/policies/ours", json=rule).status_code == 200
    return str(secret)


def promote(noria: Noria, version: int = 1) -> Any:
    """Asked, told to try again, and tried again when the job is done, as a client does."""
    first = noria.http.put(ALIAS, json={"version": version})
    if first.status_code != 503:
        return first
    assert first.headers["retry-after"] == "1", first.text
    noria.app.jobs.run_due()
    return noria.http.put(ALIAS, json={"version": version})


def test_a_yes_opens_for_exactly_what_was_asked(noria: Noria, opa: Opa, guarded: str, clock: ManualClock) -> None:
    assert promote(noria).status_code == 200
    (headers, body) = opa.asked[0]
    asked = json.loads(body)
    assert (asked["action"], asked["policy"], asked["evidence"]["version"]) == ("model.promote", "ours", 1)
    expected = signing.sign(guarded, headers["webhook-id"], int(headers["webhook-timestamp"]), body)
    assert headers["webhook-signature"] == expected
    opa.body = b'{"allowed": false, "reason": "not on a Friday"}'
    refused = promote(noria, 2)  # another version is another question
    assert refused.status_code == 403 and "opa says no: not on a Friday" in refused.text
    assert len(opa.asked) == 2
    (yes, no) = [f.data["allowed"] for f in noria.facts("policy.judged") if f.data["verdicts"][0]["reason"][-5:] != "asked"][
        -2:
    ]
    assert (yes, no) == (True, False)
    clock.advance(11)
    opa.body = b'{"allowed": true}'
    assert promote(noria, 2).status_code == 200  # a no is asked again, after a while


@pytest.mark.parametrize("how", ["down", "500", "nonsense", "truthy", "slow", "gone"])
def test_without_a_clear_yes_in_time_it_is_no(
    noria: Noria, opa: Opa, guarded: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "down":
        opa.server.shutdown()
        opa.server.server_close()
    elif how == "gone":
        assert noria.http.delete("/api/v1/webhooks/opa").status_code == 204
    elif how == "slow":
        monkeypatch.setattr("noria.governance.hooks.DEADLINE_S", 0.2)
        opa.wait_s = 1.0
    else:
        opa.status = 500 if how == "500" else 200
        opa.body = b'{"allowed": "yes"}' if how == "truthy" else b"<html>ok</html>"
    refused = promote(noria)
    assert refused.status_code == 403 and "counts as no" in refused.text, refused.text
    assert noria.http.get("/api/v1/models/flights").json()["model"]["aliases"] == []
    if how == "down":
        return
    opa.wait_s, opa.status, opa.body = 0.0, 200, b'{"allowed": true}'


def test_it_is_asked_last_and_never_while_the_rest_refuses(noria: Noria, opa: Opa, guarded: str) -> None:
    rule = {"action": "model.promote", "conditions": [{"type": "min_approvals"}, {"type": "hook", "webhook": "opa"}]}
    noria.http.put("/api/v1/policies/ours", json=rule)
    assert promote(noria).status_code == 403
    noria.app.jobs.run_due()
    assert opa.asked == []
    warn = {"action": "model.promote", "conditions": [{"type": "hook", "webhook": "opa"}], "mode": "warn"}
    noria.http.put("/api/v1/policies/ours", json=warn)
    assert noria.http.put(ALIAS, json={"version": 1}).status_code == 200  # what only warns is not waited for


def test_a_question_whose_job_died_is_asked_again(noria: Noria, opa: Opa, guarded: str, clock: ManualClock) -> None:
    assert noria.http.put(ALIAS, json={"version": 1}).status_code == 503
    with noria.app.db.system_write() as tx:
        tx.run("delete from job where kind = 'policy.ask'")
    assert noria.http.put(ALIAS, json={"version": 1}).status_code == 503
    noria.app.jobs.run_due()
    assert opa.asked == []
    clock.advance(16)
    assert promote(noria).status_code == 200
