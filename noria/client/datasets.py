"""Datasets from Python: commit, list, read, compare.

    flights = noria.dataset("flights")
    flights.commit("data/", message="January", alias="train")      # a file, a folder, a data frame or an Arrow table
    frame = flights.version("latest").to_pandas()

Nothing is uploaded twice: files are cut where their content decides, and only chunks the server lacks are sent.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from noria.client.chunks import describe
from noria.client.context import note_read, pinned
from noria.client.ranges import Ranges
from noria.datasets.model import (
    DIGESTS_PER_QUESTION,
    EXECUTABLE_MODE,
    FILE_MODE,
    MANIFEST_INLINE_BYTES,
    PACK_BYTES,
    Chunk,
    Damage,
    DatasetVersion,
    Diff,
    FileChange,
    FileEntry,
    NewVersion,
    Profile,
    Sample,
    TableFile,
    Verified,
    VersionFile,
    check_path,
    table_format,
)
from noria.datasets.model import Dataset as DatasetInfo
from noria.kernel.errors import Conflict, Invalid, NotFound, TooMuch, Unavailable
from noria.kernel.ids import DatasetVersionId, check_name, parse_handle
from noria.repository.scan import Source, StatCache, known_digests, now_ns, place_of, row_of, scan
from noria.repository.walker import Row

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow
    import pyarrow.dataset

    from noria.client.api import Api
    from noria.client.streaming import Stream
    from noria.datasets.expectations import Checked, Expectations
    from noria.repository.merge import Strategy
    from noria.repository.tables.table import Table
    from noria.repository.tables.whole import Copies

UPLOADS_AT_ONCE = 8
READ_BYTES = 256 << 10  # what a file object asks for at once
TABLE_FILE = "data.parquet"  # the file a data frame becomes
Progress = Callable[[str], None]


def dataset(name: str, *, api: Api | None = None) -> Dataset:
    """The dataset `name`, which need not exist yet.

    On the server that NORIA_URL names or that runs on the local home; without one, in the repository of the home, with no server
    and no database. With `api`, on that server.
    """
    check_name(name, what="dataset")
    if api is None:
        from noria.client.repositories import LocalDataset, local_repository

        repository = local_repository()
        if repository is not None:
            return LocalDataset(name, repository)
        from noria.client.api import connect

        api = connect()
    return Dataset(name, api)


class Dataset:
    """A dataset on a server: its versions, and the way to make the next one."""

    def __init__(self, name: str, api: Api) -> None:
        self.name = name
        self._api = api
        self._at = f"/datasets/{quote(name, safe='')}"

    def commit(
        self,
        source: Any,
        *,
        message: str = "",
        alias: str = "",
        branch: str = "main",
        parent: Version | str | None = None,
        expect: Any = None,
        key: str | Iterable[str] | None = None,
        table: bool = False,
        progress: Progress | None = None,
    ) -> Version:
        """Make a version from `source` and return it; `.is_new` is False when the latest one already was the same.

        `source`: the path of a file or folder, a frame, or a dict of paths to any of these or bytes. A frame (pandas, polars, an
        Arrow table or reader, a DuckDB relation; with `table`, also the path of a Parquet file) becomes a table, of which only
        the rows that changed are stored; in a dict it becomes a Parquet file. `key`: the columns that name a row of the table,
        that of the branch's table when left out; then the order of rows does not count. `parent`: the version you started from;
        raises Conflict when it is not the latest any more. Symbolic links to files are followed; links to folders raise Invalid.
        `expect`: what this commit must be like, besides what the dataset expects anyhow: the path of a YAML file, a dict, or a
        pandera schema for the tables.
        """
        with tempfile.TemporaryDirectory(prefix="noria-commit-") as folder:
            from noria.client.frames import as_table, is_table
            from noria.client.repositories import stat_cache

            kept: list[VersionFile] = []
            files: Source
            if is_table(source, key, table):
                base = self._table_of(branch)
                files, kept = as_table(source, base, Path(folder), key=key, expect=expect, label=self.name, say=progress)
            else:
                files = gather_sources(source, Path(folder))
                if expect is not None:
                    from noria.client.expecting import require_source

                    require_source(files, expect, self.name)
            entries = _Upload(self._api, progress or silent, stat_cache(source) if not kept else None).send(files)
            entries += [FileEntry(path=f.path, size_bytes=f.size_bytes, digest=f.digest, mode=f.mode) for f in kept]
            start = parent.id if isinstance(parent, Version) else parent and DatasetVersionId(parent)
            new = NewVersion(files=entries, message=message, alias=alias, branch=branch, parent=start or None)
            answer = self._api.post(f"{self._at}/versions", _fit(self._api, new), timeout_s=600.0)
        info = msgspec.convert(answer["version"], DatasetVersion)
        return Version(self, info, is_new=answer["is_new"], warnings=answer["warnings"])

    def _table_of(self, branch: str) -> Table | None:
        """The table that a branch holds, as far as the next commit can build on it."""
        try:
            head = self.version(branch)
        except NotFound:
            return None
        file = None if head.info.link else next((f for f in head.files(TABLE_FILE) if f.path == TABLE_FILE), None)
        return head._rows_of(file) if isinstance(file, TableFile) else None

    def compact(self, *, branch: str = "main", message: str = "", progress: Progress | None = None) -> Version:
        """Make a version with the same rows, whose table has no layers of changed rows any more. Raises NotFound, Conflict."""
        from noria.client.frames import as_compacted

        with tempfile.TemporaryDirectory(prefix="noria-commit-") as folder:
            head = self.version(branch)
            files, kept = as_compacted(self._table_of(branch), head.handle, Path(folder))
            entries = _Upload(self._api, progress or silent).send(files)
            kept += [f for f in head.files() if f.path != TABLE_FILE]
            entries += [FileEntry(path=f.path, size_bytes=f.size_bytes, digest=f.digest, mode=f.mode) for f in kept]
            new = NewVersion(files=entries, message=message or "Compacted", branch=branch, parent=head.id)
            answer = self._api.post(f"{self._at}/versions", _fit(self._api, new), timeout_s=600.0)
        return Version(self, msgspec.convert(answer["version"], DatasetVersion), is_new=answer["is_new"])

    def version(self, selector: str | int = "latest") -> Version:
        """The version that `selector` names: a number (3, "v3"), an alias, an id or "latest"; a leading @ is allowed."""
        for wanted in (*pinned(selector), selector):
            try:
                answer = self._api.get(f"{self._at}/versions/{_selector(wanted)}")
            except NotFound:  # a pinned version of another dataset
                if wanted is selector:
                    raise
            else:
                return Version(self, msgspec.convert(answer, DatasetVersion))
        raise AssertionError("the last one is the selector")

    def versions(self, *, branch: str = "", limit: int | None = None) -> list[Version]:
        """The history, newest first, at most `limit`; with `branch`, along its first parents."""
        items = self._api.items(f"{self._at}/versions", limit=min(limit or 1000, 1000), branch=branch or None)
        found = itertools.islice(items, limit)
        return [Version(self, msgspec.convert(v, DatasetVersion)) for v in found]

    def info(self) -> DatasetInfo:
        """The dataset with its aliases."""
        return msgspec.convert(self._api.get(self._at), DatasetInfo)

    def diff(
        self, a: str | int, b: str | int = "latest", *, rows: bool = False, key: str | Iterable[str] = (), path: str = "",
        limit: int = 20,
    ) -> Diff:  # fmt: skip
        """What changed from `a` to `b`: files, columns and, with `rows`, rows joined on `key` (one name or several)."""
        keys = key if isinstance(key, str) else ",".join(key)
        answer = self._api.get(
            f"{self._at}/diff",
            a=selector_text(a),
            b=selector_text(b),
            rows=int(rows) or None,
            key=keys or None,
            path=path or None,
            limit=limit,
        )
        return msgspec.convert(answer, Diff)

    def expectations(self) -> Expectations:
        """What a commit must be like."""
        from noria.datasets.expectations import Expectations

        return msgspec.convert(self._api.get(f"{self._at}/expectations"), Expectations)

    def expect(self, wanted: Any) -> Expectations:
        """Refuse commits that are not like that from now on: the path of a YAML file, a dict or Expectations; {} for nothing."""
        from noria.client.expecting import read_expectations
        from noria.datasets.expectations import Expectations

        answer = self._api.put(f"{self._at}/expectations", read_expectations(wanted))
        return msgspec.convert(answer, Expectations)

    def move_alias(self, alias: str, selector: str | int, *, expect: int | None = None) -> None:
        """Point `alias` at a version; with `expect`, only if its generation is still that."""
        self._api.put(f"{self._at}/aliases/{quote(alias, safe='')}", {"selector": selector_text(selector), "expect": expect})

    def remove_alias(self, alias: str) -> None:
        self._api.delete(f"{self._at}/aliases/{quote(alias, safe='')}")

    def status(self, source: str | Path, selector: str | int = "latest") -> list[FileChange]:
        """What a folder has that a version does not, and the other way round; unchanged files are told without reading."""
        from noria.client.repositories import folder_status

        found = self.version(selector)
        return folder_status(Path(source), found.root_digest, lambda: {f.path: f for f in found.files(whole=True)})

    def branches(self) -> dict[str, Version]:
        """The branches and their heads."""
        return self._named("branch")

    def branch(self, branch: str, at: str | int = "latest") -> None:
        """Make a branch at a version. Raises AlreadyExists."""
        self._api.put(f"{self._at}/branches/{quote(branch, safe='')}", {"selector": selector_text(at)})

    def delete_branch(self, branch: str) -> None:
        """Its versions stay."""
        self._api.delete(f"{self._at}/branches/{quote(branch, safe='')}")

    def tags(self) -> dict[str, Version]:
        """The names that never move."""
        return self._named("tag")

    def tag(self, tag: str, at: str | int = "latest") -> None:
        """Give a version a name that never moves; it cannot be deleted then. Raises AlreadyExists."""
        self._api.put(f"{self._at}/tags/{quote(tag, safe='')}", {"selector": selector_text(at)})

    def delete_tag(self, tag: str) -> None:
        self._api.delete(f"{self._at}/tags/{quote(tag, safe='')}")

    def _named(self, kind: str) -> dict[str, Version]:
        found = self._api.get(f"{self._at}/names")
        return {n["name"]: self.version(n["version_id"]) for n in found if n["kind"] == kind}

    def merge(
        self, theirs: str | int, *, into: str = "main", message: str = "", strategy: Strategy = ""
    ) -> tuple[Version, str]:
        """Bring a version into a branch: its head, and nothing, fast-forward or merged.

        Raises Conflict naming the paths that both sides changed, unless `strategy` (ours, theirs) decides them.
        """
        body = {"theirs": selector_text(theirs), "into": into, "message": message, "strategy": strategy}
        answer = self._api.post(f"{self._at}/merge", body, timeout_s=600.0)
        return Version(self, msgspec.convert(answer["version"], DatasetVersion)), answer["outcome"]

    def delete(self, selector: str | int) -> Version:
        """Take a version out of the history. Raises Conflict while anything needs it."""
        found = self.version(selector)
        self._api.delete(f"{self._at}/versions/{found.id}")
        return found

    def __repr__(self) -> str:
        return f"Dataset({self.name!r})"


class Version:
    """One version: what is in it, and ways to read it. `info` has every field."""

    link = ""  # the address of the files, when the version is a link

    def __init__(
        self, dataset: Dataset, info: DatasetVersion, *, is_new: bool = False, warnings: Iterable[str] = ()
    ) -> None:
        self.dataset = dataset
        self.info = info
        self.is_new = is_new
        self.warnings = list(warnings)
        self._opened: dict[str, Table] = {}
        self._api = dataset._api
        self._at = f"{dataset._at}/versions/{info.id}"

    @property
    def id(self) -> DatasetVersionId:
        return self.info.id

    @property
    def number(self) -> int:
        return self.info.number

    @property
    def root_digest(self) -> str:
        return self.info.root_digest

    @property
    def rows_count(self) -> int | None:
        return self.info.rows_count

    @property
    def files_count(self) -> int:
        return self.info.files_count

    @property
    def size_bytes(self) -> int:
        return self.info.size_bytes

    @property
    def message(self) -> str:
        return self.info.message

    @property
    def handle(self) -> str:
        """`flights@3`: what people type, and what a run records."""
        return f"{self.info.dataset}@{self.info.number}"

    def files(self, prefix: str = "", *, limit: int | None = None, whole: bool = False) -> list[VersionFile]:
        """The files whose path begins with `prefix`, by path; at most `limit`.

        A table is a TableFile, with its parts; with `whole`, the Parquet file that it is read as, which takes writing it.
        """
        found = self._api.items(
            f"{self._at}/files", limit=min(limit or 10_000, 10_000), prefix=prefix or None, whole=whole or None
        )
        return [msgspec.convert(f, TableFile if "parts" in f else VersionFile) for f in itertools.islice(found, limit)]

    def verify(self, progress: Progress | None = None) -> Verified:
        """Read every byte again where it is kept, and compare it with its digest."""
        files_count, size_bytes, damaged, after = 0, 0, list[Damage](), ""
        while True:
            part = self._api.post(f"{self._at}/verify?after={quote(after, safe='')}", timeout_s=600.0)
            files_count, size_bytes = files_count + part["files_count"], size_bytes + part["size_bytes"]
            damaged += msgspec.convert(part["damaged"], list[Damage])
            (progress or silent)(f"{files_count:,} files, {size_bytes >> 20:,} MiB")
            after = part.get("next") or ""
            if not after:
                return Verified(files_count=files_count, size_bytes=size_bytes, damaged=damaged)

    def check(self, wanted: Any = None) -> Checked:
        """Is this version as its dataset expects, or as `wanted` (a YAML file, a dict, Expectations)? Every table is read."""
        from noria.client.expecting import read_expectations
        from noria.datasets.expectations import Checked

        body = None if wanted is None else read_expectations(wanted)
        return msgspec.convert(self._api.post(f"{self._at}/check", body, timeout_s=600.0), Checked)

    def open(self, path: str = "") -> io.BufferedReader:
        """A file object, seekable; only the parts that are read are fetched. `path` may be left out for a single file."""
        self._note_read()
        return self._open(self._whole(self._file(path)))

    def _open(self, file: VersionFile) -> io.BufferedReader:
        return io.BufferedReader(
            Ranges(file.digest, file.size_bytes, lambda start, end: self._range(file, start, end)), buffer_size=READ_BYTES
        )

    def _whole(self, file: VersionFile) -> VersionFile:
        """What is read of a file: of a table, its one Parquet file."""
        if not isinstance(file, TableFile):
            return file
        return next(f for f in self.files(file.path, whole=True) if f.path == file.path)

    def _rows_of(self, file: TableFile) -> Table:
        """A table, as rows."""
        from noria.repository.tables.table import Table

        if file.digest not in self._opened:
            self._opened[file.digest] = Table(file.path, file.parts, StoredParts(self))
        return self._opened[file.digest]

    def _range(self, file: VersionFile, start: int, end: int) -> Iterator[bytes]:
        return self._api.get_bytes(f"{self._at}/content", path=file.path, start=start, end=end)

    def read(self, path: str = "") -> bytes:
        """All bytes of a file, checked against its digest."""
        self._note_read()
        return self._read_file(self._whole(self._file(path)))

    def _read_file(self, file: VersionFile) -> bytes:
        return b"".join(_checked(self._api.get_bytes(f"{self._at}/content", path=file.path), self._whole(file)))

    def table(self, path: str = "") -> pyarrow.Table:
        """A Parquet or CSV file as an Arrow table. Without `path`: the version's tables, joined end to end if they agree."""
        import pyarrow as pa

        self._note_read()
        if self.info.table and not path:
            return self._lake().to_table()
        found = [self._read_table(file) for file in self._tables(path)]
        if any(t.schema != found[0].schema for t in found[1:]):
            raise Invalid(
                f"The tables of {self.handle} have different columns.", where="path", hint="Say which one: table(PATH)."
            )
        return found[0] if len(found) == 1 else pa.concat_tables(found)

    def to_pandas(self, path: str = "") -> pandas.DataFrame:
        """The same as a pandas data frame."""
        return self.table(path).to_pandas()

    def to_polars(self, path: str = "") -> polars.DataFrame:
        """The same as a polars data frame. Raises Invalid without polars."""
        try:
            import polars
        except ModuleNotFoundError as missing:
            raise Invalid("This needs polars.", hint="pip install polars") from missing
        return polars.from_arrow(self.table(path))

    def arrow_dataset(self, prefix: str = "") -> pyarrow.dataset.Dataset:
        """The version's tables (or those whose path begins with `prefix`) as one Arrow dataset, read as it is asked for.

        Larger than memory is fine: columns and row groups that are not needed are not fetched. Of a table, the parts in which
        rows were changed since they were written are copied first. Raises NotFound, and Invalid when they are of different
        formats.
        """
        import pyarrow.dataset as pads

        from noria.client.filesystem import NoriaFileSystem
        from noria.repository.tables.whole import as_dataset

        self._note_read()
        if self.info.table and not prefix:
            return self._lake()
        found = [f for f in self.files(prefix) if table_format(f.path)]
        if not found:
            raise NotFound(f"{self.handle} has no Parquet or CSV file that begins with {prefix!r}.", where="prefix")
        if len({table_format(f.path) for f in found}) > 1:
            raise Invalid(f"{self.handle} has tables of several formats.", where="prefix", hint="Choose with a prefix.")
        kind, files = table_format(found[0].path) or "", NoriaFileSystem.of(self)
        if any(isinstance(f, TableFile) for f in found):
            parts = [
                as_dataset(self._rows_of(f), self._copies)
                if isinstance(f, TableFile)
                else pads.dataset(f"{self.handle}/{f.path}", format=kind, filesystem=files)
                for f in found
            ]
            return parts[0] if len(parts) == 1 else pads.dataset(parts)
        return pads.dataset([f"{self.handle}/{f.path}" for f in found], format=kind, filesystem=files)

    @property
    def _copies(self) -> Copies:
        from noria.repository.tables.whole import Copies, copies_of_user

        return Copies(copies_of_user())

    def _lake(self) -> Any:
        """A linked Delta, Iceberg or Lance table, read where it is by its own library. Raises Unavailable when it is gone."""
        from noria.repository.lake import open_lake
        from noria.repository.links import require_unchanged

        require_unchanged(self.info.link, self.files())
        return open_lake(self.info.link, self.info.table)

    def stream(self, prefix: str = "", **options: Any) -> Stream:
        """Samples, without a checkout: rows of the version's tables, or whole files. See docs/guides/data.md.

        `columns`: of tables; all when left out. `batch_size`: give so many at once (tables: a dict of NumPy arrays). `shuffle`,
        `seed`, `window`: the order; samples are mixed among `window` at a time. `rank`, `ranks`: the share of this process;
        torch.distributed or RANK and WORLD_SIZE say it otherwise. `even`: every share gives equally many. `transform`: called
        with each sample or batch. The stream has `state_dict`, `load_state_dict` and `set_epoch`.
        """
        from noria.client.streaming import Stream

        return Stream(self, prefix=prefix, **options)

    def torch(self, prefix: str = "", **options: Any) -> Stream:
        """The same as a PyTorch `IterableDataset`, shared out over the workers of a DataLoader. Raises Invalid without PyTorch."""
        try:
            from noria.client.torch import TorchStream
        except ModuleNotFoundError as missing:
            raise Invalid("This needs PyTorch.", hint="pip install torch") from missing
        return TorchStream(self, prefix=prefix, **options)

    def profile(self) -> Profile:
        """What is in the version's tables; its `state` is pending until they have been read."""
        return msgspec.convert(self._api.get(f"{self._at}/profile"), Profile)

    def sample(self, path: str = "", *, limit: int = 20) -> Sample:
        """The first rows or lines of a file."""
        return msgspec.convert(self._api.get(f"{self._at}/sample", path=path or None, limit=limit), Sample)

    def checkout(
        self, target: str | Path, *, overwrite: bool = False, link: bool = False, prefix: str = "",
        progress: Progress | None = None,
    ) -> Path:  # fmt: skip
        """Write every file (or those whose path begins with `prefix`) below `target`, each checked against its digest.

        A new folder appears at once, complete, or not at all. An existing folder that is not empty raises Conflict, unless
        `overwrite`: then files of the same path are replaced, and others stay.
        """
        from noria.repository.checkout import whole_folder

        self._note_read()
        if link:
            raise Invalid("Files of a server cannot be linked.", where="link", hint="Leave out --link.")
        say, target = progress or silent, Path(target)
        if target.exists() and (not target.is_dir() or any(target.iterdir())) and not (overwrite and target.is_dir()):
            raise Conflict(f"{target} exists and is not empty.", hint="Choose another folder, or overwrite (--force).")
        if overwrite and target.is_dir():
            self._write_files(target, say, prefix)
            return target
        with whole_folder(target) as folder:
            self._write_files(folder, say, prefix)
        return target

    def _write_files(self, folder: Path, say: Progress, prefix: str) -> None:
        files = self.files(prefix, whole=True)

        def write(numbered: tuple[int, VersionFile]) -> None:
            i, file = numbered
            say(f"{i + 1} of {len(files)} files")
            place = folder / check_path(file.path)
            place.parent.mkdir(parents=True, exist_ok=True)
            draft = place.with_name(f".{os.urandom(6).hex()}.part")
            try:
                with draft.open("wb") as out:
                    for piece in _checked(self._api.get_bytes(f"{self._at}/content", path=file.path), file):
                        out.write(piece)
                draft.chmod(file.mode)
                draft.replace(place)
            finally:
                draft.unlink(missing_ok=True)

        with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
            for _ in pool.map(write, enumerate(files)):
                pass

    def _note_read(self) -> None:
        """What a pipeline step or a run reads becomes its edge; see noria/client/context.py."""
        note_read(f"dataset_version:{self.info.id}", self._api.url)

    def _file(self, path: str) -> VersionFile:
        found = self.files(path)
        for file in found:
            if file.path == path:
                return file
        if not path and len(found) == 1:
            return found[0]
        raise NotFound(
            f"{self.handle} has no file {path!r}." if path else f"{self.handle} has {len(found)} files.",
            where="path",
            hint="It has: " + ", ".join(f.path for f in (found or self.files())[:5]) + ".",
        )

    def _tables(self, path: str) -> list[VersionFile]:
        if path:
            return [self._file(path)]
        found = [f for f in self.files() if table_format(f.path)]
        if not found:
            raise NotFound(f"{self.handle} has no Parquet or CSV file.", where="path")
        return found

    def _read_table(self, file: VersionFile) -> pyarrow.Table:
        if isinstance(file, TableFile):
            return self._rows_of(file).read()
        with self.open(file.path) as source:
            if table_format(file.path) == "csv":
                from pyarrow import csv

                delimiter = "\t" if file.path.lower().endswith(".tsv") else ","
                return csv.read_csv(source, parse_options=csv.ParseOptions(delimiter=delimiter))
            from pyarrow import parquet

            return parquet.read_table(source)

    def __repr__(self) -> str:
        return f"Version({self.handle!r})"


