"""Signatures, bills of materials and descriptions of data: what Noria writes is what the official tools read."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import Result

from noria.client.api import Api
from noria.client.datasets import dataset
from noria.governance.keys import EcSigner
from noria.kernel.ids import Ref
from noria.registry.model import Evaluation, ModelVersion
from scripts import mlflow_clients
from tests.conftest import Noria
from tests.governance.test_provenance import cli, on_disk
from tests.registry.conftest import FILES

__all__ = ["cli"]
Given = Callable[..., ModelVersion]
VERSION = "/api/v1/models/flights/versions/1"
TABLE = b"hour,origin,delayed\n7,EWR,true\n8,JFK,false\n"
LIMIT_S = 300


def commit(noria: Noria, name: str, files: dict[str, bytes]) -> Any:
    """A version of data, through the SDK."""
    return dataset(name, api=Api(noria.client(), url=noria.config.control_url)).commit(files).info


def captured(noria: Noria, run_id: str) -> None:
    """The packages of a run, as the client captures them."""
    text = msgspec.json.encode({"python": "3.12.4", "packages": ["scikit-learn==1.7.0", "NumPy==2.3.1"]})
    digest = noria.app.blobs.put(text).digest
    with noria.app.db.system_write() as tx:
        tx.run(
            "insert into tag (run_id, key, value) values (:id, 'noria.environment_digest', :digest)",
            id=run_id,
            digest=digest,
        )


def bom(noria: Noria) -> dict[str, Any]:
    answer = noria.http.get(f"{VERSION}/bom")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_bill_of_materials_names_files_packages_data_and_numbers(noria: Noria, given_version: Given) -> None:
    version = given_version()
    data = commit(noria, "flights-data", {"a.csv": TABLE})
    op = noria.system()
    noria.app.registry.set_evaluation(
        op, "flights@1",
        Evaluation(dataset_version=data.id, split="test", metrics={"auc": 0.91}, slices={"origin=EWR": {"auc": 0.5}}),
    )  # fmt: skip
    with noria.app.db.write(op) as tx:
        tx.link(version.ref, "trained_on", Ref("dataset_version", data.id))
    noria.http.patch(VERSION, json={"tags": {"license": "Apache-2.0", "base_model": "bert-base@8f3c, other"}})
    noria.http.put(f"{VERSION}/card/limitations", json={"content": "Not for snow."})

    made = bom(noria)
    main = made["metadata"]["component"]
    assert main["type"] == "machine-learning-model" and main["hashes"] == [{"alg": "BLAKE3", "content": version.digest}]
    assert {c["name"]: c["hashes"][0]["content"] for c in main["components"]} == {
        path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()
    }
    by_ref = {c["bom-ref"]: c for c in made["components"]}
    assert by_ref["pkg:pypi/scikit-learn@1.7.0"]["version"] == "1.7.0"
    assert by_ref["pkg:pypi/numpy"]["properties"] == [{"name": "noria:requirement", "value": "numpy>=2"}]
    assert by_ref[f"dataset_version:{data.id}"]["name"] == "flights-data"
    assert by_ref["base:bert-base"]["version"] == "8f3c" and "version" not in by_ref["base:other"]
    card = main["modelCard"]
    assert card["considerations"] == {"technicalLimitations": ["Not for snow."]}
    assert {"type": "auc", "value": "0.5", "slice": "test origin=EWR"} in card["quantitativeAnalysis"]["performanceMetrics"]
    assert main["licenses"] == [{"license": {"name": "Apache-2.0"}}]
    assert bom(noria) == made, "the same facts give the same document"

    captured(noria, version.run_id)
    assert {c["purl"] for c in bom(noria)["components"] if "purl" in c} == {
        "pkg:pypi/scikit-learn@1.7.0", "pkg:pypi/numpy@2.3.1"
    }  # fmt: skip


def test_files_are_signed_once_and_verified_offline(
    noria: Noria, given_version: Given, cli: Callable[..., Result], tmp_path: Path
) -> None:
    given_version()
    assert noria.http.get(f"{VERSION}/signature").status_code == 404
    noria.app.provenances.reconcile()
    noria.app.provenances.reconcile()
    (fact,) = noria.facts("model_version.signed")
    sig, pub = tmp_path / "model.sig", tmp_path / "signatures.pub"
    assert cli("model", "sign", "flights@1", "--output", sig, "--pub", pub).exit_code == 0
    folder = on_disk(tmp_path / "model")
    offline = ("model", "verify", "flights@1", "--folder", folder, "--signature", sig, "--pub", pub)
    assert cli(*offline).output == f"Verified: {len(FILES)} files are those that were signed.\n"
    assert cli("model", "verify", "flights@1", "--signature", sig).exit_code == 0  # what the server has, by its own key
    (folder / "extra.py").write_bytes(b"import os")
    changed = cli(*offline)
    assert changed.exit_code == 1 and "extra.py was not signed" in changed.output
    signed = json.loads(sig.read_text())
    assert fact.data["key"] == signed["verificationMaterial"]["publicKey"]["hint"]

    own = EcSigner.new()
    (tmp_path / "own.pem").write_text(own.private)
    (tmp_path / "own.pub").write_text(own.public)
    (folder / "extra.py").unlink()
    inside = folder / "model.sig"
    assert cli("model", "sign", "flights@1", "--key", tmp_path / "own.pem", "--output", inside).exit_code == 0
    mine = ("model", "verify", "flights@1", "--folder", folder, "--signature", inside, "--pub")
    assert cli(*mine, tmp_path / "own.pub").exit_code == 0
    assert "not signed by this key" in cli(*mine, pub).output
    assert cli("model", "sign", "flights@1", "--key", pub).exit_code == 3  # a public key signs nothing


@pytest.mark.parametrize("part", ["payload", "sig", "hint"])
def test_a_signature_that_was_changed_is_refused(
    noria: Noria, given_version: Given, cli: Callable[..., Result], tmp_path: Path, part: str
) -> None:
    given_version()
    noria.app.provenances.reconcile()
    sig = tmp_path / "model.sig"
    cli("model", "sign", "flights@1", "--output", sig)
    signed = json.loads(sig.read_text())
    place = {
        "payload": signed["dsseEnvelope"], "sig": signed["dsseEnvelope"]["signatures"][0],
        "hint": signed["verificationMaterial"]["publicKey"],
    }[part]  # fmt: skip
    place[part] = place[part][:-8] + ("AAAAAAA=" if part != "hint" else "00000000")
    sig.write_text(json.dumps(signed))
    said = cli("model", "verify", "flights@1", "--signature", sig)
    assert said.exit_code == 3 and "Not verified" in said.output


def test_croissant_is_for_whoever_may_see_the_data(noria: Noria, cli: Callable[..., Result]) -> None:
    commit(noria, "flights", {"a.csv": TABLE, "notes/read me.txt": b"hello"})
    path = "/api/v1/datasets/flights/versions/1/croissant"
    assert noria.http.get(path).status_code == 200  # the local admin
    assert noria.as_("n", "predictor").get(path).status_code in (403, 404)
    made = noria.as_("a", "auditor").get(path).json()
    by_name = {f["name"]: f for f in made["distribution"]}
    assert by_name["a.csv"]["sha256"] == hashlib.sha256(TABLE).hexdigest()
    assert by_name["notes/read me.txt"]["contentUrl"].endswith("/content?path=notes%2Fread%20me.txt")
    assert [f["name"] for f in made["recordSet"][0]["field"]] == ["hour", "origin", "delayed"]
    assert json.loads(cli("data", "croissant", "flights@latest").output)["name"] == "flights"
    assert noria.http.get("/api/v1/datasets/flights/versions/9/croissant").status_code == 404


@pytest.mark.protocol
@pytest.mark.timeout(LIMIT_S + 60)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_official_tools_accept_what_is_written(
    noria: Noria, given_version: Given, cli: Callable[..., Result], tmp_path: Path
) -> None:
    version = given_version()
    captured(noria, version.run_id)
    data = commit(noria, "flights-data", {"a.csv": TABLE, "b.bin": b"\0\1"})
    with noria.app.db.write(noria.system()) as tx:
        tx.link(version.ref, "trained_on", Ref("dataset_version", data.id))
    noria.app.provenances.reconcile()
    on_disk(tmp_path / "model")
    cli("model", "sign", "flights@1", "--output", tmp_path / "model.sig", "--pub", tmp_path / "signatures.pub")
    cli("model", "bom", "flights@1", "--output", tmp_path / "bom.json")
    cli("data", "croissant", "flights-data@1", "--output", tmp_path / "croissant.json")
    described = json.loads((tmp_path / "croissant.json").read_text())
    for file in described["distribution"]:  # the rows are read from this disk: no server listens in this test
        (tmp_path / file["name"]).write_bytes(TABLE if file["name"] == "a.csv" else b"\0\1")
        file["contentUrl"] = file["name"]
    (tmp_path / "croissant.json").write_text(json.dumps(described))

    python = mlflow_clients.python_of("supply")
    script = Path(__file__).parent / "supply_calls.py"
    run = subprocess.run([python, script, tmp_path], capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)

    assert said["bom"] == {
        "fault": None, "broken": True, "purls": ["pkg:pypi/numpy@2.3.1", "pkg:pypi/scikit-learn@1.7.0"]
    }  # fmt: skip
    assert said["croissant"]["errors"] == []
    assert said["croissant"]["files"]["a.csv"] == hashlib.sha256(TABLE).hexdigest()
    assert [name for name, _ in said["croissant"]["columns"]["table-1"]] == ["hour", "origin", "delayed"]
    assert said["croissant"]["row"]["table-1/0"] == 7
    assert said["signature"]["as signed"] == "verified"
    assert all(said["signature"][change].startswith("refused") for change in ("one more file", "changed", "missing"))
