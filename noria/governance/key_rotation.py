"""The keys of this installation, and another one taking over. See keys.py for the files, audit.py for the log's own key."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Literal, Protocol

from msgspec import Struct

from noria.governance.keys import (
    KEY_FILE,
    MODEL_KEY,
    SIGNATURE_KEY,
    AnySigner,
    EcSigner,
    Signer,
    begin_rotation,
    end_rotation,
    load_ec_signer,
    load_public,
    load_signer,
    split_pem,
)
from noria.kernel.db import Database
from noria.kernel.errors import Conflict, Invalid, NotFound, Unavailable
from noria.kernel.facts import Fact, fact
from noria.kernel.ids import Ref
from noria.kernel.op import Op

REASON_LENGTH_MAX = 2_000
FILES = {"audit": KEY_FILE, "models": MODEL_KEY, "signatures": SIGNATURE_KEY}
PURPOSES = {
    "audit": "signs checkpoints of the audit log", "models": "signs where models come from",
    "signatures": "signs the files of models",
}  # fmt: skip


class KeyInfo(Struct, frozen=True, kw_only=True):
    """A key of this installation. `public`: its public half first, then those of the keys before it."""

    name: str
    purpose: str
    algorithm: Literal["Ed25519", "ECDSA P-256"]
    public: list[str]
    state: Literal["ready", "none yet", "missing"]


class KeyChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why another key takes over; `lost`: the old one is gone for good."""

    reason: str = ""
    lost: bool = False


@fact("key.rotated")
class KeyRotated(Fact):
    """Another key signs from here on. Both signed `message_of`; the old one could not when it was lost."""

    old: str
    new: str
    by_old: str
    by_new: str
    lost: bool = False
    reason: str = ""


def message_of(name: str, old: str, new: str) -> bytes:
    """What both keys sign."""
    return f"noria key rotation\n{name}\n{old}\n{new}\n".encode()


def announce(
    db: Database, op: Op, name: str, *, old: str, fresh: AnySigner, by: AnySigner | None, reason: str
) -> None:  # fmt: skip
    """Write down that `fresh` takes over from `old`; `by` is the old one, or None when it was lost."""
    new = fresh.public.strip()
    message = message_of(name, old, new)
    with db.write(op) as tx:
        tx.emit(
            "key.rotated", Ref("key", name), old=old, new=new, lost=by is None, reason=reason,
            by_old=base64.b64encode(by.sign(message)).decode() if by else "",
            by_new=base64.b64encode(fresh.sign(message)).decode(),
        )  # fmt: skip


class AuditKey(Protocol):
    """Whoever signs checkpoints, and so knows how its key is to be followed by another."""

    def rotate(self, op: Op, *, lost: bool, reason: str) -> None: ...


class Keys:
    """The keys of this installation."""

    def __init__(self, db: Database, home: Path, audit: AuditKey) -> None:
        self._db, self._home, self._audit = db, home, audit

    def keys(self, op: Op) -> list[KeyInfo]:
        op.require("audit.read")
        return [self._info(name) for name in FILES]

    def rotate(self, op: Op, name: str, asked: KeyChange) -> KeyInfo:
        """Let a new key sign from now on; what the old one signed stays verifiable. Raises NotFound, Conflict, Unavailable."""
        op.require("system.admin")
        if name not in FILES:
            raise NotFound(f"There is no key {name[:80]!r}.", hint="Keys: " + ", ".join(FILES) + ".")
        if len(asked.reason) > REASON_LENGTH_MAX:
            raise Invalid(f"The reason is longer than {REASON_LENGTH_MAX} characters.", where="reason")
        if name == "audit":
            self._audit.rotate(op, lost=asked.lost, reason=asked.reason)
        else:
            self._rotate(op, name, asked)
        return self._info(name)

    def _rotate(self, op: Op, name: str, asked: KeyChange) -> None:
        file, kind = FILES[name], EcSigner if name == "signatures" else Signer
        known = self._public(name)
        if not known:
            raise Conflict("There is no key yet; the first version that is signed makes one.")
        by: AnySigner | None = None
        try:
            by = (
                load_ec_signer(self._home, create=False)
                if kind is EcSigner
                else load_signer(self._home, create=False, file=file)
            )
        except Unavailable:
            if not asked.lost:
                raise
        if by is not None and asked.lost:
            raise Conflict("The key is there, so it can hand over itself.", hint="Leave out --lost.")
        fresh: AnySigner
        if kind is EcSigner:
            fresh = begin_rotation(self._home, file, EcSigner)
        else:
            fresh = begin_rotation(self._home, file, Signer, known[0].partition("+")[0])
        announce(self._db, op, name, old=known[0], fresh=fresh, by=by, reason=asked.reason)
        end_rotation(self._home, file, fresh)

    def _info(self, name: str) -> KeyInfo:
        public, is_there = self._public(name), (self._home / FILES[name]).is_file()
        return KeyInfo(
            name=name, purpose=PURPOSES[name], algorithm="ECDSA P-256" if name == "signatures" else "Ed25519", public=public,
            state="ready" if is_there else "missing" if public else "none yet",
        )  # fmt: skip

    def _public(self, name: str) -> list[str]:
        text = load_public(self._home, FILES[name])
        return [k.strip() for k in split_pem(text)] if name == "signatures" else text.splitlines()
