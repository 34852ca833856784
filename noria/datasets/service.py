"""Versions of data: commit, read, name, compare, check.

Bytes come first: a client stores blobs, then commits a manifest that names them. Everything is checked before the transaction,
which moves the references in the repository and brings the rows up to them (index.py), so it is short. Writers of one dataset
take turns on its row; a commit that names the parent it started from is refused when somebody else was faster.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence

import msgspec

from noria.datasets import expectations, manifest, profiles, store, tables
from noria.datasets.comparison import Comparison
from noria.datasets.contents import Contents, LinkedContents
from noria.datasets.expectations import Checked, Expectations
from noria.datasets.index import Adopter, Index, document_of
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
    Merged,
    MergeRequest,
    Missing,
    Name,
    NameAt,
    NewVersion,
    Profile,
    Sample,
    Stored,
    TableFile,
    Verified,
    VersionFile,
    table_format,
)
from noria.datasets.profiles import Profiles, merge_schemas
from noria.datasets.remotes import Remotes
from noria.datasets.subjects import Subjects
from noria.datasets.upkeep import DatasetsUpkeep
from noria.kernel.blobs import BlobStore, check_digest
from noria.kernel.db import Database, Read, Write
from noria.kernel.edges import require_unprotected
from noria.kernel.errors import Conflict, Invalid, NotFound, TooMuch, Unavailable
from noria.kernel.ids import DatasetVersionId, Ref, check_name, parse_handle
from noria.kernel.jobs import JobContext
from noria.kernel.op import Op
from noria.kernel.paging import Page, check_limit, decode_token, encode_token
from noria.kernel.ticks import Ticks
from noria.repository.collect import Collected, Usage, collect, usage
from noria.repository.merge import plan_merge
from noria.repository.model import MAIN, check_ref_name
from noria.repository.repository import NewCommit, Repository

SAMPLE_ROWS_MAX = 200
FILES_PER_PAGE_MAX = 10_000
VERIFY_BYTES = 256 << 20  # read per request, so that a request ends; the caller goes on where it stopped
RESERVED_NAMES = frozenset({"blobs"})  # /datasets/blobs/missing is a route of its own
_NUMBER = re.compile(r"^v?([1-9][0-9]{0,17})\Z")
_ID = re.compile(r"^[0-9a-f]{32}\Z")
_ENTRIES = msgspec.json.Decoder(list[FileEntry])


class Datasets:
    """Versions of data."""

    def __init__(
        self, db: Database, blobs: BlobStore, ticks: Ticks, repository: Repository, *, remotes: Sequence[str] = ()
    ) -> None:
        self._db, self._blobs, self._ticks, self._repository = db, blobs, ticks, repository
        self.remotes = Remotes(db, repository, self, remotes)
        self._contents = Contents(repository, blobs)
        self.subjects = Subjects(db, self._contents, self)
        self._index = Index(repository)
        self._profiles = Profiles(db, self._contents)
        self._comparison = Comparison(self._contents, self._profiles)

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

    def versions(
        self, op: Op, name: str, *, limit: int | None = None, page: str = "", branch: str = ""
    ) -> Page[DatasetVersion]:
        """The history of a dataset, newest first; with `branch`, what that branch came through, in one page."""
        op.require("dataset.read", on=Ref("dataset", name))
        size = check_limit(limit)
        if branch:
            with self._db.read() as tx:
                self._dataset(tx, op, name)
                along = self._repository.versions(document_of(op.workspace, name), branch=branch, limit=size)
                return Page([v for v in (store.version(tx, op.workspace, each.id) for each in along) if v], None)
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
            found = self._select(tx, op, wanted.name, wanted.selector)
        commit = self._repository.commit(found.id)
        return msgspec.structs.replace(found, link=commit.link, table=commit.table) if commit.link else found

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
        elif selector == MAIN:
            found = store.version(tx, op.workspace, dataset.latest_id)
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
        self, op: Op, version: DatasetVersion | str, *, prefix: str = "", limit: int | None = None, page: str = "",
        whole: bool = False,
    ) -> Page[VersionFile]:  # fmt: skip
        """The files of a version whose path begins with `prefix`, by path.

        Tables are TableFiles, which name their parts; with `whole`, the Parquet files that they are read as, which takes writing them.
        """
        size = check_limit(limit, default=1000, most=FILES_PER_PAGE_MAX)
        after = str(decode_token(page, size=1)[0]).encode() if page else b""
        wanted = (f for path, f in self.manifest(op, version).items() if path.startswith(prefix) and path.encode() > after)
        found = [f for _, f in zip(range(size), wanted, strict=False)]
        if whole:
            op.require("blob.read", on=Ref("dataset", self._resolve(op, version).dataset))
            found = [self._contents.whole(f) for f in found]
        return Page(found, encode_token(found[-1].path) if len(found) == size else None)

    def file(self, op: Op, version: DatasetVersion | str, path: str) -> VersionFile:
        """One file of a version, or a part of a table. Raises NotFound."""
        resolved = self._resolve(op, version)
        found = self._manifest(resolved.root_digest).get(path) or self._repository.manifest(resolved.root_digest).get(path)
        if found is None:
            raise NotFound(f"{_label(resolved)} has no file {path!r}.", where="path")
        return found

    def open(
        self, op: Op, version: DatasetVersion | str, path: str, start: int = 0, end: int | None = None
    ) -> Iterator[bytes]:
        """The bytes of a file from `start` to `end` (exclusive), checked against their digests. Raises NotFound, Invalid."""
        resolved = self._resolve(op, version)
        op.require("blob.read", on=Ref("dataset", resolved.dataset))
        return self._contents_of(resolved).open(self.file(op, resolved, path), start, end)

    def size_bytes(self, op: Op, version: DatasetVersion | str, path: str) -> int:
        """How many bytes `open` gives. Raises NotFound."""
        resolved = self._resolve(op, version)
        op.require("blob.read", on=Ref("dataset", resolved.dataset))
        return self._contents.size_bytes(self.file(op, resolved, path))

    def verify(self, op: Op, version: DatasetVersion | str, *, after: str = "") -> Verified:
        """Read files again, from the one after `after`, and compare them with their digests; stops after some bytes."""
        resolved = self._resolve(op, version)
        count, size, damaged, last = 0, 0, list[Damage](), ""
        contents = self._contents_of(resolved)
        for path, file in self._manifest(resolved.root_digest).items():
            if path.encode() <= after.encode():
                continue
            if size >= VERIFY_BYTES:
                return Verified(files_count=count, size_bytes=size, damaged=damaged, next=last)
            count, size, last = count + 1, size + file.size_bytes, path
            if problem := contents.damage(file):
                damaged.append(problem)
        return Verified(files_count=count, size_bytes=size, damaged=damaged)

    def _contents_of(self, version: DatasetVersion) -> Contents:
        """Where the bytes of a version are. Raises Forbidden when it is a link to where this server may not read."""
        link = self._repository.commit(version.id).link
        if not link:
            return self._contents
        return LinkedContents(self._repository, self._blobs, self.remotes.allowed(link))

    def is_link(self, version: DatasetVersion) -> bool:
        """Do its files stay where they are?"""
        return bool(self._repository.commit(version.id).link)

    def heads(self, op: Op, name: str) -> dict[str, str]:
        """The branches and the versions they point at. Raises NotFound."""
        op.require("dataset.read", on=Ref("dataset", name))
        with self._db.read() as tx:
            self._dataset(tx, op, name)
        return dict(self._repository.refs(document_of(op.workspace, name)).branches)

    def follow(self, op: Op, name: str) -> None:
        """Bring the rows of a dataset up to its references, which moved already."""
        with self._changing(op, name, is_new=True):
            pass

    def _resolve(self, op: Op, version: DatasetVersion | str) -> DatasetVersion:
        if isinstance(version, str):
            return self.version(op, version)
        op.require("dataset.read", on=Ref("dataset", version.dataset))
        return version

    def _manifest(self, root_digest: str) -> Manifest:
        try:
            return self._repository.files(root_digest)
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
        if isinstance(file, TableFile):
            return tables.table_sample(self._contents.table(file), path, file.size_bytes, size)
        with self._contents_of(resolved).file(file) as opened:
            return tables.sample(opened, path, file.size_bytes, size)

    # --- tables ---------------------------------------------------------------------------------------------------------

    def profile(self, op: Op, version: DatasetVersion | str) -> Profile:
        """What is in the version's tables. Small ones are read when first asked for; bigger ones are `pending` meanwhile."""
        resolved = self._resolve(op, version)
        contents, files = self._contents_of(resolved), self._manifest(resolved.root_digest).values()
        found = self._profiles.of(files, now_bytes=profiles.NOW_BYTES, contents=contents)
        if contents is not self._contents:  # nothing reads a link in the background
            found = [
                profiles.skipped(t, "Larger tables of a link are not read.") if t.state == "pending" else t for t in found
            ]
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
        blobs, at = list[bytes](), 0
        while at < len(pack):
            size, start = int.from_bytes(pack[at : at + 4], "big"), at + 4
            at = start + size
            if at > len(pack):
                raise Invalid("The pack ends in the middle of a blob.", hint="Send it again.")
            blobs.append(pack[start:at])
        return Stored(digests=self._contents.store(blobs))

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
        check_ref_name(new.branch, what="a branch")
        if new.alias:
            op.require("dataset.alias", on=Ref("dataset", name))
            check_ref_name(new.alias, what="an alias")
        if len(new.message) > MESSAGE_LENGTH_MAX:
            raise Invalid(f"The message has more than {MESSAGE_LENGTH_MAX:,} characters.", where="message")
        entries = self._entries(new)
        files = manifest.check_files(entries)
        root = manifest.root_digest(files)
        document = document_of(op.workspace, name)
        same = self._head_root(document, new.branch) == root  # then every byte was checked before
        with self._repository.writing() as writing:
            if not same:
                self._contents.check(writing, entries)
                writing.finish()
            seen = {} if same else self._repository.seen(files)
            read = profiles.Footers() if same else self._profiles.footers(seen.values())
            wanted, warnings = ("", list[str]()) if same else self._as_expected(op, name, new.branch, seen)
            said = NewCommit(
                message=new.message, alias=new.alias, branch=new.branch, parent=new.parent or "", actor=op.actor.label,
                rows_count=read.rows_count, schema=read.schema, expected=None if same else wanted,
            )  # fmt: skip
            writing.prepare(document, files, said, root=root)
            with self._changing(op, name, is_new=True) as tx:
                made, is_new = writing.move(document, files, said, root)
            with self._db.read() as tx:
                version = store.version(tx, op.workspace, made.id)
        assert version is not None
        return Committed(version=version, is_new=is_new, warnings=[*read.warnings, *warnings])

    def _as_expected(self, op: Op, name: str, branch: str, files: Manifest) -> tuple[str, list[str]]:
        """What is expected of the dataset, and warnings. Raises Invalid, and leaves a fact, when the files are not like that."""
        document = document_of(op.workspace, name)
        found = self._repository._refs(document)
        text = found[0].expectations if found else ""
        if not text:
            return "", []
        checked = expectations.examine(
            expectations.decode(text), files.values(), self._contents.save, skip=self._tables_of(document, branch)
        )
        if not checked.passed:
            with self._db.write(op) as tx:
                broken = [b.text[:300] for b in checked.broken[:10]]
                tx.emit("dataset_commit.refused", Ref("dataset", name), branch=branch, broken=broken)
        return text, expectations.require(checked, name)

    def _tables_of(self, document: str, branch: str) -> frozenset[str]:
        """The digests of what the head of a branch holds: it was checked when it was committed."""
        root = self._head_root(document, branch)
        return frozenset(f.digest for f in self._manifest(root).values()) if root else frozenset()

    def _head_root(self, document: str, branch: str) -> str:
        found = self._repository._refs(document)
        head = found and found[0].branches.get(branch)
        return self._repository.commit(head).root if head else ""

    @contextlib.contextmanager
    def _changing(self, op: Op, name: str, *, is_new: bool = False) -> Iterator[Write]:
        """A transaction in which the references of a dataset move; at its end the rows follow. Raises NotFound."""
        with self._db.write(op) as tx:
            if not is_new:
                self._dataset(tx, op, name)
            made = self._index.lock(tx, op, op.workspace, name)
            yield tx
            self._index.follow(tx, op, self._repository.refs(document_of(op.workspace, name)), is_new=made)

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

    # --- expecting ------------------------------------------------------------------------------------------------------

    def expectations(self, op: Op, name: str) -> Expectations:
        """What a commit to the dataset must be like. Raises NotFound."""
        op.require("dataset.read", on=Ref("dataset", name))
        with self._db.read() as tx:
            self._dataset(tx, op, name)
        return expectations.decode(self._repository.refs(document_of(op.workspace, name)).expectations)

    def expect(self, op: Op, name: str, wanted: Expectations) -> Expectations:
        """From now on refuse commits that are not like that; empty expectations allow everything. Raises NotFound, Invalid."""
        op.require("dataset.expect", on=Ref("dataset", name))
        expectations.check(wanted)
        text = "" if wanted == Expectations() else expectations.encode(wanted)
        if len(text.encode()) > expectations.TEXT_BYTES_MAX:
            raise Invalid(f"Expectations have at most {expectations.TEXT_BYTES_MAX >> 10} KiB.", where="expectations")
        with self._changing(op, name) as tx:
            document = document_of(op.workspace, name)
            if self._repository.refs(document).expectations != text:
                self._repository.expect(document, text)
                rules = sum(1 + len(t.columns) + len(t.rows) for t in wanted.tables.values())
                tx.emit("dataset.expected", Ref("dataset", name), rules=rules, text=text)
        return wanted

    def check_version(self, op: Op, version: DatasetVersion | str, wanted: Expectations | None = None) -> Checked:
        """Is a version as `wanted`, or when that is empty as its dataset expects? Every table is read. Raises NotFound, Invalid."""
        resolved = self._resolve(op, version)
        op.require("blob.read", on=Ref("dataset", resolved.dataset))
        mine = expectations.check(wanted) if wanted and wanted != Expectations() else self.expectations(op, resolved.dataset)
        return expectations.examine(mine, self._manifest(resolved.root_digest).values(), self._contents_of(resolved).save)

    # --- naming and deleting --------------------------------------------------------------------------------------------

    def move_alias(self, op: Op, name: str, alias: str, move: AliasMove) -> Alias:
        """Point `alias` at a version. Raises NotFound, Invalid (the name), Conflict (`expect` is not its generation)."""
        op.require("dataset.alias", on=Ref("dataset", name))
        check_ref_name(alias, what="an alias")
        with self._changing(op, name) as tx:
            head = self._dataset(tx, op, name)
            version = self._select(tx, op, name, move.selector)
            self._repository.move_alias(
                document_of(op.workspace, name), alias, version.id, expect=move.expect, actor=op.actor.label
            )
        with self._db.read() as tx:
            now = store.alias(tx, head.id, alias)
        assert now is not None
        return now

    def remove_alias(self, op: Op, name: str, alias: str, *, expect: int | None = None) -> None:
        """Raises NotFound, Conflict (`expect` is not its generation)."""
        op.require("dataset.alias", on=Ref("dataset", name))
        with self._changing(op, name):
            self._repository.remove_alias(document_of(op.workspace, name), alias, expect=expect, actor=op.actor.label)

    def names(self, op: Op, name: str) -> list[Name]:
        """What versions are called: branches, tags, aliases."""
        op.require("dataset.read", on=Ref("dataset", name))
        with self._db.read() as tx:
            found = self._dataset(tx, op, name)
            listed = store.names(tx, found.id)
        if found.latest_id and found.latest:
            listed.insert(0, Name(name=MAIN, kind="branch", version_id=found.latest_id, number=found.latest))
        return listed

    def set_branch(self, op: Op, name: str, branch: str, at: NameAt) -> list[Name]:
        """Make a branch at a version. Raises NotFound, Invalid, AlreadyExists."""
        op.require("dataset.alias", on=Ref("dataset", name))
        with self._changing(op, name) as tx:
            self._repository.branch(document_of(op.workspace, name), branch, self._select(tx, op, name, at.selector).id)
        return self.names(op, name)

    def remove_branch(self, op: Op, name: str, branch: str) -> None:
        """Its versions stay. Raises NotFound, Invalid (main)."""
        op.require("dataset.alias", on=Ref("dataset", name))
        with self._changing(op, name):
            self._repository.delete_branch(document_of(op.workspace, name), branch)

    def set_tag(self, op: Op, name: str, tag: str, at: NameAt) -> list[Name]:
        """Give a version a name that never moves. Raises NotFound, Invalid, AlreadyExists."""
        op.require("dataset.alias", on=Ref("dataset", name))
        with self._changing(op, name) as tx:
            self._repository.tag(document_of(op.workspace, name), tag, self._select(tx, op, name, at.selector).id)
        return self.names(op, name)

    def remove_tag(self, op: Op, name: str, tag: str) -> None:
        """Raises NotFound."""
        op.require("dataset.alias", on=Ref("dataset", name))
        with self._changing(op, name):
            self._repository.delete_tag(document_of(op.workspace, name), tag)

    def merge(self, op: Op, name: str, wanted: MergeRequest) -> Merged:
        """Bring a version into a branch, file by file. Raises NotFound, Conflict naming the paths that both sides changed."""
        op.require("dataset.commit", on=Ref("dataset", name))
        document = document_of(op.workspace, name)
        theirs = self.version(op, f"{name}@{wanted.theirs}")
        with self._repository.writing() as writing:
            plan = plan_merge(
                self._repository, writing, document, theirs.id, into=wanted.into, message=wanted.message,
                strategy=wanted.strategy, actor=op.actor.label,
            )  # fmt: skip
            head = theirs.id if plan.outcome == "fast-forward" else plan.ours
            if plan.new is not None:
                writing.finish()
                text, _ = self._as_expected(op, name, wanted.into, self._repository.seen(plan.files))
                new = msgspec.structs.replace(plan.new, expected=text)
                root = writing.prepare(document, plan.files, new)
                with self._changing(op, name):
                    head = writing.move(document, plan.files, new, root)[0].id
            elif plan.outcome == "fast-forward":
                with self._changing(op, name):
                    self._repository.forward(document, wanted.into, plan.ours, theirs.id)
        return Merged(version=self._version_by_id(op, head), outcome=plan.outcome)

    def delete_version(self, op: Op, handle: str) -> DatasetVersion:
        """Take a version out of the history. Its number is not used again; its bytes are left to the collector.

        Raises NotFound, Conflict (an alias points at it, or something protects it: a model trained on it, say).
        """
        wanted = parse_handle(handle, kind="dataset")
        op.require("dataset.delete", on=Ref("dataset", wanted.name))
        with self._changing(op, wanted.name) as tx:
            version = self._select(tx, op, wanted.name, wanted.selector)
            if version.aliases:
                raise Conflict(
                    f"{_label(version)} is called {', '.join(version.aliases)}.",
                    ref=_ref(version),
                    hint="Move or remove its aliases first.",
                )
            require_unprotected(tx, _ref(version))
            self._repository.delete_version(document_of(op.workspace, wanted.name), version.id)
        return version

    # --- the store ------------------------------------------------------------------------------------------------------

    def adopter(self, system: Callable[[], Op]) -> Adopter:
        """What takes over versions that were committed on this store without the server."""
        return Adopter(self._db, self._repository, system)

    def upkeep(self, hours: float) -> DatasetsUpkeep:
        """What frees bytes that nothing needs, every so many hours."""
        return DatasetsUpkeep(self._repository, self._db.clock, hours)

    def collect(self, op: Op, *, grace_s: float, dry_run: bool) -> Collected:
        """Remove the bytes that no version needs. Raises Invalid (a grace time that is too short), Unavailable (damage)."""
        op.require("dataset.delete")
        return collect(self._repository, grace_s=grace_s, dry_run=dry_run)

    def usage(self, op: Op) -> list[Usage]:
        """What each dataset that the actor may read takes."""
        found = usage(self._repository)
        return [u for u in found if op.can("dataset.read", on=Ref("dataset", u.dataset))]


def _ref(version: DatasetVersion) -> Ref:
    return Ref("dataset_version", version.id)


def _label(version: DatasetVersion) -> str:
    return f"{version.dataset}@{version.number}"


def _check_dataset_name(name: str) -> None:
    check_name(name, what="dataset")
    if name in RESERVED_NAMES:
        raise Invalid(f"A dataset cannot be called {name!r}.", where="name", hint="Pick another name.")
