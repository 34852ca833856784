"""Named bytes on a disk or in a bucket: the few things a repository needs from either, with the same meaning.

Everything but `refs/` is written once. A write is there complete or not at all: on disk it is a temporary file that is made
durable and renamed, in a bucket one PUT. `swap` is the only way to change something, and it compares first: under a lock of
the file system on disk, by conditional PUT in a bucket.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

from blake3 import blake3
from msgspec import Struct

from noria.kernel.crash import crash_here
from noria.kernel.errors import Conflict, Invalid, NotFound, Unavailable

RANGES_AT_ONCE = 256  # asked for together from a bucket
AT_ONCE_BYTES = 8 << 20  # of a file that are read together
CLOSE_BYTES = 1 << 20  # ranges of one object that are nearer than this are fetched as one


class Found(Struct, frozen=True):
    """One object of a listing."""

    key: str
    size_bytes: int
    modified_at_ms: int
    tag: str = ""  # changes with the bytes


class Objects(Protocol):
    """Where a repository lives."""

    url: str

    def read(self, key: str) -> bytes: ...
    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]: ...
    def write(self, key: str, data: bytes) -> None: ...
    def write_file(self, key: str, file: Path) -> None: ...
    def has(self, key: str) -> bool: ...
    def look(self, key: str) -> Found: ...
    def list(self, prefix: str) -> Iterator[Found]: ...
    def delete(self, key: str) -> None: ...
    def read_tagged(self, key: str) -> tuple[bytes, str] | None: ...
    def swap(self, key: str, data: bytes, tag: str | None) -> None: ...
    def scratch(self) -> Path: ...
    def hold(self, *, alone: bool) -> contextlib.AbstractContextManager[bool]: ...


class FolderObjects:
    """A folder of a local file system."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = folder.as_uri()

    def read(self, key: str) -> bytes:
        try:
            return (self.folder / key).read_bytes()
        except FileNotFoundError as cause:
            raise NotFound(f"There is no {key} in {self.folder}.") from cause

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each (start, end); shorter where the object ends. Raises NotFound."""
        try:
            descriptor = os.open(self.folder / key, os.O_RDONLY)
        except FileNotFoundError as cause:
            raise NotFound(f"There is no {key} in {self.folder}.") from cause
        try:
            return _pread_ranges(descriptor, ranges)
        finally:
            os.close(descriptor)

    def write(self, key: str, data: bytes) -> None:
        """Nothing happens when it is there: an object never changes."""
        if not self.has(key):
            self.replace(key, data)

    def replace(self, key: str, data: bytes) -> None:
        """Write it whether or not it is there: only to mend what is damaged."""
        draft = self.scratch() / secrets.token_hex(8)
        try:
            with draft.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self._publish(draft, key)
        except OSError as cause:
            draft.unlink(missing_ok=True)
            raise _full(cause, self.folder) from cause

    def write_file(self, key: str, file: Path) -> None:
        """Take a file over. It has to be durable already, and on the same file system (see `scratch`)."""
        self._publish(file, key)

    def _publish(self, draft: Path, key: str) -> None:
        target = self.folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.replace(target)
        sync_folder(target.parent)

    def has(self, key: str) -> bool:
        return (self.folder / key).is_file()

    def look(self, key: str) -> Found:
        """One object as a listing shows it. Raises NotFound."""
        try:
            status = (self.folder / key).stat()
        except OSError as cause:
            raise NotFound(f"There is no {key} in {self.folder}.") from cause
        return Found(key, status.st_size, status.st_mtime_ns // 1_000_000, str(status.st_mtime_ns))

    def list(self, prefix: str) -> Iterator[Found]:
        """Every object below `prefix`, which names folders; in no order."""
        yield from self._list(self.folder / prefix, prefix.rstrip("/"))

    def _list(self, folder: Path, prefix: str) -> Iterator[Found]:
        try:
            entries = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            key = f"{prefix}/{entry.name}" if prefix else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from self._list(folder / entry.name, key)
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # deleted meanwhile
            yield Found(key, status.st_size, status.st_mtime_ns // 1_000_000, str(status.st_mtime_ns))

    def delete(self, key: str) -> None:
        (self.folder / key).unlink(missing_ok=True)

    def read_tagged(self, key: str) -> tuple[bytes, str] | None:
        """The bytes and what to give to `swap`; None when it does not exist."""
        try:
            data = (self.folder / key).read_bytes()
        except FileNotFoundError:
            return None
        return data, blake3(data).hexdigest()

    def swap(self, key: str, data: bytes, tag: str | None) -> None:
        """Write `data` if the object is still what `tag` says (None: it must not exist). Raises Conflict."""
        with self._locked("refs.lock", alone=True):
            now = self.read_tagged(key)
            if (now and now[1]) != tag:
                raise Conflict(f"{key} moved meanwhile.", hint="Read it again and decide.")
            draft = self.scratch() / secrets.token_hex(8)
            with draft.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            crash_here("ref.drafted")
            self._publish(draft, key)
            crash_here("ref.moved")

    def scratch(self) -> Path:
        """A folder for drafts, on the same file system."""
        folder = self.folder / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def hold(self, *, alone: bool) -> contextlib.AbstractContextManager[bool]:
        """Keep the collector away (shared), or everybody else (alone). True: the lock binds all users of the store."""
        return self._locked("writers.lock", alone=alone)

    @contextlib.contextmanager
    def _locked(self, name: str, *, alone: bool) -> Iterator[bool]:
        import fcntl  # released by the kernel, also when the process dies

        path = self.folder / "locks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            yield True
        finally:
            os.close(descriptor)


class BucketObjects:
    """A bucket, through obstore. The same keys as in a folder."""

    def __init__(self, store: Any, url: str) -> None:
        self._store = store
        self.url = url
        self.requests_count = 0

    def read(self, key: str) -> bytes:
        import obstore

        self.requests_count += 1
        with self._errors(key):
            return bytes(obstore.get(self._store, key).bytes())

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """As of a folder; ranges near each other travel together, and several at once."""
        import obstore

        found: list[bytes] = []
        with self._errors(key):
            for i in range(0, len(ranges), RANGES_AT_ONCE):
                part = ranges[i : i + RANGES_AT_ONCE]
                self.requests_count += 1
                got = obstore.get_ranges(
                    self._store, key, starts=[r[0] for r in part], ends=[r[1] for r in part], coalesce=CLOSE_BYTES
                )
                found += [bytes(b) for b in got]
        return found

    def write(self, key: str, data: bytes) -> None:
        """Written again when it is there: the same bytes, but young to the collector."""
        import obstore

        self.requests_count += 1
        with self._errors(key):
            obstore.put(self._store, key, data)

    def write_file(self, key: str, file: Path) -> None:
        """Upload a file, in parts and several at once when it is big; the file is removed."""
        import obstore

        self.requests_count += 1
        with self._errors(key):
            obstore.put(self._store, key, file)
        file.unlink(missing_ok=True)

    def has(self, key: str) -> bool:
        try:
            self.look(key)
        except NotFound:
            return False
        return True

    def look(self, key: str) -> Found:
        import obstore

        self.requests_count += 1
        with self._errors(key):
            return _found(obstore.head(self._store, key))

    def list(self, prefix: str) -> Iterator[Found]:
        import obstore

        self.requests_count += 1
        with self._errors(prefix):
            for batch in obstore.list(self._store, prefix=prefix.rstrip("/")):
                for item in batch:
                    yield _found(item)

    def delete(self, key: str) -> None:
        import obstore

        self.requests_count += 1
        with contextlib.suppress(NotFound), self._errors(key):
            obstore.delete(self._store, key)

    def read_tagged(self, key: str) -> tuple[bytes, str] | None:
        import obstore

        self.requests_count += 1
        try:
            with self._errors(key):
                answer = obstore.get(self._store, key)
                return bytes(answer.bytes()), str(answer.meta["e_tag"])
        except NotFound:
            return None

    def swap(self, key: str, data: bytes, tag: str | None) -> None:
        import obstore

        self.requests_count += 1
        mode: Any = "create" if tag is None else {"e_tag": tag}
        with self._errors(key):
            try:
                obstore.put(self._store, key, data, mode=mode, use_multipart=False)
            except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError) as cause:
                raise Conflict(f"{key} moved meanwhile.", hint="Read it again and decide.") from cause
        crash_here("ref.moved")

    def scratch(self) -> Path:
        import tempfile

        return Path(tempfile.gettempdir())

    @contextlib.contextmanager
    def hold(self, *, alone: bool) -> Iterator[bool]:
        yield False  # a bucket has no locks: grace times protect writers there

    @contextlib.contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        import obstore

        try:
            yield
        except (FileNotFoundError, obstore.exceptions.NotFoundError) as cause:
            raise NotFound(f"There is no {key} in {self.url}.") from cause
        except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError):
            raise
        except (obstore.exceptions.BaseError, OSError) as cause:
            raise Unavailable(
                f"{self.url} cannot be reached or refuses.",
                hint="Check the address and the credentials (AWS_…, see the guide).",
            ) from cause


def _found(item: Any) -> Found:
    return Found(item["path"], int(item["size"]), int(item["last_modified"].timestamp() * 1000), str(item["e_tag"] or ""))


def open_objects(url: str, *, create: bool = True) -> FolderObjects | BucketObjects:
    """The store at `url`: a path, file://, s3://, gs:// or az://. Credentials come from the usual variables (AWS_…).

    Raises Invalid for another kind of address, and NotFound when a folder does not exist and is not to be made.
    """
    if "://" not in url or url.startswith("file://"):
        folder = Path(unquote(url[len("file://") :]) if "://" in url else url).absolute()
        if not folder.is_dir():
            if not create:
                raise NotFound(f"There is no folder {folder}.", where="url")
            folder.mkdir(parents=True, exist_ok=True)
        return FolderObjects(folder)
    if not url.startswith(("s3://", "gs://", "az://", "memory://")):
        raise Invalid(
            f"{url!r} is no place for data.", where="url", hint="Use a folder, file://, s3://bucket/prefix, gs:// or az://."
        )
    from obstore.store import from_url

    try:
        return BucketObjects(from_url(url, retry_config=_RETRIES), url)
    except Exception as cause:
        raise Invalid(
            f"{url!r} cannot be opened.", where="url", hint="Use s3://bucket/prefix, gs:// or az:// and set its credentials."
        ) from cause


_RETRIES: Any = {"max_retries": 5}
_SOON: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}


def check_reachable(url: str) -> None:
    """Whoever starts a server learns in seconds, and in the store's own words, that a bucket is not there. Raises Unavailable, Invalid."""
    if not isinstance(open_objects(url), BucketObjects) or url.startswith("memory://"):
        return
    import obstore
    from obstore.store import from_url

    try:
        next(iter(obstore.list(from_url(url, retry_config=_SOON), chunk_size=1)), None)
    except (obstore.exceptions.BaseError, OSError) as cause:
        text = str(cause)
        said = re.search(r"<Code>(.*?)</Code>.*?<Message>(.*?)</Message>", text, re.DOTALL)
        why = f"{said[1]}: {said[2].rstrip('.')}" if said else text.partition("\n")[0].rpartition(" - ")[2]
        raise Unavailable(
            f"{url} cannot be used: {why[:300]}.",
            hint="The bucket has to be there; credentials and address come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and "
            "AWS_ENDPOINT_URL (or those of the other clouds). noria doctor tries it.",
        ) from cause


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _pread_ranges(descriptor: int, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Ranges that follow each other are read as one."""
    found, i = list[bytes](), 0
    while i < len(ranges):
        first, end = ranges[i]
        j = i + 1
        while j < len(ranges) and ranges[j][0] == end and ranges[j][1] >= end and ranges[j][1] - first <= AT_ONCE_BYTES:
            end = ranges[j][1]
            j += 1
        data = _pread(descriptor, first, end - first)
        found += [data] if j == i + 1 else [data[start - first : stop - first] for start, stop in ranges[i:j]]
        i = j
    return found


def _pread(descriptor: int, at: int, size: int) -> bytes:
    data = os.pread(descriptor, size, at)
    if len(data) == size or not data:
        return data
    parts = [data]
    while (got := sum(map(len, parts))) < size and (more := os.pread(descriptor, size - got, at + got)):
        parts.append(more)
    return b"".join(parts)


def _full(cause: OSError, folder: Path) -> Exception:
    import errno

    if cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(f"There is no space left in {folder}.", hint="Free some (noria data gc), and try again.")
    return cause
