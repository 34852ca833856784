"""Versions of data: commit, read, name, compare, check.

Bytes come first: a client stores blobs, then commits a manifest that names them. Everything is checked before the
transaction, which only takes a number, so it is short. Writers of one dataset take turns on its row; a commit that names the
parent it started from is refused when somebody else was faster.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

import msgspec

from noria.datasets import in_use, manifest, profiles, store, tables
from noria.datasets.comparison import Comparison
from noria.datasets.contents import LAYOUT, Contents
from noria.datasets.manifest import Manifest
from noria.datasets.model import (
    DIGESTS_PER_QUESTION,
    MESSAGE_LENGTH_MAX,
    Alias,
    AliasMove,
    Column,
    Committed,
    Damage,
    Dataset,
    DatasetVersion,
    Diff,
    FileEntry,
    Missing,
    NewVersion,
    Profile,
    Sample,
    Stored,
    Verified,
    VersionFile,
    table_format,
)
from noria.datasets.profiles import Profiles, merge_schemas
from noria.kernel.blobs import BlobStore, check_digest
from noria.kernel.db import Database, Read, Write
from noria.kernel.edges import require_unprotected
from noria.kernel.errors import Conflict, Invalid, NotFound, TooMuch, Unavailable
from noria.kernel.ids import DatasetVersionId, Ref, check_name, new_id, parse_handle
from noria.kernel.jobs import JobContext, Jobs
from noria.kernel.op import Op
from noria.kernel.paging import Page, check_limit, decode_token, encode_token
from noria.kernel.ticks import Ticks

PROFILE_JOB = "dataset.profile"
SAMPLE_ROWS_MAX = 200
FILES_PER_PAGE_MAX = 10_000
VERIFY_BYTES = 256 << 20  # read per request, so that a request ends; the caller goes on where it stopped
RESERVED_NAMES = frozenset({"blobs"})  # /datasets/blobs/missing is a route of its own
_NUMBER = re.compile(r"^v?([1-9][0-9]{0,17})\Z")
_ID = re.compile(r"^[0-9a-f]{32}\Z")
_ALIAS = re.compile(r"^[A-Za-z_][A-Za-z0-9_.\-]{0,99}\Z")
_ENTRIES = msgspec.json.Decoder(list[FileEntry])


class Datasets:
    """Versions of data."""

    def __init__(self, db: Database, blobs: BlobStore, ticks: Ticks) -> None:
        self._db, self._blobs, self._ticks = db, blobs, ticks
        self._contents = Contents(db, blobs)
        self._profiles = Profiles(db, self._contents)
        self._comparison = Comparison(self._contents, self._profiles)
        self._manifest = lru_cache(maxsize=32)(self._read_manifest)

    def digests_in_use(self, tx: Read, digests: list[str]) -> set[str]:
        """Those of `digests` that some version needs; for the collector of unused blobs."""
        return in_use.digests_in_use(tx, self._blobs, digests)

    # --- looking --------------------------------------------------------------------------------------------------------

    def datasets(self, op: Op, *, limit: int | None = None, page: str = "") -> Page[Dataset]:
        """The datasets the actor may read, by name."""
        scopes = op.visible("dataset.read")
        names = None if scopes is None else [s.removeprefix("dataset:") for s in scopes if s.startswith("dataset:")]
        size = check_limit(limit)
        after = str(decode_token(page, size=1)[0]) if page else ""
        with self._db.read() as tx:
            found = store.datasets(tx, op.workspace, names=names, after=after, limit=size)
        return Page(found, encode_token(found[-1].name) if len(found) == size else None)

    def dataset(self, op: Op, name: str) -> Dataset:
        """Raises NotFound."""
        op.require("dataset.read", on=Ref("dataset", name))
        with self._db.read() as tx:
            return self._dataset(tx, op, name)

    def versions(self, op: Op, name: str, *, limit: int | None = None, page: str = "") -> Page[DatasetVersion]:
        """The history of a dataset, newest first."""
        op.require("dataset.read", on=Ref("dataset", name))
        size = check_limit(limit)
        before = int(decode_token(page, size=1)[0]) if page else None
        with self._db.read() as tx:
            found = store.versions(tx, self._dataset(tx, op, name).id, before=before, limit=size)
        return Page(found, encode_token(found[-1].number) if len(found) == size else None)

    def version(self, op: Op, handle: str) -> DatasetVersion:
        """The version that `flights`, `flights@latest`, `@3`, `@v3`, `@alias` or `@<id>` names; also `dataset_version:<id>`.

        Raises NotFound.
        """
        if handle.startswith("dataset_version:"):
            return self._version_by_id(op, handle.removeprefix("dataset_version:"))
        wanted = parse_handle(handle, kind="dataset")
        op.require("dataset.read", on=Ref("dataset", wanted.name))
        with self._db.read() as tx:
            return self._select(tx, op, wanted.name, wanted.selector)

    def _version_by_id(self, op: Op, version_id: str) -> DatasetVersion:
        with self._db.read() as tx:
            found = store.version(tx, op.workspace, version_id)
        if found is None or not op.can("dataset.read", on=Ref("dataset", found.dataset)):
            raise NotFound(f"There is no dataset version {version_id}.", ref=Ref("dataset_version", version_id))
        return found

    def _dataset(self, tx: Read, op: Op, name: str) -> Dataset:
        found = store.dataset(tx, op.workspace, name)
        if found is None:
            raise NotFound(
                f"There is no dataset {name!r}.",
                ref=Ref("dataset", name),
                hint=f"Make it with: noria data commit {name} PATH -m MESSAGE.",
            )
        return found

    def _select(self, tx: Read, op: Op, name: str, selector: str) -> DatasetVersion:
        dataset = self._dataset(tx, op, name)
        if selector in ("", "latest"):
            found = store.version(tx, op.workspace, dataset.latest_id)
        elif number := _NUMBER.match(selector):
            found = store.version_by_number(tx, dataset.id, int(number[1]))
        elif _ID.match(selector):
            found = store.version(tx, op.workspace, selector)
        else:
            found = store.version_by_alias(tx, dataset.id, selector)
        if found is None or found.dataset != name:
            known = ", ".join(a.name for a in dataset.aliases) or "none"
            latest = f"the latest is {dataset.latest}" if dataset.latest else "every version was deleted"
            raise NotFound(
                f"The dataset {name!r} has no version {selector or 'latest'!r}.",
                where="selector",
                hint=f"Use a number ({latest}), an alias ({known}), or latest.",
            )
        return found

    # --- reading --------------------------------------------------------------------------------------------------------

    def manifest(self, op: Op, version: DatasetVersion | str) -> Manifest:
        """Every file of a version, by path."""
        return self._manifest(self._resolve(op, version).root_digest)

    def files(
        self, op: Op, version: DatasetVersion | str, *, prefix: str = "", limit: int | None = None, page: str = ""
    ) -> Page[VersionFile]:
        """The files of a version whose path begins with `prefix`, by path."""
        size = check_limit(limit, default=1000, most=FILES_PER_PAGE_MAX)
        after = str(decode_token(page, size=1)[0]).encode() if page else b""
        wanted = (f for path, f in self.manifest(op, version).items() if path.startswith(prefix) and path.encode() > after)
        found = [f for _, f in zip(range(size), wanted, strict=False)]
        return Page(found, encode_token(found[-1].path) if len(found) == size else None)

    def file(self, op: Op, version: DatasetVersion | str, path: str) -> VersionFile:
        """One file of a version. Raises NotFound."""
        resolved = self._resolve(op, version)
        found = self._manifest(resolved.root_digest).get(path)
        if found is None:
            raise NotFound(f"{_label(resolved)} has no file {path!r}.", where="path")
        return found

    def open(
        self, op: Op, version: DatasetVersion | str, path: str, start: int = 0, end: int | None = None
    ) -> Iterator[bytes]:
        """The bytes of a file from `start` to `end` (exclusive), checked against their digests. Raises NotFound, Invalid."""
        resolved = self._resolve(op, version)
        op.require("blob.read", on=Ref("dataset", resolved.dataset))
        return self._contents.open(self.file(op, resolved, path), start, end)

    def verify(self, op: Op, version: DatasetVersion | str, *, after: str = "") -> Verified:
        """Read files again, from the one after `after`, and compare them with their digests; stops after some bytes."""
        resolved = self._resolve(op, version)
        count, size, damaged, last = 0, 0, list[Damage](), ""
        for path, file in self._manifest(resolved.root_digest).items():
            if path.encode() <= after.encode():
                continue
            if size >= VERIFY_BYTES:
                return Verified(files_count=count, size_bytes=size, damaged=damaged, next=last)
            count, size, last = count + 1, size + file.size_bytes, path
            if problem := self._contents.damage(file):
                damaged.append(problem)
        return Verified(files_count=count, size_bytes=size, damaged=damaged)

    def _resolve(self, op: Op, version: DatasetVersion | str) -> DatasetVersion:
        if isinstance(version, str):
            return self.version(op, version)
        op.require("dataset.read", on=Ref("dataset", version.dataset))
        return version

    def _read_manifest(self, root_digest: str) -> Manifest:
        try:
            return manifest.decode(self._blobs.get(root_digest))
        except NotFound as cause:
            raise Unavailable(
                f"The list of files {root_digest[:12]} is missing.", hint="Restore it from a backup; noria doctor says more."
            ) from cause

    def sample(self, op: Op, version: DatasetVersion | str, path: str = "", *, limit: int | None = None) -> Sample:
        """The first rows of a table or lines of a text; without `path`, of the first table, else of the first file."""
        resolved = self._resolve(op, version)
        op.require("blob.read", on=Ref("dataset", resolved.dataset))
        size = check_limit(limit, default=20, most=SAMPLE_ROWS_MAX)
        files = self._manifest(resolved.root_digest)
        path = path or next((p for p in files if table_format(p)), next(iter(files)))
        file = self.file(op, resolved, path)
        with self._contents.file(file) as opened:
            return tables.sample(opened, path, file.size_bytes, size)

    # --- tables ---------------------------------------------------------------------------------------------------------

    def profile(self, op: Op, version: DatasetVersion | str) -> Profile:
        """What is in the version's tables. Small ones are read when first asked for; bigger ones are `pending` meanwhile."""
        resolved = self._resolve(op, version)
        found = self._profiles.of(self._manifest(resolved.root_digest).values(), now_bytes=profiles.NOW_BYTES)
        if not op.can("blob.read", on=Ref("dataset", resolved.dataset)):
            found = [profiles.without_values(t) for t in found]  # an auditor sees what data is like, not what it says
        is_pending = any(t.state == "pending" for t in found)
        return Profile(
            version=resolved.id, dataset=resolved.dataset, number=resolved.number,
            state="pending" if is_pending else "ready", tables=found,
        )  # fmt: skip

    def run_profile(self, job: JobContext) -> None:
        """The job of every commit: profile each table whose bytes were not seen before. Safe to run twice."""
        try:
            resolved = self._version_by_id(job.op, str(job.args["version"]))
        except NotFound:
            return  # deleted meanwhile
        found = self._profiles.of(self._manifest(resolved.root_digest).values(), now_bytes=None)
        ready = [t for t in found if t.state == "ready"]
        if ready:
            rows = sum(t.rows_count or 0 for t in ready)
            columns = [[Column(name=c.name, type=c.type) for c in t.columns] for t in ready]
            with self._db.system_write() as tx:
                store.set_tables(tx, resolved.id, rows, merge_schemas(columns))
        self._ticks.tick(_ref(resolved), {"profile": "ready", "tables": len(found)})

    def diff(
        self, op: Op, a: DatasetVersion | str, b: DatasetVersion | str, rows: bool = False, *,
        key: Sequence[str] = (), path: str = "", limit: int | None = None,
    ) -> Diff:  # fmt: skip
        """What leads from `a` to `b`: files, and for changed tables their columns and, with `rows`, their rows.

        `key`: the columns that name a row; without, whole rows are compared. `path` narrows the tables to one. Raises
        Invalid (a key that is missing, null or not unique), NotFound, TooMuch (tables too large to compare here).
        """
        before, after = self._resolve(op, a), self._resolve(op, b)
        if rows:
            for version in (before, after):
                op.require("blob.read", on=Ref("dataset", version.dataset))
        size = check_limit(limit, default=20, most=SAMPLE_ROWS_MAX)
        old, new = self._manifest(before.root_digest), self._manifest(after.root_digest)
        return self._comparison.diff(before, after, old, new, rows=rows, key=key, path=path, limit=size)

    # --- committing -----------------------------------------------------------------------------------------------------

    def missing(self, op: Op, digests: list[str]) -> Missing:
        """Which of these blobs are not stored yet."""
        op.require("blob.write")
        if len(digests) > DIGESTS_PER_QUESTION:
            raise TooMuch(f"At most {DIGESTS_PER_QUESTION:,} digests can be asked for at once.", hint="Ask in parts.")
        return Missing(missing=self._contents.missing(digests))

    def store_pack(self, op: Op, pack: bytes) -> Stored:
        """Store the blobs of a pack: each is four bytes of length, big-endian, and then as many bytes. Raises Invalid."""
        op.require("blob.write")
        digests, at = list[str](), 0
        while at < len(pack):
            size, start = int.from_bytes(pack[at : at + 4], "big"), at + 4
            at = start + size
            if at > len(pack):
                raise Invalid("The pack ends in the middle of a blob.", hint="Send it again.")
            digests.append(self._blobs.put(pack[start:at]).digest)
        return Stored(digests=digests)

    def commit(
        self,
        op: Op,
        name: str,
        files: list[FileEntry],
        *,
        message: str = "",
        alias: str = "",
        parent: str | None = None,
    ) -> DatasetVersion:
        """Make the next version of `name` from files whose bytes are stored; see `receive` for the errors.

        The same content as the latest version gives that version back.
        """
        start = None if parent is None else DatasetVersionId(parent)
        return self.receive(op, name, NewVersion(files=files, message=message, alias=alias, parent=start)).version

    def receive(self, op: Op, name: str, new: NewVersion) -> Committed:
        """Commit, and say whether a new version came of it.

        Raises Invalid (a bad name, path, digest or size; bytes that are missing or not what their digest says), Conflict
        (`new.parent` is not the latest version any more).
        """
        op.require("dataset.commit", on=Ref("dataset", name))
        _check_dataset_name(name)
        if new.alias:
            op.require("dataset.alias", on=Ref("dataset", name))
            _check_alias(new.alias)
        if len(new.message) > MESSAGE_LENGTH_MAX:
            raise Invalid(f"The message has more than {MESSAGE_LENGTH_MAX:,} characters.", where="message")
        entries = self._entries(new)
        files = manifest.check_files(entries)
        root = manifest.encode(files)
        same = self._same_as_latest(op, name, files)
        recipes = [] if same else self._contents.check(entries)
        root_digest = self._blobs.put(root).digest
        if recipes:  # true of the bytes whether or not the commit goes on, and reading their footers needs it
            with self._db.system_write() as tx:
                store.add_contents(tx, recipes, layout=LAYOUT)
        read = profiles.Footers() if same else self._profiles.footers(files.values())
        with self._db.write(op) as tx:
            committed = self._write(tx, op, name, new, files, root_digest, read)
        return msgspec.structs.replace(committed, warnings=read.warnings)

    def _entries(self, new: NewVersion) -> list[FileEntry]:
        if not new.manifest:
            return new.files
        if new.files:
            raise Invalid("Give the files or the digest of their list, not both.", where="manifest")
        try:
            return _ENTRIES.decode(self._blobs.get(check_digest(new.manifest)))
        except NotFound as cause:
            raise Invalid("The list of files is not stored.", where="manifest", hint="Upload it as a blob first.") from cause
        except msgspec.DecodeError as cause:
            raise Invalid(f"The list of files cannot be read: {cause}.", where="manifest") from cause

    def _same_as_latest(self, op: Op, name: str, files: Manifest) -> bool:
        """Does the latest version already hold exactly these files? Then every byte was checked before."""
        with self._db.read() as tx:
            found = store.dataset(tx, op.workspace, name)
            latest = found and store.version(tx, op.workspace, found.latest_id)
        return bool(latest and latest.root_digest == manifest.root_digest(files))

    def _write(
        self, tx: Write, op: Op, name: str, new: NewVersion, files: Manifest, root_digest: str, read: profiles.Footers
    ) -> Committed:
        if store.add_dataset(tx, new_id(op.at_ms), op.workspace, name, at_ms=op.at_ms, actor=op.actor.label):
            tx.emit("dataset.created", Ref("dataset", name))
        head = store.lock(tx, op.workspace, name)
        assert head is not None
        latest = store.version(tx, op.workspace, head.head_id)
        if latest and latest.root_digest == root_digest:  # also a retry whose first answer was lost
            if new.alias:
                self._point(tx, op, head.id, new.alias, latest)
            return Committed(version=_reread(tx, op, latest), is_new=False)
        if new.parent is not None and new.parent != head.head_id:
            now = f"Its latest version is {latest.number} now ({latest.id})" if latest else "It has no version now"
            raise Conflict(
                f"The dataset {name!r} moved since you read it.",
                where="parent",
                hint=f"{now}; look at what changed and commit again.",
            )
        version = DatasetVersion(
            id=DatasetVersionId(new_id(op.at_ms)), dataset=name, number=head.last_number + 1, root_digest=root_digest,
            created_at_ms=op.at_ms, actor=op.actor.label, message=new.message,
            parents=[head.head_id] if head.head_id else [],
            files_count=len(files), size_bytes=sum(f.size_bytes for f in files.values()),
            rows_count=read.rows_count, schema=read.schema,
        )  # fmt: skip
        store.add_version(tx, head.id, version)
        store.move_head(tx, head.id, version.id, version.number, at_ms=op.at_ms)
        tx.emit(
            "dataset_version.committed", _ref(version),
            dataset=name, number=version.number, root_digest=root_digest, message=new.message,
        )  # fmt: skip
        if any(table_format(path) for path in files):
            Jobs.submit(
                tx, PROFILE_JOB, {"version": version.id}, unique=f"{PROFILE_JOB}:{version.id}", subject=_ref(version)
            )
        if new.alias:
            self._point(tx, op, head.id, new.alias, version)
        return Committed(version=_reread(tx, op, version), is_new=True)

    # --- naming and deleting --------------------------------------------------------------------------------------------

    def move_alias(self, op: Op, name: str, alias: str, move: AliasMove) -> Alias:
        """Point `alias` at a version. Raises NotFound, Invalid (the name), Conflict (`expect` is not its generation)."""
        op.require("dataset.alias", on=Ref("dataset", name))
        _check_alias(alias)
        with self._db.write(op) as tx:
            head = self._lock(tx, op, name)
            version = self._select(tx, op, name, move.selector)
            _check_generation(tx, head, alias, move.expect)
            return self._point(tx, op, head.id, alias, version)

    def remove_alias(self, op: Op, name: str, alias: str, *, expect: int | None = None) -> None:
        """Raises NotFound, Conflict (`expect` is not its generation)."""
        op.require("dataset.alias", on=Ref("dataset", name))
        with self._db.write(op) as tx:
            head = self._lock(tx, op, name)
            found = store.alias(tx, head.id, alias)
            if found is None:
                raise NotFound(f"The dataset {name!r} has no alias {alias!r}.", where="alias")
            _check_generation(tx, head, alias, expect)
            store.move_alias(tx, head.id, alias, None, at_ms=op.at_ms, actor=op.actor.label)
            tx.emit("dataset_alias.removed", Ref("dataset", name), dataset=name, alias=alias, was=found.number)

    def delete_version(self, op: Op, handle: str) -> DatasetVersion:
        """Take a version out of the history. Its number is not used again; its bytes are left to the collector.

        Raises NotFound, Conflict (an alias points at it, or something protects it: a model trained on it, say).
        """
        wanted = parse_handle(handle, kind="dataset")
        op.require("dataset.delete", on=Ref("dataset", wanted.name))
        with self._db.write(op) as tx:
            head = self._lock(tx, op, wanted.name)
            version = self._select(tx, op, wanted.name, wanted.selector)
            if version.aliases:
                raise Conflict(
                    f"{_label(version)} is called {', '.join(version.aliases)}.",
                    ref=_ref(version),
                    hint="Move or remove its aliases first.",
                )
            require_unprotected(tx, _ref(version))
            store.remove_version(tx, version.id, at_ms=op.at_ms)
            latest = store.latest_number(tx, head.id)
            store.move_head(tx, head.id, latest[0] if latest else None, head.last_number, at_ms=op.at_ms)
            tx.emit("dataset_version.deleted", _ref(version), dataset=wanted.name, number=version.number)
        return version

    def _lock(self, tx: Write, op: Op, name: str) -> store.Head:
        head = store.lock(tx, op.workspace, name)
        if head is None:
            self._dataset(tx, op, name)  # raises NotFound
        assert head is not None
        return head

    def _point(self, tx: Write, op: Op, dataset_id: str, alias: str, version: DatasetVersion) -> Alias:
        was = store.alias(tx, dataset_id, alias)
        if was is None or was.version_id != version.id:
            store.move_alias(tx, dataset_id, alias, version.id, at_ms=op.at_ms, actor=op.actor.label)
            tx.emit(
                "dataset_alias.moved", _ref(version),
                dataset=version.dataset, alias=alias, number=version.number, was=was.number if was else None,
            )  # fmt: skip
        now = store.alias(tx, dataset_id, alias)
        assert now is not None
        return now


