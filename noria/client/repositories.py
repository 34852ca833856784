"""Datasets without a server: the same classes, on the repository of the local home (or wherever NORIA_BLOBS points).

A server on the same home finds what was committed here and the other way round, since both keep the same references. What needs
more than files (profiles, samples, rows of a diff, what runs and models need) is answered by the application in this process.
"""

from __future__ import annotations

import contextlib
import getpass
import io
import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from noria.client.context import note_read, pinned
from noria.client.datasets import READ_BYTES, TABLE_FILE, Dataset, Progress, Version, gather_sources, selector_text, silent
from noria.client.ranges import Ranges
from noria.datasets import manifest
from noria.datasets.model import Damage, DatasetVersion, Diff, FileChange, TableFile, Verified, VersionFile, table_format
from noria.datasets.model import Dataset as DatasetInfo
from noria.kernel.errors import NoriaError, NotFound
from noria.repository.ingest import Gathered, gather, look
from noria.repository.model import MAIN
from noria.repository.repository import NewCommit, Repository, Writing, open_repository
from noria.repository.repository import Version as Found
from noria.repository.scan import StatCache
from noria.repository.tables.model import columns_of, tables_in
from noria.repository.tables.view import seen_count

if TYPE_CHECKING:
    from noria.client.api import Api
    from noria.datasets.expectations import Checked, Expectations
    from noria.repository.merge import Strategy
    from noria.repository.tables.table import Table
    from noria.repository.tables.whole import Copies

CHANGES_MAX = 1000  # listed in a diff


def home() -> Path:
    return Path(os.environ.get("NORIA_HOME") or "./noria-home").absolute()


def local_repository() -> Repository | None:
    """The repository of the local home; None when a server is named or runs on it: then it is asked."""
    from noria.client.api import project_url

    if os.environ.get("NORIA_URL") or project_url():
        return None
    if (home() / "server.json").exists():
        from noria.client.api import running_server

        if running_server():
            return None
    return open_repository(os.environ.get("NORIA_BLOBS") or str(home() / "blobs"))


def stat_cache(source: Any) -> StatCache | None:
    """What was seen of a folder, kept outside of it."""
    if not isinstance(source, str | Path):
        return None
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return StatCache(Path(base) / "noria" / "seen", Path(source))


