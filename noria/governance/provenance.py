"""Signed provenance of model versions: made once, soon after the registration, and never changed.

A DSSE envelope over the statement of `statements.py`, signed with the Ed25519 key `keys/models.key` of the home. Anyone with the
public half verifies it without Noria (`verify_model.py`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import threading
from pathlib import Path
from typing import Any

from msgspec import Struct

from noria.governance.keys import MODEL_KEY, Signer, load_public, load_signer
from noria.governance.statements import statement
from noria.governance.verify_model import PAYLOAD_TYPE, pae
from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database, Read
from noria.kernel.errors import NoriaError, NotFound
from noria.kernel.facts import Fact, fact
from noria.kernel.ids import Ref
from noria.kernel.op import Op, Ops
from noria.registry.service import Registry

log = logging.getLogger("noria.provenance")

MADE_PER_TURN = 20


class Provenance(Struct, frozen=True, kw_only=True):
    """The signed provenance of a version: a DSSE envelope, and the public key that it is signed with."""

    envelope: dict[str, Any]
    public_key: str


@fact("model_version.attested")
class ModelVersionAttested(Fact):
    """Where a version comes from was signed; `sha256` is that of the statement."""

    model: str
    number: int
    digest: str
    sha256: str


class Provenances:
    """Signed provenance. Also the reconciler that makes it."""

    name = "governance.provenance"
    every_s = 15.0
    wake_on = frozenset({"model_version.created", "model_version.imported"})

    def __init__(self, db: Database, ops: Ops, blobs: BlobStore, registry: Registry, home: Path) -> None:
        self._db, self._ops, self._blobs, self._registry, self._home = db, ops, blobs, registry, home
        self._signer: Signer | None = None
        self._lock = threading.Lock()

    def provenance(self, op: Op, version: str) -> Provenance:
        """The signed provenance of a version. Raises NotFound, also while it is being made; Forbidden."""
        found = self._registry.version(op, version)
        with self._db.read() as tx:
            text = tx.scalar("select envelope from attestation where version_id = :id", id=found.id)
        if text is None:
            raise NotFound(
                f"The provenance of {found.label} is not signed yet.", ref=found.ref, hint="Try again in a moment."
            )
        return Provenance(envelope=json.loads(str(text)), public_key=load_public(self._home, MODEL_KEY))

    def reconcile(self) -> None:
        """Sign what is not signed yet."""
        with self._db.read() as tx:
            waiting = tx.column(
                """select v.id from model_version v left join attestation a on a.version_id = v.id
                    where a.version_id is null order by v.id limit :limit""",
                limit=MADE_PER_TURN,
            )
        for version_id in waiting:
            try:
                self._sign(str(version_id))
            except NotFound:
                continue  # deleted since
            except NoriaError as error:
                log.error("the provenance of model_version:%s is not signed: %s %s", version_id, error.message, error.hint)

    def _sign(self, version_id: str) -> None:
        op = self._ops.system("provenance")
        version = self._registry.version(op, f"model_version:{version_id}")
        passport = self._registry.passport_of_version(op, version)
        sha256 = {f.path: self._sha256(f.digest) for f in self._registry.files(op, version)}
        with self._db.read() as tx:
            made = statement(passport, sha256, pipeline=_pipeline_of(tx, version.run_id))
        payload = json.dumps(made, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        with self._lock:
            signer = self._signer = self._signer or load_signer(self._home, create=not self._has_signed(), file=MODEL_KEY)
        envelope = {
            "payloadType": PAYLOAD_TYPE,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [
                {"keyid": str(signer.key), "sig": base64.b64encode(signer.sign(pae(PAYLOAD_TYPE, payload))).decode()}
            ],
        }
        with self._db.write(op) as tx:
            added = tx.run(
                """insert into attestation (version_id, envelope, at_ms) values (:id, :envelope, :at_ms)
                   on conflict (version_id) do nothing""",
                id=version.id, envelope=json.dumps(envelope), at_ms=op.at_ms,
            )  # fmt: skip
            if added:
                tx.emit(
                    "model_version.attested", version.ref, model=version.model, number=version.number,
                    digest=version.digest, sha256=hashlib.sha256(payload).hexdigest(),
                )  # fmt: skip

    def _has_signed(self) -> bool:
        with self._db.read() as tx:
            return bool(tx.scalar("select 1 from attestation limit 1"))

    def _sha256(self, digest: str) -> str:
        hasher = hashlib.sha256()
        for chunk in self._blobs.open(digest):
            hasher.update(chunk)
        return hasher.hexdigest()


def _pipeline_of(tx: Read, run_id: str) -> str | None:
    """The run of a pipeline that made a run, from the edge that pipelines left; None when there is none."""
    if not run_id:
        return None
    found = tx.column("select dst from edge where src = :run and kind = 'made_by' limit 1", run=str(Ref("run", run_id)))
    return str(found[0]) if found else None
