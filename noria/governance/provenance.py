"""Signed statements about model versions: made once, soon after the registration, and never changed.

Two of them, over the same files. Where the version comes from: a DSSE envelope over the statement of `statements.py`, signed with the
Ed25519 key `keys/models.key` of the home; anyone with the public half verifies it without Noria (`verify_model.py`). And the files
alone, as OpenSSF's model signing has it (`signatures.py`), signed with the P-256 key `keys/signatures.key`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import threading
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from noria.governance import signatures
from noria.governance.digests import Sha256s
from noria.governance.keys import MODEL_KEY, SIGNATURE_KEY, Signer, load_ec_signer, load_public, load_signer
from noria.governance.statements import conversion_statement, statement
from noria.governance.verify_model import PAYLOAD_TYPE, pae
from noria.kernel.db import Database, Read
from noria.kernel.errors import NoriaError, NotFound
from noria.kernel.facts import Fact, fact
from noria.kernel.ids import Ref
from noria.kernel.op import Op, Ops
from noria.registry.model import ModelVersion
from noria.registry.service import Registry
from noria.serving.model import ModelFileInfo

log = logging.getLogger("noria.provenance")

MADE_PER_TURN = 20


class Provenance(Struct, frozen=True, kw_only=True):
    """The signed provenance of a version: a DSSE envelope, and the public keys that this home signs with, newest first."""

    envelope: dict[str, Any]
    public_key: str
    conversion: dict[str, Any] | None = None  # the same for what the version was made into for serving


class ModelSignature(Struct, frozen=True, kw_only=True):
    """The signed files of a version: a sigstore bundle as OpenSSF's model signing makes it, and the public keys as PEM."""

    bundle: dict[str, Any]
    public_key: str


@fact("model_version.attested")
class ModelVersionAttested(Fact):
    """Where a version comes from was signed; `sha256` is that of the statement."""

    model: str
    number: int
    digest: str
    sha256: str


@fact("model_version.signed")
class ModelVersionSigned(Fact):
    """The files of a version were signed; `sha256` is the digest over theirs, `key` the SHA-256 of the public key."""

    model: str
    number: int
    digest: str
    sha256: str
    key: str


