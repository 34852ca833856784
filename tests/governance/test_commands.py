"""`noria audit`, `noria approval`, `noria backup`, `noria doctor`."""

from __future__ import annotations

import io
import json
import socket
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from noria.app import build
from noria.cli import archive
from noria.cli.doctor import examine
from noria.cli.main import main
from noria.client.api import Api
from noria.config import Config, load_config
from noria.kernel.errors import AlreadyExists, Invalid
from noria.kernel.ids import Ref
from noria.registry.model import ModelVersion
from tests.conftest import Noria

Cli = Callable[..., Result]


class KeptOpen(Api):
    """A command closes its connection at its end; here the next command uses it again."""

    def close(self) -> None:
        return


@pytest.fixture
def cli(noria: Noria, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setattr("noria.client.api.connect", lambda: KeptOpen(noria.client(), url=noria.config.control_url))
    return lambda *args: CliRunner().invoke(main, [str(a) for a in args])


# --- audit ------------------------------------------------------------------------------------------------------------


def test_export_and_verify(noria: Noria, cli: Cli, tmp_path: Path) -> None:
    noria.as_("ada", "viewer")
    noria.settle()
    folder = tmp_path / "export"
    exported = cli("audit", "export", folder)
    assert exported.exit_code == 0 and "3 facts" in exported.output, exported.output
    assert {p.name for p in folder.iterdir()} == {
        "events.jsonl", "hashes.txt", "checkpoints.jsonl", "personal.jsonl", "checkpoint.txt", "audit.pub", "verify.py",
        "README.txt",
    }  # fmt: skip
    assert cli("audit", "export", tmp_path / "without", "--without-personal").exit_code == 0
    assert not (tmp_path / "without" / "personal.jsonl").exists()
    good = cli("audit", "verify", "--offline", folder)
    assert good.exit_code == 0 and "INTACT  3 facts" in good.output, good.output
    assert cli("audit", "verify").exit_code == 0
    events = folder / "events.jsonl"
    events.write_bytes(events.read_bytes().replace(b'"viewer', b'"admin', 1).replace(b"viewer", b"admin", 1))
    bad = cli("audit", "verify", "--offline", events, folder / "checkpoint.txt", "--pub", folder / "audit.pub")
    assert bad.exit_code == 1 and "Fact 2 was edited" in bad.output, bad.output
    found = json.loads(cli("audit", "verify", "--offline", folder, "--json").stdout)
    assert found["faults"][0]["at"] == 1 and not found["is_intact"]
    assert cli("audit", "export", folder).exit_code == 3, "not into a folder that is not empty"
    assert cli("audit", "verify", "--offline").exit_code == 2


def test_the_log_is_shown(noria: Noria, cli: Cli) -> None:
    noria.as_("ada", "viewer")
    shown = cli("audit", "log", "--kind", "principal.*", "--since", "2020-01-01", "--limit", "5")
    assert "principal.created" in shown.output and "grant.added" not in shown.output
    # Newest first; the newest is that somebody looked into the log a moment ago.
    assert [e["kind"] for e in json.loads(cli("audit", "log", "--json").output)[:2]] == ["audit.read", "token.created"]
    assert cli("audit", "log", "--since", "yesterday").exit_code == 2
    noria.settle()
    assert "sealed" in cli("audit", "status").output


# --- approvals --------------------------------------------------------------------------------------------------------


def test_asking_and_answering(noria: Noria, cli: Cli, tmp_path: Path) -> None:
    asked = noria.app.approvals.request(noria.app.ops.system("loops"), Ref("model_version", "1"), "model.promote", "d" * 64)
    assert asked.id in cli("approval", "list", "--state", "pending").output
    answered = cli("approval", "approve", asked.id, "--comment", "good")
    assert answered.output == "Granted: model.promote of model_version:1 (1 of 1 approved).\n", answered.output
    assert "good" in cli("approval", "show", asked.id).output
    evidence = tmp_path / "evidence.json"
    evidence.write_text('{"auc": 0.9}')
    own = json.loads(cli("approval", "request", "model_version:2", "e" * 64, "--evidence", evidence, "--json").output)
    refused = cli("approval", "approve", own["id"])
    assert refused.exit_code == 5 and "somebody else" in refused.output
    assert "Withdrawn" in cli("approval", "withdraw", own["id"]).output


def test_a_version_is_asked_for_by_its_handle(noria: Noria, cli: Cli, given_version: Callable[..., ModelVersion]) -> None:
    """Who is refused is told the command that asks; it takes what people see, not ids and digests."""
    version = given_version()
    rule = {"action": "endpoint.deploy", "conditions": [{"type": "min_approvals", "count": 1}]}
    noria.http.put("/api/v1/policies/four-eyes", json=rule).raise_for_status()
    handle = f"{version.model}@{version.number}"
    refused = cli("endpoint", "deploy", handle, "--name", "e")
    assert f"noria approval request {handle} --action endpoint.deploy" in refused.output
    asked = json.loads(cli("approval", "request", handle, "--action", "endpoint.deploy", "--json").output)
    assert (asked["subject"], asked["digest"]) == (f"model_version:{version.id}", version.digest)
    assert cli("approval", "request", "model_version:2").exit_code == 3


# --- backup -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Config:
    """A home with facts, a blob and a sealed log."""
    config = load_config({}, home=str(tmp_path / "home"))
    app = build(config)
    op = app.ops.system("test")
    app.blobs.put(b"a model")
    app.approvals.request(op, Ref("model_version", "1"), "model.promote", "d" * 64)
    app.audit.seal()
    app.db.close()
    return config


def run(*args: Any) -> Result:
    return CliRunner().invoke(main, [str(a) for a in args])


@pytest.mark.parametrize("name", ["all.tar", "all.tar.gz"])
def test_a_backup_is_restored_whole(home: Config, tmp_path: Path, name: str) -> None:
    made = run("backup", "create", tmp_path / name, "--home", home.home)
    assert made.exit_code == 0 and "1 facts" in made.output, made.output
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    drilled = run("backup", "verify", tmp_path / name)
    assert drilled.exit_code == 0 and drilled.output.startswith("Restorable"), drilled.output
    other = tmp_path / "other"
    assert run("backup", "restore", tmp_path / name, "--home", other).exit_code == 0
    assert (other / "keys/audit.key").stat().st_mode & 0o777 == 0o600
    app = build(load_config({}, home=str(other)))
    assert app.approvals.approvals(app.ops.system("test")).items[0].subject == "model_version:1"
    assert [app.blobs.get(b.digest) for b in app.blobs.list()] == [b"a model"]
    app.approvals.request(app.ops.system("test"), Ref("model_version", "2"), "model.promote", "d" * 64)
    sealed = app.audit.seal()
    assert sealed is not None and sealed.size == 2, "the restored home goes on where the old one was"
    app.db.close()


def test_a_backup_taken_while_the_server_goes_on_can_be_sealed_further(home: Config, tmp_path: Path) -> None:
    """The copy of the rows comes first; checkpoints signed after it are left out."""
    copy = archive.copy_database

    def copy_and_go_on(source: Path, target: Path) -> None:
        copy(source, target)
        app = build(home)
        app.approvals.request(app.ops.system("test"), Ref("model_version", "9"), "model.promote", "d" * 64)
        app.audit.seal()
        app.db.close()

    patched = pytest.MonkeyPatch()
    patched.setattr(archive, "copy_database", copy_and_go_on)
    archive.create(home, tmp_path / "all.tar")
    patched.undo()
    archive.restore(tmp_path / "all.tar", tmp_path / "other")
    app = build(load_config({}, home=str(tmp_path / "other")))
    app.approvals.request(app.ops.system("test"), Ref("model_version", "3"), "model.promote", "d" * 64)
    assert app.audit.seal() is not None
    assert app.audit.verify(app.ops.system("test")).is_intact
    app.db.close()


def test_a_restore_wants_an_empty_place(home: Config, tmp_path: Path) -> None:
    archive.create(home, tmp_path / "all.tar")
    with pytest.raises(AlreadyExists):
        archive.create(home, tmp_path / "all.tar")
    with pytest.raises(AlreadyExists):
        archive.restore(tmp_path / "all.tar", home.home)
    (tmp_path / "empty").mkdir()
    archive.restore(tmp_path / "all.tar", tmp_path / "empty")


def test_damage_is_named(home: Config, tmp_path: Path) -> None:
    source = tmp_path / "all.tar"
    archive.create(home, source)
    whole = source.read_bytes()
    at = whole.index(b"a model")
    damaged = tmp_path / "damaged.tar"
    damaged.write_bytes(whole[:at] + b"A" + whole[at + 1 :])
    with pytest.raises(Invalid, match="was changed"):
        archive.check(damaged)
    with pytest.raises(Invalid):
        archive.restore(damaged, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    for size in (len(whole) // 3, 100, 0):
        damaged.write_bytes(whole[:size])
        with pytest.raises(Invalid):
            archive.check(damaged)
    assert not list(tmp_path.glob(".other-*")), "nothing is left behind"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("../evil", tarfile.REGTYPE), ("/etc/evil", tarfile.REGTYPE), ("keys/../../evil", tarfile.REGTYPE),
     ("keys/link", tarfile.SYMTYPE), ("keys/hard", tarfile.LNKTYPE), ("blobs/dev", tarfile.CHRTYPE), ("evil", tarfile.REGTYPE)],
)  # fmt: skip
def test_hostile_members_are_refused(tmp_path: Path, name: str, kind: bytes) -> None:
    source = tmp_path / "evil.tar"
    with tarfile.open(source, "w") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info, io.BytesIO(b""))
    with pytest.raises(Invalid, match="which no backup has"):
        archive.restore(source, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_database_elsewhere_is_said_so(home: Config, tmp_path: Path) -> None:
    elsewhere = load_config({}, home=str(home.home), database="postgresql://nowhere/noria")
    with pytest.raises(Invalid, match="not SQLite"):
        archive.create(elsewhere, tmp_path / "all.tar")
    assert archive.create(elsewhere, tmp_path / "all.tar", with_database=False)["database"] == {}


def test_keys_are_saved_where_rows_and_bytes_live_elsewhere(
    home: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NORIA_BLOBS", "s3://elsewhere/noria")
    monkeypatch.setenv("NORIA_DATABASE", "postgresql://noria@elsewhere/noria")
    refused = run("backup", "create", tmp_path / "a.tar", "--home", home.home, "--without-database")
    assert refused.exit_code == 3 and "--without-blobs" in refused.output, refused.output
    both = ("--without-database", "--without-blobs")
    assert run("backup", "create", tmp_path / "keys.tar", "--home", home.home, *both).exit_code == 0
    drilled = run("backup", "verify", tmp_path / "keys.tar")
    assert drilled.exit_code == 0 and "no database, no blobs" in drilled.output, drilled.output
    other = tmp_path / "other"
    assert run("backup", "restore", tmp_path / "keys.tar", "--home", other).exit_code == 0
    assert (other / "keys/audit.key").read_bytes() == (home.home / "keys/audit.key").read_bytes()
    assert not (other / "noria.db").exists() and not (other / "blobs").exists()


# --- doctor -----------------------------------------------------------------------------------------------------------


def states(config: Config) -> dict[str, str]:
    return {c.name: c.state for c in examine(config)}


def free_ports(home: Config) -> Config:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        ports = one.getsockname()[1], two.getsockname()[1]
    return load_config({}, home=str(home.home), port=ports[0], gateway_port=ports[1])


def test_a_healthy_home(home: Config) -> None:
    found = states(free_ports(home))
    assert set(found.values()) == {"ok"}, found
    assert list(found) == [
        "noria",
        "home",
        "disk",
        "keys",
        "port",
        "gateway port",
        "grpc port",
        "database",
        "blobs",
        "clock",
        "audit",
    ]


def test_an_empty_place_is_no_failure(tmp_path: Path) -> None:
    found = states(free_ports(load_config({}, home=str(tmp_path / "none"))))
    assert found["home"] == "warn" and "fail" not in found.values()
    assert not (tmp_path / "none").exists(), "the doctor changes nothing"


def test_what_is_wrong_is_said(home: Config) -> None:
    config = free_ports(home)
    (home.home / "keys/audit.key").chmod(0o644)
    with sqlite3.connect(home.home / "noria.db") as db:
        db.execute("drop trigger event_no_update")
        db.execute("update event set actor = 'user:eve'")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", config.port))
        taken.listen()
        found = {c.name: c for c in examine(config)}
    assert {n for n, c in found.items() if c.state == "fail"} == {"keys", "port", "audit"}
    assert "Fact 1 was edited" in found["audit"].message and "chmod 600" in found["keys"].hint


def test_another_schema_is_said_and_left_alone(home: Config) -> None:
    config = free_ports(home)
    with sqlite3.connect(home.home / "noria.db") as db:
        db.execute("update alembic_version set version_num = '9999'")
    found = {c.name: c for c in examine(config)}
    assert found["database"].state == "fail" and "newer" in found["database"].message and "audit" not in found
    (home.home / "noria.db").write_bytes(b"nonsense" * 1000)
    assert states(config)["database"] == "fail"


def test_the_command_exits_with_1_on_a_failure(home: Config) -> None:
    (home.home / "keys/audit.key").chmod(0o644)
    done = run("doctor", "--home", home.home)
    assert done.exit_code == 1 and "✗ keys" in done.output
    assert any(c["state"] == "fail" for c in json.loads(run("doctor", "--home", home.home, "--json").output))
