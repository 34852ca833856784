"""The journal of a run, on the machine that makes it: what was logged is on disk before anything is sent.

    log() ──one write──▶ segment files ──read by the sender──▶ server ──acknowledged──▶ mark.json moves, old segments go

A frame is its length, its CRC-32 and a MessagePack entry. Each process that logs has a folder of its own, `<run id>.<8 hex>`,
held by a lock for as long as the process lives, so `noria run sync` never reads over a writer's shoulder.

Invariant: an entry whose append returned survives a kill of the process at any point, and is delivered at least once; every
delivery may be repeated, because the server keeps a repeated entry once. What a crash tore off at the end of a file was never
confirmed to anybody. After a loss of power, what was written in the last second may be missing.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from noria.kernel.errors import Conflict, Invalid, TooMuch, Unavailable

SEGMENT_BYTES = 8 << 20
LIMIT_BYTES = 1 << 30  # of what waits in one journal, files included
FRAME_BYTES_MAX = 64 << 20  # a length above this is damage, not an entry
READ_BYTES = 1 << 20
_HEAD = struct.Struct("<II")


class Start(Struct, tag="start", array_like=True):
    """What the run is. `is_joined`: it was begun by somebody else, who also ends it."""

    run_id: str
    experiment: str
    name: str
    tags: dict[str, str]
    started_at_ms: int
    url: str = ""
    is_joined: bool = False
    may_exist: bool = False  # the caller chose the id, so a run that has it is gone on with


class Numbers(Struct, tag="numbers", array_like=True):
    """Metrics at one step."""

    at_ms: int
    step: int
    values: dict[str, float]


class Params(Struct, tag="params", array_like=True):
    values: dict[str, str]


class Tags(Struct, tag="tags", array_like=True):
    values: dict[str, str]


class Text(Struct, tag="text", array_like=True):
    """What was printed; `offset` counts the bytes this journal printed before it."""

    offset: int
    text: str


class File(Struct, tag="file", array_like=True):
    """A file to be stored at `path`; its bytes lie in the journal's folder `files` under `name`."""

    path: str
    name: str
    size_bytes: int


class End(Struct, tag="end", array_like=True):
    status: str
    at_ms: int


Entry = Start | Numbers | Params | Tags | Text | File | End
encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


class Mark(Struct, frozen=True):
    """How far a journal was acknowledged: everything before byte `offset` of segment `segment`."""

    segment: int = 1
    offset: int = 0
    log_start: int | None = None  # where this journal's text begins in the log of a run that others began
    run_id: str = ""
    is_ended: bool = False


