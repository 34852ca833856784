"""What a model version is made of, as a CycloneDX 1.6 bill of materials: its files, packages, data and base models. Pure.

The packages are those that were captured in the run, with exact versions; without a capture, what the model's requirements ask for.
Written by hand since the official library drops model cards when it reads and writes them; a test validates with it.
"""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from typing import Any

from noria import __version__

SPEC_VERSION = "1.6"
SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_NAMESPACE = uuid.UUID("5f0c6a52-8f0e-5a44-9a4d-6f1b2d7c9e01")
_REQUIREMENT = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*(?:===?\s*([A-Za-z0-9][^\s;,]*))?")
BASE_MODEL, LICENSE = "base_model", "license"  # tags of a version, as model hubs call them


def bom(
    passport: dict[str, Any], sha256: dict[str, str], *, flavors: dict[str, Any], captured: dict[str, Any] | None,
    written: dict[str, str], url: str,
) -> dict[str, Any]:  # fmt: skip
    """The document. `sha256`: path → digest of each file; `captured`: `{python, packages}` of the run that built it, if it is known;
    `written`: the sections of the card that people wrote; `url`: where this Noria is."""
    model = f"{passport['model']}@{passport['version']}"
    packages = _packages(captured["packages"] if captured else passport["environment"]["packages"])
    data, bases = _data(passport["datasets"], url), _bases(passport["tags"], flavors)
    others = [*packages, *data, *bases]
    return {
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, passport['ref'] + passport['digest'])}",
        "version": 1,
        "metadata": {
            "timestamp": _time(passport["created_at_ms"]),
            "tools": {"components": [{"type": "application", "name": "noria", "version": __version__}]},
            "component": {
                "type": "machine-learning-model",
                "bom-ref": model,
                "name": passport["model"],
                "version": str(passport["version"]),
                **_known({"description": passport["description"], "licenses": _licenses(passport["tags"])}),
                "hashes": [{"alg": "BLAKE3", "content": passport["digest"]}],
                "components": [_file(path, digest, passport["files"]["digests"][path], model) for path, digest in sorted(sha256.items())],
                **_known({"pedigree": {"ancestors": [_without_ref(b) for b in bases]} if bases else None}),
                "modelCard": _card(passport, data, written),
                "properties": _properties(passport, captured),
            },
        },
        "components": others,
        "dependencies": [
            {"ref": model, "dependsOn": [c["bom-ref"] for c in others]}, *({"ref": c["bom-ref"], "dependsOn": []} for c in others)
        ],
    }  # fmt: skip


def _file(path: str, sha256: str, blake3: str, model: str) -> dict[str, Any]:
    return {
        "type": "file", "bom-ref": f"{model}/{path}", "name": path,
        "hashes": [{"alg": "SHA-256", "content": sha256}, {"alg": "BLAKE3", "content": blake3}],
    }  # fmt: skip


def _packages(lines: list[str]) -> list[dict[str, Any]]:
    """Requirement lines as libraries; one that names no package of an index is kept by its text."""
    made: dict[str, dict[str, Any]] = {}
    for line in lines:
        found = _REQUIREMENT.match(line)
        if not found or "://" in line:
            made[line] = {"type": "library", "bom-ref": line, "name": line}
            continue
        name, version = re.sub(r"[-_.]+", "-", found[1]).lower(), found[2]
        purl = f"pkg:pypi/{name}" + (f"@{version}" if version else "")
        made[purl] = {"type": "library", "bom-ref": purl, "name": found[1], "purl": purl} | (
            {"version": version} if version else {"properties": [{"name": "noria:requirement", "value": line}]}
        )
    return [made[ref] for ref in sorted(made)]


def _data(datasets: list[dict[str, Any]], url: str) -> list[dict[str, Any]]:
    made = []
    for d in datasets:
        name = d["name"] or d["id"]
        contents = {"url": f"{url}/datasets/{d['name']}/versions/{d['number']}"} if d["name"] else {}
        made.append(
            {
                "type": "data", "bom-ref": f"dataset_version:{d['id']}", "name": name,
                **_known({"version": str(d["number"]) if d["number"] else None}),
                **_known({"hashes": [{"alg": "BLAKE3", "content": d["root_digest"]}] if d["root_digest"] else None}),
                "data": [{"type": "dataset", "name": name, **_known({"contents": contents})}],
            }
        )  # fmt: skip
    return made


def _bases(tags: dict[str, str], flavors: dict[str, Any]) -> list[dict[str, Any]]:
    """What it was built upon: what its tag says, and what MLflow's flavour of transformers recorded."""
    named = [(name.strip(), "") for name in tags.get(BASE_MODEL, "").split(",") if name.strip()]
    hub = flavors.get("transformers") or {}
    if isinstance(hub.get("source_model_name"), str) and hub["source_model_name"]:
        named.append((hub["source_model_name"], str(hub.get("source_model_revision") or "")))
    made = {}
    for text, revision in named:
        name, _, version = text.partition("@")
        version = version or revision
        made[name] = {
            "type": "machine-learning-model", "bom-ref": f"base:{name}", "name": name, **_known({"version": version}),
        }  # fmt: skip
    return list(made.values())


def _card(passport: dict[str, Any], data: list[dict[str, Any]], written: dict[str, str]) -> dict[str, Any]:
    signature = passport["signature"] or {}
    metrics = [
        {"type": name, "value": f"{value:.12g}", "slice": " ".join(filter(None, [e["split"], part]))}
        for e in passport["evaluations"]
        for part, numbers in [("", e["metrics"]), *e["slices"].items()]
        for name, value in sorted(numbers.items())
    ]
    return _known({
        "modelParameters": _known({
            "datasets": [{"ref": d["bom-ref"]} for d in data],
            "inputs": _formats(signature.get("inputs")), "outputs": _formats(signature.get("outputs")),
        }),
        "quantitativeAnalysis": _known({"performanceMetrics": metrics}),
        "considerations": _known({
            "useCases": _lines(written, "intended_use"), "technicalLimitations": _lines(written, "limitations", "out_of_scope"),
            "ethicalConsiderations": [{"name": text} for text in _lines(written, "ethical_considerations")],
        }),
    })  # fmt: skip


def _formats(part: Any) -> list[dict[str, str]]:
    columns = part if isinstance(part, list) else []
    return [
        {"format": f"{c.get('name', '')}: {c.get('type', 'any')}".removeprefix(": ")} for c in columns if isinstance(c, dict)
    ]


def _lines(written: dict[str, str], *sections: str) -> list[str]:
    return [written[s] for s in sections if written.get(s)]


def _licenses(tags: dict[str, str]) -> list[dict[str, Any]]:
    return [{"license": {"name": tags[LICENSE]}}] if tags.get(LICENSE) else []


def _properties(passport: dict[str, Any], captured: dict[str, Any] | None) -> list[dict[str, str]]:
    run, code, scan = passport["run"] or {}, passport["code"] or {}, passport["scan"] or {}
    values = {
        "noria:ref": passport["ref"], "noria:run": run.get("id"), "noria:commit": code.get("commit"),
        "noria:python": (captured or {}).get("python"), "noria:scan": scan.get("status"),
        "noria:packages": "captured in the run" if captured else "asked for by the model",
    }  # fmt: skip
    return [{"name": name, "value": str(value)} for name, value in values.items() if value]


def _without_ref(component: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in component.items() if name != "bom-ref"}


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
