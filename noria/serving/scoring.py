"""Batch scoring, the server's side: the door before a model is read, and the edges of what came of it.

The work is a pipeline (noria/client/scoring). Invariant: whoever reads a model for a batch has asked `check` first, with the
caller's own rights; it passes the same scan as a deployment, and policies may guard `model.score` like any other action.
"""

from __future__ import annotations

from noria.datasets.service import Datasets
from noria.kernel.db import Database
from noria.kernel.errors import Conflict, Invalid, NotFound
from noria.kernel.ids import Ref, check_name
from noria.kernel.op import Op
from noria.pipelines.service import Pipelines
from noria.registry.model import ModelVersion
from noria.registry.service import Registry
from noria.serving import store
from noria.serving.model import ModelFileInfo, SegmentInfo
from noria.serving.scoring_model import Scored, ScoredSegment, Scoring, ScoringRequest
from noria.serving.service import Serving


class Scorings:
    """The service. See the module."""

    def __init__(
        self, db: Database, datasets: Datasets, registry: Registry, pipelines: Pipelines, serving: Serving
    ) -> None:  # fmt: skip
        self._db, self._datasets, self._registry, self._pipelines, self._serving = db, datasets, registry, pipelines, serving

    def check(self, op: Op, asked: ScoringRequest) -> Scoring:
        """May the caller score this data with this model? Which version of each is meant.

        Raises NotFound, Invalid, Conflict (the endpoint answers with nothing yet), Forbidden (a right is missing, the scan or a
        policy refuses; reasons listed).
        """
        endpoint, revision_id = "", ""
        if "@" in asked.model or asked.model.startswith(("model:", "model_version:")):
            if asked.record:
                raise Invalid(
                    "Only what an endpoint serves can be recorded.", where="record", hint="Name the endpoint instead of a model.",
                )  # fmt: skip
            version = self._registry.version(op, asked.model)
        else:
            endpoint, revision_id, version = self._behind(op, asked.model.removeprefix("endpoint:"))
        op.require("model.score", Ref("model", version.model))
        data = self._datasets.version(op, asked.dataset)
        if asked.output:
            op.require("dataset.commit", Ref("dataset", check_name(asked.output, what="dataset")))
        files = [
            ModelFileInfo(path=f.path, size_bytes=f.size_bytes, digest=f.digest) for f in self._registry.files(op, version)
        ]
        if not any(f.path == "MLmodel" for f in files):
            raise Invalid(
                f"{version.label} has no MLmodel file, so it cannot score anything.", where="model",
                hint="Log it with an MLflow flavour, such as mlflow.sklearn.log_model.",
            )  # fmt: skip
        evidence = {
            "model": version.model, "version": version.number, "version_id": version.id, "digest": version.digest,
            "author": version.actor, "actor": op.actor.label, "run_id": version.run_id, "tags": version.tags,
            "aliases": version.aliases, "dataset": data.dataset, "dataset_version": data.id, "endpoint": endpoint,
        }  # fmt: skip
        op.gate("model.score", version.ref, evidence)
        return Scoring(
            model=version.model, number=version.number, version_id=version.id, digest=version.digest, files=files,
            signature=version.signature, dataset=data.dataset, dataset_number=data.number, dataset_version_id=data.id,
            endpoint=endpoint, revision_id=revision_id,
        )  # fmt: skip

    def _behind(self, op: Op, name: str) -> tuple[str, str, ModelVersion]:
        """What an endpoint serves: its champion."""
        ref = Ref("endpoint", name)
        op.require("endpoint.predict", ref)
        try:
            found = self._serving.endpoint(op, name)
        except NotFound as missing:
            raise NotFound(
                f"There is no endpoint {name!r}.",
                ref=ref,
                hint=f"A model is named with a version: {name}@champion, {name}@3.",
            ) from missing
        champion = next((r for r in found.routes if r.role == "champion"), None)
        if champion is None:
            raise Conflict(f"{name} answers with nothing yet.", ref=ref, hint="Wait until its model is loaded.")
        return name, champion.revision_id, self._registry.version(op, f"{found.model}@{champion.model_version}")

    def note(self, op: Op, scored: Scored) -> None:
        """Link a dataset version to the model, the data and the run that it came from; again changes nothing.

        Raises NotFound, Invalid, Forbidden.
        """
        version = self._registry.version(op, f"model_version:{scored.model_version}")
        source = self._datasets.version(op, f"dataset_version:{scored.dataset_version}")
        output = self._datasets.version(op, f"dataset_version:{scored.output}")
        op.require("model.score", Ref("model", version.model))
        op.require("dataset.commit", Ref("dataset", output.dataset))
        if scored.rows < 0:
            raise Invalid("rows cannot be negative.", where="rows")
        run = self._pipelines.pipeline_run(op, scored.pipeline_run) if scored.pipeline_run else None
        made = Ref("dataset_version", output.id)
        with self._db.write(op) as tx:
            tx.link(made, "scored_by", version.ref)
            tx.link(made, "read", Ref("dataset_version", source.id))
            if run is not None:
                tx.link(made, "made_by", Ref("pipeline_run", run.id))
            tx.emit(
                "dataset_version.scored", made, model=version.model, number=version.number,
                source=f"{source.dataset}@{source.number}", rows=scored.rows,
            )  # fmt: skip

    def record(self, op: Op, wanted: ScoredSegment) -> None:
        """Record predictions like those that the endpoint gave; a file that is recorded already changes nothing.

        Raises NotFound, Invalid, Forbidden.
        """
        op.require("endpoint.predict", Ref("endpoint", wanted.endpoint))
        op.require("endpoint.truth", Ref("endpoint", wanted.endpoint))  # whoever may say what is true of its record
        with self._db.read() as tx:
            revision = store.revision(tx, wanted.revision_id)
        if revision.endpoint != wanted.endpoint:
            raise Invalid(f"The revision is not one of {wanted.endpoint}.", where="revision_id")
        self._serving.segments.keep(
            op,
            SegmentInfo(
                endpoint=wanted.endpoint, kind="inference", digest=wanted.digest, rows=wanted.rows, event_from_ms=wanted.at_ms,
                event_to_ms=wanted.at_ms, at_ms=wanted.at_ms, revision_id=wanted.revision_id, size_bytes=wanted.size_bytes,
            ),
        )  # fmt: skip
