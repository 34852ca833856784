"""Where a version comes from, as one document that can be read to its reader and kept."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.kernel.db import Read
from noria.kernel.ids import Ref
from noria.registry import store
from noria.registry.model import ModelVersion
from noria.tracking.model import Run


def passport(tx: Read, version: ModelVersion, run: Run | None, experiment: str) -> dict[str, Any]:
    """The passport of a version: identity, run and code, data, environment, evaluations, aliases, who and when.

    What is not known is null, never left out, so that a gap is seen. Approvals belong to governance, which adds its part.
    """
    files = store.files(tx, version.id)
    return {
        "model": version.model,
        "version": version.number,
        "ref": str(version.ref),
        "digest": version.digest,
        "source": version.source,
        "created_at_ms": version.created_at_ms,
        "created_by": version.actor,
        "description": version.description,
        "tags": version.tags,
        "aliases": version.aliases,
        "flavors": sorted(version.flavors),
        "signature": version.signature,
        "files": {
            "count": version.files_count,
            "size_bytes": version.size_bytes,
            "digests": {f.path: f.digest for f in files},
        },
        "run": _run(version, run, experiment),
        "code": _code(run),
        "datasets": _datasets(tx, store.trained_on(tx, version.id)),
        "environment": {"digest": version.environment_digest or None, "packages": version.packages},
        "evaluations": [{**msgspec.to_builtins(e), "dataset": _dataset(tx, e.dataset_version)} for e in version.evaluations],
        "scan": _scan(tx, version),
    }


def _scan(tx: Read, version: ModelVersion) -> dict[str, Any] | None:
    """What was found in the files, from the fact that governance left; null while nobody looked."""
    found = tx.rows(
        "select data, at_ms from event where subject = :ref and kind = 'model_version.scanned' order by seq desc limit 1",
        ref=str(version.ref),
    )
    if not found:
        return None
    data = msgspec.json.decode(found[0]["data"])
    return {
        "status": data["status"], "findings": data["findings"], "formats": data["formats"], "why": data["why"] or None,
        "at_ms": found[0]["at_ms"],
    }  # fmt: skip


def _run(version: ModelVersion, run: Run | None, experiment: str) -> dict[str, Any] | None:
    if run is None:
        return {"id": version.run_id, "is_visible": False} if version.run_id else None
    return {
        "id": run.id, "is_visible": True, "name": run.name, "experiment": experiment or None,
        "experiment_id": run.experiment_id, "user": run.user, "started_at_ms": run.started_at_ms,
        "ended_at_ms": run.ended_at_ms, "status": run.status, "params": run.params,
    }  # fmt: skip


def _code(run: Run | None) -> dict[str, Any] | None:
    """The code of a run; `is_dirty` is null when nobody recorded a commit."""
    if run is None:
        return None
    return {
        "commit": run.source_commit or None,
        "is_dirty": run.source_dirty if run.source_commit else None,
        "diff_digest": run.source_diff_digest or None,
        "argv": run.argv or None,
    }


def _datasets(tx: Read, ids: list[str]) -> list[dict[str, Any]]:
    return [_dataset(tx, version_id) for version_id in ids]


def _dataset(tx: Read, version_id: str) -> dict[str, Any]:
    """Name and number of a dataset version, from the fact of its commit; only its id when there is none."""
    ref = str(Ref("dataset_version", version_id))
    found = tx.rows(
        """select data, at_ms from event
            where subject = :ref and kind = 'dataset_version.committed' order by seq limit 1""",
        ref=ref,
    )
    data = msgspec.json.decode(found[0]["data"]) if found else {}
    return {
        "id": version_id, "name": data.get("dataset"), "number": data.get("number"),
        "root_digest": data.get("root_digest"), "committed_at_ms": found[0]["at_ms"] if found else None,
    }  # fmt: skip
