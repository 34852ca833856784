"""Checkpoints where the people who run the server cannot change them."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest

from noria.config import Config, load_config
from noria.governance.anchors import parse_anchors, tell
from noria.governance.verify import parse_note
from noria.kernel.clock import ManualClock
from noria.kernel.errors import Invalid
from tests.conftest import Noria


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere.jsonl"


@pytest.fixture
def config(config: Config, file: Path) -> Config:
    return msgspec.structs.replace(config, anchors=(f"file:{file}",))


def make(noria: Noria, name: str) -> None:
    noria.http.post("/api/v1/models", json={"name": name})


def test_a_file_elsewhere_holds_checkpoints_and_is_compared(noria: Noria, clock: ManualClock, file: Path) -> None:
    for name in ("a", "b"):
        make(noria, name)
        noria.app.audit.seal()
        clock.advance(61)
    notes = [parse_note(json.loads(line)["note"]) for line in file.read_text().splitlines()]
    assert [n.size for n in notes] == sorted({n.size for n in notes}) and len(notes) == 2
    report = noria.http.post("/api/v1/audit/verify").json()
    assert report["is_intact"], report


def test_another_history_is_found_by_what_was_said_elsewhere(noria: Noria, clock: ManualClock, file: Path) -> None:
    """Whoever has database, key and blobs writes all of it anew; the file they do not have tells."""
    make(noria, "a")
    noria.app.audit.seal()
    said = file.read_text()
    with noria.app.db.system_write() as tx:
        triggers = (
            [r["name"] for r in tx.rows("select name from sqlite_master where type = 'trigger'")]
            if tx.dialect == "sqlite"
            else []
        )
        for name in triggers:
            tx.run(f"drop trigger {name}")
        if not triggers:
            tx.run("alter table event disable trigger all")
        tx.run("update event set actor = 'user:nobody' where seq = 1")
        for table in ("audit_node", "audit_tree", "checkpoint"):
            tx.run(f"delete from {table}")
    for key in list(noria.app.blobs.keys("audit/checkpoints")):
        noria.app.blobs.delete_at(key)
    noria.app.audit._signed = None
    file.unlink()
    noria.app.audit.seal()
    assert noria.http.post("/api/v1/audit/verify").json()["is_intact"]  # without the file, nobody can tell
    file.write_text(said)
    report = noria.http.post("/api/v1/audit/verify").json()
    assert not report["is_intact"] and any(
        "two histories" in f["message"] or "another" in f["message"] for f in report["faults"]
    ), report


def test_a_damaged_anchor_is_a_fault(noria: Noria, file: Path) -> None:
    make(noria, "a")
    noria.app.audit.seal()
    file.write_text("nonsense\n")
    assert "cannot be read" in noria.http.post("/api/v1/audit/verify").json()["faults"][0]["message"]


def test_syslog_and_an_address_get_the_checkpoint() -> None:
    got: list[str] = []

    class Witness(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Witness)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as syslog:
        syslog.bind(("127.0.0.1", 0))
        syslog.settimeout(10)
        anchors = parse_anchors(
            (f"syslog://127.0.0.1:{syslog.getsockname()[1]}", f"http://127.0.0.1:{server.server_port}/c")
        )
        assert tell(anchors, "noria/x\n1\nroot\n\n— noria/x c2ln\n") == 2
        message = syslog.recv(4_096).decode()
    thread.join(10)
    server.server_close()
    assert message.startswith("<109>1 - ") and json.loads(message[message.index('"') :]).startswith("noria/x\n1\nroot")
    assert got == ["noria/x\n1\nroot\n\n— noria/x c2ln\n"]


def test_one_that_is_away_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    there = tmp_path / "there.jsonl"
    anchors = parse_anchors((f"file:{tmp_path}/no/such/folder/x", "http://127.0.0.1:9/", f"file:{there}"))
    assert tell(anchors, "note") == 1 and there.exists()
    assert caplog.text.count("did not take a checkpoint") == 2


@pytest.mark.parametrize("text", ["ftp://x", "file:relative", "file://host/path", "nonsense", "syslog:", "https://"])
def test_what_is_no_anchor_is_said_at_the_start(text: str) -> None:
    with pytest.raises(Invalid, match="is no anchor"):
        parse_anchors((text,))


def test_the_setting_is_a_list(tmp_path: Path) -> None:
    found = load_config({"NORIA_ANCHORS": "file:/a, https://b.example"}, home=str(tmp_path)).anchors
    assert found == ("file:/a", "https://b.example")
