"""Facts told to others."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from noria.governance import sending
from noria.kernel import signing
from noria.kernel.clock import SystemClock
from noria.kernel.errors import Invalid, Unavailable
from tests.conftest import Noria

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


class Receiver:
    """A small server that keeps what it gets and answers what it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[tuple[int, bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                status, answer = outer.answers.pop(0) if outer.answers else (200, b"thanks")
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("location", "http://169.254.169.254/")
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?key=1"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.thread.join(5)
    made.server.server_close()


def hook(noria: Noria, url: str, **other: Any) -> Any:
    body = {"url": url, "kinds": ["principal.created"], "allow_private": True, "secret": SECRET} | other
    answer = noria.http.put("/api/v1/webhooks/chat", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def deliveries(noria: Noria) -> list[Any]:
    found: list[Any] = noria.http.get("/api/v1/webhooks/chat/deliveries").json()["items"]
    return found


def test_a_fact_is_sent_once_signed_and_only_if_wanted(noria: Noria, receiver: Receiver) -> None:
    noria.as_("before")
    hook(noria, receiver.url)
    noria.as_("ada", "viewer")
    noria.settle()
    noria.app.pump._cursors.clear()
    noria.settle()
    ((headers, body),) = receiver.got
    fact = json.loads(body)
    assert fact["kind"] == "principal.created" and fact["data"]["name"] == "ada"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(b"k" * 32, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    (sent,) = deliveries(noria)
    assert (sent["state"], sent["status"], sent["answer"], sent["seq"]) == ("delivered", 200, "thanks", fact["seq"])


def test_a_failure_is_tried_again_and_kept(noria: Noria, receiver: Receiver) -> None:
    hook(noria, receiver.url)
    receiver.answers = [(503, b"later"), (200, b"now")]
    noria.as_("ada")
    noria.settle()
    assert deliveries(noria)[0]["error"] == "It answered 503." and deliveries(noria)[0]["state"] == "queued"
    noria.clock.advance(60)
    noria.settle()
    assert deliveries(noria)[0]["state"] == "delivered" and deliveries(noria)[0]["attempts"] == 2


def test_it_gives_up_in_the_end(noria: Noria, receiver: Receiver) -> None:
    hook(noria, receiver.url)
    receiver.answers = [(500, b"")] * 9
    noria.as_("ada")
    for _ in range(8):
        noria.settle()
        noria.clock.advance(600)
    assert deliveries(noria)[0]["state"] == "failed" and len(receiver.got) == 5
    receiver.answers = [(410, b"")]
    noria.as_("bob")
    noria.settle()
    assert deliveries(noria)[0]["state"] == "failed" and len(receiver.got) == 6


def test_a_redirect_is_not_followed_and_an_endless_answer_is_cut(noria: Noria, receiver: Receiver) -> None:
    hook(noria, receiver.url)
    receiver.answers = [(302, b"x" * 1_000_000)]
    noria.as_("ada")
    noria.settle()
    (found,) = deliveries(noria)
    assert found["status"] == 302 and len(found["answer"]) == 500 and len(receiver.got) == 1


def test_a_webhook_that_is_off_or_gone_gets_nothing(noria: Noria, receiver: Receiver) -> None:
    hook(noria, receiver.url)
    noria.as_("ada")
    noria.app.pump.drain()
    assert noria.http.delete("/api/v1/webhooks/chat").status_code == 204
    noria.settle()
    hook(noria, receiver.url, enabled=False)
    noria.as_("bob")
    noria.settle()
    hook(noria, receiver.url)
    noria.settle()
    assert receiver.got == []
    noria.as_("eve")
    noria.app.pump.drain()
    noria.http.delete("/api/v1/webhooks/chat").raise_for_status()
    hook(noria, receiver.url)  # another one of that name does not get what waited for the first
    noria.settle()
    assert receiver.got == [] and deliveries(noria) == []


def test_a_secret_by_name_that_cannot_sign_any_more_fails_its_delivery(noria: Noria, receiver: Receiver) -> None:
    noria.http.put("/api/v1/secrets/KEY", json={"value": SECRET}).raise_for_status()
    hook(noria, receiver.url, secret="secret:KEY")
    noria.http.put("/api/v1/secrets/KEY", json={"value": "whsec_abcde"}).raise_for_status()
    noria.as_("ada")
    noria.settle()
    noria.http.delete("/api/v1/secrets/KEY").raise_for_status()
    noria.as_("bob")
    noria.settle()
    assert {(found["state"], found["error"]) for found in deliveries(noria)} == {
        ("failed", "The secret cannot sign: it is not whsec_ and base64."),
        ("failed", "The workspace has no secret 'KEY'."),
    }


def test_the_secret_is_shown_once_and_never_again(noria: Noria) -> None:
    made = hook(noria, "https://chat.example.com/x?token=hidden", secret="", allow_private=False)
    assert made["secret"].startswith("whsec_")
    again = hook(noria, "https://chat.example.com/y?token=hidden", secret="", allow_private=False)
    texts = [
        json.dumps(again), noria.http.get("/api/v1/webhooks").text, noria.http.get("/api/v1/webhooks/chat").text,
        json.dumps([e.data for e in noria.facts()]),
    ]  # fmt: skip
    assert not any("whsec_" in t for t in texts)
    assert "hidden" not in texts[-1]
    with noria.app.db.read() as tx:
        assert noria.app.webhooks._found(tx, noria.system(), "chat").url.endswith("/y?token=hidden")


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "ftp://x"}, {"url": "file:///etc/passwd"}, {"url": "https://"}, {"url": "https://a:b@c.example"},
        {"url": "https://x.example/ y"}, {"url": "https://x:99999/"}, {"url": "https://x\r\nhost: y"}, {"kinds": []},
        {"kinds": ["no.such"]}, {"kinds": ["job.*"]}, {"secret": "short"}, {"secret": "whsec_!!"}, {"name": "other"},
    ],
)  # fmt: skip
def test_a_webhook_that_makes_no_sense_is_refused(noria: Noria, wrong: dict[str, Any]) -> None:
    body = {"url": "https://chat.example.com", "kinds": ["run.*"]} | wrong
    refused = noria.http.put("/api/v1/webhooks/chat", json=body)
    assert refused.status_code == 400, refused.text


def test_only_who_may_writes_webhooks(noria: Noria) -> None:
    bob = noria.as_("bob", "maintainer")
    assert bob.get("/api/v1/webhooks").status_code == 403
    assert bob.put("/api/v1/webhooks/x", json={"url": "https://x.example", "kinds": ["run.*"]}).status_code == 403


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "224.0.0.1", "255.255.255.255", "::1", "::", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1",
        "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "2001:db8::1", "2002:7f00:1::", "2001::1", "nonsense",
    ],
)  # fmt: skip
def test_where_a_webhook_never_goes(address: str) -> None:
    assert not sending.is_public(address)
    with pytest.raises(Invalid, match="do not go"):
        sending.send(
            "http://inside.example/", b"", {}, allow_private=False, clock=SystemClock(), resolve=lambda _h, _p: [address]
        )


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_spellings_of_loopback_are_all_refused(host: str) -> None:
    with pytest.raises((Invalid, Unavailable)):
        sending.send(f"http://{host}/", b"", {}, allow_private=False, clock=SystemClock())


def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    with pytest.raises(Invalid):
        sending.send(
            "http://x.example/",
            b"",
            {},
            allow_private=False,
            clock=SystemClock(),
            resolve=lambda _h, _p: ["8.8.8.8", "10.0.0.1"],
        )


def test_public_addresses_are_allowed() -> None:
    assert all(sending.is_public(a) for a in ("8.8.8.8", "1.1.1.1", "2606:4700:4700::1111"))


def test_the_signature_of_the_standard() -> None:
    """The example of the Standard Webhooks specification."""
    signature = signing.sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
