"""Envelopes: a text encrypted with a key of its own (AES-256-GCM), and that key wrapped by a master key that is not in the database.

    noria:sealed:1:<id of the master key>:<wrapped key>:<ciphertext>        base64, nonces first

What the envelope is *about* (`secret:ml/DB_PASSWORD`) is authenticated with it, so that no row can be put in the place of another.
Master keys are a file of mode 0600 in the home, or a program that wraps and unwraps (a cloud's KMS, a Vault).
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import subprocess
from pathlib import Path
from typing import Protocol

from noria.kernel.errors import Invalid, Unavailable

PREFIX = "noria:sealed:1"
COMMAND_TIMEOUT_S = 20.0
_NONCE_BYTES = 12


class MasterKeys(Protocol):
    """Wraps and unwraps keys. `id` names the key that wraps now."""

    @property
    def id(self) -> str: ...
    def wrap(self, key: bytes, about: str) -> bytes: ...
    def unwrap(self, key_id: str, wrapped: bytes, about: str) -> bytes:
        """Raises Unavailable when the key is not here or does not fit."""
        ...

    def rotate(self) -> None:
        """Have a new key wrap from now on. Raises Invalid where that is done elsewhere."""
        ...

    def forget(self, used: set[str]) -> None:
        """Remove the keys that wrap nothing any more."""
        ...


def seal(keys: MasterKeys, text: str, about: str) -> str:
    """`text` in an envelope."""
    key = secrets.token_bytes(32)
    return _join(keys.id, keys.wrap(key, about), _encrypt(key, text.encode(), about))


def unseal(keys: MasterKeys, sealed: str, about: str) -> str:
    """The text in an envelope. Raises Unavailable when it cannot be opened."""
    key_id, wrapped, ciphertext = _split(sealed)
    return _decrypt(keys.unwrap(key_id, wrapped, about), ciphertext, about).decode()


def rewrap(keys: MasterKeys, sealed: str, about: str) -> str:
    """The same envelope under the key that wraps now; the text itself is not opened."""
    key_id, wrapped, ciphertext = _split(sealed)
    return _join(keys.id, keys.wrap(keys.unwrap(key_id, wrapped, about), about), ciphertext)


def is_sealed(text: str) -> bool:
    return text.startswith(PREFIX + ":")


def key_of(sealed: str) -> str:
    """The id of the master key that an envelope needs."""
    return _split(sealed)[0]


class FileKeys:
    """Master keys in a file: `id base64` a line, the one that wraps first. Made once, mode 0600."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[int, dict[str, bytes]] | None = None  # when the file was written, and what is in it

    @property
    def id(self) -> str:
        return next(iter(self._keys()))

    def wrap(self, key: bytes, about: str) -> bytes:
        return _encrypt(next(iter(self._keys().values())), key, about)

    def unwrap(self, key_id: str, wrapped: bytes, about: str) -> bytes:
        master = self._keys().get(key_id)
        if master is None:
            raise Unavailable(
                f"The master key {key_id} is not in {self._path}, but something is sealed with it.",
                hint="Restore the file from a backup.",
            )
        return _decrypt(master, wrapped, about)

    def rotate(self) -> None:
        self._write([_new_line(), *self._lines()])

    def forget(self, used: set[str]) -> None:
        lines = self._lines()
        self._write([line for i, line in enumerate(lines) if i == 0 or line.split()[0] in used])

    def _keys(self) -> dict[str, bytes]:
        if not self._path.exists():
            self._create()
        stamp = self._path.stat().st_mtime_ns
        if self._read is None or self._read[0] != stamp:
            try:
                found = {i: base64.b64decode(k, validate=True) for i, k in (line.split() for line in self._lines())}
                if not found or any(len(k) != 32 for k in found.values()):
                    raise ValueError("not 32 bytes")
            except (ValueError, binascii.Error) as cause:
                raise Unavailable(
                    f"The master keys in {self._path} cannot be read.", hint="Restore it from a backup."
                ) from cause
            self._read = (stamp, found)
        return self._read[1]

    def _lines(self) -> list[str]:
        if not self._path.exists():
            self._create()
        return [line for line in self._path.read_text().splitlines() if line.strip()]

    def _create(self) -> None:
        """Make the file; when two processes start at once, one of them wins and both use its key."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._fresh([_new_line()])
        try:
            os.link(fresh, self._path)
        except FileExistsError:
            return
        finally:
            fresh.unlink()

    def _write(self, lines: list[str]) -> None:
        self._fresh(lines).replace(self._path)
        self._read = None

    def _fresh(self, lines: list[str]) -> Path:
        fresh = self._path.parent / f".new-{secrets.token_hex(4)}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            opened.write("\n".join(lines) + "\n")
            opened.flush()
            os.fsync(opened.fileno())
        return fresh


class CommandKeys:
    """A program that holds the master key: `PROGRAM wrap` and `PROGRAM unwrap`, base64 on its standard input and output."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self.id = "command"

    def wrap(self, key: bytes, about: str) -> bytes:
        return self._ask("wrap", key, about)

    def unwrap(self, key_id: str, wrapped: bytes, about: str) -> bytes:
        if key_id != self.id:
            raise Unavailable(
                f"This was sealed with the master key {key_id} of a file, and NORIA_SECRETS_KEY names a program.",
                hint="Set NORIA_SECRETS_KEY back; to change where the key is, write the secrets anew.",
            )
        return self._ask("unwrap", wrapped, about)

    def rotate(self) -> None:
        raise Invalid("The master key is held by a program, and is rotated there.", hint=str(self._program))

    def forget(self, used: set[str]) -> None:
        return

    def _ask(self, verb: str, data: bytes, about: str) -> bytes:
        try:
            done = subprocess.run(
                [str(self._program), verb, about], input=base64.b64encode(data), capture_output=True, timeout=COMMAND_TIMEOUT_S,
                check=True,
            )  # fmt: skip
            return base64.b64decode(done.stdout.strip(), validate=True)
        except (OSError, subprocess.SubprocessError, binascii.Error) as cause:
            raise Unavailable(
                f"{self._program} did not {verb} a key.", hint="See what it says when called by hand."
            ) from cause


