"""Where a version comes from is signed, and anybody can verify it without Noria."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from noria.cli.main import main
from noria.governance import verify, verify_model
from noria.registry.model import ModelVersion
from tests.conftest import Noria
from tests.registry.conftest import FILES
from tests.registry.test_cli import KeptOpen

Given = Callable[..., ModelVersion]
PROVENANCE = "/api/v1/models/flights/versions/1/provenance"


@pytest.fixture
def cli(noria: Noria, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setattr("noria.client.api.connect", lambda: KeptOpen(noria.client(), url=noria.config.control_url))
    return lambda *args: CliRunner().invoke(main, [str(a) for a in args])


def on_disk(folder: Path) -> Path:
    for path, data in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def statement_of(noria: Noria) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.b64decode(noria.http.get(PROVENANCE).json()["envelope"]["payload"]))
    return found


def test_a_statement_names_run_code_data_and_files(noria: Noria, given_version: Given) -> None:
    version = given_version()
    assert noria.http.get(PROVENANCE).status_code == 404
    noria.app.provenances.reconcile()
    made = statement_of(noria)
    assert (made["_type"], made["predicateType"]) == ("https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1")
    assert {s["name"] for s in made["subject"]} == set(FILES)
    build, details = made["predicate"]["buildDefinition"], made["predicate"]["runDetails"]
    assert build["externalParameters"]["parameters"] == {"depth": "3"}
    assert build["externalParameters"]["entryPoint"] == "train.py --depth 3"
    source = next(d for d in build["resolvedDependencies"] if d["name"] == "source")
    assert source["digest"] == {"gitCommit": "c0ffee"} and source["annotations"] == {"dirty": True}
    assert any(d["name"] == "environment" for d in build["resolvedDependencies"])
    assert details["metadata"]["invocationId"] == version.run_id
    assert details["builder"]["id"].endswith("/self-reported")
    assert details["byproducts"][0]["digest"] == {"blake3": version.digest}
    (fact,) = noria.facts("model_version.attested")
    assert fact.subject == str(version.ref)
    before = noria.http.get(PROVENANCE).json()
    noria.app.provenances.reconcile()
    assert noria.http.get(PROVENANCE).json() == before and len(noria.facts("model_version.attested")) == 1


def test_the_signature_is_verified_by_another_library_too(noria: Noria, given_version: Given) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    given_version()
    noria.app.provenances.reconcile()
    found = noria.http.get(PROVENANCE).json()
    envelope, key = found["envelope"], verify.parse_key(found["public_key"])
    payload, signature = (base64.b64decode(t) for t in (envelope["payload"], envelope["signatures"][0]["sig"]))
    signed = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)
    Ed25519PublicKey.from_public_bytes(key.public).verify(signature, signed)
    with pytest.raises(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, signed + b" ")


def test_files_are_verified_offline_without_noria(
    noria: Noria, given_version: Given, cli: Callable[..., Result], tmp_path: Path
) -> None:
    given_version()
    noria.app.provenances.reconcile()
    said = cli("model", "verify", "flights@1", "--save", tmp_path / "proof")
    assert said.exit_code == 0 and f"Verified: {len(FILES)} files" in said.output and "gitCommit c0ffee" in said.output
    tools = tmp_path / "tools"
    tools.mkdir()
    for module in (verify, verify_model):
        shutil.copy(str(module.__file__), tools)
    folder = on_disk(tmp_path / "model")

    def alone() -> subprocess.CompletedProcess[str]:
        # -S: without the packages of this environment, so without Noria.
        command = [sys.executable, "-S", tools / "verify_model.py", folder, tmp_path / "proof/provenance.json"]
        pub = ["--pub", tmp_path / "proof/models.pub"]
        return subprocess.run([*command, *pub], capture_output=True, text=True, check=False, cwd=tools, env={})

    run = alone()
    assert (run.returncode, run.stdout) == (0, f"Verified: {len(FILES)} files are those that were signed.\n"), run.stderr
    (folder / "model.pkl").write_bytes(b"other")
    (folder / "extra.py").write_bytes(b"import os")
    (folder / "deep/er/note.txt").unlink()
    run = alone()
    assert run.returncode == 1
    for fault in ("model.pkl was changed", "extra.py was not signed", "deep/er/note.txt is missing"):
        assert fault in run.stdout
    offline = [
        "--folder",
        folder,
        "--provenance",
        tmp_path / "proof/provenance.json",
        "--pub",
        tmp_path / "proof/models.pub",
    ]
    assert "model.pkl was changed" in cli("model", "verify", "flights@1", *offline).output
    assert cli("model", "verify", "flights@1", "--provenance", tmp_path / "proof/provenance.json").exit_code == 3


@pytest.mark.parametrize("change", ["payload", "signature", "type", "key"])
def test_what_was_changed_is_not_verified(
    noria: Noria, given_version: Given, cli: Callable[..., Result], tmp_path: Path, change: str
) -> None:
    given_version()
    noria.app.provenances.reconcile()
    cli("model", "verify", "flights@1", "--save", tmp_path)
    envelope = json.loads((tmp_path / "provenance.json").read_text())
    if change == "payload":
        envelope["payload"] = base64.b64encode(base64.b64decode(envelope["payload"]).replace(b"c0ffee", b"d0ffee")).decode()
    elif change == "signature":
        envelope["signatures"] = []
    elif change == "type":
        envelope["payloadType"] = "text/plain"
    else:
        other = verify.Key("other", verify.key_id("other", b"\x01" * 32), b"\x01" * 32)
        (tmp_path / "models.pub").write_text(str(other))
    (tmp_path / "provenance.json").write_text(json.dumps(envelope))
    run = cli(
        "model", "verify", "flights@1", "--folder", on_disk(tmp_path / "model"), "--provenance", tmp_path / "provenance.json",
        "--pub", tmp_path / "models.pub",
    )  # fmt: skip
    assert run.exit_code == 3 and "Not verified" in run.output


def test_a_lost_key_is_not_replaced_silently(noria: Noria, given_version: Given, caplog: pytest.LogCaptureFixture) -> None:
    given_version()
    noria.app.provenances.reconcile()
    (noria.config.home / "keys/models.key").unlink()
    noria.app.provenances._signer = None
    given_version()
    noria.app.provenances.reconcile()
    assert noria.http.get("/api/v1/models/flights/versions/2/provenance").status_code == 404
    assert "is missing, but it signed before" in caplog.text
