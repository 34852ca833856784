"""Blobs: bytes under the name of their BLAKE3 digest, on a local disk or in a bucket, through obstore.

Invariant: a blob never changes and a row never names a blob that was not stored first. A crash between the two leaves an
orphan, which the collector removes after a grace time.
"""

from __future__ import annotations

import builtins
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import unquote

from blake3 import blake3
from msgspec import Struct

from noria.kernel.errors import Invalid, NotFound, StorageFull, Unavailable

READ_BYTES = 4 << 20
PUT_BYTES, PUTS_AT_ONCE = 5 << 20, 4  # S3 takes no smaller pieces
# What the systems below say of a full disk and a full quota; obstore passes on the text and no number.
_FULL = ("os error 28)", "os error 122)", "No space left on device", "Disk quota exceeded")
_DIGEST = re.compile(r"^[0-9a-f]{64}\Z")
_KEY = re.compile(r"^[a-z0-9_\-]+(/[A-Za-z0-9_\-][A-Za-z0-9_\-.]*)+\Z")


class Damaged(Unavailable):
    """Bytes that no longer match their name, found when they were read. They are given to nobody."""

    def __init__(self, digest: str) -> None:
        super().__init__(
            f"The blob {digest[:12]} is damaged.",
            hint="Restore it from a backup, or store the same file again: that mends it.",
        )
        self.digest = digest


class BlobInfo(Struct, frozen=True):
    """What was stored."""

    digest: str
    size_bytes: int


class Named(Struct, frozen=True):
    """An object under a name of its own, such as a part of an upload. `etag` is what the store calls its content."""

    key: str
    size_bytes: int
    etag: str


class Spool(Struct, frozen=True):
    """A temporary file that was hashed while it was written. A store on the same disk takes it by a link, without copying."""

    path: Path
    info: BlobInfo


Source = bytes | Iterable[bytes] | Path | Spool


class BlobStore(Protocol):
    """Where bytes live. `noria.testing.blob_contract` is the contract every implementation passes."""

    def put(self, data: Source) -> BlobInfo: ...
    def get(self, digest: str) -> bytes: ...
    def open(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]: ...
    def has(self, digest: str) -> bool: ...
    def size(self, digest: str) -> int: ...
    def delete(self, digest: str) -> None: ...
    def quarantine(self, digest: str) -> None: ...
    def is_quarantined(self, digest: str) -> bool: ...
    def list(self) -> Iterator[BlobInfo]: ...
    def put_at(self, key: str, data: bytes | Path) -> None: ...
    def get_at(self, key: str) -> bytes: ...
    def open_at(self, key: str) -> Iterator[bytes]: ...
    def delete_at(self, key: str) -> None: ...
    def keys(self, prefix: str) -> Iterator[str]: ...
    def named(self, prefix: str) -> builtins.list[Named]: ...
    def link_to_put(self, key: str, for_s: float) -> str: ...
    def link_to_get(self, digest: str, for_s: float) -> str: ...


def check_digest(digest: str) -> str:
    """`digest` if it is 64 hex digits; else Invalid. Paths are built from digests only, never from names."""
    if not isinstance(digest, str) or not _DIGEST.match(digest):
        raise Invalid("A digest is 64 lower-case hex digits (BLAKE3-256).", where="digest")
    return digest


