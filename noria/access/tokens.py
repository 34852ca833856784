"""The form of a token: `nrk_<id>_<secret><crc>`. The check digits let secret scanners tell a real one from noise.

Only the SHA-256 of the secret is stored: 256 random bits need no slow hash.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib

from msgspec import Struct

_FORM = re.compile(r"^nrk_([0-9a-f]{12})_([A-Za-z0-9_\-]{43})([0-9a-f]{8})\Z")


class Parsed(Struct, frozen=True):
    """The parts of a presented token."""

    id: str
    secret: str


def mint(of: str = "") -> tuple[str, str, str]:
    """A new token: its id, the text to show once, the hash to keep. The id is that of whose it is, if anybody's."""
    token_id, secret = id_of(of) if of else secrets.token_hex(6), secrets.token_urlsafe(32)
    return token_id, f"nrk_{token_id}_{secret}{_crc(token_id, secret)}", sha256(secret)


def id_of(whose: str) -> str:
    """The id of somebody's one token. It tells nothing that the secret rests on."""
    return hashlib.sha256(whose.encode()).hexdigest()[:12]


def parse(text: str) -> Parsed | None:
    """The parts of `text`, or None when it is not one of ours."""
    found = _FORM.match(text)
    if not found or _crc(found[1], found[2]) != found[3]:
        return None
    return Parsed(found[1], found[2])


def sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _crc(token_id: str, secret: str) -> str:
    return f"{zlib.crc32(f'{token_id}_{secret}'.encode()):08x}"
