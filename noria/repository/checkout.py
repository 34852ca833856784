"""From a version to files: read in the order of the packs, written beside the target, renamed at the end.

A new folder appears at once, complete, or not at all. Names that the file system cannot tell apart (A and a, é in two spellings)
are found because every file is created as new.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from noria.datasets.manifest import Manifest
from noria.datasets.model import EXECUTABLE_MODE, TableFile, VersionFile, check_path
from noria.kernel.errors import Conflict, Invalid, Unavailable
from noria.repository.objects import FolderObjects
from noria.repository.packs import RECIPE, REPAIR
from noria.repository.repository import Repository

BATCH_BYTES = 4 << 20
BATCH_FILES = 1024
THREADS = 2
Say = Callable[[str], None]
T = TypeVar("T")
R = TypeVar("R")
Read = Callable[[VersionFile], Iterable[bytes]]  # where files come from, when not from the packs


def checkout(
    repository: Repository,
    files: Manifest,
    target: Path,
    *,
    overwrite: bool = False,
    link: bool = False,
    say: Say = lambda _: None,
    read: Read | None = None,
) -> Path:
    """Write `files` below `target`. Raises Conflict when it exists and is not empty, unless `overwrite`.

    `link`: hard links to read-only copies inside the repository, made once, instead of copies; on one file system only.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())) and not (overwrite and target.is_dir()):
        raise Conflict(f"{target} exists and is not empty.", hint="Choose another folder, or overwrite (--force).")
    if overwrite and target.is_dir() and any(target.iterdir()):
        _overwrite(repository, files, target, link=link, say=say, read=read)
        return target
    with whole_folder(target) as folder:
        _write(repository, files, folder, link=link, say=say, read=read)
    return target


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A new folder that becomes `target` (nothing, or an empty folder) when the block ends, and is removed when it raises."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield partial
        partial.chmod(0o755)
        if target.exists():
            target.rmdir()
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write(repository: Repository, files: Manifest, folder: Path, *, link: bool, say: Say, read: Read | None) -> None:
    tables = [f for f in files.values() if isinstance(f, TableFile)]
    files = {path: f for path, f in files.items() if not isinstance(f, TableFile)}
    for table in tables:
        say(f"writing {table.path}")
        place = folder / check_path(table.path)
        place.parent.mkdir(parents=True, exist_ok=True)
        repository.table(table).write(place)
    if read is not None:
        _make_folders(files, folder)
        for i, file in enumerate(files.values()):
            say(f"{i + 1:,} of {len(files):,} files")
            _create(f"{folder}/{file.path}", file.mode, read(file))
    elif link:
        _link_files(repository, files, folder, say)
    else:
        _write_files(repository, files, folder, say)


