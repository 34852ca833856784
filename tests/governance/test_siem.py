"""The log in the words of others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from noria.cli.main import main
from noria.governance.siem import to_ocsf
from tests.conftest import Noria
from tests.registry.test_cli import KeptOpen

REQUIRED = {"class_uid", "category_uid", "activity_id", "type_uid", "time", "severity_id", "metadata"}  # OCSF's base event
MORE = {6003: {"actor", "api", "src_endpoint"}, 3001: {"user"}, 3002: {"user"}, 3005: {"user", "privileges"}}


def test_an_export_in_both_forms(noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noria.http.post("/api/v1/models", json={"name": "flights"})
    noria.as_("bob", "viewer")
    noria.app.audit.seal()
    monkeypatch.setattr("noria.client.api.connect", lambda: KeptOpen(noria.client(), url=noria.config.control_url))
    out = tmp_path / "out"
    run = CliRunner().invoke(main, ["audit", "export", str(out), "--also", "ocsf", "--also", "cloudevents"])
    assert run.exit_code == 0, run.output
    leaves, ocsf, events = (
        [json.loads(line) for line in (out / name).read_text().splitlines()]
        for name in ("events.jsonl", "events.ocsf.jsonl", "events.cloudevents.jsonl")
    )
    assert len(leaves) == len(ocsf) == len(events) >= 3
    for leaf, said, event in zip(leaves, ocsf, events, strict=True):
        assert not (REQUIRED | MORE[said["class_uid"]]) - set(said)
        assert said["type_uid"] == said["class_uid"] * 100 + said["activity_id"]
        assert (said["metadata"]["sequence"], said["time"]) == (leaf["seq"], leaf["at_ms"])
        assert said["unmapped"]["data"] == event["data"]
        for name, value in json.loads(leaf["data"]).items():  # of a personal value the leaf has a hash
            assert event["data"][name] == value or str(value).startswith("personal:sha256:")
        assert event["specversion"] == "1.0" and event["source"].startswith("/noria/")
        assert (event["id"], event["type"]) == (str(leaf["seq"]), f"noria.{leaf['kind']}")
        assert all(
            name.isalnum() and name.islower() for name in event
        )  # CloudEvents: attributes are lower-case letters and digits
    assert [e["data"]["name"] for e in events if e["type"] == "noria.principal.created"] == ["bob"]
    by_kind = {leaf["kind"]: said for leaf, said in zip(leaves, ocsf, strict=True)}
    assert by_kind["model.created"]["class_name"] == "API Activity"
    assert by_kind["principal.created"]["type_uid"] == 300101
    assert noria.facts("audit.exported")


@pytest.mark.parametrize(
    ("kind", "data", "severity", "status"),
    [
        ("policy.judged", '{"allowed": false}', 3, 2), ("policy.judged", '{"allowed": true}', 1, 1),
        ("sign_in.refused", "{}", 3, 2), ("approval.overridden", "{}", 4, 1), ("session.started", "{}", 1, 1),
        ("model_version.scanned", '{"status": "suspicious"}', 4, 1),
    ],
)  # fmt: skip
def test_what_went_wrong_stands_out(kind: str, data: str, severity: int, status: int) -> None:
    row = {
        "actor": "user:ada", "at_ms": 1, "cause": None, "data": data, "kind": kind, "op_id": "o", "seq": 1, "subject": "a:b",
        "workspace": "w",
    }  # fmt: skip
    made = to_ocsf(row)
    assert (made["severity_id"], made["status_id"]) == (severity, status)
