"""`noria report`: out as a file, in again, shared and revoked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from noria.cli.main import main
from noria.client.api import Api
from tests.conftest import Noria
from tests.reports.conftest import begun, looked


def test_a_report_goes_out_and_comes_back(noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noria.cli.report.api", lambda: Api(noria.client(), url=noria.config.control_url))

    def run(*args: str, ok: bool = True) -> str:
        done = CliRunner().invoke(main, ["report", *args])
        assert (done.exit_code == 0) is ok, done.output
        return done.output

    made = begun(noria.http, {"kind": "text", "text": "**x**"})
    file = tmp_path / "january.json"
    assert "Version 1 of January" in run("export", made["id"], "-o", str(file))
    document: dict[str, Any] = json.loads(file.read_text())
    file.write_text(json.dumps({**document, "title": "February"}))
    assert "February is at version 2" in run("save", str(file), "--report", made["id"], "--message", "new numbers")
    assert "February is at version 1" in run("save", str(file))
    assert run("list", "--find", "febr", "--json").count('"latest"') == 2
    secret = run("share", made["id"], "--days", "7", "--name", "for the review").strip().partition("#")[2]
    assert looked(noria.http, secret).json()["title"] == "February"
    link = json.loads(run("links", made["id"], "--json"))[0]
    assert link["name"] == "for the review" and link["audience"] == "members"
    run("revoke", made["id"], link["id"])
    assert looked(noria.http, secret).status_code == 404
    file.write_text("{")
    assert "is not JSON" in run("save", str(file), ok=False)
    file.write_text("[]")
    assert "no title and blocks" in run("save", str(file), ok=False)
