"""The nouns of the sealed log: checkpoints, proofs, and what verification found."""

from __future__ import annotations

from msgspec import Struct

from noria.kernel.facts import Fact, fact


class Checkpoint(Struct, frozen=True, kw_only=True):
    """A signed statement that the log's first `size` facts give `root`. `note` is the C2SP signed note itself."""

    size: int
    root: str
    at_ms: int
    origin: str
    note: str


class AuditStatus(Struct, frozen=True, kw_only=True):
    """How far the log is sealed and by which key."""

    facts: int
    sealed: int
    checkpoint: Checkpoint | None
    public_key: str  # that of now first, then those it took the place of, one a line
    problem: str = ""  # why nothing is sealed, when nothing is


class AuditFault(Struct, frozen=True, kw_only=True):
    """Something wrong with the log; `seq` names the first bad fact when one can be named."""

    kind: str
    seq: int | None
    message: str


class AuditReport(Struct, frozen=True, kw_only=True):
    """What verification of the live log found."""

    is_intact: bool
    facts: int
    sealed: int
    unsealed: int
    root: str
    faults: list[AuditFault]
    warnings: list[AuditFault]
    took_ms: int


class InclusionProof(Struct, frozen=True, kw_only=True):
    """Proof that a fact is in the log of a checkpoint: hash `leaf`, then up along `path` (RFC 9162, 2.1.3)."""

    seq: int
    index: int
    size: int
    leaf: str  # the exact bytes of the leaf, as text
    leaf_hash: str
    path: list[str]
    root: str
    checkpoint: str


class ConsistencyProof(Struct, frozen=True, kw_only=True):
    """Proof that the log at `second` only added to the log at `first` (RFC 9162, 2.1.4)."""

    first: int
    second: int
    path: list[str]
    first_root: str
    second_root: str


@fact("audit.exported")
class AuditExported(Fact):
    """Somebody took a copy of the audit log."""

    size: int


@fact("audit.sealing_stopped")
class AuditSealingStopped(Fact):
    """The log is no longer sealed: its key is gone, or the database is not what was signed. Work goes on."""

    reason: str


@fact("audit.sealing_resumed")
class AuditSealingResumed(Fact):
    """The log is sealed again, with all that happened meanwhile."""


@fact("audit.read")
class AuditRead(Fact):
    """Somebody looked into the audit log; the same question by the same actor is written once in ten minutes."""

    kinds: str = ""
    about: str = ""
    by: str = ""
    from_ms: int | None = None
    to_ms: int | None = None
    what: str = "facts"  # facts, proof, verification, export
