"""An endpoint as KServe's objects: valid by the CRDs' own schemas and the webhook's rules, and nothing left out in silence."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner, Result

from noria.cli.main import main
from noria.client.api import Api
from noria.serving.kserve import label
from noria.serving.model import Guard, RevisionConfig
from tests.conftest import Noria
from tests.serving.test_service import flights, say, served  # noqa: F401

SCHEMAS = json.loads((Path(__file__).parent / "kserve_crds.json").read_text())
ASKED = {
    "format": "kserve",
    "image": "registry.example.org/noria:1",
    "url": "https://noria.example.org",
    "hosts": "flights.example.org",
}


def strict(schema: Any) -> Any:
    """The schema with unknown fields refused, as `kubectl apply --validate=strict` does; a Quantity is a number or text."""
    if isinstance(schema, list):
        return [strict(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    made = {k: strict(v) for k, v in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    elif "properties" in schema and isinstance(schema["properties"], dict):
        made["additionalProperties"] = False
    return made


def check(made: dict[str, Any]) -> None:
    """Raises unless KServe would take the object."""
    jsonschema.Draft202012Validator(strict(SCHEMAS[made["kind"]])).validate(made)
    if made["kind"] == "InferenceService":
        webhook(made)


def webhook(made: dict[str, Any]) -> None:
    """validateCanarySpecs and validatePredictor of KServe 0.20 (pkg/apis/serving/v1beta1/inference_service_validation.go)."""
    predictor, canaries = made["spec"]["predictor"], made["spec"].get("canary", [])
    assert "name" not in predictor["model"]
    assert not canaries or made["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard"
    names = [predictor["name"], *(c["predictor"]["name"] for c in canaries)]
    assert len(set(names)) == len(names)
    assert sum(c["trafficPercent"] for c in canaries) <= 100
    for canary in canaries:
        assert not {"maxReplicas", "scaleTarget", "scaleMetric", "autoScaling", "workerSpec"} & set(canary["predictor"])
        assert canary["predictor"]["minReplicas"] <= predictor.get("minReplicas", 1)


def exported(noria: Noria, name: str = "flights", **more: str) -> dict[str, Any]:
    answer = noria.http.get(f"/api/v1/endpoints/{name}/export", params=ASKED | more)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    for made in found["objects"]:
        check(made)
    return found


def test_one_version_is_one_predictor(noria: Noria) -> None:
    served(noria, 1)
    runtime, service = exported(noria)["objects"]
    predictor = service["spec"]["predictor"]
    revision = noria.app.serving.endpoint(noria.system(), "flights").routes[0].revision_id
    assert (runtime["kind"], predictor["model"]["runtime"]) == ("ServingRuntime", runtime["metadata"]["name"])
    env = {e["name"]: e["value"] for e in predictor["model"]["env"]}
    assert env["NORIA_SERVE_ONLY"] == f"flights:{revision}"
    assert (
        "flights.example.org" in env["NORIA_ALLOWED_HOSTS"] and "flights-predictor.default.svc" in env["NORIA_ALLOWED_HOSTS"]
    )
    assert "canary" not in service["spec"]
    token = next(e for e in runtime["spec"]["containers"][0]["env"] if e["name"] == "NORIA_TOKEN")
    assert token == {"name": "NORIA_TOKEN", "valueFrom": {"secretKeyRef": {"name": "noria", "key": "token"}}}


def test_a_canary_has_its_share_and_keeps_its_name_when_promoted(noria: Noria) -> None:
    served(noria, 1)
    noria.app.serving.canaries.start(
        noria.op(), "flights", "flights@2", steps=[25, 50], config=RevisionConfig(max_replicas=5)
    )
    say(noria)
    spec = exported(noria)["objects"][1]["spec"]
    assert [(c["predictor"]["name"], c["trafficPercent"]) for c in spec["canary"]] == [("r2", 25)]
    assert spec["predictor"]["name"] == "r1"
    noria.app.serving.canaries.promote(noria.op(), "flights")
    spec = exported(noria)["objects"][1]["spec"]
    assert spec["predictor"]["name"] == "r2" and "canary" not in spec  # its pods go on


def test_what_kserve_cannot_say_is_named(noria: Noria) -> None:
    config = RevisionConfig(min_replicas=0, max_replicas=3, rate_per_s=5, engine="onnx", max_in_flight=7)
    noria.app.serving.deploy(noria.op(), "Late Flights", "flights@1", config=config)
    say(noria)
    noria.app.serving.set_shadow(noria.op(), "Late Flights", "flights@3")
    noria.app.serving.canaries.start(noria.op(), "Late Flights", "flights@2", guard=Guard(max_error_share=0.1))
    say(noria)
    found = exported(noria, "Late Flights", hosts="")
    assert found["objects"][1]["metadata"]["name"] == "late-flights"
    told = " ".join(f"{item['field']}: {item['why']}" for item in found["left_out"])
    for word in (
        "sticky key", "shadow @3", "guard (metric brier", "max_error_share 0.1", "canary steps [25, 50]", "min_replicas 0",
        "target_in_flight 8", "rate_per_s 5", "engine onnx", "max_in_flight 7", "'Late Flights'", "outer host names",
    ):  # fmt: skip
        assert word in told, word
    predictor = found["objects"][1]["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (1, 3)


def test_the_schemas_refuse_what_kserve_would(noria: Noria) -> None:
    """The check can fail: misspelt, out of range, missing."""
    served(noria, 1)
    noria.app.serving.canaries.start(noria.op(), "flights", "flights@2")
    say(noria)
    service = exported(noria)["objects"][1]

    def refused(change: Callable[[Any], object]) -> None:
        made = copy.deepcopy(service)
        change(made["spec"])
        with pytest.raises(jsonschema.ValidationError):
            check(made)

    refused(lambda s: s.update(canaries=[]))
    refused(lambda s: s["canary"][0].update(trafficPercent=150))
    refused(lambda s: s["canary"][0].pop("trafficPercent"))
    refused(lambda s: s["canary"][0]["predictor"]["model"].pop("name"))
    refused(lambda s: s["predictor"].update(minReplica=1))
    refused(lambda s: s["predictor"]["model"]["env"][0].update(valeu="x"))


def test_refusals_name_what_is_missing(noria: Noria) -> None:
    served(noria, 1)
    noria.app.serving.deploy(noria.op(), "empty", "flights@2")
    for name, more, status, word in (
        ("flights", {"image": ""}, 400, "image"), ("flights", {"url": ""}, 400, "server"), ("flights", {"format": "helm"}, 400, "helm"),
        ("empty", {}, 409, "champion"), ("nowhere", {}, 404, "nowhere"),
    ):  # fmt: skip
        answer = noria.http.get(f"/api/v1/endpoints/{name}/export", params=ASKED | more)
        assert (answer.status_code, word in answer.text) == (status, True), answer.text


@pytest.mark.parametrize(
    ("name", "made"), [("Flüge 2013", "fl-ge-2013"), ("7days", "e-7days"), ("a" * 60, "a" * 40), ("_", "endpoint")]
)
def test_names_become_kubernetes_names(name: str, made: str) -> None:
    assert label(name) == made


class KeptOpen(Api):
    """A command closes its connection at its end; here the next command uses it again."""

    def close(self) -> None:
        return


def test_on_the_command_line(noria: Noria, monkeypatch: pytest.MonkeyPatch) -> None:
    served(noria, 1)
    monkeypatch.setattr("noria.client.api.connect", lambda: KeptOpen(noria.client(), url="https://noria.example.org"))

    def cli(*args: str) -> Result:
        return CliRunner().invoke(main, ["endpoint", "export", "flights", *args])

    done = cli("--format", "kserve", "--image", "x/noria:1", "--host", "flights.example.org")
    assert done.exit_code == 0, done.output
    for made in yaml.safe_load_all(done.stdout):
        check(made)
    assert "not in kserve: sticky key" in done.stderr
    done = cli("--format", "ray", "--json")
    assert json.loads(done.stdout)["objects"][0]["applications"][0]["args"]["endpoint"] == "flights"
    assert cli("--format", "kserve").exit_code != 0
