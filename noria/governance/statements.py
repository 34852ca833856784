"""Where a version comes from, as an in-toto Statement v1 with SLSA provenance v1, from the registry's passport. Pure.

What is not known is left out, as SLSA wants it; who made the statement is said by `builder.id`, which is as much as was seen: a run
that a Noria worker made, a run that its maker reported, or nothing but the files.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from noria.governance.verify_model import STATEMENT_TYPE

PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://noria.dev/training-run/v1"
CONVERSION_TYPE = "https://noria.dev/onnx-conversion/v1"
CONVERTER = "https://noria.dev/builders/serving-node"
BUILDERS = {"worker": "https://noria.dev/builders/pipeline-worker", "reported": "https://noria.dev/builders/self-reported",
            "none": "https://noria.dev/builders/unknown"}  # fmt: skip


def statement(passport: dict[str, Any], sha256: dict[str, str], *, pipeline: str | None) -> dict[str, Any]:
    """The statement about the files `sha256` (path → digest) of the version that `passport` is of."""
    run, code = passport["run"] or {}, passport["code"] or {}
    blake3 = passport["files"]["digests"]
    level = "worker" if pipeline else "reported" if run.get("id") else "none"
    external = {"source": passport["source"], "entryPoint": code.get("argv"), "parameters": run.get("params")}
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": path, "digest": {"sha256": digest, "blake3": blake3[path]}} for path, digest in sorted(sha256.items())
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": _known(external),
                "internalParameters": _known({"pipelineRun": pipeline, "packages": passport["environment"]["packages"]}),
                "resolvedDependencies": [*_code(code), *_data(passport["datasets"]), *_environment(passport["environment"])],
            },
            "runDetails": {
                "builder": {"id": BUILDERS[level]},
                "metadata": _known({
                    "invocationId": run.get("id"), "startedOn": _time(run.get("started_at_ms")),
                    "finishedOn": _time(run.get("ended_at_ms")),
                }),
                "byproducts": [
                    {
                        "name": f"{passport['model']}@{passport['version']}",
                        "digest": {"blake3": passport["digest"]},
                        "annotations": _known({
                            "registeredBy": passport["created_by"], "registeredOn": _time(passport["created_at_ms"]),
                            "trainedBy": run.get("user"), "experiment": run.get("experiment"),
                        }),
                    }
                ],
            },
        },
    }  # fmt: skip


def conversion_statement(made: dict[str, Any], blake3: dict[str, str], sha256: dict[str, str]) -> dict[str, Any]:
    """The statement about the files that a node made of a model for serving, from the row of the conversion."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": path, "digest": {"sha256": digest, "blake3": blake3[path]}} for path, digest in sorted(sha256.items())
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": CONVERSION_TYPE,
                "externalParameters": {"format": "onnx"},
                "internalParameters": {"comparison": made["words"]},
                "resolvedDependencies": [{"name": "model", "digest": {"blake3": made["digest"]}}],
            },
            "runDetails": {
                "builder": {"id": CONVERTER}, "metadata": _known({"finishedOn": _time(made["at_ms"])}),
                "byproducts": [{"name": "files", "digest": {"blake3": made["made_digest"]}}],
            },
        },
    }  # fmt: skip


def _code(code: dict[str, Any]) -> list[dict[str, Any]]:
    if not code.get("commit"):
        return []
    found = [{"name": "source", "digest": {"gitCommit": code["commit"]}, "annotations": {"dirty": bool(code["is_dirty"])}}]
    if code.get("diff_digest"):
        found.append({"name": "changes that were not committed", "digest": {"blake3": code["diff_digest"]}})
    return found


def _data(datasets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "name": f"{d['name']}@{d['number']}" if d["name"] else d["id"], "uri": f"dataset_version:{d['id']}",
            **({"digest": {"blake3": d["root_digest"]}} if d["root_digest"] else {}), "annotations": {"role": "training"},
        }
        for d in datasets
    ]  # fmt: skip


def _environment(environment: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": "environment", "digest": {"blake3": environment["digest"]}}] if environment["digest"] else []


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}


def _time(at_ms: int | None) -> str | None:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if at_ms else None
