"""The console log of a run: appended in parts, read while it grows."""

from __future__ import annotations

from noria.kernel.db import Database
from noria.kernel.errors import Conflict, Invalid, TooLarge
from noria.kernel.ids import Ref
from noria.kernel.op import Op
from noria.kernel.ticks import Ticks
from noria.tracking import store
from noria.tracking.model import ENDED, LOG_BYTES_MAX, LOG_CHUNK_BYTES_MAX, LogPage
from noria.tracking.sight import run_head, writable


class Logs:
    """Part of the tracking service."""

    _db: Database
    _ticks: Ticks

    def append_log(self, op: Op, run_id: str, text: str, offset: int | None = None) -> int:
        """Append to a run's log; returns its size in bytes. With `offset`, text that is there already is not added again.

        Raises Invalid, TooLarge, Conflict (`offset` lies beyond the end: something was lost), NotFound, Forbidden.
        """
        data = _utf8(text)
        if len(data) > LOG_CHUNK_BYTES_MAX:
            raise TooLarge(f"At most {LOG_CHUNK_BYTES_MAX >> 20} MiB of log fit one request.", hint="Send it in parts.")
        with self._db.write(op) as tx:
            writable(tx, op, run_id)
            store.lock_run(tx, run_id)
            size = writable(tx, op, run_id).log_bytes
            at = size if offset is None else offset
            if at > size or at < 0:
                raise Conflict(f"The log has {size} bytes, but the text says it starts at {at}.", hint=f"Go on from {size}.")
            data = data[size - at :]
            if not data:
                return size
            if size + len(data) > LOG_BYTES_MAX:
                raise TooLarge(
                    f"The log of run {run_id} would exceed {LOG_BYTES_MAX >> 20} MiB.",
                    hint="Keep it as an artifact instead.",
                )
            store.add_log(tx, run_id, size, _utf8_text(data), len(data), op.at_ms)
            tx.after_commit(lambda: self._ticks.tick(Ref("run", run_id), {"log_bytes": size + len(data)}))
            return size + len(data)

    def log_page(self, op: Op, run_id: str, offset: int = 0) -> LogPage:
        """A part of a run's log from `offset` bytes on; '' at the end. Raises NotFound, Invalid."""
        if offset < 0:
            raise Invalid("offset cannot be negative.", where="offset")
        with self._db.read() as tx:
            head = run_head(tx, op, "run.read", run_id)
            parts = store.log_from(tx, run_id, offset)
        data, at = bytearray(), offset
        for part in parts:
            chunk = part["content"].encode()
            data += chunk[max(0, at - part["start_byte"]) :]
            at = part["start_byte"] + part["size_bytes"]
        return LogPage(
            text=data.decode(errors="replace"), offset=offset, next_offset=at, size_bytes=head.log_bytes,
            is_ended=head.status in ENDED and at >= head.log_bytes,
        )  # fmt: skip


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as cause:
        raise Invalid("The text is not valid Unicode.", where="text", hint="Remove the lone surrogate.") from cause


def _utf8_text(data: bytes) -> str:
    """What is left of a text after its known beginning; a cut inside a character cannot be."""
    try:
        return data.decode()
    except UnicodeDecodeError as cause:
        raise Invalid("offset lies inside a character.", where="offset") from cause