def user() -> str:
    """Who commits, as far as this machine knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


class LocalDataset(Dataset):
    """A dataset in a repository."""

    def __init__(self, name: str, repository: Repository, api: Callable[[], Api] | None = None) -> None:
        self.name = name
        self.repository = repository
        self._connect = api or _in_process
        self._connected: Api | None = None
        self._at = f"/datasets/{quote(name, safe='')}"

    @property
    def _api(self) -> Api:  # type: ignore[override]
        if self._connected is None:
            self._connected = self._connect()
        return self._connected

    def commit(
        self,
        source: Any,
        *,
        message: str = "",
        alias: str = "",
        branch: str = MAIN,
        parent: Version | str | None = None,
        expect: Any = None,
        key: str | Iterable[str] | None = None,
        table: bool = False,
        progress: Progress | None = None,
    ) -> Version:
        """As on a server."""
        start = parent.id if isinstance(parent, Version) else parent or ""
        asked = self.gathered(source, branch=branch, expect=expect, progress=progress, key=key, table=table)
        with asked as (writing, gathered, base):
            wanted, warnings = self._as_expected(writing, gathered.files, base)
            new = NewCommit(
                message=message, alias=alias, branch=branch, parent=start, actor=user(), expected=wanted,
                **_described(self.repository, writing, gathered.files),
            )  # fmt: skip
            found, is_new = writing.commit(self.name, gathered.files, new, root=gathered.root)
        made = LocalVersion(self, found, is_new=is_new)
        made.warnings += warnings
        return made

    def _as_expected(self, writing: Writing, files: manifest.Manifest, base: manifest.Manifest) -> tuple[str, list[str]]:
        """What the dataset expects, and warnings; raises Invalid when the files are not like that."""
        try:
            text = self.repository.refs(self.name).expectations
        except NotFound:
            return "", []
        if not text:
            return "", []
        from noria.datasets import expectations

        writing.finish()
        skip = frozenset(f.digest for f in base.values())
        seen = self.repository.seen(files).values()
        checked = expectations.examine(expectations.decode(text), seen, self._save, skip=skip)
        return text, expectations.require(checked, self.name)

    def _save(self, file: VersionFile, target: Path) -> None:
        if isinstance(file, TableFile):
            self.repository.table(file).write(target)
            return
        with target.open("wb") as out:
            for piece in self.repository.read(file):
                out.write(piece)

    def compact(self, *, branch: str = MAIN, message: str = "", progress: Progress | None = None) -> Version:
        from noria.client.frames import as_compacted

        head = self.version(branch)
        with tempfile.TemporaryDirectory(prefix="noria-commit-") as folder, self.repository.writing() as writing:
            files, kept = as_compacted(self._table_of(branch), head.handle, Path(folder))
            kept += [f for f in head.files() if f.path != TABLE_FILE]
            gathered = _with(gather(writing, files, say=progress or silent), kept)
            new = NewCommit(
                message=message or "Compacted", branch=branch, parent=head.id, actor=user(),
                **_described(self.repository, writing, gathered.files),
            )  # fmt: skip
            found, is_new = writing.commit(self.name, gathered.files, new, root=gathered.root)
        return LocalVersion(self, found, is_new=is_new)

    @contextlib.contextmanager
    def gathered(
        self,
        source: Any,
        *,
        branch: str,
        expect: Any = None,
        progress: Progress | None,
        key: str | Iterable[str] | None = None,
        table: bool = False,
    ) -> Iterator[tuple[Writing, Gathered, manifest.Manifest]]:
        """Everything stored that a commit names; also what the branch held before."""
        with tempfile.TemporaryDirectory(prefix="noria-commit-") as folder, self.repository.writing() as writing:
            root, base = self._head(branch)
            from noria.client.frames import as_table, is_table

            if is_table(source, key, table):
                old = self._table_of(branch)
                new, kept = as_table(source, old, Path(folder), key=key, expect=expect, label=self.name, say=progress)
                yield writing, _with(gather(writing, new, say=progress or silent), kept), base
                return
            files = gather_sources(source, Path(folder))
            if expect is not None:
                from noria.client.expecting import require_source

                require_source(files, expect, self.name)
            gathered = gather(writing, files, cache=stat_cache(source), base=base, base_root=root, say=progress or silent)
            yield writing, gathered, base

    def _head(self, branch: str) -> tuple[str, manifest.Manifest]:
        """Root digest and files of a branch's head."""
        with contextlib.suppress(NotFound):
            refs = self.repository.refs(self.name)
            head = refs.branches.get(branch) or refs.branches.get(MAIN)
            if head and not (commit := self.repository.commit(head)).link:
                return commit.root, self.repository.manifest(commit.root)
        return "", {}

    def version(self, selector: str | int = "latest") -> Version:
        for wanted in pinned(selector):
            with contextlib.suppress(NotFound):  # a version of another dataset
                return LocalVersion(self, self.repository.version(self.name, wanted))
        return LocalVersion(self, self.repository.version(self.name, selector_text(selector)))

    def versions(self, *, branch: str = "", limit: int | None = None) -> list[Version]:
        return [LocalVersion(self, v) for v in self.repository.versions(self.name, branch=branch, limit=limit)]

    def info(self) -> DatasetInfo:
        return self.repository.info(self.repository.refs(self.name))

    def diff(
        self, a: str | int, b: str | int = "latest", *, rows: bool = False, key: str | Iterable[str] = (), path: str = "",
        limit: int = 20,
    ) -> Diff:  # fmt: skip
        before, after = self.version(a), self.version(b)
        changes = self.repository.changes(before.info.root_digest, after.info.root_digest)
        has_tables = any(table_format(c.path) and c.after is not None for c in changes)
        if rows or has_tables:
            return super().diff(before.id, after.id, rows=rows, key=key, path=path, limit=limit)
        added = [c for c in changes if c.before is None]
        removed = [c for c in changes if c.after is None]
        changed = [c for c in changes if c.before is not None and c.after is not None]
        return Diff(
            a=before.info, b=after.info, added_count=len(added), removed_count=len(removed), changed_count=len(changed),
            added=added[:CHANGES_MAX], removed=removed[:CHANGES_MAX], changed=changed[:CHANGES_MAX],
        )  # fmt: skip

    def status(self, source: str | Path, selector: str | int = "latest") -> list[FileChange]:
        found = self.repository.version(self.name, selector_text(selector))
        version = LocalVersion(self, found)
        return folder_status(Path(source), found.commit.root, lambda: {f.path: f for f in version.files(whole=True)})

    def expectations(self) -> Expectations:
        from noria.datasets.expectations import decode

        return decode(self.repository.refs(self.name).expectations)

    def expect(self, wanted: Any) -> Expectations:
        from noria.client.expecting import read_expectations
        from noria.datasets.expectations import Expectations, encode

        found = read_expectations(wanted)
        self.repository.expect(self.name, "" if found == Expectations() else encode(found))
        return found

    def move_alias(self, alias: str, selector: str | int, *, expect: int | None = None) -> None:
        self.repository.move_alias(self.name, alias, selector_text(selector), expect=expect, actor=user())

    def remove_alias(self, alias: str) -> None:
        self.repository.remove_alias(self.name, alias, actor=user())

    def branches(self) -> dict[str, Version]:
        return self._at_commits(self.repository.refs(self.name).branches)

    def branch(self, branch: str, at: str | int = "latest") -> None:
        self.repository.branch(self.name, branch, selector_text(at))

    def delete_branch(self, branch: str) -> None:
        self.repository.delete_branch(self.name, branch)

    def tags(self) -> dict[str, Version]:
        return self._at_commits(self.repository.refs(self.name).tags)

    def tag(self, tag: str, at: str | int = "latest") -> None:
        self.repository.tag(self.name, tag, selector_text(at))

    def delete_tag(self, tag: str) -> None:
        self.repository.delete_tag(self.name, tag)

    def _at_commits(self, names: dict[str, str]) -> dict[str, Version]:
        return {name: self.version(commit) for name, commit in sorted(names.items())}

    def merge(
        self, theirs: str | int, *, into: str = MAIN, message: str = "", strategy: Strategy = ""
    ) -> tuple[Version, str]:
        from noria.repository.merge import merge

        found = self.repository.version(self.name, selector_text(theirs))
        with self.repository.writing() as writing:
            made, outcome = merge(
                self.repository, writing, self.name, found.id, into=into, message=message, strategy=strategy, actor=user(),
                expected=lambda files: self._as_expected(writing, files, self._head(into)[1])[0],
            )  # fmt: skip
        return LocalVersion(self, made), outcome

    def delete(self, selector: str | int) -> Version:
        found = self.version(selector)
        if (home() / "noria.db").exists():  # runs and models may need it; only the application knows
            return super().delete(found.id)
        return LocalVersion(self, self.repository.delete_version(self.name, found.id))


