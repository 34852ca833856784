"""What an import found, brought, had already and left out. Filled by several threads."""

from __future__ import annotations

import threading
from typing import Any

from noria.client.moving.model import Experiment

LEFT_OUT_MAX = 1_000  # that are named; all are counted
KINDS = ("experiments", "runs", "logged models", "registered models", "versions", "aliases", "traces")
NEW, RESUMED, ALREADY = "new", "resumed", "already"
PARTS = ("points", "params", "tags", "inputs", "files", "file_bytes")


class Report:
    def __init__(self, source: str) -> None:
        self.source = source
        self.counts = {kind: dict.fromkeys(("found", NEW, RESUMED, ALREADY, "left_out"), 0) for kind in KINDS}
        self.parts = dict.fromkeys(PARTS, 0)
        self.experiments: list[dict[str, str]] = []
        self.left_out: list[dict[str, str]] = []
        self.incomplete: set[str] = set()  # ids of what came without a part of it
        self.unfinished: list[str] = []
        self.verified: dict[str, int] | None = None
        self.differences: list[dict[str, str]] = []
        self._turn = threading.Lock()

    def count(self, kind: str, what: str, n: int = 1) -> None:
        with self._turn:
            self.counts[kind][what] += n

    def brought(self, counts: dict[str, int]) -> None:
        """Parts of a run or a model that was found whole."""
        with self._turn:
            for name in PARTS:
                self.parts[name] += counts[name]

    def leave_out(self, kind: str, name: str, why: str, *, whole: bool = False, is_lineage: bool = False) -> None:
        """Say what did not come, and why; `whole`: the thing itself, not a part of it; `is_lineage`: only a relation."""
        with self._turn:
            if not is_lineage:
                self.incomplete.add(name)
            if whole:
                self.counts[kind]["left_out"] += 1
            if len(self.left_out) < LEFT_OUT_MAX:
                self.left_out.append({"kind": kind, "name": name, "why": why})

    def differ(self, kind: str, name: str, why: str) -> None:
        with self._turn:
            if len(self.differences) < LEFT_OUT_MAX:
                self.differences.append({"kind": kind, "name": name, "why": why})

    def goes_on(self, run_id: str) -> None:
        with self._turn:
            self.unfinished.append(run_id)

    def mapped(self, experiment: Experiment, here: str) -> None:
        self.experiments.append({"name": experiment.name, "from": experiment.id, "to": here})

    @property
    def is_clean(self) -> bool:
        return not self.left_out and not self.differences

    def as_dict(self) -> dict[str, Any]:
        return {
            "source": self.source, "counts": self.counts, "parts": self.parts, "experiments": self.experiments,
            "left_out": self.left_out, "unfinished": self.unfinished, "verified": self.verified,
            "differences": self.differences,
        }  # fmt: skip
