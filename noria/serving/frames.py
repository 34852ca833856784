"""Frames between the processes of the data plane: two lengths, a msgpack header, a raw body, on a unix socket.

The gateway never parses a request's body; it passes it on. Sockets live in a short folder: a unix path holds 108 bytes.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from noria.kernel.errors import Invalid

T = TypeVar("T")
_LENGTHS = struct.Struct("<II")
FRAME_BYTES_MAX = 256 << 20  # A frame above this is damage, not data.
HELLO = -1  # The id of a worker's first frame: its body is a `Hello`.
# At the door: a worker asks for a connection to the recorder; it gets one, or hears that the recorder is away.
RECORDER_WANTED, RECORDER_HERE, RECORDER_AWAY = b"r", b"y", b"n"

BOUND_MARK = 0x92  # The first byte of a `Bound`; a `Block` begins with that of a map.
FLOW_MARK = 0x92  # The first byte of a header of two fields: a `Flow` and nothing else has two.

_encode = msgspec.msgpack.Encoder().encode


class Ask(Struct, array_like=True, frozen=True):
    """One request on its way to a worker. `deadline_s` is on the machine's monotonic clock."""

    id: int
    protocol: str
    prediction_id: str
    at_ms: int
    event_at_ms: int
    key: str | None
    role: str
    deadline_s: float
    arrived_s: float
    content_type: str
    json_size: int = -1  # how much of the body is JSON, the rest tensors as bytes; -1: all of it
    encoding: str = ""  # gzip or deflate


class Answer(Struct, array_like=True, frozen=True):
    """A worker's answer to `Ask` with the same id; the body is the caller's body."""

    id: int
    status: int
    rows: int = 0
    json_size: int = 0  # how much of the body is JSON, the rest tensors as bytes; 0: all of it
    has_more: bool = False  # one of several: the answer is a stream, and its last part says False


class Flow(Struct, array_like=True, frozen=True):
    """The gateway's word on a stream: so many parts more may come; none: nobody listens any longer, and it ends."""

    id: int
    parts: int


class Hello(Struct, frozen=True, kw_only=True):
    """A worker's first words: ready, or failed and why."""

    revision_id: str
    pid: int
    state: str
    error: str = ""
    metadata: dict[str, object] = {}


class Spec(Struct, frozen=True, kw_only=True):
    """What a worker is told at its start. It inherits two sockets: to the gateway, and the door through which it is handed others."""

    gateway_fd: int
    door_fd: int
    folder: str
    endpoint: str
    revision_id: str
    model: str
    model_version: int
    digest: str = ""  # of the files in the folder, as they were registered
    onnx: str = ""  # the folder of the converted model; empty: as it was saved
    onnx_digest: str = ""  # of the files in it, as they were registered
    max_batch_rows: int = 1024
    body_bytes_max: int = 16 << 20
    log_level: str = "info"


class Block(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Records on their way to the recorder; the body holds the arrays of `layout`, one after the other.

    `source` and `seq` identify the block: a source sends in order and again after a broken connection, so the recorder keeps
    only what is above the highest seq it has written.
    """

    kind: str
    source: str
    seq: int
    endpoint: str
    revision_id: str = ""
    model: str = ""
    model_version: int = 0
    classes: list[object] = []
    rows: int = 0
    at_ms: list[int] = []
    event_at_ms: list[int] = []
    ids: list[str] = []
    keys: list[str | None] = []
    roles: list[str] = []
    latency_ms: list[float] = []
    status: list[int] = []
    features: list[tuple[str, str]] = []  # (name, kind), in the order of the matrix or of `values`
    values: list[list[object]] = []  # the features by column, when they are not one matrix
    predictions: list[object] = []  # when they are text
    layout: list[tuple[str, int, int]] = []  # (name, rows, columns) of each float64 array in the body


class Bound(Struct, array_like=True, frozen=True):
    """The node's first word to the recorder on a connection that a worker gets: only records of this revision come on it."""

    endpoint: str
    revision_id: str


class Written(Struct, array_like=True, frozen=True):
    """The recorder has everything of `source` up to `seq` on disk."""

    source: str
    seq: int


def pack(header: object, body: bytes | bytearray | memoryview = b"") -> bytes:
    """One frame."""
    head = _encode(header)
    return b"".join((_LENGTHS.pack(len(head), len(body)), head, body))


class Unpacker:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The frames that `data` completes, as (header, body). Raises Invalid on damage."""
        buffer = self._buffer
        buffer += data
        at, size = 0, len(buffer)
        try:
            while size - at >= 8:
                head, body = _LENGTHS.unpack_from(buffer, at)
                if head + body > FRAME_BYTES_MAX:
                    raise Invalid("A frame says it is larger than any frame may be.")
                end = at + 8 + head + body
                if end > size:
                    break
                middle = at + 8 + head
                frame = bytes(buffer[at + 8 : middle]), bytes(buffer[middle:end])
                at = end
                yield frame
        finally:
            del buffer[:at]


def socket_folder(home: Path) -> Path:
    """Where the sockets of the server on `home` live; readable by its user only."""
    digest = hashlib.blake2b(str(home.absolute()).encode(), digest_size=6).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"noria-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
        raise Invalid(f"{folder} belongs to somebody else or is open to others.", hint="Remove it and start again.")
    return folder


def recorder_socket(home: Path) -> Path:
    return socket_folder(home) / "recorder.sock"
