"""Models, their versions and aliases.

A version is made once: its files are the artifact files of its source, recorded as (path, size, digest) when it is created,
so that nothing which later happens to the run can change it. What moves is beside it: tags, description, evaluations, and
aliases, each move of which is kept, so that "who was champion on that day" has an answer.
Invariant: every way to move an alias ends in `_move`, behind one permission and one gate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import msgspec

from noria.kernel import edges
from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import AlreadyExists, Forbidden, Invalid, NotFound
from noria.kernel.filters import Comparison, parse_filter, parse_order
from noria.kernel.ids import ModelVersionId, Ref, check_name, new_id, parse_handle
from noria.kernel.op import Op
from noria.kernel.paging import Page, check_limit, decode_token, encode_token
from noria.kernel.preview import File, Preview, preview
from noria.registry import card_store, filters, store
from noria.registry.cards import Cards
from noria.registry.imports import Imports
from noria.registry.mlmodel import describe
from noria.registry.model import (
    FILES_PER_VERSION,
    GATED_STAGES,
    STAGE_TAG,
    Alias,
    AliasMove,
    Changes,
    Evaluation,
    Model,
    ModelFile,
    ModelId,
    ModelPage,
    ModelVersion,
    NewModel,
    VersionPage,
    check_alias,
    check_description,
    check_evaluation,
    check_reason,
    check_tags,
    digest_of,
    is_prompt,
)
from noria.registry.passport import passport
from noria.registry.prompts import check_fixed, template_of
from noria.registry.sources import VERSION_FOLDER, parse_source
from noria.tracking.model import Artifact, Run
from noria.tracking.service import Tracking

Filter = str | list[Comparison]  # as people write it, or read already
VERSIONS_PER_PAGE = 50
VERSIONS_PER_SEARCH = 10_000  # what MLflow's clients ask for unless told otherwise


class Inspector(Protocol):
    """Looks through the files of a version when it is made; governance implements it."""

    def registered(self, version: ModelVersion, files: list[ModelFile]) -> None: ...


class Registry:
    """Models, their versions and aliases."""

    def __init__(self, db: Database, blobs: BlobStore, tracking: Tracking) -> None:
        self._db, self._blobs, self._tracking = db, blobs, tracking
        self.cards = Cards(db, self)
        self.imports = Imports(db, blobs, self)
        self.inspector: Inspector | None = None
        tracking.mounts[VERSION_FOLDER] = self  # the MLflow client downloads a version from there

    # --- models -----------------------------------------------------------------------------------------------------

    def create_model(self, op: Op, new: NewModel) -> Model:
        """Make an empty model. Raises AlreadyExists, Invalid."""
        op.require("model.create", Ref("model", new.name))
        with self._db.write(op) as tx:
            if not self._add_model(tx, op, new):
                raise AlreadyExists(f"There is already a model named {new.name!r}.", hint="Pick another name.")
            return store.model(tx, new.name)

    def _add_model(self, tx: Write, op: Op, new: NewModel) -> bool:
        check_name(new.name, what="model")
        check_description(new.description)
        check_tags(dict(new.tags))
        model_id = ModelId(new_id(op.at_ms))
        if not store.add_model(tx, model_id, new.name, new.description, actor=op.actor.label, at_ms=op.at_ms):
            return False
        store.set_model_tags(tx, model_id, dict(new.tags))
        tx.emit("model.created", Ref("model", new.name), description=new.description, tags=dict(new.tags))
        return True

    def model(self, op: Op, name: str) -> Model:
        """Raises NotFound."""
        op.require("model.read", Ref("model", name))
        with self._db.read() as tx:
            return store.model(tx, name)

    def page(self, op: Op, name: str) -> ModelPage:
        """A model with its newest versions. Raises NotFound."""
        op.require("model.read", Ref("model", name))
        with self._db.read() as tx:
            found = store.model(tx, name)
            return ModelPage(model=found, versions=store.versions_of(tx, found.id, before=None, limit=VERSIONS_PER_PAGE))

    def models(
        self, op: Op, *, filter: Filter = "", order_by: list[str] | None = None, limit: int | None = None, page: str = ""
    ) -> Page[Model]:
        """Models that the caller may see. Raises Invalid for a filter, sort key or token that cannot be read."""
        order = parse_order(order_by or [])
        after = decode_token(page, size=filters.key_size(order, of=Model)) if page else None
        with self._db.read() as tx:
            items, last = store.models(
                tx, _visible(op), where=_where(filter), order=order, after=after, limit=check_limit(limit)
            )
        return Page(items, encode_token(*last) if last else None)

    def change_model(self, op: Op, name: str, changes: Changes) -> Model:
        """Change description and tags. Raises NotFound, Invalid."""
        op.require("model.tag", Ref("model", name))
        check_tags(changes.tags)
        with self._db.write(op) as tx:
            found = store.model(tx, name)
            store.lock_model(tx, found.id, at_ms=op.at_ms)
            if changes.description is not None:
                check_description(changes.description)
                store.describe_model(tx, found.id, changes.description)
            store.set_model_tags(tx, found.id, changes.tags)
            tx.emit(
                "model.updated", found.ref, description=changes.description, tags=changes.tags, prompt=is_prompt(found.tags)
            )
            return store.model(tx, name)

    def rename_model(self, op: Op, name: str, new_name: str) -> Model:
        """Give a model another name. Raises AlreadyExists, and Conflict while an alias relies on the old one."""
        op.require("model.delete", Ref("model", name))
        op.require("model.create", Ref("model", new_name))
        check_name(new_name, what="model")
        with self._db.write(op) as tx:
            found = store.model(tx, name)
            if new_name == name:
                return found
            if store.find_model(tx, new_name):
                raise AlreadyExists(f"There is already a model named {new_name!r}.", hint="Pick another name.")
            self._require_unused(tx, found)
            store.lock_model(tx, found.id, at_ms=op.at_ms)
            store.rename_model(tx, found.id, new_name)
            tx.emit("model.renamed", Ref("model", new_name), was=name)
            return store.model(tx, new_name)

    def delete_model(self, op: Op, name: str) -> None:
        """Remove a model with its versions. Raises NotFound, and Conflict while anything relies on one of them."""
        op.require("model.delete", Ref("model", name))
        with self._db.write(op) as tx:
            # The model's row first, then a version's, then what hangs on it: writers in other orders deadlock on PostgreSQL.
            store.lock_model(tx, store.model(tx, name).id, at_ms=op.at_ms)
            found = store.model(tx, name)  # another writer may have removed it while we waited
            versions = self._require_unused(tx, found)
            for version in versions:
                store.remove_version(tx, version.id)
                card_store.remove(tx, version.id)
            store.remove_model(tx, found.id)
            tx.emit("model.deleted", found.ref, versions=len(versions))

    def _require_unused(self, tx: Write, model: Model) -> list[ModelVersion]:
        """All versions of a model, none of them protected; raises Conflict."""
        edges.require_unprotected(tx, model.ref)
        versions: list[ModelVersion] = []
        before: int | None = None
        while batch := store.versions_of(tx, model.id, before=before, limit=VERSIONS_PER_PAGE):
            versions += batch
            before = batch[-1].number
        for version in versions:
            edges.require_unprotected(tx, version.ref)
        return versions

    # --- versions ---------------------------------------------------------------------------------------------------

    def create_version(
        self,
        op: Op,
        model: str,
        *,
        source: str,
        run_id: str = "",
        tags: dict[str, str] | None = None,
        description: str = "",
        run_link: str = "",
        create_model: bool = True,
    ) -> ModelVersion:
        """Register the files at `source` as the next version of `model` (made on the way if `create_model`).

        Raises Invalid for a source that is not on this server, holds no files or cannot be read; NotFound.
        """
        ref = Ref("model", model)
        op.require("model.create", ref)
        check_name(model, what="model")
        check_description(description)
        check_tags(dict(tags or {}))
        if is_prompt(tags or {}):
            files, run_id, logged_model = template_of(tags or {}, source, self._blobs), "", ""
        else:
            files, run_id, logged_model = self.collect(op, source, run_id)
        described = describe(files, lambda file: self._blobs.get(file.digest))
        with self._db.write(op) as tx:
            model_id = store.find_model(tx, model)
            if model_id is None and create_model:
                self._add_model(tx, op, NewModel(name=model))
                model_id = store.find_model(tx, model)
            if model_id is None:
                raise NotFound(f"There is no model named {model!r}.", ref=ref, hint="Create it first.")
            made = ModelVersion(
                id=ModelVersionId(new_id(op.at_ms)), model=model, number=store.next_number(tx, model_id, at_ms=op.at_ms),
                run_id=run_id, source=source, digest=digest_of(files), size_bytes=sum(f.size_bytes for f in files),
                files_count=len(files), flavors=described.flavors, signature=described.signature,
                input_example=described.input_example, environment_digest=described.environment_digest,
                packages=described.packages, logged_model=logged_model, run_link=run_link, created_at_ms=op.at_ms,
                updated_at_ms=op.at_ms, actor=op.actor.label, status="READY", description=description, tags=tags or {},
            )  # fmt: skip
            store.add_version(tx, model_id, made, files)
            self.link(tx, made)
            self._gate_stage(tx, op, msgspec.structs.replace(made, tags={}), made.tags)
            tx.emit(
                "model_version.created", made.ref, model=model, number=made.number, run_id=run_id, digest=made.digest,
                source=source, description=description, tags=dict(made.tags),
            )  # fmt: skip
            made = store.version(tx, model, made.number)
        self.inspect(made, files)
        return made

    def inspect(self, version: ModelVersion, files: list[ModelFile]) -> None:
        """Have the files of a new version looked through."""
        if self.inspector is not None:
            self.inspector.registered(version, files)

    def link(self, tx: Write, made: ModelVersion) -> None:
        """Where a version comes from: the run that built it, and the data that run read."""
        if not made.run_id:
            return
        tx.link(made.ref, "built_by", Ref("run", made.run_id), protects=True)
        for dataset_version in store.read_by_run(tx, made.run_id):
            tx.link(made.ref, "trained_on", Ref.parse(dataset_version), protects=True)

    def collect(self, op: Op, text: str, run_id: str) -> tuple[list[ModelFile], str, str]:
        """The files a source names, the run they come from, and the logged model's id."""
        source = parse_source(text)
        if source.kind == "version":
            origin = self.version(op, source.id if "@" in source.id else f"model_version:{source.id}")
            if is_prompt(origin.tags):
                raise Invalid(f"{origin.label} is a prompt, not a model.", where="source")
            return self.files(op, origin), run_id or origin.run_id, origin.logged_model
        if source.kind == "logged_model":
            logged = self._tracking.models.get(op, source.id)
            return self._artifacts(op, text), run_id or logged.source_run_id, source.id
        self._tracking.run(op, source.id)  # NotFound, before its files are looked for
        if run_id and run_id != source.id:
            raise Invalid(f"The source belongs to run {source.id}, not to {run_id[:64]!r}.", where="run_id")
        return self._artifacts(op, text), source.id, ""

    def _artifacts(self, op: Op, source: str) -> list[ModelFile]:
        """The files below a source, their paths relative to it. Raises Invalid when there are none, or too many."""
        found = self._tracking.files_at(op, source)
        if not found:
            raise Invalid("There are no files at the source.", where="source", hint="Log the model first, then register it.")
        if len(found) > FILES_PER_VERSION:
            raise Invalid(f"There are more than {FILES_PER_VERSION} files; a model has fewer.", where="source")
        return [ModelFile(path=f.path, size_bytes=f.size_bytes, digest=f.digest) for f in found]

    def version(self, op: Op, handle: str) -> ModelVersion:
        """The version that `flights@3`, `@champion`, `@latest` or `model_version:<id>` names. Raises NotFound, Invalid."""
        if handle.startswith("model_version:"):
            return self._by_id(op, handle.removeprefix("model_version:"))
        parsed = parse_handle(handle, kind="model")
        op.require("model.read", Ref("model", parsed.name))
        if not parsed.selector:
            raise Invalid(
                f"{handle!r} names a model, but a version of it is needed here.",
                hint=f"Write {parsed.name}@champion, {parsed.name}@latest or {parsed.name}@3.",
            )
        with self._db.read() as tx:
            return self._select(tx, parsed.name, parsed.selector)

    def _select(self, tx: Read, model: str, selector: str) -> ModelVersion:
        if selector.isascii() and selector.isdigit() and len(selector) <= 9:
            return store.version(tx, model, int(selector))
        if len(selector) == 32 and (found := store.version_by_id(tx, selector)) and found.model == model:
            return found
        number = store.latest_number(tx, model) if selector == "latest" else store.alias_number(tx, model, selector)
        if number is None:
            store.model(tx, model)  # NotFound for the model comes first
            what = "has no version yet" if selector == "latest" else f"has no alias {selector!r}"
            raise NotFound(f"The model {model!r} {what}.", ref=Ref("model", model))
        return store.version(tx, model, number)

    def _by_id(self, op: Op, version_id: str) -> ModelVersion:
        if op.visible("model.read") == []:
            op.require("model.read")
        with self._db.read() as tx:
            found = store.version_by_id(tx, version_id)
        if found is None or not op.can("model.read", Ref("model", found.model)):
            raise NotFound(f"There is no model version {version_id[:40]!r}.", ref=Ref("model_version", version_id))
        return found

    def versions(self, op: Op, model: str, *, limit: int | None = None, page: str = "") -> Page[ModelVersion]:
        """Versions of a model, newest first. Raises NotFound."""
        op.require("model.read", Ref("model", model))
        before = decode_token(page, size=1)[0] if page else None
        if before is not None and not isinstance(before, int):
            raise Invalid("The page token belongs to another list.", where="page", hint="Start again without it.")
        limit = check_limit(limit)
        with self._db.read() as tx:
            found = store.versions_of(tx, store.model(tx, model).id, before=before, limit=limit + 1)
        return Page(found[:limit], encode_token(found[limit - 1].number) if len(found) > limit else None)

    def search_versions(
        self, op: Op, *, filter: Filter = "", order_by: list[str] | None = None, limit: int | None = None, page: str = "",
        is_brief: bool = False,
    ) -> Page[ModelVersion]:  # fmt: skip
        """Versions of any model that the caller may see; in brief, without flavours and the like. Raises Invalid."""
        order = parse_order(order_by or [])
        after = decode_token(page, size=filters.key_size(order, of=ModelVersion)) if page else None
        with self._db.read() as tx:
            items, last = store.versions(
                tx, _visible(op), where=_where(filter), order=order, after=after,
                limit=check_limit(limit, most=VERSIONS_PER_SEARCH), is_brief=is_brief,
            )  # fmt: skip
        return Page(items, encode_token(*last) if last else None)

    def newest_by_tag(self, op: Op, models: list[str], tag: str) -> dict[str, list[ModelVersion]]:
        """Of each model, the newest version per value of `tag` (absent counts as a value): what MLflow calls the latest."""
        with self._db.read() as tx:
            found: dict[str, list[ModelVersion]] = {}
            for version in store.newest_by_tag(tx, [m for m in models if op.can("model.read", Ref("model", m))], tag):
                found.setdefault(version.model, []).append(version)
            return found

    def version_page(self, op: Op, model: str, selector: str) -> VersionPage:
        """A version with its files, the aliases it had, and what it is related to. Raises NotFound."""
        op.require("model.read", Ref("model", model))
        with self._db.read() as tx:
            found = self._select(tx, model, selector)
            model_id = store.model(tx, model).id
            return VersionPage(
                version=found,
                files=store.files(tx, found.id),
                moves=[m for m in store.moves(tx, model_id) if found.number in (m.version, m.was)],
                edges=store.edges_of(tx, found.id),
            )

    def files(self, op: Op, version: ModelVersion | str) -> list[ModelFile]:
        """The files of a version, by path. Raises NotFound."""
        found = self.version(op, version) if isinstance(version, str) else version
        op.require("model.read", Ref("model", found.model))
        with self._db.read() as tx:
            return store.files(tx, found.id)

    def open_file(self, op: Op, version: ModelVersion | str, path: str) -> tuple[ModelFile, Iterator[bytes]]:
        """One file of a version, as its row and its bytes in chunks. Raises NotFound."""
        found = self.version(op, version) if isinstance(version, str) else version
        op.require("artifact.read", Ref("model", found.model))
        for file in self.files(op, found):
            if file.path == path:
                return file, self._blobs.open(file.digest)
        raise NotFound(f"{found.label} has no file {path[:200]!r}.", ref=found.ref)

    def preview(self, op: Op, version: str, path: str) -> Preview:
        """A file of a version as it can be shown safely. Raises NotFound, Forbidden."""
        file, _ = self.open_file(op, version, path)
        return preview(
            File(
                path=path, size_bytes=file.size_bytes, digest=file.digest,
                read=lambda start, end: self._blobs.open(file.digest, start, end) if end > start else iter(()),
            )
        )  # fmt: skip

    def list_files(self, op: Op, path: str) -> list[Artifact]:
        """What lies in `<version id>/<folder>`; nothing in a file. For MLflow's artifact proxy. Raises NotFound."""
        version_id, _, folder = path.strip("/").partition("/")
        prefix = f"{folder}/" if folder else ""
        found: dict[str, Artifact] = {}
        for file in self.files(op, f"model_version:{version_id}"):
            if file.path.startswith(prefix):
                name, is_folder, _ = file.path[len(prefix) :].partition("/")
                size = 0 if is_folder else file.size_bytes
                found[name] = Artifact(path=prefix + name, is_dir=bool(is_folder), size_bytes=size)
        return [found[name] for name in sorted(found)]

    def open_path(self, op: Op, path: str) -> tuple[Artifact, Iterator[bytes]]:
        """The file at `<version id>/<path>`, and its bytes. For MLflow's artifact proxy. Raises NotFound, Forbidden."""
        version_id, _, below = path.partition("/")
        file, chunks = self.open_file(op, f"model_version:{version_id}", below)
        return Artifact(path=file.path, size_bytes=file.size_bytes, digest=file.digest), chunks

    def change_version(self, op: Op, model: str, number: int, changes: Changes) -> ModelVersion:
        """Change description and tags; the content cannot be. Raises NotFound, Invalid."""
        op.require("model.tag", Ref("model", model))
        check_tags(changes.tags)
        with self._db.write(op) as tx:
            found = store.version(tx, model, number)
            check_fixed(found.tags, changes.tags)
            self._gate_stage(tx, op, found, changes.tags)
            store.touch_version(tx, found.id, at_ms=op.at_ms)
            if changes.description is not None:
                check_description(changes.description)
                store.describe_version(tx, found.id, changes.description)
            store.set_version_tags(tx, found.id, changes.tags)
            tx.emit(
                "model_version.updated", found.ref, model=model, number=number, description=changes.description,
                tags=changes.tags, prompt=is_prompt(found.tags),
            )  # fmt: skip
            return store.version(tx, model, number)

    def delete_version(self, op: Op, model: str, number: int) -> None:
        """Remove a version. Raises NotFound, and Conflict while an alias or an endpoint needs it."""
        op.require("model.delete", Ref("model", model))
        with self._db.write(op) as tx:
            found = store.version(tx, model, number)
            edges.require_unprotected(tx, found.ref)
            store.remove_version(tx, found.id)
            card_store.remove(tx, found.id)
            tx.emit("model_version.deleted", found.ref, model=model, number=number)

    def digests_in_use(self, tx: Read, digests: list[str]) -> set[str]:
        """Those of `digests` that some version needs; the collector of unused blobs asks this before it removes one."""
        return store.digests_in_use(tx, digests)

    # --- evaluations ------------------------------------------------------------------------------------------------

    def set_evaluation(self, op: Op, version: str | Ref | ModelVersion, evaluation: Evaluation) -> ModelVersion:
        """Record the numbers of a version on a split of a dataset version; the latest counts, none is lost.

        Raises NotFound; Invalid for a metric that is not a finite number.
        """
        found = self._resolve(op, version)
        op.require("model.evaluate", Ref("model", found.model))
        evaluation = msgspec.structs.replace(
            evaluation,
            dataset_version=evaluation.dataset_version.removeprefix("dataset_version:"),
            at_ms=evaluation.at_ms or op.at_ms,
            actor=op.actor.label,
        )
        check_evaluation(evaluation)
        with self._db.write(op) as tx:
            store.touch_version(tx, found.id, at_ms=op.at_ms)
            store.add_evaluation(tx, found.id, evaluation)
            tx.link(found.ref, "evaluated_on", Ref("dataset_version", evaluation.dataset_version), protects=True)
            tx.emit(
                "model_version.evaluated", found.ref, model=found.model, number=found.number,
                dataset_version=evaluation.dataset_version, split=evaluation.split,
            )  # fmt: skip
            return store.version(tx, found.model, found.number)

    # --- aliases ----------------------------------------------------------------------------------------------------

    def promote(
        self, op: Op, version: str | Ref | ModelVersion, alias: str, expect: int | None = None, *, reason: str = ""
    ) -> Alias:
        """Point `alias` at `version`; `reason` is kept with the move.

        `expect` is the alias generation the caller last saw, 0 for "it names nothing"; None means "whatever it is now".
        Raises NotFound, Conflict (the alias moved), Forbidden (role or policy; reasons listed).
        """
        found = self._resolve(op, version)
        op.require("model.promote", Ref("model", found.model))
        check_alias(alias)
        now = self._move(op, found, alias, expect, reason=check_reason(reason))
        assert now is not None
        return now

    def remove_alias(self, op: Op, model: str, alias: str, expect: int | None = None, *, reason: str = "") -> None:
        """Let `alias` name nothing. Raises NotFound, Conflict, Forbidden."""
        op.require("model.promote", Ref("model", model))
        with self._db.read() as tx:
            store.model(tx, model)
            number = store.alias_number(tx, model, alias)
            if number is None:
                raise NotFound(f"The model {model!r} has no alias {alias[:80]!r}.", ref=Ref("model", model))
            found = store.version(tx, model, number)
        self._move(op, found, alias, expect, remove=True, reason=check_reason(reason))

    def _move(
        self, op: Op, version: ModelVersion, alias: str, expect: int | None, *, remove: bool = False, reason: str = ""
    ) -> Alias | None:
        with self._db.write(op) as tx:
            model = store.model(tx, version.model)
            store.lock_model(tx, model.id, at_ms=op.at_ms)
            version = store.version(tx, version.model, version.number)  # as it is now that the row is ours
            verdicts = op.gate("model.promote", version.ref, self._evidence(tx, op, version, alias, removes=remove))
            was, now, generation = store.move_alias(
                tx, model.id, model.name, alias, None if remove else version.number, expect, actor=op.actor.label,
                verdicts=[msgspec.to_builtins(v) for v in verdicts], at_ms=op.at_ms, reason=reason,
            )  # fmt: skip
            name = Ref("alias", f"{model.name}@{alias}")
            if was is not None:
                tx.run("delete from edge where src = :src and kind = 'names'", src=str(name))
            if now is None:
                tx.emit(
                    "model_version.demoted", version.ref, model=model.name, number=version.number, alias=alias,
                    generation=generation, reason=reason, prompt=is_prompt(version.tags),
                )  # fmt: skip
            else:
                tx.link(name, "names", version.ref, protects=True)
                tx.emit(
                    "model_version.promoted", version.ref, model=model.name, number=version.number, alias=alias, was=was,
                    generation=generation, reason=reason, prompt=is_prompt(version.tags),
                )  # fmt: skip
            return now

    def _gate_stage(self, tx: Read, op: Op, version: ModelVersion, tags: Mapping[str, str | None]) -> None:
        """A stage of MLflow is a tag, and says which version is used: policy is asked, whichever way the tag is set, except by import."""
        stage = tags.get(STAGE_TAG)
        if stage in GATED_STAGES and version.tags.get(STAGE_TAG) != stage:
            op.gate("model.promote", version.ref, self._evidence(tx, op, version, stage))

    def _evidence(self, tx: Read, op: Op, version: ModelVersion, alias: str, *, removes: bool = False) -> dict[str, Any]:
        """What a policy sees of a promotion, read in the transaction that promotes. See governance/policies.py."""
        current = store.alias_number(tx, version.model, alias)
        champion = store.version(tx, version.model, current) if current is not None else None
        ours, theirs = same_holdout(version, champion) if champion else (version.evaluations[:1], [])
        return {
            "model": version.model,
            "version": version.number,
            "digest": version.digest,
            "author": version.actor,
            "alias": alias,
            "removes": removes,
            "evaluation": msgspec.to_builtins(ours[0]) if ours else None,
            "champion": champion.number if champion else None,
            "champion_evaluation": msgspec.to_builtins(theirs[0]) if theirs else ({} if champion else None),
            "run_id": version.run_id,
            "flavors": sorted(version.flavors),
            "has_signature": version.signature is not None,
            "environment_digest": version.environment_digest,
            "tags": version.tags,
            "trained_on": store.trained_on(tx, version.id),
            "requested_by": op.actor.label,
        }

    def evidence(self, op: Op, version: str | Ref | ModelVersion, alias: str) -> dict[str, Any]:
        """What a policy would see if `alias` were pointed at `version` now; for approvals and dry runs."""
        found = self._resolve(op, version)
        with self._db.read() as tx:
            return self._evidence(tx, op, found, alias)

    def timeline(self, op: Op, model: str, at_ms: int | None = None) -> list[AliasMove]:
        """Every move of every alias, newest first; with `at_ms`, what each alias named at that time. Raises NotFound."""
        op.require("model.read", Ref("model", model))
        with self._db.read() as tx:
            moves = store.moves(tx, store.model(tx, model).id, upto_ms=at_ms)
        if at_ms is None:
            return moves
        return [m for m in moves if m.version is not None and (m.until_ms is None or m.until_ms > at_ms)]

    def _resolve(self, op: Op, version: str | Ref | ModelVersion) -> ModelVersion:
        if isinstance(version, ModelVersion):
            return version
        return self._by_id(op, version.id) if isinstance(version, Ref) else self.version(op, version)

    # --- provenance -------------------------------------------------------------------------------------------------

    def passport_of_version(self, op: Op, version: str | Ref | ModelVersion) -> dict[str, Any]:
        """Where a version comes from, as one document: run, code, data, environment, evaluations, who and when."""
        found = self._resolve(op, version)
        op.require("model.read", Ref("model", found.model))
        run, experiment = self._run_of(op, found)
        with self._db.read() as tx:
            return passport(tx, found, run, experiment)

    def _run_of(self, op: Op, version: ModelVersion) -> tuple[Run | None, str]:
        """The run that built a version and its experiment's name; None when it is gone, or the caller may not see it."""
        try:
            run = self._tracking.run(op, version.run_id) if version.run_id else None
            return run, self._tracking.experiment(op, run.experiment_id).name if run else ""
        except (NotFound, Forbidden):
            return None, ""


def _where(filter: Filter) -> list[Comparison]:
    return parse_filter(filter) if isinstance(filter, str) else filter


def _visible(op: Op) -> store.Scope:
    """The models the caller may see. Raises Forbidden or Unauthenticated for a caller who may see none at all."""
    scopes = op.visible("model.read")
    if scopes is None:
        return store.Scope(None)
    names = [s.removeprefix("model:") for s in scopes if s.startswith("model:")]
    if not names:
        op.require("model.read")
    return store.Scope(names)


def same_holdout(version: ModelVersion, champion: ModelVersion) -> tuple[list[Evaluation], list[Evaluation]]:
    """The latest evaluation of `version` on data that `champion` was evaluated on too, and the champion's.

    Without common data, the latest of each, which a policy can tell by their dataset versions.
    """
    theirs = {(e.dataset_version, e.split): e for e in champion.evaluations}
    for evaluation in version.evaluations:
        if same := theirs.get((evaluation.dataset_version, evaluation.split)):
            return [evaluation], [same]
    return version.evaluations[:1], champion.evaluations[:1]