def open_keys(setting: str, home: Path) -> MasterKeys:
    """The master keys that a setting names: '' (a file in the home), `file:/path`, `command:/path`. Raises Invalid."""
    kind, _, path = setting.partition(":")
    if not setting:
        return FileKeys(home / "keys" / "secrets.key")
    if kind == "file" and path.startswith("/"):
        return FileKeys(Path(path))
    if kind == "command" and path.startswith("/"):
        return CommandKeys(Path(path))
    raise Invalid("NORIA_SECRETS_KEY cannot be read.", where="secrets_key", hint="Write file:/path or command:/path.")


def _new_line() -> str:
    return f"{secrets.token_hex(8)} {base64.b64encode(secrets.token_bytes(32)).decode()}"


def _encrypt(key: bytes, data: bytes, about: str) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, data, about.encode())


def _decrypt(key: bytes, data: bytes, about: str) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return bytes(AESGCM(key).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], about.encode()))
    except InvalidTag as cause:
        raise Unavailable(
            f"What is sealed as {about} cannot be opened: it was changed, or belongs somewhere else.",
            hint="Write it anew.",
        ) from cause


def _join(key_id: str, wrapped: bytes, ciphertext: bytes) -> str:
    return f"{PREFIX}:{key_id}:{base64.b64encode(wrapped).decode()}:{base64.b64encode(ciphertext).decode()}"


def _split(sealed: str) -> tuple[str, bytes, bytes]:
    try:
        if not is_sealed(sealed):
            raise ValueError(PREFIX)
        key_id, wrapped, ciphertext = sealed.removeprefix(PREFIX + ":").split(":")
        return key_id, base64.b64decode(wrapped, validate=True), base64.b64decode(ciphertext, validate=True)
    except (ValueError, binascii.Error) as cause:
        raise Unavailable("A sealed text is damaged.", hint="Write it anew.") from cause
