"""People told of alerts: through real Apprise, to a real mail server and real HTTP receivers on this machine."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from noria.cli.main import main
from noria.client.api import Api
from noria.governance import channels
from noria.governance.channel_model import Channel, Message, message_of, wants
from noria.governance.notify import SERVICES
from noria.kernel.events import Event
from noria.kernel.ids import Ref
from noria.kernel.jobs import ATTEMPTS_MAX
from tests.conftest import Noria
from tests.governance.test_webhooks import Receiver

SQLITE = pytest.mark.parametrize(
    "database_url", ["sqlite"], indirect=True
)  # where the database does not matter: a message takes a second


class Mail(socketserver.StreamRequestHandler):
    """As much of SMTP as a client needs to hand a message over."""

    def handle(self) -> None:
        self.wfile.write(b"220 test\r\n")
        while line := self.rfile.readline():
            word = line[:4].upper().strip()
            if word == b"DATA":
                self.wfile.write(b"354 go\r\n")
                text = b""
                while (got := self.rfile.readline()) not in (b".\r\n", b""):
                    text += got
                self.server.got.append(text.decode())  # type: ignore[attr-defined]
            if word == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(b"250 fine\r\n")


@pytest.fixture
def mail() -> Iterator[Any]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail) as server:
        server.got = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(5)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.thread.join(5)
    made.server.server_close()


def save(noria: Noria, name: str, url: str = "", **fields: Any) -> Any:
    body = {"url": url, "allow_private": True, **fields}
    answer = noria.http.put(f"/api/v1/channels/{name}", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def opened(noria: Noria, monitor: str = "calibration", severity: str = "alert") -> None:
    with noria.app.db.write(noria.system()) as tx:
        tx.emit(
            "alert.opened", Ref("monitor", monitor), alert="a1", monitor=monitor, metric="brier", value=0.25, limit=0.2,
            endpoint="flights", severity=severity, event_at_ms=5, owner="ada", why="brier is 0.25, above the limit 0.2.",
        )  # fmt: skip


def at(server: Any, scheme: str, path: str = "") -> str:
    return f"{scheme}://127.0.0.1:{server.server_address[1]}{path}"


def sent(noria: Noria, name: str) -> list[Any]:
    found: list[Any] = noria.http.get(f"/api/v1/channels/{name}/deliveries").json()["items"]
    return found


def test_an_alert_reaches_mail_and_chat(noria: Noria, mail: Any, receiver: Receiver) -> None:
    made = save(noria, "mail", at(mail, "mailto", "?from=noria@example.org&to=ada@example.org&smtp=127.0.0.1&mode=insecure"))
    assert (made["service"], "ada" in json.dumps(noria.http.get("/api/v1/channels").json())) == ("Email", True) or made[
        "service"
    ]
    save(noria, "chat", at(receiver.server, "json", "/hook"))
    opened(noria)
    noria.settle()
    assert [d["state"] for name in ("mail", "chat") for d in sent(noria, name)] == ["delivered", "delivered"], sent(
        noria, "mail"
    )
    assert "calibration: brier of flights is 0.25, limit 0.2" in mail.got[0].replace("=\r\n", "")
    told = json.loads(receiver.got[0][1])
    assert told["title"] == "calibration: brier of flights is 0.25, limit 0.2"
    assert "brier is 0.25, above the limit 0.2." in told["message"]
    assert "Owner: ada" in told["message"]
    assert told["type"] == "failure"


@SQLITE
def test_the_address_is_never_shown_again(noria: Noria, receiver: Receiver) -> None:
    made = save(noria, "chat", at(receiver.server, "json", "/hook").replace("//", "//user:hunter2@"))
    assert "hunter2" not in json.dumps(made)
    save(noria, "chat", min_severity="alert")  # without an address the one that is there stays
    told = noria.http.post("/api/v1/channels/chat/test", timeout=60).json()
    assert told["delivered"], told
    assert receiver.got[0][0]["authorization"].startswith("Basic ")
    for path in ("/api/v1/channels", "/api/v1/channels/chat", "/api/v1/events?limit=100"):
        assert "hunter2" not in noria.http.get(path).text
    with noria.app.db.read() as tx:
        assert "hunter2" not in str(tx.rows("select * from channel"))
    assert noria.http.post("/api/v1/secrets/rotate-key").json() == {"rewrapped": 1}
    assert noria.http.post("/api/v1/channels/chat/test", timeout=60).json()["delivered"]


@SQLITE
def test_what_waited_for_a_channel_does_not_go_to_another_of_its_name(noria: Noria, receiver: Receiver) -> None:
    save(noria, "chat", at(receiver.server, "json", "/hook"))
    opened(noria)
    noria.app.pump.drain()
    noria.http.delete("/api/v1/channels/chat").raise_for_status()
    save(noria, "chat", at(receiver.server, "json", "/other"))
    noria.settle()
    assert receiver.got == [] and sent(noria, "chat") == []


@SQLITE
def test_what_fails_is_tried_again_and_then_given_up(noria: Noria, receiver: Receiver) -> None:
    save(noria, "chat", at(receiver.server, "json", "/hook"))
    receiver.answers = [(500, b"no")] * ATTEMPTS_MAX
    opened(noria)
    noria.settle()
    assert (sent(noria, "chat")[0]["state"], sent(noria, "chat")[0]["attempts"]) == ("queued", 1)
    for _ in range(ATTEMPTS_MAX):
        noria.clock.advance(120)
        noria.settle()
    (last,) = sent(noria, "chat")
    assert (last["state"], last["attempts"]) == ("failed", ATTEMPTS_MAX)
    assert "500" in last["error"]


def test_what_waits_has_a_cap_and_the_gap_is_seen(noria: Noria, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "WAITING_MAX", 2)
    save(noria, "chat", at(receiver.server, "json", "/hook"))
    for i in range(4):
        opened(noria, f"m{i}")
    noria.app.pump.drain()
    assert sorted(d["state"] for d in sent(noria, "chat")) == ["dropped", "dropped", "queued", "queued"]
    noria.settle()
    assert sorted(d["state"] for d in sent(noria, "chat")) == ["delivered", "delivered", "dropped", "dropped"]


@pytest.mark.parametrize("url", [
    "json://localhost:1/x", "json://2130706433/x", "jsons://[::ffff:127.0.0.1]/x",
    "mailto://10.0.0.1?from=a@example.org&to=b@example.org&smtp=10.0.0.1&mode=insecure",
])  # fmt: skip
def test_private_addresses_are_refused(url: str) -> None:
    """The list of addresses is that of webhooks, and tested there."""
    told = channels.say(url, Message(title="t", body="b"), allow_private=False)
    assert not told.ok
    assert told.refused
    assert "where channels do not go" in told.error or "not one of" in told.error, told


@SQLITE
def test_a_redirect_inside_is_not_followed(noria: Noria, receiver: Receiver) -> None:
    receiver.answers = [(302, b"")]
    save(noria, "chat", at(receiver.server, "json", "/hook"), allow_private=True)
    assert not noria.http.post("/api/v1/channels/chat/test", timeout=60).json()["delivered"]


@SQLITE
@pytest.mark.parametrize(
    "url", ["syslog://", "dbus://", "file:///etc/passwd", "macosx://", "exec://id", "windows://", "nonsense", "slack://"]
)
def test_what_is_no_service_for_people_is_refused(noria: Noria, url: str) -> None:
    answer = noria.http.put("/api/v1/channels/odd", json={"url": url}, timeout=60)
    assert answer.status_code == 400, answer.text


def test_no_file_is_read_for_a_message(receiver: Receiver) -> None:
    url = at(receiver.server, "workflow", "/workflow/signature?template=/etc/passwd")
    told = channels.say(url, Message(title="t", body="b"), allow_private=True)
    assert (told.ok, told.refused, told.error) == (False, True, "A channel reads and writes no files.")
    assert receiver.got == []


@SQLITE
def test_who_may_and_what_means_nothing(noria: Noria) -> None:
    assert noria.as_("vic", "viewer").put("/api/v1/channels/x", json={"url": "json://example.org"}).status_code == 403
    assert noria.http.put("/api/v1/channels/x", json={}).status_code == 400
    for kinds in ([], ["alert.oponed"], ["webhook.*"], ["alert.opened", "job.*"], ["channel.saved"]):
        refused = noria.http.put("/api/v1/channels/x", json={"url": "json://example.org", "kinds": kinds})
        assert refused.status_code == 400 and refused.json()["error"]["where"] == "kinds", refused.text
    assert noria.http.post("/api/v1/channels/none/test").status_code == 404
    assert noria.http.delete("/api/v1/channels/none").status_code == 404
    assert "mailtos" in SERVICES


def test_which_facts_a_channel_wants() -> None:
    def event(kind: str = "alert.opened", **data: Any) -> Event:
        given = {"alert": "a", "monitor": "flights-drift", "endpoint": "flights", "severity": "warn", **data}
        return Event(
            seq=1,
            at_ms=1,
            kind=kind,
            subject="monitor:flights-drift",
            actor="x",
            op_id="o",
            cause=None,
            workspace="w",
            data=given,
        )

    def channel(**fields: Any) -> Channel:
        base = {
            "name": "c", "service": "s", "shown": "", "kinds": ["alert.*"], "min_severity": "warn", "monitors": [], "endpoints": [],
            "enabled": True, "allow_private": False, "description": "", "created_at_ms": 1, "updated_at_ms": 1, "from_seq": 0,
        }  # fmt: skip
        return Channel(**{**base, **fields})  # type: ignore[arg-type]

    assert wants(channel(), event())
    assert not wants(channel(min_severity="alert"), event())
    assert wants(channel(min_severity="alert"), event(severity="alert"))
    assert wants(channel(monitors=["flights-*"], endpoints=["flights"]), event())
    assert not wants(channel(monitors=["other"]), event())
    assert not wants(channel(endpoints=["other"]), event())
    assert not wants(channel(kinds=["*"]), event(kind="job.failed"))
    assert not wants(channel(), event(kind="run.finished"))
    other = message_of(event(kind="canary.rolled_back", reason="worse"), url="http://n")
    assert (other.title, "reason: worse" in other.body) == ("canary.rolled_back: monitor:flights-drift", True)


class KeptOpen(Api):
    def close(self) -> None:
        return


@SQLITE
def test_on_the_command_line(noria: Noria, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noria.client.api.connect", lambda: KeptOpen(noria.client(), url=noria.config.control_url))

    def run(*args: str, code: int = 0, given: str = "") -> str:
        found = CliRunner().invoke(main, ["channel", *args], input=given)
        assert found.exit_code == code, found.output
        return found.output

    run("set", "chat", "-", "--severity", "alert", "--allow-private", given=at(receiver.server, "json", "/hook"))
    assert "Delivered" in run("test", "chat")
    assert "chat" in run("list")
    receiver.answers = [(500, b"no")]
    assert "did not take it" in run("test", "chat", code=10)
    opened(noria)
    noria.settle()
    assert "delivered" in run("deliveries", "chat")
    run("delete", "chat", "--yes")
    assert "There is no channel" in run("test", "chat", code=6)
