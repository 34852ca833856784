"""The key that signs checkpoints: Ed25519, in a file of mode 0600 in the home, in the text form of signed notes.

The private form is that of Go's `sumdb/note` (`PRIVATE+KEY+name+id+base64(0x01 ‖ seed)`), so other tools can use it too. The
name is the origin of the log: random, so that the checkpoints of two installations can never be mistaken for each other.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from pathlib import Path

from noria.governance.verify import Key, key_id
from noria.kernel.errors import Unavailable

KEY_FILE = "keys/audit.key"
MODEL_KEY = "keys/models.key"  # signs where models come from


class Signer:
    """Signs checkpoints."""

    def __init__(self, name: str, seed: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        public = self._private.public_key().public_bytes_raw()
        self.key = Key(name, key_id(name, public), public)

    @property
    def origin(self) -> str:
        return self.key.name

    def sign(self, message: bytes) -> bytes:
        return bytes(self._private.sign(message))

    def checkpoint(self, size: int, root: bytes) -> str:
        """The signed note that says: the first `size` facts give `root`."""
        text = f"{self.origin}\n{size}\n{base64.b64encode(root).decode()}\n"
        signature = base64.b64encode(self.key.id + self._private.sign(text.encode())).decode()
        return f"{text}\n— {self.origin} {signature}\n"


def load_signer(home: Path, *, create: bool, file: str = KEY_FILE) -> Signer:
    """The signer of this home. Raises Unavailable when there is no key and `create` is false, or the file is damaged."""
    path = home / file
    if not path.exists():
        if not create:
            raise Unavailable(
                f"The key {path} is missing, but it signed before.",
                hint="Restore it from a backup. Until then nothing is signed; the work itself goes on.",
            )
        _create(home, file)
    try:
        _, _, name, hex_id, encoded = path.read_text().strip().split("+", 4)
        data = base64.b64decode(encoded, validate=True)
        signer = Signer(name, data[1:])
        if data[0] != 1 or signer.key.id.hex() != hex_id:
            raise ValueError("the id does not belong to the key")
    except (ValueError, IndexError, binascii.Error) as cause:
        raise Unavailable(f"The key {path} is damaged.", hint="Restore it from a backup.") from cause
    return signer


def load_public(home: Path, file: str = KEY_FILE) -> str:
    """The public key as text; empty before the first start."""
    path = _public(home, file)
    return path.read_text().strip() if path.is_file() else ""


def _public(home: Path, file: str) -> Path:
    return (home / file).with_suffix(".pub")


def _create(home: Path, file: str) -> None:
    """Make the key; when two processes start at once, one of them wins and both use its key."""
    seed = secrets.token_bytes(32)
    signer = Signer(f"noria/{secrets.token_hex(8)}", seed)
    folder = (home / file).parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ident, encoded = signer.key.id.hex(), base64.b64encode(b"\x01" + seed).decode()
    fresh = folder / f".new-{secrets.token_hex(4)}"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(f"PRIVATE+KEY+{signer.origin}+{ident}+{encoded}\n")
        opened.flush()
        os.fsync(opened.fileno())
    try:
        os.link(fresh, home / file)  # atomic, and refuses to replace a key that is there
    except FileExistsError:
        return
    finally:
        fresh.unlink()
    _public(home, file).write_text(f"{signer.key}\n")
