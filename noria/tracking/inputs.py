"""The data and models that a run read, and the dataset versions of Noria that they name."""

from __future__ import annotations

import re
from typing import Protocol

import msgspec
from msgspec import structs

from noria.kernel.db import Database, Write
from noria.kernel.errors import Invalid, NotFound
from noria.kernel.ids import Ref
from noria.kernel.op import Op
from noria.tracking import store
from noria.tracking.logged_models import LoggedModels
from noria.tracking.model import DATASET_VERSION_TAG, ENTITIES_PER_BATCH, DatasetInput, ModelUse
from noria.tracking.rules import check_input, noria_handle
from noria.tracking.sight import visible, writable

_VERSION_ID = re.compile(r"[0-9a-f]{32}")


class HasId(Protocol):
    """Something with an id."""

    @property
    def id(self) -> str: ...


class DatasetVersions(Protocol):
    """What tracking needs of the datasets below it."""

    def version(self, op: Op, handle: str) -> HasId: ...


class Inputs:
    """Part of the tracking service."""

    _db: Database
    _datasets: DatasetVersions | None
    models: LoggedModels

    def log_inputs(
        self, op: Op, run_id: str, datasets: list[DatasetInput] | None = None, models: list[ModelUse] | None = None
    ) -> None:
        """Record data and models that a run read. An input that names a Noria dataset version is linked to it.

        Raises Invalid, NotFound (the run, or a `noria://` version that does not exist), Forbidden.
        """
        datasets, models = datasets or [], models or []
        if len(datasets) > ENTITIES_PER_BATCH or len(models) > ENTITIES_PER_BATCH:
            raise Invalid(f"At most {ENTITIES_PER_BATCH} inputs fit one request.", where="datasets")
        for item in datasets:
            check_input(item)
        resolved = [structs.replace(d, dataset_version=self._version_of(op, d)) for d in datasets]
        with self._db.write(op) as tx:
            writable(tx, op, run_id)
            store.add_inputs(tx, run_id, resolved, op.at_ms)
            for item in resolved:
                self._link_version(tx, run_id, item.dataset_version)
            if models:
                self.models.check_exist(tx, op, [m.model_id for m in models])
                store.add_model_uses(tx, run_id, models)
                for use in models:
                    if use.direction == "input":
                        tx.link(Ref("run", run_id), "read", Ref("logged_model", use.model_id))
                    else:
                        tx.link(Ref("logged_model", use.model_id), "built_by", Ref("run", run_id))

    def dataset_summaries(self, op: Op, experiment_ids: list[str], limit: int = 1000) -> list[tuple[str, DatasetInput]]:
        """The different inputs of the runs of experiments, by experiment; experiments the caller may not read have none."""
        seen = visible(op, "run.read")
        wanted = experiment_ids if seen is None else [e for e in experiment_ids if e in set(seen)]
        with self._db.read() as tx:
            rows = store.dataset_summaries(tx, wanted, limit) if wanted else []
        return [
            (r["experiment_id"], DatasetInput(name=r["name"], digest=r["digest"], tags=msgspec.json.decode(r["tags"])))
            for r in rows
        ]

    def _version_of(self, op: Op, item: DatasetInput) -> str:
        """The id of the Noria dataset version that an input names, or ''. Raises NotFound when there is no such version."""
        if item.dataset_version:
            return item.dataset_version
        handle = named_by(item)
        return self.resolve(op, handle) if handle else ""

    def _version_in(self, op: Op, tags: dict[str, str]) -> str:
        return self.resolve(op, tags[DATASET_VERSION_TAG]) if tags.get(DATASET_VERSION_TAG) else ""

    def resolve(self, op: Op, handle: str) -> str:
        """The id of the dataset version that `noria://flights@3`, `flights@3` or an id names. Raises NotFound, Invalid, Forbidden."""
        if self._datasets is None:
            raise NotFound(f"There is no dataset version {handle[:200]!r}.", hint="This server keeps no datasets.")
        named = handle.removeprefix("noria://")
        if _VERSION_ID.fullmatch(named):
            named = f"dataset_version:{named}"
        return str(self._datasets.version(op, named).id)

    def _link_version(self, tx: Write, run_id: str, version: str) -> None:
        if version:
            tx.link(Ref("run", run_id), "read", Ref("dataset_version", version))


def named_by(item: DatasetInput) -> str:
    """The dataset version of Noria that an input names, as a handle; '' if none."""
    return item.tags.get(DATASET_VERSION_TAG) or noria_handle(item.source) or noria_handle(item.name)