class Lock:
    """Held by whoever writes or sends a journal; the system lets go of it when that process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / "lock").open("ab")
        try:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as cause:
            self._file.close()
            raise Conflict(
                f"The journal {folder.name} is in use.", hint="The process that writes or sends it still runs."
            ) from cause

    def release(self) -> None:
        self._file.close()


class Journal:
    """The writing end. Safe to use from several threads; an append is one system call."""

    def __init__(self, root: Path, run_id: str, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = root / f"{run_id}.{secrets.token_hex(4)}"
        try:
            self.folder.mkdir(parents=True)
            self.lock = Lock(self.folder)
        except OSError as cause:
            raise Unavailable(
                f"The journal of the run cannot be written to {root}: {cause.strerror}.",
                hint="Name another folder with NORIA_JOURNALS.",
            ) from cause
        self._limit_bytes = limit_bytes
        self._turn = threading.Lock()
        self._waiting_bytes = 0
        self._segment, self._size, self._is_dirty = 1, 0, False
        self._fd = self._open(1)

    def append(self, entry: Entry) -> None:
        """Keep an entry. Raises TooMuch when too much waits already, Unavailable when the disk does not take it."""
        body = encode(entry)
        frame = _HEAD.pack(len(body), zlib.crc32(body)) + body
        with self._turn:
            if self._fd < 0:
                raise Invalid("The run has ended.", hint="Begin another with noria.init().")
            self._make_room(len(frame))
            if self._size >= SEGMENT_BYTES:
                self._fd, old = self._open(self._segment + 1), self._fd
                os.close(old)
                self._segment, self._size = self._segment + 1, 0
            self._write(frame)

    def add_file(self, source: Path, path: str) -> None:
        """Keep a copy of a file as it is now, to be stored at `path`. Raises TooMuch, Unavailable."""
        size, name = source.stat().st_size, secrets.token_hex(8)
        with self._turn:
            self._make_room(size)
            self._waiting_bytes += size
        target = self.folder / "files" / name
        try:
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target)
        except OSError as cause:
            raise Unavailable(f"{source} cannot be kept for sending: {cause.strerror}.", hint="Is the disk full?") from cause
        self.append(File(path, name, target.stat().st_size))

    def forget(self, freed_bytes: int) -> None:
        """The sender removed what was acknowledged."""
        with self._turn:
            self._waiting_bytes -= freed_bytes

    def sync(self) -> None:
        """Ask the disk to keep what was appended; called about once a second, never by a training step."""
        if self._is_dirty:
            self._is_dirty = False
            os.fdatasync(self._fd)

    def close(self) -> None:
        """After the last append. The lock stays until `lock.release()`."""
        with self._turn:
            self._is_dirty = False
            os.fdatasync(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _open(self, segment: int) -> int:
        return os.open(self.folder / _name(segment), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _make_room(self, size: int) -> None:
        if self._waiting_bytes + size > self._limit_bytes:
            raise TooMuch(
                f"{self._waiting_bytes >> 20} MiB of this run wait in {self.folder}, and the limit is {self._limit_bytes >> 20} MiB.",
                hint="Bring the server back, or raise NORIA_JOURNAL_LIMIT_MB. What was logged before is kept.",
            )  # fmt: skip

    def _write(self, frame: bytes) -> None:
        try:
            written = os.write(self._fd, frame)
            if written != len(frame):
                os.ftruncate(self._fd, self._size)  # half a frame would hide what comes after it
                raise Unavailable(f"The disk of {self.folder} is full.", hint="Make room; what was logged before is kept.")
        except OSError as cause:
            raise Unavailable(
                f"The journal {self.folder} cannot be written: {cause.strerror}.", hint="What was logged before is kept."
            ) from cause
        self._size += written
        self._waiting_bytes += written
        self._is_dirty = True


class Reader:
    """The sending end of a journal: entries after the mark, and the mark itself."""

    def __init__(self, folder: Path, *, is_live: bool) -> None:
        self.folder, self._is_live = folder, is_live
        self.mark = self._read_mark()
        self.torn_bytes = 0

    def entries(self, *, limit_bytes: int = READ_BYTES) -> list[tuple[Entry, Mark]]:
        """The next entries, each with the mark to set when it is acknowledged; none when there is nothing more for now."""
        mark = self.mark
        while True:
            found = self._read(mark, limit_bytes)
            if found or not self._has(mark.segment + 1):
                return found
            found = self._read(mark, limit_bytes)  # what was added before the next segment was begun
            if found:
                return found
            mark = msgspec.structs.replace(mark, segment=mark.segment + 1, offset=0)

    def acknowledge(self, mark: Mark) -> int:
        """Remember that everything before `mark` arrived, and remove the segments before it; returns the bytes freed."""
        write_json(self.folder / "mark.json", msgspec.to_builtins(mark))
        freed = 0
        for segment in range(self.mark.segment, mark.segment):
            path = self.folder / _name(segment)
            freed += path.stat().st_size if path.exists() else 0
            path.unlink(missing_ok=True)
        self.mark = mark
        return freed

    def drop_file(self, name: str) -> int:
        """Remove the copy of a file that arrived; returns its bytes."""
        path = self.folder / "files" / name
        size = path.stat().st_size if path.exists() else 0
        path.unlink(missing_ok=True)
        return size

    def waiting_bytes(self) -> int:
        """What was not acknowledged yet, files included."""
        segments = sum(p.stat().st_size for p in self.folder.glob("*.journal") if _number(p) >= self.mark.segment)
        files = sum(p.stat().st_size for p in (self.folder / "files").glob("*"))
        return max(0, segments - self.mark.offset) + files

    def _read_mark(self) -> Mark:
        try:
            return msgspec.json.decode((self.folder / "mark.json").read_bytes(), type=Mark)
        except (FileNotFoundError, msgspec.DecodeError):  # from the beginning: what arrived before is kept once
            segments = sorted(_number(p) for p in self.folder.glob("*.journal"))
            return Mark(segment=segments[0] if segments else 1)

    def _has(self, segment: int) -> bool:
        return (self.folder / _name(segment)).exists()

    def _read(self, mark: Mark, limit_bytes: int) -> list[tuple[Entry, Mark]]:
        try:
            with (self.folder / _name(mark.segment)).open("rb") as file:
                file.seek(mark.offset)
                data = file.read(limit_bytes)
                if len(data) >= _HEAD.size and (need := _HEAD.unpack_from(data)[0] + _HEAD.size) > len(data):
                    data += file.read(min(need, FRAME_BYTES_MAX) - len(data))
                at_end = not file.read(1)
        except FileNotFoundError:
            return []
        found = [
            (entry, Mark(mark.segment, mark.offset + end, mark.log_start, mark.run_id, mark.is_ended))
            for entry, end in frames(data)
        ]
        if not found and not self._is_live and at_end:
            self.torn_bytes = len(data)
        return found


def frames(data: bytes) -> Iterator[tuple[Entry, int]]:
    """The whole entries at the beginning of `data`, each with where it ends."""
    at = 0
    while at + _HEAD.size <= len(data):
        size, crc = _HEAD.unpack_from(data, at)
        start, end = at + _HEAD.size, at + _HEAD.size + size
        if end > len(data) or zlib.crc32(data[start:end]) != crc:
            return
        try:
            entry = _decode(data[start:end])
        except msgspec.DecodeError:  # zeros have the right CRC of nothing
            return
        yield entry, end
        at = end


def journals_below(root: Path) -> list[Path]:
    """The journals in a folder, oldest first; the folder itself when it is one."""
    if any(root.glob("*.journal")):
        return [root]
    return sorted(path for path in root.glob("*.*") if path.is_dir() and (path / "lock").exists())


def remove(folder: Path) -> None:
    """Remove a journal that arrived whole. Its mark goes last: a crash in between leaves nothing to send again."""
    for path in [*folder.glob("files/*"), *folder.glob("*.journal"), *folder.glob("*.json")]:
        path.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def write_json(path: Path, value: object) -> None:
    """Replace a small file in one step."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps(value))
    fresh.replace(path)


def default_root() -> Path:
    """Where journals lie: NORIA_JOURNALS, else `.noria/journals` of the user's home."""
    return Path(os.environ.get("NORIA_JOURNALS") or Path.home() / ".noria" / "journals").expanduser()


def limit_bytes() -> int:
    """NORIA_JOURNAL_LIMIT_MB, in bytes."""
    return int(os.environ.get("NORIA_JOURNAL_LIMIT_MB") or LIMIT_BYTES >> 20) << 20


def _name(segment: int) -> str:
    return f"{segment:08d}.journal"


def _number(path: Path) -> int:
    return int(path.stem)
