"""Where references come from: a dataset version, what a model was trained on, an endpoint's earlier traffic; read once.

A dataset version never changes, so that what was read of it is kept, in this process, for whoever may read the version.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import msgspec

from noria.datasets.service import Datasets
from noria.kernel import edges
from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database, Read
from noria.kernel.errors import Invalid
from noria.kernel.ids import Ref
from noria.kernel.op import Op
from noria.monitoring import sketches_store
from noria.monitoring.baselines import Reference, is_table, matching_rows, parse_traffic, sketch_table
from noria.monitoring.embeddings import points_of, vectors_of
from noria.monitoring.estimates import learn
from noria.monitoring.metrics import metric_of
from noria.monitoring.model import MonitorSpec
from noria.monitoring.reconstruction import SAMPLE_MAX, Sample, shape_of
from noria.monitoring.rows import read_rows
from noria.monitoring.sketches import merge_profiles
from noria.registry.service import Registry

LEARNT_MAX = 50_000  # answers an estimator is made of
KEPT = 16  # references; a hundred kilobytes each for twenty columns


class References:
    """Reads references and keeps the latest."""

    def __init__(self, db: Database, datasets: Datasets, registry: Registry, blobs: BlobStore) -> None:
        self._db, self._datasets, self._registry, self._blobs = db, datasets, registry, blobs
        self._kept: OrderedDict[str, Reference] = OrderedDict()
        self._lock = threading.Lock()

    def of_monitor(self, op: Op, spec: MonitorSpec) -> Reference:
        """What a monitor compares with, read now. Empty when it is traffic still to come, or when none is needed."""
        if not metric_of(spec.metric).needs_reference:
            return Reference()
        if spec.baseline:
            return Reference(source="given", given=spec.baseline)
        if spec.reference.startswith("traffic:"):
            return Reference(source=spec.reference)
        found = self.of_dataset(op, spec.reference)
        missing = [c for c in spec.columns if c not in found.sketches]
        if missing:
            raise Invalid(f"{spec.reference} has no column {missing[0]!r}.", where="columns")
        kept = {n: s for n, s in found.sketches.items() if n in spec.columns} if spec.columns else found.sketches
        return msgspec.structs.replace(found, sketches=kept)

    def of_dataset(self, op: Op, handle: str) -> Reference:
        """The tables of `dataset:NAME@V`, or of what `model:NAME@V` was trained on. Raises NotFound, Invalid."""
        source = self._trained_on(op, handle) if handle.startswith("model:") else handle
        version = self._datasets.version(op, source)
        with self._lock:
            if version.id in self._kept:
                self._kept.move_to_end(version.id)
                return self._kept[version.id]
        tables = [f.path for f in self._datasets.files(op, version).items if is_table(f.path)]
        if not tables:
            raise Invalid(f"{handle} has no Parquet, Arrow or CSV file.", where="reference")
        sample = Sample()
        profile = merge_profiles(sketch_table(p, self._datasets.open(op, version, p), None, sample) for p in tables)
        made = Reference(
            source=str(Ref("dataset_version", version.id)), sketches=profile.columns, rows=profile.rows,
            shape=shape_of(sample.columns),
        )  # fmt: skip
        with self._lock:
            self._kept[version.id] = made
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return made

    def rows_of(self, op: Op, handle: str, key: str, keys: set[str]) -> tuple[str, dict[str, dict[str, Any]]]:
        """The dataset version of `dataset:…` or `model:…`, and its rows with these keys. Raises NotFound, Invalid."""
        version = self._datasets.version(op, self._trained_on(op, handle) if handle.startswith("model:") else handle)
        tables = [f.path for f in self._datasets.files(op, version).items if is_table(f.path)]
        if not tables:
            raise Invalid(f"{handle} has no Parquet, Arrow or CSV file.", where="reference")
        found: dict[str, dict[str, Any]] = {}
        for path in tables:
            for name, row in matching_rows(path, self._datasets.open(op, version, path), key, keys).items():
                found[name] = {**found.get(name, {}), **row}  # tables may hold other columns of the same entity
        return str(Ref("dataset_version", version.id)), found

    def _trained_on(self, op: Op, handle: str) -> str:
        version = self._registry.version(op, handle)
        with self._db.read() as tx:
            found = edges.walk(tx, Ref("model_version", version.id), depth=1)
        sources = sorted(e.dst for e in found if e.kind == "trained_on" and e.dst.startswith("dataset_version:"))
        if not sources:
            raise Invalid(
                f"Nobody recorded what {handle} was trained on.", where="reference", hint="Name the dataset itself."
            )
        return sources[0]


def traffic(
    tx: Read, blobs: BlobStore, streams: list[int], span: str, *, learns: bool = False, points: Sequence[str] = ()
) -> Reference:
    """An endpoint's own earlier traffic, `traffic:<from_ms>-<to_ms>`, as a reference; `learns`: from its labelled answers too;
    `points`: the inputs that make a vector."""
    from_ms, to_ms = parse_traffic(span)
    profile = merge_profiles(sketches_store.sketches(tx, streams, from_ms, to_ms))
    rows = read_rows(tx, blobs, streams, from_ms, to_ms, limit=LEARNT_MAX if learns else SAMPLE_MAX)
    return Reference(
        source=span, sketches=profile.columns, rows=profile.rows, shape=None if learns or points else shape_of(rows.inputs),
        estimator=learn(rows) if learns else None, vectors=vectors_of(points_of(rows.inputs, list(points))) if points else None,
    )  # fmt: skip
