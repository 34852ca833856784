"""Versions are scanned when they are registered, and what would run code gets no traffic unasked."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from click.testing import CliRunner

from noria.cli.main import main
from noria.governance import scans
from noria.kernel.errors import Forbidden
from noria.kernel.ids import Ref
from noria.registry.model import ModelVersion
from tests.conftest import Noria
from tests.governance.hostile_pickles import SYSTEM
from tests.registry.test_cli import KeptOpen

Given = Callable[..., ModelVersion]
SCAN = "/api/v1/models/flights/versions/1/scan"
GOOD = pickle.dumps({"weights": np.zeros(3)})


def deploy(noria: Noria, version: ModelVersion) -> list[str]:
    """Ask for traffic as serving does, and give what was said."""
    evidence = {"model": version.model, "version": version.number, "digest": version.digest, "endpoint": "e"}
    with noria.app.db.write(noria.op()) as tx:
        assert tx.op is not None
        return [v.reason for v in tx.op.gate("endpoint.deploy", Ref("endpoint", "e"), evidence)]


def test_a_clean_version_is_said_to_be(noria: Noria, given_version: Given) -> None:
    version = given_version(**{"model.pkl": GOOD})
    found = noria.http.get(SCAN).json()
    assert (found["status"], found["formats"]["model.pkl"], found["is_safe"]) == ("clean", "pickle", False)
    (fact,) = noria.facts("model_version.scanned")
    assert (fact.subject, fact.actor, fact.data["status"]) == (str(version.ref), "system:scan", "clean")
    assert noria.app.registry.passport_of_version(noria.op(), version)["scan"]["status"] == "clean"
    assert deploy(noria, version) == []


def test_one_that_would_run_code_gets_no_traffic(noria: Noria, given_version: Given) -> None:
    version = given_version(**{"model.pkl": SYSTEM})
    found = noria.http.get(SCAN).json()
    assert found["status"] == "suspicious"
    assert {"file": "model.pkl", "name": "posix.system", "opcode": "STACK_GLOBAL"}.items() <= found["findings"][0].items()
    with pytest.raises(Forbidden, match=r"noria:scan: its files would run code .*posix\.system.*noria model scan flights@1"):
        deploy(noria, version)
    (verdict,) = noria.http.get("/api/v1/verdicts").json()["items"]
    assert (verdict["policy"], verdict["allowed"]) == ("noria:scan", False)


def test_an_administrator_accepts_it_for_these_bytes_only(noria: Noria, given_version: Given) -> None:
    version, other = given_version(**{"model.pkl": SYSTEM}), given_version(**{"model.pkl": SYSTEM + b" "})
    reason = {"reason": "read by Bea, review 214"}
    noria.as_("root", "admin", kind="user")
    maintainer = noria.as_("maintainer", "maintainer")
    assert maintainer.post(f"{SCAN}/accept", json=reason).status_code == 403
    assert noria.http.post(f"{SCAN}/accept", json={"reason": "ok"}).status_code in (400, 401)
    admin = noria.as_("admin", "admin")
    assert admin.post(f"{SCAN}/accept", json={"reason": "ok"}).status_code == 400
    assert admin.post(f"{SCAN}/accept", json=reason).json()["accepted_by"] == "service:admin"
    assert deploy(noria, version) == ["service:admin accepted what its files would do"]
    with pytest.raises(Forbidden):
        deploy(noria, other)
    (fact,) = noria.facts("model_version.scan_accepted")
    assert fact.data["findings"] == ["model.pkl: imports posix.system, which is not on the list of what a model may import"]


def test_a_policy_may_ask_for_more(noria: Noria, given_version: Given) -> None:
    version = given_version(**{"model.pkl": GOOD})
    body = {"action": "endpoint.deploy", "conditions": [{"type": "scan", "safe_formats": True}]}
    assert noria.http.put("/api/v1/policies/safe", json=body).status_code == 200
    with pytest.raises(Forbidden, match="a file is of a format that can run code"):
        deploy(noria, version)
    noria.http.put("/api/v1/policies/safe", json=body | {"conditions": [{"type": "scan"}]})
    assert deploy(noria, version) == ["every condition holds"]
    unknown = given_version(**{"model.pkl": GOOD, "model.weights": bytes(range(200, 256))})
    with pytest.raises(Forbidden, match="the scan of the files says unscanned, must be clean"):
        deploy(noria, unknown)
    trial = {"subject": str(version.ref), "evidence": {"digest": version.digest}}
    assert noria.http.post("/api/v1/policies/safe/try", json=trial).json()["allowed"]


def test_what_takes_longer_is_looked_through_later(
    noria: Noria,
    given_version: Given,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scans, "QUICK", (10, 1 << 20))
    version = given_version(**{"model.pkl": pickle.dumps(list(range(999)))})
    assert noria.http.get(SCAN).json()["is_pending"]
    with pytest.raises(Forbidden, match="being looked through"):
        deploy(noria, version)
    noria.app.scans.reconcile()
    assert noria.http.get(SCAN).json()["status"] == "clean"
    assert deploy(noria, version) == []


def test_a_large_file_is_scanned_in_a_process_of_its_own(noria: Noria, given_version: Given) -> None:
    given_version(**{"model.pkl": pickle.dumps([np.zeros(2_500_000), {"a": 1}]) + SYSTEM})
    assert noria.http.get(SCAN).json()["is_pending"]
    noria.app.scans.reconcile()
    assert [f["name"] for f in noria.http.get(SCAN).json()["findings"]] == ["posix.system"]


def test_new_rules_look_again_and_keep_what_was_accepted(
    noria: Noria,
    given_version: Given,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    version = given_version(**{"model.pkl": SYSTEM})
    noria.http.post(f"{SCAN}/accept", json={"reason": "read by Bea, review 214"})
    monkeypatch.setattr(scans, "RULES", 2)
    noria.app.scans.reconcile()
    found = noria.http.get(SCAN).json()
    assert (found["rules"], bool(found["accepted_by"])) == (2, True)
    assert len(noria.facts("model_version.scanned")) == 2
    noria.app.scans.reconcile()
    assert len(noria.facts("model_version.scanned")) == 2 and deploy(noria, version)


def test_the_command_line_says_what_was_found(
    noria: Noria,
    given_version: Given,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given_version(**{"model.pkl": SYSTEM})
    monkeypatch.setattr("noria.client.api.connect", lambda: KeptOpen(noria.client(), url=noria.config.control_url))
    run = CliRunner().invoke(main, ["model", "scan", "flights@1"])
    assert run.exit_code == 1 and "posix.system" in run.output and "STACK_GLOBAL at byte" in run.output
    run = CliRunner().invoke(main, ["model", "scan", "flights@1", "--accept", "read by Bea, review 214"])
    assert run.exit_code == 0 and "Accepted by" in run.output
    run = CliRunner().invoke(main, ["model", "scan", "flights@1", "--again", "--json"])
    assert json.loads(run.output)["status"] == "suspicious"
