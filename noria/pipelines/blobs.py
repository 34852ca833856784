"""Which blobs pipelines still name."""

from __future__ import annotations

from noria.kernel.collector import mentioned
from noria.kernel.db import Read

_NAMING_BLOBS = (
    "select spec from pipeline_version", "select params, outputs from pipeline_run",
    "select outputs from step_run where outputs is not null", "select spec from step_run where spec is not null",
    "select outputs, inputs from cache_entry",
    "select distinct environment_digest from attempt",
)  # fmt: skip


def digests_in_use(tx: Read, digests: list[str]) -> set[str]:
    """Those of `digests` that a specification or a value names, wherever in it."""
    found: set[str] = set()
    for sql in _NAMING_BLOBS:
        found |= mentioned(tx, sql, digests)
    return found
