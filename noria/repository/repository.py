"""A repository: datasets with their versions, in a folder or a bucket, with no server and no database.

    format.json                   the layout number and how files are cut
    packs/ab/<id>.pack, .idx      bytes (noria/repository/packs.py)
    trees/ab/<root digest>        the files of a version (trees.py)
    commits/ab/<id>               who, when, why, from what (model.py)
    refs/<dataset>.json           numbers, branches, tags, aliases: the only objects that change
    tombstones/<pack id>          packs that the collector will remove (collect.py)

Invariant: everything a reference reaches was stored, durable and checked, before the reference was written.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from noria.datasets import manifest
from noria.datasets.manifest import Manifest
from noria.datasets.model import SMALL_FILE_BYTES, Column, DatasetVersion, FileChange, TableFile, VersionFile
from noria.datasets.model import Alias as AliasInfo
from noria.datasets.model import Dataset as DatasetInfo
from noria.kernel.clock import SystemClock
from noria.kernel.crash import crash_here
from noria.kernel.errors import AlreadyExists, Conflict, Invalid, NotFound, Unavailable
from noria.kernel.ids import DatasetVersionId, check_name
from noria.repository import trees
from noria.repository.model import (
    ID,
    LAYOUT,
    MAIN,
    MESSAGE_LENGTH_MAX,
    NUMBER,
    Alias,
    Commit,
    Refs,
    check_ref_name,
    commit_id,
    decode_commit,
    decode_refs,
    encode_refs,
    refs_key,
)
from noria.repository.objects import FolderObjects, Objects, open_objects
from noria.repository.packs import RECIPE, REPAIR, PackGone, Packs, PackWriter, Place, decode_recipe
from noria.repository.seekable import seekable
from noria.repository.tables.model import MANIFEST, tables_in
from noria.repository.tables.table import Table
from noria.repository.tables.view import Footer, check_tables, footers, see, seen_count
from noria.repository.tables.whole import Copies, copies_folder

TRIES = 40  # of a compare-and-swap against other writers
AT_ONCE_BYTES = 8 << 20  # chunks that are fetched together
_FORMAT = {"layout": LAYOUT, "chunker": "fastcdc-2020", "chunk_bytes": [64 << 10, 256 << 10, 1 << 20], "hash": "blake3-256"}


class Version(Struct, frozen=True, kw_only=True):
    """A commit as a dataset knows it; `number` is None when it is reachable but not in the list of versions."""

    id: str
    number: int | None
    commit: Commit
    names: list[str] = []

    @property
    def label(self) -> str:
        return f"{self.commit.dataset}@{self.number or self.id[:12]}"

    def info(self) -> DatasetVersion:
        """As the server describes a version."""
        c = self.commit
        return DatasetVersion(
            id=DatasetVersionId(self.id), dataset=c.dataset, number=self.number or 0, root_digest=c.root,
            created_at_ms=c.at_ms, actor=c.actor, message=c.message, parents=[DatasetVersionId(p) for p in c.parents],
            files_count=c.files_count, size_bytes=c.size_bytes, rows_count=c.rows_count, schema=c.schema, branch=c.branch,
            aliases=self.names, link=c.link, table=c.table,
        )  # fmt: skip


class NewCommit(Struct, frozen=True, kw_only=True):
    """What is said about a version when it is made."""

    message: str = ""
    alias: str = ""
    branch: str = MAIN
    parent: str = ""  # the commit that has to be the head of the branch still
    parents: list[str] = []  # more parents, of a merge
    actor: str = ""
    link: str = ""
    table: str = ""  # of a link: delta@12
    rows_count: int | None = None
    schema: list[Column] | None = None
    expected: str | None = None  # the expectations that the files were checked against; None: they need not be


class Repository:
    """Datasets in one place. Safe for several threads and processes at once."""

    def __init__(self, objects: Objects, *, clock: Callable[[], int] | None = None) -> None:
        self.objects = objects
        self.packs = Packs(objects)
        self.now_ms = clock or SystemClock().now_ms
        self._manifest = lru_cache(maxsize=4)(self._read_tree)
        self._commit = lru_cache(maxsize=4096)(self._read_commit)
        self._files = lru_cache(maxsize=4)(self._read_files)
        self._table = lru_cache(maxsize=4)(self._read_table)
        self.copies = Copies(copies_folder(objects))

    @property
    def url(self) -> str:
        return self.objects.url

    def ensure_format(self) -> None:
        """Write down how things are laid out, or refuse a repository of another layout. Raises Unavailable."""
        found = self.objects.read_tagged("format.json")
        if found is None:
            self.objects.write("format.json", msgspec.json.encode(_FORMAT))
            return
        layout = msgspec.json.decode(found[0]).get("layout")
        if layout != LAYOUT:
            raise Unavailable(f"{self.url} has layout {layout}; this Noria knows {LAYOUT}.", hint="Upgrade Noria.")

    # --- references -----------------------------------------------------------------------------------------------------

    def datasets(self) -> list[Refs]:
        """The references of every dataset, by name."""
        found = []
        for item in self.objects.list("refs"):
            read = self.objects.read_tagged(item.key) if item.key.endswith(".json") else None
            if read:
                found.append(decode_refs(read[0], item.key))
        return sorted(found, key=lambda r: r.dataset)

    def refs(self, name: str) -> Refs:
        """Raises NotFound."""
        found = self._refs(name)
        if found is None:
            raise NotFound(f"There is no dataset {name!r}.", hint=f"Make it with: noria data commit {name} PATH -m MESSAGE.")
        return found[0]

    def _refs(self, name: str) -> tuple[Refs, str] | None:
        found = self.objects.read_tagged(refs_key(name))
        if found is None:
            return None
        refs = decode_refs(found[0], refs_key(name))
        if refs.dataset != name:
            raise Unavailable(f"{refs_key(name)} belongs to {refs.dataset!r}.", hint="Restore it from a remote or a backup.")
        return refs, found[1]

    def refs_at(self, key: str) -> Refs | None:
        """The references in one object of a listing; None when it is gone."""
        found = self.objects.read_tagged(key)
        return found and decode_refs(found[0], key)

    def update(self, name: str, change: Callable[[Refs | None], Refs | None]) -> Refs | None:
        """Replace the references by what `change` makes of them; asked again when somebody else was faster.

        None from `change` leaves them as they are. Whatever it raises ends the attempt.
        """
        for attempt in range(TRIES):
            found = self._refs(name)
            new = change(found and found[0])
            if new is None:
                return found and found[0]
            new = msgspec.structs.replace(new, updated_at_ms=max(new.updated_at_ms, self.now_ms()))
            try:
                self.objects.swap(refs_key(name), encode_refs(new), found and found[1])
            except Conflict:
                time.sleep(random.uniform(0, min(0.002 * 2**attempt, 0.5)))
                continue
            return new
        raise Unavailable(f"Too many writers at {name!r}.", hint="Try again.")

    def _change(self, name: str, change: Callable[[Refs], Refs | None]) -> Refs:
        def apply(refs: Refs | None) -> Refs | None:
            if refs is None:
                self.refs(name)  # raises NotFound
            assert refs is not None
            return change(refs)

        done = self.update(name, apply)
        assert done is not None
        return done

    # --- looking --------------------------------------------------------------------------------------------------------

    def commit(self, name: str) -> Commit:
        """The commit with this id. Raises NotFound."""
        return self._commit(name)

    def _read_commit(self, name: str) -> Commit:
        return decode_commit(self.objects.read(commit_key(name)), name)

    def version(self, name: str, selector: str = "latest") -> Version:
        """What `selector` names: latest, a number (3, v3), an id, an alias, a tag or a branch. Raises NotFound."""
        refs = self.refs(name)
        found = self.select(refs, selector)
        if found is None:
            known = (
                ", ".join(sorted({*refs.branches, *refs.tags, *(a for a, x in refs.aliases.items() if x.commit)})) or "none"
            )
            latest = f"the latest is {max(refs.numbers)}" if refs.numbers else "every version was deleted"
            raise NotFound(
                f"The dataset {name!r} has no version {selector or 'latest'!r}.",
                where="selector",
                hint=f"Use a number ({latest}), a name ({known}), or latest.",
            )
        return self._version(refs, found)

    def select(self, refs: Refs, selector: str) -> str | None:
        """The commit that `selector` names, or None."""
        selector = selector.removeprefix("@")
        if selector in ("", "latest"):
            return refs.branches.get(MAIN)
        if number := NUMBER.match(selector):
            return refs.numbers.get(int(number[1]))
        if ID.match(selector):
            return selector if selector in refs.kept() else None
        if selector in refs.aliases:
            return refs.aliases[selector].commit or None
        return refs.tags.get(selector) or refs.branches.get(selector)

    def _version(self, refs: Refs, found: str) -> Version:
        return Version(id=found, number=refs.number(found), commit=self.commit(found), names=refs.names(found))

    def versions(self, name: str, *, branch: str = "", limit: int | None = None) -> list[Version]:
        """The history, newest first: by number, or along the first parents of a branch."""
        refs = self.refs(name)
        if not branch:
            return [self._version(refs, refs.numbers[n]) for n in sorted(refs.numbers, reverse=True)[:limit]]
        at, found = refs.branches.get(branch) or "", list[Version]()
        if not at:
            raise NotFound(f"The dataset {name!r} has no branch {branch!r}.", hint=f"It has: {', '.join(refs.branches)}.")
        while at and len(found) < (limit or len(found) + 1):
            try:
                found.append(self._version(refs, at))
            except NotFound:
                break  # older than what was kept
            at = next(iter(found[-1].commit.parents), "")
        return found

    def info(self, refs: Refs) -> DatasetInfo:
        """As the server describes a dataset."""
        latest = refs.branches.get(MAIN)
        commit = self.commit(latest) if latest else None
        return DatasetInfo(
            id=commit_id(refs.dataset.encode()), name=refs.dataset, created_at_ms=refs.created_at_ms,
            updated_at_ms=refs.updated_at_ms, actor=refs.actor, versions_count=len(refs.numbers),
            latest=refs.number(latest) if latest else None, latest_id=DatasetVersionId(latest) if latest else None,
            files_count=commit.files_count if commit else 0, size_bytes=commit.size_bytes if commit else 0,
            rows_count=commit.rows_count if commit else None,
            aliases=[
                AliasInfo(
                    name=name, version_id=DatasetVersionId(a.commit), number=refs.number(a.commit) or 0,
                    generation=a.generation, moved_at_ms=a.moved_at_ms, actor=a.actor,
                )
                for name, a in sorted(refs.aliases.items()) if a.commit
            ],
        )  # fmt: skip

    def ancestors(self, starts: Iterable[str]) -> Iterator[str]:
        """The commits reachable from `starts`, themselves included, nearest first; what was collected is passed over."""
        seen, row = set[str](), list(starts)
        while row:
            following: list[str] = []
            for name in row:
                if name in seen:
                    continue
                seen.add(name)
                try:
                    parents = self.commit(name).parents
                except NotFound:
                    continue
                yield name
                following += parents
            row = following

    # --- files ----------------------------------------------------------------------------------------------------------

    def manifest(self, root: str) -> Manifest:
        """The files of the version with this root digest as they are stored, by path. Do not change it."""
        return self._manifest(root)[0]

    def files(self, root: str) -> Manifest:
        """The same as its readers see them: a table is one file, a TableFile. Do not change it."""
        return self._files(root)

    def _read_files(self, root: str) -> Manifest:
        return self.seen(self.manifest(root))

    def seen(self, files: Manifest) -> Manifest:
        """Stored files as readers see them. Raises Invalid when what should be a table is none."""
        return see(files, lambda file: b"".join(self.read(file)))

    def table(self, file: TableFile) -> Table:
        """A table of a version, as rows."""
        return self._table(file.path, file.digest, tuple(file.parts))

    def _read_table(self, path: str, digest: str, parts: tuple[VersionFile, ...]) -> Table:
        return Table(path, parts, _Stored(self))

    def whole_path(self, file: TableFile) -> Path:
        """Where the one Parquet file is that a table is read as; written if need be."""
        return self.copies.path(self.table(file), file.digest)

    def whole_size(self, file: TableFile) -> int:
        """How long that is."""
        return self.whole_path(file).stat().st_size

    def whole(self, file: TableFile) -> VersionFile:
        """The one Parquet file that a table is read as."""
        return self.copies.file(self.table(file), file)

    def _read_tree(self, root: str) -> tuple[Manifest, trees.Head]:
        return trees.decode(root, lambda name: self.objects.read(trees.tree_key(name)))

    def changes(self, a: str, b: str) -> list[FileChange]:
        """What leads from one version to another, by root digest, as readers see them."""
        read = lru_cache(maxsize=None)(lambda name: self.objects.read(trees.tree_key(name)))
        if not any(trees.has_path_like(root, MANIFEST, read) for root in (a, b)):
            found = trees.compare(a, b, read)
            if found is not None:
                return found
        return manifest.changes(self.files(a), self.files(b))

    def put_tree(self, files: Manifest, *, base: str = "", root: str = "") -> str:
        """Store the list of files, as what differs from the tree `base` when that is small; returns the root digest."""
        root = root or manifest.root_digest(files)
        key = trees.tree_key(root)
        if isinstance(self.objects, FolderObjects) and self.objects.has(key):
            return root  # in a bucket it is written again, so that the collector sees that it is young
        step = None
        if base:
            with contextlib.suppress(NotFound):
                old, head = self._manifest(base)
                step = trees.encode_step(files, base, old, head)
        self.objects.write(key, step or trees.encode_whole(files))
        crash_here("tree.written")
        return root

    def forget(self) -> None:
        """Drop what was read before: trees and commits may have been repaired."""
        self._manifest.cache_clear()
        self._commit.cache_clear()
        self._files.cache_clear()
        self._table.cache_clear()

    def pieces(self, file: VersionFile) -> list[tuple[bytes, int]]:
        """The blobs that make up a file, in order: digest and size. Raises Unavailable when it is not stored."""
        digest = bytes.fromhex(file.digest)
        place = self._find(digest)
        if place is None:
            raise Unavailable(f"The bytes of {file.path!r} are missing.", hint=REPAIR)
        if place.kind != RECIPE:
            return [(digest, file.size_bytes)]
        return decode_recipe(self._read([(place, digest)])[0])

    def read(self, file: VersionFile, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes of a file from `start` to `end` (exclusive); each piece is checked against its digest."""
        if isinstance(file, TableFile):
            yield from self.copies.pieces(self.table(file), file.digest, start, end)
            return
        end = file.size_bytes if end is None else min(end, file.size_bytes)
        at, batch, total = 0, list[tuple[bytes, int, int]](), 0
        for digest, size in self.pieces(file):
            low, high = max(start - at, 0), min(end - at, size)
            at += size
            if low >= high:
                continue
            batch.append((digest, low, high))
            total += size
            if total >= AT_ONCE_BYTES:
                yield from self._read_batch(batch)
                batch, total = [], 0
        yield from self._read_batch(batch)

    def _read_batch(self, batch: Sequence[tuple[bytes, int, int]]) -> Iterator[bytes]:
        for (_, low, high), data in zip(batch, self.read_blobs([d for d, _, _ in batch]), strict=True):
            yield data[low:high] if (low, high) != (0, len(data)) else data

    def read_blobs(self, digests: Sequence[bytes]) -> list[bytes]:
        """Stored bytes by digest, checked. Raises Unavailable when one is missing or damaged."""
        if not digests:
            return []
        places = self.packs.find_many(digests)
        if any(p is None for p in places):
            self.packs.refresh()
            places = self.packs.find_many(digests)
        wanted = []
        for digest, place in zip(digests, places, strict=True):
            if place is None:
                raise Unavailable(f"The bytes {digest.hex()[:12]} are missing.", hint=REPAIR)
            wanted.append((place, digest))
        try:
            return self._read(wanted)
        except PackGone:  # the collector moved what is alive to another pack
            self.packs.refresh()
            found = self.packs.find_many(digests)
            if any(p is None for p in found):
                raise
            return self._read([(p, d) for p, d in zip(found, digests, strict=True) if p])

    def _read(self, wanted: Sequence[tuple[Place, bytes]]) -> list[bytes]:
        return self.packs.read_many(wanted)

    def _find(self, digest: bytes) -> Place | None:
        found = self.packs.find(digest)
        if found is None:
            self.packs.refresh()
            found = self.packs.find(digest)
        return found

    # --- writing --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def writing(self) -> Iterator[Writing]:
        """For everything that stores bytes and then moves a reference: keeps the collector from what it will name."""
        with self.objects.hold(alone=False) as is_locked:
            self.ensure_format()
            self.packs.refresh()
            self.packs.hidden = frozenset(self.tombstones())
            writing = Writing(self, is_locked=is_locked)
            try:
                yield writing
            finally:
                writing.writer.abandon()

    def tombstones(self) -> dict[str, int]:
        """The packs that the collector has marked, with the time."""
        return {item.key.rsplit("/", 1)[-1]: item.modified_at_ms for item in self.objects.list("tombstones")}

    def branch(self, name: str, branch: str, at: str = "latest") -> Refs:
        """Make a branch at a version. Raises AlreadyExists, NotFound."""
        check_ref_name(branch, what="a branch")

        def change(refs: Refs) -> Refs:
            _require_free(refs, branch)
            found = self.version(name, at).id
            return msgspec.structs.replace(refs, branches={**refs.branches, branch: found})

        return self._change(name, change)

    def delete_branch(self, name: str, branch: str) -> Refs:
        """Its numbered versions stay. Raises NotFound; Invalid for the main branch."""
        if branch == MAIN:
            raise Invalid("The branch main cannot be deleted.")

        def change(refs: Refs) -> Refs:
            if branch not in refs.branches:
                raise NotFound(f"The dataset {name!r} has no branch {branch!r}.")
            return msgspec.structs.replace(refs, branches={k: v for k, v in refs.branches.items() if k != branch})

        return self._change(name, change)

    def forward(self, name: str, branch: str, was: str, to: str) -> Refs:
        """Move a branch on to a commit that descends from where it is. Raises Conflict when it moved meanwhile."""

        def change(refs: Refs) -> Refs:
            if refs.branches.get(branch) != was:
                raise Conflict(f"The branch {branch!r} of {name!r} moved meanwhile.", hint="Try again.")
            return msgspec.structs.replace(refs, branches={**refs.branches, branch: to})

        return self._change(name, change)

    def tag(self, name: str, tag: str, at: str = "latest") -> Refs:
        """Give a version a name that never moves. Raises AlreadyExists unless it names that version already."""
        check_ref_name(tag, what="a tag")

        def change(refs: Refs) -> Refs | None:
            found = self.version(name, at).id
            if refs.tags.get(tag) == found:
                return None
            _require_free(refs, tag)
            return msgspec.structs.replace(refs, tags={**refs.tags, tag: found})

        return self._change(name, change)

    def expect(self, name: str, text: str) -> Refs:
        """Keep what the versions to come must be like; '' for nothing. Raises NotFound."""

        def change(refs: Refs) -> Refs | None:
            return None if refs.expectations == text else msgspec.structs.replace(refs, expectations=text)

        return self._change(name, change)

    def delete_tag(self, name: str, tag: str) -> Refs:
        """Raises NotFound."""

        def change(refs: Refs) -> Refs:
            if tag not in refs.tags:
                raise NotFound(f"The dataset {name!r} has no tag {tag!r}.")
            return msgspec.structs.replace(refs, tags={k: v for k, v in refs.tags.items() if k != tag})

        return self._change(name, change)

    def move_alias(self, name: str, alias: str, at: str, *, expect: int | None = None, actor: str = "") -> Refs:
        """Point an alias at a version; with `expect`, only if its generation is still that. Raises Conflict."""
        check_ref_name(alias, what="an alias")

        def change(refs: Refs) -> Refs | None:
            return self._point(refs, alias, self.version(name, at).id, expect=expect, actor=actor)

        return self._change(name, change)

    def remove_alias(self, name: str, alias: str, *, expect: int | None = None, actor: str = "") -> Refs:
        """Raises NotFound, Conflict."""

        def change(refs: Refs) -> Refs | None:
            if not (found := refs.aliases.get(alias)) or not found.commit:
                raise NotFound(f"The dataset {name!r} has no alias {alias!r}.", where="alias")
            return self._point(refs, alias, "", expect=expect, actor=actor)

        return self._change(name, change)

    def _point(self, refs: Refs, alias: str, commit: str, *, expect: int | None, actor: str) -> Refs | None:
        was = refs.aliases.get(alias)
        generation = was.generation if was and was.commit else 0
        if expect is not None and expect != generation:
            raise Conflict(
                f"The alias {alias!r} moved since you read it.",
                where="expect",
                hint=f"It is at generation {generation} now; read it again and decide.",
            )
        if was and was.commit == commit:
            return None
        if was is None or not was.commit:
            _require_free(refs, alias)
        new = Alias(commit=commit, generation=(was.generation if was else 0) + 1, moved_at_ms=self.now_ms(), actor=actor)
        return msgspec.structs.replace(refs, aliases={**refs.aliases, alias: new})

    def delete_version(self, name: str, selector: str) -> Version:
        """Take a version out of the history; its number is not used again, its bytes are left to the collector.

        Raises Conflict while a name or something else needs it.
        """
        gone: list[Version] = []

        def change(refs: Refs) -> Refs:
            found = self.version(name, selector)
            if found.names:
                raise Conflict(
                    f"{found.label} is called {', '.join(found.names)}.", hint="Move or remove its aliases and tags first."
                )
            others = [b for b, head in refs.branches.items() if head == found.id and b != MAIN]
            if others:
                raise Conflict(f"{found.label} is the head of the branch {others[0]}.", hint="Delete the branch first.")
            gone[:] = [found]
            numbers = {n: c for n, c in refs.numbers.items() if c != found.id}
            branches = dict(refs.branches)
            if branches.get(MAIN) == found.id:
                branches.pop(MAIN)
                if (before := self._newest_before(found.commit, numbers)) is not None:
                    branches[MAIN] = before
            return msgspec.structs.replace(refs, numbers=numbers, branches=branches)

        self._change(name, change)
        return gone[0]

    def _newest_before(self, commit: Commit, numbers: Mapping[int, str]) -> str | None:
        left = set(numbers.values())
        return next((name for name in self.ancestors(commit.parents) if name in left), None)


