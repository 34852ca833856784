"""What a run prints, as a log: live, bounded, and without the frames of progress bars that were overwritten at once."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from noria.client.redacting import redactor
from noria.kernel.errors import NoriaError
from noria.kernel.redaction import Stream

CONSOLE_BYTES_MAX = 60 << 20  # a little below what the server takes of one run
LINE_LENGTH_MAX = 64 << 10
PROGRESS_EVERY_S = 30.0  # how often a bar that is still drawn is written down
PART_BYTES = 256 << 10
_ERASE = re.compile(r"\x1b\[[0-9;]*[JK]")
_CURSOR = re.compile(r"\x1b\[[0-9;?]*[A-HJKSTfhlsu]")  # moves and erasures; colours stay


class Lines:
    """A stream as a terminal would leave it: of a line that was overwritten, only what stood there last."""

    def __init__(self) -> None:
        self._line, self._shown = "", 0  # the line so far; how much of it was given out
        self._is_bar, self._bar_at_s = False, 0.0

    def feed(self, text: str) -> str:
        """What is final by now: whole lines."""
        out: list[str] = []
        *whole, rest = (self._line + text).split("\n")
        for line in whole:
            out.append(self._finished(line))
            self._line, self._shown, self._is_bar = "", 0, False
        self._line = rest
        if "\r" in rest[:-1]:  # one at the very end may belong to a line end
            if self._shown:  # the part before was given out as an ordinary line
                out.append("\n")
                self._shown = 0
            self._is_bar = True
            before, _, drawing = rest.rpartition("\r")
            self._line = overwritten(before) + "\r" + drawing
        elif len(rest) > LINE_LENGTH_MAX:
            out.append(self.standing(0.0))
        return "".join(out)

    def standing(self, now_s: float) -> str:
        """What stands in the last line and was not given out: text at once, a bar from time to time."""
        if self._is_bar:
            if now_s - self._bar_at_s < PROGRESS_EVERY_S or not self._line.strip():
                return ""
            self._bar_at_s = now_s
            return overwritten(self._line) + "\n"
        if self._line.endswith("\r"):
            return ""  # the next character says what it means
        fresh, self._shown = self._line[self._shown :], len(self._line)
        if len(self._line) > LINE_LENGTH_MAX:
            self._line, self._shown = "", 0
        return _CURSOR.sub("", fresh)

    def close(self) -> str:
        """What is left at the end."""
        left = self._finished(self._line).rstrip("\n")
        self._line, self._shown = "", 0
        return left + "\n" if left else ""

    def _finished(self, line: str) -> str:
        fresh = line[self._shown :] if self._shown else line
        return overwritten(fresh) + "\n"


def overwritten(line: str) -> str:
    """What is left of a line when each carriage return began it anew."""
    left = ""
    for part in line.rstrip("\r").split("\r"):
        erases = bool(_ERASE.search(part))
        text = _CURSOR.sub("", part)
        if text or erases:
            left = text if erases else text + left[len(text) :]
    return left


class Console:
    """Collects what is printed on any thread and hands it on in pieces; bounded, and never an error to whoever prints."""

    def __init__(self, keep: Callable[[int, str], None], *, limit_bytes: int = CONSOLE_BYTES_MAX) -> None:
        self._keep, self._limit_bytes = keep, limit_bytes
        self._streams: dict[str, Lines] = {}
        self._lock = threading.RLock()  # what keeps may print
        self._masking = Stream(redactor())
        self._offset = 0
        self.lost = ""  # why nothing more is kept, if so
        self._is_busy = False

    def write(self, stream: str, text: str) -> None:
        """`text` was printed on `stream`."""
        with self._lock:
            if not self.lost and not self._is_busy:
                self._hand_on(self._streams.setdefault(stream, Lines()).feed(text))

    def tick(self, now_s: float) -> None:
        """Called twice a second: hand on what stands in lines without an end."""
        with self._lock:
            for lines in self._streams.values():
                self._hand_on(lines.standing(now_s))

    def close(self) -> None:
        with self._lock:
            for lines in self._streams.values():
                self._hand_on(lines.close())
            self._keep_on(self._masking.end())

    def _hand_on(self, text: str) -> None:
        self._keep_on(self._masking.push(text) if text else "")

    def _keep_on(self, text: str) -> None:
        if not text or self.lost:
            return
        text = text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
        if self._offset + 4 * len(text) > self._limit_bytes and self._offset + len(text.encode()) > self._limit_bytes:
            self.lost = f"it reached {self._limit_bytes >> 20} MiB"
            text = f"[noria: {self.lost}; what was printed after this is not kept]\n"
        self._is_busy = True
        try:
            for start in range(0, len(text), PART_BYTES // 4):
                part = text[start : start + PART_BYTES // 4]
                self._keep(self._offset, part)
                self._offset += len(part.encode())
        except NoriaError as error:
            self.lost = error.message
        finally:
            self._is_busy = False


class Tee:
    """Standard output and error of this process, copied into a console. What is written to the old streams passes too."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._patched: list[tuple[Any, Any, Any]] = []
        for name in ("stdout", "stderr"):
            self._patch(name, getattr(sys, name))

    def _patch(self, name: str, stream: Any) -> None:
        """Replaces `write` of the stream itself, so that handlers that hold it are heard as well."""
        original = getattr(stream, "write", None)
        if original is None:
            return
        console = self._console

        def write(text: Any) -> Any:
            written = original(text)
            if isinstance(text, str):
                console.write(name, text)
            return written

        with suppress(AttributeError, TypeError):  # a stream that cannot be changed is not heard
            before = vars(stream).get("write")
            stream.write = write
            self._patched.append((stream, write, before))

    def close(self) -> None:
        for stream, write, before in self._patched:
            if vars(stream).get("write") is not write:
                continue  # somebody wrapped it again; theirs stays
            if before is None:
                del stream.write
            else:
                stream.write = before
        self._patched.clear()