class StoredParts:
    """The stored files of a version's tables."""

    def __init__(self, version: Version) -> None:
        self._version = version

    def read(self, file: VersionFile) -> bytes:
        return self._version._read_file(file)

    def open(self, file: VersionFile) -> io.BufferedReader:
        return self._version._open(file)


def resolve(handle: str, *, api: Api | None = None) -> Version:
    """The version a handle such as `flights@train` names."""
    found = parse_handle(handle, kind="dataset")
    return dataset(found.name, api=api).version(found.selector or "latest")


# --- gathering --------------------------------------------------------------------------------------------------------


def gather_sources(source: Any, folder: Path) -> Path | dict[str, Path]:
    """`source` as a path, or as files by their path in the version; frames and bytes are written to `folder` first."""
    if isinstance(source, str | Path):
        return Path(source)
    if isinstance(source, Mapping):
        found: dict[str, Path] = {}
        for i, (path, item) in enumerate(source.items()):
            if isinstance(item, str | Path):
                if Path(item).is_file():
                    found[check_path(path)] = Path(item)
                else:
                    found |= {check_path(f"{path}/{row[0]}"): Path(item) / row[0] for row in scan(Path(item))}
            else:
                found[check_path(path)] = _write(item, folder / str(i))
        return found
    return {TABLE_FILE: _write(source, folder / TABLE_FILE)}


