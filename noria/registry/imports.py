"""Models and versions that come from elsewhere, with the numbers and times they had there.

Content is as safe as that of any version: its files are those of a source on this server, recorded once. Aliases are not part of
this; they move as always, behind permission and policy.
"""

from __future__ import annotations

from typing import Protocol

from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database, Write
from noria.kernel.errors import AlreadyExists, Invalid
from noria.kernel.ids import ModelVersionId, Ref, check_name, new_id
from noria.kernel.op import Op
from noria.registry import store
from noria.registry.import_model import ImportedModelName, ImportedVersion
from noria.registry.mlmodel import describe
from noria.registry.model import Model, ModelFile, ModelId, ModelVersion, check_description, check_tags, digest_of, is_prompt
from noria.registry.prompts import template_of

NUMBER_MAX = 10**9  # as many digits as a handle may have
TIME_MAX = 1 << 62


class Sources(Protocol):
    """What imports need of the registry: the files of a source, and the edges of a version."""

    def collect(self, op: Op, text: str, run_id: str) -> tuple[list[ModelFile], str, str]: ...
    def link(self, tx: Write, made: ModelVersion) -> None: ...
    def inspect(self, version: ModelVersion, files: list[ModelFile]) -> None: ...


class Imports:
    """Part of the registry service."""

    def __init__(self, db: Database, blobs: BlobStore, sources: Sources) -> None:
        self._db, self._blobs, self._sources = db, blobs, sources

    def model(self, op: Op, wanted: ImportedModelName) -> Model:
        """The model of this name, made with its old times when there is none. Raises Invalid, Forbidden."""
        op.require("model.import", Ref("model", wanted.name))
        check_name(wanted.name, what="model")
        check_description(wanted.description)
        check_tags(dict(wanted.tags))
        created, updated = _time(wanted.created_at_ms), _time(wanted.updated_at_ms)
        with self._db.write(op) as tx:
            model_id = ModelId(new_id(op.at_ms))
            if store.add_model(tx, model_id, wanted.name, wanted.description, actor=op.actor.label, at_ms=created):
                store.set_model_tags(tx, model_id, dict(wanted.tags))
                store.lock_model(tx, model_id, at_ms=updated)
                tx.emit("model.created", Ref("model", wanted.name))
            return store.model(tx, wanted.name)

    def version(self, op: Op, model: str, wanted: ImportedVersion) -> ModelVersion:
        """A version under the number it had; the same request again gives it back.

        Raises AlreadyExists when another version has the number, Invalid for a source without files, NotFound, Forbidden.
        """
        op.require("model.import", Ref("model", model))
        check_description(wanted.description)
        check_tags(dict(wanted.tags))
        if not 1 <= wanted.number < NUMBER_MAX:
            raise Invalid(f"{wanted.number} cannot be the number of a version.", where="number")
        created, updated = _time(wanted.created_at_ms), _time(wanted.updated_at_ms)
        if is_prompt(wanted.tags):
            files, run_id, logged_model = template_of(wanted.tags, wanted.source, self._blobs), "", ""
        else:
            files, run_id, logged_model = self._sources.collect(op, wanted.source, wanted.run_id)
        described = describe(files, lambda file: self._blobs.get(file.digest))
        digest = digest_of(files)
        with self._db.write(op) as tx:
            found = store.model(tx, model)
            there = store.version_numbered(tx, found.id, wanted.number)
            if there is not None:
                if there.digest != digest or there.source != wanted.source:
                    raise AlreadyExists(f"There is already a version {model}@{wanted.number}, and it is another one.")
                return there
            store.use_number(tx, found.id, wanted.number)
            made = ModelVersion(
                id=ModelVersionId(new_id(op.at_ms)), model=model, number=wanted.number, run_id=run_id, source=wanted.source,
                digest=digest, size_bytes=sum(f.size_bytes for f in files), files_count=len(files),
                flavors=described.flavors, signature=described.signature, input_example=described.input_example,
                environment_digest=described.environment_digest, packages=described.packages, logged_model=logged_model,
                run_link=wanted.run_link, created_at_ms=created, updated_at_ms=updated, actor=op.actor.label, status="READY",
                description=wanted.description, tags=wanted.tags,
            )  # fmt: skip
            store.add_version(tx, found.id, made, files)
            store.touch_version(tx, made.id, at_ms=updated)
            self._sources.link(tx, made)
            tx.emit(
                "model_version.imported", made.ref, model=model, number=made.number, run_id=run_id, digest=digest,
                source=wanted.imported_from,
            )  # fmt: skip
            made = store.version(tx, model, made.number)
        self._sources.inspect(made, files)
        return made


def _time(at_ms: int) -> int:
    if not 0 <= at_ms < TIME_MAX:
        raise Invalid("A time is milliseconds since 1970.", where="created_at_ms")
    return at_ms
