"""Secrets are written and never read back by anybody; what is kept of them is sealed, and moves to new keys (attacks A13, A24)."""

from __future__ import annotations

import base64
import itertools
import json
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from noria.access.vault import Vault
from noria.cli.main import main
from noria.http.asgi import route_table
from noria.kernel.envelope import CommandKeys, FileKeys, open_keys, rewrap, seal, unseal
from noria.kernel.errors import Forbidden, Invalid, NotFound, Unavailable
from noria.kernel.ids import Ref
from noria.kernel.op import Actor
from noria.kernel.redaction import Redactor, Stream
from tests.conftest import Noria
from tests.registry.test_cli import KeptOpen

CANARY = "canary-6f1d-never-to-be-seen"


def fill(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "DB_PASSWORD", path)


def everything_kept(noria: Noria) -> str:
    """Every row of every table, as text."""
    import sqlalchemy as sa

    with noria.app.db.read() as tx:
        tables = sa.inspect(noria.app.db.engine).get_table_names()
        return json.dumps([tx.rows(f'select * from "{t}"') for t in tables], default=str)


def test_a_secret_is_never_read_back_by_anybody(noria: Noria, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    root = noria.as_("root", "admin", kind="user")
    root.put("/api/v1/projects/churn", json={}).raise_for_status()
    for project in ("", "churn"):
        made = root.put("/api/v1/secrets/DB_PASSWORD", params={"project": project}, json={"value": CANARY})
        assert made.status_code == 200 and CANARY not in made.text
    wrong = root.put("/api/v1/secrets/DB_PASSWORD", json={"value": CANARY, "colour": CANARY[::-1]})
    assert wrong.status_code == 400 and CANARY not in wrong.text
    clients = {role: noria.as_(f"a {role}", role) for role in ("viewer", "contributor", "maintainer", "auditor")} | {
        "admin": root
    }
    seen = 0
    for role, client in clients.items():
        for method, path, _ in route_table(noria.app.routes()):
            if method == "GET" and path not in ("/api/v1/stream", "/api/v1/serving/desired", "/api/v1/pipelines/work/claim"):
                answer = client.get(fill(path), params={"project": "churn"})
                assert CANARY not in answer.text, f"{role}: {path}"
                seen += 1
    assert seen > 500
    noria.settle()
    assert CANARY not in everything_kept(noria) and base64.b64encode(CANARY.encode()).decode() not in everything_kept(noria)
    assert CANARY not in caplog.text
    assert [f.data["version"] for f in noria.facts("secret.set")] == [1, 1]


def test_who_may_write_and_who_may_know_of_them(noria: Noria) -> None:
    root = noria.as_("root", "admin", kind="user")
    root.put("/api/v1/projects/churn", json={}).raise_for_status()
    noria.as_("eve", kind="user")
    root.post("/api/v1/grants", json={"principal": "eve", "role": "maintainer", "scope": "project:churn"}).raise_for_status()
    token = root.post("/api/v1/tokens", json={"name": "t", "principal": "eve"}).json()["secret"]
    eve, viewer = noria.client(token), noria.as_("a viewer", "viewer")
    body = {"value": CANARY}
    assert eve.put("/api/v1/secrets/A_KEY", json=body).status_code == 403
    assert eve.put("/api/v1/secrets/A_KEY", params={"project": "churn"}, json=body).status_code == 200
    root.put("/api/v1/secrets/B_KEY", json=body).raise_for_status()
    assert viewer.get("/api/v1/secrets").status_code == 403
    assert [s["name"] for s in eve.get("/api/v1/secrets").json()["items"]] == ["A_KEY"]
    assert [s["name"] for s in root.get("/api/v1/secrets").json()["items"]] == ["B_KEY", "A_KEY"]
    assert eve.delete("/api/v1/secrets/B_KEY").status_code == 403
    assert eve.delete("/api/v1/secrets/A_KEY", params={"project": "churn"}).status_code == 204
    assert eve.delete("/api/v1/secrets/A_KEY", params={"project": "churn"}).status_code == 404


@pytest.mark.parametrize(
    "name", ["db_password", "1KEY", "LD_PRELOAD", "PYTHONPATH", "PATH", "NORIA_TOKEN", "A" * 129, "A-B"]
)
def test_a_name_that_would_run_code_is_refused(noria: Noria, name: str) -> None:
    assert noria.http.put(f"/api/v1/secrets/{name}", json={"value": CANARY}).status_code == 400


def test_values_that_cannot_be_kept_apart_are_refused(noria: Noria) -> None:
    for value in ("short", "x" * 16_385, ""):
        answer = noria.http.put("/api/v1/secrets/KEY", json={"value": value})
        assert answer.status_code == 400 and (not value or value not in answer.text)
    assert noria.http.put("/api/v1/secrets/KEY", params={"project": "none"}, json={"value": CANARY}).status_code == 404


def test_a_row_cannot_stand_in_for_another(noria: Noria) -> None:
    for name, value in (("LOW", "low-value-1234"), ("HIGH", CANARY)):
        noria.http.put(f"/api/v1/secrets/{name}", json={"value": value}).raise_for_status()
    with noria.app.db.system_write() as tx:
        tx.run("update secret set sealed = (select sealed from secret where name = 'HIGH') where name = 'LOW'")
    with pytest.raises(Unavailable, match="belongs somewhere else"), noria.app.db.write(noria.op()) as tx:
        noria.app.access.vault.given(tx, noria.op(), noria.op(), Ref("pipeline", "p"), ["LOW"], Ref("step_run", "s"))


def test_what_lies_in_a_project_gets_the_nearest(noria: Noria) -> None:
    root = noria.as_("root", "admin", kind="user")
    root.put("/api/v1/projects/outer", json={}).raise_for_status()
    root.put("/api/v1/projects/inner", json={"parent": "outer"}).raise_for_status()
    for project, value in (("", "of-the-workspace"), ("outer", "of-the-outer-one")):
        root.put("/api/v1/secrets/KEY", params={"project": project}, json={"value": value}).raise_for_status()
    with noria.app.db.write(noria.system()) as tx:
        for name, parent in (("in", "project:inner"), ("out", "")):
            tx.run("insert into pipeline (id, name, version, description, created_at_ms, updated_at_ms, owner, is_paused) "
                   "values (:n, :n, 1, '', 1, 1, '', false)", n=name)  # fmt: skip
            if parent:
                tx.run("insert into scope_parent (ref, parent, at_ms) values (:r, :p, 1)", r=f"pipeline:{name}", p=parent)

    def given(pipeline: str, name: str = "KEY") -> str:
        with noria.app.db.write(noria.system()) as tx:
            vault = noria.app.access.vault
            return vault.given(tx, noria.system(), noria.system(), Ref("pipeline", pipeline), [name], Ref("step_run", "s"))[
                name
            ]

    assert (given("in"), given("out")) == ("of-the-outer-one", "of-the-workspace")
    with pytest.raises(NotFound, match="no secret OTHER"):
        given("in", "OTHER")
    (first, _) = noria.facts("secret.given")
    assert first.data == {"names": ["KEY"]}


def test_whoever_may_not_use_it_gets_none(noria: Noria) -> None:
    noria.as_("root", "admin", kind="user").put("/api/v1/secrets/KEY", json={"value": CANARY}).raise_for_status()
    noria.as_("a viewer", "viewer")
    with noria.app.db.read() as tx:
        ident = tx.scalar("select id from principal where name = 'a viewer'")
    op = noria.app.ops.mint(Actor(kind="trigger", id="t", name="t", on_behalf_of=str(ident)))
    with pytest.raises(Forbidden, match="may not use the secret KEY"), noria.app.db.write(noria.system()) as tx:
        noria.app.access.vault.given(tx, noria.system(), op, Ref("pipeline", "p"), ["KEY"], Ref("step_run", "s"))


def test_the_master_key_is_turned_and_the_old_one_is_gone(noria: Noria) -> None:
    noria.http.put("/api/v1/secrets/KEY", json={"value": CANARY}).raise_for_status()
    noria.http.put(
        "/api/v1/webhooks/chat", json={"url": "https://chat.example.com/x", "kinds": ["alert.*"]}
    ).raise_for_status()
    path = noria.config.home / "keys" / "secrets.key"
    before = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert noria.http.post("/api/v1/secrets/rotate-key").json() == {"rewrapped": 2}
    after = path.read_text()
    assert after != before and len(after.splitlines()) == 1 and stat.S_IMODE(path.stat().st_mode) == 0o600
    with noria.app.db.read() as tx:
        vault = noria.app.access.vault
        assert vault.find(tx, "KEY") == CANARY
        assert noria.app.webhooks.secret_of(tx, "chat").startswith("whsec_")
        assert "whsec_" not in str(tx.scalar("select secret from webhook"))
    path.write_text(before)
    with pytest.raises(Unavailable, match=r"master key .* is not in"), noria.app.db.read() as tx:
        vault.find(tx, "KEY")


class WrittenMeanwhile(FileKeys):
    """Keys during whose first wrapping somebody else writes what they sealed before the keys were turned."""

    def __init__(self, path: Path, write: Callable[[], None]) -> None:
        super().__init__(path)
        self._write_once = [write]

    def wrap(self, key: bytes, about: str) -> bytes:
        if self._write_once:
            self._write_once.pop()()
        return super().wrap(key, about)


def test_what_is_written_while_a_key_is_turned_stays_and_opens(noria: Noria) -> None:
    if noria.app.db.dialect == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    path = noria.config.home / "keys" / "secrets.key"
    for name in ("KEY", "OTHER"):
        noria.http.put(f"/api/v1/secrets/{name}", json={"value": "the value before"}).raise_for_status()
    stale = seal(FileKeys(path), CANARY, "secret:/KEY")

    def write() -> None:
        import sqlalchemy as sa

        engine = sa.create_engine(noria.app.db.engine.url)
        with engine.begin() as connection:
            connection.execute(sa.text("update secret set sealed = :sealed where name = 'KEY'"), {"sealed": stale})
        engine.dispose()

    assert Vault(noria.app.db, WrittenMeanwhile(path, write)).rotate(noria.op()).rewrapped == 1
    vault = noria.app.access.vault
    with noria.app.db.read() as tx:
        assert (vault.find(tx, "KEY"), vault.find(tx, "OTHER")) == (CANARY, "the value before")
    assert len(path.read_text().splitlines()) == 2, "its key is kept"
    assert noria.http.post("/api/v1/secrets/rotate-key").json() == {"rewrapped": 2}
    assert len(path.read_text().splitlines()) == 1


def test_a_key_is_turned_before_there_is_anything_to_seal(noria: Noria) -> None:
    assert noria.http.post("/api/v1/secrets/rotate-key").json() == {"rewrapped": 0}
    noria.http.put("/api/v1/secrets/KEY", json={"value": CANARY}).raise_for_status()
    with noria.app.db.read() as tx:
        assert noria.app.access.vault.find(tx, "KEY") == CANARY


def test_a_webhook_signs_with_a_secret_by_name(noria: Noria) -> None:
    signing = "whsec_" + base64.b64encode(b"x" * 32).decode()
    body = {"url": "https://chat.example.com/x", "kinds": ["alert.*"], "secret": "secret:HOOK_KEY"}
    assert noria.http.put("/api/v1/webhooks/chat", json=body).status_code == 404
    noria.http.put("/api/v1/secrets/HOOK_KEY", json={"value": "no base64"}).raise_for_status()
    refused = noria.http.put("/api/v1/webhooks/chat", json=body)
    assert refused.status_code == 400 and "whsec_" in refused.text
    noria.http.put("/api/v1/secrets/HOOK_KEY", json={"value": signing}).raise_for_status()
    assert noria.http.put("/api/v1/webhooks/chat", json=body).status_code == 200
    with noria.app.db.read() as tx:
        assert noria.app.webhooks.secret_of(tx, "chat") == signing


def test_a_program_may_hold_the_master_key(tmp_path: Path) -> None:
    program = tmp_path / "kms"
    program.write_text(f"#!{sys.executable}\nimport base64, sys\nd = base64.b64decode(sys.stdin.read())\n"
                       "print(base64.b64encode(bytes(b ^ 0x5a for b in d)).decode())\n")  # fmt: skip
    program.chmod(0o700)
    keys = open_keys(f"command:{program}", tmp_path)
    sealed = seal(keys, CANARY, "secret:/A")
    assert unseal(keys, sealed, "secret:/A") == CANARY == unseal(keys, rewrap(keys, sealed, "secret:/A"), "secret:/A")
    with pytest.raises(Invalid, match="rotated there"):
        keys.rotate()
    with pytest.raises(Unavailable, match="did not wrap"):
        seal(CommandKeys(tmp_path / "none"), CANARY, "a")
    for wrong in ("vault:x", "file:relative", "command:"):
        with pytest.raises(Invalid):
            open_keys(wrong, tmp_path)


def test_a_damaged_envelope_or_key_is_said(tmp_path: Path) -> None:
    keys = FileKeys(tmp_path / "k" / "secrets.key")
    sealed = seal(keys, CANARY, "a")
    for wrong in (sealed[:-3], sealed.replace(":1:", ":2:"), "plain", sealed[:-8] + "AAAAAAA="):
        with pytest.raises(Unavailable):
            unseal(keys, wrong, "a")
    (tmp_path / "k" / "secrets.key").write_text("abc not-base64!\n")
    with pytest.raises(Unavailable, match="cannot be read"):
        seal(FileKeys(tmp_path / "k" / "secrets.key"), CANARY, "a")


@given(
    value=st.text(min_size=8, max_size=60),
    before=st.text(max_size=30),
    after=st.text(max_size=30),
    cuts=st.lists(st.integers(0, 120), max_size=6),
)
def test_no_cut_lets_a_secret_through(value: str, before: str, after: str, cuts: list[int]) -> None:
    """In whatever pieces it comes, what is shown is what the whole would show, and holds no secret."""
    redactor = Redactor({"KEY": value})
    text = before + value + after
    places = sorted({0, len(text), *(c for c in cuts if c < len(text))})
    stream = Stream(redactor)
    shown = "".join(stream.push(text[a:b]) for a, b in itertools.pairwise(places)) + stream.end()
    assert value not in shown.replace("[secret KEY]", "\0")


def test_the_forms_in_which_programs_print_a_secret_are_masked() -> None:
    value = 'p@ss "word"/+\nsecond line of it'
    mask = Redactor({"KEY": value}).mask
    encoded = [
        base64.b64encode(before + value.encode() + after).decode() for before, after in ((b"user:", b""), (b"u:", b"!"))
    ]
    plain = [value, json.dumps({"a": value}), repr(value), f"https://x/?k={quote(value, safe='')}", "second line of it"]
    for text in (*plain, *encoded):
        assert "[secret KEY]" in mask(f"before {text} after"), text


def test_the_command_line_asks_and_never_shows(noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noria.client.api.connect", lambda: KeptOpen(noria.client(), url=noria.config.control_url))

    def run(*words: str, code: int = 0, given: str | None = None) -> str:
        done = CliRunner().invoke(main, ["secret", *words], input=given)
        assert done.exit_code == code and CANARY not in done.output, done.output
        return done.output

    assert "version 1" in run("set", "DB_PASSWORD", given=f"{CANARY}\n{CANARY}\n")
    (tmp_path / "value").write_text(CANARY)
    assert "version 2" in run("set", "DB_PASSWORD", "--file", str(tmp_path / "value"))
    assert "version 3" in run("set", "DB_PASSWORD", "--value-stdin", given=f"{CANARY}\n")
    assert "DB_PASSWORD" in run("list")
    assert "1 envelopes" in run("rotate-key")
    assert "deleted" in run("delete", "DB_PASSWORD")
    run("delete", "DB_PASSWORD", code=6)
