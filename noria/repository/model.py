"""The nouns of a repository: a commit, and the references of a dataset.

A commit says who made which version when and from what; it points at the content by its root digest and never changes. Its id
is the first 16 bytes of its BLAKE3, so it has the form of every id in Noria. The references are the one thing that moves: one
document for each dataset, replaced as a whole by compare-and-swap, so that a commit, its number and its alias appear together.
"""

from __future__ import annotations

import re
import secrets

import msgspec
from blake3 import blake3
from msgspec import Struct

from noria.datasets.model import Column
from noria.kernel.errors import Invalid, Unavailable

LAYOUT = 1
MAIN = "main"
MESSAGE_LENGTH_MAX = 4_000
NUMBER = re.compile(r"^v?([1-9][0-9]{0,17})\Z")
ID = re.compile(r"^[0-9a-f]{32}\Z")
_REF = re.compile(r"^[A-Za-z_][A-Za-z0-9_.\-]{0,99}\Z")


class Commit(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One version's record. `link`: the address where its files stay; the repository then holds their names only."""

    layout: int = LAYOUT
    dataset: str
    root: str
    parents: list[str] = []
    at_ms: int
    actor: str
    message: str = ""
    branch: str = MAIN
    files_count: int = 0
    size_bytes: int = 0
    rows_count: int | None = None
    schema: list[Column] | None = None
    link: str = ""
    table: str = ""  # what the link is a version of, such as delta@12
    nonce: str = msgspec.field(default_factory=lambda: secrets.token_hex(8))

    def encode(self) -> bytes:
        return msgspec.json.encode(self)


class Alias(Struct, frozen=True, kw_only=True):
    """A movable name; `commit` is empty when it was removed, so that no generation comes twice."""

    commit: str
    generation: int
    moved_at_ms: int
    actor: str


class Refs(Struct, frozen=True, kw_only=True):
    """Everything that moves in one dataset."""

    layout: int = LAYOUT
    dataset: str
    created_at_ms: int
    updated_at_ms: int
    actor: str
    last_number: int = 0
    numbers: dict[int, str] = {}  # of the versions that are not deleted
    branches: dict[str, str] = {}
    tags: dict[str, str] = {}
    aliases: dict[str, Alias] = {}
    expectations: str = ""  # what a commit must be like, as JSON; see datasets/expectations.py

    def number(self, commit: str) -> int | None:
        return next((n for n, c in self.numbers.items() if c == commit), None)

    def names(self, commit: str) -> list[str]:
        """What the commit is called by things that keep it: tags and aliases."""
        moved = [name for name, a in self.aliases.items() if a.commit == commit]
        return sorted([*moved, *(name for name, c in self.tags.items() if c == commit)])

    def kept(self) -> set[str]:
        """The commits that may not be collected."""
        moved = (a.commit for a in self.aliases.values() if a.commit)
        return {*self.numbers.values(), *self.branches.values(), *self.tags.values(), *moved}


def commit_id(data: bytes) -> str:
    return str(blake3(data).hexdigest(length=16))


_COMMIT, _REFS = msgspec.json.Decoder(Commit), msgspec.json.Decoder(Refs)


def decode_commit(data: bytes, name: str) -> Commit:
    """Raises Unavailable when it is not what its name says."""
    if commit_id(data) != name:
        raise Unavailable(f"The commit {name[:12]} is damaged.", hint="Repair it from a remote: noria data repair.")
    return _COMMIT.decode(data)


def encode_refs(refs: Refs) -> bytes:
    return msgspec.json.encode(refs)


def decode_refs(data: bytes, key: str) -> Refs:
    """Raises Unavailable when it cannot be read."""
    try:
        found = _REFS.decode(data)
    except msgspec.DecodeError as cause:
        raise Unavailable(
            f"The references in {key} cannot be read.", hint="Restore them from a remote or a backup."
        ) from cause
    if found.layout > LAYOUT:
        raise Unavailable(f"{key} was written by a newer Noria.", hint="Upgrade this one.")
    return found


def check_ref_name(name: str, *, what: str) -> str:
    """`name` if it can name a branch, a tag or an alias. Raises Invalid."""
    if name == "latest" or not _REF.match(name) or NUMBER.match(name) or ID.match(name):
        raise Invalid(
            f"{name!r} cannot be the name of {what}.",
            where="name",
            hint="Use letters, digits, '_', '-' and '.', beginning with a letter; not 'latest', nor what reads as a number.",
        )
    return name


def refs_key(dataset: str) -> str:
    """Where the references of a dataset are: its name, with everything that a store could read otherwise spelled out."""
    safe = re.sub(r"[^A-Za-z0-9_\-.]|^\.", lambda m: "".join(f"={b:02X}" for b in m[0].encode()), dataset)
    if len(safe) > 180:
        safe = f"{safe[:140]}={blake3(dataset.encode()).hexdigest(length=16)}"
    return f"refs/{safe}.json"