class LocalVersion(Version):
    """A version in a repository."""

    def __init__(self, dataset: LocalDataset, found: Found, *, is_new: bool = False) -> None:
        self.dataset = dataset
        self.info = found.info()
        self.link = found.commit.link
        self.is_new = is_new
        self.warnings: list[str] = []
        self._repository = dataset.repository
        self._local = dataset
        self._at = f"{dataset._at}/versions/{self.info.id}"

    @property
    def _api(self) -> Api:  # type: ignore[override]
        return self._local._api

    @property
    def rows_count(self) -> int | None:
        """Of all its Parquet files together, from their footers; None when it has none."""
        if self.info.rows_count is None:
            tables = [f for f in self.files() if table_format(f.path) == "parquet"]
            if tables:
                from pyarrow import parquet

                return sum(
                    self._rows_of(f).rows_count
                    if isinstance(f, TableFile)
                    else parquet.read_metadata(self._open(f)).num_rows
                    for f in tables
                )
        return self.info.rows_count

    def files(self, prefix: str = "", *, limit: int | None = None, whole: bool = False) -> list[VersionFile]:
        found = (f for path, f in _manifest(self._repository, self.info).items() if path.startswith(prefix))
        return [self._whole(f) if whole else f for f in itertools.islice(found, limit)]

    def _whole(self, file: VersionFile) -> VersionFile:
        return self._repository.whole(file) if isinstance(file, TableFile) else file

    def _rows_of(self, file: TableFile) -> Table:
        return self._repository.table(file)

    @property
    def _copies(self) -> Copies:
        return self._repository.copies

    def verify(self, progress: Progress | None = None) -> Verified:
        damaged, size_bytes = list[Damage](), 0
        files = self.files()
        for i, file in enumerate(files):
            size_bytes += file.size_bytes
            if not i % 256:
                (progress or silent)(f"{i:,} of {len(files):,} files")
            if problem := self._problem(file):
                damaged.append(Damage(path=file.path, problem=problem))
        return Verified(files_count=len(files), size_bytes=size_bytes, damaged=damaged)

    def _problem(self, file: VersionFile) -> str:
        from blake3 import blake3

        if isinstance(file, TableFile):
            return next((problem for part in file.parts if (problem := self._problem(part))), "")
        whole = blake3()
        try:
            for piece in self._pieces(file):
                whole.update(piece)
        except NoriaError as error:
            return error.message
        return "" if self.link or whole.hexdigest() == file.digest else "Its bytes do not match its digest."

    def check(self, wanted: Any = None) -> Checked:
        from noria.client.expecting import read_expectations
        from noria.datasets.expectations import examine

        mine = self.dataset.expectations() if wanted is None else read_expectations(wanted)
        return examine(mine, self.files(), self._local._save)

    def open(self, path: str = "") -> io.BufferedReader:
        self._note_read()
        file = self._file(path)
        if isinstance(file, TableFile):
            return self._repository.whole_path(file).open("rb")
        return self._open(file)

    def _open(self, file: VersionFile) -> io.BufferedReader:
        return io.BufferedReader(
            Ranges(file.digest, file.size_bytes, lambda start, end: self._pieces(file, start, end)), buffer_size=READ_BYTES
        )

    def _pieces(self, file: VersionFile, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        if self.link:
            from noria.repository.links import read_linked

            return read_linked(self.link, file, start, end)
        return self._repository.read(file, start, end)

    def read(self, path: str = "") -> bytes:
        self._note_read()
        return self._read_file(self._file(path))

    def _read_file(self, file: VersionFile) -> bytes:
        return b"".join(self._pieces(file))

    def checkout(
        self, target: str | Path, *, overwrite: bool = False, link: bool = False, prefix: str = "",
        progress: Progress | None = None,
    ) -> Path:  # fmt: skip
        from noria.repository.checkout import checkout

        self._note_read()
        files = {f.path: f for f in self.files(prefix)}
        read = (lambda file: self._pieces(file)) if self.link else None
        return checkout(
            self._repository, files, Path(target), overwrite=overwrite, link=link, say=progress or silent, read=read
        )

    def _note_read(self) -> None:
        note_read(f"dataset_version:{self.info.id}", self._repository.url)


def _manifest(repository: Repository, info: DatasetVersion) -> manifest.Manifest:
    return repository.files(info.root_digest)


def _with(found: Gathered, kept: Iterable[VersionFile]) -> Gathered:
    """The same with files that were stored before."""
    files = manifest.sort(found.files | {f.path: f for f in kept})
    return msgspec.structs.replace(found, files=files, root=manifest.root_digest(files))


def _described(repository: Repository, writing: Writing, files: manifest.Manifest) -> dict[str, Any]:
    """Rows and columns of a version that is one table."""
    if len(tables_in(files)) != 1 or seen_count(files) != 1:
        return {}
    writing.finish()
    (file,) = repository.seen(files).values()
    assert isinstance(file, TableFile)
    table = repository.table(file)
    return {"rows_count": table.rows_count, "schema": columns_of(table.schema)}


def folder_status(source: Path, root: str, files: Callable[[], manifest.Manifest]) -> list[FileChange]:
    """What a folder has that a version does not, and the other way round; nothing is read of what did not change."""
    cache = stat_cache(source)
    seen = look(source, cache, {}, root)
    if seen is None or seen[1] == root:
        return []
    return manifest.changes(files(), seen[0])


def _in_process() -> Api:
    from noria.client.api import connect

    return connect()