def _write(item: Any, target: Path) -> Path:
    if isinstance(item, bytes | bytearray | memoryview):
        target.write_bytes(item)
        return target
    import pyarrow as pa
    from pyarrow import parquet

    if not isinstance(item, pa.Table):
        if not hasattr(item, "columns"):
            raise Invalid(
                f"A {type(item).__name__} cannot be committed.", hint="Give a path, a data frame or an Arrow table."
            )
        item = pa.Table.from_pandas(item)
    # Pages end where the content decides, so that changed rows change few chunks.
    parquet.write_table(item, target, compression="zstd", use_content_defined_chunking=True)
    return target


# --- uploading --------------------------------------------------------------------------------------------------------


class _Place(Struct, frozen=True):
    """Where the bytes of a blob are on this machine."""

    file: Path
    start: int
    size_bytes: int


class _Upload:
    """Reads files once to name their blobs, asks which are missing, and sends those."""

    def __init__(self, api: Api, say: Progress, cache: StatCache | None = None) -> None:
        self._api = api
        self._say = say
        self._cache = cache
        self._places: dict[str, _Place] = {}

    def send(self, source: Source) -> list[FileEntry]:
        """Store what is missing; of files that did not change since they were last read, only their digests are asked about."""
        looked_at_ns = now_ns()
        rows = scan(source)
        known = self._stored(known_digests(rows, self._cache.load() if self._cache else None))
        entries: list[FileEntry] = []
        for i, (row, digest) in enumerate(zip(rows, known, strict=True)):
            if digest is None:
                self._say(f"reading {i + 1} of {len(rows)} files")
                entry, rows[i] = self._describe(row[0], Path(place_of(source, row[0])))
            else:
                entry = FileEntry(
                    path=row[0], size_bytes=row[1], digest=digest, mode=EXECUTABLE_MODE if row[5] else FILE_MODE
                )
            entries.append(entry)
        packs = list(self._packs(self._missing(list(self._places))))
        with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
            for i, _ in enumerate(pool.map(self._put, packs)):
                self._say(f"sending {i + 1} of {len(packs)} packs")
        if self._cache:
            self._cache.save(looked_at_ns, "", rows, bytes.fromhex("".join(e.digest for e in entries)))
        return entries

    def _stored(self, digests: list[str | None]) -> list[str | None]:
        missing = set(self._missing(list({d for d in digests if d})))
        return [None if d in missing else d for d in digests]

    def _describe(self, path: str, file: Path) -> tuple[FileEntry, Row]:
        at = 0

        def note(chunk: Chunk) -> None:
            nonlocal at
            self._places.setdefault(chunk.digest, _Place(file, at, chunk.size_bytes))
            at += chunk.size_bytes

        with file.open("rb") as opened:
            status = os.fstat(opened.fileno())
            mode = EXECUTABLE_MODE if status.st_mode & stat.S_IXUSR else FILE_MODE
            entry = describe(opened, check_path(path), status.st_size, mode=mode, each=note)
            now = os.fstat(opened.fileno())
        if (now.st_size, now.st_mtime_ns, now.st_ctime_ns) != (status.st_size, status.st_mtime_ns, status.st_ctime_ns):
            raise Conflict(f"{file} changed while it was read.", hint="Wait until it is written, and commit again.")
        return entry, row_of(path, status)

    def _missing(self, digests: list[str]) -> list[str]:
        found = list[str]()
        for i in range(0, len(digests), DIGESTS_PER_QUESTION):
            answer = self._api.post("/datasets/blobs/missing", {"digests": digests[i : i + DIGESTS_PER_QUESTION]})
            found += answer["missing"]
        return found

    def _packs(self, missing: list[str]) -> Iterator[list[str]]:
        """In the order of the files, as many at a time as fit into one request."""
        pack, total = list[str](), 0
        for digest in missing:
            size = self._places[digest].size_bytes + 4
            if pack and total + size > PACK_BYTES:
                yield pack
                pack, total = [], 0
            pack.append(digest)
            total += size
        if pack:
            yield pack

    def _put(self, pack: list[str]) -> None:
        parts = [self._read(digest) for digest in pack]
        framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        try:
            stored = self._api.request("POST", "/api/v1/datasets/blobs", content=framed, timeout=600.0).json()["digests"]
        except TooMuch:  # a server with a smaller limit for requests; a single blob is an upload, with a limit of its own
            for digest, part in zip(pack, parts, strict=True):
                self._api.put_bytes(f"/blobs/{digest}", part)
            return
        if stored != pack:
            raise Unavailable("Some bytes arrived damaged.", hint="Try again.")

    def _read(self, digest: str) -> bytes:
        from blake3 import blake3

        place = self._places[digest]
        with place.file.open("rb") as file:
            file.seek(place.start)
            data = file.read(place.size_bytes)
        if blake3(data).hexdigest() != digest:
            raise Conflict(f"{place.file} changed while it was read.", hint="Wait until it is written, and commit again.")
        return data


def _fit(api: Api, new: NewVersion) -> NewVersion:
    """A long list of files goes as a blob, since requests are bounded."""
    data = msgspec.json.encode(new.files)
    if len(data) <= MANIFEST_INLINE_BYTES:
        return new
    from blake3 import blake3

    digest = blake3(data).hexdigest()
    api.put_bytes(f"/blobs/{digest}", data)
    return msgspec.structs.replace(new, files=[], manifest=digest)


# --- reading ----------------------------------------------------------------------------------------------------------


def _checked(pieces: Iterator[bytes], file: VersionFile) -> Iterator[bytes]:
    """The same pieces; raises Unavailable at the end if they were not the file."""
    from blake3 import blake3

    whole = blake3()
    with contextlib.closing(pieces):  # type: ignore[type-var]
        for piece in pieces:
            whole.update(piece)
            yield piece
    if whole.hexdigest() != file.digest:
        raise Unavailable(f"{file.path!r} arrived damaged.", hint="Try again; noria data verify checks the server's copy.")


def _selector(selector: str | int) -> str:
    return quote(selector_text(selector), safe="")


def selector_text(selector: str | int) -> str:
    return str(selector).strip().removeprefix("@") or "latest"


def silent(_: str) -> None:
    return
