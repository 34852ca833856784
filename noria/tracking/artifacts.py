"""Files of runs, of logged models and of traces."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import structs

from noria.kernel.blobs import BlobInfo, BlobStore, Source
from noria.kernel.collector import condemn
from noria.kernel.crash import crash_here
from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import Invalid, NotFound
from noria.kernel.ids import Ref
from noria.kernel.op import Op
from noria.kernel.preview import File, Preview, preview
from noria.tracking import store, trace_store
from noria.tracking.logged_models import LoggedModels
from noria.tracking.model import Artifact, check_path
from noria.tracking.places import Place, check_file_path, one_level, owner_of, parents, parse_uri
from noria.tracking.sight import may, run_head, writable


class Artifacts:
    """Part of the tracking service."""

    _db: Database
    _blobs: BlobStore
    models: LoggedModels

    def artifacts(self, op: Op, run_id: str, path: str = "", *, with_models: bool = True) -> list[Artifact]:
        """What lies in a folder of a run (or of a logged model, by its id), folders first.

        The files of the models that a run logged appear under the models' names. An unknown folder is empty.
        Raises NotFound (the run), Invalid (the path).
        """
        return one_level(self.files(op, run_id, path, with_models=with_models), path)

    def files(self, op: Op, run_id: str, path: str = "", *, with_models: bool = True) -> list[Artifact]:
        """Every file below a folder of a run or a logged model, by path. Raises NotFound, Invalid."""
        check_path(path)
        with self._db.read() as tx:
            self._owner(tx, op, run_id)
            return self._files(tx, run_id, path, with_models)

    def artifact(self, op: Op, run_id: str, path: str) -> Artifact:
        """One file of a run or a logged model. Raises NotFound, Invalid."""
        check_path(path)
        with self._db.read() as tx:
            self._owner(tx, op, run_id)
            found = store.artifact(tx, owner_of(run_id), path) if path else None
            for name, owner in self._model_roots(tx, run_id) if found is None else []:
                if path.startswith(name + "/") and found is None:
                    found = store.artifact(tx, owner, path[len(name) + 1 :])
        if found is None:
            raise NotFound(f"{owner_of(run_id)} has no artifact {path!r}.", ref=owner_of(run_id))
        return structs.replace(found, path=path)

    def open_artifact(self, op: Op, run_id: str, path: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes of a file of a run or a logged model, in chunks. Raises NotFound, Invalid, Forbidden."""
        digest = self.artifact(op, run_id, path).digest
        with self._db.read() as tx:
            op.require("artifact.read", on=Ref("experiment", self._owner(tx, op, run_id)))
        return self._blobs.open(digest, start, end)

    def preview(self, op: Op, run_id: str, path: str) -> Preview:
        """A file of a run or a logged model as it can be shown. Raises NotFound, Invalid, Forbidden."""
        found = self.artifact(op, run_id, path)
        with self._db.read() as tx:
            op.require("artifact.read", on=Ref("experiment", self._owner(tx, op, run_id)))
        return preview(
            File(
                path=path, size_bytes=found.size_bytes, digest=found.digest,
                read=lambda start, end: self._blobs.open(found.digest, start, end) if end > start else iter(()),
            )
        )  # fmt: skip

    def _owner(self, tx: Read, op: Op, owner_id: str) -> str:
        """The experiment of a run or a logged model that the caller may read. Raises NotFound."""
        if owner_id.startswith("m-"):
            return self.models.head(tx, op, "run.read", owner_id).experiment_id
        return run_head(tx, op, "run.read", owner_id).experiment_id

    def put_artifact(self, op: Op, run_id: str, path: str, data: Source) -> Artifact:
        """Store a file of a run; one of the same path is replaced. Raises NotFound, Invalid, Forbidden."""
        check_file_path(path)
        with self._db.read() as tx:
            writable(tx, op, run_id, "artifact.write")
        return self._put(op, str(Ref("run", run_id)), path, self._blobs.put(data))

    def _put(self, op: Op, owner: str, path: str, stored: BlobInfo) -> Artifact:
        made = Artifact(path=path, digest=stored.digest, size_bytes=stored.size_bytes, at_ms=op.at_ms)
        crash_here("artifact.stored")
        with self._db.write(op, shared=True) as tx:
            if store.artifacts_below(tx, owner, path, limit=1):
                raise Invalid(f"{path!r} is a folder here.", where="path")
            for folder in parents(path):
                if store.artifact(tx, owner, folder):
                    raise Invalid(f"{folder!r} is a file here, so {path!r} cannot lie below it.", where="path")
            was = store.artifact(tx, owner, path)
            store.put_artifact(tx, owner, made)
            if was and was.digest != made.digest:
                condemn(tx, [(was.digest, was.size_bytes)], op.at_ms)
        return made

    def delete_artifacts(self, op: Op, run_id: str, path: str = "") -> int:
        """Remove a file or a folder of a run; returns how many files went. Raises NotFound, Invalid, Forbidden."""
        check_path(path)
        with self._db.write(op) as tx:
            writable(tx, op, run_id, "artifact.write")
            removed = self._remove_files(tx, str(Ref("run", run_id)), path)
        if not removed and path:
            raise NotFound(f"The run {run_id} has no artifact {path!r}.", ref=Ref("run", run_id))
        return removed

    def files_at(self, op: Op, uri: str) -> list[Artifact]:
        """Every file below what a URI names, by path from there: `runs:/<id>/path`, `models:/m-<id>`, `mlflow-artifacts:/…`.

        This is how the registry reads the source of a version. Raises NotFound, Invalid.
        """
        place = self.place(op, uri)
        with self._db.read() as tx:
            found = self._files(tx, place.run_id or place.model_id, place.path, True)
        cut = len(place.path) + 1 if place.path else 0
        return [structs.replace(a, path=a.path[cut:]) for a in found]

    def place(self, op: Op, uri: str) -> Place:
        """Where a URI of MLflow's points to, checked to exist and to be readable. Raises NotFound, Invalid."""
        kind, ident, experiment_id, path = parse_uri(uri)
        found_in: str | None
        with self._db.read() as tx:
            if kind == "run":
                heads = store.run_heads(tx, [ident], op.workspace)
                found_in = heads[0].experiment_id if heads else None
            elif kind == "trace":
                found_in = trace_store.experiment_of(tx, ident, op.workspace)
            else:
                rows = store.model_rows(tx, [ident])
                found_in = rows[0]["experiment_id"] if rows else None
        may(
            op,
            "run.read",
            found_in if not experiment_id or found_in == experiment_id else None,
            f"There is nothing at {uri[:200]!r}.",
        )
        assert found_in is not None
        return Place(
            owner=str(Ref("logged_model" if kind == "model" else kind, ident)), experiment_id=found_in, path=path,
            run_id=ident if kind == "run" else "", model_id=ident if kind == "model" else "",
        )  # fmt: skip

    def put_at(self, op: Op, place: Place, data: Source) -> Artifact:
        """Store a file at a place. Raises Invalid, NotFound, Forbidden."""
        check_file_path(place.path)
        if place.run_id:
            return self.put_artifact(op, place.run_id, place.path, data)
        with self._db.read() as tx:
            self._may_write(tx, op, place)
        return self._put(op, place.owner, place.path, self._blobs.put(data))

    def list_at(self, op: Op, place: Place) -> list[Artifact]:
        """What lies in the folder at a place. In a file lies nothing: that is how MLflow's clients tell it from a folder."""
        op.require("run.read", on=Ref("experiment", place.experiment_id))
        with self._db.read() as tx:
            return one_level(store.artifacts_below(tx, place.owner, place.path), place.path)

    def open_at(self, op: Op, place: Place, start: int = 0, end: int | None = None) -> tuple[Artifact, Iterator[bytes]]:
        """The file at a place and its bytes. Raises NotFound, Forbidden."""
        op.require("artifact.read", on=Ref("experiment", place.experiment_id))
        with self._db.read() as tx:
            found = store.artifact(tx, place.owner, place.path)
        if found is None:
            raise NotFound(f"There is no file {place.path!r} in {place.owner}.")
        return found, self._blobs.open(found.digest, start, end)

    def delete_at(self, op: Op, place: Place) -> int:
        """Remove the file or folder at a place. Raises NotFound, Forbidden."""
        if place.run_id:
            return self.delete_artifacts(op, place.run_id, place.path)
        with self._db.write(op) as tx:
            self._may_write(tx, op, place)
            return self._remove_files(tx, place.owner, place.path)

    def _remove_files(self, tx: Write, owner: str, path: str) -> int:
        """Remove a file or everything below a folder; bytes that nobody needs then go after the collector's grace time."""
        found = store.artifacts_below(tx, owner, path)
        itself = store.artifact(tx, owner, path) if path else None
        condemn(tx, [(a.digest, a.size_bytes) for a in [*found, *([itself] if itself else [])]], tx.op.at_ms if tx.op else 0)
        return store.remove_artifacts(tx, owner, path)

    def _may_write(self, tx: Read, op: Op, place: Place) -> None:
        if place.model_id:
            self.models.head(tx, op, "artifact.write", place.model_id)
        else:
            op.require("artifact.write", on=Ref("experiment", place.experiment_id))

    def _files(self, tx: Read, owner_id: str, path: str, with_models: bool) -> list[Artifact]:
        """Files below a folder: the owner's, and those of the models a run logged under their names; the run's own win."""
        found = {a.path: a for a in store.artifacts_below(tx, owner_of(owner_id), path)}
        for name, owner in self._model_roots(tx, owner_id) if with_models else []:
            if path and path != name and not path.startswith(name + "/"):
                continue
            for file in store.artifacts_below(tx, owner, path[len(name) + 1 :]):
                full = f"{name}/{file.path}"
                found.setdefault(full, structs.replace(file, path=full))
        return [found[p] for p in sorted(found)]

    def _model_roots(self, tx: Read, run_id: str) -> list[tuple[str, str]]:
        """Name and owner of the logged models of a run, the newest first, so that it wins a shared name."""
        return [(row["name"], str(Ref("logged_model", row["id"]))) for row in reversed(store.models_of_run(tx, run_id))]

    def digests_in_use(self, tx: Read, digests: list[str]) -> set[str]:
        """Those of `digests` that a file of a run or a logged model has; for the collector of unused blobs."""
        return store.digests_in_use(tx, digests)
