"""Checkpoints kept where whoever runs this server cannot change them: a file elsewhere, syslog, an address, a bucket that locks.

Without one, whoever has the database, the key and the blobs can make another history. An anchor is told each checkpoint once a
minute; one that cannot be reached is said in the log and told the next one. Invariant: anchoring never stops sealing, and takes no
longer than TIMEOUT_S per anchor.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import httpx

from noria.governance.bucket_anchor import BucketAnchor
from noria.governance.verify import Note, Unreadable, parse_note
from noria.kernel.errors import Invalid

log = logging.getLogger("noria.audit")

TIMEOUT_S = 5.0
LINES_COMPARED = 100_000
SYSLOG_PORT = 514
_PRIORITY = 13 * 8 + 5  # RFC 5424: log audit, notice


class Anchor(Protocol):
    """A place that is told checkpoints. `say` raises OSError or httpx.HTTPError when it cannot be reached."""

    name: str

    def say(self, note: str) -> None: ...
    def notes(self) -> list[Note]: ...


class FileAnchor:
    """A file that is appended to, one `{"note": …}` a line: on another disk, or one that only grows (`chattr +a`)."""

    def __init__(self, path: Path) -> None:
        self.name, self._path = f"file:{path}", path

    def say(self, note: str) -> None:
        with self._path.open("ab") as file:
            file.write(json.dumps({"note": note}, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def notes(self) -> list[Note]:
        """The latest it holds. Raises Unreadable for a line that is none, OSError."""
        if not self._path.exists():
            return []
        found = []
        for line in self._path.read_bytes().splitlines()[-LINES_COMPARED:]:
            try:
                found.append(parse_note(json.loads(line)["note"]))
            except (ValueError, KeyError, TypeError) as cause:
                raise Unreadable(f"a line of {self._path} is no checkpoint") from cause
        return found


class SyslogAnchor:
    """A syslog server, over UDP (RFC 5424 and 5426): the checkpoint as one message."""

    def __init__(self, host: str, port: int) -> None:
        self.name, self._to = f"syslog://{host}:{port}", (host, port)

    def say(self, note: str) -> None:
        text = f"<{_PRIORITY}>1 - {socket.gethostname()} noria - checkpoint - {json.dumps(note)}"
        family, kind, protocol, _, address = socket.getaddrinfo(*self._to, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as out:
            out.settimeout(TIMEOUT_S)
            out.sendto(text.encode(), address)

    def notes(self) -> list[Note]:
        return []


class HttpAnchor:
    """An address that takes the checkpoint as the body of a POST, as text."""

    def __init__(self, url: str) -> None:
        self.name, self._url = url, url

    def say(self, note: str) -> None:
        headers = {"content-type": "text/plain; charset=utf-8"}
        httpx.post(self._url, content=note.encode(), timeout=TIMEOUT_S, headers=headers).raise_for_status()

    def notes(self) -> list[Note]:
        return []


def parse_anchors(texts: tuple[str, ...]) -> list[Anchor]:
    """The anchors that a setting names: `file:/path`, `syslog://host:514`, `https://…`. Raises Invalid."""
    return [_parse(text) for text in texts]


def _parse(text: str) -> Anchor:
    parts = urlsplit(text)
    if parts.scheme == "file" and parts.path.startswith("/") and not parts.netloc:
        return FileAnchor(Path(parts.path))
    if parts.scheme == "syslog" and parts.hostname:
        return SyslogAnchor(parts.hostname, parts.port or SYSLOG_PORT)
    if parts.scheme in ("http", "https") and parts.hostname:
        return HttpAnchor(text)
    if parts.scheme == "s3" and parts.hostname:
        return BucketAnchor(text)
    raise Invalid(
        f"{text[:200]!r} is no anchor.",
        where="anchors",
        hint="Write file:/path, syslog://host:514, https://… or s3://bucket/prefix.",
    )


def tell(anchors: list[Anchor], note: str) -> int:
    """Tell every anchor; how many heard it."""
    heard = 0
    for anchor in anchors:
        try:
            anchor.say(note)
            heard += 1
        except (OSError, httpx.HTTPError) as error:
            log.error("the anchor %s did not take a checkpoint: %s", anchor.name, error)
    return heard
