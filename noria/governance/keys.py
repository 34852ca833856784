"""The keys that sign, each in a file of mode 0600 in the home: `audit` signs checkpoints, `models` where models come from (both
Ed25519, in the text form of signed notes), and `signatures` the files of models (EC P-256, PEM, as OpenSSF's model signing wants).

The private form of the first two is that of Go's `sumdb/note` (`PRIVATE+KEY+name+id+base64(0x01 ‖ seed)`), so other tools can use it
too. The name is the origin of the log: random, so that the checkpoints of two installations can never be mistaken for each other.

A key is replaced by `begin_rotation` and `end_rotation`; between the two the new one lies beside the old one. The private half of the
old one is destroyed, its public half stays in the `.pub`, which lists the newest first. Invariant: a key is never replaced silently.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import secrets
from pathlib import Path
from typing import Protocol, TypeVar

from noria.governance.verify import Key, key_id, parse_keys
from noria.kernel.errors import Unavailable

KEY_FILE = "keys/audit.key"
MODEL_KEY = "keys/models.key"  # signs where models come from
SIGNATURE_KEY = "keys/signatures.key"  # signs the files of models
_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----\n?", re.DOTALL)


class Signer:
    """Signs checkpoints."""

    def __init__(self, name: str, seed: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        public = self._private.public_key().public_bytes_raw()
        self.key = Key(name, key_id(name, public), public)
        self._seed = seed

    @classmethod
    def new(cls, name: str = "") -> Signer:
        return cls(name or f"noria/{secrets.token_hex(8)}", secrets.token_bytes(32))

    @classmethod
    def parse(cls, text: str) -> Signer:
        """Raises ValueError, IndexError."""
        _, _, name, hex_id, encoded = text.strip().split("+", 4)
        data = base64.b64decode(encoded, validate=True)
        signer = cls(name, data[1:])
        if data[0] != 1 or signer.key.id.hex() != hex_id:
            raise ValueError("the id does not belong to the key")
        return signer

    @property
    def private(self) -> str:
        encoded = base64.b64encode(b"\x01" + self._seed).decode()
        return f"PRIVATE+KEY+{self.origin}+{self.key.id.hex()}+{encoded}\n"

    @property
    def public(self) -> str:
        return f"{self.key}\n"

    @property
    def origin(self) -> str:
        return self.key.name

    def sign(self, message: bytes) -> bytes:
        return bytes(self._private.sign(message))

    def checkpoint(self, size: int, root: bytes, *, also: Signer | None = None) -> str:
        """The signed note that says: the first `size` facts give `root`. `also`: signed by this one too."""
        text = f"{self.origin}\n{size}\n{base64.b64encode(root).decode()}\n"
        signers = [self, also] if also else [self]
        lines = [
            f"— {s.origin} {base64.b64encode(s.key.id + s.sign(text.encode())).decode()}\n" for s in signers
        ]  # fmt: skip
        return f"{text}\n{''.join(lines)}"


class EcSigner:
    """Signs with ECDSA over P-256 and SHA-256."""

    def __init__(self, pem: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

        private = load_pem_private_key(pem, None)
        if not isinstance(private, EllipticCurvePrivateKey) or private.curve.name != "secp256r1":
            raise ValueError("it is no key on the curve P-256")
        self._private, self.private = private, pem.decode()
        self.public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @classmethod
    def new(cls, name: str = "") -> EcSigner:
        from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        made = generate_private_key(SECP256R1())
        return cls(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    @classmethod
    def parse(cls, text: str) -> EcSigner:
        """Raises ValueError."""
        return cls(text.encode())

    @property
    def hint(self) -> str:
        return hint_of(self.public)

    def sign(self, message: bytes) -> bytes:
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.hashes import SHA256

        return bytes(self._private.sign(message, ECDSA(SHA256())))


S = TypeVar("S", Signer, EcSigner)


class AnySigner(Protocol):
    """What the two have in common."""

    @property
    def private(self) -> str: ...
    @property
    def public(self) -> str: ...
    def sign(self, message: bytes) -> bytes: ...


def hint_of(public_pem: str) -> str:
    """How a sigstore bundle names a key: the SHA-256 of its PEM."""
    return hashlib.sha256(public_pem.encode()).hexdigest()


def split_pem(text: str) -> list[str]:
    """Each public key of a text, newest first as it stands there."""
    return [found.rstrip("\n") + "\n" for found in _PEM.findall(text)]


def load_signer(home: Path, *, create: bool, file: str = KEY_FILE) -> Signer:
    """The signer of this home. Raises Unavailable when there is no key and `create` is false, or the file is damaged."""
    return _load(home, file, Signer, create=create)


def load_ec_signer(home: Path, *, create: bool, file: str = SIGNATURE_KEY) -> EcSigner:
    """The signer of files of models. Raises Unavailable as above."""
    return _load(home, file, EcSigner, create=create)


def load_public(home: Path, file: str = KEY_FILE) -> str:
    """The public keys as text, the one that signs now first; empty before the first start."""
    path = _public(home, file)
    return path.read_text().strip() if path.is_file() else ""


def public_keys(home: Path, file: str = KEY_FILE) -> list[Key]:
    """The Ed25519 keys that ever signed here, newest first. Raises Unreadable."""
    text = load_public(home, file)
    return parse_keys(text) if text else []


# --- rotation ---------------------------------------------------------------------------------------------------------


def waiting(home: Path, file: str, kind: type[S]) -> S | None:
    """The key that a rotation began with and did not end yet."""
    return _load(home, _next(file), kind, create=False) if (home / _next(file)).exists() else None


def begin_rotation(home: Path, file: str, kind: type[S], name: str = "") -> S:
    """A new key beside the one that signs now; the same one again when this was begun before."""
    if (found := waiting(home, file, kind)) is None:
        _write(home / _next(file), kind.new(name).private)
        found = waiting(home, file, kind)
    assert found is not None
    return found


def end_rotation(home: Path, file: str, fresh: AnySigner) -> None:
    """From now on `fresh` signs: its public half is listed first, and it takes the place of the old one, which is destroyed."""
    public = _public(home, file)
    known = public.read_text() if public.is_file() else ""
    if not known.startswith(fresh.public):
        _replace(public, fresh.public + known, mode=0o644)
    (home / _next(file)).replace(home / file)


def abandon_rotation(home: Path, file: str) -> None:
    (home / _next(file)).unlink(missing_ok=True)


# --- files ------------------------------------------------------------------------------------------------------------


def _next(file: str) -> str:
    return str(Path(file).with_suffix(".next"))


def _public(home: Path, file: str) -> Path:
    return (home / file).with_suffix(".pub")


def _load(home: Path, file: str, kind: type[S], *, create: bool) -> S:
    path = home / file
    if not path.exists():
        if not create:
            raise Unavailable(
                f"The key {path} is missing, but it signed before.",
                hint="Restore it from a backup or, with several servers on one database, copy keys/ of the home that made it. "
                "Until then nothing is signed; the work itself goes on.",
            )
        _create(home, file, kind)
    try:
        found = kind.parse(path.read_text())
    except (ValueError, IndexError, binascii.Error) as cause:
        raise Unavailable(f"The key {path} is damaged.", hint="Restore it from a backup.") from cause
    if file.endswith(".key") and not _public(home, file).is_file():  # whoever made it was stopped before it came to that
        _replace(_public(home, file), found.public, mode=0o644)
    return found


def _create(home: Path, file: str, kind: type[S]) -> None:
    """Make the key; when two processes start at once, one of them wins and both use its key."""
    signer = kind.new()
    if _write(home / file, signer.private):
        _replace(_public(home, file), signer.public, mode=0o644)


def _write(path: Path, text: str) -> bool:
    """Write a private key; False when there is one already, which stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = _fresh(path, text, mode=0o600)
    try:
        os.link(fresh, path)  # atomic, and refuses to replace a key that is there
    except FileExistsError:
        return False
    finally:
        fresh.unlink()
    return True


def _replace(path: Path, text: str, *, mode: int) -> None:
    _fresh(path, text, mode=mode).replace(path)


def _fresh(path: Path, text: str, *, mode: int) -> Path:
    fresh = path.parent / f".new-{secrets.token_hex(4)}"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    return fresh