class Provenances:
    """Signed statements. Also the reconciler that makes them."""

    name = "governance.provenance"
    every_s = 15.0
    wake_on = frozenset({"model_version.created", "model_version.imported", "model_version.converted"})

    def __init__(self, db: Database, ops: Ops, sha256s: Sha256s, registry: Registry, home: Path) -> None:
        self._db, self._ops, self._sha256s, self._registry, self._home = db, ops, sha256s, registry, home
        self._lock = threading.Lock()

    def provenance(self, op: Op, version: str) -> Provenance:
        """The signed provenance of a version. Raises NotFound, also while it is being made; Forbidden."""
        text = self._kept(op, version, "envelope", "provenance")
        with self._db.read() as tx:
            made = tx.scalar(
                "select envelope from conversion where digest = :digest", digest=self._registry.version(op, version).digest
            )
        return Provenance(
            envelope=json.loads(text), public_key=load_public(self._home, MODEL_KEY),
            conversion=json.loads(str(made)) if made else None,
        )  # fmt: skip

    def signature(self, op: Op, version: str) -> ModelSignature:
        """The signed files of a version. Raises NotFound, also while it is being made; Forbidden."""
        text = self._kept(op, version, "bundle", "files")
        return ModelSignature(bundle=json.loads(text), public_key=load_public(self._home, SIGNATURE_KEY))

    def _kept(self, op: Op, version: str, column: str, what: str) -> str:
        found = self._registry.version(op, version)
        with self._db.read() as tx:
            rows = tx.rows("select envelope, bundle from attestation where version_id = :id", id=found.id)
        if not rows or rows[0][column] is None:
            verb = "is" if what == "provenance" else "are"
            raise NotFound(
                f"The {what} of {found.label} {verb} not signed yet.", ref=found.ref, hint="Try again in a moment."
            )
        return str(rows[0][column])

    def reconcile(self) -> None:
        """Sign what is not signed yet."""
        with self._db.read() as tx:
            waiting = tx.rows(
                """select v.id, a.envelope is not null as has_envelope
                     from model_version v left join attestation a on a.version_id = v.id
                    where a.bundle is null order by v.id limit :limit""",
                limit=MADE_PER_TURN,
            )
        for row in waiting:
            try:
                self._sign(str(row["id"]), has_envelope=bool(row["has_envelope"]))
            except NotFound:
                continue  # deleted since
            except NoriaError as error:
                log.error("the provenance of model_version:%s is not signed: %s %s", row["id"], error.message, error.hint)

        self._sign_conversions()

    def _sign_conversions(self) -> None:
        """The same for what models were made into."""
        with self._db.read() as tx:
            waiting = tx.rows(
                """select digest, made_digest, files, words, at_ms from conversion where envelope = ''
                    order by at_ms, digest limit :limit""",
                limit=MADE_PER_TURN,
            )
        for row in waiting:
            blake3 = {f.path: f.digest for f in msgspec.json.decode(row["files"], type=list[ModelFileInfo])}
            try:
                envelope = self._enveloped(conversion_statement(row, blake3, self._sha256s.of_blobs(blake3)))
            except NoriaError as error:
                log.error("what %s was made into is not signed: %s %s", row["digest"][:12], error.message, error.hint)
                continue
            with self._db.write(self._ops.system("provenance")) as tx:
                tx.run(
                    "update conversion set envelope = :envelope where digest = :digest and envelope = ''",
                    envelope=json.dumps(envelope), digest=row["digest"],
                )  # fmt: skip

    def _enveloped(self, made: dict[str, Any]) -> dict[str, Any]:
        """A statement in its envelope, signed."""
        payload = json.dumps(made, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        with self._lock:
            signer: Signer = load_signer(self._home, create=not self._has_signed("envelope"), file=MODEL_KEY)
        return {
            "payloadType": PAYLOAD_TYPE,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [
                {"keyid": str(signer.key), "sig": base64.b64encode(signer.sign(pae(PAYLOAD_TYPE, payload))).decode()}
            ],
        }

    def _sign(self, version_id: str, *, has_envelope: bool) -> None:
        op = self._ops.system("provenance")
        version = self._registry.version(op, f"model_version:{version_id}")
        passport = self._registry.passport_of_version(op, version)
        sha256 = self._sha256s.of_blobs({f.path: f.digest for f in self._registry.files(op, version)})
        if not has_envelope:
            with self._db.read() as tx:
                made = statement(passport, sha256, pipeline=_pipeline_of(tx, version.run_id))
            self._keep_envelope(op, version, made)
        with self._lock:
            signer = load_ec_signer(self._home, create=not self._has_signed("bundle"))
        files = signatures.statement(f"{version.model}-{version.number}", sha256)
        with self._db.write(op) as tx:
            changed = tx.run(
                "update attestation set bundle = :bundle where version_id = :id and bundle is null",
                id=version.id, bundle=json.dumps(signatures.bundle(files, signer)),
            )  # fmt: skip
            if changed:
                tx.emit(
                    "model_version.signed", version.ref, model=version.model, number=version.number, digest=version.digest,
                    sha256=files["subject"][0]["digest"]["sha256"], key=signer.hint,
                )  # fmt: skip

    def _keep_envelope(self, op: Op, version: ModelVersion, made: dict[str, Any]) -> None:
        envelope = self._enveloped(made)
        payload = base64.b64decode(envelope["payload"])
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

    def _has_signed(self, column: str) -> bool:
        with self._db.read() as tx:
            return bool(tx.rows(f"select 1 from attestation where {column} is not null limit 1")) or (
                column == "envelope" and bool(tx.rows("select 1 from conversion where envelope <> '' limit 1"))
            )


def _pipeline_of(tx: Read, run_id: str) -> str | None:
    """The run of a pipeline that made a run, from the edge that pipelines left; None when there is none."""
    if not run_id:
        return None
    found = tx.column("select dst from edge where src = :run and kind = 'made_by' limit 1", run=str(Ref("run", run_id)))
    return str(found[0]) if found else None
