"""A table as the one Parquet file that readers of files see: written when it is first asked for, kept while there is room.

Copies are named by the digest of the table's manifest, so they are right for ever; those of versions that are gone go with the
collector where they lie in the repository. The bytes of a copy depend on the library that wrote it: no id rests on them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from blake3 import blake3

from noria.datasets.model import VersionFile
from noria.repository.objects import FolderObjects, Objects
from noria.repository.tables.model import Fragment
from noria.repository.tables.table import Table

if TYPE_CHECKING:
    import pyarrow.dataset

READ_BYTES = 4 << 20
COPIES_BYTES = 4 << 30  # of all copies together


class _Turn:
    """A lock that goes when nobody holds it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


_locks: WeakValueDictionary[str, _Turn] = WeakValueDictionary()
_locking = threading.Lock()


def turn_of(digest: str) -> _Turn:
    """The turn of those who need one table."""
    with _locking:
        return _locks.setdefault(digest, _Turn())


def copies_folder(objects: Objects) -> Path:
    """Where copies of a store's tables are: in the folder itself, where the collector knows them, else in the user's cache."""
    if isinstance(objects, FolderObjects):
        return objects.folder / "files"
    return copies_of_user()


def copies_of_user() -> Path:
    """Where copies of tables that are kept elsewhere are."""
    return Path("~/.cache/noria/tables").expanduser()


def as_dataset(table: Table, copies: Copies) -> pyarrow.dataset.Dataset:
    """A table as an Arrow dataset of its fragments: read where they are stored, as far as is asked; from a copy under layers."""
    import pyarrow as pa
    import pyarrow.dataset as pads

    kind, found = pads.ParquetFileFormat(), []
    for fragment in table.fragments:
        file = pa.memory_map(str(copies.fragment(table, fragment))) if fragment.layers else table.open(fragment)
        found.append(kind.make_fragment(file))
    return pads.FileSystemDataset(found, table.schema, kind)


class Copies:
    """Whole tables in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, table: Table, digest: str) -> Path:
        """The file of a table whose manifest has this digest."""
        return self._made(digest, table.write)

    def fragment(self, table: Table, fragment: Fragment) -> Path:
        """The file of one fragment with its layers: the same for every version in which it says the same."""
        return self._made(table.mark(fragment), lambda draft: table.write(draft, [fragment]))

    def _made(self, digest: str, write: Callable[[Path], object]) -> Path:
        place = self._folder / digest[:2] / f"{digest}.parquet"
        turn = turn_of(digest)
        with turn.lock:  # two readers of one table would write it twice
            if not place.is_file():
                place.parent.mkdir(parents=True, exist_ok=True)
                draft = place.with_name(f".{secrets.token_hex(6)}")
                try:
                    write(draft)
                    draft.replace(place)
                finally:
                    draft.unlink(missing_ok=True)
                self._make_room(place)
            else:
                os.utime(place)
        return place

    def file(self, table: Table, like: VersionFile) -> VersionFile:
        """What the copy is, as a file of a version."""
        whole = blake3()
        size = 0
        for piece in self.pieces(table, like.digest):
            whole.update(piece)
            size += len(piece)
        return VersionFile(path=like.path, size_bytes=size, digest=whole.hexdigest(), mode=like.mode)

    def pieces(self, table: Table, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes of the copy from `start` to before `end`."""
        with self.path(table, digest).open("rb") as file:
            file.seek(start)
            left = None if end is None else max(end - start, 0)
            while left is None or left:
                data = file.read(READ_BYTES if left is None else min(READ_BYTES, left))
                if not data:
                    return
                left = None if left is None else left - len(data)
                yield data

    def _make_room(self, new: Path) -> None:
        """Remove the copies that were not read for longest."""
        room, found = COPIES_BYTES, []
        for file in self._folder.glob("*/*.parquet"):
            with contextlib.suppress(FileNotFoundError):
                status = file.stat()
                found.append((status.st_mtime_ns, status.st_size, file))
        for _, size, file in sorted(found, reverse=True):
            room -= size
            if room < 0 and file != new:
                file.unlink(missing_ok=True)
