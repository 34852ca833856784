"""Lineage in OpenLineage's words (https://openlineage.io/spec): runs with what they read and made as run events; what goes on without
end – an endpoint, a report – as job events. Pure; what is not on the map is not in the events.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from noria.kernel.edges import Edge
from noria.kernel.lineage import Lineage, Node

SPEC = "https://openlineage.io/spec/2-0-2/OpenLineage.json"
VERSION_FACET = "https://openlineage.io/spec/facets/1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet"
PARENT_FACET = "https://openlineage.io/spec/facets/1-2-0/ParentRunFacet.json#/$defs/ParentRunFacet"
RUNS = ("run", "pipeline_run")  # what begins and ends
DATA = ("dataset", "dataset_version", "model", "model_version", "logged_model")  # what is read and made
_TYPES = {
    "finished": "COMPLETE", "succeeded": "COMPLETE", "cached": "COMPLETE", "failed": "FAIL", "killed": "ABORT", "cancelled": "ABORT",
    "running": "RUNNING", "queued": "START", "scheduled": "START",
}  # fmt: skip


def events_of(lineage: Lineage, *, namespace: str, version: str, at_ms: int) -> list[dict[str, Any]]:
    """The events of a map, runs first, each in the order they began. `at_ms` is the time of what has none of its own."""
    made = _Events(lineage, namespace, f"{namespace}/version#{version}")
    runs = sorted((n for n in lineage.nodes if n.kind in RUNS), key=lambda n: (n.at_ms or 0, n.ref))
    jobs = sorted((n for n in lineage.nodes if n.kind in ("endpoint", "report")), key=lambda n: n.ref)
    orphans = [n for n in lineage.nodes if n.kind == "model_version" and not made.builders(n)]
    return [
        *(made.run_event(n, at_ms) for n in runs if _is_uuid(n.ref)),
        *(event for n in [*orphans, *jobs] if (event := made.job_event(n, at_ms)) is not None),
    ]


class _Events:
    def __init__(self, lineage: Lineage, namespace: str, producer: str) -> None:
        self._nodes = {n.ref: n for n in lineage.nodes}
        self._edges, self._namespace, self._producer = lineage.edges, namespace, producer

    def builders(self, node: Node) -> list[Node]:
        """The runs that made a thing."""
        return [n for e in self._out(node, "built_by", "made_by") if (n := self._nodes[e.dst]).kind in RUNS]

    def run_event(self, node: Node, at_ms: int) -> dict[str, Any]:
        made = [self._nodes[e.src] for e in self._edges if e.dst == node.ref and e.kind in ("built_by", "made_by")]
        outputs = [n for n in made if n.kind in DATA]
        read = [self._nodes[e.dst] for e in self._out(node, "read")]
        read += [self._nodes[e.dst] for n in outputs for e in self._out(n, "trained_on", "scored_by")]
        parents = [n for n in self.builders(node) if n.kind == "pipeline_run" and _is_uuid(n.ref)]
        facets = {}
        if parents:
            run = {"runId": _uuid(parents[0].ref)}
            facets["parent"] = {**self._facet(PARENT_FACET), "run": run, "job": self._name(parents[0])}
        return {
            "eventType": _TYPES.get(node.state, "OTHER"), "eventTime": _iso(node.at_ms or at_ms),
            "producer": self._producer, "schemaURL": f"{SPEC}#/$defs/RunEvent",
            "run": {"runId": _uuid(node.ref), "facets": facets}, "job": self._job(node),
            "inputs": self._data(read), "outputs": self._data(outputs),
        }  # fmt: skip

    def job_event(self, node: Node, at_ms: int) -> dict[str, Any] | None:
        """What rests on data and has no run; None when it rests on nothing here."""
        if node.kind == "endpoint":
            revisions = [self._nodes[e.dst] for e in self._out(node, "has")]
            read = [self._nodes[e.dst] for r in revisions for e in self._out(r, "serves")]
        else:
            read = [self._nodes[e.dst] for e in self._out(node, "trained_on", "shows")]
        inputs = self._data(read)
        if not inputs:
            return None
        return {
            "eventTime": _iso(node.at_ms or at_ms), "producer": self._producer, "schemaURL": f"{SPEC}#/$defs/JobEvent",
            "job": self._job(node), "inputs": inputs, "outputs": self._data([node]),
        }  # fmt: skip

    def _out(self, node: Node, *kinds: str) -> list[Edge]:
        return [e for e in self._edges if e.src == node.ref and e.kind in kinds]

    def _job(self, node: Node) -> dict[str, Any]:
        return {**self._name(node), "facets": {}}

    def _name(self, node: Node) -> dict[str, str]:
        of = node.of if node.kind in RUNS and node.of else node.ref
        kind, _, ident = of.partition(":")
        name = node.label if kind == "model_version" else ident
        return {"namespace": self._namespace, "name": f"{kind}s/{name}"}

    def _data(self, nodes: list[Node]) -> list[dict[str, Any]]:
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for node in nodes:
            if node.kind not in DATA:
                continue
            kind = node.kind.removesuffix("_version")
            name, _, number = node.label.rpartition("@") if node.kind.endswith("_version") else (node.label, "", "")
            facets = {"version": {**self._facet(VERSION_FACET), "datasetVersion": number}} if number else {}
            named = name if node.kind != "logged_model" else node.ref.partition(":")[2]
            found[(f"{kind}s/{named}", number)] = {
                "namespace": self._namespace,
                "name": f"{kind}s/{named}",
                "facets": facets,
            }
        return list(found.values())

    def _facet(self, schema: str) -> dict[str, str]:
        return {"_producer": self._producer, "_schemaURL": schema}


def _uuid(ref: str) -> str:
    return str(UUID(ref.partition(":")[2]))


def _is_uuid(ref: str) -> bool:
    """Runs that were imported may have ids of another form, which OpenLineage cannot say."""
    try:
        _uuid(ref)
    except ValueError:
        return False
    return True


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
