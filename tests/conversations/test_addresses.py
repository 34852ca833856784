"""Persons told elsewhere of what is in their inbox: chosen, sealed, bounded, retried, and never to where it should not go."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import msgspec
import pytest

from noria.conversations.addresses import ADDRESSES_MAX, WAITING_MAX
from tests.conftest import ManualClock, Noria, load_config

ME = "/api/v1/me/addresses"


class Heard:
    """A service that people are told at, on this machine; `answers` are the next ones it gives, then 200."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.answers: list[int] = []
        heard = self

        class Ear(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = heard.answers.pop(0) if heard.answers else 200
                if status == 200:
                    heard.said.append(msgspec.json.decode(body))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        self.server = HTTPServer(("127.0.0.1", 0), Ear)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.server.server_port}/hear?token=s3cret-of-ben"


@pytest.fixture
def heard() -> Iterator[Heard]:
    made = Heard()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def noria(tmp_path: Any, database_url: str, clock: ManualClock) -> Iterator[Noria]:
    """As everywhere, and persons may give private addresses."""
    made = Noria(load_config({}, home=str(tmp_path / "home"), database=database_url, persons_private=True), clock)
    yield made
    made.close()


@pytest.fixture
def run(noria: Noria) -> str:
    experiment = noria.app.tracking.experiment_by_name(noria.system(), "flights", create=True)
    return f"run:{noria.app.tracking.create_run(noria.system(), experiment.id).id}"


def say(client: httpx.Client, subject: str, body: str) -> dict[str, Any]:
    answer = client.post("/api/v1/comments", json={"subject": subject, "body": body})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()["comment"]
    return made


def states(client: httpx.Client, name: str = "chat") -> list[str]:
    return [m["state"] for m in client.get(f"{ME}/{name}/messages").json()["items"]]


def test_a_mention_goes_where_its_person_says(noria: Noria, run: str, heard: Heard) -> None:
    ada, ben = noria.as_("ada", "viewer", kind="user"), noria.as_("ben", "viewer", kind="user")
    made = ben.put(f"{ME}/chat", json={"url": heard.url, "reasons": ["mention"]})
    assert made.status_code == 200 and "s3cret" not in made.text and made.json()["service"] == "JSON"
    assert "s3cret" not in ben.get(ME).text and ada.get(ME).json()["items"] == [], "one's own are nobody else's"
    with noria.app.db.read() as tx:
        assert str(tx.scalar("select url from person_address")).startswith("noria:sealed:")
        assert "s3cret" not in str(tx.rows("select data from event"))
    assert ben.post(f"{ME}/chat/test").json() == {"delivered": True, "error": ""}
    say(ada, run, "Is this **right**, @ben?")
    noria.settle()
    assert [h["title"].split(" on ")[0] for h in heard.said] == ["A test from Noria", "ada"]
    assert "Is this **right**, @ben?" in heard.said[1]["message"] and heard.said[1]["message"].endswith("/inbox")
    assert states(ben) == ["delivered"]
    say(ben, run, "Yes.")  # ben follows now: what is said next is no mention, and not chosen
    say(ada, run, "Good.")
    noria.settle()
    assert len(heard.said) == 2
    assert ben.get("/api/v1/inbox?unread=true").json()["unread"] == 2, "the inbox has both"
    assert ben.put(f"{ME}/chat", json={"reasons": ["follow"], "enabled": False}).json()["shown"] == made.json()["shown"]
    assert ben.delete(f"{ME}/chat").status_code == 204 and ben.get(f"{ME}/chat/messages").status_code == 404
    assert [e.kind for e in noria.facts("address.saved", "address.deleted")] == ["address.saved"] * 2 + ["address.deleted"]


def test_what_fails_is_tried_again_and_what_was_read_is_not_sent(noria: Noria, run: str, heard: Heard) -> None:
    ada, ben = noria.as_("ada", "viewer", kind="user"), noria.as_("ben", "viewer", kind="user")
    ben.put(f"{ME}/chat", json={"url": heard.url}).raise_for_status()
    heard.answers = [503]
    say(ada, run, "@ben once")
    noria.settle()
    assert states(ben) == ["queued"] and not heard.said
    noria.clock.advance(10)
    noria.settle()
    assert states(ben) == ["delivered"] and len(heard.said) == 1
    heard.answers = [503]
    said = say(ada, run, "@ben twice")
    noria.settle()
    ada.delete(f"/api/v1/comments/{said['id']}").raise_for_status()
    noria.clock.advance(10)
    noria.settle()
    assert states(ben)[0] == "skipped" and len(heard.said) == 1, "what was taken back is not sent"
    heard.answers = [503] * 99
    say(ada, run, "@ben for ever")
    for _ in range(10):
        noria.settle()
        noria.clock.advance(100)
    assert states(ben)[0] == "failed", "it is given up in the end"


def test_addresses_are_bounded_and_checked(noria: Noria, run: str, heard: Heard) -> None:
    ben, robot = noria.as_("ben", "viewer", kind="user"), noria.as_("robot", "viewer")
    for body, where in (
        ({"url": "file:///etc/passwd"}, "url"), ({"url": "dbus://"}, "url"), ({"url": "json://" + "x" * 3000}, "url"),
        ({}, "url"), ({"url": heard.url, "reasons": []}, "reasons"),
    ):  # fmt: skip
        answer = ben.put(f"{ME}/chat", json=body)
        assert answer.status_code == 400 and answer.json()["error"]["where"] == where, answer.text
    assert robot.put(f"{ME}/chat", json={"url": heard.url}).status_code == 403
    assert noria.client("").get(ME).status_code == 401
    ben.put(f"{ME}/chat", json={"url": heard.url}).raise_for_status()
    with noria.app.db.system_write() as tx:
        who = tx.scalar("select id from person_address")
        for i in range(WAITING_MAX):
            tx.run(
                "insert into person_message (id, address_id, notification_id, state, attempts, error, created_at_ms) "
                "values (:id, :who, :id, 'queued', 0, '', 1)",
                id=f"{i:032x}", who=who,
            )  # fmt: skip
    say(noria.as_("ada", "viewer", kind="user"), run, "@ben one too many")
    noria.settle()
    assert states(ben)[0] == "dropped" and not heard.said
    for i in range(ADDRESSES_MAX - 1):
        assert ben.put(f"{ME}/more-{i}", json={"url": heard.url}).status_code == 200
    assert ben.put(f"{ME}/last", json={"url": heard.url}).status_code == 429


def test_an_address_on_this_machine_is_refused_unless_allowed(
    tmp_path: Any, database_url: str, clock: ManualClock, heard: Heard
) -> None:
    strict = Noria(load_config({}, home=str(tmp_path / "home"), database=database_url), clock)
    try:
        ben = strict.as_("ben", "viewer", kind="user")
        ben.put(f"{ME}/chat", json={"url": heard.url}).raise_for_status()
        told = ben.post(f"{ME}/chat/test").json()
        assert not told["delivered"] and "127.0.0.1" in told["error"] and not heard.said
    finally:
        strict.close()
