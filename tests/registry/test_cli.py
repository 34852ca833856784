"""`noria model`, against the application under test."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from noria.cli.main import main
from noria.cli.model import sentences
from noria.client.api import Api
from noria.registry.model import Evaluation, ModelVersion
from tests.conftest import Noria

Given = Callable[..., ModelVersion]


class KeptOpen(Api):
    """A command closes its connection at its end; here the next command uses it again."""

    def close(self) -> None:
        return


@pytest.fixture
def cli(noria: Noria, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setattr("noria.client.api.connect", lambda: KeptOpen(noria.client(), url=noria.config.control_url))
    return lambda *args: CliRunner().invoke(main, list(args))


def test_the_life_of_a_version_on_the_command_line(noria: Noria, given_version: Given, cli: Callable[..., Result]) -> None:
    made = given_version()
    noria.app.registry.set_evaluation(
        noria.op(), made, Evaluation(dataset_version="d1", split="test", metrics={"log_loss": 0.5})
    )
    assert "flights" in cli("model", "list").output
    moved = cli("model", "promote", "flights@latest", "champion", "--expect", "0")
    assert moved.output == "champion of flights is now version 1 (generation 1).\n", moved.output
    stale = cli("model", "promote", "flights@1", "champion", "--expect", "0")
    assert stale.exit_code == 8 and "moved since" in stale.output
    shown = cli("model", "show", "flights@champion").output
    assert "It is champion." in shown and "log_loss 0.5 on test" in shown
    assert "champion → 1" in cli("model", "show", "flights").output
    assert "log_loss 0.5" in cli("model", "versions", "flights").output
    assert [m["version"] for m in json.loads(cli("model", "timeline", "flights", "--json").output)] == [1]
    assert "Nothing here yet." in cli("model", "timeline", "flights", "--at", "2020-01-01").output
    passport = cli("model", "passport", "flights@champion")
    assert "Commit: c0ffee." in passport.output and "Is dirty: yes." in passport.output, passport.output
    assert json.loads(cli("model", "passport", "flights@1", "--json").output)["digest"] == made.digest
    assert cli("model", "show", "trains@1").exit_code == 6
    assert cli("model", "promote", "flights", "champion").exit_code == 3


def test_a_passport_says_every_field() -> None:
    said = sentences(
        {"model": "flights", "run": None, "tags": {}, "datasets": [{"name": "a", "number": 1}], "packages": ["x", "y"],
         "created_at_ms": 0, "score": 0.25}
    )  # fmt: skip
    assert said == [
        "Model: flights.", "Run: not known.", "Tags: none.", "Datasets:", "  1.", "    Name: a.", "    Number: 1.",
        "Packages: x, y.", "Created: 1970-01-01 00:00:00 UTC.", "Score: 0.25.",
    ]  # fmt: skip
