"""What happened, so that it can be shown: facts sealed into a Merkle tree (RFC 6962) with signed checkpoints.

The leaf of a fact is canonical JSON: its nine columns as one object, keys sorted, no spaces, UTF-8, only `"`, `\\` and
control characters escaped; `data` is the *text* stored in the row, as a string. So a leaf holds only strings, integers
and null, is the same bytes under RFC 8785, and needs no rule for floating point. Leaf number `seq - 1` is fact `seq`.

Every second the sealer appends what is new, a thousand at a time, and signs a checkpoint. It keeps every perfect node of the
tree under its in-order position (RFC 7574: node `i` of level `l` stands at `(2i + 1) · 2^l - 1`), so that a proof and the
state to continue from are log2(n) rows. Once a minute a checkpoint is also kept outside the database, as a named blob.

A new key takes over in the open: the fact `key.rotated`, then one checkpoint over it that both keys sign, then the old key is destroyed.
Whoever trusts the old one so comes to trust the new one (verify.py).

Invariant: the sealer signs only a tree that extends the last one it knows to have signed, in memory or among the blobs. A
database that was rewritten, or restored from an older copy, is not signed again: sealing stops and says so; work goes on.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from noria.governance import audit_store, leaves, siem, verify
from noria.governance.anchors import Anchor, tell
from noria.governance.audit_model import AuditReport, AuditStatus, Checkpoint, ConsistencyProof, InclusionProof
from noria.governance.key_rotation import announce
from noria.governance.keys import (
    KEY_FILE,
    Signer,
    abandon_rotation,
    begin_rotation,
    end_rotation,
    load_public,
    load_signer,
    public_keys,
    waiting,
)
from noria.governance.leaves import FACTS_PER_BATCH, leaf_bytes
from noria.governance.live import ANCHOR_PREFIX, CHECKPOINTS_COMPARED, verify_database
from noria.governance.tree import combine, consistency_ranges, inclusion_ranges, peak_positions, perfect_parts, position
from noria.governance.verify import Note, Tree
from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database, Read
from noria.kernel.errors import Conflict, Invalid, NotFound, Unavailable
from noria.kernel.events import Event, last_seq
from noria.kernel.facts import FACTS
from noria.kernel.ids import Ref
from noria.kernel.op import Op, Ops
from noria.kernel.paging import Page, check_limit, decode_token, encode_token

log = logging.getLogger("noria.audit")

ANCHOR_EVERY_S = 60.0
READ_EVERY_MS = 600_000
READS_REMEMBERED = 10_000
COMPLAIN_EVERY_S = 60.0
HANDOVERS = 3  # checkpoints after a change of the key: another server may have signed one by the old key alone in between
_PREFIX = re.compile(r"^[a-z_]+\.\*\Z")


class Audit:
    """The sealed log of facts. Also the reconciler that seals it."""

    name = "governance.audit"
    every_s = 1.0
    wake_on: frozenset[str] = frozenset()

    def __init__(
        self, db: Database, ops: Ops, blobs: BlobStore, home: Path, anchors: Sequence[Anchor] = ()
    ) -> None:  # fmt: skip
        self._db, self._ops, self._blobs, self._home = db, ops, blobs, home
        self._anchors = list(anchors)
        self._signed: tuple[int, bytes] | None = None  # the last tree known to be signed by us
        self._anchored_s = self._said_s = float("-inf")
        self._lock = threading.Lock()
        self._reads: dict[tuple[str, str], int] = {}  # who asked what, and when it was written down
        self._problem: str | None = None  # what was noted last; not known at the start

    # --- sealing ----------------------------------------------------------------------------------------------------

    def reconcile(self) -> None:
        """Seal; say at most once a minute why that is not possible, and once in the log itself, for whoever is told of facts."""
        try:
            self.seal()
            self._note("")
        except (Conflict, Unavailable) as error:
            self._note(f"{error.message} {error.hint}".strip())
            if self._ops.clock.monotonic_s() - self._said_s >= COMPLAIN_EVERY_S:
                self._said_s = self._ops.clock.monotonic_s()
                log.error("the audit log is not sealed: %s %s", error.message, error.hint)

    def _note(self, problem: str) -> None:
        """Write down that sealing stopped or goes on again; nothing while that is known."""
        if problem == self._problem:
            return
        with self._db.read() as tx:
            was = audit_store.stopped(tx)
        if bool(was) != bool(problem):
            with self._db.write(self._ops.system("audit")) as write:
                if problem:
                    write.emit("audit.sealing_stopped", Ref("audit", "log"), reason=problem)
                else:
                    write.emit("audit.sealing_resumed", Ref("audit", "log"))
        self._problem = problem

    def seal(self) -> Checkpoint | None:
        """Append what is new to the tree and sign it; None when nothing was new.

        Raises Unavailable when the key is missing and Conflict when the database is not what was signed; nothing is sealed.
        """
        with self._lock:
            return self._seal()

    def _seal(self) -> Checkpoint | None:
        fresh = self._announced()
        with self._db.read() as tx:
            size, last = audit_store.tree_size(tx), last_seq(tx)
            latest = audit_store.checkpoints(tx, limit=1)
        if size == last and (size == 0 or (latest and latest[0].size == size)) and fresh is None:
            return None
        if last < size:
            raise Conflict(
                f"The log ends at fact {last}, but {size} were sealed: facts were removed.", hint="noria audit verify"
            )
        is_first = not latest and self._last_anchor() is None
        try:
            signer = load_signer(self._home, create=is_first)
        except Unavailable:
            if fresh is None:
                raise
            signer, fresh = fresh, None  # the old one was lost, and the log says so
            self._take_over(signer)
        if latest and latest[0].origin != signer.origin:
            raise Conflict(
                "The audit log was signed by another key than the one in this home.",
                hint="Restore keys/audit.key from the backup of this database.",
            )
        while size < last:
            size = self._append(size)
        checkpoint = self._sign(signer, size, fresh)
        if fresh is not None:
            self._take_over(fresh)
        return checkpoint

    # --- another key ------------------------------------------------------------------------------------------------

    def rotate(self, op: Op, *, lost: bool, reason: str) -> None:
        """Let a new key sign from now on. `lost`: the old one is gone for good, so it cannot say so itself.

        Raises Conflict when there is no key yet, or one is called lost that is there; Unavailable when it is missing and not given up.
        """
        op.require("system.admin")
        with self._lock:
            known = public_keys(self._home)
            if not known:
                raise Conflict("There is no key yet; the first fact that is sealed makes one.")
            fresh = begin_rotation(self._home, KEY_FILE, Signer, known[0].name)
            announce(self._db, op, "audit", old=str(known[0]), fresh=fresh, by=self._leaving(lost), reason=reason)
            self._seal()

    def _leaving(self, lost: bool) -> Signer | None:
        """The key that hands over; None when it is lost."""
        try:
            found = load_signer(self._home, create=False)
        except Unavailable as missing:
            if lost:
                return None
            abandon_rotation(self._home, KEY_FILE)
            raise Unavailable(
                missing.message, hint="Restore it from a backup; if there is none: noria key rotate audit --lost."
            ) from missing
        if lost:
            abandon_rotation(self._home, KEY_FILE)
            raise Conflict("The key is there, so it can hand over itself.", hint="Leave out --lost.")
        return found

    def _announced(self) -> Signer | None:
        """The key that the log says takes over, and that did not yet."""
        fresh = waiting(self._home, KEY_FILE, Signer)
        if fresh is None:
            return None
        with self._db.read() as tx:
            return fresh if audit_store.is_announced(tx, "audit", str(fresh.key)) else None

    def _take_over(self, fresh: Signer) -> None:
        end_rotation(self._home, KEY_FILE, fresh)

    def _append(self, size: int) -> int:
        """Seal one batch after `size`; returns the new size. Another sealer being faster is no error."""
        with self._db.system_write() as tx:
            if audit_store.tree_size(tx) != size:
                return audit_store.tree_size(tx)
            tree = self._tree(tx, size)
            rows = audit_store.raw_events(tx, size, limit=FACTS_PER_BATCH)
            made = []
            for row in rows:
                if row["seq"] != tree.size + 1:
                    raise Conflict(f"Fact {tree.size + 1} is missing.", hint="noria audit verify")
                for level, index, node in tree.append(verify.leaf_hash(leaf_bytes(row))):
                    made.append({"pos": position(level, index), "hash": node.hex()})
            if not audit_store.set_tree_size(tx, size, tree.size):
                raise Conflict("Another server sealed at the same time.", hint="The next turn goes on from there.")
            audit_store.add_nodes(tx, made)
            return tree.size

    def _sign(self, signer: Signer, size: int, fresh: Signer | None = None) -> Checkpoint:
        """Sign the tree; with `fresh`, by both keys, and tell everybody at once."""
        self._require_extends(size)
        with self._db.read() as tx:
            root = self._tree(tx, size).root()
        at_ms = self._ops.clock.now_ms()
        checkpoint = Checkpoint(
            size=size, root=root.hex(), at_ms=at_ms, origin=signer.origin,
            note=signer.checkpoint(size, root, also=fresh),
        )  # fmt: skip
        with self._db.system_write() as tx:
            audit_store.add_checkpoint(tx, checkpoint, replace=fresh is not None)
        self._signed = (size, root)
        now_s = self._ops.clock.monotonic_s()
        if fresh is not None or now_s - self._anchored_s >= ANCHOR_EVERY_S:
            self._blobs.put_at(f"{ANCHOR_PREFIX}/{size:020d}", checkpoint.note.encode())
            if tell(self._anchors, checkpoint.note):
                with self._db.system_write() as tx:
                    audit_store.anchored(tx, size, at_ms)
            self._anchored_s = now_s
        return checkpoint

    def _require_extends(self, size: int) -> None:
        """Refuse to sign a tree that does not continue what was signed before."""
        signed = self._signed
        if signed is None:
            anchor = self._last_anchor()
            signed = (anchor.size, anchor.root) if anchor else None
        if signed is None:
            return
        with self._db.read() as tx:
            is_kept = signed[0] <= size and self._tree(tx, signed[0]).root() == signed[1]
        if not is_kept:
            raise Conflict(
                f"The database is not the one whose first {signed[0]} facts were signed: it was rewritten or restored.",
                hint="Compare with a backup: noria audit verify. Nothing more is signed until it is explained.",
            )

    def _last_anchor(self) -> Note | None:
        keys = list(self._blobs.keys(ANCHOR_PREFIX))
        return verify.parse_note(self._blobs.get_at(keys[-1]).decode()) if keys else None

    @staticmethod
    def _tree(tx: Read, size: int) -> Tree:
        """The tree at `size`, from its log2(size) nodes."""
        positions = peak_positions(size)
        found = audit_store.nodes(tx, positions)
        if len(found) != len(positions):
            raise Conflict("Nodes of the sealed tree are missing.", hint="noria audit verify")
        return Tree(size, [found[p] for p in positions])

    # --- reading ----------------------------------------------------------------------------------------------------

    def facts(
        self, op: Op, *, kinds: str = "", subject: str = "", actor: str = "", from_ms: int | None = None,
        to_ms: int | None = None, limit: int | None = None, page: str = "",
    ) -> Page[Event]:  # fmt: skip
        """Facts, newest first. `kinds`: comma-separated, each a kind or `noun.*`. Raises Invalid, Forbidden."""
        op.require("audit.read")
        exact, prefixes = _kinds(kinds)
        size, before = check_limit(limit), decode_token(page, size=1)[0] if page else None
        with self._db.read() as tx:
            found = audit_store.facts(
                tx, before=before, limit=size, kinds=exact, prefixes=prefixes, subject=subject, actor=actor,
                from_ms=from_ms, to_ms=to_ms,
            )  # fmt: skip
        self._note_read(op, kinds=kinds, about=subject, by=actor, from_ms=from_ms, to_ms=to_ms)
        return Page(found, encode_token(found[-1].seq) if len(found) == size else None)

    def _note_read(self, op: Op, **asked: Any) -> None:
        """Who looks into the log is in the log. Before the answer is given: if it cannot be recorded, it is not shown."""
        if op.actor.kind == "system":
            return
        key, span = (op.actor.id, json.dumps(asked, sort_keys=True)), op.at_ms // READ_EVERY_MS
        if self._reads.get(key) == span:
            return
        with self._db.write(op) as tx:
            tx.emit("audit.read", Ref("audit", "log"), **asked)
        if len(self._reads) > READS_REMEMBERED:
            self._reads.clear()
        self._reads[key] = span

    def status(self, op: Op) -> AuditStatus:
        """How far the log is sealed."""
        op.require("audit.read")
        with self._db.read() as tx:
            latest = audit_store.checkpoints(tx, limit=1)
            count, size, problem = last_seq(tx), audit_store.tree_size(tx), audit_store.stopped(tx)
        return AuditStatus(
            facts=count, sealed=size, checkpoint=latest[0] if latest else None, public_key=load_public(self._home),
            problem=problem,
        )  # fmt: skip

    def checkpoints(self, op: Op, *, limit: int | None = None, page: str = "") -> Page[Checkpoint]:
        """Newest first."""
        op.require("audit.read")
        size, before = check_limit(limit), decode_token(page, size=1)[0] if page else None
        with self._db.read() as tx:
            found = audit_store.checkpoints(tx, before=before, limit=size)
        return Page(found, encode_token(found[-1].size) if len(found) == size else None)

    def proof(self, op: Op, seq: int) -> InclusionProof:
        """That fact `seq` is in the signed log. Raises NotFound (no such fact, or not sealed yet)."""
        op.require("audit.read")
        with self._db.read() as tx:
            rows = audit_store.raw_events(tx, seq - 1, upto=seq, limit=1)
            latest = audit_store.checkpoints(tx, limit=1)
            if not rows or not latest or latest[0].size < seq:
                raise NotFound(f"Fact {seq} is not in a checkpoint (yet).", hint="Sealing takes a second.")
            path = self._hashes(tx, inclusion_ranges(seq - 1, latest[0].size))
        self._note_read(op, what="proof")
        leaf = leaf_bytes(rows[0])
        return InclusionProof(
            seq=seq, index=seq - 1, size=latest[0].size, leaf=leaf.decode(), leaf_hash=verify.leaf_hash(leaf).hex(),
            path=[p.hex() for p in path], root=latest[0].root, checkpoint=latest[0].note,
        )  # fmt: skip

    def consistency(self, op: Op, first: int, second: int) -> ConsistencyProof:
        """That the log at `second` only added to the log at `first`. Raises Invalid, NotFound."""
        op.require("audit.read")
        if not 0 < first <= second:
            raise Invalid("first must be at least 1 and at most second.", where="first")
        with self._db.read() as tx:
            if second > audit_store.tree_size(tx):
                raise NotFound(f"Only {audit_store.tree_size(tx)} facts are sealed.")
            path = self._hashes(tx, consistency_ranges(first, second))
            roots = [self._tree(tx, size).root().hex() for size in (first, second)]
        return ConsistencyProof(
            first=first, second=second, path=[p.hex() for p in path], first_root=roots[0], second_root=roots[1]
        )

    @staticmethod
    def _hashes(tx: Read, ranges: list[tuple[int, int]]) -> list[bytes]:
        """The hash of each subtree, with one read."""
        parts = [perfect_parts(first, last) for first, last in ranges]
        found = audit_store.nodes(tx, [p for part in parts for p in part])
        return [combine([found[p] for p in part]) for part in parts]

    # --- exporting --------------------------------------------------------------------------------------------------

    def begin_export(self, op: Op) -> Checkpoint:
        """Seal, note who takes a copy, and give the checkpoint the copy is for. Raises NotFound when there is no fact."""
        op.require("audit.export")
        self.seal()
        with self._db.read() as tx:
            latest = audit_store.checkpoints(tx, limit=1)
        if not latest:
            raise NotFound("There is nothing to export yet.")
        with self._db.write(op) as write:
            write.emit("audit.exported", Ref("audit", "log"), size=latest[0].size)
        return latest[0]

    def export_lines(self, op: Op, size: int) -> Iterator[bytes]:
        """The leaves of the first `size` facts, one a line."""
        op.require("audit.export")
        self._note_read(op, what="export")
        return (leaf + b"\n" for leaf in leaves.leaves(self._db, size))

    def export_ocsf(self, op: Op, size: int) -> Iterator[bytes]:
        """The first `size` facts as OCSF events, one a line."""
        op.require("audit.export")
        self._note_read(op, what="export")
        return (msgspec.json.encode(siem.to_ocsf(row)) + b"\n" for row in leaves.rows_shown(self._db, size))

    def export_cloudevents(self, op: Op, size: int) -> Iterator[bytes]:
        """The first `size` facts as CloudEvents, one a line."""
        op.require("audit.export")
        self._note_read(op, what="export")
        origin = load_public(self._home).partition("+")[0] or "noria"
        return (msgspec.json.encode(siem.to_cloudevent(row, origin)) + b"\n" for row in leaves.rows_shown(self._db, size))

    def export_personal(self, op: Op, size: int) -> Iterator[bytes]:
        """The personal values beside the first `size` facts that were not erased, one a line."""
        op.require("audit.export")
        self._note_read(op, what="export")
        return (msgspec.json.encode(row) + b"\n" for row in leaves.personal(self._db, size))

    def export_hashes(self, op: Op, size: int) -> Iterator[bytes]:
        """The sealed leaf hashes of the first `size` facts, one a line."""
        op.require("audit.export")
        self._note_read(op, what="export")
        return (b"".join(h.hex().encode() + b"\n" for h in batch) for batch in leaves.sealed_hashes(self._db, size))

    def export_checkpoints(self, op: Op, size: int) -> Iterator[bytes]:
        """Checkpoints up to `size`, one `{"note": …}` a line, newest first: the latest ten thousand, and those at each change of the key.

        Without the latter, whoever holds an old key only could not come to trust the present one.
        """
        op.require("audit.export")
        self._note_read(op, what="export")
        with self._db.read() as tx:
            found = {c.size: c for c in audit_store.checkpoints(tx, before=size + 1, limit=CHECKPOINTS_COMPARED)}
            for seq in audit_store.rotations(tx, upto=size):
                found |= {c.size: c for c in audit_store.checkpoints_from(tx, seq, limit=HANDOVERS) if c.size <= size}
        notes = [found[at].note for at in sorted(found, reverse=True)]
        return (json.dumps({"note": note}, ensure_ascii=False).encode() + b"\n" for note in notes)

    def public_key(self, op: Op) -> str:
        op.require("audit.read")
        return load_public(self._home)

    # --- verifying --------------------------------------------------------------------------------------------------

    def verify(self, op: Op) -> AuditReport:
        """Compare every fact with what was sealed and signed, and with the anchors among the blobs; name the first bad one.

        Reads the whole log: 25 µs of CPU per fact, so half a minute per million.
        """
        op.require("audit.read")
        found = verify_database(self._db, self._blobs, load_public(self._home), self._anchors)
        self._note_read(op, what="verification")
        return found


def _kinds(text: str) -> tuple[list[str], list[str]]:
    """`a.b,c.*` as kinds and prefixes. Raises Invalid for one that does not exist."""
    exact, prefixes = [], []
    for part in (p.strip() for p in text.split(",")):
        if not part:
            continue
        if _PREFIX.match(part) and any(kind.startswith(part[:-1]) for kind in FACTS):
            prefixes.append(part[:-1])
        elif part in FACTS:
            exact.append(part)
        else:
            raise Invalid(
                f"There is no event kind {part!r}.", where="kinds", hint="For instance model_version.promoted, or approval.*"
            )
    return exact, prefixes
