"""The logs of workers and conversions, one file for each revision."""

from __future__ import annotations

from pathlib import Path
from typing import IO

LOG_BYTES_MAX = 1 << 20
TAIL_BYTES = 4_000


def open_log(path: Path) -> IO[bytes]:
    """A log to go on writing; a long one begins anew."""
    if path.is_file() and path.stat().st_size > LOG_BYTES_MAX:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")


def tail(path: Path) -> str:
    """Its last lines."""
    data = path.read_bytes()[-TAIL_BYTES:]
    return "\n".join(data.decode("utf-8", "replace").splitlines()[-15:])
