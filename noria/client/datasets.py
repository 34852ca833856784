"""Datasets from Python: commit, list, read, compare.

    flights = noria.dataset("flights")
    flights.commit("data/", message="January", alias="train")      # a file, a folder, a data frame or an Arrow table
    frame = flights.version("latest").to_pandas()

Nothing is uploaded twice: files are cut where their content decides, and only chunks the server lacks are sent.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from noria.client.api import Api, connect
from noria.client.chunks import describe
from noria.client.context import note_read
from noria.datasets.model import (
    DIGESTS_PER_QUESTION,
    EXECUTABLE_MODE,
    FILE_MODE,
    MANIFEST_INLINE_BYTES,
    PACK_BYTES,
    Chunk,
    DatasetVersion,
    Diff,
    FileEntry,
    NewVersion,
    Profile,
    Sample,
    VersionFile,
    check_path,
    table_format,
)
from noria.datasets.model import Dataset as DatasetInfo
from noria.kernel.errors import Conflict, Invalid, NotFound, TooMuch, Unavailable
from noria.kernel.ids import DatasetVersionId, check_name, parse_handle

if TYPE_CHECKING:
    import pandas
    import pyarrow

UPLOADS_AT_ONCE = 8
READ_BYTES = 1 << 20  # what a file object asks for at once
TABLE_FILE = "data.parquet"  # the file a data frame becomes
Progress = Callable[[str], None]


def dataset(name: str, *, api: Api | None = None) -> Dataset:
    """The dataset `name`, which need not exist yet. Connects as noria.connect() does, unless given an `api`."""
    return Dataset(check_name(name, what="dataset"), api or connect())


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
        parent: Version | str | None = None,
        progress: Progress | None = None,
    ) -> Version:
        """Make a version from `source` and return it; `.is_new` is False when the latest one already was the same.

        `source`: the path of a file or folder, a pandas data frame, a pyarrow table, or a dict of paths to any of these or
        bytes. Frames become Parquet files. `parent`: the version you started from; raises Conflict when it is not the latest
        any more. Symbolic links to files are followed; links to folders raise Invalid.
        """
        with tempfile.TemporaryDirectory(prefix="noria-commit-") as folder:
            files = _gather(source, Path(folder))
            entries = _Upload(self._api, progress or _silent).send(files)
            start = parent.id if isinstance(parent, Version) else parent and DatasetVersionId(parent)
            new = NewVersion(files=entries, message=message, alias=alias, parent=start or None)
            answer = self._api.post(f"{self._at}/versions", _fit(self._api, new), timeout_s=600.0)
        info = msgspec.convert(answer["version"], DatasetVersion)
        return Version(self, info, is_new=answer["is_new"], warnings=answer["warnings"])

    def version(self, selector: str | int = "latest") -> Version:
        """The version that `selector` names: a number (3, "v3"), an alias, an id or "latest"; a leading @ is allowed."""
        answer = self._api.get(f"{self._at}/versions/{_selector(selector)}")
        return Version(self, msgspec.convert(answer, DatasetVersion))

    def versions(self) -> list[Version]:
        """The history, newest first."""
        found = self._api.items(f"{self._at}/versions", limit=1000)
        return [Version(self, msgspec.convert(v, DatasetVersion)) for v in found]

    def info(self) -> DatasetInfo:
        """The dataset with its aliases."""
        return msgspec.convert(self._api.get(self._at), DatasetInfo)

    def diff(
        self, a: str | int, b: str | int = "latest", *, rows: bool = False, key: str | Iterable[str] = (), path: str = ""
    ) -> Diff:
        """What changed from `a` to `b`: files, columns and, with `rows`, rows joined on `key` (one name or several)."""
        keys = key if isinstance(key, str) else ",".join(key)
        answer = self._api.get(
            f"{self._at}/diff", a=_plain(a), b=_plain(b), rows=int(rows) or None, key=keys or None, path=path or None
        )
        return msgspec.convert(answer, Diff)

    def move_alias(self, alias: str, selector: str | int, *, expect: int | None = None) -> None:
        """Point `alias` at a version; with `expect`, only if its generation is still that."""
        self._api.put(f"{self._at}/aliases/{quote(alias, safe='')}", {"selector": _plain(selector), "expect": expect})

    def remove_alias(self, alias: str) -> None:
        self._api.delete(f"{self._at}/aliases/{quote(alias, safe='')}")

    def __repr__(self) -> str:
        return f"Dataset({self.name!r})"


class Version:
    """One version: what is in it, and ways to read it. `info` has every field."""

    def __init__(
        self, dataset: Dataset, info: DatasetVersion, *, is_new: bool = False, warnings: Iterable[str] = ()
    ) -> None:
        self.dataset = dataset
        self.info = info
        self.is_new = is_new
        self.warnings = list(warnings)
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

    def files(self, prefix: str = "") -> list[VersionFile]:
        """The files whose path begins with `prefix`, by path."""
        found = self._api.items(f"{self._at}/files", limit=10_000, prefix=prefix or None)
        return [msgspec.convert(f, VersionFile) for f in found]

    def open(self, path: str = "") -> io.BufferedReader:
        """A file object, seekable; only the parts that are read are fetched. `path` may be left out for a single file."""
        self._note_read()
        file = self._file(path)
        return io.BufferedReader(_Remote(self._api, self._at, file), buffer_size=READ_BYTES)

    def read(self, path: str = "") -> bytes:
        """All bytes of a file, checked against its digest."""
        self._note_read()
        file = self._file(path)
        return b"".join(_checked(self._api.get_bytes(f"{self._at}/content", path=file.path), file))

    def table(self, path: str = "") -> pyarrow.Table:
        """A Parquet or CSV file as an Arrow table. Without `path`: the version's tables, joined end to end if they agree."""
        import pyarrow as pa

        self._note_read()
        found = [self._read_table(file) for file in self._tables(path)]
        if any(t.schema != found[0].schema for t in found[1:]):
            raise Invalid(
                f"The tables of {self.handle} have different columns.", where="path", hint="Say which one: table(PATH)."
            )
        return found[0] if len(found) == 1 else pa.concat_tables(found)

    def to_pandas(self, path: str = "") -> pandas.DataFrame:
        """The same as a data frame."""
        return self.table(path).to_pandas()

    def profile(self) -> Profile:
        """What is in the version's tables; its `state` is pending until they have been read."""
        return msgspec.convert(self._api.get(f"{self._at}/profile"), Profile)

    def sample(self, path: str = "", *, limit: int = 20) -> Sample:
        """The first rows or lines of a file."""
        return msgspec.convert(self._api.get(f"{self._at}/sample", path=path or None, limit=limit), Sample)

    def checkout(self, target: str | Path, *, overwrite: bool = False, progress: Progress | None = None) -> Path:
        """Write every file below `target`, each checked against its digest.

        A new folder appears at once, complete, or not at all. An existing folder that is not empty raises Conflict, unless
        `overwrite`: then files of the same path are replaced, and others stay.
        """
        self._note_read()
        say, target = progress or _silent, Path(target)
        if target.exists() and (not target.is_dir() or any(target.iterdir())) and not (overwrite and target.is_dir()):
            raise Conflict(f"{target} exists and is not empty.", hint="Choose another folder, or overwrite (--force).")
        if overwrite and target.is_dir():
            self._write_files(target, say)
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            self._write_files(partial, say)
            partial.chmod(0o755)
            if target.exists():
                target.rmdir()
            partial.rename(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return target

    def _write_files(self, folder: Path, say: Progress) -> None:
        files = self.files()

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
        with self.open(file.path) as source:
            if table_format(file.path) == "csv":
                from pyarrow import csv

                delimiter = "\t" if file.path.lower().endswith(".tsv") else ","
                return csv.read_csv(source, parse_options=csv.ParseOptions(delimiter=delimiter))
            from pyarrow import parquet

            return parquet.read_table(source)

    def __repr__(self) -> str:
        return f"Version({self.handle!r})"


def resolve(handle: str, *, api: Api | None = None) -> Version:
    """The version a handle such as `flights@train` names."""
    found = parse_handle(handle, kind="dataset")
    return dataset(found.name, api=api).version(found.selector or "latest")


# --- gathering --------------------------------------------------------------------------------------------------------


def _gather(source: Any, folder: Path) -> dict[str, Path]:
    """The files of `source` by their path in the version; frames and bytes are written to `folder` first."""
    if isinstance(source, str | Path):
        return _walk(Path(source))
    if isinstance(source, Mapping):
        found: dict[str, Path] = {}
        for i, (path, item) in enumerate(source.items()):
            if isinstance(item, str | Path):
                if Path(item).is_file():
                    found[check_path(path)] = Path(item)
                else:
                    found |= {check_path(f"{path}/{inner}"): place for inner, place in _walk(Path(item)).items()}
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


def _walk(root: Path) -> dict[str, Path]:
    if root.is_file():
        return {check_path(root.name): root}
    if not root.is_dir():
        raise Invalid(f"There is no file or folder {str(root)!r}.", where="path")
    found: dict[str, Path] = {}
    for folder, folders, names in os.walk(root):
        for name in sorted(folders):
            if (Path(folder) / name).is_symlink():
                raise Invalid(
                    f"{Path(folder) / name} is a link to a folder.", hint="Copy what it points to, or leave it out."
                )
        for name in names:
            place = Path(folder) / name
            if not place.is_file():
                raise Invalid(f"{place} is not a file that can be read.", hint="Leave it out; only files can be committed.")
            found[check_path(place.relative_to(root).as_posix())] = place
    if not found:
        raise Invalid(f"The folder {str(root)!r} has no files.", where="path")
    return found


# --- uploading --------------------------------------------------------------------------------------------------------


class _Place(Struct, frozen=True):
    """Where the bytes of a blob are on this machine."""

    file: Path
    start: int
    size_bytes: int


class _Upload:
    """Reads files once to name their blobs, asks which are missing, and sends those."""

    def __init__(self, api: Api, say: Progress) -> None:
        self._api = api
        self._say = say
        self._places: dict[str, _Place] = {}

    def send(self, files: Mapping[str, Path]) -> list[FileEntry]:
        entries = []
        for i, (path, file) in enumerate(sorted(files.items())):
            self._say(f"reading {i + 1} of {len(files)} files")
            entries.append(self._describe(path, file))
        packs = list(self._packs(self._missing()))
        with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
            for i, _ in enumerate(pool.map(self._put, packs)):
                self._say(f"sending {i + 1} of {len(packs)} packs")
        return entries

    def _describe(self, path: str, file: Path) -> FileEntry:
        at = 0

        def note(chunk: Chunk) -> None:
            nonlocal at
            self._places.setdefault(chunk.digest, _Place(file, at, chunk.size_bytes))
            at += chunk.size_bytes

        with file.open("rb") as opened:
            status = os.fstat(opened.fileno())
            mode = EXECUTABLE_MODE if status.st_mode & stat.S_IXUSR else FILE_MODE
            return describe(opened, path, status.st_size, mode=mode, each=note)

    def _missing(self) -> list[str]:
        digests, found = list(self._places), list[str]()
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


class _Remote(io.RawIOBase):
    """One file of a version, read by ranges."""

    def __init__(self, api: Api, at: str, file: VersionFile) -> None:
        self._api = api
        self._url = f"{at}/content"
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size_bytes}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        end = min(self._position + len(buffer), self._file.size_bytes)
        if self._position >= end:
            return 0
        data = b"".join(self._api.get_bytes(self._url, path=self._file.path, start=self._position, end=end))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


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
    return quote(_plain(selector), safe="")


def _plain(selector: str | int) -> str:
    return str(selector).strip().removeprefix("@") or "latest"


def _silent(_: str) -> None:
    return
