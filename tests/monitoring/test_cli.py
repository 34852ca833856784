"""`noria monitor`, against the application under test."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import noria as public
from noria.cli.main import main
from noria.client.api import Api
from noria.kernel.errors import TooLarge
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


def test_what_changed_how_good_and_for_whom(noria: Noria, run: Run) -> None:
    for day in (10, 11, 12):
        rows = [
            {"id": f"{day}-{i}", "event_at_ms": day * DAY + i, "score": (i % 10) / 10, "prediction": float(i % 10 >= 5),
             "in_temp": float(i % 50 + (40 if day == 12 else 0)), "in_carrier": "UA" if i % 3 else "AA"}
            for i in range(300)
        ]  # fmt: skip
        answers(noria, rows)
        truths(noria, [{"id": r["id"], "value": float(i % 7 > 2), "at_ms": day * DAY + HOUR} for i, r in enumerate(rows)])
    found = run("drift", "flights", "--reference", f"traffic:{10 * DAY}-{11 * DAY}").output
    assert "1 of 4 columns drifted, 300 answers." in found
    assert found.index("temp") < found.index("carrier")
    assert "Together: shift" in found
    assert json.loads(run("estimate", "flights", "--windows", "1", "--json").output)["items"][0]["labels"] == 300
    assert "1970-01-13" in run("labels", "flights").output
    assert "carrier = UA" in run("slices", "flights", "carrier", "--metric", "accuracy").output
    assert "parity_gap" in run("fairness", "flights", "carrier").output
    run("create", "fair", "--endpoint", "flights", "--metric", "parity_gap", "--limit", "0.2", "--group", "carrier")
    assert "What flights@1 was trained on cannot be read" in run("drift", "flights", code=3).output


def test_what_is_missing_is_said(run: Run) -> None:
    assert "--limit" in run("create", "m", "--endpoint", "flights", "--metric", "brier", code=2).output
    assert "There is no monitor" in run("show", "nope", code=6).output


def test_predictions_and_what_is_written_of_them(noria: Noria, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noria.client.api.connect", lambda: KeptOpen(noria.client(), url=noria.config.control_url))
    monkeypatch.setattr("noria.client.predictions.connect", lambda: KeptOpen(noria.client(), url=noria.config.control_url))

    def run(*args: str, code: int = 0, given: str = "") -> str:
        found = CliRunner().invoke(main, ["endpoint", *args], input=given)
        assert found.exit_code == code, found.output
        return found.output

    answers(noria, [{"id": f"p{i}", "event_at_ms": 10 * DAY + i, "score": i / 10, "in_temp": float(i)} for i in range(10)])
    assert "p7" in run("query", "flights", "select prediction_id from predictions where in_temp = 7")
    assert "in_temp" in run("query", "flights", "--columns")
    csv = run(
        "query", "flights", "-", "--csv", "--limit", "2", given="select prediction_id, score from predictions order by 1"
    )
    assert [line for line in csv.splitlines() if "," in line] == ["prediction_id,score", "p0,0.0", "p1,0.1"]
    assert "Only the first 2 rows" in csv
    assert "One select" in run("query", "flights", "drop view predictions", code=3)
    assert "Give SQL" in run("query", "flights", code=2)
    rows = public.predictions("flights", "select score from predictions where prediction_id = 'p3'")
    assert rows == [{"score": 0.3}]
    with pytest.raises(TooLarge, match="more than 3"):
        public.predictions("flights", limit=3)
    changed = json.loads(run("recording", "flights", "--hash", "temp", "--keep-days", "90", "--json"))
    assert (changed["columns"], changed["keep_days"]) == ({"temp": "hash"}, 90)
    kept = json.loads(run("recording", "flights", "--plain", "temp", "--keep-days", "ever", "--json"))
    assert (kept["columns"], kept["keep_days"]) == ({}, None)
    run("recording", "flights", "--keep-rows", "many", code=3)
    noria.app.monitoring.log_keeper.compact(everything=True)
    assert "inference" in run("log", "flights")
