"""The bytes of files, as the service sees them: what an upload brings, what a commit checks, what readers get.

Bytes live in the packs of the repository (noria/repository). Invariant: a file digest that a version names was checked against the
bytes before the version was written. Small files and chunks are checked when they arrive; a file of chunks is read once and
hashed when its digest is seen for the first time, and its recipe is kept under the digest. Clients that know no packs may store
blobs one by one; a commit moves those into packs.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from blake3 import blake3

from noria.datasets.model import SMALL_FILE_BYTES, Chunk, Damage, FileEntry, TableFile, VersionFile
from noria.kernel.blobs import BlobStore, check_digest
from noria.kernel.errors import Invalid, NoriaError, NotFound
from noria.repository.chunks import Squeeze, filling, store_stream
from noria.repository.links import read_linked
from noria.repository.packs import RECIPE, Place, decode_recipe, encode_recipe
from noria.repository.repository import Repository, Writing
from noria.repository.seekable import seekable
from noria.repository.tables.table import Table

READ_BYTES = 4 << 20
CHUNK_BYTES_MAX = 16 << 20  # a chunk is read at once to be checked; other clients may cut larger than ours
_UPLOAD_HINT = "Ask which blobs are missing, upload those, and commit again."


class Contents:
    """Reads and checks the bytes of files."""

    def __init__(self, repository: Repository, blobs: BlobStore) -> None:
        self._repository = repository
        self._blobs = blobs

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Those that are in no pack, in the order given, each once."""
        wanted = list(dict.fromkeys(check_digest(d) for d in digests))
        self._repository.packs.refresh()
        self._repository.packs.hidden = frozenset(self._repository.tombstones())
        there = self._repository.packs.has_many([bytes.fromhex(d) for d in wanted])
        return [d for d, is_there in zip(wanted, there, strict=True) if not is_there]

    def store(self, blobs: Sequence[bytes]) -> list[str]:
        """Put blobs into packs, compressed where that helps; returns their digests."""
        digests = [blake3(blob).digest() for blob in blobs]
        with self._repository.writing() as writing:
            squeeze = Squeeze()
            for digest, blob, is_known in zip(digests, blobs, writing.has_many(digests), strict=True):
                if not is_known:
                    squeeze.add(writing, digest, blob)
            writing.finish()
        return [d.hex() for d in digests]

    def store_file(self, path: Path) -> tuple[str, int]:
        """Put a file of any size into packs; returns its digest and size."""
        size = path.stat().st_size
        if size <= SMALL_FILE_BYTES:
            return self.store([path.read_bytes()])[0], size
        with self._repository.writing() as writing, path.open("rb") as file:
            chunks, whole = store_stream(file.readinto, writing, Squeeze())
            writing.writer.add(whole, encode_recipe(chunks), kind=RECIPE)
            writing.finish()
        return whole.hex(), size

    # --- checking before a commit -------------------------------------------------------------------------------------

    def check(self, writing: Writing, entries: Sequence[FileEntry]) -> None:
        """Check that every byte is here and is what its digest says, and keep how big files are cut.

        Raises Invalid naming the file when a blob is missing, sizes do not add up or the bytes hash to something else.
        """
        by_digest = {e.digest: e for e in entries}
        for entry in entries:
            if by_digest[entry.digest].size_bytes != entry.size_bytes:
                raise Invalid(f"{entry.path!r} shares its digest with a file of another size.", where="files")
        listed = list(by_digest.values())
        for entry, place in zip(listed, writing.find_many([bytes.fromhex(e.digest) for e in listed]), strict=True):
            if place is not None:
                self._check_size(entry, place)
            elif entry.chunks:
                self._check_chunked(writing, entry)
            else:
                self._take_over(writing, entry.digest, entry.size_bytes, entry.path)

    def _check_size(self, entry: FileEntry, place: Place) -> None:
        size = place.size_bytes
        if place.kind == RECIPE:
            size = sum(s for _, s in decode_recipe(self._repository.packs.read(place, bytes.fromhex(entry.digest))))
        if size != entry.size_bytes:
            raise Invalid(f"{entry.path!r} is said to have {entry.size_bytes:,} bytes; it has {size:,}.", where="files")

    def _check_chunked(self, writing: Writing, entry: FileEntry) -> None:
        if sum(c.size_bytes for c in entry.chunks) != entry.size_bytes:
            raise Invalid(f"The chunks of {entry.path!r} do not add up to its size.", where="files")
        places = writing.find_many([bytes.fromhex(check_digest(c.digest)) for c in entry.chunks])
        whole = blake3()
        for chunk, place in zip(entry.chunks, places, strict=True):
            whole.update(self._chunk(writing, chunk, place, entry.path))
        if whole.hexdigest() != entry.digest:
            raise Invalid(
                f"The chunks of {entry.path!r} hash to {whole.hexdigest()}, not to its digest.",
                where="files",
                hint="The file may have changed while it was read; commit again.",
            )
        recipe = encode_recipe([(bytes.fromhex(c.digest), c.size_bytes) for c in entry.chunks])
        writing.writer.add(whole.digest(), recipe, kind=RECIPE)

    def _chunk(self, writing: Writing, chunk: Chunk, place: Place | None, path: str) -> bytes:
        if not 0 < chunk.size_bytes <= CHUNK_BYTES_MAX:
            raise Invalid(
                f"A chunk of {path!r} has {chunk.size_bytes:,} bytes; 1 to {CHUNK_BYTES_MAX:,} are allowed.", where="files"
            )
        if place is None:
            return self._take_over(writing, chunk.digest, chunk.size_bytes, path)
        if place.size_bytes != chunk.size_bytes or place.kind == RECIPE:
            raise Invalid(
                f"A chunk of {path!r} is said to have {chunk.size_bytes:,} bytes; it has {place.size_bytes:,}.",
                where="files",
            )
        return self._repository.packs.read(place, bytes.fromhex(chunk.digest))

    def _take_over(self, writing: Writing, digest: str, size_bytes: int, path: str) -> bytes:
        """A blob that a client stored by itself goes into a pack; returns it if it is small."""
        try:
            size = self._blobs.size(check_digest(digest))
        except NotFound as cause:
            raise Invalid(
                f"The bytes of {path!r} ({digest[:12]}) are not stored.", where="files", hint=_UPLOAD_HINT
            ) from cause
        if size != size_bytes:
            raise Invalid(f"{path!r} is said to have {size_bytes:,} bytes; it has {size:,}.", where="files")
        if size <= SMALL_FILE_BYTES or size <= CHUNK_BYTES_MAX:
            data = self._blobs.get(digest)
            Squeeze().add(writing, bytes.fromhex(digest), data)
            return data
        chunks, whole = store_stream(filling(iter(self._blobs.open(digest))), writing, Squeeze())
        writing.writer.add(whole, encode_recipe(chunks), kind=RECIPE)
        return b""

    # --- reading ------------------------------------------------------------------------------------------------------

    def open(self, file: VersionFile, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes `start` to `end` (exclusive). Every chunk that is touched is checked against its digest."""
        size = self.size_bytes(file)
        end = size if end is None else min(end, size)
        if start < 0 or start > end:
            raise Invalid(f"The range {start}–{end} is outside the {size} bytes of {file.path!r}.", where="range")
        pieces = self._repository.read(file, start, end)
        first = next(pieces, b"")  # so that what fails at once fails before an answer begins
        return itertools.chain((first,), pieces)

    def size_bytes(self, file: VersionFile) -> int:
        """How many bytes a reader gets; those of a table are written when they are first asked for."""
        return self._repository.whole_size(file) if isinstance(file, TableFile) else file.size_bytes

    def table(self, file: TableFile) -> Table:
        """A table of a version, as rows."""
        return self._repository.table(file)

    def whole(self, file: VersionFile) -> VersionFile:
        """What a reader of files gets: of a table, its one Parquet file."""
        return self._repository.whole(file) if isinstance(file, TableFile) else file

    def file(self, file: VersionFile) -> io.BufferedReader:
        """A file object to read from and seek in."""
        return seekable(self.size_bytes(file), lambda start, end: self.open(file, start, end))

    def save(self, file: VersionFile, target: Path) -> Path:
        """Write the file to `target`, for readers that need a path."""
        if isinstance(file, TableFile):
            return self._repository.table(file).write(target)
        with target.open("wb") as out:
            for piece in self.open(file):
                out.write(piece)
        return target

    def damage(self, file: VersionFile) -> Damage | None:
        """Read all of it again; None when it is what its digest says."""
        if isinstance(file, TableFile):
            return next((found for part in file.parts if (found := self.damage(part))), None)
        whole = blake3()
        try:
            for piece in self.open(file):
                whole.update(piece)
        except NoriaError as error:
            return Damage(path=file.path, problem=error.message)
        if whole.hexdigest() != file.digest:
            return Damage(path=file.path, problem="Its bytes do not match its digest.")
        return None


class LinkedContents(Contents):
    """The bytes of a version whose files stay where they are: every read compares them with what was linked."""

    def __init__(self, repository: Repository, blobs: BlobStore, link: str) -> None:
        super().__init__(repository, blobs)
        self._link = link

    def open(self, file: VersionFile, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        pieces = read_linked(self._link, file, start, end)
        first = next(pieces, b"")
        return itertools.chain((first,), pieces)

    def damage(self, file: VersionFile) -> Damage | None:
        try:
            for _ in self.open(file):
                pass
        except NoriaError as error:
            return Damage(path=file.path, problem=error.message)
        return None
