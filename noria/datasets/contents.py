"""The bytes of files: one blob each, or a recipe of chunks for the big ones.

Invariant: a file digest that a version names was checked against the bytes before the version was written. A file of one
blob is named by that blob's digest, which the store checked when it took the bytes. A file of chunks is read once and hashed
when its digest is seen for the first time; the recipe found right is kept under the digest, and later commits trust it.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import msgspec
from blake3 import blake3

from noria.datasets import store
from noria.datasets.model import Chunk, Damage, FileEntry, VersionFile
from noria.datasets.store import Content
from noria.kernel.blobs import BlobStore, check_digest
from noria.kernel.db import Database
from noria.kernel.errors import Invalid, NoriaError, NotFound, Unavailable

LAYOUT = 1  # of recipes: FastCDC with the parameters of noria/client/chunks.py
CHUNK_BYTES_MAX = 16 << 20  # a chunk is read at once to be checked; other clients may cut larger than ours
_CHUNKS = msgspec.json.Decoder(list[Chunk])
_UPLOAD_HINT = "Ask which blobs are missing, upload those, and commit again."


class Contents:
    """Reads and checks the bytes of files."""

    def __init__(self, db: Database, blobs: BlobStore) -> None:
        self._db = db
        self._blobs = blobs
        self._recipe = lru_cache(maxsize=256)(self._read_recipe)

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Those that are not stored, in the order given, each once."""
        return [d for d in dict.fromkeys(digests) if not self._blobs.has(check_digest(d))]

    # --- checking before a commit -------------------------------------------------------------------------------------

    def check(self, entries: Sequence[FileEntry]) -> list[Content]:
        """Check that every byte is here and is what its digest says; returns the recipes seen for the first time.

        Raises Invalid naming the file when a blob is missing, sizes do not add up or the bytes hash to something else.
        """
        by_digest = {e.digest: e for e in entries}
        for entry in entries:
            if by_digest[entry.digest].size_bytes != entry.size_bytes:
                raise Invalid(f"{entry.path!r} shares its digest with a file of another size.", where="files")
        chunked = [d for d, e in by_digest.items() if e.chunks]
        with self._db.read() as tx:
            known = store.contents(tx, list(by_digest))
        for entry in entries:
            if entry.digest in known and known[entry.digest].size_bytes != entry.size_bytes:
                raise Invalid(
                    f"{entry.path!r} is said to have {entry.size_bytes:,} bytes; it has {known[entry.digest].size_bytes:,}.",
                    where="files",
                )
            if not entry.chunks and entry.digest not in known:
                self._check_single(entry)
        return [self._check_chunked(by_digest[d]) for d in chunked if d not in known]

    def _check_single(self, entry: FileEntry) -> None:
        try:
            size = self._blobs.size(entry.digest)
        except NotFound as cause:
            raise Invalid(f"The bytes of {entry.path!r} are not stored.", where="files", hint=_UPLOAD_HINT) from cause
        if size != entry.size_bytes:
            raise Invalid(f"{entry.path!r} is said to have {entry.size_bytes:,} bytes; it has {size:,}.", where="files")

    def _check_chunked(self, entry: FileEntry) -> Content:
        if sum(c.size_bytes for c in entry.chunks) != entry.size_bytes:
            raise Invalid(f"The chunks of {entry.path!r} do not add up to its size.", where="files")
        whole = blake3()
        for chunk in entry.chunks:
            whole.update(self._chunk(chunk, entry.path))
        if whole.hexdigest() != entry.digest:
            raise Invalid(
                f"The chunks of {entry.path!r} hash to {whole.hexdigest()}, not to its digest.",
                where="files",
                hint="The file may have changed while it was read; commit again.",
            )
        recipe = self._blobs.put(msgspec.json.encode(entry.chunks))
        return Content(
            digest=entry.digest, size_bytes=entry.size_bytes, recipe=recipe.digest, chunks_count=len(entry.chunks)
        )

    def _chunk(self, chunk: Chunk, path: str) -> bytes:
        check_digest(chunk.digest)
        if not 0 < chunk.size_bytes <= CHUNK_BYTES_MAX:
            raise Invalid(
                f"A chunk of {path!r} has {chunk.size_bytes:,} bytes; 1 to {CHUNK_BYTES_MAX:,} are allowed.", where="files"
            )
        try:
            size = self._blobs.size(chunk.digest)
        except NotFound as cause:
            raise Invalid(
                f"A chunk of {path!r} ({chunk.digest[:12]}) is not stored.", where="files", hint=_UPLOAD_HINT
            ) from cause
        if size != chunk.size_bytes:
            raise Invalid(f"A chunk of {path!r} is said to have {chunk.size_bytes:,} bytes; it has {size:,}.", where="files")
        return self._blobs.get(chunk.digest)

    # --- reading ------------------------------------------------------------------------------------------------------

    def pieces(self, file: VersionFile) -> Sequence[Chunk]:
        """The blobs that make up a file, in order."""
        with self._db.read() as tx:
            found = store.contents(tx, [file.digest]).get(file.digest)
        return self._recipe(found.recipe) if found else (Chunk(file.digest, file.size_bytes),)

    def open(self, file: VersionFile, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes `start` to `end` (exclusive). Every chunk that is touched is checked against its digest."""
        end = file.size_bytes if end is None else min(end, file.size_bytes)
        if start < 0 or start > end:
            raise Invalid(f"The range {start}–{end} is outside the {file.size_bytes} bytes of {file.path!r}.", where="range")
        pieces = self._read(self.pieces(file), start, end)
        first = next(pieces, b"")  # so that what fails at once fails before an answer begins
        return itertools.chain((first,), pieces)

    def _read(self, pieces: Sequence[Chunk], start: int, end: int) -> Iterator[bytes]:
        at = 0
        for piece in pieces:
            low, high = max(start - at, 0), min(end - at, piece.size_bytes)
            if low < high:
                if piece.size_bytes <= CHUNK_BYTES_MAX:
                    yield self._get(piece.digest)[low:high]
                else:  # one big blob from a client that does not cut; the store checks it when it is read whole
                    yield from self._blobs.open(piece.digest, low, high)
            at += piece.size_bytes
            if at >= end:
                return

    def _get(self, digest: str) -> bytes:
        try:
            return self._blobs.get(digest)
        except NotFound as cause:  # a version names it, so it was here once
            raise Unavailable(f"The blob {digest[:12]} is missing.", hint="Restore it from a backup.") from cause

    def file(self, file: VersionFile) -> io.BufferedReader:
        """A file object to read from and seek in."""
        return io.BufferedReader(_Seekable(self, file), buffer_size=1 << 18)

    def save(self, file: VersionFile, target: Path) -> Path:
        """Write the file to `target`, for readers that need a path."""
        with target.open("wb") as out:
            for piece in self.open(file):
                out.write(piece)
        return target

    def damage(self, file: VersionFile) -> Damage | None:
        """Read all of it again; None when it is what its digest says."""
        whole = blake3()
        try:
            for piece in self.open(file):
                whole.update(piece)
        except NoriaError as error:
            return Damage(path=file.path, problem=error.message)
        if whole.hexdigest() != file.digest:
            return Damage(path=file.path, problem="Its bytes do not match its digest.")
        return None

    def _read_recipe(self, digest: str) -> tuple[Chunk, ...]:
        return tuple(_CHUNKS.decode(self._blobs.get(digest)))


class _Seekable(io.RawIOBase):
    """One file of a version, seekable, reading only the chunks it needs."""

    def __init__(self, contents: Contents, file: VersionFile) -> None:
        self._contents = contents
        self._file = file
        self._pieces = contents.pieces(file)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size_bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        end = min(self._at + len(buffer), self._file.size_bytes)
        filled = 0
        for piece in self._contents._read(self._pieces, self._at, end) if self._at < end else ():
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
        self._at += filled
        return filled