def _overwrite(repository: Repository, files: Manifest, target: Path, *, link: bool, say: Say, read: Read | None) -> None:
    """Into a folder that has files: each is replaced at once, others stay. What is on the way and is no folder is refused."""
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _write(repository, files, partial, link=link, say=say, read=read)
        root = target.resolve()
        for path in files:
            place = target / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.parent.resolve().is_relative_to(root):
                raise Invalid(
                    f"{place.parent} is a link that leads out of {target}.", hint="Remove it, or choose another folder."
                )
            (partial / path).replace(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_files(repository: Repository, files: Manifest, folder: Path, say: Say) -> None:
    _make_folders(files, folder)
    root, done = os.fspath(folder), 0
    small, big = _by_place(repository, files.values())

    def write(batch: list[VersionFile]) -> int:
        for each, data in zip(batch, repository.read_blobs([bytes.fromhex(f.digest) for f in batch]), strict=True):
            _create(f"{root}/{each.path}", each.mode, (data,))
        return len(batch)

    with ThreadPoolExecutor(THREADS) as pool:  # nearly all of it is the file system's work
        for count in in_order(pool, write, _batches(small), waiting=2 * THREADS):
            done += count
            say(f"{done:,} of {len(files):,} files")
    for file in big:
        _create(f"{root}/{file.path}", file.mode, repository.read(file))
        done += 1
        say(f"{done:,} of {len(files):,} files")


def _batches(files: list[VersionFile]) -> Iterator[list[VersionFile]]:
    batch, total = list[VersionFile](), 0
    for file in files:
        batch.append(file)
        total += file.size_bytes
        if total >= BATCH_BYTES or len(batch) >= BATCH_FILES:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def in_order(pool: Executor, work: Callable[[T], R], items: Iterable[T], *, waiting: int) -> Iterator[R]:
    """As `pool.map`, but at most `waiting` are begun ahead, and the first error ends it."""
    begun = deque[Future[R]]()
    try:
        for item in items:
            if len(begun) >= waiting:
                yield begun.popleft().result()
            begun.append(pool.submit(work, item))
        while begun:
            yield begun.popleft().result()
    finally:
        for future in begun:
            future.cancel()


def _make_folders(files: Manifest, folder: Path) -> None:
    made = {""}
    for path in files:
        parent = path.rpartition("/")[0]
        if parent not in made:
            check_path(path)
            (folder / parent).mkdir(parents=True, exist_ok=True)
            made.add(parent)


def _by_place(repository: Repository, files: Iterable[VersionFile]) -> tuple[list[VersionFile], list[VersionFile]]:
    """Files of one blob in the order of the packs, and files of several chunks."""
    listed = list(files)
    places = repository.packs.find_many([bytes.fromhex(f.digest) for f in listed])
    if any(p is None for p in places):
        repository.packs.refresh()
        places = repository.packs.find_many([bytes.fromhex(f.digest) for f in listed])
    small, big = list[tuple[str, int, VersionFile]](), list[VersionFile]()
    for file, place in zip(listed, places, strict=True):
        if place is None:
            raise Unavailable(f"The bytes of {file.path!r} are missing.", hint=REPAIR)
        if place.kind == RECIPE:
            big.append(file)
        else:
            small.append((place.pack, place.offset, file))
    small.sort(key=lambda s: s[:2])
    return [file for _, _, file in small], big


def _create(place: str, mode: int, pieces: Iterable[bytes]) -> None:
    try:
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    except FileExistsError as cause:
        raise Invalid(
            f"This file system takes {place} and another file of the version for the same.",
            hint="Check out on a file system that tells capitals and accents apart.",
        ) from cause
    try:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(descriptor, view) :]
        if mode == EXECUTABLE_MODE:
            os.fchmod(descriptor, mode)
    except OSError as cause:
        if cause.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unavailable(f"There is no space left for {place}.", hint="Free some, and check out again.") from cause
        raise
    finally:
        os.close(descriptor)


def _link_files(repository: Repository, files: Manifest, folder: Path, say: Say) -> None:
    """Link each file to its read-only copy in the repository, which is made when it is first needed."""
    if not isinstance(repository.objects, FolderObjects):
        raise Invalid("Files of a bucket cannot be linked.", where="link", hint="Leave out --link.")
    _make_folders(files, folder)
    copies = repository.objects.folder / "files"
    for i, file in enumerate(files.values()):
        copy = copies / file.digest[:2] / f"{file.digest}{'x' if file.mode == EXECUTABLE_MODE else ''}"
        if not _is_whole(copy, file):
            copy.parent.mkdir(parents=True, exist_ok=True)
            draft = copy.with_name(f".{secrets.token_hex(6)}")
            try:
                _create(os.fspath(draft), 0o644, repository.read(file))
                draft.chmod(0o555 if file.mode == EXECUTABLE_MODE else 0o444)
                draft.replace(copy)
            finally:
                draft.unlink(missing_ok=True)
        try:
            os.link(copy, folder / file.path)
        except OSError as cause:
            raise Invalid(
                f"{folder.parent} cannot hold links to files in {repository.objects.folder}.",
                where="link",
                hint="Leave out --link, or check out on the same file system.",
            ) from cause
        if not i % 256:
            say(f"{i:,} of {len(files):,} files")


def _is_whole(copy: Path, file: VersionFile) -> bool:
    """Is the copy there and still as it was made? A copy that somebody made writable is not believed."""
    with contextlib.suppress(OSError):
        status = copy.stat()
        return status.st_size == file.size_bytes and not status.st_mode & 0o222
    return False