class _Stored:
    """The stored files of tables, in a repository."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def read(self, file: VersionFile) -> bytes:
        return b"".join(self._repository.read(file))

    def open(self, file: VersionFile) -> IO[bytes]:
        return seekable(file.size_bytes, lambda start, end: self._repository.read(file, start, end))


class Writing:
    """One writer at work: what it stores, and how it finishes."""

    def __init__(self, repository: Repository, *, is_locked: bool) -> None:
        self._repository = repository
        self._is_locked = is_locked
        self._used: set[str] = set()
        self.writer = PackWriter(repository.objects)

    def has_many(self, digests: Sequence[bytes]) -> list[bool]:
        """Is each stored? What is found is relied on from now on."""
        return [p is not None or d in self.writer.added for p, d in zip(self.find_many(digests), digests, strict=True)]

    def find_many(self, digests: Sequence[bytes]) -> list[Place | None]:
        """Where each is, of what was there before this writer. What is found is relied on from now on."""
        found = self._repository.packs.find_many(digests, for_writing=True)
        self._used.update(p.pack for p in found if p)
        return found

    def chunks_of(self, file: VersionFile | None) -> list[tuple[bytes, int]]:
        """How a stored file was cut; nothing when it was not, or nobody can tell. Only a hint."""
        if file is None or file.size_bytes <= SMALL_FILE_BYTES or isinstance(file, TableFile):
            return []
        with contextlib.suppress(Unavailable):
            found = self._repository.pieces(file)
            return found if len(found) > 1 else []
        return []

    def rely_on(self, pack: str) -> None:
        """A pack that this writer brought here itself."""
        self._used.add(pack)

    def finish(self) -> None:
        """Make the bytes durable. Raises Conflict when the collector is about to remove something that was relied on."""
        self.writer.finish()
        crash_here("packs.finished")
        if self._is_locked:
            return
        doomed = self._used & set(self._repository.tombstones())
        if doomed:
            self._repository.packs.refresh()
            raise Conflict("Data was being collected meanwhile.", hint="Commit again.")

    def commit(self, name: str, files: Manifest, new: NewCommit, *, root: str = "") -> tuple[Version, bool]:
        """Make the next version of `name` from files whose bytes are stored; False when the branch holds exactly them.

        Raises Conflict when `new.parent` is not the head of the branch any more.
        """
        _check(name, new)
        return self.move(name, files, new, self.prepare(name, files, new, root=root))

    def prepare(self, name: str, files: Manifest, new: NewCommit, *, root: str = "") -> str:
        """Make everything durable that the commit will name; returns its root digest."""
        self.finish()
        if not new.link and tables_in(files):
            check_tables(files, self._repository, known=self._known(name, new.branch))
        root = root or manifest.root_digest(files)
        self._repository.put_tree(files, base=self._base_root(name, new.branch), root=root)
        return root

    def _base_root(self, name: str, branch: str) -> str:
        found = self._repository._refs(name)
        base = found and found[0].branches.get(branch, found[0].branches.get(MAIN))
        return self._repository.commit(base).root if base else ""

    def _known(self, name: str, branch: str) -> frozenset[Footer]:
        """The fragments of the tables that the branch holds: they were checked when they came there."""
        root = self._base_root(name, branch)
        files = self._repository.files(root).values() if root else ()
        return frozenset(f for file in files if isinstance(file, TableFile) for f in footers(self._repository.table(file)))

    def move(self, name: str, files: Manifest, new: NewCommit, root: str) -> tuple[Version, bool]:
        """Write the commit and move the branch to it; `prepare` came before."""
        repository, result = self._repository, list[tuple[str, bool]]()

        def change(refs: Refs | None) -> Refs | None:
            now = repository.now_ms()
            refs = refs or Refs(dataset=name, created_at_ms=now, updated_at_ms=now, actor=new.actor)
            head = refs.branches.get(new.branch, "")
            if not head and new.branch != MAIN and refs.last_number:
                raise NotFound(
                    f"The dataset {name!r} has no branch {new.branch!r}.",
                    hint=f"Make it: noria data branch {name} {new.branch}.",
                )
            same = bool(head) and (c := repository.commit(head)).root == root and c.link == new.link
            if same and not new.parents:
                result[:] = [(head, False)]
                return repository._point(refs, new.alias, head, expect=None, actor=new.actor) if new.alias else None
            if new.expected is not None and new.expected != refs.expectations:
                raise Conflict(f"What is expected of {name!r} changed meanwhile.", hint="Commit again.")
            if new.parent and new.parent != head:
                at = f"Its latest version is {refs.number(head)} now ({head})" if head else "It has no version now"
                raise Conflict(
                    f"The dataset {name!r} moved since you read it.",
                    where="parent",
                    hint=f"{at}; look at what changed and commit again.",
                )
            commit = Commit(
                dataset=name, root=root, parents=[p for p in dict.fromkeys([head, *new.parents]) if p], at_ms=now,
                actor=new.actor, message=new.message, branch=new.branch, files_count=seen_count(files),
                size_bytes=sum(f.size_bytes for f in files.values()), link=new.link, table=new.table, rows_count=new.rows_count,
                schema=new.schema,
            )  # fmt: skip
            data = commit.encode()
            made = commit_id(data)
            repository.objects.write(commit_key(made), data)
            crash_here("commit.written")
            number = refs.last_number + 1
            refs = msgspec.structs.replace(
                refs,
                last_number=number,
                numbers={**refs.numbers, number: made},
                branches={**refs.branches, new.branch: made},
            )
            result[:] = [(made, True)]
            return (repository._point(refs, new.alias, made, expect=None, actor=new.actor) or refs) if new.alias else refs

        refs = repository.update(name, change)
        assert refs is not None
        made, is_new = result[0]
        if is_new and not self._is_locked and not repository.objects.has(trees.tree_key(root)):
            repository.put_tree(files, root=root)  # the collector removed it in the moment before the reference moved
        return repository._version(refs, made), is_new


def _check(name: str, new: NewCommit) -> None:
    check_name(name, what="dataset")
    if name == "blobs":
        raise Invalid(f"A dataset cannot be called {name!r}.", where="name", hint="Pick another name.")
    check_ref_name(new.branch, what="a branch")
    if new.alias:
        check_ref_name(new.alias, what="an alias")
    if len(new.message) > MESSAGE_LENGTH_MAX:
        raise Invalid(f"The message has more than {MESSAGE_LENGTH_MAX:,} characters.", where="message")


def _require_free(refs: Refs, name: str) -> None:
    """Branches, tags and aliases share one room, so that a selector means one thing."""
    kinds = {"branch": refs.branches, "tag": refs.tags, "alias": {a for a, x in refs.aliases.items() if x.commit}}
    for kind, names in kinds.items():
        if name in names:
            raise AlreadyExists(f"{refs.dataset!r} has a {kind} {name!r} already.", hint="Pick another name.")


def commit_key(name: str) -> str:
    return f"commits/{name[:2]}/{name}"


def open_repository(url: str, *, create: bool = True, clock: Callable[[], int] | None = None) -> Repository:
    """The repository at a path, file://, s3://, gs:// or az://. Raises Invalid, NotFound, Unavailable."""
    objects = open_objects(url, create=create)
    if not create and objects.read_tagged("format.json") is None:
        raise NotFound(f"There is no repository at {url}.", hint="Push to it first: noria data push NAME URL.")
    return Repository(objects, clock=clock)
