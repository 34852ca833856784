"""`noria data`, as it is typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from noria.cli.main import main

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command line on a home of its own, without a server."""
    monkeypatch.setenv("NORIA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NORIA_URL", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*args: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, ["data", *args])
        assert result.exit_code == code, result.output
        return result

    return call


def test_a_day_with_the_command_line(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "t.csv").write_text("id,v\n1,a\n2,b\n")
    assert "Nothing here yet" in run("list").output
    assert "flights@1" in run("commit", "flights", "in", "-m", "January", "--alias", "train").output
    assert "no new version" in run("commit", "flights", "in").output
    (source / "t.csv").write_text("id,v\n1,a\n2,c\n3,d\n")
    made = json.loads(run("commit", "flights", "in", "-m", "all", "--parent", "1", "--json").output)
    assert (made["version"]["number"], made["is_new"]) == (2, True)
    (tmp_path / "other").write_text("other")
    assert "moved since" in run("commit", "flights", "other", "--parent", "1", code=8).output
    log = run("log", "flights").output
    assert "January" in log and "train" in log
    assert "t.csv" in run("show", "flights@train").output
    diff = run("diff", "flights", "1", "--rows", "--key", "id").output
    assert "1 changed" in diff and "+ id=3, v=d" in diff and "~ id=2  v: b → c" in diff
    assert "2 → 3 rows" in diff
    assert "id" in run("profile", "flights").output
    run("checkout", "flights@1", "out")
    assert (tmp_path / "out" / "t.csv").read_text() == "id,v\n1,a\n2,b\n"
    assert "not empty" in run("checkout", "flights@2", "out", code=8).output
    run("checkout", "flights@2", "out", "--force")
    assert "0 damaged" in run("verify", "flights").output
    assert "train is flights@2" in run("alias", "flights@2", "train").output
    assert "is deleted" in run("delete", "flights@1", "--yes").output
    assert "called train" in run("delete", "flights@2", "--yes", code=8).output
    run("alias", "flights", "train", "--remove")
    assert "no version 'train'" in run("show", "flights@train", code=6).output
    assert "flights" in run("list").output


def test_damage_ends_with_exit_code_one(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("bytes")
    run("commit", "d", "a.txt")
    flip(next((tmp_path / "home" / "blobs" / "packs").rglob("*.pack")))
    assert "1 damaged" in run("verify", "d", code=1).output


def flip(file: Path) -> None:
    """Change the last bit of a file."""
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