class ObstoreBlobs:
    """Blobs in anything obstore opens: a folder, `s3://`, `gs://`, `az://`."""

    def __init__(self, store: Any, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder  # of a store on this disk

    def put(self, data: Source) -> BlobInfo:
        """Store bytes, chunks or a file; returns digest and size. Storing the same bytes again costs no write."""
        if isinstance(data, Spool):
            if not self.has(data.info.digest) and not self._linked(data):
                self._put(_path(data.info.digest), data.path)
            return data.info
        if isinstance(data, bytes | bytearray | memoryview):
            info = BlobInfo(blake3(data).hexdigest(), len(data))
            if not self.has(info.digest):
                self._put(_path(info.digest), bytes(data))
            return info
        if isinstance(data, Path):
            with data.open("rb") as file:
                return self._put_file(file, _hash(iter(lambda: file.read(READ_BYTES), b"")))
        with tempfile.TemporaryFile() as spool:
            info = _hash(_tee(data, spool))
            return self._put_file(spool, info)

    def get(self, digest: str) -> bytes:
        """All bytes of a blob, checked. Raises NotFound, or Damaged when they no longer match their name."""
        data = bytes(self._read(_path(digest)).bytes())
        if blake3(data).hexdigest() != digest:
            raise Damaged(digest)
        return data

    def open(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes `start` to `end` (exclusive) in chunks. Of a whole read the last chunk is given only once all match the digest: a small
        blob is checked here, a large one that is damaged ends short."""
        size = self.size(digest)
        end = size if end is None else min(end, size)
        if start < 0 or start > end:
            raise Invalid(f"The range {start}–{end} is outside the {size} bytes.", where="range")
        whole = (start, end) == (0, size)
        if whole and size <= READ_BYTES:
            return iter([self.get(digest)] if size else [])
        return self._chunks(digest, start, end, whole=whole)

    def has(self, digest: str) -> bool:
        try:
            self.size(digest)
        except NotFound:
            return False
        return True

    def size(self, digest: str) -> int:
        import obstore

        try:
            return int(obstore.head(self._store, _path(digest))["size"])
        except FileNotFoundError as cause:
            raise NotFound(f"There is no blob {digest[:12]}.") from cause

    def delete(self, digest: str) -> None:
        import obstore

        try:
            obstore.delete(self._store, _path(digest))
        except FileNotFoundError:
            return

    def quarantine(self, digest: str) -> None:
        """Put damaged bytes aside, out of the way of good ones of the same name. Storing the blob again mends it."""
        import obstore

        try:
            obstore.rename(self._store, _path(digest), _aside(digest))
        except FileNotFoundError:
            return  # somebody else was faster

    def is_quarantined(self, digest: str) -> bool:
        """Were damaged bytes of this name put aside?"""
        import obstore

        try:
            obstore.head(self._store, _aside(digest))
        except FileNotFoundError:
            return False
        return True

    def list(self) -> Iterator[BlobInfo]:
        import obstore

        for batch in obstore.list(self._store, prefix="blobs"):
            for found in batch:
                yield BlobInfo(found["path"].rsplit("/", 1)[-1], int(found["size"]))

    def put_at(self, key: str, data: bytes | Path) -> None:
        """Store named bytes, such as a checkpoint. Keys come from code, never from input."""
        self._put(_named(key), data)

    def get_at(self, key: str) -> bytes:
        return bytes(self._read(_named(key)).bytes())

    def open_at(self, key: str) -> Iterator[bytes]:
        """Named bytes in chunks. Raises NotFound."""
        return (bytes(chunk) for chunk in self._read(_named(key)).stream(READ_BYTES))

    def delete_at(self, key: str) -> None:
        """Remove named bytes; when there are none, that is fine."""
        import obstore

        try:
            obstore.delete(self._store, _named(key))
        except FileNotFoundError:
            return

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys under `prefix`, sorted."""
        import obstore

        found = [f["path"] for batch in obstore.list(self._store, prefix="named/" + prefix) for f in batch]
        yield from sorted(path.removeprefix("named/") for path in found)

    def named(self, prefix: str) -> builtins.list[Named]:
        """The objects under `prefix`, by key."""
        import obstore

        found = [f for batch in obstore.list(self._store, prefix="named/" + prefix) for f in batch]
        made = [Named(f["path"].removeprefix("named/"), int(f["size"]), (f.get("e_tag") or "").strip('"')) for f in found]
        return sorted(made, key=lambda item: item.key)

    def link_to_put(self, key: str, for_s: float) -> str:
        """A link by which anybody may store the named bytes for a while; '' when this kind of store has none."""
        return self._link("PUT", _named(key), for_s)

    def link_to_get(self, digest: str, for_s: float) -> str:
        """A link by which anybody may read a blob for a while; '' when this kind of store has none."""
        return self._link("GET", _path(digest), for_s)

    def _link(self, method: Literal["GET", "PUT"], path: str, for_s: float) -> str:
        import obstore
        from obstore.store import AzureStore, GCSStore, S3Store

        if not isinstance(self._store, S3Store | GCSStore | AzureStore):
            return ""
        return str(obstore.sign(self._store, method, path, timedelta(seconds=for_s)))

    def _put(self, path: str, data: Any) -> None:
        import obstore
        from obstore.exceptions import BaseError

        try:
            if isinstance(data, bytes):
                obstore.put(self._store, path, data)
            else:  # pieces under way at a time: each is memory, and uploads come many at a time
                obstore.put(self._store, path, data, chunk_size=PUT_BYTES, max_concurrency=PUTS_AT_ONCE)
        except BaseError as cause:
            if any(words in str(cause) for words in _FULL):
                raise StorageFull(
                    "The disk of the blobs is full; nothing was stored.", retry_after_s=60,
                    hint="Reading goes on. Free space (noria run gc), then try again.",
                ) from cause  # fmt: skip
            raise Unavailable(
                "The blob store does not take the bytes.", retry_after_s=5, hint="Try again in a moment."
            ) from cause

    def _linked(self, spool: Spool) -> bool:
        """Give the file its name in the store, if that is on the same disk. It appears whole, as with a copy."""
        if self._folder is None:
            return False
        target = self._folder / _path(spool.info.digest)
        # A name that the store does not list, as those of its own drafts.
        draft = target.with_name(f"{target.name}#{int.from_bytes(os.urandom(6))}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(spool.path, draft)
            draft.chmod(0o644)  # as files of the store are; a temporary file is its owner's alone
            draft.replace(target)
        except OSError:  # another disk, or one without links: it is copied
            draft.unlink(missing_ok=True)
            return False
        return True

    def _put_file(self, file: Any, info: BlobInfo) -> BlobInfo:
        if not self.has(info.digest):
            file.seek(0)
            self._put(_path(info.digest), file)
        return info

    def _read(self, path: str) -> Any:
        import obstore

        try:
            return obstore.get(self._store, path)
        except FileNotFoundError as cause:
            raise NotFound(f"There is no blob {path.rsplit('/', 1)[-1][:24]}.") from cause

    def _chunks(self, digest: str, start: int, end: int, *, whole: bool) -> Iterator[bytes]:
        import obstore

        hasher = blake3() if whole else None
        for at in range(start, end, READ_BYTES):
            chunk = bytes(obstore.get_range(self._store, _path(digest), start=at, end=min(at + READ_BYTES, end)))
            if hasher:
                hasher.update(chunk)
                if at + READ_BYTES >= end and hasher.hexdigest() != digest:
                    raise Damaged(digest)
            yield chunk


def open_blobs(url: str) -> ObstoreBlobs:
    """The store at `url`: a path, file://, s3://, gs:// or az://. Credentials come from the usual variables (AWS_…)."""
    from obstore.store import LocalStore, from_url

    if "://" not in url or url.startswith("file://"):
        folder = Path(unquote(url[len("file://") :]) if "://" in url else url)
        folder.mkdir(parents=True, exist_ok=True)
        return ObstoreBlobs(LocalStore(prefix=folder.resolve()), folder.resolve())
    try:
        return ObstoreBlobs(from_url(url))
    except Exception as cause:
        raise Invalid(
            f"The blob store {url!r} cannot be opened.",
            where="blobs",
            hint="Use a folder, s3://bucket/prefix, gs:// or az://.",
        ) from cause


def _path(digest: str) -> str:
    check_digest(digest)
    return f"blobs/{digest[:2]}/{digest}"


def _aside(digest: str) -> str:
    return f"quarantine/{check_digest(digest)}"


def _named(key: str) -> str:
    assert _KEY.match(key), key
    return f"named/{key}"


def _hash(chunks: Iterable[bytes]) -> BlobInfo:
    hasher, size = blake3(), 0
    for chunk in chunks:
        hasher.update(chunk)
        size += len(chunk)
    return BlobInfo(hasher.hexdigest(), size)


def _tee(chunks: Iterable[bytes], file: Any) -> Iterator[bytes]:
    for chunk in chunks:
        file.write(chunk)
        yield chunk
