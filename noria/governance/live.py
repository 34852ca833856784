"""Verification of the live log: facts, sealed tree, signed checkpoints and anchors, compared with each other. Changes nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from noria.governance import audit_store, leaves, verify
from noria.governance.anchors import Anchor
from noria.governance.audit_model import AuditFault, AuditReport, Checkpoint
from noria.governance.verify import Note, Tree
from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database

log = logging.getLogger("noria.audit")

ANCHOR_PREFIX = "audit/checkpoints"
ANCHORS_COMPARED = 1_000
CHECKPOINTS_COMPARED = 10_000


def verify_database(
    db: Database, blobs: BlobStore, public_key: str, anchors: Sequence[Anchor] = ()
) -> AuditReport:  # fmt: skip
    """Verify the facts in `db` against its sealed tree, its checkpoints and the anchors in `blobs`. Changes nothing."""
    started_s = db.clock.monotonic_s()
    with db.read() as tx:
        checkpoints = audit_store.checkpoints(tx, limit=CHECKPOINTS_COMPARED)
        count, last = audit_store.facts_count(tx)
        sealed = audit_store.tree_size(tx)
    notes, faults = _notes(checkpoints, blobs, anchors)
    warnings: list[AuditFault] = []
    root = ""
    if count != last:
        faults.append(
            AuditFault(kind="numbering", seq=None, message=f"There are {count} facts, but the last is number {last}.")
        )
    if notes and not public_key:
        faults.append(AuditFault(kind="signature", seq=None, message="The public key of this home is missing."))
    elif notes:
        newest = max(notes, key=lambda n: n.size)
        hashes = [h for batch in leaves.sealed_hashes(db, newest.size) for h in batch]
        result = verify.verify_log(
            leaves.leaves(db, newest.size),
            newest,
            verify.parse_keys(public_key),
            hashes=hashes,
            checkpoints=notes,
            personal=(
                (int(r["seq"]), str(r["field"]), str(r["salt"]), str(r["value"])) for r in leaves.personal(db, newest.size)
            ),
        )
        root = result.root
        if result.is_intact and _root(hashes) != newest.root:
            faults.append(AuditFault(kind="hashes", seq=None, message="The facts are intact, but the stored tree is not."))
        faults += [_fault(f) for f in result.faults]
        warnings += [_fault(w) for w in result.warnings]
        faults += _old_faults(notes, hashes, newest) if result.is_intact else []
    elif sealed:
        faults.append(AuditFault(kind="signature", seq=None, message="Facts were sealed, but every checkpoint is gone."))
    return AuditReport(
        is_intact=not faults, facts=count, sealed=sealed, unsealed=max(0, last - sealed), root=root, faults=faults,
        warnings=warnings, took_ms=int((db.clock.monotonic_s() - started_s) * 1000),
    )  # fmt: skip


def _notes(
    checkpoints: list[Checkpoint], blobs: BlobStore, anchors: Sequence[Anchor]
) -> tuple[list[Note], list[AuditFault]]:  # fmt: skip
    """The checkpoints of the table, those among the blobs and in anchors elsewhere, and what is wrong with them."""
    notes: dict[int, Note] = {}
    faults: list[AuditFault] = []
    texts = [(f"checkpoint {c.size}", c.note) for c in checkpoints]
    for key in list(blobs.keys(ANCHOR_PREFIX))[-ANCHORS_COMPARED:]:
        texts.append((f"anchor {key.rsplit('/', 1)[-1].lstrip('0')}", blobs.get_at(key).decode("utf-8", "replace")))
    for name, text in texts:
        try:
            note = verify.parse_note(text)
        except verify.Unreadable:
            faults.append(AuditFault(kind="signature", seq=None, message=f"The {name} cannot be read."))
            continue
        if (other := notes.setdefault(note.size, note)).root != note.root:
            message = f"The {name} gives another root for {note.size} facts than the one beside it."
            faults.append(AuditFault(kind="signature", seq=None, message=message))
            log.error("two checkpoints for %d facts: %s and %s", note.size, other.root.hex(), note.root.hex())
    for anchor in anchors:
        try:
            said = anchor.notes()
        except (OSError, verify.Unreadable) as error:
            faults.append(
                AuditFault(kind="signature", seq=None, message=f"The anchor {anchor.name} cannot be read: {error}.")
            )
            continue
        for note in said:
            if notes.setdefault(note.size, note).root != note.root:
                message = f"The anchor {anchor.name} has another root for {note.size} facts: there were two histories."
                faults.append(AuditFault(kind="checkpoint", seq=None, message=message))
                break
    return list(notes.values()), faults


def _old_faults(notes: list[Note], hashes: list[bytes], newest: Note) -> list[AuditFault]:
    """Older checkpoints that the log, though intact as it stands, does not continue: there were two histories."""
    wanted, tree = {n.size: n for n in notes if n is not newest}, Tree()
    for leaf in hashes:
        tree.append(leaf)
        note = wanted.get(tree.size)
        if note is not None and note.root != tree.root():
            return [
                AuditFault(
                    kind="checkpoint", seq=None, message=f"The checkpoint at {note.size} facts was of another history."
                )
            ]
    return []


def _root(hashes: list[bytes]) -> bytes:
    tree = Tree()
    for leaf in hashes:
        tree.append(leaf)
    return tree.root()


def _fault(found: verify.Fault) -> AuditFault:
    return AuditFault(kind=found.kind, seq=None if found.at is None else found.at + 1, message=found.message)
