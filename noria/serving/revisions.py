"""What is to be served, as immutable wishes: a model version with its files, and what a policy sees of it."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from noria.kernel.db import Read, Write
from noria.kernel.errors import Invalid, NotFound
from noria.kernel.ids import Ref, RevisionId, new_id
from noria.kernel.op import Op
from noria.registry.model import ModelVersion
from noria.registry.service import Registry
from noria.serving import store
from noria.serving.model import Endpoint, ModelFileInfo, Revision, RevisionConfig, Route


class Revisions:
    """Makes revisions of model versions."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def read(self, op: Op, handle: str) -> tuple[ModelVersion, list[ModelFileInfo]]:
        """A model version that can be served, and its files. Raises NotFound, Invalid."""
        version = self._registry.version(op, handle)
        files = [
            ModelFileInfo(path=f.path, size_bytes=f.size_bytes, digest=f.digest) for f in self._registry.files(op, version)
        ]
        if not any(f.path == "MLmodel" for f in files):
            raise Invalid(
                f"{version.model}@{version.number} has no MLmodel file, so it cannot be served.", where="model",
                hint="Log it with an MLflow flavour, such as mlflow.sklearn.log_model.",
            )  # fmt: skip
        return version, files

    def version_of(self, tx: Read, op: Op, revision_id: str) -> ModelVersion:
        """The model version that a revision serves."""
        found = store.revision(tx, revision_id)
        return self._registry.version(op, f"{found.model}@{found.model_version}")

    def add(
        self, tx: Write, op: Op, name: str, version: ModelVersion, files: list[ModelFileInfo], config: RevisionConfig, role: str,
    ) -> Revision:  # fmt: skip
        """A new revision of `endpoint`, pending until a node has loaded it."""
        made = Revision(
            id=RevisionId(new_id(op.at_ms)), endpoint=name, number=store.next_revision_number(tx, name), model=version.model,
            model_version=version.number, model_version_id=version.id, digest=version.digest, config=config,
            environment=sys.executable, state="pending", created_at_ms=op.at_ms, actor=op.actor.label,
        )  # fmt: skip
        store.add_revision(tx, made, files)
        tx.link(Ref("revision", made.id), "serves", Ref("model_version", version.id), protects=True)
        tx.link(endpoint_ref(name), "has", Ref("revision", made.id))
        tx.emit(
            "revision.created",
            Ref("revision", made.id),
            endpoint=name,
            model=version.model,
            version=version.number,
            role=role,
        )
        return made

    def evidence(
        self, op: Op, endpoint: Endpoint | None, version: ModelVersion, name: str, role: str, weight: int
    ) -> dict[str, Any]:
        """What a policy sees of a way to production traffic."""
        champion = next((r for r in store.routes_of(endpoint, "champion")), None) if endpoint else None
        evaluation = _latest(version)
        return {
            "endpoint": name, "role": role, "weight": weight, "model": version.model, "version": version.number,
            "version_id": version.id, "digest": version.digest, "author": version.actor, "actor": op.actor.label,
            "run_id": version.run_id, "tags": version.tags, "aliases": version.aliases, "evaluation": evaluation,
            "evaluations": [msgspec.to_builtins(e) for e in version.evaluations],
            "champion_version": champion.model_version if champion else None,
            "champion_evaluation": self._champion_evaluation(op, version, champion, evaluation),
        }  # fmt: skip

    def _champion_evaluation(
        self, op: Op, version: ModelVersion, champion: Route | None, like: dict[str, Any] | None
    ) -> dict[str, Any] | None:
        """The champion's numbers on the same data, or None."""
        if champion is None or like is None:
            return None
        try:
            current = self._registry.version(op, f"{version.model}@{champion.model_version}")
        except NotFound:
            return None
        for evaluation in current.evaluations:
            if (evaluation.dataset_version, evaluation.split) == (like["dataset_version"], like["split"]):
                found: dict[str, Any] = msgspec.to_builtins(evaluation)
                return found
        return None


def retire(tx: Write, ids: list[str]) -> None:
    """These revisions no longer run; their model versions may be deleted, their history stays."""
    for revision in store.revisions_by_id(tx, ids):
        if revision.state != "failed":
            store.set_state(tx, revision.id, "retired")
        tx.link(Ref("revision", revision.id), "serves", Ref("model_version", revision.model_version_id), protects=False)


def check_config(config: RevisionConfig) -> RevisionConfig:
    """Raises Invalid for numbers out of bounds."""
    limits = (
        ("max_in_flight", 1, 100_000), ("max_batch_rows", 1, 100_000), ("timeout_ms", 1, 600_000), ("min_replicas", 0, 64),
        ("max_replicas", 1, 64), ("target_in_flight", 1, 100_000), ("idle_s", 1, 86_400), ("rate_per_s", 0, 1_000_000),
        ("burst", 0, 1_000_000), ("memory_mb", 0, 16 << 20), ("disk_mb", 0, 1 << 30), ("max_tasks", 0, 100_000),
    )  # fmt: skip
    for name, least, most in limits:
        if not least <= getattr(config, name) <= most:
            raise Invalid(f"{name} must be between {least} and {most}.", where=f"config.{name}")
    if len(config.network_ports) > 100 or any(not 0 <= p <= 65_535 for p in config.network_ports):
        raise Invalid("network_ports are at most 100 numbers between 0 and 65535.", where="config.network_ports")
    if config.min_replicas > config.max_replicas:
        raise Invalid("min_replicas cannot be more than max_replicas.", where="config.min_replicas")
    return config


def endpoint_ref(name: str) -> Ref:
    return Ref("endpoint", name)


def _latest(version: ModelVersion) -> dict[str, Any] | None:
    if not version.evaluations:
        return None
    found: dict[str, Any] = msgspec.to_builtins(max(version.evaluations, key=lambda e: e.at_ms))
    return found