def _ref(version: DatasetVersion) -> Ref:
    return Ref("dataset_version", version.id)


def _label(version: DatasetVersion) -> str:
    return f"{version.dataset}@{version.number}"


def _reread(tx: Read, op: Op, version: DatasetVersion) -> DatasetVersion:
    """With the aliases it has now."""
    found = store.version(tx, op.workspace, version.id)
    assert found is not None
    return found


def _check_dataset_name(name: str) -> None:
    check_name(name, what="dataset")
    if name in RESERVED_NAMES:
        raise Invalid(f"A dataset cannot be called {name!r}.", where="name", hint="Pick another name.")


def _check_alias(alias: str) -> None:
    if alias == "latest" or not _ALIAS.match(alias) or _NUMBER.match(alias) or _ID.match(alias):
        raise Invalid(
            f"{alias!r} cannot be an alias.",
            where="alias",
            hint="Use letters, digits, '_', '-' and '.', beginning with a letter; not 'latest', nor what reads as a number.",
        )


def _check_generation(tx: Read, head: store.Head, alias: str, expect: int | None) -> None:
    """Compare-and-set: generations never come twice, also not after an alias was removed and made again."""
    if expect is None:
        return
    found = store.alias(tx, head.id, alias)
    now = found.generation if found else 0
    if now != expect:
        raise Conflict(
            f"The alias {alias!r} moved since you read it.",
            where="expect",
            hint=f"It is at generation {now} now; read it again and decide.",
        )
