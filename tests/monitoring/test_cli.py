"""`noria monitor`, against the application under test."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from noria.cli.main import main
from noria.client.api import Api
from tests.conftest import Noria
from tests.monitoring.given import DAY, HOUR, answers, truths

Run = Callable[..., Result]


class KeptOpen(Api):
    """A command closes its connection at its end; here the next command uses it again."""

    def close(self) -> None:
        return


@pytest.fixture
def run(noria: Noria, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr("noria.client.api.connect", lambda: KeptOpen(noria.client(), url=noria.config.control_url))

    def invoke(*args: str, code: int = 0) -> Result:
        found = CliRunner().invoke(main, ["monitor", *args])
        assert found.exit_code == code, found.output
        return found

    return invoke


def test_a_monitor_from_its_creation_to_its_alert(noria: Noria, run: Run) -> None:
    run(
        "create", "calibration", "--endpoint", "flights", "--metric", "calibration_gap", "--limit", "0.1", "--min-count", "5"
    )
    rows = [{"id": f"p{i}", "event_at_ms": 10 * DAY + i, "score": 0.1} for i in range(20)]
    answers(noria, rows)
    truths(noria, [{"id": r["id"], "value": 1.0, "at_ms": 10 * DAY + HOUR} for r in rows])
    answers(noria, [{"event_at_ms": 11 * DAY}])
    assert "calibration  flights   calibration_gap  0.1    1 of 1  open" in run("list").output
    assert json.loads(run("show", "calibration", "--json").output)["state"] == "open"
    assert "1970-01-11 00:00:00 UTC  over     0.9    0.1" in run("windows", "calibration").output
    alert = json.loads(run("alerts", "--state", "open", "--json").output)[0]
    assert alert["value"] == pytest.approx(0.9)
    assert "alert.opened" in run("alert", alert["id"]).output
    assert "Resolved." in run("resolve", alert["id"], "--reason", "seen").output
    assert "Nothing here yet." in run("alerts", "--state", "open").output
    assert "flights@1" in run("performance", "flights", "--by", "revision").output
    run("remove", "calibration")


def test_a_monitor_from_a_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "monitor.json"
    path.write_text(json.dumps({"name": "m", "endpoint": "flights", "metric": "brier", "limit": 0.2}))
    assert json.loads(run("create", "-f", str(path), "--json").output)["name"] == "m"
    path.write_text(json.dumps({"name": "m", "endpoint": "flights", "metric": "brier", "limit": 0.2, "windw_s": 1}))
    run("create", "-f", str(path), code=3)


def test_what_is_missing_is_said(run: Run) -> None:
    assert "--limit" in run("create", "m", "--endpoint", "flights", "--metric", "brier", code=2).output
    assert "There is no monitor" in run("show", "nope", code=6).output
